"""Is what we hold of a network all there is? Manifests against the claims that arrived.

A broker replays retained messages in any order, may lose some, and does not say when it is done. A host's share of a
network is complete when the claims that arrived since we subscribed match its manifest; a claim that the matching
manifest does not count has ended. Nothing ends by mere absence.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from portwatch.events import ClaimKey, Manifest, manifest_of
from portwatch.model import Claim, HostName, NetworkId, PortId

PATIENCE: Final = 5.0
"""Seconds for which a mismatch is not called incomplete: the manifest follows its ports within one."""
QUIET: Final = 2.0
"""Seconds after the subscription before a network counts as settled. Our own share comes back to us, too, by the same
way as the others'; on a broker that replays in order that alone would do, but the order is promised nowhere."""


SILENCE: Final = 30.0
"""Seconds after which a host that is online and states nothing has nothing (docs/contract.md, section 4)."""
ASK_AGAIN: Final = (10.0, 300.0)
"""Seconds between requests for what is retained in a network that stays incomplete: at first, and at most."""
REPLAY_MAX: Final = 120.0
"""Seconds for which asking again is put off as long as retained messages come: a broker may call live ones so."""
PORTION: Final = 400
"""Messages asked for at once: a broker that drops what it cannot send at once (mosquitto by default all but 1,000 and
what the socket takes) would drop the same ones again."""
GUESS: Final = 50
"""Messages of a host whose manifest has not come."""


@dataclass(slots=True)
class Share:
    """One host's part of a network, as far as it has arrived."""

    manifest: Manifest | None = None
    fresh: dict[PortId, Claim] = field(default_factory=dict)
    held: set[PortId] = field(default_factory=set)
    complete: bool = False
    mismatch_since: float | None = None
    unstated_since: float = 0.0
    """Since when there has been no manifest: asking for it again does not begin that anew."""


@dataclass(slots=True)
class Snapshot:
    """A network's shares. `since` is the time of the subscription's acknowledgement, None before."""

    shares: dict[HostName, Share] = field(default_factory=dict)
    since: float | None = None
    pause: float = 10.0
    """Seconds to wait before what is retained is asked for again."""
    asked: tuple[HostName, ...] = ()
    """Of whom it was asked for again."""
    asked_at: float = 0.0
    replayed_at: float = 0.0
    """When something retained last came: as long as more comes, nothing need be asked for again."""
    settled: bool = False
    """Was it complete once since we listen?"""

    def rests(self, now: float) -> bool:
        """Has nothing been asked for, and nothing that is retained come, for as long as is to be waited?"""
        if self.since is None:
            return False
        asked = max(self.since, self.asked_at)
        return now - max(asked, min(self.replayed_at, asked + REPLAY_MAX)) >= self.pause


