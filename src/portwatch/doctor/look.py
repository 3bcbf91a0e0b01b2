"""Gathers the facts: asks the agent, OVSDB, the switch, the kernel, the peers and the broker. Changes nothing."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any, Final, TypeVar

from portwatch.config import Config, Details, MemoryBus
from portwatch.doctor import bus, probe
from portwatch.doctor.drops import Reading, read, rises
from portwatch.doctor.facts import Agent, Bridge, Device, Facts, Path, Row, Spoofer, Waiting
from portwatch.errors import OvsdbError, SwitchError
from portwatch.fabric import tables
from portwatch.http.client import AgentNotRunning, fetch
from portwatch.model import GRE, NetworkId, OfPort
from portwatch.openflow import parse
from portwatch.openflow.flow import Flow
from portwatch.ovsdb.changes import RowChange
from portwatch.ovsdb.database import Database
from portwatch.ovsdb.picture import Picture
from portwatch.ovsdb.rows import NETWORK_KEY, TABLES
from portwatch.partners import access_of, broker_of, own_name, tls_of
from portwatch.switch.ofctl import OfCtl

T = TypeVar("T")

OVSDB_SECONDS: Final = 3.0
AGAIN_SECONDS: Final = 2.0
"""After which is looked once more: libvirt removes a device before its row; the switch counts 0.5 s late."""
PEERS: Final = 64
"""Peers to which the path is tried; what is wrong with the underlay shows with so many."""
VM_MTU: Final = 1500
"""Of a VM whose device says nothing."""
_TABLES: Final = {
    **TABLES,
    "Bridge": (*TABLES["Bridge"], "controller"),
    "Interface": (*TABLES["Interface"], "error", "mtu", "ifindex"),
    "Controller": ("target",),
}
_OURS: Final = {
    "integration": {
        *(tables.INT_CLASSIFY, tables.INT_SOURCE, tables.INT_DISCOVERY),
        *(tables.INT_DELIVER, tables.INT_FLOOD),
    },
    "tunnel": {
        *(tables.TUN_CLASSIFY, tables.TUN_FROM_INTEGRATION, *tables.TUN_FROM_TUNNEL.values(), tables.TUN_LEARN),
        *(tables.TUN_UNICAST, tables.TUN_NEIGHBORS, tables.TUN_FLOOD, tables.TUN_FLOOD_PART, tables.TUN_ADVERTISE),
    },
}
_OUTER: Final = {4: 20, 6: 40}
_INNER_ETHERNET: Final = 14
_UDP_TUNNEL, _GRE_TUNNEL = 8 + 8, 4 + 4
"""Bytes between the outer IP header and the inner frame: UDP and VXLAN or Geneve; GRE with its key."""


async def look(config: Config) -> Facts:
    """Return all that can be seen now."""
    agent = _agent(config)
    facts = Facts(config=config, agent=agent, clock_disciplined=probe.clock_disciplined())
    facts, networks = await _open_vswitch(config, facts)
    if config.tunnel.local_ip is not None:
        facts = replace(facts, local_ip_here=probe.is_ours(config.tunnel.local_ip))
        if facts.local_ip_here:
            facts = replace(facts, paths=_paths(config, agent.peers, facts.devices))
    if not isinstance(config.bus.url, MemoryBus):
        name = own_name(config, facts.host or None)
        told = await bus.look(
            broker_of(config),
            config.bus.prefix,
            name,
            networks,
            agent_runs=agent.runs,
            endpoint=config.tunnel.local_ip,
        )
        facts = replace(facts, bus=told, host=name)
    return facts


def overhead(network_type: str, version: int) -> int:
    """Return by how many bytes the IP packet that carries a frame is longer than the IP packet in it."""
    return _OUTER[version] + (_GRE_TUNNEL if network_type == GRE else _UDP_TUNNEL) + _INNER_ETHERNET


# --- the agent ---------------------------------------------------------------------------------------------------


def _agent(config: Config) -> Agent:
    try:
        status, body = fetch(config.http.listen, "/readyz", access=access_of(config))
        reasons = json.loads(body)["reasons"] if status != HTTPStatus.OK else {}
        ports, networks, peers = (tuple(_told(config, name, list[Row]())) for name in ("ports", "networks", "peers"))
        drained = _told(config, "host", {"leaving": False})["leaving"]
    except AgentNotRunning as error:
        return Agent(trouble=str(error))
    except (ValueError, KeyError, TypeError):
        return Agent(trouble="what answers at http.listen is no portwatch")
    return Agent(reasons=reasons, drained=drained, ports=ports, networks=networks, peers=peers)


def _told(config: Config, name: str, otherwise: T) -> T:
    """Return what the agent tells under /v1; *otherwise*, of the same form, when it is not ready for that."""
    status, body = fetch(config.http.listen, f"/v1/{name}", access=access_of(config))
    answer: T = json.loads(body) if status == HTTPStatus.OK else otherwise
    return answer


# --- OVSDB and the switch ----------------------------------------------------------------------------------------


async def _open_vswitch(config: Config, facts: Facts) -> tuple[Facts, list[NetworkId]]:
    """Return the facts with what OVSDB and the switch say, and the networks that have a port here."""
    try:
        rows = await _read(config)
    except OvsdbError as error:
        return replace(facts, ovsdb_trouble=str(error)), []
    picture = Picture(
        config.bridges.integration, config.bridges.tunnel, directory=config.ports.details is Details.DIRECTORY
    )
    picture.apply(rows, 0.0, whole=True)
    devices = _devices(rows, picture)
    orphans = tuple(each for each in devices if each.error)
    risen: dict[OfPort, int] = {}
    async with OfCtl(config.openflow.rundir) as ofctl:
        bridges = [
            await _bridge(ofctl, rows, str(name), _OURS[job])
            for job, name in (("integration", config.bridges.integration), ("tunnel", config.bridges.tunnel))
        ]
        drops = await _drops(ofctl, config.bridges.integration)
        if orphans or any(reading.any for reading in drops):
            await asyncio.sleep(AGAIN_SECONDS)
            again = {each.name for each in _devices(await _read(config), picture) if each.error}
            orphans = tuple(each for each in orphans if each.name in again)
            risen = dict(rises(drops, await _drops(ofctl, config.bridges.integration)))
    networks = {NetworkId(row["network_id"]) for row in facts.agent.networks}
    networks |= {plug.port.network_id for plug in picture.plugs.values() if plug.port.network_id}
    seen = replace(
        facts,
        host=picture.hostname or "",
        bridges=tuple(bridges),
        devices=devices,
        orphans=orphans,
        spoofers=tuple(_spoofers(risen, picture, devices)),
        waiting=tuple(_waiting(facts.agent, picture)),
        vlans_used=_vlans(rows),
    )
    return seen, sorted(networks)


async def _read(config: Config) -> tuple[RowChange, ...]:
    async with Database(str(config.ovsdb.remote), _TABLES, tls=tls_of(config)) as database:
        try:
            async with asyncio.timeout(OVSDB_SECONDS):
                return (await anext(aiter(database))).rows
        except TimeoutError:
            raise OvsdbError(database.last_error or f"{config.ovsdb.remote}: no answer") from None


def _columns(rows: Iterable[RowChange], table: str) -> dict[Any, Any]:
    return {row.uuid: row.columns for row in rows if row.table == table}


async def _bridge(ofctl: OfCtl, rows: tuple[RowChange, ...], name: str, ours: set[int]) -> Bridge:
    row = next((each for each in _columns(rows, "Bridge").values() if each["name"] == name), None)
    if row is None:
        return Bridge(name, exists=False)
    controllers = _columns(rows, "Controller")
    targets = tuple(sorted(controllers[uuid]["target"] for uuid in row["controller"] if uuid in controllers))
    bridge = Bridge(name, protocols=frozenset(row["protocols"]), controllers=targets)
    try:
        flows = parse.flows(await ofctl.dump_flows(name, 0, 0))
        return replace(bridge, strangers=tuple(flow for flow in flows if flow.table in ours and _is_strange(flow)))
    except SwitchError as error:
        return replace(bridge, trouble=error.detail)


def _is_strange(flow: Flow) -> bool:
    """Is this somebody else's? Open vSwitch's own, which a new bridge has until it is programmed, is nobody's."""
    own = flow.table == 0 and flow.key.priority == 0 and flow.cookie == 0 and flow.actions == ("NORMAL",)
    return not tables.OWN.holds(flow) and not own


