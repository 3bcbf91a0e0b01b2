"""A fleet without I/O: real reactors, a bus that is a dict of retained messages, switches that take bundles as text.

Everything that a real agent says goes through `wire`, as bytes, and everything it programs through the text of its
bundles. Delivery is explicit: nothing is heard but by `settle` or `hear`, so a test decides what comes late or never.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from portwatch import wire
from portwatch.bus.connection import Publication
from portwatch.events import (
    LEAVING,
    OFFLINE,
    ONLINE,
    STOPPED,
    ClaimGone,
    HostStatus,
    Manifest,
    PortEvent,
    PortRemoved,
)
from portwatch.fabric.announcer import Identity
from portwatch.fabric.attachment import SwitchPorts
from portwatch.fabric.directory import Directory
from portwatch.fabric.pipeline import Bridge, Policy
from portwatch.fabric.reactor import Reactor, StaleEvent
from portwatch.fabric.status import PortRecord
from portwatch.fabric.tenure import Reply, Tenure
from portwatch.model import (
    GENEVE,
    GRE,
    VXLAN,
    Claim,
    HostName,
    LocalVlan,
    Mac,
    NetworkId,
    OfPort,
    Plug,
    Port,
    PortDetails,
    PortId,
    Status,
    TunnelEndpoint,
    Vni,
    fixed_ip,
    tunnel_endpoint,
)
from portwatch.openflow import parse
from portwatch.openflow.flow import Flow, Item
from tests.core.switch import BROADCAST, Frame, Switch

PREFIX = "portwatch/v1"
TOPICS = wire.Topics(PREFIX)
PATCH_TO_TUNNEL, PATCH_TO_INTEGRATION, TUNNEL = OfPort(1), OfPort(2), OfPort(3)
SWITCH_PORTS = SwitchPorts(PATCH_TO_TUNNEL, PATCH_TO_INTEGRATION, ((VXLAN, TUNNEL),))
ALL_TUNNELS = replace(
    SWITCH_PORTS, tunnels=((VXLAN, TUNNEL), (GENEVE, OfPort(4)), (GRE, OfPort(5))), nd_extensions=True
)
"""A switch with a tunnel port of each type, on a datapath that can make advertisements of solicitations."""
START = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
STRANGERS_FLOW = parse.flow("cookie=0x1,table=60,priority=5,in_port=9,actions=drop")
STRANGERS_GROUP = parse.group("group_id=5,type=all,bucket=bucket_id:1,actions=output:9")
INT, TUN = Bridge.INTEGRATION, Bridge.TUNNEL


def a_port(name: str = "p1", network: str | None = "blue", **changes: object) -> Port:
    """Return a port whose MAC and address follow from the digits of its name; say only what matters."""
    number = int("".join(letter for letter in name if letter.isdigit()) or 1)
    known: dict[str, object] = {
        "port_id": PortId(name),
        "network_id": NetworkId(network) if network else None,
        "segmentation_id": a_vni(network) if network else None,
        "mac": Mac(f"fa:16:3e:00:{number // 256:02x}:{number % 256:02x}"),
        "fixed_ips": (fixed_ip(f"10.0.{number // 250}.{number % 250 + 1}"),),
    }
    return Port(**{**known, **changes})  # type: ignore[arg-type]  # builders are called with the right types


def a_vni(network: str) -> Vni:
    """Return the VNI that the ports of a network have by default."""
    return Vni(100 + sum(map(ord, network)) % 1000)


def an_endpoint(number: int) -> TunnelEndpoint:
    """Return the tunnel address of host hv{number}."""
    return tunnel_endpoint(f"192.0.2.{10 + number}")


def a_claim(port: Port | None = None, host: int = 2, **changes: object) -> Claim:
    """Return a claim of host hv{host}; say only what matters."""
    known: dict[str, object] = {
        "host": HostName(f"hv{host}"),
        "port": port or a_port(),
        "tunnel_ip": an_endpoint(host),
        "status": Status.ACTIVE,
        "session": f"session-of-hv{host}",
        "seq": 1,
        "revision": 1,
    }
    return Claim(**{**known, **changes})  # type: ignore[arg-type]  # builders are called with the right types


class Replayed(bytes):
    """A payload that was retained before the subscription by which it comes."""


@dataclass(frozen=True, slots=True)
class Row:
    """What a Port row remembers: a tag that once was written stays."""

    tag: LocalVlan | None = None
    network_id: NetworkId | None = None
    seq: int | None = None
    installed: bool = False

    def written(self, record: PortRecord) -> "Row":
        """Return the row after `ovsdb.records.write`."""
        wired = record.vlan is not None and record.network_id is not None
        tag, network_id = (record.vlan, record.network_id) if wired else (self.tag, None)
        return Row(tag, network_id, record.seq, record.installed)


@dataclass
class Host:
    """One hypervisor: a reactor, its switch, its OVSDB, its link to the bus."""

    fleet: "Fleet"
    number: int
    reactor: Reactor
    directory: Directory | None = None
    """Joins plugs with their details, if these come from the bus."""
    bridges: dict[Bridge, Switch] = field(default_factory=lambda: {bridge: _a_switch() for bridge in Bridge})
    plugged: dict[PortId, tuple[Port, OfPort]] = field(default_factory=dict)
    rows: dict[PortId, Row] = field(default_factory=dict)
    inbox: list[tuple[str, bytes]] = field(default_factory=list)
    outbox: dict[str, tuple[Publication, ...]] = field(default_factory=dict)
    filters: frozenset[str] = frozenset()
    manifests_due: set[NetworkId] = field(default_factory=set)
    alive: bool = True
    connected: bool = False
    greeted: bool = False
    deaf_and_mute: bool = False
    """The connection is lost, and nobody knows it yet: what is said vanishes."""
    writes_rows: bool = True
    unwritten: dict[PortId, PortRecord] = field(default_factory=dict)
    """Records that wait until rows can be written."""
    programmed: set[Bridge] = field(default_factory=lambda: set(Bridge))
    """The bridges whose programmer is at work."""
    link_is_busy: bool = False
    """The link speaks: what to listen to it will see later."""
    interest: tuple[int, ...] | None = None
    wanted: frozenset[str] = frozenset()
    dropped: frozenset[str] = frozenset()
    skew: timedelta = timedelta()
    changes: int = 0
    """How often OVSDB has told this process of its ports."""
    news: bool = True
    """Has anything happened here since it was looked whether all is as it must be?"""
    next_ofport: int = 10
    tenure: Tenure = field(init=False)

    def __post_init__(self) -> None:
        self.tenure = _tenure(self)

    @property
    def name(self) -> HostName:
        return self.reactor.identity.host

    @property
    def now(self) -> datetime:
        return self.fleet.now + self.skew

    # --- its ports -----------------------------------------------------------------------------------------------

    def plug(self, port: Port, ofport: int | None = None) -> None:
        """Plug the port in, or change it if it is."""
        self.batch({port.port_id: port}, ofport)

    def change(self, name: str, **changes: object) -> None:
        """Change what OVSDB says of a port that is plugged in."""
        self.plug(replace(self.port(name), **changes))  # type: ignore[arg-type]  # as `a_port`

    def unplug(self, *names: str) -> None:
        """Pull ports."""
        self.batch(dict.fromkeys(names))

    def batch(self, ports: Mapping[str, Port | None], ofport: int | None = None) -> None:
        """Plug, change and pull ports in one transaction of OVSDB."""
        for name, port in ports.items():
            port_id = PortId(name)
            if port is None:
                del self.plugged[port_id]
                self.rows.pop(port_id, None)
                self.unwritten.pop(port_id, None)
                continue
            held = self.plugged.get(port_id)
            if ofport is None and held is None:
                self.next_ofport += 1
            number = OfPort(ofport or (held[1] if held else self.next_ofport))
            self.plugged[port_id] = (port, number)
        if self.alive:
            self.changes += 1
            self.picture_tells({PortId(name): self.plug_of(name) for name in ports})
            self.fleet.carry_out(self)

    def hear_details(self, name: str) -> None:
        """The orchestrator has said, or deleted, the details of a port."""
        port_id = PortId(name)
        if self.alive and self.directory is not None:
            if (details := self.fleet.directory.get(port_id)) is not None:
                self.directory.told(port_id, details)
            else:
                self.directory.gone(port_id)
            self._tell()
            self.fleet.carry_out(self)

    def picture_tells(self, plugs: Mapping[PortId, Plug | None]) -> None:
        """Bring the reactor the plugs, with their details if these come from the bus."""
        if self.directory is None:
            self.reactor.plugged(plugs, self.fleet.ports, self.now)
            return
        self.directory.plugged(plugs)
        for port_id in plugs.keys() & self.fleet.directory.keys():
            self.directory.told(port_id, self.fleet.directory[port_id])
        self._tell()

    def _tell(self) -> None:
        assert self.directory is not None
        assert not self.directory.waiting, "here nobody deletes the details of a wired port before a restart"
        self.reactor.plugged(self.directory.take(), self.fleet.ports, self.now)

    def port(self, name: str) -> Port:
        """Return what OVSDB says of a port."""
        return self.plugged[PortId(name)][0]

    def plug_of(self, name: str) -> Plug | None:
        """Return a port as the picture shows it."""
        if (found := self.plugged.get(PortId(name))) is None:
            return None
        row = self.rows.get(PortId(name), Row())
        remembered = row.network_id if row.network_id == found[0].network_id else None
        return Plug(*found, row.tag, row.seq, remembered, row.installed)

    # --- its process ---------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """End the process without a word: the broker speaks its last will."""
        self.alive = False
        self.disconnect()
        self.outbox.clear()
        self.manifests_due.clear()
        self.last_will()

    def last_will(self) -> None:
        """The broker says that the host is gone; perhaps late, and it is not."""
        self.fleet.broker((self._status(OFFLINE),))

    def start(self, *, read_back: bool = True, endpoint: TunnelEndpoint | None = None) -> None:
        """Start a new process over the same switch, rows and bus; perhaps with another tunnel address."""
        self.alive = True
        self.unwritten.clear()
        identity = self.reactor.identity
        self.reactor = self.fleet.reactor(replace(identity, endpoint=endpoint or identity.endpoint))
        self.tenure = _tenure(self)
        self.directory = self.fleet.new_directory()
        self.picture_tells({name: self.plug_of(name) for name in self.plugged})
        self.reactor.plan(self.now)
        if read_back:
            self.read_back()
        self.connect()

    def stop(self) -> None:
        """End the process as an operator does: it takes its leave."""
        self.publish_manifests()
        self.say((self._status(STOPPED),))
        self.alive = False
        self.disconnect()
        self.outbox.clear()

    def restart(self) -> None:
        """Stop the process and start a new one."""
        self.stop()
        self.start()

    def drain(self, *, leaving: bool = True) -> None:
        """Let this host's ports go elsewhere, or no more: `portwatch drain`."""
        self.reactor.drain(self.now, leaving=leaving)
        self.say((self.present(),))
        self.fleet.carry_out(self)

    def read_back(self) -> None:
        """Read both bridges back."""
        held = {bridge: list(switch.items()) for bridge, switch in self.bridges.items()}
        for part in range(3):  # of four, both bridges in turns, as the programmers do
            for bridge, items in held.items():
                self.reactor.examine(bridge, items[part::4])
        for bridge, items in held.items():
            self.reactor.read_back(bridge, items)
            self.reactor.committed(bridge, -1, self.now)
        self.fleet.carry_out(self)

    def forget_flows(self) -> None:
        """ovs-vswitchd restarts: nothing is programmed any more."""
        for switch in self.bridges.values():
            switch.forget()
            _let_strangers_in(switch)
        for ledger in self.reactor.ledgers.values():
            ledger.lost()
        self.read_back()

    # --- its link to the bus -------------------------------------------------------------------------------------

    def disconnect(self) -> None:
        """Lose the connection; what had not been heard will not be."""
        self.connected = self.greeted = self.deaf_and_mute = False
        self.inbox.clear()
        self.filters = self.wanted = self.dropped = frozenset()
        self.interest = None

    def connect(self, *, hears_first: bool = True) -> None:
        """Get a new connection: subscribe, say everything, say what waited. *hears_first*: the replay is quicker."""
        self.disconnect()
        self.connected = True
        self.fleet.subscribe(self)
        self.tenure.announce()
        if (said := self.fleet.retained.get(TOPICS.host(self.name))) is not None:
            predecessor = TOPICS.decode(TOPICS.host(self.name), said)
            assert isinstance(predecessor, HostStatus)
            self.tenure.hear(predecessor)
        if hears_first:
            self.fleet.hear_all(self)
        greeting = [self.words(event) for event in self.reactor.say_again(self.now)]
        networks, self.reactor.manifests = self.reactor.manifests, set()
        greeting += [(self._manifest(network_id),) for network_id in sorted(networks)]
        greeting.append((self.present(),))
        self.greeted = True
        for publications in greeting:
            self.outbox.pop(publications[0].topic, None)
            self.say(publications)
        waiting, self.outbox = self.outbox, {}
        for publications in waiting.values():
            self.say(publications)
        self.tenure.settle()
        self.fleet.carry_out(self)

    def say(self, publications: tuple[Publication, ...]) -> None:
        """Publish; while there is no connection the newest word of each topic waits."""
        if self.deaf_and_mute:
            return
        if self.connected and self.greeted:
            self.fleet.broker(publications, by=self)
        else:
            self.outbox[publications[0].topic] = publications

    def words(self, event: PortEvent) -> tuple[Publication, ...]:
        """Return how an event is said."""
        topic, said = TOPICS.port(*event.key), wire.encode_event(event)
        if isinstance(event, PortRemoved):
            return Publication(topic, said), Publication(topic, b"", retain=True)
        return (Publication(topic, said, retain=True),)

    def publish_manifests(self) -> None:
        """Say the manifests of the networks whose ports here changed: the real one waits a moment with that."""
        due, self.manifests_due = self.manifests_due, set()
        for network_id in sorted(due):
            self.say((self._manifest(network_id),))

    def _manifest(self, network_id: NetworkId) -> Publication:
        manifest = self.reactor.announcer.manifest(network_id)
        return Publication(TOPICS.manifest(network_id, self.name), wire.encode_manifest(manifest), retain=True)

    def present(self) -> Publication:
        """Return what the host says of itself while it lives."""
        return self._status(LEAVING if self.reactor.leaving else ONLINE)

    def _status(self, state: str) -> Publication:
        identity = self.reactor.identity
        tenure = self.tenure
        since = tenure.started_at, tenure.tunnel_since
        status = HostStatus(identity.host, identity.session, state, identity.endpoint, "vxlan", "0", *since)
        return Publication(TOPICS.host(identity.host), wire.encode_host(status), retain=True)

    # --- questions -----------------------------------------------------------------------------------------------

    def claim(self, name: str) -> Claim:
        """Return what this host says of a port."""
        return self.reactor.announcer.claims[PortId(name)]

    def status(self, name: str) -> Status:
        """Return how far this host says a port is."""
        return self.claim(name).status

    def flows(self) -> list[str]:
        """Return what the switch holds of ours, sorted, a bridge and an item a line."""
        return sorted(
            f"{bridge} {item.text()}"
            for bridge, switch in self.bridges.items()
            for item in switch.items()
            if item not in (STRANGERS_FLOW, STRANGERS_GROUP)
        )

    def peers(self) -> set[str]:
        """Return the hosts from whose tunnel addresses the switch takes packets."""
        accepted = {
            field.partition("=")[2]
            for key in self.bridges[TUN].flows
            for field in key.match
            if field.startswith(("tun_src=", "tun_ipv6_src="))
        }
        return {name for name, host in self.fleet.hosts.items() if str(host.endpoint) in accepted}

    @property
    def endpoint(self) -> TunnelEndpoint | None:
        return self.reactor.identity.endpoint

    def knows(self, network: str) -> int:
        """Return how many claims of other hosts are held in a network."""
        return sum(1 for _ in self.reactor.fabric.heard.of_network(NetworkId(network)))


