"""Plays the demo. Exit status: 0 when all of it held, 1 when not, 130 after Ctrl-C; nothing is left in any case.

With KEEP=1 it stays, at its end, until Ctrl-C, or Enter on a terminal.
"""

import os
import sys
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter

from tests.demo.keep import keep
from tests.demo.news import News
from tests.demo.proofs import Failed, Proofs
from tests.demo.screen import Screen
from tests.demo.stage import Stage
from tests.demo.story import tell
from tests.lab import Lab, LabError
from tests.lab.namespaces import existing
from tests.lab.ownership import ProcessId, Record

INTERRUPTED = 130


def main() -> int:
    """Play it, remove everything, and return the exit status."""
    ArgumentParser("tests.demo", description=__doc__, formatter_class=RawDescriptionHelpFormatter).parse_args()
    if os.geteuid() != 0:
        print("The demo makes network namespaces and switches, which needs root: sudo make demo", file=sys.stderr)
        return 1
    screen = Screen()
    screen.title("portwatch: three hypervisors, one broker, two tenants with the same addresses")
    screen.step("Three hypervisors and a broker, in network namespaces of this machine")
    status = 1
    record: Record | None = None
    processes: list[ProcessId] = []
    try:
        with Lab(hypervisors=3) as lab:
            record = Record(lab.token)
            try:
                status = 0 if play(lab, screen) else 1
            finally:
                processes = record.processes()
    except LabError as error:
        screen.failed(f"the lab: {error}")
    except KeyboardInterrupt:
        screen.line()
        screen.line("Interrupted.")
        status = INTERRUPTED
    if record and (left := leftovers(record, processes)):
        screen.failed(f"left behind: {', '.join(left)}")
        return status or 1
    screen.line(f"Removed: {len(processes)} processes, all namespaces, all files.")
    return status


def play(lab: Lab, screen: Screen) -> bool:
    """Play it in a lab that is up; tell whether all of it held."""
    agents = {hypervisor.name: lab.agent(hypervisor) for hypervisor in lab.hypervisors}
    proofs = Proofs(screen, agents)
    failure: Failed | None = None
    with News(lab.broker, screen) as news:
        stage = Stage(lab, screen, proofs, news, agents)
        try:
            tell(stage)
        except Failed as error:
            failure = error
        screen.chapter("What was proved")
        for proof in proofs.done:
            screen.proved(proof.claim, proof.figure)
        if failure:
            screen.failed(str(failure))
        took = time.time() - screen.started
        screen.line()
        screen.verdict(f"{'It did not hold' if failure else 'All of it held'}, in {took:.0f} s.", held=not failure)
        if os.environ.get("KEEP", "0") not in ("", "0"):
            keep(stage)
    return failure is None


def leftovers(record: Record, processes: list[ProcessId]) -> list[str]:
    """Return what a lab has left on this machine: nothing, if all is well."""
    left = [*existing(record.namespace_prefix), *(f"pid {process.pid}" for process in processes if process.alive())]
    return left + ([str(record.directory)] if record.directory.exists() else [])


if __name__ == "__main__":
    sys.exit(main())
