"""MACs that are rightly on many hosts: distributed and replicated routers, and what a guest moves by itself."""

from portwatch.fabric.claims import Rule
from portwatch.fabric.pipeline import Policy
from portwatch.model import AddressPair, Kind, fixed_ip
from tests.core.stories.facts import (
    active,
    answered,
    arrives,
    asked_of,
    contested,
    decided,
    heard_by,
    learned,
    passes,
    said,
    talk,
    to_all,
    to_unknown,
)
from tests.core.stories.ports import BLUE
from tests.core.stories.story import Setting, Step, Story, change, mac, plug, unplug

DISTRIBUTED: dict[str, object] = {"kind": Kind.SHARED, "device_owner": "network:router_interface_distributed"}
GATEWAY = mac("p8")
VIRTUAL = "00:00:5e:00:01:07"
STRICT = Setting(Policy(flood_unknown=False))


def router(host: str, **changes: object) -> Step:
    """An interface of the distributed router, the same on each of its hosts."""
    return plug(host, "p8", "blue", **{**DISTRIBUTED, **changes})


def replica(host: str) -> Step:
    """An instance of a router of which one serves and the others stand by."""
    return plug(host, "p8", kind=Kind.SHARED, device_owner="network:ha_router_replicated_interface")


STORIES = (
    Story(
        "a distributed router on all hosts",
        BLUE,
        (router("hv1"), router("hv2"), router("hv3")),
        (
            heard_by("hv1/p1", GATEWAY, "hv1/p8"),
            heard_by("hv2/p2", GATEWAY, "hv2/p8"),
            heard_by("hv3/p3", GATEWAY, "hv3/p8"),
            active("hv1/p8", "hv2/p8", "hv3/p8"),
            contested("hv1", "p8", is_so=False),
            said("hv1/p8", "ACTIVE", kind="shared"),
            to_all("hv1/p1", "hv1/p8", "hv2/p2", "hv2/p8", "hv3/p3", "hv3/p8"),
        ),
    ),
    Story(
        "a distributed router on two hosts, and a third that has none",
        BLUE,
        (router("hv1"), router("hv2")),
        (
            heard_by("hv3/p3", GATEWAY, "hv1/p8", "hv2/p8"),
            heard_by("hv1/p1", GATEWAY, "hv1/p8"),
            decided("hv3", "p8", Rule.SHARED),
            asked_of("hv3/p3", "10.0.0.9", "hv1/p1", "hv1/p8", "hv2/p2", "hv2/p8"),
            learned("hv2/p8", "hv3/p3", "hv2/p8"),
        ),
    ),
    Story(
        "a distributed router leaves a host",
        (*BLUE, router("hv1"), router("hv2"), router("hv3")),
        (unplug("hv3", "p8"),),
        (
            heard_by("hv3/p3", GATEWAY, "hv1/p8", "hv2/p8"),
            heard_by("hv1/p1", GATEWAY, "hv1/p8"),
        ),
        throughout=(arrives("hv3/p3", "p8"), arrives("hv1/p1", "p8")),
    ),
    Story(
        "a distributed router leaves all but one host",
        (*BLUE, router("hv1"), router("hv2")),
        (unplug("hv2", "p8"),),
        (
            heard_by("hv3/p3", GATEWAY, "hv1/p8", "hv2/p2"),
            heard_by("hv1/p1", GATEWAY, "hv1/p8"),
            decided("hv3", "p8", Rule.SHARED),
        ),
        throughout=(arrives("hv3/p3", "p8"), arrives("hv2/p2", "p8")),
    ),
    Story(
        "a distributed router's instance moves",
        (*BLUE, router("hv1"), router("hv2")),
        (router("hv3"), unplug("hv1", "p8")),
        (
            heard_by("hv1/p1", GATEWAY, "hv2/p8", "hv3/p8"),
            heard_by("hv3/p3", GATEWAY, "hv3/p8"),
        ),
        throughout=(arrives("hv1/p1", "p8"), arrives("hv2/p2", "p8")),
    ),
    Story(
        "a replicated router is reached where it speaks, also beside an instance that stands by",
        BLUE,
        (replica("hv1"), replica("hv2")),
        tuple(
            learned(master, guest, master)
            for master in ("hv1/p8", "hv2/p8")
            for guest in ("hv1/p1", "hv2/p2", "hv3/p3")
        ),
    ),
    Story(
        "a replicated router's instance that stands by goes",
        (*BLUE, replica("hv1"), replica("hv2")),
        (unplug("hv2", "p8"),),
        tuple(learned("hv1/p8", guest, "hv1/p8") for guest in ("hv1/p1", "hv2/p2", "hv3/p3")),
        throughout=(arrives("hv1/p1", "p8"), arrives("hv2/p2", "p8")),
    ),
    Story(
        "a port on one host becomes shared",
        (*BLUE, plug("hv1", "p8"), plug("hv2", "p8")),
        (change("hv1", "p8", **DISTRIBUTED), change("hv2", "p8", **DISTRIBUTED)),
        (heard_by("hv3/p3", GATEWAY, "hv1/p8", "hv2/p8"), contested("hv1", "p8", is_so=False)),
        throughout=(arrives("hv3/p3", "p8"),),
    ),
    Story(
        "a shared port becomes single",
        (*BLUE, router("hv1"), router("hv2")),
        (unplug("hv2", "p8"), change("hv1", "p8", kind=Kind.SINGLE, device_owner="compute:nova")),
        (talk("hv1/p1", "hv1/p8", "hv2/p2", "hv3/p3"), answered("hv3/p3", "10.0.0.9", GATEWAY)),
        throughout=(arrives("hv3/p3", "p8"),),
    ),
    Story(
        "one claim of a MAC is shared and another is not",
        BLUE,
        (router("hv1"), plug("hv2", "p8")),
        (
            heard_by("hv3/p3", GATEWAY, "hv1/p8", "hv2/p8"),
            decided("hv3", "p8", Rule.SHARED),
            contested("hv2", "p8", is_so=False),
        ),
    ),
    Story(
        "a shared port that is down does not count",
        BLUE,
        (router("hv1", admin_up=False), plug("hv2", "p8")),
        (talk("hv1/p1", "hv2/p2", "hv2/p8", "hv3/p3"), said("hv1/p8", "DOWN"), decided("hv3", "p8", Rule.ONLY)),
    ),
    Story(
        "shared ports are flooded to although unknown MACs are not",
        BLUE,
        (router("hv1"), router("hv2")),
        (
            heard_by("hv3/p3", GATEWAY, "hv1/p8", "hv2/p8"),
            learned("hv2/p8", "hv3/p3", "hv2/p8"),
            to_unknown("hv3/p3"),
        ),
        setting=STRICT,
    ),
    Story(
        "a virtual MAC that two ports may use is nobody's and is found where it speaks",
        BLUE,
        tuple(
            change(f"hv{number}", f"p{number}", allowed_address_pairs=(AddressPair.parse(f"{VIRTUAL}/10.0.0.200"),))
            for number in (1, 2)
        ),
        (
            heard_by("hv3/p3", VIRTUAL, "hv1/p1", "hv2/p2"),
            asked_of("hv3/p3", "10.0.0.200", "hv1/p1", "hv2/p2"),
            passes("hv1/p1", "10.0.0.200", by=VIRTUAL),
            passes("hv2/p2", "10.0.0.200", by=VIRTUAL),
            talk("hv1/p1", "hv2/p2", "hv3/p3"),
        ),
    ),
    Story(
        "a network's DHCP port is a port like any other",
        BLUE,
        (plug("hv2", "p9", device_owner="network:dhcp", fixed_ips=(fixed_ip("10.0.0.100"), fixed_ip("fd00::64"))),),
        (
            talk("hv1/p1", "hv2/p2", "hv2/p9", "hv3/p3"),
            answered("hv1/p1", "10.0.0.100", mac("p9")),
            answered("hv1/p1", "fd00::64", mac("p9")),
            active("hv2/p9"),
        ),
    ),
)
