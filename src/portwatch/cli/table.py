"""Rows as a table for people: one line a row, columns as wide as what stands in them, empty columns left out."""

from collections.abc import Mapping, Sequence
from typing import Any

HEADINGS = {
    "port_id": "PORT",
    "network_id": "NETWORK",
    "segmentation_id": "VNI",
    "local_vlan": "VLAN",
    "fixed_ips": "ADDRESSES",
    "tunnel_ip": "TUNNEL ADDRESS",
}


def table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return *rows* as text, the given *columns* in their order."""
    cells = [[_text(row.get(column)) for column in columns] for row in rows]
    shown = [place for place in range(len(columns)) if any(line[place] != "-" for line in cells)]
    head = [HEADINGS.get(columns[place], columns[place].replace("_", " ").upper()) for place in shown]
    lines = [head, *([line[place] for place in shown] for line in cells)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(shown))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n" for line in lines
    )


def _text(value: Any) -> str:
    if value in (None, "", []):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    if isinstance(value, dict):
        if "state" in value and "host" in value:
            return f"{value['host']}:{value['state']}@{value['seq']}"
        return " ".join(str(each) for each in value.values() if each is not None)
    return printable(str(value))


def printable(text: str) -> str:
    """Return *text* without what moves a terminal: what comes from outside must not write on somebody's screen."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
