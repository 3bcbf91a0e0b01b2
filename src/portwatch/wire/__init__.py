"""Events to JSON bytes and back, topic names: the published contract (docs/contract.md, section 4).

Unknown fields are ignored, so that a newer peer may say more.
"""

from portwatch.wire.decoding import (
    DirectoryEntry,
    DirectoryGone,
    DirectoryNews,
    DirectoryRefused,
    HostGone,
    ManifestGone,
    News,
)
from portwatch.wire.encoding import encode_details, encode_event, encode_host, encode_manifest
from portwatch.wire.messages import (
    JSON_CONTENT_TYPE,
    MANIFEST_EXPIRY,
    PAYLOAD_MAX,
    PORT_EVENT_CONTENT_TYPE,
    REASONS,
    DetailsMessage,
    HostMessage,
    ManifestMessage,
    PortData,
    PortMessage,
)
from portwatch.wire.topics import Topics

__all__ = [
    "JSON_CONTENT_TYPE",
    "MANIFEST_EXPIRY",
    "PAYLOAD_MAX",
    "PORT_EVENT_CONTENT_TYPE",
    "REASONS",
    "DetailsMessage",
    "DirectoryEntry",
    "DirectoryGone",
    "DirectoryNews",
    "DirectoryRefused",
    "HostGone",
    "HostMessage",
    "ManifestGone",
    "ManifestMessage",
    "News",
    "PortData",
    "PortMessage",
    "Topics",
    "encode_details",
    "encode_event",
    "encode_host",
    "encode_manifest",
]
