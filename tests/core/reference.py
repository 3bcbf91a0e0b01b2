"""docs/mobility.md once more, written from that page alone: it judges the real code and shares none of it.

It reads what the bus retains, as anybody may, and says what each host is to do with the frames for a MAC.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address, ip_address

Segment = tuple[str, str, int]
"""Network, type, VNI."""
_STATES = ("active", "leaving", "preparing")


@dataclass(frozen=True)
class Said:
    """One claim."""

    host: str
    port_id: str
    network_id: str | None
    segment: Segment | None
    mac: str | None
    shared: bool
    state: str
    status: str
    seq: int
    endpoint: str | None

    @property
    def forwards(self) -> bool:
        return self.status in ("BUILD", "ACTIVE")


@dataclass(frozen=True)
class Expected:
    """What a host does with the frames for a MAC: to one of its ports, to an endpoint, or (neither) to all."""

    ports: frozenset[str] = frozenset()
    endpoint: str | None = None
    floats: bool = False
    """It is shared and here, too."""


def claims(retained: Mapping[str, bytes]) -> list[Said]:
    """Return every claim that the bus holds."""
    return [_said(json.loads(text)["data"]) for topic, text in retained.items() if topic.split("/")[2] == "ports"]


def _said(data: Mapping[str, object]) -> Said:
    known = (data["network_id"], data["network_type"], data["segmentation_id"])
    return Said(
        host=str(data["host"]),
        port_id=str(data["port_id"]),
        network_id=None if known[0] is None else str(known[0]),
        segment=None if None in known else (str(known[0]), str(known[1]), int(str(known[2]))),
        mac=None if data["mac"] is None else str(data["mac"]),
        shared=data["kind"] == "shared",
        state=str(data["state"]),
        status=str(data["status"]),
        seq=int(str(data["seq"])),
        endpoint=None if data["tunnel_ip"] is None else str(data["tunnel_ip"]),
    )


def holders(heard: Iterable[Said], retained: Mapping[str, bytes], here: str, endpoint: str | None) -> dict[str, str]:
    """Return whose each tunnel address is that several hosts claim: of the living, who has had it longest."""
    claimants: dict[str, set[str]] = {endpoint: {here}} if endpoint else {}
    for claim in heard:
        if claim.endpoint:
            claimants.setdefault(claim.endpoint, set()).add(claim.host)
    told = [json.loads(text) for topic, text in retained.items() if topic.split("/")[2] == "hosts"]
    found = {}
    for address, hosts in claimants.items():
        living = [
            (datetime.fromisoformat(each["tunnel_since"]), each["host"])
            for each in told
            if each["host"] in hosts and each["tunnel_ip"] == address and each["state"] in ("online", "leaving")
        ]
        if len(hosts) > 1 and living:
            found[address] = min(living)[1]
    return found


class View:
    """What one host, *here*, is to make of what the bus retains."""

    def __init__(self, retained: Mapping[str, bytes], here: str, endpoint: str | None) -> None:
        self.here, self.endpoint = here, endpoint
        said = claims(retained)
        self.own = [claim for claim in said if claim.host == here]
        networks = {claim.network_id for claim in self.own} - {None}
        heard = [claim for claim in said if claim.host != here and claim.network_id in networks]
        whose = holders(heard, retained, here, endpoint)
        self.refused = {claim.host for claim in heard if whose.get(claim.endpoint or "", claim.host) != claim.host}
        self.counted = [claim for claim in (*heard, *self.own) if claim.forwards and claim.host not in self.refused]

    @property
    def stations(self) -> set[tuple[Segment, str]]:
        """The MACs in the segments that are wired here."""
        wired = {claim.segment for claim in self.own if claim.forwards and claim.mac}
        return {
            (each.segment, each.mac) for each in self.counted if each.segment in wired and each.segment and each.mac
        }

    def expected(self, segment: Segment, mac: str, *, frozen: bool) -> Expected:
        """Return what is to be done with the frames for a MAC: rules 0 to 5."""
        present = sorted((each for each in self.counted if (each.segment, each.mac) == (segment, mac)), key=_rank)
        if any(claim.shared for claim in present) or (frozen and len(present) > 1):
            return Expected(floats=any(claim.host == self.here for claim in present))
        active_here = [claim for claim in present if claim.host == self.here and claim.state == "active"]
        first = (active_here or present)[0]
        if first.host == self.here:
            same = [each for each in present if each.host == self.here and _rank(each) == _rank(first)]
            return Expected(ports=frozenset(claim.port_id for claim in same))
        return Expected(endpoint=first.endpoint if self.reaches(first.endpoint) else None)

    def reaches(self, endpoint: str | None) -> bool:
        """Not at the own address, and not over the other IP version."""
        if endpoint is None or self.endpoint is None or endpoint == self.endpoint:
            return False
        return ip_address(endpoint).version == ip_address(self.endpoint).version


def _rank(claim: Said) -> tuple[int, int, tuple[int, int], str]:
    address: IPv4Address | IPv6Address | None = ip_address(claim.endpoint) if claim.endpoint else None
    order = (address.version, int(address)) if address else (9, 0)
    return _STATES.index(claim.state), -claim.seq, order, claim.host
