"""Networks of every type, number and neighbourhood; what does not fit together is reported and never mixed."""

from portwatch.fabric.pipeline import Policy
from portwatch.model import GENEVE, GRE, Mac, NetworkType, Vni, tunnel_endpoint
from tests.core.fleet import a_port, a_vni
from tests.core.stories.facts import (
    accepts,
    active,
    answered,
    cut_off,
    disagree,
    heard_by,
    holds_nothing,
    row,
    said,
    talk,
    to_unknown,
)
from tests.core.stories.ports import BLUE, BLUE_TALK, RED, RED_TALK
from tests.core.stories.story import Setting, Story, change, in_one_transaction, ip, mac, plug, unplug

FLAT: dict[str, object] = {"network_type": NetworkType("flat"), "segmentation_id": None}
IPV6 = Setting(endpoints={number: tunnel_endpoint(f"2001:db8::{number}") for number in (1, 2, 3)})
MIXED = Setting(endpoints={3: tunnel_endpoint("2001:db8::3")})
NO_TUNNEL = Setting(endpoints={3: None})
TWO_VLANS = Setting(vlans=2)
STRICT = Setting(Policy(flood_unknown=False))
SAME_VNI: dict[str, object] = {"segmentation_id": a_vni("red")}

STORIES = (
    # --- types ---
    Story(
        "networks of three tunnel types side by side, all with one number",
        (),
        tuple(
            plug(host, name, network, network_type=kind, segmentation_id=Vni(7))
            for network, kind, places in (
                ("blue", NetworkType("vxlan"), (("hv1", "p1"), ("hv2", "p2"))),
                ("red", GENEVE, (("hv1", "p3"), ("hv2", "p4"), ("hv3", "p5"))),
                ("green", GRE, (("hv2", "p6"), ("hv3", "p7"))),
            )
            for host, name in places
        ),
        (
            talk("hv1/p1", "hv2/p2"),
            talk("hv1/p3", "hv2/p4", "hv3/p5"),
            talk("hv2/p6", "hv3/p7"),
            active("hv1/p1", "hv1/p3", "hv3/p7"),
            answered("hv3/p5", ip("p3"), mac("p3")),
        ),
    ),
    Story(
        "a network changes its type, host by host",
        BLUE,
        tuple(change(f"hv{number}", f"p{number}", network_type=GENEVE) for number in (1, 2, 3)),
        (BLUE_TALK, active("hv1/p1", "hv2/p2", "hv3/p3"), said("hv1/p1", "ACTIVE", network_type="geneve")),
    ),
    Story(
        "a network that is not tunnelled",
        BLUE,
        (plug("hv1", "p7", "flat", **FLAT), plug("hv1", "p8", "flat", **FLAT), plug("hv2", "p9", "flat", **FLAT)),
        (
            talk("hv1/p7", "hv1/p8"),
            talk("hv2/p9"),
            BLUE_TALK,
            active("hv1/p7", "hv2/p9"),
            said("hv1/p7", "ACTIVE", network_type="flat", segmentation_id=None),
        ),
    ),
    Story(
        "a network becomes a tunnelled one",
        (plug("hv1", "p7", "flat", **FLAT), plug("hv2", "p9", "flat", **FLAT)),
        tuple(
            change(host, name, network_type=NetworkType("vxlan"), segmentation_id=Vni(9))
            for host, name in (("hv1", "p7"), ("hv2", "p9"))
        ),
        (talk("hv1/p7", "hv2/p9"), active("hv1/p7", "hv2/p9")),
    ),
    # --- tunnel endpoints ---
    Story(
        "tunnels over IPv6",
        (),
        (*BLUE, *RED),
        (BLUE_TALK, RED_TALK, accepts("hv1", "hv2", "hv3"), answered("hv1/p1", ip("p2"), mac("p2"))),
        setting=IPV6,
    ),
    Story(
        "a port moves between hosts that tunnel over IPv6",
        BLUE,
        (plug("hv2", "p3"), unplug("hv3", "p3")),
        (talk("hv1/p1", "hv2/p2", "hv2/p3"), holds_nothing("hv3"), accepts("hv1", "hv2")),
        setting=IPV6,
    ),
    Story(
        "a host that tunnels over the other IP version",
        (),
        (*BLUE, plug("hv3", "p4")),
        (
            talk("hv1/p1", "hv2/p2"),
            talk("hv3/p3", "hv3/p4"),
            accepts("hv1", "hv2"),
            accepts("hv3"),
            heard_by("hv1/p1", mac("p3"), "hv2/p2"),
            active("hv3/p3"),
        ),
        setting=MIXED,
    ),
    Story(
        "a host without a tunnel address",
        (),
        (*BLUE, plug("hv3", "p4")),
        (
            talk("hv1/p1", "hv2/p2"),
            talk("hv3/p3", "hv3/p4"),
            accepts("hv1", "hv2"),
            said("hv3/p3", "ACTIVE", tunnel_ip=None),
        ),
        setting=NO_TUNNEL,
    ),
    # --- numbers that do not agree ---
    Story(
        "a host calls a network by another VNI",
        BLUE,
        (change("hv3", "p3", segmentation_id=Vni(77)),),
        (
            talk("hv1/p1", "hv2/p2"),
            talk("hv3/p3"),
            disagree("hv1", "hv3"),
            disagree("hv3", "hv1", "hv2"),
            heard_by("hv1/p1", mac("p3"), "hv2/p2"),
            active("hv3/p3"),
        ),
    ),
    Story(
        "hosts that disagreed on a VNI agree again",
        BLUE,
        (change("hv3", "p3", segmentation_id=Vni(77)), change("hv3", "p3", segmentation_id=a_vni("blue"))),
        (BLUE_TALK, disagree("hv1"), disagree("hv3"), active("hv3/p3")),
    ),
    Story(
        "a host calls a network by another type",
        BLUE,
        (change("hv3", "p3", network_type=GENEVE),),
        (talk("hv1/p1", "hv2/p2"), talk("hv3/p3"), disagree("hv1", "hv3"), disagree("hv3", "hv1", "hv2")),
    ),
    Story(
        "two networks claim one VNI on a host",
        (*BLUE, *RED),
        (plug("hv1", "p7", "green", **SAME_VNI),),
        (
            RED_TALK,
            BLUE_TALK,
            cut_off("hv1/p7"),
            said("hv1/p7", "ERROR", "vni-conflict:"),
            row("hv1/p7", installed=False),
        ),
        throughout=(RED_TALK,),
    ),
    Story(
        "of two networks that claim one VNI the first goes",
        (*BLUE, *RED),
        (plug("hv1", "p7", "green", **SAME_VNI), unplug("hv1", "p5")),
        (talk("hv1/p7"), talk("hv2/p6"), BLUE_TALK, active("hv1/p7")),
    ),
    Story(
        "of two networks that claim one VNI the second takes another",
        (*BLUE, *RED),
        (plug("hv1", "p7", "green", **SAME_VNI), change("hv1", "p7", segmentation_id=Vni(78))),
        (talk("hv1/p7"), RED_TALK, active("hv1/p7")),
        throughout=(RED_TALK,),
    ),
    Story(
        "two networks have one VNI on different hosts",
        BLUE[:2],
        (plug("hv3", "p7", "green", segmentation_id=a_vni("blue")),),
        (talk("hv1/p1", "hv2/p2"), talk("hv3/p7"), accepts("hv3"), accepts("hv1", "hv2")),
    ),
    Story(
        "two networks swap their VNIs in one transaction",
        (plug("hv1", "p1"), plug("hv1", "p5", "red")),
        (
            in_one_transaction(
                "hv1",
                {
                    "p1": a_port("p1", segmentation_id=a_vni("red")),
                    "p5": a_port("p5", "red", segmentation_id=a_vni("blue")),
                },
            ),
            plug("hv2", "p2", segmentation_id=a_vni("red")),
        ),
        (talk("hv1/p1", "hv2/p2"), talk("hv1/p5"), active("hv1/p1", "hv1/p5")),
    ),
    # --- VLANs ---
    Story(
        "all local VLANs are used up",
        (*BLUE, *RED),
        (plug("hv1", "p7", "green"), plug("hv3", "p8", "green")),
        (
            BLUE_TALK,
            RED_TALK,
            cut_off("hv1/p7"),
            said("hv1/p7", "ERROR", "vlans-used-up:"),
            row("hv1/p7", installed=False),
            active("hv3/p8"),
        ),
        setting=TWO_VLANS,
    ),
    Story(
        "a local VLAN becomes free",
        (*BLUE, *RED, plug("hv1", "p7", "green"), plug("hv3", "p8", "green")),
        (unplug("hv1", "p5"),),
        (BLUE_TALK, talk("hv1/p7", "hv3/p8"), talk("hv2/p6"), active("hv1/p7")),
        setting=TWO_VLANS,
    ),
    # --- unknown unicast, and twins ---
    Story(
        "frames to MACs that nobody has are dropped where the operator wants that",
        (),
        (*BLUE, *RED),
        (BLUE_TALK, RED_TALK, to_unknown("hv1/p1"), to_unknown("hv1/p5"), heard_by("hv1/p5", mac("p2"))),
        setting=STRICT,
    ),
    Story(
        "a port that has gone is unknown where unknown MACs are dropped",
        BLUE,
        (unplug("hv2", "p2"), plug("hv2", "p4")),
        (talk("hv1/p1", "hv2/p4", "hv3/p3"), heard_by("hv1/p1", mac("p2"))),
        setting=STRICT,
    ),
    Story(
        "two networks with the same MACs and addresses",
        BLUE,
        tuple(
            plug(f"hv{number}", f"p{number + 10}", "red", mac=Mac(mac(twin)), fixed_ips=a_port(twin).fixed_ips)
            for number, twin in ((1, "p2"), (2, "p3"), (3, "p1"))
        ),
        (
            BLUE_TALK,
            talk("hv1/p11", "hv2/p12", "hv3/p13"),
            answered("hv1/p1", ip("p3"), mac("p3")),
            answered("hv3/p13", ip("p3"), mac("p3")),
        ),
        throughout=(BLUE_TALK,),
    ),
)
