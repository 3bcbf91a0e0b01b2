"""Pictures of what was measured, PNG and SVG: what a port costs, beside OVN, and how it grows."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from tests.bench.samples import Row

Results = Mapping[str, Sequence[Row]]
"""By the name of a benchmark."""

BLUE, ORANGE, GREY = "#1f6feb", "#d9730d", "#8c959f"
COLOURS = {"portwatch": BLUE, "OVN": ORANGE}
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#d8dee4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.hashsalt": "portwatch",  # the same figures are the same file
}
WIDTH = 9.0


def draw(results: Results, folder: Path) -> list[str]:
    """Draw what the results allow; return the pictures' names, without their endings.

    A picture of what grows needs more than one size, which a quick run does not measure.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    with mpl.rc_context(STYLE):
        for name, (needed, picture) in PICTURES.items():
            if all(_enough(results.get(bench, ()), series) for bench, series in needed):
                figure = picture(results)
                for ending in ("png", "svg"):
                    metadata: dict[str, Any] = {"Date": None} if ending == "svg" else {"Software": None}
                    figure.savefig(
                        folder / f"{name}.{ending}", dpi=110, facecolor="white", metadata=metadata, bbox_inches="tight"
                    )
                drawn.append(name)
    return drawn


def _plug(results: Results) -> Figure:
    """The stages of a plug and an unplug: medians as bars, up to the 95th percentile as a line."""
    rows = [row for row in results["plug"] if row.samples is not None]
    figure = Figure(figsize=(WIDTH, 0.36 * len(rows) + 1.0))
    axes = figure.subplots()
    for place, row in enumerate(rows):
        assert row.samples is not None
        p50, p95 = 1000 * row.samples.p50, 1000 * row.samples.p95
        axes.barh(place, p50, color=BLUE if "commit →" in row.name else GREY, height=0.62)
        axes.plot([p50, p95], [place, place], color="black", linewidth=1)
        axes.text(p95, place, f"  {p50:.1f}", va="center", fontsize=9)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlim(left=0)
    axes.set_xlabel("milliseconds: median (bar and number) and 95th percentile (line)")
    axes.set_title("A port and its end (blue), and the bare parts (grey)", loc="left")
    return figure


def _peers(results: Results) -> Figure:
    """Portwatch and OVN side by side, case by case."""
    cases: dict[str, dict[str, Row]] = {}
    for row in results["peers"]:
        case, _, side = row.name.rpartition(": ")
        if row.samples is not None and side in COLOURS:
            cases.setdefault(case, {})[side] = row
    figure = Figure(figsize=(WIDTH, 0.55 * len(cases) + 1.2))
    axes = figure.subplots()
    for number, (side, colour) in enumerate(COLOURS.items()):
        for place, rows in enumerate(cases.values()):
            samples = rows[side].samples
            assert samples is not None
            p50, p95, height = 1000 * samples.p50, 1000 * samples.p95, place + 0.36 * (number - 0.5)
            axes.barh(height, p50, color=colour, height=0.34, label=None if place else side)
            axes.plot([p50, p95], [height, height], color="black", linewidth=1)
            axes.text(p95, height, f"  {p50:,.1f}" if p50 < 100 else f"  {p50:,.0f}", va="center", fontsize=9)
    axes.set_yticks(range(len(cases)), list(cases))
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.grid(axis="y", visible=False)
    axes.set_xlim(left=1, right=axes.get_xlim()[1] * 2)
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.set_xlabel("milliseconds, log scale: median (bar and number) and 95th percentile (line)")
    axes.set_title("From the commit in OVSDB to the last entry on another host", loc="left")
    axes.legend(loc="upper right")
    return figure


def _growth(results: Results) -> Figure:
    """What grows with a network, and what with a burst."""
    figure = Figure(figsize=(WIDTH, 3.6))
    networks, bursts = figure.subplots(1, 2)
    peers = results["peers"]  # both panels: what is compared is of one run
    for side, colour in COLOURS.items():
        _line(networks, _series(peers, f"change: {side}"), f"{side}: one change", colour)
        _line(networks, _series(peers, f"first: {side}"), f"{side}: a network's first port", colour, dashed=True)
        _line(bursts, [*_series(peers, f"plug: {side}"), *_series(peers, f"burst: {side}")], side, colour)
    networks.set_title("By the ports of the network", loc="left")
    bursts.set_title("By the ports plugged in one transaction", loc="left")
    networks.set_ylabel("ms until the last entry")
    return figure


def _size(results: Results) -> Figure:
    """What a start takes with ever more entries, and what an agent holds in ever larger fleets."""
    figure = Figure(figsize=(WIDTH, 3.2))
    starts, fleets = figure.subplots(1, 2)
    _line(starts, _series(results["restart"], "ready"), "killed and started again", BLUE)
    starts.set_title("Entries in the switch → ms until ready", loc="left")
    _line(fleets, _series(results["fleet"], "fleet"), "5 networks here, the others' elsewhere", BLUE, factor=1)
    fleets.set_yscale("linear")
    fleets.set_ylim(bottom=0)
    fleets.set_title("Hosts of 50 ports on the bus → MB held", loc="left")
    return figure


def _enough(rows: Sequence[Row], series: str) -> bool:
    return len(_series(rows, series)) > 1 if series else bool(rows)


def _series(rows: Sequence[Row], name: str) -> list[Row]:
    return sorted((row for row in rows if row.series == name), key=lambda row: row.size)


def _line(
    axes: Any, rows: Sequence[Row], label: str, colour: str, *, dashed: bool = False, factor: float = 1000
) -> None:
    sizes, values = [row.size for row in rows], [factor * row.value for row in rows]
    axes.plot(sizes, values, color=colour, label=label, marker="o", markersize=4, linestyle="--" if dashed else "-")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.legend(fontsize=8)


PICTURES: dict[str, tuple[Sequence[tuple[str, str]], Callable[[Results], Figure]]] = {
    "plug": ([("plug", "")], _plug),
    "peers": ([("peers", "")], _peers),
    "growth": ([("peers", "change: OVN"), ("peers", "burst: OVN")], _growth),
    "size": ([("restart", "ready"), ("fleet", "fleet")], _size),
}
"""Name → the benchmarks that it needs, with the series that must have several sizes; and how it is drawn."""
