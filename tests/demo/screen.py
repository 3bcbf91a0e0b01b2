"""What the newcomer sees: numbered steps and aligned lines, at most 100 columns wide; colour only on a terminal."""

import os
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from textwrap import wrap

from tests.demo.tenants import tenant_of

WIDTH = 100
MARGIN = 4
CLAIM_WIDTH = 50

BOLD, DIM, GOOD, BAD = "1", "2", "32", "1;31"
TENANT_STYLES = {"blue": "94", "amber": "33"}


class Screen:
    """Standard output. Two threads may write: the story, and what the bus says meanwhile."""

    def __init__(self) -> None:
        self.started = time.time()
        self._colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._lock = threading.Lock()
        self._steps = 0
        utf8 = (sys.stdout.encoding or "").lower().startswith("utf")
        self._yes, self._no = ("✓", "✗") if utf8 else ("ok", "NO")

    def paint(self, text: str, style: str | None) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if style and self._colour else text

    def line(self, text: str = "", margin: int = MARGIN) -> None:
        with self._lock:
            print(f"{' ' * margin}{text}".rstrip(), flush=True)

    def title(self, text: str) -> None:
        self.line(self.paint(text, BOLD), 1)

    def verdict(self, text: str, *, held: bool) -> None:
        self.line(self.paint(text, f"{BOLD};{GOOD}" if held else BAD))

    def step(self, text: str) -> None:
        """Begin a numbered step."""
        self._steps += 1
        self.line()
        self.line(self.paint(f"{self._steps:>2}  {text}", BOLD), 0)

    def chapter(self, text: str) -> None:
        """Begin a part without a number."""
        self.line()
        self.line(self.paint(text, BOLD))

    def note(self, text: str) -> None:
        """Explain, quietly, in as many lines as it takes."""
        for line in wrap(text, WIDTH - MARGIN, break_on_hyphens=False):
            self.line(self.paint(line, DIM))

    def proved(self, claim: str, figure: str) -> None:
        """Show a claim that holds, and beside it its figure, in as many lines as that takes."""
        begin = MARGIN + 2 + CLAIM_WIDTH + 2
        first, *rest = wrap(figure, WIDTH - begin, break_on_hyphens=False) or [""]
        self.line(f"{self.paint(self._yes, GOOD)} {claim:<{CLAIM_WIDTH}}  {first}")
        for line in rest:
            self.line(line, begin)

    def failed(self, claim: str) -> None:
        self.line(self.paint(f"{self._no} {claim}", BAD))

    def news(self, seconds: float, cells: Sequence[tuple[str, int]]) -> None:
        """Show one message from the bus: each cell padded to its width."""
        words = "  ".join(self._tinted(text, f"{text:<{width}}") for text, width in cells)
        self.line(f"{self.paint(f'{seconds:7.3f}', DIM)}  {words}")

    def head(self, first: str, cells: Sequence[tuple[str, int]]) -> None:
        """Name the columns of the messages to come."""
        self.line(self.paint("  ".join([first, *(f"{text:<{width}}" for text, width in cells)]), DIM))

    def table(self, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Show rows below their heads; columns of numbers stand to the right."""
        rows = [list(row) for row in rows]
        columns = list(zip(heads, *rows, strict=True))
        widths = [max(map(len, column)) for column in columns]
        numbers = [all(map(_is_number, column[1:])) for column in columns]

        def pad(cell: str, place: int) -> str:
            return f"{cell:>{widths[place]}}" if numbers[place] else f"{cell:<{widths[place]}}"

        self.line(self.paint("   ".join(pad(head, place) for place, head in enumerate(heads)), DIM))
        for row in rows:
            self.line("   ".join(self._tinted(cell, pad(cell, place)) for place, cell in enumerate(row)))

    def _tinted(self, text: str, padded: str) -> str:
        """Give what belongs to a tenant its colour."""
        return self.paint(padded, TENANT_STYLES.get(tenant_of(text)))


def _is_number(cell: str) -> bool:
    return cell == "-" or cell.removesuffix(" ms").removeprefix("-").replace(",", "").isdigit()


def milliseconds(seconds: float) -> str:
    """Return a duration as people read it."""
    return f"{seconds * 1000:,.0f} ms"
