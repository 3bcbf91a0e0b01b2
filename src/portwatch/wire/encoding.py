"""Events, manifests, host statuses and details to JSON bytes."""

from datetime import UTC
from typing import Final

import msgspec
from msgspec import UNSET

from portwatch.events import HostStatus, Manifest, PortEvent
from portwatch.model import PortDetails
from portwatch.wire.messages import DetailsMessage, HostMessage, ManifestMessage, PortData, PortMessage


def _plain(value: object) -> str | int:
    """Give msgspec the plain number or text of one of the model's own."""
    return int(value) if isinstance(value, int) else str(value)


_ENCODER: Final = msgspec.json.Encoder(enc_hook=_plain)


def encode_event(event: PortEvent) -> bytes:
    """Return *event* as the JSON of a CloudEvent."""
    claim, port = event.claim, event.claim.port
    assert event.time is not None, "an event is stamped before it is published"
    data = PortData(
        port_id=port.port_id,
        host=claim.host,
        session=claim.session,
        seq=claim.seq,
        revision=claim.revision,
        state=port.state,
        status=claim.status,
        network_id=port.network_id,
        network_type=port.network_type,
        segmentation_id=port.segmentation_id,
        mac=port.mac,
        fixed_ips=tuple(map(str, port.fixed_ips)),
        allowed_address_pairs=tuple(map(str, port.allowed_address_pairs)),
        device_owner=port.device_owner,
        kind=port.kind,
        tunnel_ip=str(claim.tunnel_ip) if claim.tunnel_ip else None,
        reason=UNSET if claim.reason is None else claim.reason,
    )
    return _ENCODER.encode(
        PortMessage(
            specversion="1.0",
            id=f"{claim.host}/{claim.session}/{event.number}",
            source=f"/portwatch/hosts/{claim.host}",
            type=event.type,  # type: ignore[arg-type]  # the class says which
            subject=port.port_id,
            time=event.time.astimezone(UTC),
            data=data,
        )
    )


def encode_manifest(manifest: Manifest) -> bytes:
    """Return *manifest* as JSON."""
    return _ENCODER.encode(ManifestMessage(manifest.host, manifest.session, manifest.count, manifest.digest))


def encode_host(status: HostStatus) -> bytes:
    """Return *status* as JSON."""
    return _ENCODER.encode(
        HostMessage(
            host=status.host,
            session=status.session,
            state=status.state,  # type: ignore[arg-type]  # one of HOST_STATES
            tunnel_ip=str(status.tunnel_ip) if status.tunnel_ip else None,
            tunnel_type=status.tunnel_type,
            version=status.version,
            started_at=status.started_at,
            tunnel_since=status.tunnel_since,
        )
    )


def encode_details(details: PortDetails) -> bytes:
    """Return *details* as JSON; what is not set is left out."""
    return _ENCODER.encode(
        DetailsMessage(
            network_id=details.network_id,
            network_type=details.network_type,
            segmentation_id=details.segmentation_id,
            mac=details.mac,
            fixed_ips=tuple(map(str, details.fixed_ips)),
            allowed_address_pairs=tuple(map(str, details.allowed_address_pairs)),
            device_owner=details.device_owner,
            kind=details.kind,
            admin_state="up" if details.admin_up else "down",
        )
    )
