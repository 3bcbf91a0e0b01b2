"""`portwatch events`: the bus, live, one event a line."""

import asyncio
import contextlib
import json
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import click

from portwatch import wire
from portwatch.bus.connection import Message, Publication
from portwatch.cli.table import printable
from portwatch.config import Config, MemoryBus
from portwatch.errors import Refused
from portwatch.events import PortEvent
from portwatch.http import client
from portwatch.model import HostName, NetworkId
from portwatch.partners import access_of, broker_of


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events to show; None shows all."""

    network: str | None
    host: str | None
    kind: str | None

    def lets(self, event: dict[str, Any]) -> bool:
        data = event["data"]
        return (
            self.network in (None, data.get("network_id"))
            and self.host in (None, data["host"])
            and (self.kind is None or event["type"].rpartition(".")[2] == self.kind.rpartition(".")[2])
        )


def events(config: Config, wanted: Filter, as_json: bool) -> None:
    """Print events until a signal ends it: from the broker, or, with `memory://`, from the local agent."""
    show = _printer(wanted, as_json)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whichever signal it is, the status is 0
    with contextlib.suppress(KeyboardInterrupt):
        if isinstance(config.bus.url, MemoryBus):
            for event in client.events(config.http.listen, "/v1/events", access=access_of(config)):
                show(json.loads(event.data))
        else:
            asyncio.run(_from_bus(config, wanted, show))


async def _from_bus(config: Config, wanted: Filter, show: Callable[[dict[str, Any]], None]) -> None:
    topics = wire.Topics(config.bus.prefix)
    try:
        network = NetworkId(wanted.network) if wanted.network else "+"
        host = HostName(wanted.host) if wanted.host else "+"
    except ValueError as error:
        raise click.UsageError(str(error)) from None

    def receive(message: Message) -> None:
        try:
            news = topics.decode(message.topic, message.payload)
        except Refused as error:
            click.echo(printable(f"refused {message.topic}: {error}"), err=True)
            return
        if isinstance(news, PortEvent):
            show(json.loads(wire.encode_event(news)))  # what was understood, and nothing else

    # A reader has no last words; a broker wants some: nobody listens to this topic.
    client_id = f"portwatch-events-{uuid4().hex[:12]}"
    silent = Publication(f"{config.bus.prefix}/readers/{client_id}", b"")
    async with broker_of(config).connect(client_id=client_id, will=silent, receive=receive) as connection:
        await connection.subscribe(*topics.of_everything(network, host))
        await connection.closed()


def _printer(wanted: Filter, as_json: bool) -> Callable[[dict[str, Any]], None]:
    def show(event: dict[str, Any]) -> None:
        if not wanted.lets(event):
            return
        if as_json:
            click.echo(json.dumps(event, separators=(",", ":")))
            return
        data = event["data"]
        words = (
            event["time"].replace("T", " ")[:23],
            event["type"].rpartition(".")[2].ljust(7),
            f"{data['host']:<12}",
            f"{data.get('network_id') or '-':<12}",
            f"{data['port_id']:<16}",
            data["status"].ljust(6),
            data.get("mac") or "-",
            ", ".join(data["fixed_ips"]),
            data.get("reason", ""),
        )
        click.echo(printable("  ".join(words).rstrip()))

    return show