async def _drops(ofctl: OfCtl, bridge: str) -> tuple[Reading, ...]:
    """Return what was dropped of each port until now, read twice; nothing when the switch does not tell."""
    try:
        return tuple(
            [
                read(await ofctl.dump_flows(bridge, tables.OWN.cookie, tables.OWN.mask, statistics=True))
                for _ in range(2)
            ]
        )
    except SwitchError:
        return ()  # `_bridge` has met the same, and says so


def _spoofers(risen: Mapping[OfPort, int], picture: Picture, devices: Iterable[Device]) -> Iterable[Spoofer]:
    names = {device.port_id: device.name for device in devices}
    for port_id, plug in sorted(picture.plugs.items()):
        if frames := risen.get(plug.ofport):
            yield Spoofer(port_id, names[port_id], frames, AGAIN_SECONDS)


def _devices(rows: Iterable[RowChange], picture: Picture) -> tuple[Device, ...]:
    """Return the interfaces on the integration bridge that give a port."""
    rows = tuple(rows)
    interfaces, ports = _columns(rows, "Interface"), _columns(rows, "Port")
    bridges = (each for each in _columns(rows, "Bridge").values() if each["name"] == picture.integration)
    plugged = (ports[uuid] for bridge in bridges for uuid in bridge["ports"] if uuid in ports)
    here = (interfaces[uuid] for port in plugged for uuid in port["interfaces"] if uuid in interfaces)
    devices = [
        Device(row["name"], row["external_ids"]["iface-id"], _gone(row), row["mtu"])
        for row in here
        if "iface-id" in row["external_ids"]
    ]
    return tuple(sorted(devices, key=lambda device: device.name))