class Fleet:
    """Hosts hv1 … hvN on one bus. *endpoints*: tunnel addresses by host number that are not 192.0.2.(10 + number).

    Frames here carry no addresses to be checked, if not *checked*. *ports*: each switch's own. *grace*: `peers.grace`.
    *directory*: the details of ports, if they come from the bus and not from OVSDB.
    """

    def __init__(
        self,
        hosts: int = 3,
        policy: Policy | None = None,
        endpoints: Mapping[int, TunnelEndpoint | None] | None = None,
        *,
        checked: bool = False,
        ports: SwitchPorts = SWITCH_PORTS,
        grace: float | None = None,
        directory: Mapping[PortId, PortDetails] | None = None,
    ) -> None:
        self.policy = policy or Policy()
        if not checked:
            self.policy = replace(self.policy, anti_spoofing=False)
        self.ports = ports
        self.grace = grace
        self.directory = dict(directory or {})
        self.details_come_from_the_bus = directory is not None
        self.copies: list[tuple[str, str]] = []
        """Every packet that ever went into a tunnel: from which host, to which (or to which address of no host)."""
        self.now = START
        self.events: list[tuple[Host, PortEvent]] = []
        """What the reactors have decided to say, but for what they say again on a new connection."""
        self.committed: Callable[[Host], None] | None = None
        """Called after each bundle that a bridge has taken."""
        self.carried_out: Callable[[Host], None] | None = None
        """Called when a host has done all that its news asked for."""
        self.sessions = 0
        self.retained: dict[str, bytes] = {}
        self.authors: dict[str, Reactor | None] = {}
        """Whose process spoke last on each topic; None: another one, which the tests play."""
        self.said: list[tuple[str, bytes]] = []
        self.hosts: dict[str, Host] = {}
        for number in range(1, hosts + 1):
            endpoint = (endpoints or {}).get(number, an_endpoint(number))
            identity = Identity(HostName(f"hv{number}"), "", endpoint)
            host = Host(self, number, self.reactor(identity), self.new_directory())
            self.hosts[host.name] = host
            host.picture_tells({})
            host.read_back()
            host.connect()

    def reactor(self, identity: Identity) -> Reactor:
        """Return the reactor of a new process."""
        self.sessions += 1
        return Reactor(replace(identity, session=f"s{self.sessions}"), self.policy, self.grace)

    def new_directory(self) -> Directory | None:
        """Return what a new process knows of the details: nothing yet."""
        return Directory() if self.details_come_from_the_bus else None

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    @property
    def clock(self) -> float:
        return 1000.0 + (self.now - START).total_seconds()

    # --- time and the bus ----------------------------------------------------------------------------------------

    def settle(self, seconds: float = 3.0) -> None:
        """Let everybody rest for *seconds*; then check what must always hold."""
        self.rest(seconds)
        self.check()

    def rest(self, seconds: float = 3.0) -> None:
        """Deliver everything until all is quiet, and let *seconds* pass."""
        self.hush()
        self.now += timedelta(seconds=seconds)
        for host in self.hosts.values():
            for switch in host.bridges.values():
                switch.age(seconds)
        self.tick()
        self.hush()

    def tick(self) -> None:
        """Let every host look at what only time decides."""
        for host in self.hosts.values():
            if host.alive:
                before = None if host.reactor.waits or host.reactor.fabric.moves.frozen else _decided(host.reactor)
                host.reactor.settle(self.now, self.clock)
                assert before in (None, _decided(host.reactor)), "it said that nothing waits for this look"
                self._ask_again(host)
                self.carry_out(host)

    def _ask_again(self, host: Host) -> None:
        """What stays incomplete is asked for once more."""
        if not host.connected or host.deaf_and_mute:
            return
        waits, asking = host.reactor.waits, host.reactor.snapshots.to_ask_again(self.clock)
        assert waits or not asking, "it said that nothing waits"
        for network_id, names in asking.items():
            self.hear_all(host)
            for name in names:
                host.reactor.snapshots.subscribed(network_id, self.clock, name)
                for one in TOPICS.of_share(network_id, name):
                    retained = ((topic, Replayed(said)) for topic, said in self.retained.items())
                    host.inbox += [(topic, said) for topic, said in retained if _covers(one, topic)]

    def hush(self) -> None:
        """Deliver until nobody has anything to say."""
        for _ in range(100_000):
            busy = [host for host in self.hosts.values() if host.inbox or (host.connected and host.manifests_due)]
            if not busy:
                return
            for host in busy:
                host.publish_manifests()
                self.hear(host)
        raise AssertionError("the fleet does not come to rest")

    def hear(self, host: Host, place: int = 0) -> None:
        """Let a host hear the message at *place* of its inbox, but never before an older one of the same topic."""
        if host.inbox:
            topic = host.inbox[place % len(host.inbox)][0]
            first = next(number for number, (each, _) in enumerate(host.inbox) if each == topic)
            self.deliver(host, *host.inbox.pop(first))

    def hear_all(self, host: Host) -> None:
        """Let a host hear everything that has come for it."""
        while host.inbox:
            self.hear(host)

    def deliver(self, host: Host, topic: str, payload: bytes) -> None:
        """Let a host hear one message; what comes from the past is passed over."""
        news = TOPICS.decode(topic, payload)
        match news:
            case PortEvent() | ClaimGone():
                try:
                    host.reactor.heard(news, host.now, self.clock, replayed=isinstance(payload, Replayed))
                except StaleEvent:
                    return
            case Manifest():
                host.reactor.stated(news, self.clock)
            case wire.ManifestGone(network_id, name):
                host.reactor.snapshots.unstated(network_id, name, self.clock)
            case HostStatus():
                host.reactor.seen(news, self.clock)
                if news.host == host.name and host.tenure.hear(news) is Reply.ANSWER:
                    host.say((host.present(),))
            case wire.HostGone(name):
                host.reactor.forgot(name)
        self.carry_out(host)

    def broker(self, publications: Iterable[Publication], by: Host | None = None) -> None:
        """Be the broker: keep what is to be kept, and pass on, once for each subscription that matches.

        What a process says itself, *by* whom, comes back to it only by subscriptions to what stands under its name.
        """
        for each in publications:
            self.said.append((each.topic, each.payload))
            if each.retain and each.payload:
                self.retained[each.topic] = each.payload
            elif each.retain:
                self.retained.pop(each.topic, None)
            self.authors[each.topic] = by.reactor if by is not None else None
            for host in self.hosts.values():
                if host.connected and not host.deaf_and_mute:
                    copies = sum(self._comes_by(one, each.topic, host) for one in host.filters)
                    host.inbox += [(each.topic, each.payload)] * copies

    def subscribe(self, host: Host) -> None:
        """Bring a host's subscriptions up to date, if it has said that they change; what is retained there comes."""
        reactor = host.reactor
        ourselves = TOPICS.of_ourselves(host.name)
        if reactor.interest != host.interest:
            host.interest = reactor.interest
            filters = {*ourselves, *map(TOPICS.host, reactor.hosts_of_interest)}
            for network_id in reactor.fabric.networks:
                filters.update(TOPICS.of_network(network_id))
            host.dropped |= host.wanted - filters
            host.wanted = frozenset(filters)
        if host.link_is_busy:
            return
        new = host.wanted - (host.filters - host.dropped)
        host.filters, host.dropped = host.wanted, frozenset()
        if not new:
            return
        # What came under an earlier subscription is heard before the new one begins.
        host.link_is_busy = True
        self.hear_all(host)
        host.link_is_busy = False
        if new.issuperset(ourselves):
            reactor.connecting()
        for network_id in reactor.fabric.networks:
            if new.intersection(TOPICS.of_network(network_id)):
                reactor.snapshots.subscribed(network_id, self.clock)
            if new.issuperset(ourselves):
                reactor.snapshots.subscribed(network_id, self.clock, host.name)
        for one in sorted(new):
            held = ((topic, said) for topic, said in self.retained.items() if self._comes_by(one, topic, host))
            host.inbox += [(topic, Replayed(said)) for topic, said in held]
        self.subscribe(host)

    def _comes_by(self, one: str, topic: str, host: Host) -> bool:
        own = self.authors.get(topic) is host.reactor
        return _covers(one, topic) and (not own or TOPICS.is_of_host(one, host.name))

    def carry_out(self, host: Host) -> None:
        """Do what the host's reactor has decided."""
        host.news = True
        self.now += timedelta(milliseconds=1)
        reactor = host.reactor
        for _ in range(100):
            events, reactor.events = reactor.events, []
            for event in events:
                self.events.append((host, event))
                host.say(host.words(event))
            reactor.plan(host.now)
            for bridge in Bridge:
                self._program(host, bridge)
            records, reactor.records = reactor.records, {}
            if not (self._write_rows(host, records) or reactor.events):
                break
        else:
            raise AssertionError(f"{host.name} does not come to rest")
        host.manifests_due |= reactor.manifests
        reactor.manifests = set()
        if self.carried_out is not None:
            self.carried_out(host)
        if host.connected and not host.deaf_and_mute:
            self.subscribe(host)

    # --- what must always hold -----------------------------------------------------------------------------------

    def check(self) -> None:
        """The increments equal a full recompute, and the switch holds just that; others' items are untouched.

        Hosts where nothing has happened since are passed over.
        """
        for host in self.hosts.values():
            if not (host.alive and host.news):
                continue
            host.news = False
            for bridge, whole in host.reactor.planner.recomputed().items():
                where, ledger, switch = f"{host.name} {bridge}", host.reactor.ledgers[bridge], host.bridges[bridge]
                assert ledger.wanted == whole, f"{where}: the increments differ from a full recompute"
                assert switch.flows[STRANGERS_FLOW.key] == STRANGERS_FLOW
                assert switch.groups[STRANGERS_GROUP.key] == STRANGERS_GROUP
                if bridge in host.programmed and ledger.known:
                    items: list[Item] = [*switch.flows.values(), *switch.groups.values()]
                    held = {item.key: item for item in items if _is_programmed(item)}
                    assert held == ledger.installed, f"{where}: the switch holds something else than we think"
                    assert ledger.spared or held == whole, f"{where}: the switch holds something else than wanted"

    # --- frames --------------------------------------------------------------------------------------------------

    def send(self, sender: str, frame: Frame) -> list[tuple[str, Frame]]:
        """Let a port, `hv1/p1`, send a frame; return who hears what, in no order."""
        host, _, name = sender.partition("/")
        heard: list[tuple[str, Frame]] = []
        self._through_integration(self[host], self[host].plugged[PortId(name)][1], frame, heard, hops=8)
        return heard

    def hears(self, sender: str, to: str = BROADCAST, **changes: object) -> set[str]:
        """Return the ports that hear a frame from *sender* to the MAC *to*; each at most once, untagged, unchanged."""
        host, _, name = sender.partition("/")
        frame = replace(Frame(str(self[host].port(name).mac), to), **changes)  # type: ignore[arg-type]  # as `a_port`
        heard = self.send(sender, frame)
        names = [name for name, _ in heard]
        assert len(set(names)) == len(names), f"heard twice: {names}"
        assert all((each.src, each.dst, each.vlan) == (frame.src, frame.dst, None) for _, each in heard)
        return set(names)

    def announces(self, sender: str) -> set[str]:
        """Let a station tell that it is here, by gratuitous ARP; return the ports that hear it."""
        return self.hears(sender, kind="arp", arp_op=1)

    # --- within --------------------------------------------------------------------------------------------------

    def _program(self, host: Host, bridge: Bridge) -> None:
        reactor, ledger = host.reactor, host.reactor.ledgers[bridge]
        while ledger.known and ledger.owes and bridge in host.programmed:
            generation = reactor.progress.generation
            host.bridges[bridge].commit(ledger.take().text())
            ledger.committed()
            reactor.committed(bridge, generation, host.now)
            if self.committed is not None:
                self.committed(host)

    def _write_rows(self, host: Host, records: Mapping[PortId, PortRecord]) -> bool:
        """Write records to the Port rows; a write that changes something comes back as a changed row."""
        host.unwritten.update(records)
        if not host.writes_rows:
            return False
        waiting, host.unwritten = host.unwritten, {}
        changed = False
        for port_id, record in waiting.items():
            before = host.rows.get(port_id, Row())
            if port_id in host.plugged and (after := before.written(record)) != before:
                host.rows[port_id] = after
                host.picture_tells({port_id: host.plug_of(port_id)})
                changed = True
        return changed

    def _through_integration(
        self, host: Host, in_port: int, frame: Frame, heard: list[tuple[str, Frame]], hops: int
    ) -> None:
        assert hops, f"{frame} goes in circles between the bridges of {host.name}"
        names = {int(ofport): name for name, (_, ofport) in host.plugged.items()}
        for port, out in host.bridges[INT].receive(in_port, frame):
            if port == PATCH_TO_TUNNEL:
                inner = replace(out, tun_id=0, tun_src="", tun_dst="")
                self._through_tunnel(host, PATCH_TO_INTEGRATION, inner, heard, hops - 1)
            elif port in names:  # else nobody is plugged in there any more
                heard.append((f"{host.name}/{names[port]}", replace(out, tun_id=0, tun_src="", tun_dst="")))

    def _through_tunnel(
        self, host: Host, in_port: int, frame: Frame, heard: list[tuple[str, Frame]], hops: int
    ) -> None:
        tunnels = {number for _, number in self.ports.tunnels}
        for port, out in host.bridges[TUN].receive(in_port, frame):
            if port == PATCH_TO_INTEGRATION:
                inner = replace(out, tun_id=0, tun_src="", tun_dst="")
                self._through_integration(host, PATCH_TO_TUNNEL, inner, heard, hops - 1)
            elif port in tunnels:
                assert bool(out.tun_id and out.tun_dst), f"{host.name} sends without a tunnel key or address: {out}"
                assert out.vlan is None, f"{host.name} sends its local VLAN to others: {out}"
                there = [other for other in self.hosts.values() if str(other.endpoint) == out.tun_dst]
                self.copies += [(host.name, other.name) for other in there] or [(host.name, out.tun_dst)]
                for other in there:
                    outer = replace(out, tun_src=str(host.endpoint), tun_dst="")
                    self._through_tunnel(other, port, outer, heard, hops - 1)


def _a_switch() -> Switch:
    switch = Switch()
    _let_strangers_in(switch)
    return switch


def _let_strangers_in(switch: Switch) -> None:
    switch.flows[STRANGERS_FLOW.key] = STRANGERS_FLOW
    switch.groups[STRANGERS_GROUP.key] = STRANGERS_GROUP


def _tenure(host: Host) -> Tenure:
    identity = host.reactor.identity
    return Tenure(identity.session, host.now, identity.endpoint)


def _is_programmed(item: Item) -> bool:
    if isinstance(item, Flow):
        return item != STRANGERS_FLOW and not any(each.startswith("hard_timeout=") for each in item.actions)
    return item != STRANGERS_GROUP


def _covers(one: str, topic: str) -> bool:
    levels, wanted = topic.split("/"), one.split("/")
    return len(levels) == len(wanted) and all(want in ("+", have) for want, have in zip(wanted, levels, strict=True))


def _decided(reactor: Reactor) -> tuple[object, ...]:
    """Return what a reactor has decided, so far as others can see it."""
    owed = tuple(frozenset(ledger.installed.items() ^ ledger.wanted.items()) for ledger in reactor.ledgers.values())
    return reactor.progress.generation, owed, len(reactor.events), frozenset(reactor.manifests)
