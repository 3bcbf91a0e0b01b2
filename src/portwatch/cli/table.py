"""Rows as a table for people: one line a row, columns as wide as what stands in them, empty columns left out.

On a terminal, what says how something is has a colour, and the widest columns are cut until a line fits; the last
column is never cut, for it holds words.
"""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

HEADINGS: Final = {
    "port_id": "PORT",
    "network_id": "NETWORK",
    "segmentation_id": "VNI",
    "local_vlan": "VLAN",
    "fixed_ips": "ADDRESSES",
    "tunnel_ip": "TUNNEL ADDRESS",
    "took": "SECONDS",
    "peers": "PEER ADDRESSES",
}
COLOURS: Final = {
    **dict.fromkeys(("ACTIVE", "online", "active", "installed", "added"), "green"),
    **dict.fromkeys(("BUILD", "stopped", "leaving", "preparing", "owed", "changing", "warning", "updated"), "yellow"),
    **dict.fromkeys(("ERROR", "offline", "fault", "removed"), "red"),
}
NARROWEST: Final = 8
"""Letters to which a column may be cut."""


def show(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Print *rows* for whoever reads: a person at a terminal, or a pipe."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    click.echo(table(columns, rows, width=width, colour=colourful()), nl=False)


def colourful() -> bool:
    """Does whoever reads see colours, and want them (https://no-color.org)?"""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def table(
    columns: Sequence[str], rows: Sequence[Mapping[str, Any]], *, width: int | None = None, colour: bool = False
) -> str:
    """Return *rows* as text, the given *columns* in their order; at most *width* letters a line, if it can be had."""
    cells = [[_text(row.get(column)) for column in columns] for row in rows]
    shown = [place for place in range(len(columns)) if any(line[place] != "-" for line in cells)]
    head = [HEADINGS.get(columns[place], columns[place].replace("_", " ").upper()) for place in shown]
    lines = [head, *([line[place] for place in shown] for line in cells)]
    widths = _widths(lines, width)
    return "".join(
        "  ".join(_cell(cell, room, colour) for cell, room in zip(line, widths, strict=True)).rstrip() + "\n"
        for line in lines
    )


def printable(text: str) -> str:
    """Return *text* without what moves a terminal: what comes from outside must not write on somebody's screen."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _widths(lines: Sequence[Sequence[str]], width: int | None) -> list[int]:
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    while width is not None and len(widths) > 1 and sum(widths) + 2 * (len(widths) - 1) > width:
        widest = max(range(len(widths) - 1), key=lambda place: widths[place])
        if widths[widest] <= NARROWEST:
            break
        widths[widest] -= 1
    return [*widths[:-1], 0]


def _cell(text: str, room: int, colour: bool) -> str:
    fitting = text if not room or len(text) <= room else f"{text[: room - 1]}…"
    padded = fitting.ljust(room)
    wanted = COLOURS.get(text) if colour else None
    return click.style(padded, fg=wanted) if wanted else padded


def _text(value: Any) -> str:
    if value in (None, "", []):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    if isinstance(value, dict):
        return printable(_entry(value))
    return printable(str(value))


def _entry(value: Mapping[str, Any]) -> str:
    """Return a claim or a segment as one word or two."""
    if "state" in value and "host" in value:
        return f"{value['host']}:{value['state']}@{value['seq']}"
    words = [str(each) for key, each in value.items() if each is not None and key != "local_vlan"]
    return " ".join([*words, f"(VLAN {value['local_vlan']})"] if "local_vlan" in value else words)
