"""The bridges, the patch ports between them and the tunnel ports, made by ovsdbapp's commands when they are missing.

Also a row for their datapath, if nobody has made one: in it ovs-vswitchd says what the datapath can.

The only file that imports `ovsdbapp`; never in the hot path, for it waits for ovs-vswitchd. What exists is taken
as it is: a bridge is never made anew, and its fail mode, protocols and datapath type are never changed (changing
the fail mode flushes everybody's flows). When all is there, nothing is written and `next_cfg` stays.

A tunnel port that we made earlier and that is not wanted any more (no network of its type, no `local_ip`) is left
alone. No flow admits what comes out of it, its number is still good if it is wanted again, and `portwatch cleanup`
removes it.
"""

import asyncio
import contextlib
import select
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv6Address
from time import monotonic
from typing import Any, Final

import structlog
from ovsdbapp.backend.ovs_idl import command, connection, idlutils
from ovsdbapp.schema.open_vswitch import impl_idl

from portwatch.errors import OvsdbError, OvsdbUnavailable, TransactionFailed
from portwatch.model import GRE, VXLAN, NetworkType, TunnelEndpoint
from portwatch.ovsdb.database import Database
from portwatch.ovsdb.picture import PATCH_TO_INTEGRATION, PATCH_TO_TUNNEL, TUNNEL_PORTS
from portwatch.ovsdb.rows import OWNER_KEY
from portwatch.ovsdb.session import Tls
from portwatch.ovsdb.values import refusal

log: Final = structlog.get_logger(__name__)

_COLUMNS: Final = {
    "Open_vSwitch": ("bridges", "datapaths", "next_cfg", "cur_cfg"),
    "Datapath": ("datapath_version",),
    "Bridge": ("name", "ports", "datapath_type", "fail_mode"),
    "Port": ("name", "interfaces", "external_ids"),
    "Interface": ("name", "type", "options", "ofport", "error"),
}
_OURS_TO_SET: Final = frozenset({"remote_ip", "local_ip", "key", "dst_port", "packet_type"})


@dataclass(frozen=True, slots=True)
class Bridges:
    """What shall be there: a tunnel port of `type`, and one of each of `types`. Without `local_ip` there is none."""

    integration: str = "br-int"
    tunnel: str = "br-tun"
    datapath_type: str = "system"
    local_ip: TunnelEndpoint | None = None
    type: NetworkType = VXLAN
    port: int | None = None
    """Of the tunnel port of `type`; the others have their types' own."""
    types: frozenset[NetworkType] = frozenset()
    ask_datapath: bool = False
    """Shall ovs-vswitchd say what the datapath can? It does so in a Datapath row, which it does not make itself."""

    @property
    def tunnel_types(self) -> tuple[NetworkType, ...]:
        """The types of the tunnel ports, the main one first: what is wrong with another does not hide it."""
        if self.local_ip is None:
            return ()
        return (self.type, *sorted(self.types - {self.type}))


class BridgeConflict(OvsdbError):
    """A bridge or port cannot be as it is wanted: the operator must look."""

    def __init__(self, name: str, detail: str) -> None:
        self.name, self.detail = name, detail
        super().__init__(f"{name}: {detail}")


async def ensure(remote: str, wanted: Bridges, *, timeout: float = 10.0, tls: Tls | None = None) -> None:
    """Make what is missing, in one transaction, and wait until ovs-vswitchd has followed."""
    deadline = monotonic() + timeout
    async with Database(remote, {}, tls=tls) as database:
        try:
            async with asyncio.timeout(timeout):
                schema = await database.schema()
        except TimeoutError:
            raise OvsdbUnavailable(f"{database.last_error}; the bridges were not looked at") from None
    # Made in this thread: the IDL takes time-based UUIDs, and libuuid keeps a descriptor for every thread that does.
    idl = _Idl(remote, schema, deadline)
    await _in_a_thread(partial(_arrange, idl, remote, wanted))


