"""Topic names and filters, and what a message on a topic says: docs/contract.md, section 4.

The border: what `decode` returns is typed; what is not as the contract says is `Refused` with a short reason.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from portwatch.errors import Refused
from portwatch.model import HostName, IpNetwork, NetworkId, PortId
from portwatch.wire.decoding import News, decode_details, decode_host, decode_manifest, decode_port
from portwatch.wire.messages import PAYLOAD_MAX

_UNKNOWN_NETWORK: Final = "_"


class Topics:
    """The names under one prefix."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def port(self, network_id: NetworkId | None, host: HostName, port_id: PortId) -> str:
        return f"{self.prefix}/ports/{network_id or _UNKNOWN_NETWORK}/{host}/{port_id}"

    def manifest(self, network_id: NetworkId, host: HostName) -> str:
        return f"{self.prefix}/manifests/{network_id}/{host}"

    def host(self, host: HostName) -> str:
        return f"{self.prefix}/hosts/{host}"

    @property
    def hosts(self) -> str:
        """The filter of all hosts' statuses."""
        return f"{self.prefix}/hosts/+"

    def directory(self, port_id: PortId) -> str:
        return f"{self.prefix}/directory/{port_id}"

    def described(self, topic: str) -> PortId | None:
        """Return the port whose details this topic holds; None when it is no such topic."""
        head = f"{self.prefix}/directory/"
        try:
            return PortId(topic.removeprefix(head)) if topic.startswith(head) else None
        except ValueError:
            return None

    def of_network(self, network_id: NetworkId) -> tuple[str, ...]:
        """Return the filters of all that is said about a network."""
        return (f"{self.prefix}/ports/{network_id}/+/+", f"{self.prefix}/manifests/{network_id}/+")

    def of_share(self, network_id: NetworkId, host: HostName) -> tuple[str, ...]:
        """Return the filters of all that one host says about a network."""
        return (f"{self.prefix}/ports/{network_id}/{host}/+", self.manifest(network_id, host))

    def of_ourselves(self, host: HostName) -> tuple[str, ...]:
        """Return the filters of all that stands on the bus under our own name."""
        return (f"{self.prefix}/ports/+/{host}/+", f"{self.prefix}/manifests/+/{host}", self.host(host))

    def is_of_host(self, topic_filter: str, host: HostName) -> bool:
        """Does a filter ask for what stands under this host's name, and for nothing else?"""
        kind, *levels = topic_filter.removeprefix(f"{self.prefix}/").split("/")
        return {"ports": levels[1:2], "manifests": levels[1:2], "hosts": levels[:1]}.get(kind) == [host]

    def of_everything(self, network: str = "+", host: str = "+") -> tuple[str, ...]:
        """Return the filter of all port events, or those of one network or host."""
        return (f"{self.prefix}/ports/{network}/{host}/+",)

    def decode(self, topic: str, payload: bytes, allowed_peers: Iterable[IpNetwork] = ()) -> News:
        """Return what a message says.

        `Refused` with the reason `foreign-topic`, `too-large`, `not-json`, `wrong-shape`, `wrong-value`,
        `endpoint-not-allowed` or `topic-mismatch`.
        """
        if len(payload) > PAYLOAD_MAX:
            raise Refused("too-large", f"{len(payload)} bytes, at most {PAYLOAD_MAX}")
        if not topic.startswith(self.prefix + "/"):
            raise Refused("foreign-topic", "not under our prefix")
        levels = topic[len(self.prefix) + 1 :].split("/")
        try:
            match levels:
                case ["ports", network, host, port]:
                    return decode_port(_network(network), HostName(host), PortId(port), payload, allowed_peers)
                case ["manifests", network, host]:
                    return decode_manifest(NetworkId(network), HostName(host), payload)
                case ["hosts", host]:
                    return decode_host(HostName(host), payload, allowed_peers)
                case ["directory", port]:
                    return decode_details(PortId(port), payload)
        except msgspec.ValidationError as error:
            raise Refused("wrong-shape", str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refused("not-json", str(error)) from None
        except ValueError as error:
            raise Refused("wrong-value", str(error)) from None
        raise Refused("foreign-topic", "no topic of ours has this form")


def _network(level: str) -> NetworkId | None:
    return None if level == _UNKNOWN_NETWORK else NetworkId(level)
