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


def drain(config: Config, undo: bool) -> None:
    """Have the agent drain its host, or take that back."""
    answer = _read(config, *act(config.http.listen, "/v1/drain?undo" if undo else "/v1/drain"))
    words = "are active again" if undo else "are marked leaving: an active claim of another host comes before them"
    click.echo(f"{answer['ports']} ports {words}")


def ask(config: Config, question: str, argument: str | None, columns: tuple[str, ...], as_json: bool) -> None:
    """Print what the agent answers."""
    path = f"/v1/{question}"
    if argument is not None:
        path += f"?network={quote(argument, safe='')}" if question == "fdb" else f"/{quote(argument, safe='')}"
    answer = _read(config, *fetch(config.http.listen, path))
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    elif not answer:
        click.echo("nothing" if argument is None else f"nothing is known of {argument}")
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
