"""What a port may send from, and the flows that hold it to that: anti-spoofing, docs/contract.md, section 6.

Two tables. INT_SOURCE looks at who sends: a MAC of the port, and with it one of the addresses that go with that MAC.
INT_DISCOVERY looks at how addresses are found: what comes from the unspecified address must be asking for one, and
nobody gives a MAC or an address for its own that is not. What neither lets on is dropped.

A port's flows are as many as its addresses: none is made for a pair of addresses, or of ports.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from portwatch.fabric.tables import (
    ENTRY,
    EXCEPTION,
    EXEMPTION,
    INT_DELIVER,
    INT_DISCOVERY,
    INT_SOURCE,
    MISS,
    programmed,
)
from portwatch.model import IpNetwork, Mac, OfPort, Port, link_local
from portwatch.openflow import actions, fields
from portwatch.openflow.fields import Field
from portwatch.openflow.flow import Flow

ROUTER_SOLICITATION: Final = 133
LISTENER_REPORT, LISTENER_DONE, LISTENER_REPORT_2 = 131, 132, 143
WITHOUT_ADDRESS: Final = (ROUTER_SOLICITATION, LISTENER_REPORT, LISTENER_DONE, LISTENER_REPORT_2)
"""The ICMPv6 messages that may come from `::` (RFC 4861, 4.1; RFC 3590), besides solicitations: those are looked at."""

NO_IPV4, NO_IPV6 = IPv4Network(0), IPv6Network(0)
"""The unspecified addresses: of those who have none yet."""
_DELIVER = (actions.goto_table(INT_DELIVER),)
_LOOK_FURTHER = (actions.goto_table(INT_DISCOVERY),)


@dataclass(frozen=True, slots=True)
class Source:
    """A MAC from which a port may send, and the addresses that go with it; None: any."""

    mac: Mac
    networks: tuple[IpNetwork, ...] | None


def sources(port: Port) -> tuple[Source, ...]:
    """Return what the port may send from: its own MAC first."""
    if port.mac is None:
        return ()
    networks: dict[Mac, dict[IpNetwork, None]] = {port.mac: {}}
    for address in port.fixed_ips:
        networks[port.mac][ip_network(address)] = None
    for pair in port.allowed_address_pairs:
        networks.setdefault(pair.mac or port.mac, {})[pair.network] = None
    for mac, known in networks.items():
        known[ip_network(link_local(mac))] = None
    unaddressed = None if port.fixed_ips else port.mac
    return tuple(Source(mac, None if mac == unaddressed else tuple(known)) for mac, known in networks.items())


def common() -> Iterator[Flow]:
    """What holds for all ports that are checked."""
    # Whoever speaks of addresses must be let on by name.
    for protocol in (fields.ARP, fields.RARP, fields.IPV4, fields.IPV6):
        yield programmed(INT_SOURCE, EXCEPTION, (protocol,), ())
    yield programmed(INT_DISCOVERY, MISS, (), _DELIVER)
    for match in (
        fields.arp_from(NO_IPV4),
        fields.ip_from(NO_IPV4),
        fields.ip_from(NO_IPV6),
        (fields.ICMP6, fields.NEIGHBOR_SOLICITATION),
        (fields.ICMP6, fields.NEIGHBOR_ADVERTISEMENT),
    ):
        yield programmed(INT_DISCOVERY, EXCEPTION, match, ())
    yield programmed(INT_DISCOVERY, EXEMPTION, (*fields.arp_from(NO_IPV4), fields.ARP_REQUEST), _DELIVER)
    yield programmed(INT_DISCOVERY, EXEMPTION, fields.DHCP_DISCOVERY, _DELIVER)
    for kind in WITHOUT_ADDRESS:
        yield programmed(INT_DISCOVERY, EXEMPTION, fields.icmp6_from(NO_IPV6.network_address, kind), _DELIVER)


def checks(ofport: OfPort, port: Port) -> Iterator[Flow]:
    """What holds for one port."""
    for source in sources(port):
        sender = (fields.in_port(ofport), fields.dl_src(source.mac))
        if source.networks is None:
            yield programmed(INT_SOURCE, EXEMPTION, sender, _DELIVER)
        else:
            yield programmed(INT_SOURCE, ENTRY, sender, _DELIVER)
            yield from _source_checks(sender, source.mac, source.networks)
            yield from _discovery_checks(sender, source.mac, source.networks)


def _source_checks(sender: tuple[Field, ...], mac: Mac, networks: tuple[IpNetwork, ...]) -> Iterator[Flow]:
    itself = fields.arp_sha(mac)
    yield programmed(INT_SOURCE, EXEMPTION, (*sender, fields.RARP, itself), _DELIVER)
    for network in networks:
        if isinstance(network, IPv4Network):
            yield programmed(INT_SOURCE, EXEMPTION, (*sender, *fields.arp_from(network), itself), _DELIVER)
            yield programmed(INT_SOURCE, EXEMPTION, (*sender, *fields.ip_from(network)), _DELIVER)
        else:
            yield programmed(INT_SOURCE, EXEMPTION, (*sender, *fields.ip_from(network)), _LOOK_FURTHER)
    if not _covered(NO_IPV4, networks):
        yield programmed(INT_SOURCE, EXEMPTION, (*sender, *fields.arp_from(NO_IPV4), itself), _LOOK_FURTHER)
        yield programmed(INT_SOURCE, EXEMPTION, (*sender, *fields.ip_from(NO_IPV4)), _LOOK_FURTHER)
    if not _covered(NO_IPV6, networks):
        yield programmed(INT_SOURCE, EXEMPTION, (*sender, *fields.ip_from(NO_IPV6)), _LOOK_FURTHER)


def _discovery_checks(sender: tuple[Field, ...], mac: Mac, networks: tuple[IpNetwork, ...]) -> Iterator[Flow]:
    asks = (*sender, fields.ICMP6, fields.NEIGHBOR_SOLICITATION)
    for itself in (fields.nd_sll(mac), fields.NO_SOURCE_LINK_LAYER):
        yield programmed(INT_DISCOVERY, EXEMPTION, (*asks, itself), _DELIVER)
    tells = (*sender, fields.ICMP6, fields.NEIGHBOR_ADVERTISEMENT)
    for network in networks:
        if isinstance(network, IPv6Network):
            for itself in (fields.nd_tll(mac), fields.NO_TARGET_LINK_LAYER):
                match = (*tells, *fields.nd_target_within(network), itself)
                yield programmed(INT_DISCOVERY, EXEMPTION, match, _DELIVER)


def _covered(network: IpNetwork, networks: tuple[IpNetwork, ...]) -> bool:
    return any(network.network_address in each for each in networks)
