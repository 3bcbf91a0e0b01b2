"""Ports as an orchestrator knows them, and the keys that it and libvirt write for them into OVSDB.

The keys are those of docs/contract.md, section 3. Nothing here checks them: a test may want wrong ones.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_interface

Keys = Mapping[str, str | None]  # None: this key is left out, or taken away


@dataclass(frozen=True)
class Network:
    """A tenant's network."""

    id: str
    segmentation_id: int
    type: str = "vxlan"


@dataclass(frozen=True)
class Port:
    """One port, the same wherever it is plugged. Addresses are written with their prefix: `10.0.0.5/24`."""

    id: str
    mac: str
    network: Network | None = None
    addresses: tuple[str, ...] = ()
    device_owner: str | None = "compute:nova"

    @property
    def device(self) -> str:
        """The name of its device on a hypervisor, cut to size as libvirt's users do."""
        return f"tap{self.id[:11]}"

    @property
    def fixed_ips(self) -> tuple[str, ...]:
        return tuple(str(ip_interface(address).ip) for address in self.addresses)

    def keys(self, changes: Keys | None = None) -> dict[str, str]:
        """Return `external_ids` as written at plug, with *changes* on top."""
        written: dict[str, str | None] = {
            "iface-id": self.id,
            "attached-mac": self.mac,
            "iface-status": "active",
            "network-id": self.network.id if self.network else None,
            "network-type": self.network.type if self.network else None,
            "segmentation-id": str(self.network.segmentation_id) if self.network else None,
            "fixed-ips": ",".join(self.fixed_ips) or None,
            "device-owner": self.device_owner,
        }
        written |= changes or {}
        return {key: value for key, value in written.items() if value is not None}


def key_arguments(keys: Mapping[str, str]) -> list[str]:
    """Return keys as `ovs-vsctl set` wants them; quoted, for a bare comma or colon would end the value."""
    return [f"external_ids:{json.dumps(key)}={json.dumps(value)}" for key, value in keys.items()]
