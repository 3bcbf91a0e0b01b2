"""A switch without I/O, strict as ovs-vswitchd: takes bundles as text, prints dumps, and moves frames by its flows.

It is stricter in one thing: what stays is not touched, so no bundle makes again what is there, or what it deletes. It
knows the matches and actions that portwatch uses and no others: an unknown word is a fault. Learned flows end when
`age` says so.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from portwatch.openflow import parse
from portwatch.openflow.actions import Action
from portwatch.openflow.fields import Field
from portwatch.openflow.flow import Bucket, Flow, FlowKey, Group, GroupKey, Item

BROADCAST = "ff:ff:ff:ff:ff:ff"
NO_MAC = "00:00:00:00:00:00"
PRESENT = 0x1000
HOPS = 64
"""Tables that one frame may see: more is a loop."""


class SwitchRefuses(AssertionError):
    """The switch does not take a line: OpenFlow's error."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What travels: Ethernet, a VLAN, some of IP, ARP and ICMPv6, and the tunnel's outer header."""

    src: str
    dst: str
    vlan: int | None = None
    kind: str = "ip"
    """`ip`, `udp`, `ipv6`, `icmp6`, `arp`, `rarp`, or what is none of them."""
    ip_src: str = ""
    ip_dst: str = ""
    ttl: int = 255
    tp_src: int = 0
    tp_dst: int = 0
    arp_op: int = 0
    arp_sha: str = ""
    arp_tha: str = ""
    arp_spa: str = ""
    arp_tpa: str = ""
    icmp_type: int = 0
    nd_target: str = ""
    nd_sll: str = NO_MAC
    nd_tll: str = NO_MAC
    nd_reserved: int = 0
    tun_id: int = 0
    tun_src: str = ""
    tun_dst: str = ""
    reg0: int = 0
    reg2: int = 0
    xreg0: int = 0

    @property
    def tci(self) -> int:
        return 0 if self.vlan is None else PRESENT | self.vlan


Output = tuple[int, Frame]


class Switch:
    """One bridge: its flows and groups, whoever's they are."""

    def __init__(self) -> None:
        self.flows: dict[FlowKey, Flow] = {}
        self.groups: dict[GroupKey, Group] = {}
        self.log: list[str] = []
        """Every line that was ever committed."""
        self._left: dict[FlowKey, float] = {}
        """For how many seconds learned flows stay."""

    # --- programming ---------------------------------------------------------------------------------------------

    def commit(self, bundle: str) -> None:
        """Take a bundle, a line a modification, in order."""
        flows, groups = dict(self.flows), dict(self.groups)
        for line in bundle.splitlines():
            self.log.append(line)
            kind, verb, rest = line.split(" ", 2)
            match kind, verb:
                case "flow", "add":
                    flow = _flow(rest)
                    assert flows.get(flow.key) != flow, f"what is there is made again: {line}"
                    self._add(flow)
                case "flow", "delete_strict":
                    self._delete_strict(rest)
                case "flow", "delete":
                    self._delete(rest)
                case "group", "add_or_mod":
                    group = _sound(parse.group(rest))
                    assert groups.get(group.key) != group, f"what is there is made again: {line}"
                    self.groups[group.key] = group
                case "group", "insert_bucket":
                    self._insert_bucket(rest)
                case "group", "remove_bucket":
                    self._remove_bucket(rest)
                case "group", "delete":
                    self._delete_group(parse.group(f"{rest},type=all").key)
                case _:
                    raise SwitchRefuses(f"what is {line!r}?")

    def dump_flows(self) -> str:
        """Print as `ovs-ofctl dump-flows --no-stats` does."""
        lines = ["OFPST_FLOW reply (OF1.5) (xid=0x2):"]
        for flow in self.flows.values():
            head = [f" cookie={flow.cookie:#x}", f" table={flow.table}"]
            timeouts = [f" {action}" for action in flow.actions if action.startswith("hard_timeout=")]
            match = ",".join((f" priority={flow.key.priority}", *flow.key.match))
            actions = ",".join(action for action in flow.actions if not action.startswith("hard_timeout="))
            lines.append(f"{','.join((*head, *timeouts, match))} actions={actions}")
        return "\n".join(lines) + "\n"

    def dump_groups(self) -> str:
        """Print as `ovs-ofctl dump-groups` does."""
        return "\n".join(["OFPST_GROUP_DESC reply (OF1.5) (xid=0x2):", *(f" {g.text()}" for g in self.groups.values())])

    def items(self) -> Iterator[Item]:
        """Yield all there is, through its dump."""
        for line in self.dump_flows().splitlines():
            yield from _flows(line)
        yield from parse.groups(self.dump_groups(), range(2**32))

    def forget(self) -> None:
        """Restart: an OpenFlow switch keeps nothing."""
        self.flows.clear()
        self.groups.clear()

    def age(self, seconds: float) -> None:
        """Let time pass: what was learned ends."""
        self._left = {key: left - seconds for key, left in self._left.items() if key in self.flows}
        for key in [key for key, left in self._left.items() if left <= 0]:
            del self.flows[key], self._left[key]

    # --- moving frames -------------------------------------------------------------------------------------------

    def receive(self, in_port: int, frame: Frame) -> list[Output]:
        """Return what goes out of which port when *frame* comes in."""
        return list(self._table(0, in_port, frame, HOPS))

    def _table(self, table: int, in_port: int, frame: Frame, hops: int) -> Iterator[Output]:
        if not hops:
            raise AssertionError(f"{frame} goes in circles")
        fitting = [
            flow
            for flow in self.flows.values()
            if flow.table == table and all(_test(field)(in_port, frame) for field in flow.key.match)
        ]
        if fitting:
            best = max(fitting, key=lambda flow: flow.key.priority)
            yield from self._run(best.actions, in_port, frame, hops)

    def _run(self, actions: Iterable[Action], in_port: int, frame: Frame, hops: int) -> Iterator[Output]:
        for action in actions:
            name, _, text = action.partition(":")
            match name:
                case "drop":
                    return
                case "output":
                    if int(text) != in_port:
                        yield int(text), frame
                case "IN_PORT":
                    yield in_port, frame
                case "goto_table":
                    yield from self._table(int(text), in_port, frame, hops - 1)
                case "group":
                    for bucket in self.groups[GroupKey(int(text))].buckets:
                        yield from self._run(bucket.actions, in_port, frame, hops - 1)
                case _ if action.startswith("resubmit(,"):
                    yield from self._table(int(action[len("resubmit(,") : -1]), in_port, frame, hops - 1)
                case _ if action.startswith("learn("):
                    self._learn(action, in_port, frame)
                case _ if action.startswith("hard_timeout="):
                    pass
                case _:
                    frame = _rewritten(action, frame)

    def _learn(self, action: str, in_port: int, frame: Frame) -> None:
        words = dict(word.partition("=")[::2] for word in action.removeprefix("learn(").split(","))
        assert frame.vlan is not None, "learning from an untagged frame"
        match = (Field(f"vlan_tci={frame.vlan:#06x}/0x0fff"), Field(f"dl_dst={frame.src}"))
        key = FlowKey(int(words["table"]), int(words["priority"]), match)
        way_back = [f"hard_timeout={words['hard_timeout']}"]
        if "load:0->NXM_OF_VLAN_TCI[]" in words:
            way_back.append("load:0->NXM_OF_VLAN_TCI[]")
        if "load:NXM_NX_TUN_ID[]->NXM_NX_TUN_ID[]" in words:
            family = "tun_dst" if ip_address(frame.tun_src).version == 4 else "tun_ipv6_dst"
            way_back += (f"set_field:{frame.tun_id:#x}->tun_id", f"set_field:{frame.tun_src}->{family}")
        actions = map(Action, (*way_back, f"output:{in_port}"))
        self.flows[key] = Flow(int(words["cookie"], 16), key, tuple(actions))
        self._left[key] = float(words["hard_timeout"])

    # --- within --------------------------------------------------------------------------------------------------

    def _add(self, flow: Flow) -> None:
        for action in flow.actions:
            if action.startswith("group:") and GroupKey(int(action.removeprefix("group:"))) not in self.groups:
                raise SwitchRefuses(f"OFPBAC_BAD_OUT_GROUP: {flow.text()}")
        self.flows[flow.key] = flow

    def _delete_strict(self, text: str) -> None:
        cookie, rest = _cookie(text)
        key = parse.flow(f"{rest},actions=drop").key
        if (flow := self.flows.get(key)) is not None and flow.cookie & cookie[1] == cookie[0]:
            del self.flows[key]

    def _delete(self, text: str) -> None:
        """Delete every flow that matches nothing but what *text* matches: ovs-ofctl(8), "del-flows"."""
        cookie, rest = _cookie(text)
        fields = rest.split(",")
        tables = {int(field.removeprefix("table=")) for field in fields if field.startswith("table=")}
        match = [Field(field) for field in fields if not field.startswith("table=")]
        for key, flow in list(self.flows.items()):
            ours = flow.cookie & cookie[1] == cookie[0]
            if ours and (not tables or key.table in tables) and _within(key.match, match):
                del self.flows[key]

    def _insert_bucket(self, text: str) -> None:
        part = parse.group(text.replace(",command_bucket_id=last", ",type=all", 1))
        if part.key not in self.groups:
            raise SwitchRefuses(f"OFPGMFC_UNKNOWN_GROUP: {text}")
        before = self.groups[part.key]
        self.groups[part.key] = _sound(replace(before, buckets=(*before.buckets, *part.buckets)))

    def _remove_bucket(self, text: str) -> None:
        words = dict(word.partition("=")[::2] for word in text.split(","))
        key, number = GroupKey(int(words["group_id"])), int(words["command_bucket_id"])
        if key not in self.groups:
            raise SwitchRefuses(f"OFPGMFC_UNKNOWN_GROUP: {text}")
        before = self.groups[key]
        if number not in {bucket.bucket_id for bucket in before.buckets}:
            raise SwitchRefuses(f"OFPGMFC_UNKNOWN_BUCKET: {text}")
        self.groups[key] = replace(before, buckets=tuple(b for b in before.buckets if b.bucket_id != number))

    def _delete_group(self, key: GroupKey) -> None:
        self.groups.pop(key, None)
        for flow in list(self.flows.values()):  # its flows go with it: OpenFlow 1.5.1, 6.7
            if f"group:{key.group_id}" in flow.actions:
                del self.flows[flow.key]


