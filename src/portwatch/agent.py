"""One running agent: brings the reactor its news and carries out what it decides. The loud half; it knows no tables.

OVSDB, bus and switch each have their task; all of them meet in `_carry_out`, which hands on words, records and work.
Nothing here waits for the bus.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping

import structlog

from portwatch.bus.connection import Broker
from portwatch.config import Config, Details
from portwatch.convergence import Convergence, Timing
from portwatch.events import ClaimKey
from portwatch.exchange import Exchange
from portwatch.fabric.announcer import Identity
from portwatch.fabric.directory import Directory
from portwatch.fabric.moves import Station
from portwatch.fabric.pipeline import Bridge, Policy
from portwatch.fabric.purpose import concerns
from portwatch.fabric.reactor import Reactor
from portwatch.fabric.tables import GROUPS, LEARNED_COOKIE, OWN
from portwatch.fabric.unreached import disagreements
from portwatch.hearing import now
from portwatch.metrics import Metrics
from portwatch.model import HostName, Plug, PortId, Segment, TunnelEndpoint
from portwatch.openflow.flow import Item
from portwatch.openflow.ledger import Drift
from portwatch.ovsdb.database import Database
from portwatch.ovsdb.picture import Picture, PictureChange
from portwatch.ovsdb.records import RecordKeeper
from portwatch.switch.monitor import FlowEvent
from portwatch.switch.ofctl import OfCtl
from portwatch.switch.programmer import Programmer

TICK = 0.5
"""Seconds between looks at what only time decides, …"""
REST = 5.0
"""… and at most these while nothing waits for it: each look wakes a process that has nothing to do."""
REFUSED_EVERY = 60.0
"""Seconds for which a host that comes to have another's tunnel address again is not told of again."""
TOLD_AT_ONCE = 5
"""Hosts or MACs of which one line each is logged at one look: others on the bus can bring about thousands."""

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
        planned: Callable[[], None] = lambda: None,
    ) -> None:
        """*planned* is called when what is plugged in has changed, by OVSDB's word or the directory's."""
        self.config, self.identity, self.picture, self.metrics = config, identity, picture, metrics
        policy = Policy(
            arp_responder=config.ports.arp_responder,
            flood_unknown=config.ports.unknown_unicast == "flood",
            anti_spoofing=config.ports.anti_spoofing,
            nd_responder=config.ports.nd_responder,
        )
        self.reactor = Reactor(identity, policy, config.peers.grace)
        self.directory = Directory() if config.ports.details is Details.DIRECTORY else None
        self.convergence = Convergence(metrics)
        self.exchange = Exchange(
            config, identity, self.reactor, broker, metrics, self.convergence, self._carry_out, self.directory
        )
        # In the order in which they get to work: what the integration bridge does not know yet it hands to the other.
        names = {Bridge.TUNNEL: config.bridges.tunnel, Bridge.INTEGRATION: config.bridges.integration}
        self.programmers = {
            bridge: Programmer(name, self.reactor.ledgers[bridge], _Account(self, bridge, name), ofctl, metrics)
            for bridge, name in names.items()
        }
        self._database, self._planned = database, planned
        self.records = RecordKeeper(database, picture)
        self._seen: dict[PortId, float] = {}
        self._removed: deque[tuple[int, float, ClaimKey]] = deque()
        """Ports that were wired here and have gone: the generation in which nothing of them is wanted, when seen."""
        self._loaded = asyncio.Event()
        self._stirred = asyncio.Event()
        """Has anything come since the last look at what only time decides?"""
        self._moves = 0
        self._frozen: set[Station] = set()
        self._apart: set[tuple[Segment, HostName]] = set()
        self._refused: dict[tuple[HostName, TunnelEndpoint], float] = {}
        self.clock = time.monotonic

    # --- OVSDB ---------------------------------------------------------------------------------------------------

    async def plugged(self, change: PictureChange) -> None:
        """The picture changed. Say so on the bus first, and then plan the flows: the others have the longer way."""
        seen = time.perf_counter()
        plugs: Mapping[PortId, Plug | None] = change.plugs
        if self.directory is not None:
            self.directory.plugged(plugs)
            if self.directory.waiting:
                self._carry_out(seen)
                return
            plugs = self.directory.take()
        wired = self._take_in(plugs)
        self._carry_out(seen)
        await asyncio.sleep(0)  # the link speaks
        self._plan(plugs, wired, seen)
        self._carry_out(seen)

    def _take_in(self, plugs: Mapping[PortId, Plug | None]) -> Mapping[PortId, Plug]:
        """Tell the reactor; return those of the ports that were wired, as they were."""
        reactor = self.reactor
        wired = {port_id: reactor.plugs[port_id] for port_id in plugs if port_id in reactor.progress.installed}
        self.records.forget(plugs)
        reactor.planner.clock = self.clock()
        reactor.plugged(plugs, self.picture.switch_ports, now())
        return wired

    def _plan(self, plugs: Mapping[PortId, Plug | None], wired: Mapping[PortId, Plug], seen: float) -> None:
        """Have the flows planned, and note what is awaited of the switch; the first time, the programmers begin."""
        reactor = self.reactor
        admitted, installed = reactor.plan(now())
        self._note_installed(installed)
        for port_id, before in wired.items():
            if port_id not in reactor.plugs:
                claim = (before.port.network_id, self.identity.host, port_id)
                self._removed.append((reactor.progress.generation, seen, claim))
        for port_id in {*plugs, *admitted}:
            if port_id in reactor.progress.awaited and reactor.fabric.problem(port_id) is None:
                self._seen.setdefault(port_id, seen)
            else:
                self._seen.pop(port_id, None)  # how long a port is down or in error is no time of ours
        self._loaded.set()
        self._planned()

    async def program(self, bridge: Bridge) -> None:
        """Keep a bridge as the reactor wants it, for ever; not before the reactor knows what is plugged in."""
        await self._loaded.wait()
        await self.programmers[bridge].run()

    async def keep_time(self) -> None:
        """Look at what only time decides, for ever."""
        while True:
            await self._until_next_look()
            clock = time.monotonic()
            self.reactor.settle(now(), clock)
            self.exchange.heal(clock)
            if self.directory is not None and self.exchange.link.trouble is None:
                self.directory.settle(clock)
            self._count_moves()
            self._tell_disagreements()
            self._tell_refused(clock)
            self._carry_out()
            self._stirred.clear()

    async def _until_next_look(self) -> None:
        """Wait a moment; when nothing waits for time to pass, until something comes, but not for ever."""
        waits = self.reactor.waits or self.exchange.waits or (self.directory is not None and self.directory.waiting)
        if not waits:
            try:
                async with asyncio.timeout(REST):
                    await self._stirred.wait()
            except TimeoutError:
                return
        await asyncio.sleep(TICK)

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
        residences, host = self.reactor.fabric.residences, self.identity.host
        if (endpoint := residences.refused.get(host)) is not None:
            troubles["tunnel"] = (
                f"{endpoint} (tunnel.local_ip) is the address of {residences.holders[endpoint]},"
                " which has had it longer: the other hosts ignore what this one says"
            )
        return troubles

    # --- within -------------------------------------------------------------------------------------------------------

    def _carry_out(self, since: float | None = None) -> None:
        """Hand on what the reactor has decided: events to the bus, records to OVSDB, work to the programmers.

        *since*: when the news was seen that this follows from.
        """
        reactor = self.reactor
        self._stirred.set()
        since = time.perf_counter() if since is None else since
        if self.directory is not None and (described := self.directory.take()):
            for port_id in described:
                self._seen.pop(port_id, None)  # how long the orchestrator took is no time of ours
            self._plan(described, self._take_in(described), since)
        self.exchange.carry_out(since)
        for port_id, record in reactor.records.items():
            self.records.want(port_id, record)
        reactor.records.clear()
        for bridge, programmer in self.programmers.items():
            if reactor.ledgers[bridge].owes:
                programmer.kick()

    def _tell_disagreements(self) -> None:
        """Say once of each host that it has a network of ours under another type or VNI."""
        found = disagreements(self.reactor.fabric)
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
                do="give the network one type and one segmentation-id on all hosts",
            )
        self._apart = apart

    def _tell_refused(self, clock: float) -> None:
        """Say of each host whose claims are ignored, of this one too, whose tunnel address it has; not all the time."""
        residences = self.reactor.fabric.residences
        refused = residences.refused.items()
        for host, endpoint in sorted(refused - self._refused.keys()):
            log.error(
                "a host has the tunnel address of another, which has had it longer; its claims are ignored",
                host=host,
                tunnel_ip=str(endpoint),
                holder=residences.holders[endpoint],
                do="give the later one of the two a tunnel.local_ip of its own",
            )
        told = {each: at for each, at in self._refused.items() if clock - at < REFUSED_EVERY}
        self._refused = told | dict.fromkeys(refused, clock)

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
                do="`portwatch explain` the MAC: see which hosts claim it, and stop one of them",
            )
        self._frozen = set(moves.frozen)
        self.metrics.mac_frozen.set(len(self._frozen))

    def committed(self, bridge: Bridge, generation: int) -> None:
        """A bridge holds what was wanted at *generation*."""
        installed = self.reactor.committed(bridge, generation, now())
        self._note_installed(installed)
        done, today, reached = time.perf_counter(), now(), self.reactor.progress.reached
        while self._removed and self._removed[0][0] <= reached:
            _, seen, claim = self._removed.popleft()
            self._local(Timing(today, "local", claim, done - seen), installed=False)
        while self.exchange.hearing.remote_seen and self.exchange.hearing.remote_seen[0][0] <= reached:
            _, said, claim = self.exchange.hearing.remote_seen.popleft()
            self.convergence.observe(Timing(today, "remote", claim, max(0.0, (today - said).total_seconds())))
        self._carry_out()

    def _note_installed(self, port_ids: Iterable[PortId]) -> None:
        done, today = time.perf_counter(), now()
        for port_id in port_ids:
            if (seen := self._seen.pop(port_id, None)) is not None:
                claim = (self.reactor.plugs[port_id].port.network_id, self.identity.host, port_id)
                self._local(Timing(today, "local", claim, done - seen), installed=True)

    def _local(self, timing: Timing, *, installed: bool) -> None:
        self.convergence.observe(timing)
        network_id, _, port_id = timing.claim
        log.info(
            "port installed" if installed else "port removed",
            port=port_id,
            network=network_id,
            seconds=round(timing.seconds, 4),
        )