async def _in_a_thread(work: Callable[[], None]) -> None:
    """Let *work* block a thread of its own: for a pool's thread the process would wait at its end."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def tell(error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        error: BaseException | None = None
        try:
            work()
        except BaseException as raised:  # noqa: BLE001 - it goes on, in whoever waits
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(tell, error)

    threading.Thread(target=run, name="ovsdbapp", daemon=True).start()
    await done


def _arrange(idl: "_Idl", remote: str, wanted: Bridges) -> None:
    """Do it in this thread, which ovsdbapp may block until the deadline. The TLS files are known by now."""
    stage = "ovsdb-server does not answer; the bridges were not looked at"
    try:
        api = _Api(_Channel(idl), start=False)  # before the rows come: its indexes know only what comes later
        idlutils.wait_for_change(idl)
        if api.switch is None:
            raise OvsdbUnavailable(f"{remote}: the database is empty: has Open vSwitch been started (ovs-vsctl init)?")
        stage = "ovsdb-server does not answer; the bridges may or may not have been arranged"
        arrangement = _Arrangement(api, wanted)
        transaction = _Transaction(api, api.ovsdb_connection, check_error=True, log_errors=False)
        transaction.add(arrangement)
        transaction.do_commit()
        if arrangement.changes:
            log.info("bridges arranged", remote=remote, changes=arrangement.changes)
        if arrangement.conflicts:
            raise arrangement.conflicts[0]
        stage = "the bridges are in the database, and ovs-vswitchd has not followed: is it running?"
        while api.switch.cur_cfg < api.switch.next_cfg:
            idlutils.wait_for_change(idl)
        _await_ports(api, wanted)
    except _TooLate:
        raise OvsdbUnavailable(f"{remote}: {stage}") from None
    except RuntimeError as error:  # ovsdbapp's for every refusal
        raise TransactionFailed(f"{remote}: {refusal(str(error).removeprefix('OVSDB Error: '))}") from error
    finally:
        idl.close()


class _Arrangement(command.BaseCommand):
    """All of it as one command: when others write meanwhile it is run again, and looks again."""

    def __init__(self, api: "_Api", wanted: Bridges) -> None:
        super().__init__(api)
        self.wanted = wanted
        self.changes: list[str] = []
        self.conflicts: list[BridgeConflict] = []

    def run_idl(self, txn: Any) -> None:
        self.changes, self.conflicts = [], []
        for missing in _missing(self.api, self.wanted):
            if isinstance(missing, BridgeConflict):
                self.conflicts.append(missing)
                continue
            change, steps = missing
            self.changes.append(change)
            for step in steps:
                step.run_idl(txn)


class _AddDatapath(command.BaseCommand):
    """Make the row of a datapath type, as ovn-controller does."""

    def __init__(self, api: "_Api", datapath_type: str) -> None:
        super().__init__(api)
        self.datapath_type = datapath_type

    def run_idl(self, txn: Any) -> None:
        row = txn.insert(self.api.tables["Datapath"])
        self.api.switch.setkey("datapaths", self.datapath_type, row.uuid)


_Change = tuple[str, list[Any]]


def _missing(api: "_Api", wanted: Bridges) -> Iterator[_Change | BridgeConflict]:
    """What is to be done, in words and as ovsdbapp's commands; nothing when all is there.

    A tunnel port that cannot be as it is wanted holds up no other: its conflict is yielded in its place.
    """
    yield from _missing_bridges(api, wanted)
    yield from _missing_patch(api, wanted.integration, PATCH_TO_TUNNEL, PATCH_TO_INTEGRATION)
    yield from _missing_patch(api, wanted.tunnel, PATCH_TO_INTEGRATION, PATCH_TO_TUNNEL)
    for kind in wanted.tunnel_types:
        try:
            yield from _missing_tunnel(api, wanted, kind)
        except BridgeConflict as conflict:
            yield conflict
    datapath_type = api.datapath_type(wanted.tunnel) or wanted.datapath_type
    if wanted.ask_datapath and datapath_type not in api.switch.datapaths:
        yield f"row for the datapath {datapath_type} made", [_AddDatapath(api, datapath_type)]


def _missing_bridges(api: "_Api", wanted: Bridges) -> Iterator[_Change]:
    names = (wanted.integration, wanted.tunnel)
    datapaths = [api.datapath_type(name) or wanted.datapath_type for name in names]
    if len(set(datapaths)) > 1:
        detail = " and ".join(f"{name} is {datapath}" for name, datapath in zip(names, datapaths, strict=True))
        raise BridgeConflict(wanted.tunnel, f"{detail}: no patch port joins these; see bridges.datapath_type")
    for name in names:
        if api.datapath_type(name) is None:
            # Only for a bridge that is missing: of one that is there it would change the datapath type.
            add = api.add_br(name, may_exist=False, datapath_type=wanted.datapath_type)
            yield f"bridge {name} made", [add, api.db_set("Bridge", name, ("fail_mode", "secure"))]


def _missing_patch(api: "_Api", bridge: str, name: str, peer: str) -> Iterator[_Change]:
    port = api.port(name)
    if port is None:
        yield f"patch port {name} made", api.our_port(bridge, name, type="patch", options={"peer": peer})
    elif port.bridge != bridge or port.type != "patch" or port.options.get("peer") != peer:
        raise BridgeConflict(name, f"exists and is no patch port of {bridge} with the peer {peer}")


def _missing_tunnel(api: "_Api", wanted: Bridges, network_type: NetworkType) -> Iterator[_Change]:
    name = TUNNEL_PORTS[network_type]
    kind, options = _tunnel(wanted, network_type)
    port = api.port(name)
    if port is None:
        yield f"tunnel port {name} made", api.our_port(wanted.tunnel, name, type=kind, options=options)
        return
    if port.bridge != wanted.tunnel or port.external_ids.get(OWNER_KEY) != "true":
        raise BridgeConflict(name, f"exists and is no tunnel port that portwatch made on {wanted.tunnel}")
    ours = {key: value for key, value in port.options.items() if key in _OURS_TO_SET}
    if (port.type, ours) != (kind, options):
        stale = sorted(ours.keys() - options.keys())
        # In place, and without touching what else an operator has set there, such as `csum`.
        remove = [api.db_remove("Interface", name, "options", *stale)] if stale else []
        update = api.db_set("Interface", name, ("type", kind), ("options", options))
        yield f"tunnel port {name} changed", [*remove, update]


def _tunnel(wanted: Bridges, network_type: NetworkType) -> tuple[str, dict[str, str]]:
    """The type and the options of one port for all peers: flows say where a packet goes and with which key."""
    options = {"remote_ip": "flow", "key": "flow", "local_ip": str(wanted.local_ip)}
    if network_type == GRE and isinstance(wanted.local_ip, IPv6Address):
        # To OVS that is another type, and carries whole Ethernet frames only when told so.
        return "ip6gre", options | {"packet_type": "legacy_l2"}
    if network_type != GRE and network_type == wanted.type and wanted.port is not None:
        options["dst_port"] = str(wanted.port)
    return str(network_type), options


def _await_ports(api: "_Api", wanted: Bridges) -> None:
    """Wait until each of our ports has its number. Of a bridge that it cannot make, ovs-vswitchd says nothing."""
    names = [wanted.integration, wanted.tunnel, PATCH_TO_TUNNEL, PATCH_TO_INTEGRATION]
    names += [TUNNEL_PORTS[kind] for kind in wanted.tunnel_types]
    for name in names:
        try:
            while (port := api.port(name)) is not None and not port.numbered:
                idlutils.wait_for_change(api.idl)
        except _TooLate:
            datapath_type = api.datapath_type(wanted.tunnel)
            doubt = f"is it running, and does the datapath type {datapath_type} work here? See its log"
            raise BridgeConflict(name, f"ovs-vswitchd has not made it: {doubt}") from None
        if port is not None and port.fault:
            raise BridgeConflict(name, f"ovs-vswitchd cannot make it: {port.fault}")


@dataclass(frozen=True, slots=True)
class _Port:
    """A port with one interface, as it stands. With none or many, it has no type."""

    bridge: str
    external_ids: Mapping[str, str]
    type: str | None
    options: Mapping[str, str]
    numbered: bool
    fault: str


class _Api(impl_idl.OvsdbIdl):
    """ovsdbapp's commands, and what they need to know first."""

    # ovsdbapp keeps one connection for the whole process; here is one for each object.
    ovsdb_connection: Any = None

    @property
    def switch(self) -> Any:
        """The one row of the table Open_vSwitch, None before somebody has made it."""
        return next(iter(self.tables["Open_vSwitch"].rows.values()), None)

    def datapath_type(self, bridge: str) -> str | None:
        row = idlutils.row_by_value(self.idl, "Bridge", "name", bridge, None)
        return None if row is None else str(row.datapath_type or "system")

    def port(self, name: str) -> _Port | None:
        row = idlutils.row_by_value(self.idl, "Port", "name", name, None)
        if row is None:
            return None
        bridge = next((bridge.name for bridge in self.tables["Bridge"].rows.values() if row in bridge.ports), "")
        if len(row.interfaces) != 1:
            return _Port(bridge, row.external_ids, type=None, options={}, numbered=True, fault="")
        (interface,) = row.interfaces
        fault = "".join(interface.error) or ("no reason given" if interface.ofport == [-1] else "")
        numbered = bool(interface.ofport)
        return _Port(bridge, row.external_ids, interface.type, interface.options, numbered=numbered, fault=fault)

    def our_port(self, bridge: str, name: str, **interface: Any) -> list[Any]:
        add = self.add_port(bridge, name, may_exist=False, **interface)
        return [add, self.db_set("Port", name, ("external_ids", {OWNER_KEY: "true"}))]


