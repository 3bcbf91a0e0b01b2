"""How far the bridges are with what is wanted, and which ports are installed by that.

Each change of what is wanted makes a new generation. A port is installed once both bridges hold the generation that it
awaits.
"""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from portwatch.fabric.pipeline import Bridge
from portwatch.model import PortId


class Progress:
    """One hypervisor's. Who `rewired` ports says, when their flows are wanted, that these are to `expect` them."""

    def __init__(self) -> None:
        self.generation = 0
        """Counts the inputs that changed what is wanted."""
        self._installed: set[PortId] = set()
        self._rewired: set[PortId] = set()
        self._awaiting: dict[PortId, int] = {}
        self._done = dict.fromkeys(Bridge, -1)

    @property
    def reached(self) -> int:
        """The generation that both bridges hold by now."""
        return min(self._done.values())

    @property
    def awaited(self) -> AbstractSet[PortId]:
        """The ports whose flows are not yet committed."""
        return self._awaiting.keys()

    @property
    def installed(self) -> AbstractSet[PortId]:
        """The ports whose flows are committed."""
        return self._installed

    def rewired(self, port_id: PortId) -> None:
        """A port needs other flows than before."""
        self._rewired.add(port_id)
        self._installed.discard(port_id)

    def forget(self, port_id: PortId) -> None:
        """A port is here no more."""
        self._rewired.discard(port_id)
        self._installed.discard(port_id)
        self._awaiting.pop(port_id, None)

    def expect(self, admitted: Iterable[PortId]) -> None:
        """The ports that were rewired, and those *admitted* only now, are installed when what is wanted now is."""
        self._awaiting.update(dict.fromkeys((*self._rewired, *admitted), self.generation))
        self._rewired.clear()

    def committed(self, bridge: Bridge, generation: int) -> None:
        """A bridge holds what was wanted at *generation*."""
        self._done[bridge] = max(self._done[bridge], generation)

    def ready(self) -> tuple[PortId, ...]:
        """Return the ports whose flows both bridges hold by now."""
        reached = self.reached
        return tuple(port_id for port_id, generation in self._awaiting.items() if generation <= reached)

    def install(self, port_id: PortId) -> None:
        """Nothing is awaited for this port any more."""
        del self._awaiting[port_id]
        self._installed.add(port_id)
