"""Questions to the local agent over `http.listen`, and their answers as tables or JSON."""

import json
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import click

from portwatch.cli.table import printable, show
from portwatch.config import Config
from portwatch.errors import PortwatchError
from portwatch.http.client import AgentNotRunning, fetch
from portwatch.partners import access_of

COLUMNS = {
    "ports": (
        *("port_id", "interface", "status", "network_id", "segmentation_id", "local_vlan"),
        *("mac", "fixed_ips", "reason"),
    ),
    "networks": ("network_id", "segments", "local_ports", "remote_ports", "peers", "complete", "disagreeing"),
    "peers": ("host", "state", "tunnel_ip", "ports", "version", "reason"),
    "fdb": (
        *("network_id", "segmentation_id", "local_vlan", "mac", "fixed_ips"),
        *("host", "tunnel_ip", "rule", "reason", "claims"),
    ),
    "flows": ("bridge", "state", "text"),
}
NOTHING = {
    "ports": "no port is plugged in here",
    "networks": "no network has a port here",
    "peers": "no other host shares a network with this one",
    "fdb": "no station is known",
    "flows": "no flow is wanted or installed",
}
INSTALLED = "installed"


def ask(config: Config, question: str) -> Any:
    """Return what the agent answers, or raise what it says instead."""
    status, body = fetch(config.http.listen, f"/v1/{question}", access=access_of(config))
    try:
        answer = json.loads(body)
        if status != HTTPStatus.OK:
            raise PortwatchError(f"the agent says: {printable(str(answer['error']))}")
    except (ValueError, KeyError, TypeError):
        raise AgentNotRunning(config.http.listen, "what answers there is no portwatch") from None
    return answer


def tell(config: Config, name: str, as_json: bool) -> None:
    """Print the answer to a plain question."""
    _print(name, ask(config, name), as_json, NOTHING[name])
    if name == "ports" and not as_json and ask(config, "host")["leaving"]:
        click.echo("this host is drained: its claims are leaving (portwatch drain --undo takes it back)")


def fdb(config: Config, network: str | None, as_json: bool) -> None:
    """Print where each MAC is delivered, perhaps of one network only."""
    answer = ask(config, "fdb" if network is None else f"fdb?network={quote(network, safe='')}")
    if not answer and network is not None and not as_json:
        raise unknown(network, see="networks")
    _print("fdb", answer, as_json, NOTHING["fdb"])


def flows(config: Config, only_difference: bool, as_json: bool) -> None:
    """Print what is wanted against what is installed."""
    answer = ask(config, "flows")
    differing = [row for row in answer if row["state"] != INSTALLED]
    if as_json or answer == []:
        _print("flows", differing if only_difference else answer, as_json, NOTHING["flows"])
        return
    if differing or not only_difference:
        show(COLUMNS["flows"], differing if only_difference else answer)
    words = "all of it installed" if not differing else f"{len(differing)} not as wanted"
    click.echo(f"{len(answer)} flows and groups, {words}")


def unknown(name: str, see: str = "ports") -> PortwatchError:
    """Return the error of a question about something that the agent has never heard of."""
    here = f"this host hears only of networks that have a port here (`portwatch {see}`)"
    return PortwatchError(f"nothing is known of {printable(name)}: {here}")


def _print(name: str, answer: Any, as_json: bool, nothing: str) -> None:
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    elif not answer:
        click.echo(nothing)
    else:
        show(COLUMNS[name], answer)