def _sound(group: Group) -> Group:
    numbers = [bucket.bucket_id for bucket in group.buckets]
    if len(set(numbers)) != len(numbers):
        raise SwitchRefuses(f"OFPGMFC_BUCKET_EXISTS: {group.text()}")
    if any(not 0 <= number <= 0xFFFFFF00 for number in numbers):
        raise SwitchRefuses(f"OFPGMFC_BAD_BUCKET: {group.text()}")
    ordered: tuple[Bucket, ...] = tuple(sorted(group.buckets, key=lambda bucket: bucket.bucket_id))
    return replace(group, buckets=ordered)


def _cookie(text: str) -> tuple[tuple[int, int], str]:
    found = re.fullmatch(r"cookie=(0x[0-9a-f]+)/(0x[0-9a-f]+),(.*)", text)
    if found is None:
        raise SwitchRefuses(f"a deletion without an owner: {text}")
    return (int(found[1], 16), int(found[2], 16)), found[3]


def _bits(field: Field) -> tuple[str, int, int]:
    """Return a field as name, value and mask; `dl_vlan` is a way to write `vlan_tci`."""
    name, _, text = field.partition("=")
    value, _, mask = text.partition("/")
    if name == "dl_vlan":
        return "vlan_tci", PRESENT | int(value), 0x1FFF
    if name == "vlan_tci":
        return name, int(value, 16), int(mask, 16) if mask else 0xFFFF
    if name in ("dl_src", "dl_dst"):
        return name, _mac(value), _mac(mask or BROADCAST)
    return name, hash(text), -1


