"""`portwatch directory`: a port's details on the bus, as an orchestrator writes and reads them."""

import asyncio
import json
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from difflib import get_close_matches
from typing import Final

import click

from portwatch import wire
from portwatch.bus.connection import Publication
from portwatch.cli.table import table
from portwatch.config import Config, Loaded, MemoryBus
from portwatch.errors import ConfigurationError, PortwatchError, Refused
from portwatch.model import PortDetails, PortId
from portwatch.ovsdb import rows
from portwatch.partners import broker_of
from portwatch.visit import Visit, visit

KEYS: Final = (
    *("network-id", "network-type", "segmentation-id", "attached-mac", "fixed-ips", "allowed-address-pairs"),
    *("device-owner", "port-kind", "admin-state"),
)
"""docs/contract.md, section 3: what an orchestrator knows of a port."""


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
    asyncio.run(_delete(_bus(loaded), _port_id(name)))


async def _put(config: Config, port_id: PortId, wanted: dict[str, str]) -> None:
    async with _visit(config) as visitor:
        before = await _read(visitor, port_id)
        details = _details({**(rows.keys(before) if before else {}), **wanted})
        await visitor.publish(_publication(visitor.topics.directory(port_id), wire.encode_details(details)))


async def _get(config: Config, port_id: PortId) -> PortDetails | None:
    async with _visit(config) as visitor:
        return await _read(visitor, port_id)


async def _delete(config: Config, port_id: PortId) -> None:
    async with _visit(config) as visitor:
        await visitor.publish(_publication(visitor.topics.directory(port_id), b""))


def _publication(topic: str, payload: bytes) -> Publication:
    return Publication(topic, payload, True, wire.JSON_CONTENT_TYPE if payload else None)


def _visit(config: Config) -> AbstractAsyncContextManager[Visit]:
    return visit(broker_of(config), config.bus.prefix, "directory")


async def _read(visitor: Visit, port_id: PortId) -> PortDetails | None:
    topic = visitor.topics.directory(port_id)
    told = await visitor.read(topic)
    try:
        news = visitor.topics.decode(topic, told.get(topic, b""))
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
