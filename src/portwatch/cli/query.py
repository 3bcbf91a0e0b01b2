"""Questions to the local agent over `http.listen`, and their answers as tables or JSON."""

import json
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import click

from portwatch.cli.table import printable, table
from portwatch.config import Config
from portwatch.errors import PortwatchError
from portwatch.http.client import AgentNotRunning, act, fetch
from portwatch.sidecar import access_of

PORTS = (
    "port_id",
    "interface",
    "status",
    "network_id",
    "segmentation_id",
    "local_vlan",
    "mac",
    "fixed_ips",
    "reason",
)
NETWORKS = ("network_id", "segments", "local_ports", "remote_ports", "peers", "complete", "disagreeing")
PEERS = ("host", "state", "tunnel_ip", "ports", "version", "reason")
FDB = (
    "network_id",
    "segmentation_id",
    "local_vlan",
    "mac",
    "fixed_ips",
    "host",
    "tunnel_ip",
    "rule",
    "reason",
    "claims",
)
FLOWS = ("bridge", "state", "text")


NOTHING = {
    "ports": "no port is plugged in here",
    "networks": "no network has a port here",
    "peers": "no other host shares a network with this one",
    "fdb": "no station is known",
}


def drain(config: Config, undo: bool) -> None:
    """Have the agent drain its host, or take that back."""
    path = "/v1/drain?undo" if undo else "/v1/drain"
    answer = _read(config, *act(config.http.listen, path, access=access_of(config)))
    words = "are active again" if undo else "are marked leaving: an active claim of another host comes before them"
    click.echo(f"{answer['ports']} ports {words}")


def ask(config: Config, question: str, argument: str | None, columns: tuple[str, ...], as_json: bool) -> None:
    """Print what the agent answers."""
    path = f"/v1/{question}"
    if argument is not None:
        path += f"?network={quote(argument, safe='')}" if question == "fdb" else f"/{quote(argument, safe='')}"
    answer = _read(config, *fetch(config.http.listen, path, access=access_of(config)))
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    elif not answer and argument is not None:
        raise PortwatchError(
            f"nothing is known of {printable(argument)}; `portwatch ports` shows what is plugged in here"
        )
    elif not answer:
        click.echo(NOTHING.get(question, "nothing"))
    elif question == "explain":
        click.echo("\n".join(map(_explained, answer)), nl=False)
    else:
        click.echo(table(columns, answer), nl=False)


def _read(config: Config, status: int, body: bytes) -> Any:
    """Return what the agent answered, or raise what it said instead."""
    try:
        answer = json.loads(body)
        if status != HTTPStatus.OK:
            raise PortwatchError(f"the agent says: {printable(str(answer['error']))}")
    except (ValueError, KeyError, TypeError):
        raise AgentNotRunning(config.http.listen, "what answers there is no portwatch") from None
    return answer


def _explained(entry: dict[str, Any]) -> str:
    """Return all that is known of one station, in words, claims and flows."""
    lines = []
    if port := entry.get("port"):
        reason = f": {port['reason']}" if port.get("reason") else ""
        lines.append(
            f"{port['port_id'] or port['interface']} is here, on {port['interface']}: {port['status']}{reason}"
        )
    if "rule" in entry:
        where = entry["host"] or "where it spoke last, and to every host of the network until it speaks"
        vni = f"{entry['network_type']} {entry['segmentation_id'] or '-'}"
        station = f"{entry['mac']} in {entry['network_id']} ({vni})"
        unreached = entry.get("reason")
        delivered = f"is delivered to {where}: {entry['rule']}"
        lines.append(f"{station} {f'is not reached from here: {unreached}' if unreached else delivered}")
    text = "".join(f"{printable(line)}\n" for line in lines)
    for heading, columns, rows in (
        ("claims", ("host", "port_id", "state", "status", "seq", "tunnel_ip"), entry["claims"]),
        ("flows", ("bridge", "installed", "text"), entry["flows"]),
    ):
        if rows:
            text += f"\n{heading}\n" + table(columns, rows)
    return text
