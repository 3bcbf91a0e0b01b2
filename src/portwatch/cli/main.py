"""The commands and their options. Exit status: 0 done, 2 wrong usage or configuration, 3 identity taken, 1 else."""

import asyncio
import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import click

from portwatch import __version__
from portwatch.cli import directory, follow, query
from portwatch.config import Config, Loaded, LogFormat, Loop, effective, load
from portwatch.errors import ConfigurationError, IdentityTaken, PortwatchError

P = ParamSpec("P")

CONFIG = click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Configuration file (default: /etc/portwatch/portwatch.toml).",
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


def _faults_as_exit_status(command: Callable[P, None]) -> Callable[P, None]:
    """Turn what went wrong into one line on standard error and the contract's exit status."""

    @wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except (PortwatchError, BaseExceptionGroup) as error:
            # Not `except*`: what leaves such a clause is wrapped in a group once more, sys.exit's too (Python 3.11.2).
            fault = _first_fault(error)
            if fault is None:
                raise
        else:
            return
        click.echo(f"portwatch: {fault}", err=True)
        sys.exit(next(status for kind, status in _STATUSES if isinstance(fault, kind)))

    return guarded


_STATUSES = ((ConfigurationError, 2), (IdentityTaken, 3), (PortwatchError, 1))


def _first_fault(error: BaseException) -> PortwatchError | None:
    """Return the fault of ours in *error*, which a task group may have wrapped; None when another is beside it."""
    if isinstance(error, BaseExceptionGroup):
        ours, others = error.split(PortwatchError)
        return _first_fault(ours.exceptions[0]) if ours is not None and others is None else None
    return error if isinstance(error, PortwatchError) else None


def _load(path: Path | None) -> Loaded:
    loaded = load(path, os.environ)
    for warning in loaded.warnings:
        click.echo(f"portwatch: {warning}", err=True)
    return loaded


def _config(path: Path | None) -> Config:
    return _load(path).config


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="portwatch")
def main() -> None:
    """Layer-2 overlays for Open vSwitch hypervisors, without a server."""


@main.command()
@CONFIG
@click.option(
    "--log-format",
    type=click.Choice([form.value for form in LogFormat]),
    help="In place of `log.format`: console for people.",
)
@_faults_as_exit_status
def run(config: Path | None, log_format: str | None) -> None:
    """Run the sidecar until SIGTERM or SIGINT; logs go to standard error."""
    from portwatch.logs import log_to_stderr
    from portwatch.sidecar import Sidecar  # the other commands start without its weight

    if log_format is not None:
        os.environ["PORTWATCH_LOG__FORMAT"] = log_format
    loaded = _load(config)
    log_to_stderr(loaded.config)
    with asyncio.Runner(loop_factory=_loop_factory(loaded.config)) as runner:
        runner.run(Sidecar(loaded).run())


def _loop_factory(config: Config) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if config.loop is not Loop.UVLOOP:
        return None
    try:
        import uvloop
    except ImportError:
        raise ConfigurationError("loop", "loop", "uvloop", "asyncio, or uvloop to be installed") from None
    return uvloop.new_event_loop


@main.command("check-config")
@CONFIG
@_faults_as_exit_status
def check_config(config: Path | None) -> None:
    """Read and check the configuration; print the effective one, secrets masked."""
    click.echo(effective(_load(config)), nl=False)


@main.command()
@CONFIG
@click.option("--network", help="Only this network's events.")
@click.option("--host", help="Only this host's events.")
@click.option("--type", "kind", type=click.Choice(["added", "updated", "removed"]), help="Only events of this type.")
@AS_JSON
@_faults_as_exit_status
def events(config: Path | None, network: str | None, host: str | None, kind: str | None, as_json: bool) -> None:
    """Follow the bus live, one event a line.

    Example: portwatch events --network blue --type removed
    """
    follow.events(_config(config), follow.Filter(network, host, kind), as_json)


@main.command()
@CONFIG
@click.option("--undo", is_flag=True, help="Take it back.")
@_faults_as_exit_status
def drain(config: Path | None, undo: bool) -> None:
    """Mark this host's claims `leaving`, before maintenance: whoever attaches its ports elsewhere wins at once.

    Example: portwatch drain
    """
    query.drain(_config(config), undo)


def _question(name: str, columns: tuple[str, ...], words: str, argument: str | None = None) -> None:
    """Make a command that asks the local agent and prints a table."""

    @CONFIG
    @AS_JSON
    @_faults_as_exit_status
    def command(config: Path | None, as_json: bool, **given: Any) -> None:
        query.ask(_config(config), name, given.get(argument or ""), columns, as_json)

    if argument is not None:
        command = click.argument(argument, required=argument != "network")(command)
    main.command(name, help=words)(command)


_question("ports", query.PORTS, "Show this host's ports and how far each is.")
_question("networks", query.NETWORKS, "Show the networks that have a port on this host.")
_question("peers", query.PEERS, "Show the other hosts that share a network with this one.")
_question(
    "fdb",
    query.FDB,
    "Show where each MAC is delivered, and by which rule.\n\nExample: portwatch fdb blue",
    "network",
)
_question("flows", query.FLOWS, "Show the flows and groups that portwatch owns: wanted against installed.")
_question(
    "explain",
    query.FDB,
    "Show who claims a port or MAC, who won and by which rule.\n\nExample: portwatch explain fa:16:3e:00:00:01",
    "name",
)


@main.group("directory")
def directory_group() -> None:
    """Describe ports on the bus: for orchestrators that write no OVSDB keys (ports.details = "directory")."""


@directory_group.command("set")
@CONFIG
@click.argument("port")
@click.argument("changes", metavar="KEY=VALUE...", nargs=-1, required=True)
@_faults_as_exit_status
def directory_set(config: Path | None, port: str, changes: tuple[str, ...]) -> None:
    """Set keys of a port's details; the others stay. KEY= takes a key back to its default.

    Example: portwatch directory set 3f0c network-id=blue segmentation-id=100 fixed-ips=10.0.0.5,fd00::5
    """
    directory.put(_load(config), port, changes)


@directory_group.command("get")
@CONFIG
@AS_JSON
@click.argument("port")
@_faults_as_exit_status
def directory_get(config: Path | None, port: str, as_json: bool) -> None:
    """Show a port's details."""
    directory.show(_load(config), port, as_json)


@directory_group.command("delete")
@CONFIG
@click.argument("port")
@_faults_as_exit_status
def directory_delete(config: Path | None, port: str) -> None:
    """Take a port's details away; where it is plugged in now it keeps what it has."""
    directory.remove(_load(config), port)