def _within(match: Iterable[Field], bound: Iterable[Field]) -> bool:
    held = {name: (value, mask) for name, value, mask in map(_bits, match)}
    for name, value, mask in map(_bits, bound):
        have, its_mask = held.get(name, (0, 0))
        if its_mask & mask != mask or have & mask != value & mask:
            return False
    return True


Test = Callable[[int, Frame], bool]
_IP = {"ip": ("ip", "udp"), "ipv6": ("ipv6", "icmp6")}


@lru_cache(maxsize=65536)
def _test(field: Field) -> Test:
    """Return how a frame is held against one field."""
    name, _, text = field.partition("=")
    match name:
        case "in_port":
            number = int(text)
            return lambda in_port, _: in_port == number
        case "vlan_tci" | "dl_vlan":
            _, value, mask = _bits(field)
            return lambda _, frame: frame.tci & mask == value & mask
        case "dl_src":
            _, value, mask = _bits(field)
            return lambda _, frame: _mac(frame.src) & mask == value & mask
        case "dl_dst":
            _, value, mask = _bits(field)
            return lambda _, frame: _mac(frame.dst) & mask == value & mask
        case "ip" | "ipv6":
            return lambda _, frame: frame.kind in _IP[name]
        case "arp" | "rarp" | "icmp6" | "udp":
            return lambda _, frame: frame.kind == name
        case "arp_op" | "icmp_type" | "tp_src" | "tp_dst" | "nw_ttl":
            attribute = name.removeprefix("nw_")
            return lambda _, frame: bool(getattr(frame, attribute) == int(text))
        case "arp_sha" | "nd_sll" | "nd_tll":
            return lambda _, frame: bool(getattr(frame, name) == text)
        case "arp_spa" | "arp_tpa" | "nd_target" | "nw_src" | "nw_dst" | "ipv6_src" | "ipv6_dst":
            attribute = re.sub("^(nw|ipv6)_", "ip_", name)
            network = ip_network(text)
            return lambda _, frame: _within_network(getattr(frame, attribute), network)
        case "tun_id" | "reg0":
            return lambda _, frame: bool(getattr(frame, name) == int(text, 16))
        case "tun_src" | "tun_ipv6_src":
            return lambda _, frame: frame.tun_src == text
    raise SwitchRefuses(f"the switch knows no field {field!r}")


