"""The commands and their options, each with an example. What they do stands in the modules beside this one."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import click

from portwatch import __version__
from portwatch.cli.completion import names, script
from portwatch.cli.options import AS_JSON, CONFIG, configured, faults_as_exit_status, host_name, loaded
from portwatch.config import Config, LogFormat, Loop, absent_files, effective
from portwatch.errors import ConfigurationError
from portwatch.events import EVENT_TYPES


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
@faults_as_exit_status
def run(config: Path | None, log_format: str | None) -> None:
    """Run the sidecar until SIGTERM or SIGINT; logs go to standard error.

    Example: portwatch run --config /etc/portwatch/portwatch.toml
    """
    from portwatch.logs import log_to_stderr
    from portwatch.sidecar import Sidecar  # the other commands start without its weight

    if log_format is not None:
        os.environ["PORTWATCH_LOG__FORMAT"] = log_format
    settings = loaded(config)
    log_to_stderr(settings.config)
    with asyncio.Runner(loop_factory=_loop_factory(settings.config)) as runner:
        runner.run(Sidecar(settings).run())


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
@faults_as_exit_status
def check_config(config: Path | None) -> None:
    """Read and check the configuration; print the effective one, secrets masked.

    Example: PORTWATCH_TUNNEL__LOCAL_IP=192.0.2.11 portwatch check-config
    """
    found = loaded(config)
    for words in absent_files(found):
        click.echo(f"portwatch: {words}", err=True)
    click.echo(effective(found), nl=False)


@main.command()
@CONFIG
@click.option("--network", help="Only this network's events.")
@click.option("--host", help="Only this host's events.")
@click.option(
    "--type",
    "kind",
    type=click.Choice([*EVENT_TYPES, *(kind.rpartition(".")[2] for kind in EVENT_TYPES)]),
    metavar="TYPE",
    help="Only events of this type: portwatch.port.added, updated or removed; the last word is enough.",
)
@AS_JSON
@faults_as_exit_status
def events(config: Path | None, network: str | None, host: str | None, kind: str | None, as_json: bool) -> None:
    """Follow the bus live, one event a line.

    Example: portwatch events --network blue --type removed
    """
    from portwatch.cli import follow

    follow.events(configured(config), follow.Filter(network, host, kind), as_json)


@main.command()
@CONFIG
@AS_JSON
@faults_as_exit_status
def ports(config: Path | None, as_json: bool) -> None:
    """Show this host's ports and how far each is.

    Example: portwatch ports
    """
    from portwatch.cli import query

    query.tell(configured(config), "ports", as_json)


@main.command()
@CONFIG
@AS_JSON
@faults_as_exit_status
def networks(config: Path | None, as_json: bool) -> None:
    """Show the networks that have a port on this host.

    Example: portwatch networks
    """
    from portwatch.cli import query

    query.tell(configured(config), "networks", as_json)


@main.command()
@CONFIG
@AS_JSON
@faults_as_exit_status
def peers(config: Path | None, as_json: bool) -> None:
    """Show the other hosts that share a network with this one.

    Example: portwatch peers --json | jq '.[] | select(.state != "online")'
    """
    from portwatch.cli import query

    query.tell(configured(config), "peers", as_json)


@main.command()
@CONFIG
@AS_JSON
@click.argument("network", required=False, shell_complete=names("networks", ("network_id",)))
@faults_as_exit_status
def fdb(config: Path | None, network: str | None, as_json: bool) -> None:
    """Show where each MAC is delivered, and by which rule.

    Example: portwatch fdb blue
    """
    from portwatch.cli import query

    query.fdb(configured(config), network, as_json)


@main.command()
@CONFIG
@AS_JSON
@click.option("--difference", is_flag=True, help="Only what is not installed as it is wanted.")
@faults_as_exit_status
def flows(config: Path | None, difference: bool, as_json: bool) -> None:
    """Show the flows and groups that portwatch owns: wanted against installed.

    Example: portwatch flows --difference
    """
    from portwatch.cli import query

    query.flows(configured(config), difference, as_json)


@main.command("explain")
@CONFIG
@AS_JSON
@click.argument("name", metavar="PORT-OR-MAC", shell_complete=names("ports", ("port_id", "mac")))
@faults_as_exit_status
def explain_(config: Path | None, name: str, as_json: bool) -> None:
    """Show why a port or MAC is (not) wired, who claims it, who won and by which rule, and its flows.

    It tells when this host applied the latest news of each claim; nobody sends receipts, so ask each host for its own.

    Example: portwatch explain fa:16:3e:00:00:01
    """
    from portwatch.cli import explain

    explain.explain(configured(config), name, as_json)


@main.command("trace")
@CONFIG
@AS_JSON
@click.option("--source", metavar="ADDRESS", help="Send from this address instead of the port's own.")
@click.option("--raw", is_flag=True, help="Show what ofproto/trace printed, too.")
@click.argument("port", shell_complete=names("ports", ("port_id", "interface")))
@click.argument("destination", shell_complete=names("fdb", ("mac", "port_id")))
@faults_as_exit_status
def trace_(config: Path | None, port: str, destination: str, source: str | None, raw: bool, as_json: bool) -> None:
    """Show what the switch would do with a packet from a port here to a MAC, an IP address or another port, and why.

    Example: portwatch trace web-1 10.0.0.5
    """
    from portwatch.cli import trace

    trace.trace(configured(config), port, destination, source, raw=raw, as_json=as_json)


@main.command()
@CONFIG
@AS_JSON
@click.option("--undo", is_flag=True, help="Take it back.")
@faults_as_exit_status
def drain(config: Path | None, undo: bool, as_json: bool) -> None:
    """Mark this host's claims `leaving`, before maintenance: whoever attaches its ports elsewhere wins at once.

    Example: portwatch drain
    """
    from portwatch.cli import upkeep

    upkeep.drain(configured(config), undo, as_json)


@main.command()
@CONFIG
@AS_JSON
@click.argument("host", shell_complete=names("peers", ("host",)))
@faults_as_exit_status
def forget(config: Path | None, host: str, as_json: bool) -> None:
    """Withdraw a dead host's retained state from the bus: its ports are gone for all others at once.

    Example: portwatch forget hv7
    """
    from portwatch.cli import upkeep

    upkeep.forget(configured(config), host_name(host), as_json)


@main.command()
@CONFIG
@AS_JSON
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@faults_as_exit_status
def cleanup(config: Path | None, dry_run: bool, as_json: bool) -> None:
    """Remove all that portwatch owns from this host, after its agent was stopped for good. The bridges stay.

    Example: portwatch cleanup --dry-run
    """
    from portwatch.cli import upkeep

    upkeep.cleanup(configured(config), dry_run, as_json)


@main.command("doctor")
@CONFIG
@AS_JSON
@faults_as_exit_status
def doctor_(config: Path | None, as_json: bool) -> None:
    """Check this host, whether its agent runs or not: what is wrong, what it means, what to do. Status 1 on a fault.

    Example: portwatch doctor
    """
    from portwatch.cli import doctor

    doctor.doctor(configured(config), as_json)


@main.command()
@click.option("--asyncapi", is_flag=True, help="Print the topics as an AsyncAPI 3 document instead.")
@click.argument("payload", required=False, type=click.Choice(["port-event", "manifest", "host", "directory"]))
@faults_as_exit_status
def schema(asyncapi: bool, payload: str | None) -> None:
    """Print the JSON Schema of every payload on the bus, or of one.

    Example: portwatch schema port-event
    """
    from portwatch.cli import contract

    contract.show(payload, asyncapi, str(Config().bus.prefix))


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete commands, options, and the names that the local agent knows.

    Example: portwatch completion bash > /etc/bash_completion.d/portwatch
    """
    click.echo(script(main, shell))