class _Channel:
    """Stands in for ovsdbapp's connection, which makes a thread that nothing ends when ovsdb-server hangs."""

    timeout = 3600  # the IDL's deadline comes first
    is_running = None

    def __init__(self, idl: "_Idl") -> None:
        self.idl = idl
        self.lock = threading.RLock()


class _Transaction(impl_idl.OvsVsctlTransaction):
    def post_commit(self, txn: Any) -> None:
        """Do not wait for ovs-vswitchd here: ovsdbapp would swallow that it did not follow."""


class _TooLate(Exception):
    pass


class _Idl(connection.OvsdbIdl):
    """An IDL that waits no longer than until a deadline, however deep in ovsdbapp."""

    def __init__(self, remote: str, schema: Mapping[str, Any], deadline: float) -> None:
        helper = idlutils.create_schema_helper(schema)
        for table, columns in _COLUMNS.items():
            helper.register_columns(table, list(columns))
        super().__init__(remote, helper, leader_only=False)
        self._deadline = deadline

    def wait(self, poller: Any) -> None:
        left = self._deadline - monotonic()
        if left <= 0:
            raise _TooLate
        poller.poll = select.poll()  # its own uses select, which knows no descriptor above 1023
        poller.timer_wait(left * 1000)
        super().wait(poller)
