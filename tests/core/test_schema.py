"""The contract as schemas: what they say of real payloads, of wrong ones, and what AsyncAPI's own schema says of ours.

`REWRITE_GOLDEN=1 pytest tests/core/test_schema.py tests/core/test_man.py` writes the files in docs/ anew.
"""

import gzip
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from portwatch import schema, wire
from portwatch.model import PortDetails, PortId
from tests.core.test_golden import EVENTS, GOLDEN, is_golden

ROOT = Path(__file__).parent.parent.parent
OFFICIAL = ROOT / "tests" / "contract" / "asyncapi-3.0.0.json.gz"


def validator(name: str) -> Any:
    return jsonschema.Draft202012Validator(schema.payload(name))


@pytest.mark.parametrize("name", sorted(schema.PAYLOADS))
def test_each_payload_has_a_sound_schema(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema.payload(name))
    jsonschema.Draft7Validator.check_schema(schema.payload(name))


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_what_is_published_of_a_port_fits_its_schema(name: str) -> None:
    validator("port-event").validate(json.loads(wire.encode_event(EVENTS[name])))


@pytest.mark.parametrize(
    ("file", "name"), [("manifest", "manifest"), ("host-online", "host"), ("host-offline", "host")]
)
def test_what_is_published_of_shares_and_hosts_fits_its_schema(file: str, name: str) -> None:
    validator(name).validate(json.loads((GOLDEN / f"{file}.json").read_text()))


def test_what_the_directory_command_writes_fits_its_schema() -> None:
    validator("directory").validate(json.loads(wire.encode_details(PortDetails())))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("port_id", "a/b"),
        ("host", ""),
        ("network_id", "$SYS"),
        ("segmentation_id", 0),
        ("segmentation_id", 2**24),
        ("mac", "zz"),
        ("network_type", "VX LAN"),
        ("seq", -1),
        ("seq", 2**63),
        ("state", "gone"),
        ("status", "active"),
        ("kind", "double"),
        ("fixed_ips", "10.0.0.5"),
    ],
)
def test_what_readers_refuse_does_not_fit_the_schema_either(field: str, value: object) -> None:
    event = json.loads(wire.encode_event(EVENTS["port-added"]))
    event["data"][field] = value

    assert not validator("port-event").is_valid(event)


def test_a_newer_peer_may_say_more() -> None:
    event = json.loads(wire.encode_event(EVENTS["port-added"]))
    event["data"]["colour"] = "blue"

    assert validator("port-event").is_valid(event)


def test_the_asyncapi_document_is_one() -> None:
    official = jsonschema.Draft7Validator(json.loads(gzip.decompress(OFFICIAL.read_bytes())))
    document = schema.asyncapi("portwatch/v1")

    official.validate(document)
    document["channels"]["ports"]["address"] = 5
    assert not official.is_valid(document), "and it would notice"


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = schema.asyncapi("portwatch/v1")

    def references(part: Any) -> Any:
        if isinstance(part, dict):
            if "$ref" in part:
                yield part["$ref"]
            for inner in part.values():
                yield from references(inner)

    for reference in references(document):
        place = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def test_the_addresses_of_the_asyncapi_document_are_the_topics_that_are_used() -> None:
    event = EVENTS["port-added"]
    topics = wire.Topics("portwatch/v1")
    network, host, port = event.key
    assert network is not None
    named = {"network_id": network, "host": host, "port_id": port}

    addresses = {
        name: channel["address"].format(**named)
        for name, channel in schema.asyncapi("portwatch/v1")["channels"].items()
    }

    assert addresses == {
        "ports": topics.port(network, host, port),
        "manifests": topics.manifest(network, host),
        "hosts": topics.host(host),
        "directory": topics.directory(PortId(port)),
    }


def test_the_document_in_docs_is_current() -> None:
    is_golden("../../docs/asyncapi.json", json.dumps(schema.asyncapi("portwatch/v1"), indent=2) + "\n")
