"""What this agent says, as publications on its own topics (docs/contract.md, section 4)."""

from dataclasses import dataclass
from datetime import datetime

from portwatch import __version__, wire
from portwatch.bus.connection import Publication
from portwatch.events import HostStatus, Manifest, PortEvent, PortRemoved
from portwatch.fabric.announcer import Identity
from portwatch.model import NetworkType


@dataclass(frozen=True, slots=True)
class Speech:
    """One process's. *started_at* is told with every status of the host."""

    topics: wire.Topics
    identity: Identity
    tunnel_type: NetworkType
    started_at: datetime

    def event(self, event: PortEvent) -> tuple[Publication, ...]:
        """Return a port's event, retained; a removal as an event that is not, and the end of what was retained."""
        port = event.claim.port
        topic = self.topics.port(port.network_id, event.claim.host, port.port_id)
        said = Publication(topic, wire.encode_event(event), True, wire.PORT_EVENT_CONTENT_TYPE)
        if not isinstance(event, PortRemoved):
            return (said,)
        end = Publication(topic, said.payload, False, wire.PORT_EVENT_CONTENT_TYPE)
        return end, Publication(topic, b"", True)

    def manifest(self, manifest: Manifest) -> Publication:
        """Return our manifest of a network; that of one where we have nothing any more goes by itself in the end."""
        topic = self.topics.manifest(manifest.network_id, self.identity.host)
        expiry = None if manifest.count else wire.MANIFEST_EXPIRY
        return Publication(topic, wire.encode_manifest(manifest), True, wire.JSON_CONTENT_TYPE, expiry)

    def host(self, state: str, tunnel_since: datetime) -> Publication:
        """Return the host's status: *state* is one of `events`, *tunnel_since* when it got its tunnel address."""
        identity = self.identity
        status = HostStatus(
            host=identity.host,
            session=identity.session,
            state=state,
            tunnel_ip=identity.endpoint,
            tunnel_type=self.tunnel_type,
            version=__version__,
            started_at=self.started_at,
            tunnel_since=tunnel_since if identity.endpoint else None,
        )
        return Publication(self.topics.host(identity.host), wire.encode_host(status), True, wire.JSON_CONTENT_TYPE)