class Snapshots:
    """The snapshots of the networks that have a port here. Times are seconds of a clock that only goes forward."""

    def __init__(self, here: HostName) -> None:
        self.interest = 0
        """Counts the changes of whom we have heard of: whose status to listen to."""
        self._here = here
        self._networks: dict[NetworkId, Snapshot] = {}

    @property
    def networks(self) -> AbstractSet[NetworkId]:
        """The networks of interest."""
        return self._networks.keys()

    def listen(self, network_id: NetworkId) -> None:
        """The network is of interest from now on."""
        self._networks.setdefault(network_id, Snapshot())

    def ignore(self, network_id: NetworkId) -> None:
        """The network is of no interest any more."""
        self._networks.pop(network_id, None)

    def subscribed(self, network_id: NetworkId, now: float, host: HostName | None = None) -> None:
        """A (new) subscription begins: everything retained comes (again); what was fresh is not any more.

        With *host*, it is one to its share alone; without, to all but ours, which comes by a subscription for itself.
        """
        if (snapshot := self._networks.get(network_id)) is None:
            return
        if host is None:
            snapshot.since = now
        for name, share in list(snapshot.shares.items()):
            if name != host and (host is not None or name == self._here):
                continue
            if name != self._here and not share.held and share.manifest is not None and not share.manifest.count:
                del snapshot.shares[name]  # it had nothing, and a manifest that says so expires
                continue
            if share.manifest is not None:
                share.unstated_since = now
            share.manifest, share.complete = None, False
            if share.mismatch_since is None:  # one that lasts is no younger for our having asked again
                share.mismatch_since = now
            share.fresh.clear()

    def arrived(self, claim: Claim, now: float, *, replayed: bool = False) -> set[ClaimKey]:
        """A claim arrived, *replayed* or just said. Return the claims that have ended, as the manifest now proves."""
        share = self._share(claim.port.network_id, claim.host, now)
        if share is None or claim.port.network_id is None:
            return set()
        if replayed:
            self._networks[claim.port.network_id].replayed_at = now
        if share.fresh.get(claim.port.port_id) == claim:
            return set()  # said again: nothing changed
        share.fresh[claim.port.port_id] = claim
        share.held.add(claim.port.port_id)
        return self._changed(claim.port.network_id, claim.host, share, now)

    def ended(self, key: ClaimKey, now: float) -> set[ClaimKey]:
        """A claim has ended by itself."""
        network_id, host, port_id = key
        snapshot = self._networks.get(network_id) if network_id is not None else None
        share = snapshot.shares.get(host) if snapshot else None
        if snapshot is None or share is None:
            return set()
        if share.fresh.pop(port_id, None) is None and port_id not in share.held:
            return set()
        share.held.discard(port_id)
        if share.manifest is None and not share.held:
            del snapshot.shares[host]
            return set()
        return self._changed(network_id, host, share, now)

    def stated(self, manifest: Manifest, now: float) -> set[ClaimKey]:
        """A manifest arrived."""
        share = self._share(manifest.network_id, manifest.host, now)
        if share is None:
            return set()
        share.manifest = manifest
        return self._judge(manifest.network_id, manifest.host, share, now)

    def unstated(self, network_id: NetworkId, host: HostName, now: float) -> None:
        """A manifest was cleared: that proves nothing, but nothing is proved any more. Who lives states it again."""
        snapshot = self._networks.get(network_id)
        share = snapshot.shares.get(host) if snapshot else None
        if snapshot is None or share is None:
            return
        share.manifest, share.complete, share.unstated_since = None, False, now
        if not share.held:
            del snapshot.shares[host]

    def settle(self, now: float) -> set[NetworkId]:
        """Return the networks that have become complete since the last call: what they do not want may go."""
        settled = {
            network_id
            for network_id, snapshot in self._networks.items()
            if not snapshot.settled
            and snapshot.since is not None
            and now - snapshot.since >= QUIET
            and self._here in snapshot.shares
            and all(share.complete for share in snapshot.shares.values())
        }
        for network_id in settled:
            self._networks[network_id].settled = True
        return settled

    def settled(self, network_id: NetworkId) -> bool:
        """Was the network complete at some time since we listen?"""
        return (snapshot := self._networks.get(network_id)) is not None and snapshot.settled

    def hosts(self, network_id: NetworkId) -> Iterable[HostName]:
        """Return the hosts that were heard of in a network."""
        snapshot = self._networks.get(network_id)
        return snapshot.shares.keys() if snapshot else ()

    def complete(self, network_id: NetworkId) -> set[HostName]:
        """Return the hosts whose whole share of a network has come."""
        snapshot = self._networks.get(network_id)
        return {host for host, share in snapshot.shares.items() if share.complete} if snapshot else set()

    def incomplete(self, now: float) -> dict[NetworkId, tuple[HostName, ...]]:
        """Return the networks in which a share has not matched for longer than `PATIENCE`, and whose it is."""
        late = {
            network_id: tuple(
                host
                for host, share in snapshot.shares.items()
                if share.mismatch_since is not None and now - share.mismatch_since > PATIENCE
            )
            for network_id, snapshot in self._networks.items()
        }
        return {network_id: hosts for network_id, hosts in late.items() if hosts}

    @property
    def waits(self) -> bool:
        """Is any network not settled yet, or any share not known to be complete?"""
        return any(
            not snapshot.settled
            or any(not share.complete or share.mismatch_since is not None for share in snapshot.shares.values())
            for snapshot in self._networks.values()
        )

    def silent(self, online_since: Mapping[HostName, float], now: float) -> set[ClaimKey]:
        """Return the claims of hosts that are online and state no manifest for `SILENCE`: they have no port there."""
        gone: set[ClaimKey] = set()
        for network_id, snapshot in self._networks.items():
            for host, share in list(snapshot.shares.items()):
                since = online_since.get(host)
                if share.manifest is not None or host == self._here or since is None or snapshot.since is None:
                    continue
                if now - max(since, share.unstated_since) >= SILENCE:
                    gone |= {(network_id, host, port_id) for port_id in share.held}
                    del snapshot.shares[host]
        return gone

    def to_ask_again(self, now: float) -> dict[NetworkId, tuple[HostName, ...]]:
        """Return the networks whose mismatch lasts, and whose share of them is to be asked for again.

        A portion at a time: the next as soon as the one before has come, else ever more rarely, of others first; not
        while the broker still replays.
        """
        late = self.incomplete(now)
        asking = {}
        for network_id, snapshot in self._networks.items():
            if network_id not in late:
                snapshot.pause, snapshot.asked = ASK_AGAIN[0], ()
                continue
            has_come = snapshot.asked and not set(snapshot.asked).intersection(late[network_id])
            if has_come:
                snapshot.pause = ASK_AGAIN[0]
            elif not snapshot.rests(now):
                continue
            else:
                snapshot.pause = min(snapshot.pause * 2, ASK_AGAIN[1])
            asking[network_id] = snapshot.asked = self._portion(snapshot, late[network_id])
            snapshot.asked_at = now
        return asking

    def _portion(self, snapshot: Snapshot, late: Iterable[HostName]) -> tuple[HostName, ...]:
        """Return some of the hosts, those first that were not asked for the last time: at least one."""
        portion: list[HostName] = []
        messages = 0
        for host in sorted(late, key=lambda host: host in snapshot.asked):
            manifest = snapshot.shares[host].manifest
            messages += 1 + (manifest.count if manifest else GUESS)
            if portion and messages > PORTION:
                break
            portion.append(host)
        return tuple(portion)

    @property
    def asked(self) -> dict[NetworkId, tuple[HostName, ...]]:
        """Whose share of which network was last asked for again, as long as some of that network is missing."""
        return {network_id: snapshot.asked for network_id, snapshot in self._networks.items() if snapshot.asked}

    def _share(self, network_id: NetworkId | None, host: HostName, now: float) -> Share | None:
        if network_id is None or (snapshot := self._networks.get(network_id)) is None:
            return None
        if host not in snapshot.shares:
            snapshot.shares[host] = Share(unstated_since=now)
            self.interest += 1
        return snapshot.shares[host]

    def _changed(self, network_id: NetworkId | None, host: HostName, share: Share, now: float) -> set[ClaimKey]:
        if not share.complete and share.manifest is not None and len(share.fresh) == share.manifest.count:
            return self._judge(network_id, host, share, now)
        # The manifest follows within a second; until then the share counts as it did.
        if share.mismatch_since is None:
            share.mismatch_since = now
        return set()

    def _judge(self, network_id: NetworkId | None, host: HostName, share: Share, now: float) -> set[ClaimKey]:
        assert network_id is not None
        assert share.manifest is not None
        found = manifest_of(network_id, host, share.manifest.session, share.fresh.values())
        share.complete = (found.count, found.digest) == (share.manifest.count, share.manifest.digest)
        if not share.complete:
            if share.mismatch_since is None:
                share.mismatch_since = now
            return set()
        share.mismatch_since = None
        gone: set[ClaimKey] = {(network_id, host, port_id) for port_id in share.held - share.fresh.keys()}
        share.held = set(share.fresh)
        return gone
