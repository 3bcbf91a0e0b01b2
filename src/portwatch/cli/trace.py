"""`portwatch trace`: what the switch would do with a packet of a port, asked of `ofproto/trace` and told in words."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final

import click

from portwatch.cli import query
from portwatch.cli.packet import Fate, Site, fate
from portwatch.cli.table import printable
from portwatch.config import Config
from portwatch.errors import PortwatchError
from portwatch.model import IpAddress, Mac
from portwatch.switch import appctl

Row = Mapping[str, Any]

NOBODYS: Final = "02:00:00:00:00:00"
"""What a port whose own MAC is not known is said to send from."""


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet to ask about: in words for people, and as ovs-ofctl's match."""

    words: str
    text: str


def trace(config: Config, name: str, destination: str, source: str | None, raw: bool, as_json: bool) -> None:
    """Print what becomes of a packet from port *name* to *destination*: a MAC, an IP address or a port's name."""
    ports = query.ask(config, "ports")
    port = _port(ports, name)
    stations = [row for row in query.ask(config, "fdb") if row["network_id"] == port["network_id"]]
    site = _site(config, ports, stations, port)
    told = []
    if (station := _named(destination, ports, stations)) is not None:
        destination = next(iter(station["fixed_ips"]), station["mac"])
    for packet in packets(port, stations, destination, source):
        text = appctl.trace(config.openflow.rundir, config.bridges.integration, packet.text)
        found = fate(text, site)
        told.append({"packet": packet.text, "words": packet.words, **_as_json(found)})
        if not as_json:
            _show(packet, found, text if raw else None)
    if as_json:
        click.echo(json.dumps(told, indent=2))


def packets(port: Row, stations: list[Row], destination: str, source: str | None) -> Iterator[Packet]:
    """Yield what to ask: for an address, first who has it, and then a packet to whoever it is known to be.

    *stations* are the rows of the forwarding table in the port's network.
    """
    own = port["mac"] or NOBODYS
    sender = f"in_port={port['ofport']},dl_src={own}"
    address, mac = _destination(destination)
    station = _station(stations, address, mac)
    if address is not None:
        mine = _address(source, port["fixed_ips"], address.version)
        yield _question(sender, own, mine, address)
        mac = Mac(station["mac"]) if station else None
    if mac is None:
        return
    others = station["fixed_ips"] if station else []
    theirs = address or next((ip_address(each) for each in others), None)
    words = f"to {mac}" + (f" ({theirs})" if theirs else "")
    if theirs is None:
        yield Packet(f"a frame {words}, without addresses", f"{sender},dl_dst={mac},dl_type=0x88b5")
        return
    mine = _address(source, port["fixed_ips"], theirs.version)
    yield Packet(f"a ping {words}, from {mine}", f"{sender},dl_dst={mac},{_ping(mine, theirs)}")


def _question(sender: str, mac: str, mine: IpAddress, theirs: IpAddress) -> Packet:
    """Return the question who has an address (RFC 826; RFC 4861, 4.3)."""
    if isinstance(theirs, IPv4Address):
        asked = f"arp,arp_op=1,arp_spa={mine},arp_tpa={theirs},arp_sha={mac}"
        return Packet(f"an ARP request: who has {theirs}?", f"{sender},dl_dst=ff:ff:ff:ff:ff:ff,{asked}")
    last = theirs.packed[-3:]
    group = IPv6Address(IPv6Address("ff02::1:ff00:0").packed[:-3] + last)
    asked = f"icmp6,ipv6_src={mine},ipv6_dst={group},nw_ttl=255,icmpv6_type=135,icmpv6_code=0"
    link_layer = f"dl_dst=33:33:ff:{last.hex(':')}"
    return Packet(
        f"a neighbour solicitation: who has {theirs}?", f"{sender},{link_layer},{asked},nd_target={theirs},nd_sll={mac}"
    )


def _ping(mine: IpAddress, theirs: IpAddress) -> str:
    if isinstance(theirs, IPv4Address):
        return f"icmp,nw_src={mine},nw_dst={theirs},nw_ttl=64,icmp_type=8"
    return f"icmp6,ipv6_src={mine},ipv6_dst={theirs},nw_ttl=64,icmpv6_type=128"


def _destination(text: str) -> tuple[IpAddress | None, Mac | None]:
    try:
        return ip_address(text), None
    except ValueError:
        pass
    try:
        return None, Mac(text)
    except ValueError as error:
        raise click.UsageError(f"{text!r} is no IP address, no MAC and no port of its network: {error}") from None


def _address(given: str | None, fixed_ips: list[str], version: int) -> IpAddress:
    """Return what the packet comes from: what was asked for, else the port's own, else nothing yet."""
    if given is not None:
        try:
            address = ip_address(given)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        if address.version != version:
            raise click.UsageError(f"--source {given} and the destination are of different IP versions")
        return address
    own = (ip_address(each) for each in fixed_ips)
    nothing = IPv4Address(0) if version == IPv4Address(0).version else IPv6Address(0)
    return next((each for each in own if each.version == version), nothing)


def _station(stations: list[Row], address: IpAddress | None, mac: Mac | None) -> Row | None:
    def fits(row: Row) -> bool:
        return row["mac"] == mac or (address is not None and str(address) in row["fixed_ips"])

    return next(filter(fits, stations), None)


def _named(name: str, ports: list[Row], stations: list[Row]) -> Row | None:
    """Return the station that a port of this name has: its id, or its interface if it is here."""
    ids = {name, *(row["port_id"] for row in ports if row["interface"] == name)}
    return next((row for row in stations if any(claim["port_id"] in ids for claim in row["claims"])), None)


def _port(rows: list[Row], name: str) -> Row:
    for row in rows:
        if name in (row["port_id"], row["interface"], row.get("mac")):
            if "ofport" not in row:
                raise PortwatchError(f"{printable(name)} cannot be a port of ours: {row['reason']}")
            return row
    raise query.unknown(name)


def _site(config: Config, ports: list[Row], stations: list[Row], port: Row) -> Site:
    reason = port["reason"] or f"its status is {port['status']}"
    apart = sorted({row["reason"] for row in stations if row["reason"]})
    return Site(
        integration=config.bridges.integration,
        tunnel=config.bridges.tunnel,
        ports={row["ofport"]: row for row in ports if row.get("ofport")},
        hosts={claim["tunnel_ip"]: claim["host"] for row in stations for claim in row["claims"] if claim["tunnel_ip"]},
        status=reason,
        unreached="; ".join(apart) or "none has a wired port in this network",
    )


def _as_json(found: Fate) -> dict[str, Any]:
    told = asdict(found)
    return {"steps": told.pop("words"), **told, "end": found.end}


def _show(packet: Packet, found: Fate, text: str | None) -> None:
    click.echo(packet.words)
    for line in found.words:
        click.echo(f"  {printable(line)}")
    click.echo(f"  {printable(found.end)}\n")
    if text is not None:
        click.echo(text)