@main.group("directory")
def directory_group() -> None:
    """Describe ports on the bus: for orchestrators that write no OVSDB keys (ports.details = "directory")."""


@directory_group.command("set")
@CONFIG
@click.argument("port")
@click.argument("changes", metavar="KEY=VALUE...", nargs=-1, required=True)
@faults_as_exit_status
def directory_set(config: Path | None, port: str, changes: tuple[str, ...]) -> None:
    """Set keys of a port's details; the others stay. KEY= takes a key back to its default.

    Example: portwatch directory set 3f0c network-id=blue segmentation-id=100 fixed-ips=10.0.0.5,fd00::5
    """
    from portwatch.cli import directory

    directory.put(loaded(config), port, changes)


@directory_group.command("get")
@CONFIG
@AS_JSON
@click.argument("port")
@faults_as_exit_status
def directory_get(config: Path | None, port: str, as_json: bool) -> None:
    """Show a port's details.

    Example: portwatch directory get 3f0c --json
    """
    from portwatch.cli import directory

    directory.show(loaded(config), port, as_json)


@directory_group.command("delete")
@CONFIG
@click.argument("port")
@faults_as_exit_status
def directory_delete(config: Path | None, port: str) -> None:
    """Take a port's details away; where it is plugged in now it keeps what it has.

    Example: portwatch directory delete 3f0c
    """
    from portwatch.cli import directory

    directory.remove(loaded(config), port)
