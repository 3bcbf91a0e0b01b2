"""Too many moves: docs/mobility.md. A MAC whose winner changes too often is frozen: flooded.

RFC 7432, 15.1 (duplicate MAC detection), with FRRouting's defaults. Times are seconds of a clock that only goes on.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from portwatch.model import HostName, Mac, Segment

MOVES_MAX: Final = 5
WITHIN: Final = 180.0
QUIET: Final = 1800.0

Station = tuple[Segment, Mac]


@dataclass(slots=True)
class Track:
    """Where a station was last, and when it moved."""

    host: HostName
    moved: deque[float] = field(default_factory=lambda: deque(maxlen=MOVES_MAX + 1))


class Moves:
    """Watches the winners. It asks nothing and decides one thing: which stations are frozen."""

    def __init__(self) -> None:
        self.frozen: dict[Station, float] = {}
        """Frozen stations, and when each moved last."""
        self.count = 0
        self._tracks: dict[Station, Track] = {}

    def observe(self, station: Station, winner: HostName | None, clock: float) -> bool:
        """The station's claims say *winner* now (None: nobody in particular). True when this freezes it."""
        track = self._tracks.get(station)
        if winner is None:
            return False
        if track is None:
            self._tracks[station] = Track(winner)
            return False
        if track.host == winner:
            return False
        track.host = winner
        track.moved.append(clock)
        self.count += 1
        if station in self.frozen:
            self.frozen[station] = clock
            return False
        if len(track.moved) > MOVES_MAX and clock - track.moved[0] <= WITHIN:
            self.frozen[station] = clock
            return True
        return False

    def forget(self, station: Station) -> bool:
        """Nobody claims the station any more. True when it was frozen."""
        self._tracks.pop(station, None)
        return self.frozen.pop(station, None) is not None

    def settle_down(self, station: Station) -> bool:
        """One claim is left: nothing to fight about. True when the station was frozen."""
        return self.frozen.pop(station, None) is not None

    def quiet(self, clock: float) -> list[Station]:
        """Thaw, and return, the stations that have not moved for long."""
        thawed = [station for station, last in self.frozen.items() if clock - last >= QUIET]
        for station in thawed:
            del self.frozen[station]
            self._tracks[station].moved.clear()
        return thawed
