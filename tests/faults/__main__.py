"""`make faults`: play the matrix row by row, print it, and write it into docs/reliability.md.

Exit status: 0 when all promises held, 1 when not. Rows picked by `-k` are printed only.
"""

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from tests.faults.fault import Fault
from tests.faults.matrix import CHAPTERS
from tests.faults.runner import INTERVAL, Outcome, suffer
from tests.faults.stage import Loss, Stage
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
    rounds: list[list[list[Outcome]]] = []
    """Of each round: of each chapter: of each row."""
    held = True
    with ExitStack() as stack:
        stage = Stage(a_site(stack))
        for number in range(options.rounds):
            if options.rounds > 1:
                print(f"\n=== round {number + 1} of {options.rounds}")
            rounds.append([])
            for about, faults in chapters:
                if faults:
                    print(f"\n{about}")
                rounds[-1].append([_play(stage, fault) for fault in faults])
            held &= not any(outcome.wrong for chapter in rounds[-1] for outcome in chapter)
    if held and not options.k:
        _write((about for about, _ in chapters), rounds)
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
    lost, silence, converged, flows, _ = _figures([outcome])
    print(f"{lost:>18} {silence:>26}  converged {converged:>7}  flows {flows:>10}", end="")
    print(f"  ({time.monotonic() - started:.1f} s)")
    for words in outcome.notes:
        print(f"      {words}")
    for words in outcome.wrong:
        print(f"      NOT SO: {words}")
    return outcome


def _write(abouts: Iterable[str], rounds: list[list[list[Outcome]]]) -> None:
    """Put the table between its marks."""
    before, rest = PAGE.read_text().split(BEGIN)
    _, after = rest.split(END)
    table = ""
    for about, *chapters in zip(abouts, *rounds, strict=True):
        table += f"| **{about}** | | | | | | |\n" + "".join(map(_row, zip(*chapters, strict=True)))
    PAGE.write_text(f"{before}{BEGIN}{_machine()}{_how_often(len(rounds))}\n\n{HEAD}{table}{END}{after}")


def _how_often(rounds: int) -> str:
    if rounds == 1:
        return ""
    return f" All rows {rounds} times, one round after the other; of each row the lowest and the highest figure."


def _row(outcomes: Sequence[Outcome]) -> str:
    """Return one fault's row, over all rounds; what is to be said beside is that of the last."""
    return f"| {' | '.join((outcomes[-1].fault.name, *_figures(outcomes), '; '.join(outcomes[-1].notes)))} |\n"


def _figures(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """Return the columns: lost, silence, converged, flows, elsewhere."""
    return (
        _range(outcomes, lambda each: each.lost, without=lambda alone: alone.probes),
        _range(outcomes, lambda each: round(1000 * each.silence), " ms", lambda alone: round(1000 * alone.silence)),
        _range(outcomes, lambda each: round(each.seconds, 1), " s"),
        f"{_range(outcomes, lambda each: each.flows)} of {outcomes[-1].of_flows}",
        _range(outcomes, lambda each: each.elsewhere),
    )


def _range(
    outcomes: Sequence[Outcome],
    figure: Callable[[Outcome], float],
    unit: str = "",
    without: Callable[[Loss], float] | None = None,
) -> str:
    """Say from where to where a figure went; *without*: what it was while portwatch did not run, if anybody looked."""
    low, high = min(map(figure, outcomes)), max(map(figure, outcomes))
    text = f"{high:,}{unit}" if low == high else f"{low:,} to {high:,}{unit}"
    alone = outcomes[-1].alone
    return text if alone is None or without is None else f"{text} (without: {without(alone):,})"


def _machine() -> str:
    switch = shell.run("ovs-vswitchd", "--version").partition("\n")[0].split()[-1]
    system = platform.freedesktop_os_release()["PRETTY_NAME"]
    words = (f"{datetime.now(UTC):%Y-%m-%d}", f"{os.cpu_count()} shared cores", system, f"Open vSwitch {switch}")
    return f"{', '.join(words)}, Python {platform.python_version()}; a probe every {1000 * INTERVAL:.0f} ms."


if __name__ == "__main__":
    sys.exit(main())
