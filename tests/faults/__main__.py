"""`make faults`: play the matrix row by row, print it, and write it into docs/reliability.md.

Exit status: 0 when all promises held, 1 when not. Rows picked by `-k` are printed only.
"""

import argparse
import os
import platform
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from tests.faults.fault import Fault
from tests.faults.matrix import CHAPTERS
from tests.faults.runner import INTERVAL, Outcome, suffer
from tests.faults.stage import Stage
from tests.lab import Lab, LabError, shell
from tests.system.conftest import Site

PAGE = Path("docs/reliability.md")
BEGIN, END = "<!-- make faults: begin -->\n", "<!-- make faults: end -->\n"
HEAD = (
    "| what happens | probes lost | silence | converged after | flows touched | elsewhere | beside that |\n"
    "|---|---|---|---|---|---|---|\n"
)


def main() -> int:
    """Play the rows, print what they cost, and return the exit status."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("-k", metavar="WORD", default="", help="only the rows that have this word in their names")
    parser.add_argument("--rounds", type=int, default=1, help="play all of it so many times")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: at least one")
    chapters = [
        (rows.about, [fault for fault in rows.faults if options.k in f"{rows.about}: {fault.name}"])
        for rows in CHAPTERS
    ]
    if not any(faults for _, faults in chapters):
        parser.error(f"-k {options.k}: no row has that in its name; docs/reliability.md names them")
    outcomes: list[list[Outcome]] = []
    held = True
    with ExitStack() as stack:
        stage = Stage(a_site(stack))
        for number in range(options.rounds):
            if options.rounds > 1:
                print(f"\n=== round {number + 1} of {options.rounds}")
            outcomes = []
            for about, faults in chapters:
                if faults:
                    print(f"\n{about}")
                outcomes.append([_play(stage, fault) for fault in faults])
            held &= not any(outcome.wrong for chapter in outcomes for outcome in chapter)
    if held and not options.k:
        _write(zip((about for about, _ in chapters), outcomes, strict=True))
        print(f"\nwritten to {PAGE}")
    print("\nAll of it held." if held else "\nIt did not hold.")
    return 0 if held else 1


def a_site(stack: ExitStack) -> Site:
    """Start three hypervisors with an agent each; *stack* ends them."""
    lab = stack.enter_context(Lab(3))
    agents = {hypervisor.name: lab.agent(hypervisor) for hypervisor in lab.hypervisors}
    for agent in agents.values():
        agent.start()
    for agent in agents.values():
        agent.wait_ready()
    return Site(lab, agents)


def _play(stage: Stage, fault: Fault) -> Outcome:
    """Play one row, and say at once what it cost."""
    print(f"  {fault.name:<72}", end="", flush=True)
    started = time.monotonic()
    try:
        outcome = suffer(stage, fault)
    except (LabError, AssertionError, OSError) as error:
        outcome = Outcome(fault, notes=stage.notes, wrong=[str(error)])
    print(f"{_lost(outcome):>18} {_silence(outcome):>26}", end="")
    print(f"  converged {outcome.seconds:5.1f} s  flows {_flows(outcome):>10}", end="")
    print(f"  ({time.monotonic() - started:.1f} s)")
    for words in outcome.notes:
        print(f"      {words}")
    for words in outcome.wrong:
        print(f"      NOT SO: {words}")
    return outcome


def _write(chapters: Iterable[tuple[str, list[Outcome]]]) -> None:
    """Put the table between its marks."""
    before, rest = PAGE.read_text().split(BEGIN)
    _, after = rest.split(END)
    table = "".join(f"| **{about}** | | | | | | |\n" + "".join(map(_row, outcomes)) for about, outcomes in chapters)
    PAGE.write_text(f"{before}{BEGIN}{_machine()}\n\n{HEAD}{table}{END}{after}")


def _row(outcome: Outcome) -> str:
    notes = "; ".join(outcome.notes)
    return (
        f"| {outcome.fault.name} | {_lost(outcome)} | {_silence(outcome)} | {outcome.seconds:.1f} s | {_flows(outcome)}"
        f" | {outcome.elsewhere} | {notes} |\n"
    )


def _lost(outcome: Outcome) -> str:
    return f"{outcome.lost}{_without(str(outcome.alone.probes) if outcome.alone else None)}"


def _silence(outcome: Outcome) -> str:
    own = f"{1000 * outcome.alone.silence:,.0f}" if outcome.alone else None
    return f"{1000 * outcome.silence:,.0f} ms{_without(own)}"


def _without(figure: str | None) -> str:
    return "" if figure is None else f" (without: {figure})"


def _flows(outcome: Outcome) -> str:
    return f"{outcome.flows} of {outcome.of_flows}"


def _machine() -> str:
    switch = shell.run("ovs-vswitchd", "--version").partition("\n")[0].split()[-1]
    system = platform.freedesktop_os_release()["PRETTY_NAME"]
    words = (f"{datetime.now(UTC):%Y-%m-%d}", f"{os.cpu_count()} shared cores", system, f"Open vSwitch {switch}")
    return f"{', '.join(words)}, Python {platform.python_version()}; a probe every {1000 * INTERVAL:.0f} ms."


if __name__ == "__main__":
    sys.exit(main())
