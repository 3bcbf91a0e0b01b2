"""KEEP=1: the lab stays until Ctrl-C, or Enter on a terminal; a script, `enter`, runs a command anywhere in it."""

import os
import shlex
import signal
import sys
from contextlib import suppress
from pathlib import Path

from tests.demo.screen import DIM
from tests.demo.stage import Stage
from tests.demo.tenants import BLUE_APP, BLUE_WEB
from tests.lab.agent import HTTP_LISTEN

COMMAND_WIDTH = 59

HEAD = """\
#!/bin/sh
# enter PLACE [COMMAND...]: a shell, or a command, on a hypervisor, in a guest or beside the broker of this demo
place=$1
[ $# -gt 0 ] && shift
case $place in
"""
TAIL = """\
*) echo "enter PLACE [COMMAND...], where PLACE is one of: {places}" >&2; exit 2 ;;
esac
[ $# -gt 0 ] || set -- "${{SHELL:-/bin/sh}}"
exec nsenter --net="/run/netns/$namespace" "$@"
"""


def enter_script(stage: Stage) -> Path:
    """Write `enter`, with the environment that each place needs."""
    common = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    if "PYTHONPATH" in os.environ:
        common["PYTHONPATH"] = os.pathsep.join(
            str(Path(path).resolve()) for path in os.environ["PYTHONPATH"].split(os.pathsep)
        )
    places = {"broker": _case("broker", stage.lab.broker.namespace.name, {})}
    for hypervisor in stage.lab.hypervisors:
        settings = stage.agents[hypervisor.name].environment.items()
        environment = {key: value for key, value in settings if key.startswith("PORTWATCH_")}
        environment |= common | {"OVS_RUNDIR": str(hypervisor.rundir)}
        places[hypervisor.name] = _case(hypervisor.name, hypervisor.namespace.name, environment)
    for name, vm in stage.lab.vms.items():
        places[name] = _case(name, vm.namespace.name, {})
    path = stage.lab.state / "enter"
    path.write_text(HEAD + "".join(places.values()) + TAIL.format(places=" ".join(places)))
    path.chmod(0o755)
    return path


def keep(stage: Stage) -> None:
    """Say how to look around, and wait."""
    enter = enter_script(stage)
    portwatch = "portwatch" if (Path(sys.executable).parent / "portwatch").exists() else "python -m portwatch"
    logs = stage.agents["hv1"].process.errors.path
    stage.screen.chapter("It is still running (KEEP=1). From another terminal, as root:")
    for place, command, words in (
        ("hv1", f"{portwatch} doctor", "what is wrong with a host"),
        ("hv1", f"{portwatch} ports", "also: networks, peers, fdb, flows"),
        ("hv2", f"{portwatch} explain {BLUE_WEB.name}", "who has this port, and why"),
        ("hv2", f"{portwatch} trace {BLUE_APP.name} {BLUE_WEB.card.address}", "where a packet goes, and why"),
        ("hv3", f"{portwatch} events", "the bus, live"),
        ("hv1", f"curl -s http://{HTTP_LISTEN}/metrics", "there alone; / is the page for people"),
        ("hv3", "ovs-ofctl dump-flows br-tun", "what the switch holds"),
        (BLUE_APP.name, f"ping {BLUE_WEB.card.address}", "a guest"),
        ("hv2", "", "a shell; without any word: all places"),
    ):
        if place in stage.lab.vms or place in stage.agents:
            _offer(stage, f"{enter} {place} {command}", words)
    _offer(stage, f"tail -f {logs}", "hv1's log; the others' lie beside it")
    stage.screen.line()
    if sys.stdin.isatty():
        stage.screen.line("Enter or Ctrl-C removes everything.")
        with suppress(KeyboardInterrupt):
            sys.stdin.readline()
    else:
        stage.screen.line(f"Ctrl-C, or `kill {os.getpid()}`, removes everything.")
        with suppress(KeyboardInterrupt):
            signal.pause()


def _offer(stage: Stage, command: str, words: str) -> None:
    stage.screen.line(f"{command:<{COMMAND_WIDTH}}  {stage.screen.paint(words, DIM)}")


def _case(place: str, namespace: str, environment: dict[str, str]) -> str:
    exports = "".join(f" export {key}={shlex.quote(value)};" for key, value in environment.items())
    return f"{place}) namespace={namespace};{exports} ;;\n"
