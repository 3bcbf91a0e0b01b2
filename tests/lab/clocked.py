"""portwatch with a clock of its own: `python -m tests.lab.clocked FILE run` adds the hours that FILE holds to the time.

Its time of day alone: what it measures by the clock that only goes forward stays true, as when somebody steps the
clock of a machine. (libfaketime cannot do that: with the one clock faked and the other not, no program may sleep.)
"""

import sys
from datetime import datetime, timedelta
from pathlib import Path

from portwatch import agent, exchange, hearing
from portwatch.cli import main

_true = hearing.now
_offset = Path(sys.argv.pop(1))


def now() -> datetime:
    """Return the time of day by this clock."""
    return _true() + timedelta(hours=float(_offset.read_text()))


if __name__ == "__main__":
    hearing.now = exchange.now = agent.now = now  # type: ignore[attr-defined]  # it is hearing's, and the others' too
    main()