def _gone(row: Row) -> str | None:
    """Return why there is no device behind an Interface, if there is none.

    ovs-vswitchd names the error when it opens a device, as at its start; of one that goes later it shows no index.
    """
    if row["error"]:
        return str(row["error"])
    lost = row["type"] in ("", "system") and row["ifindex"] == 0
    return "ovs-vswitchd has no such device" if lost or row["ofport"] == -1 else None


def _waiting(agent: Agent, picture: Picture) -> Iterable[Waiting]:
    """Yield the ports that are not wired for want of details, or for a wrong one; the agent knows best."""
    if agent.runs:
        for row in agent.ports:
            if row["status"] in ("BUILD", "ERROR") and row.get("reason"):
                yield Waiting(row["port_id"] or row["interface"], row["reason"])
        return
    for unfit in picture.unfit.values():
        yield Waiting(unfit.interface, unfit.reason)
    for port_id, plug in sorted(picture.plugs.items()):
        if plug.port.fault:
            yield Waiting(port_id, plug.port.fault)
        elif plug.port.missing and not plug.port.from_directory:
            yield Waiting(port_id, f"details-missing: {plug.port.lacks}")


def _vlans(rows: Iterable[RowChange]) -> int:
    tags = {port["tag"] for port in _columns(rows, "Port").values() if NETWORK_KEY in port["external_ids"]}
    return len(tags - {None})


# --- the peers ---------------------------------------------------------------------------------------------------


def _paths(config: Config, peers: Iterable[Row], devices: Iterable[Device]) -> tuple[Path, ...]:
    """Try the way to each peer that is reached from here."""
    source = config.tunnel.local_ip
    assert source is not None, "whoever has no tunnel address has no paths"
    frame = max((device.mtu or 0 for device in devices), default=0) or VM_MTU
    needed = frame + overhead(config.tunnel.type, source.version)
    reached = [(row["host"], ip_address(row["tunnel_ip"])) for row in peers if row["tunnel_ip"] and not row["reason"]]
    endpoints = dict(reached[:PEERS])
    try:
        full = probe.echoed(source, endpoints.values(), needed)
        least = full | probe.echoed(source, set(endpoints.values()) - full, probe.LEAST)
    except PermissionError:
        return ()  # who is not root may not ask
    return tuple(
        Path(host, endpoint, needed, endpoint in full, endpoint in least) for host, endpoint in endpoints.items()
    )
