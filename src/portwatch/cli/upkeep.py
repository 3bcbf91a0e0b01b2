"""`drain`, `forget` and `cleanup`: what an operator takes away, and what must be true before he may."""

import asyncio
import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import click

from portwatch import partners
from portwatch.bus.connection import Publication
from portwatch.cli import query
from portwatch.cli.options import hush
from portwatch.config import Config, MemoryBus
from portwatch.errors import BusError, OvsdbUnavailable, PortwatchError, SwitchError
from portwatch.fabric.tables import GROUPS, OWN
from portwatch.http.client import AgentNotRunning, act, fetch
from portwatch.model import HostName
from portwatch.openflow import parse
from portwatch.ovsdb.belongings import Belongings, belongings, remove
from portwatch.ovsdb.database import Database
from portwatch.ovsdb.picture import Picture
from portwatch.ovsdb.rows import TABLES
from portwatch.switch.ofctl import OfCtl
from portwatch.visit import Visit, visit

OVSDB_SECONDS = 5.0


class StillAlive(PortwatchError):
    """What shall be taken away belongs to an agent that runs, and that would put it back: stop it first."""


# --- drain -------------------------------------------------------------------------------------------------------


def drain(config: Config, undo: bool, as_json: bool) -> None:
    """Have the agent drain its host, or take that back."""
    before = query.ask(config, "host")["leaving"]
    status, body = act(config.http.listen, "/v1/drain?undo" if undo else "/v1/drain", access=partners.access_of(config))
    answer = json.loads(body)
    if status != HTTPStatus.OK:
        raise PortwatchError(f"the agent says: {answer['error']}")
    if as_json:
        click.echo(json.dumps(answer))
    elif before == answer["leaving"]:
        click.echo(f"nothing changes: this host is {'drained already' if before else 'not drained'}")
    else:
        ports = "1 port is" if answer["ports"] == 1 else f"{answer['ports']} ports are"
        words = "active again" if undo else "marked leaving: an active claim of another host comes first"
        click.echo(f"{ports} {words}")


# --- forget ------------------------------------------------------------------------------------------------------


def forget(config: Config, host: HostName, as_json: bool) -> None:
    """Withdraw what a dead host left on the bus."""
    topics = asyncio.run(_forget(config, host, dry_run=False))
    if as_json:
        click.echo(json.dumps({"host": host, "withdrawn": topics}, indent=2))
    elif topics:
        click.echo(f"{len(topics)} retained messages of {host} withdrawn")
    else:
        click.echo(f"the bus holds nothing of {host}")


async def _forget(config: Config, host: HostName, *, dry_run: bool) -> list[str]:
    """Return the topics that are withdrawn. More than once, for a broker may not tell all that it holds at once."""
    withdrawn: list[str] = []
    async with visit(partners.broker_of(config), config.bus.prefix, "forget") as visitor:
        if await visitor.lives(host):
            raise StillAlive(f"an agent lives under the name {host} and would say all of it again; stop it first")
        while round_ := await _withdrawal(visitor, host):
            withdrawn += sorted({publication.topic for publication in round_} - set(withdrawn))
            if dry_run:
                break
            await visitor.publish(*round_)
            visitor.retained.clear()
    return withdrawn


async def _withdrawal(visitor: Visit, host: HostName) -> tuple[Publication, ...]:
    await visitor.read(*visitor.topics.of_ourselves(host))
    return visitor.withdrawal(host)


# --- cleanup -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Found:
    """What of ours is on this host, by where it is."""

    topics: list[str]
    flows: dict[str, int]
    groups: dict[str, list[int]]
    ovsdb: Belongings

    def view(self) -> dict[str, Any]:
        return {
            "topics": self.topics,
            "flows": self.flows,
            "groups": {bridge: len(ids) for bridge, ids in self.groups.items()},
            "ports": sorted(self.ovsdb.ports.values()),
            "keys": sorted(self.ovsdb.records.values()),
        }


def cleanup(config: Config, dry_run: bool, as_json: bool) -> None:
    """Remove all that is ours from this host, or say what that is. What cannot be reached stops nothing else."""
    hush()
    _must_not_run(config)
    found, troubles = asyncio.run(_cleanup(config, dry_run=dry_run))
    view = found.view()
    if as_json:
        click.echo(json.dumps({"dry_run": dry_run, **view, "troubles": troubles}, indent=2))
    else:
        verb = "would remove" if dry_run else "removed"
        for bridge, number in found.flows.items():
            click.echo(f"{verb} {number} flows and {view['groups'][bridge]} groups from {bridge}")
        click.echo(f"{verb} the ports {', '.join(view['ports']) or '(none)'}")
        click.echo(f"{verb} keys and tags on {len(view['keys'])} Port rows")
        click.echo(f"{verb} {len(found.topics)} retained messages from the bus")
    if troubles:
        raise PortwatchError("not all of it could be reached; do it again when this is mended: " + "; ".join(troubles))


def _must_not_run(config: Config) -> None:
    try:
        fetch(config.http.listen, "/healthz", access=partners.access_of(config))
    except AgentNotRunning:
        return
    raise StillAlive("the agent of this host runs and would put everything back; stop it first")


async def _cleanup(config: Config, *, dry_run: bool) -> tuple[Found, list[str]]:
    """The bus first: while the others still send here, the flows deliver."""
    found, troubles = Found([], {}, {}, Belongings()), list[str]()
    remote = str(config.ovsdb.remote)
    async with (
        Database(remote, TABLES, tls=partners.tls_of(config)) as database,
        OfCtl(config.openflow.rundir) as ofctl,
    ):
        picture = Picture(config.bridges.integration, config.bridges.tunnel)
        try:
            async with asyncio.timeout(OVSDB_SECONDS):
                changes = await anext(aiter(database))
            found.ovsdb = belongings(changes.rows)
            picture.apply(changes.rows, 0.0, whole=True)
        except TimeoutError:
            troubles.append(f"OVSDB: {database.last_error}")
        if not isinstance(config.bus.url, MemoryBus):
            try:
                found.topics = await _forget(config, partners.own_name(config, picture.hostname), dry_run=dry_run)
            except BusError as error:
                troubles.append(f"bus: {error}")
        for bridge in (config.bridges.integration, config.bridges.tunnel):
            try:
                await _clear_bridge(ofctl, bridge, found, dry_run=dry_run)
            except SwitchError as error:
                troubles.append(f"switch: {error}")
        if not dry_run and (found.ovsdb.ports or found.ovsdb.records):
            try:
                await database.transact(lambda transaction: remove(found.ovsdb, transaction))
            except OvsdbUnavailable as error:
                troubles.append(f"OVSDB: {error}")
    return found, troubles


async def _clear_bridge(ofctl: OfCtl, bridge: str, found: Found, *, dry_run: bool) -> None:
    dump = await ofctl.dump_flows(bridge, OWN.cookie, OWN.mask)
    groups = [each.key.group_id for each in parse.groups(await ofctl.dump_groups(bridge), GROUPS)]
    found.flows[bridge] = sum("actions=" in line for line in dump.splitlines())
    found.groups[bridge] = groups
    if dry_run or not (found.flows[bridge] or groups):
        return
    # By cookie alone, and so the learned ones, too; slow, and here that does not matter.
    lines = [f"flow delete cookie={OWN.cookie:#x}/{OWN.mask:#x}", *(f"group delete group_id={each}" for each in groups)]
    await ofctl.commit(bridge, "\n".join(lines) + "\n")