def _within_network(address: str, network: IPv4Network | IPv6Network) -> bool:
    return bool(address) and ip_address(address) in network


_MOVES: dict[str, Callable[[Frame], Frame]] = {
    "move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[]": lambda frame: replace(frame, dst=frame.src),
    "move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[]": lambda frame: replace(frame, arp_tha=frame.arp_sha),
    "move:NXM_OF_ARP_SPA[]->NXM_OF_ARP_TPA[]": lambda frame: replace(frame, arp_tpa=frame.arp_spa),
    "move:OXM_OF_PKT_REG0[0..47]->NXM_OF_ETH_SRC[]": lambda frame: replace(frame, src=_mac_text(frame.xreg0)),
    "move:OXM_OF_PKT_REG0[0..47]->NXM_NX_ND_TLL[]": lambda frame: replace(frame, nd_tll=_mac_text(frame.xreg0)),
    "move:NXM_NX_IPV6_SRC[]->NXM_NX_IPV6_DST[]": lambda frame: replace(frame, ip_dst=frame.ip_src),
    "move:NXM_NX_ND_TARGET[]->NXM_NX_IPV6_SRC[]": lambda frame: replace(frame, ip_src=frame.nd_target),
    "move:NXM_NX_REG2[]->ERICOXM_OF_ICMPV6_ND_RESERVED[]": lambda frame: replace(frame, nd_reserved=frame.reg2),
    # The option's type says whose MAC it holds: the asker's before, the target's from here on.
    "set_field:2->nd_options_type": lambda frame: replace(frame, nd_tll=frame.nd_sll, nd_sll=NO_MAC),
    "load:0->NXM_OF_VLAN_TCI[]": lambda frame: replace(frame, vlan=None),
    "pop_vlan": lambda frame: replace(frame, vlan=None),
    "push_vlan:0x8100": lambda frame: replace(frame, vlan=0),
}


def _rewritten(action: Action, frame: Frame) -> Frame:
    if action in _MOVES:
        return _MOVES[action](frame)
    value, found, name = action.removeprefix("set_field:").partition("->")
    if not action.startswith("set_field:") or not found:
        raise SwitchRefuses(f"the switch knows no action {action!r}")
    match name:
        case "vlan_vid":
            assert frame.vlan is not None, "setting the VLAN of an untagged frame"
            return replace(frame, vlan=int(value) - PRESENT)
        case "tun_id" | "reg0" | "reg2" | "xreg0":
            return replace(frame, **{name: int(value, 16)})  # type: ignore[arg-type]  # each of them is a number
        case "tun_dst" | "tun_ipv6_dst":
            return replace(frame, tun_dst=value)
        case "eth_src":
            return replace(frame, src=value)
        case "arp_op":
            return replace(frame, arp_op=int(value))
        case "icmpv6_type":
            return replace(frame, icmp_type=int(value))
        case "ipv6_dst":
            return replace(frame, ip_dst=value)
        case "arp_sha":
            return replace(frame, arp_sha=value)
        case "arp_spa":
            return replace(frame, arp_spa=value)
    raise SwitchRefuses(f"the switch knows no field to set in {action!r}")


@lru_cache(maxsize=65536)
def _flow(text: str) -> Flow:
    return parse.flow(text)


@lru_cache(maxsize=65536)
def _flows(line: str) -> tuple[Flow, ...]:
    return tuple(parse.flows(line))


def _mac_text(number: int) -> str:
    return number.to_bytes(6).hex(":")


@lru_cache(maxsize=65536)
def _mac(text: str) -> int:
    return int(text.replace(":", ""), 16)
