"""The published contract for programs: JSON Schema of every payload, and AsyncAPI 3 of the topics. Made of `wire`.

AsyncAPI's own schema dialect is JSON Schema draft 7 and more; nothing here means something else in 2020-12.
"""

from typing import Any, Final

import msgspec

from portwatch import wire

PAYLOADS: Final[dict[str, type[Any]]] = {
    "port-event": wire.PortMessage,
    "manifest": wire.ManifestMessage,
    "host": wire.HostMessage,
    "directory": wire.DetailsMessage,
}
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_PARAMETERS: Final = {
    "network_id": "The network's id; `_` while a port's network is not known.",
    "host": "The hypervisor's name on the bus.",
    "port_id": "The logical port's id: `iface-id`.",
}
_CHANNELS: Final = {
    "ports": ("ports/{network_id}/{host}/{port_id}", "port-event", "A port on a host: its whole state, retained."),
    "manifests": ("manifests/{network_id}/{host}", "manifest", "Which ports make up a host's share of a network."),
    "hosts": ("hosts/{host}", "host", "How a host is; also its last will."),
    "directory": ("directory/{port_id}", "directory", "A port's details, written by an orchestrator."),
}


def payload(name: str) -> dict[str, Any]:
    """Return the JSON Schema of one payload, complete in itself."""
    (schema,), definitions = msgspec.json.schema_components([PAYLOADS[name]], ref_template="#/$defs/{name}")
    return {"$schema": DIALECT, **schema, "$defs": definitions}


def asyncapi(prefix: str) -> dict[str, Any]:
    """Return the AsyncAPI 3 document of the topics under *prefix*."""
    kinds = list(PAYLOADS.values())
    _, schemas = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "portwatch",
            "version": "1",
            "description": "Port events of Open vSwitch hypervisors. Everything is QoS 1 and retained; an empty"
            " retained message ends what its topic said. A port event carries the port's whole state:"
            " whoever missed some is right again after the next. docs/contract.md, section 4, tells the rest.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": wire.JSON_CONTENT_TYPE,
        "servers": {"broker": {"host": "broker.example:1883", "protocol": "mqtt", "protocolVersion": "5"}},
        "channels": {name: _channel(prefix, *parts) for name, parts in _CHANNELS.items()},
        "operations": dict(_operations()),
        "components": {
            "messages": {name: _message(name, kind) for name, kind in PAYLOADS.items()},
            "schemas": schemas,
        },
    }


def _channel(prefix: str, address: str, message: str, description: str) -> dict[str, Any]:
    return {
        "address": f"{prefix}/{address}",
        "description": description,
        "parameters": {name: {"description": words} for name, words in _PARAMETERS.items() if f"{{{name}}}" in address},
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
    }


def _operations() -> "list[tuple[str, dict[str, Any]]]":
    """What portwatch itself does; any other program may receive the same."""
    found = []
    for name in _CHANNELS:
        for action in ("send", "receive") if name != "directory" else ("receive",):
            binding = {"bindings": {"mqtt": {"qos": 1, "retain": True}}} if action == "send" else {}
            channel = {"$ref": f"#/channels/{name}"}
            found.append((f"{action}-{name}", {"action": action, "channel": channel, **binding}))
    return found


def _message(name: str, kind: type[Any]) -> dict[str, Any]:
    event = kind is wire.PortMessage
    return {
        "name": name,
        "contentType": wire.PORT_EVENT_CONTENT_TYPE if event else wire.JSON_CONTENT_TYPE,
        "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
    }
