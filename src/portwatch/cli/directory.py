"""`portwatch directory`: a port's details on the bus, as an orchestrator writes and reads them."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from difflib import get_close_matches
from typing import Final
from uuid import uuid4

import click

from portwatch import wire
from portwatch.bus.connection import Connection, Message, Publication
from portwatch.cli.table import table
from portwatch.config import Config, Loaded, MemoryBus
from portwatch.errors import BusError, ConfigurationError, PortwatchError, Refused
from portwatch.model import PortDetails, PortId
from portwatch.ovsdb import rows
from portwatch.sidecar import broker_of

KEYS: Final = (
    *("network-id", "network-type", "segmentation-id", "attached-mac", "fixed-ips", "allowed-address-pairs"),
    *("device-owner", "port-kind", "admin-state"),
)
"""docs/contract.md, section 3: what an orchestrator knows of a port."""
ANSWER_SECONDS: Final = 1.0
"""How long a broker may take to tell what it retains, if it does not say when it is done."""
LATE_SECONDS: Final = 0.1
"""How much later than a later message a retained one may come: no broker promises an order between topics."""


def put(loaded: Loaded, name: str, changes: Iterable[str]) -> None:
    """Set *changes*, each `key=value`, over what is there; an empty value takes a key back to its default."""
    port_id, wanted = _port_id(name), _changes(changes)
    _details(wanted)
    asyncio.run(_put(_bus(loaded), port_id, wanted))


def show(loaded: Loaded, name: str, as_json: bool) -> None:
    """Print what is there."""
    port_id = _port_id(name)
    details = asyncio.run(_get(_bus(loaded), port_id))
    if details is None:
        raise PortwatchError(f"the directory holds nothing for the port {port_id}")
    if as_json:
        click.echo(json.dumps(json.loads(wire.encode_details(details)), indent=2))
    else:
        lines = [{"key": key, "value": text} for key, text in rows.keys(details).items()]
        click.echo(table(("key", "value"), lines), nl=False)


def remove(loaded: Loaded, name: str) -> None:
    """Take away what is there; that nothing is there is no error."""
    asyncio.run(_publish(_bus(loaded), _port_id(name), b""))


async def _put(config: Config, port_id: PortId, wanted: dict[str, str]) -> None:
    async with _connected(config, port_id) as (connection, topic, held):
        before = await _read(config, connection, topic, port_id, held)
        details = _details({**(rows.keys(before) if before else {}), **wanted})
        await connection.publish(_publication(topic, wire.encode_details(details)))


async def _get(config: Config, port_id: PortId) -> PortDetails | None:
    async with _connected(config, port_id) as (connection, topic, held):
        return await _read(config, connection, topic, port_id, held)


async def _publish(config: Config, port_id: PortId, payload: bytes) -> None:
    async with _connected(config, port_id) as (connection, topic, _):
        await connection.publish(_publication(topic, payload))


def _publication(topic: str, payload: bytes) -> Publication:
    return Publication(topic, payload, True, wire.JSON_CONTENT_TYPE if payload else None)


class _Held:
    """What has come."""

    def __init__(self, marker: str) -> None:
        self.marker = marker
        self.payload = b""
        self.answered = asyncio.Event()
        self.marked = asyncio.Event()

    def receive(self, message: Message) -> None:
        if message.topic == self.marker:
            self.marked.set()
        else:
            self.payload = message.payload
            self.answered.set()
            self.marked.set()


@asynccontextmanager
async def _connected(config: Config, port_id: PortId) -> AsyncIterator[tuple[Connection, str, _Held]]:
    # A passer-by has no last words; a broker wants some: nobody else listens to this topic.
    client_id = f"portwatch-directory-{uuid4().hex[:12]}"
    silent = Publication(f"{config.bus.prefix}/readers/{client_id}", b"")
    held = _Held(silent.topic)
    async with broker_of(config).connect(client_id=client_id, will=silent, receive=held.receive) as connection:
        yield connection, wire.Topics(config.bus.prefix).directory(port_id), held


async def _read(config: Config, connection: Connection, topic: str, port_id: PortId, held: _Held) -> PortDetails | None:
    """Return what is retained there. A broker does not say that it is nothing: our own message comes back behind it."""
    await connection.subscribe(topic)
    if not held.answered.is_set():
        with contextlib.suppress(BusError):  # forbidden by an access list, perhaps: then time tells
            await connection.subscribe(held.marker)
            await connection.publish(Publication(held.marker, b""))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(held.marked.wait(), ANSWER_SECONDS)
            await asyncio.wait_for(held.answered.wait(), LATE_SECONDS)
    try:
        news = wire.Topics(config.bus.prefix).decode(topic, held.payload)
    except Refused as error:
        raise PortwatchError(
            f"what the directory holds for {port_id} cannot be used ({error});"
            f" `portwatch directory delete {port_id}` takes it away"
        ) from None
    return news.details if isinstance(news, wire.DirectoryEntry) else None


def _bus(loaded: Loaded) -> Config:
    if isinstance(loaded.config.bus.url, MemoryBus):
        expected = "a broker that others can reach, such as mqtt://host: with memory:// there is no directory"
        raise ConfigurationError(loaded.sources["bus.url"], "bus.url", "memory://", expected)
    return loaded.config


def _port_id(name: str) -> PortId:
    try:
        return PortId(name)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _changes(given: Iterable[str]) -> dict[str, str]:
    wanted = {}
    for each in given:
        key, equals, text = each.partition("=")
        if key not in KEYS:
            near = get_close_matches(key, KEYS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(KEYS)}"
            raise click.UsageError(f"{key!r} is no key of a port; {hint}")
        if not equals:
            raise click.UsageError(f"{key} has no value: write {key}=VALUE, or {key}= to take it back")
        wanted[key] = text
    return wanted


def _details(keys: dict[str, str]) -> PortDetails:
    try:
        return rows.details(keys)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
