"""`portwatch explain`: why a port or MAC is (not) wired: what OVSDB says, who claims it, who won, which flows it has.

The agent knows all but one thing: since when a flow is in the switch and how much it is used. The switch tells that.
"""

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import click

from portwatch.cli import query
from portwatch.cli.table import printable, show
from portwatch.config import Config
from portwatch.errors import SwitchError
from portwatch.fabric.tables import OWN
from portwatch.openflow import parse
from portwatch.openflow.flow import FlowKey
from portwatch.switch.ofctl import OfCtl

CLAIMS = ("host", "port_id", "state", "status", "since", "seq", "applied", "took", "tunnel_ip", "reason")
FLOWS = ("bridge", "installed", "since", "packets", "text")
HEARD = (
    "claims (times are UTC; APPLIED: when this host last committed news of it, SECONDS after it was said;"
    " the others know their own: explain it there)"
)
FLOODED = "where it spoke last, and to every host of the network until it speaks"

Uses = Mapping[tuple[str, FlowKey], parse.Use]


def explain(config: Config, name: str, as_json: bool) -> None:
    """Print all that is known of *name*."""
    answer = query.ask(config, f"explain/{quote(name, safe='')}")
    if not answer and not as_json:
        raise query.unknown(name)
    uses, trouble = asyncio.run(_uses(config)) if answer else ({}, None)
    for entry in answer:
        for flow in entry["flows"]:
            flow.update(_use(flow, uses))
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    for entry in answer:
        for line in lines(entry):
            click.echo(printable(line))
        for heading, columns, rows in ((HEARD, CLAIMS, entry["claims"]), ("flows", FLOWS, entry["flows"])):
            if rows:
                click.echo(f"\n{heading}")
                show(columns, [{**row, **_moments(row)} for row in rows])
        click.echo()
    if trouble:
        click.echo(f"since when the flows are there the switch does not say: {trouble}", err=True)


def lines(entry: Mapping[str, Any]) -> list[str]:
    """Return what is known of one station, in words."""
    found = []
    if interface := entry.get("interface"):
        found.append(f"the interface {interface['name']} gives no port here: {interface['reason']}")
        found += _ovsdb(interface)
    if port := entry.get("port"):
        reason = f": {port['reason']}" if port.get("reason") else ""
        found.append(
            f"{port['port_id'] or port['interface']} is here, on {port['interface']}: {port['status']}{reason}"
        )
        if port.get("missing"):
            found.append(f"missing: {', '.join(port['missing'])}")
        found += _ovsdb(port)
    if "rule" in entry:
        found.append(_delivery(entry))
        if entry["conflict"]:
            found.append("conflict: it is attached here, and a claim of another host comes before this host's")
        if len(entry["claims"]) > 1:
            found.append(f"{len(entry['claims'])} claims; what decided: {entry['rule']}")
    return found


def _ovsdb(row: Mapping[str, Any]) -> list[str]:
    keys = ", ".join(f"{key}={text}" for key, text in row["ovsdb"].items())
    return [f"OVSDB says: {keys}"] if keys else []


def _delivery(entry: Mapping[str, Any]) -> str:
    station = f"{entry['mac']} in {entry['network_id']} ({entry['network_type']} {entry['segmentation_id'] or '-'})"
    if entry["reason"]:
        return f"{station} is not reached from here: {entry['reason']}"
    return f"{station} is delivered to {entry['host'] or FLOODED}: {entry['rule']}"


def _moments(row: Mapping[str, Any]) -> dict[str, str]:
    """Return a row's times as people read them, as `portwatch events` has them."""
    return {key: row[key].replace("T", " ")[:23] for key in ("since", "applied") if row.get(key)}


async def _uses(config: Config) -> tuple[Uses, str | None]:
    """Ask both bridges; a switch that is away takes only this from the answer."""
    found: dict[tuple[str, FlowKey], parse.Use] = {}
    try:
        async with OfCtl(config.openflow.rundir) as ofctl:
            for bridge in (config.bridges.integration, config.bridges.tunnel):
                dump = await ofctl.dump_flows(bridge, OWN.cookie, OWN.mask, statistics=True)
                found.update(((bridge, flow.key), use) for flow, use in parse.uses(dump))
    except SwitchError as error:
        return found, str(error)
    return found, None


def _use(flow: Mapping[str, Any], uses: Uses) -> dict[str, Any]:
    use = uses.get((flow["bridge"], parse.flow(flow["text"]).key)) if "actions=" in flow["text"] else None
    if use is None:
        return {"since": None, "packets": None}
    since = datetime.now(UTC) - timedelta(seconds=use.seconds)
    return {"since": since.isoformat(timespec="milliseconds"), "packets": use.packets}
