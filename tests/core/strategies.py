"""Hypothesis' ways to make the field's nouns: whatever the types allow, and small pools that collide often."""

from datetime import UTC, datetime

from hypothesis import strategies as st

from portwatch.events import EVENT_TYPES, HOST_STATES, HostStatus, Manifest, PortEvent
from portwatch.model import (
    SEQ_MAX,
    TUNNEL_TYPES,
    AddressPair,
    Claim,
    HostName,
    IpAddress,
    Kind,
    Mac,
    NetworkId,
    NetworkType,
    Port,
    PortId,
    State,
    Status,
    TunnelEndpoint,
    Vni,
    fixed_ip,
    tunnel_endpoint,
)


def _is(parse: type | object, text: str) -> bool:
    try:
        parse(text)  # type: ignore[operator]  # a type or a function of one text
    except ValueError:
        return False
    return True


macs: st.SearchStrategy[Mac] = (
    st.integers(1, 2**48 - 1)
    .filter(lambda number: not number >> 40 & 1)
    .map(lambda number: Mac(":".join(f"{octet:02x}" for octet in number.to_bytes(6, "big"))))
)
ids = st.text(min_size=1, max_size=12).filter(lambda text: _is(PortId, text))
network_types = st.sampled_from(sorted(TUNNEL_TYPES)) | st.sampled_from(["vlan", "flat"]).map(NetworkType)
fixed_ips: st.SearchStrategy[IpAddress] = (
    st.ip_addresses().map(str).filter(lambda text: _is(fixed_ip, text)).map(fixed_ip)
)
endpoints: st.SearchStrategy[TunnelEndpoint] = (
    st.ip_addresses().map(str).filter(lambda text: _is(tunnel_endpoint, text)).map(tunnel_endpoint)
)
pairs: st.SearchStrategy[AddressPair] = st.builds(
    lambda address, length, mac: AddressPair.parse(
        f"{f'{mac}/' if mac else ''}{address}/{length % (address.max_prefixlen + 1)}"
    ),
    st.ip_addresses(),
    st.integers(0, 128),
    st.none() | macs,
)
words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=20)
moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # bounds


@st.composite
def ports(draw: st.DrawFn) -> Port:
    """Return any port that can be told to others: `fault` and `admin_up` travel as the claim's status."""
    return Port(
        port_id=PortId(draw(ids)),
        network_id=draw(st.none() | ids.map(NetworkId)),
        network_type=draw(network_types),
        segmentation_id=draw(st.none() | st.integers(Vni.LOWEST, Vni.HIGHEST).map(Vni)),
        mac=draw(st.none() | macs),
        fixed_ips=tuple(draw(st.lists(fixed_ips, max_size=3))),
        allowed_address_pairs=tuple(draw(st.lists(pairs, max_size=3))),
        device_owner=draw(words),
        kind=draw(st.sampled_from(Kind)),
        state=draw(st.sampled_from(State)),
    )


@st.composite
def claims(draw: st.DrawFn) -> Claim:
    """Return any claim that can be told to others."""
    status = draw(st.sampled_from(Status))
    port = draw(ports())
    return Claim(
        host=HostName(draw(ids)),
        port=Port(**{**_fields(port), "admin_up": status is not Status.DOWN}),  # type: ignore[arg-type]  # a Port's own
        tunnel_ip=draw(st.none() | endpoints),
        status=status,
        session=draw(words),
        seq=draw(st.integers(0, SEQ_MAX)),
        revision=draw(st.integers(0, SEQ_MAX)),
        reason=draw(st.none() | words),
    )


events: st.SearchStrategy[PortEvent] = st.builds(
    lambda kind, claim, number, time: kind(claim, number, time),
    st.sampled_from(list(EVENT_TYPES.values())),
    claims(),
    st.integers(0, 10**12),
    moments,
)
manifests = st.builds(
    Manifest,
    network_id=ids.map(NetworkId),
    host=ids.map(HostName),
    session=words,
    count=st.integers(0, SEQ_MAX),
    digest=st.text("0123456789abcdef", min_size=64, max_size=64),
)
host_statuses = st.builds(
    HostStatus,
    host=ids.map(HostName),
    session=words,
    state=st.sampled_from(HOST_STATES),
    tunnel_ip=st.none() | endpoints,
    tunnel_type=st.none() | words,
    version=words,
    started_at=st.none() | moments,
    tunnel_since=st.none() | moments,
)


def _fields(port: Port) -> dict[str, object]:
    return {name: getattr(port, name) for name in port.__dataclass_fields__}
