"""One running agent: brings the reactor its news and carries out what it decides. The loud half; it knows no tables.

OVSDB, bus and switch each have their task; all of them meet in `_carry_out`, which hands on words, records and work.
Nothing here waits for the bus.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial

import structlog

from portwatch.bus.connection import Broker
from portwatch.config import Config, Details
from portwatch.errors import OvsdbUnavailable, TransactionFailed
from portwatch.exchange import Exchange, now
from portwatch.fabric.announcer import Identity
from portwatch.fabric.directory import Directory
from portwatch.fabric.moves import Station
from portwatch.fabric.pipeline import COOKIE, GROUPS, LEARNED_COOKIE, OWN, Bridge, Policy
from portwatch.fabric.reactor import PortRecord, Reactor
from portwatch.mailbox import Mailbox
from portwatch.metrics import Metrics
from portwatch.model import HostName, Plug, PortId, Segment
from portwatch.openflow.flow import Item
from portwatch.openflow.ledger import Drift
from portwatch.ovsdb import records
from portwatch.ovsdb.database import Database
from portwatch.ovsdb.picture import Picture, PictureChange
from portwatch.switch.ofctl import OfCtl
from portwatch.switch.programmer import Programmer

TICK = 0.5
"""Seconds between looks at what only time decides."""
TOLD_AT_ONCE = 5
"""Hosts or MACs of which one line each is logged at one look: others on the bus can bring about thousands."""
RECORDS_RETRY = 0.5
"""Seconds after which Port rows are written again that could not be."""
REFUSED_RETRY = 5.0
"""Seconds after which those are that ovsdb-server refused: it may be a backup, or its disk full, for a while."""

log = structlog.get_logger()


class Agent:
    """Made when this host's first picture is known; *picture* is kept up to date by whoever calls `plugged`."""

    def __init__(
        self,
        config: Config,
        identity: Identity,
        picture: Picture,
        database: Database,
        ofctl: OfCtl,
        broker: Broker,
        metrics: Metrics,
    ) -> None:
        self.config, self.identity, self.picture, self.metrics = config, identity, picture, metrics
        policy = Policy(
            arp_responder=config.ports.arp_responder,
            flood_unknown=config.ports.unknown_unicast == "flood",
            anti_spoofing=config.ports.anti_spoofing,
            nd_responder=config.ports.nd_responder,
        )
        self.reactor = Reactor(identity, policy, config.peers.grace)
        self.directory = Directory() if config.ports.details is Details.DIRECTORY else None
        self.exchange = Exchange(config, identity, self.reactor, broker, metrics, self._carry_out, self.directory)
        names = {Bridge.INTEGRATION: config.bridges.integration, Bridge.TUNNEL: config.bridges.tunnel}
        self.programmers = {
            bridge: Programmer(name, self.reactor.ledgers[bridge], _Account(self, bridge, name), ofctl, metrics)
            for bridge, name in names.items()
        }
        self._database = database
        self._records: Mailbox[PortId, PortRecord] = Mailbox()
        self._refused: dict[PortId, PortRecord] = {}
        self._offer_again = 0.0
        self._seen: dict[PortId, float] = {}
        self._loaded = asyncio.Event()
        self._moves = 0
        self._frozen: set[Station] = set()
        self._apart: set[tuple[Segment, HostName]] = set()
        self.clock = time.monotonic

    # --- OVSDB ---------------------------------------------------------------------------------------------------

    def plugged(self, change: PictureChange) -> None:
        """The picture changed."""
        seen = time.perf_counter()
        if self.directory is None:
            self._plugged(change.plugs, seen)
        else:
            self.directory.plugged(change.plugs)
            if not self.directory.waiting:
                self._plugged(self.directory.take(), seen)
        self._carry_out(seen)

    def _plugged(self, plugs: Mapping[PortId, Plug | None], seen: float) -> None:
        """Tell the reactor; when this is the first time, the programmers begin."""
        self.reactor.plugged(plugs, self.picture.switch_ports, now())
        awaited = self.reactor.awaited
        for port_id in plugs:
            if port_id in awaited:
                self._seen.setdefault(port_id, seen)
            else:
                self._seen.pop(port_id, None)
        self._loaded.set()

    async def program(self, bridge: Bridge) -> None:
        """Keep a bridge as the reactor wants it, for ever; not before the reactor knows what is plugged in."""
        await self._loaded.wait()
        await self.programmers[bridge].run()

    async def write_records(self) -> None:
        """Keep the Port rows as the reactor wants them remembered, for ever."""
        while True:
            wanted = await self._records_to_write()
            try:
                await self._write(wanted)
            except OvsdbUnavailable as error:
                log.warning("Port rows not written yet", ports=len(wanted), error=str(error))
                for port_id, record in wanted.items():
                    if port_id not in self._records:
                        self._records.put(port_id, record)
                await asyncio.sleep(RECORDS_RETRY)

    async def _records_to_write(self) -> Mapping[PortId, PortRecord]:
        """Wait for new ones, or until those that were refused are due again."""
        try:
            async with asyncio.timeout_at(self._offer_again if self._refused else None):
                wanted = await self._records.take()
        except TimeoutError:
            wanted, self._refused = self._refused, {}
        for port_id in wanted:
            self._refused.pop(port_id, None)
        return wanted

    async def _write(self, wanted: Mapping[PortId, PortRecord]) -> None:
        """Write the records in one transaction; what ovsdb-server refuses, one by one: a wrong one stops no other."""
        try:
            await self._database.transact(partial(records.write, self.picture, wanted))
        except TransactionFailed as refusal:
            error = str(refusal)
        else:
            return
        refused = dict(wanted)
        for port_id, record in wanted.items() if len(wanted) > 1 else ():
            with suppress(TransactionFailed):
                await self._database.transact(partial(records.write, self.picture, {port_id: record}))
                del refused[port_id]
        if refused:
            log.error("ovsdb-server refuses what we write", ports=len(refused), port=next(iter(refused)), error=error)
        # Perhaps all are refused, for a while: what is not written would be forgotten at the next restart.
        self._refused |= refused
        self._offer_again = asyncio.get_running_loop().time() + REFUSED_RETRY

    async def keep_time(self) -> None:
        """Look at what only time decides, for ever."""
        while True:
            await asyncio.sleep(TICK)
            clock = time.monotonic()
            self.reactor.settle(now(), clock)
            self.exchange.heal(clock)
            if self.directory is not None and self.exchange.link.trouble is None:
                self.directory.settle(clock)
            self._count_moves()
            self._tell_disagreements()
            self._carry_out()

    def drain(self, *, leaving: bool) -> int:
        """Mark this host's claims `leaving`, or take that back; return how many ports there are."""
        ports = self.reactor.drain(now(), leaving=leaving)
        self.exchange.say_presence()
        self._carry_out()
        log.info("drained" if leaving else "drain taken back", ports=ports)
        return ports

    # --- for those who watch ------------------------------------------------------------------------------------------

    @property
    def troubles(self) -> dict[str, str]:
        """What is not as it should be, by component."""
        troubles = {}
        if not self._database.connected:
            troubles["ovsdb"] = self._database.last_error or "not connected"
        for programmer in self.programmers.values():
            if programmer.trouble is not None:
                troubles.setdefault("switch", f"{programmer.bridge}: {programmer.trouble}")
        if not self._loaded.is_set():
            troubles["switch"] = "waits for the bus to tell the details of the ports that are wired already"
        if self.exchange.link.trouble is not None:
            troubles["bus"] = self.exchange.link.trouble
        elif self.exchange.link.refused:
            troubles["bus"] = next(iter(self.exchange.link.refused.values()))
        return troubles

    # --- within -------------------------------------------------------------------------------------------------------

    def _carry_out(self, since: float | None = None) -> None:
        """Hand on what the reactor has decided: events to the bus, records to OVSDB, work to the programmers.

        *since*: when the news was seen that this follows from.
        """
        reactor = self.reactor
        since = time.perf_counter() if since is None else since
        if self.directory is not None and (described := self.directory.take()):
            for port_id in described:
                self._seen.pop(port_id, None)  # how long the orchestrator took is no time of ours
            self._plugged(described, since)
        self.exchange.carry_out(since)
        for port_id, record in reactor.records.items():
            self._records.put(port_id, record)
        reactor.records.clear()
        for bridge, programmer in self.programmers.items():
            if reactor.ledgers[bridge].owes:
                programmer.kick()

    def _tell_disagreements(self) -> None:
        """Say once of each host that it has a network of ours under another type or VNI."""
        found = self.reactor.fabric.disagreements()
        apart = {(segment, host) for segment, hosts in found.items() for host in hosts}
        new = sorted(apart - self._apart, key=str)
        for segment, host in new[:TOLD_AT_ONCE]:
            log.warning(
                "a host has a network under another type or VNI than this one; the two are not mixed",
                network=segment.network_id,
                host=host,
                type=segment.network_type,
                segmentation_id=segment.vni,
                more=max(0, len(new) - TOLD_AT_ONCE),
            )
        self._apart = apart

    def _count_moves(self) -> None:
        """Count what moved, and sound the alarm for what moves too often."""
        moves = self.reactor.fabric.moves
        self.metrics.mac_moves.inc(moves.count - self._moves)
        self._moves = moves.count
        frozen = sorted(moves.frozen.keys() - self._frozen, key=str)
        for segment, mac in frozen[:TOLD_AT_ONCE]:
            log.error(
                "a MAC moves too often and is flooded instead; two hosts fight over it, or a loop brings it back",
                network=segment.network_id,
                mac=mac,
                more=max(0, len(frozen) - TOLD_AT_ONCE),
            )
        self._frozen = set(moves.frozen)
        self.metrics.mac_frozen.set(len(self._frozen))

    def committed(self, bridge: Bridge, generation: int) -> None:
        """A bridge holds what was wanted at *generation*."""
        installed = self.reactor.committed(bridge, generation, now())
        done = time.perf_counter()
        local = self.metrics.convergence_seconds.labels("local")
        for port_id in installed:
            if (seen := self._seen.pop(port_id, None)) is not None:
                local.observe(done - seen)
                log.info("port installed", port=port_id, seconds=round(done - seen, 4))
        remote = self.metrics.convergence_seconds.labels("remote")
        while self.exchange.remote_seen and self.exchange.remote_seen[0][0] <= self.reactor.reached:
            remote.observe(max(0.0, (now() - self.exchange.remote_seen.popleft()[1]).total_seconds()))
        self._carry_out()


class _Account:
    """One bridge's side of the reactor, as its programmer sees it."""

    group_ids = GROUPS

    def __init__(self, agent: Agent, bridge: Bridge, name: str) -> None:
        self._agent, self._bridge, self._name = agent, bridge, name

    @property
    def generation(self) -> int:
        return self._agent.reactor.generation

    def is_ours(self, cookie: int) -> bool:
        return cookie == COOKIE

    async def dump_flows(self, ofctl: OfCtl) -> str:
        dump = await ofctl.dump_flows(self._name, OWN.cookie, OWN.mask)
        learned = f" cookie={LEARNED_COOKIE:#x},"
        return "\n".join(line for line in dump.splitlines() if not line.startswith(learned))

    def read_back(self, items: Iterable[Item]) -> Drift:
        drift = self._agent.reactor.read_back(self._bridge, items)
        self._agent.committed(self._bridge, -1)
        return drift

    def committed(self, generation: int) -> None:
        self._agent.committed(self._bridge, generation)