class _Account:
    """One bridge's side of the reactor, as its programmer sees it."""

    def __init__(self, agent: Agent, bridge: Bridge, name: str) -> None:
        self._agent, self._bridge, self._name = agent, bridge, name
        self.group_ids = GROUPS if bridge is Bridge.TUNNEL else range(0)

    @property
    def generation(self) -> int:
        return self._agent.reactor.progress.generation

    def concerns(self, event: FlowEvent) -> bool:
        match = event.text.partition("actions=")[0]
        return concerns(event.cookie, event.table, match, self._agent.reactor.ledgers[self._bridge].installed)

    async def dump_flows(self, ofctl: OfCtl) -> str:
        dump = await ofctl.dump_flows(self._name, OWN.cookie, OWN.mask)
        learned = f" cookie={LEARNED_COOKIE:#x},"
        return "\n".join(line for line in dump.splitlines() if not line.startswith(learned))

    def examine(self, items: Iterable[Item]) -> None:
        self._agent.reactor.examine(self._bridge, items)

    def read_back(self, items: Iterable[Item]) -> Drift:
        drift = self._agent.reactor.read_back(self._bridge, items)
        self._agent.committed(self._bridge, -1)
        return drift

    def committed(self, generation: int) -> None:
        self._agent.committed(self._bridge, generation)
