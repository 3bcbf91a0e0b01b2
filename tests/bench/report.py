"""Where figures are kept: as JSON, as pictures, and as tables between two marks in docs/performance.md."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench.samples import Row, table

PAGE = Path("docs/performance.md")
FOLDER = Path("docs/performance")
RESULTS = FOLDER / "results.json"
BEGIN, END = "<!-- figures: written by `make bench` -->", "<!-- figures: end -->"
PICTURES = {
    "plug": "A port and its end, stage by stage, beside the bare parts",
    "peers": "portwatch and OVN, case by case",
    "growth": "What grows with the network, and with the burst",
    "size": "Restarts by entries, memory by hosts",
}


def keep(name: str, rows: Sequence[Row], scale: float) -> None:
    """Keep one benchmark's figures; the others keep theirs."""
    known = _known()
    when = datetime.now(UTC).isoformat(timespec="seconds")
    known[name] = {"when": when, "scale": scale, "machine": machine(name), "rows": [row.json() for row in rows]}
    FOLDER.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n")


def publish(order: Sequence[str]) -> None:
    """Draw what is kept, and write it into the page, in the benchmarks' *order*."""
    from tests.bench import plots  # noqa: PLC0415  matplotlib is there for those who write

    known = {name: _known()[name] for name in order if name in _known()}
    rows = {name: [Row.of_json(row) for row in each["rows"]] for name, each in known.items()}
    drawn = plots.draw(rows, FOLDER)
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"{PAGE} has not both of {BEGIN} and {END}")
    PAGE.write_text(before + "\n\n".join([BEGIN, *_sections(known, rows, drawn), END]) + after)


def _sections(known: Mapping[str, Any], rows: Mapping[str, Sequence[Row]], drawn: Sequence[str]) -> list[str]:
    sections = ["## Goals", _goals([row for each in rows.values() for row in each])]
    sections += [f"![{PICTURES[name]}]({FOLDER.name}/{name}.svg)" for name in drawn]
    for name, each in rows.items():
        run = known[name]
        sections += [f"## `{name}`", f"{run['machine']}; {run['when']}, scale {run['scale']:g}.", table(name, each)]
    return sections


def _goals(rows: Sequence[Row]) -> str:
    """Return a table of the rows of which something is asked."""
    lines = ["| goal | at most | measured | reached |", "|---|---|---|---|"]
    for row in rows:
        if row.goal is None:
            continue
        wanted, said = f"{row.goal:g} {row.unit}", row.said
        if row.samples is not None:
            wanted, said = f"{1000 * row.goal:,g} ms", f"{1000 * row.value:,.0f} ms"
        lines.append(
            f"| {row.name} | {wanted.strip()} | {said.strip()} | {'yes' if row.value <= row.goal else '**no**'} |"
        )
    return "\n".join(lines)


def machine(name: str) -> str:
    """Say on what a benchmark ran: what moves absolute times."""
    system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    words = [f"{os.cpu_count()} cores", system, f"Open vSwitch {_version('ovs-vswitchd')}"]
    words += [f"Python {platform.python_version()}"]
    words += [f"OVN {_version('ovn-controller')}"] if name == "peers" else []
    return ", ".join(words)


def _version(program: str) -> str:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return said.splitlines()[0].split()[-1]


def _known() -> dict[str, Any]:
    known: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return known
