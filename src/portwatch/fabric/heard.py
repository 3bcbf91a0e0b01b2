"""What the other hosts claim, as far as it is heard here: by claim, by network, by port, and by host."""

from collections import Counter
from collections.abc import Collection, Hashable, Iterable
from typing import TypeVar

from portwatch.events import ClaimKey, key_of
from portwatch.model import Claim, HostName, NetworkId, PortId

K = TypeVar("K", bound=Hashable)


class Heard:
    """The claims held, and indexes over them; who counts, and wins, is no business of this."""

    def __init__(self) -> None:
        self.claims: dict[ClaimKey, Claim] = {}
        self.hosts: Counter[HostName] = Counter()
        """The hosts whose claims are held, and how many."""
        self.changes = 0
        """Counts how often a host came to `hosts`, or went."""
        self._of_network: dict[NetworkId | None, set[ClaimKey]] = {}
        self._of_port: dict[tuple[NetworkId | None, PortId], set[ClaimKey]] = {}

    def put(self, claim: Claim) -> Claim | None:
        """Hold a claim as it is now; return it as it was held before."""
        key = key_of(claim)
        before = self.claims.get(key)
        self.claims[key] = claim
        if before is None:
            network_id, host, port_id = key
            self._of_network.setdefault(network_id, set()).add(key)
            self._of_port.setdefault((network_id, port_id), set()).add(key)
            self.hosts[host] += 1
            self.changes += self.hosts[host] == 1
        return before

    def pop(self, key: ClaimKey) -> Claim | None:
        """Let go of a claim; return it, if it was held."""
        claim = self.claims.pop(key, None)
        if claim is not None:
            network_id, host, port_id = key
            _discard(self._of_network, network_id, key)
            _discard(self._of_port, (network_id, port_id), key)
            self.hosts[host] -= 1
            if not self.hosts[host]:
                del self.hosts[host]
                self.changes += 1
        return claim

    def of_network(self, network_id: NetworkId) -> Iterable[Claim]:
        """Return the claims in a network."""
        return (self.claims[key] for key in self._of_network.get(network_id, ()))

    def of_port(self, network_id: NetworkId | None, port_id: PortId) -> Collection[ClaimKey]:
        """Return the keys of the claims of one port."""
        return self._of_port.get((network_id, port_id), ())

    def of_hosts(self, hosts: Collection[HostName]) -> list[Claim]:
        """Return the claims of these hosts. It looks at all there are."""
        return [claim for key, claim in self.claims.items() if key[1] in hosts]


def _discard(index: dict[K, set[ClaimKey]], of: K, key: ClaimKey) -> None:
    index[of].discard(key)
    if not index[of]:
        del index[of]
