"""Ports come and go, and everything about them changes while they live."""

from dataclasses import replace

from portwatch.model import LocalVlan, Mac, NetworkId, PortId, Vni, fixed_ip
from tests.core.fleet import Fleet, a_port, a_vni
from tests.core.stories.facts import (
    accepts,
    active,
    answered,
    arrives,
    asked_of,
    copies,
    cut_off,
    gone,
    heard_by,
    holds_nothing,
    row,
    said,
    talk,
    to_all,
    to_unknown,
)
from tests.core.stories.story import (
    Step,
    Story,
    change,
    in_one_transaction,
    ip,
    mac,
    plug,
    renumber,
    unplug,
    wait,
)

BLUE = (plug("hv1", "p1"), plug("hv2", "p2"), plug("hv3", "p3"))
RED = (plug("hv1", "p5", "red"), plug("hv2", "p6", "red"))
BLUE_TALK = talk("hv1/p1", "hv2/p2", "hv3/p3")
RED_TALK = talk("hv1/p5", "hv2/p6")
IN_RED: dict[str, object] = {"network_id": NetworkId("red"), "segmentation_id": a_vni("red")}
IN_BLUE: dict[str, object] = {"network_id": NetworkId("blue"), "segmentation_id": a_vni("blue")}
NOWHERE: dict[str, object] = {"network_id": None, "segmentation_id": None}


def lose_tag(host: str, name: str) -> Step:
    """Somebody writes another tag over ours."""

    def step(fleet: Fleet) -> None:
        here = fleet[host]
        here.rows[PortId(name)] = replace(here.rows[PortId(name)], tag=LocalVlan(77))
        here.plug(here.port(name))

    return step


STORIES = (
    # --- they come and go ---
    Story(
        "two networks on three hosts",
        (),
        (*BLUE, *RED),
        (
            BLUE_TALK,
            RED_TALK,
            active("hv1/p1", "hv2/p2", "hv3/p3", "hv1/p5", "hv2/p6"),
            accepts("hv1", "hv2", "hv3"),
            to_unknown("hv1/p1", "hv2/p2", "hv3/p3"),
            to_unknown("hv1/p5", "hv2/p6"),
        ),
    ),
    Story(
        "a port that is alone in its network",
        (),
        (plug("hv1", "p1"),),
        (talk("hv1/p1"), active("hv1/p1"), accepts("hv1"), holds_nothing("hv2"), holds_nothing("hv3")),
    ),
    Story(
        "several ports of a network on one host",
        BLUE,
        (plug("hv1", "p4"), plug("hv1", "p7")),
        (talk("hv1/p1", "hv1/p4", "hv1/p7", "hv2/p2", "hv3/p3"), active("hv1/p4", "hv1/p7")),
    ),
    Story(
        "only hosts of a network hear of it",
        (),
        (plug("hv1", "p1"), plug("hv2", "p2"), plug("hv3", "p8", "red")),
        (talk("hv1/p1", "hv2/p2"), talk("hv3/p8"), accepts("hv1", "hv2"), accepts("hv3")),
    ),
    Story(
        "the first port of a network on a host gets all there is of it",
        BLUE[:2],
        (plug("hv3", "p3"),),
        (BLUE_TALK, accepts("hv3", "hv1", "hv2"), answered("hv3/p3", ip("p1"), mac("p1"))),
        throughout=(arrives("hv1/p1", "p2"), arrives("hv2/p2", "p1")),
    ),
    Story(
        "the last port of a network leaves a host",
        (*BLUE, *RED),
        (unplug("hv3", "p3"), unplug("hv2", "p6")),
        (
            talk("hv1/p1", "hv2/p2"),
            talk("hv1/p5"),
            holds_nothing("hv3"),
            accepts("hv1", "hv2"),
            gone("hv3/p3", "hv2/p6"),
            asked_of("hv1/p1", ip("p3"), "hv2/p2"),
            heard_by("hv1/p1", mac("p3"), "hv2/p2"),
        ),
    ),
    Story(
        "one of a host's two ports leaves",
        (*BLUE, plug("hv3", "p4")),
        (unplug("hv3", "p3"),),
        (talk("hv1/p1", "hv2/p2", "hv3/p4"), accepts("hv1", "hv2", "hv3"), gone("hv3/p3")),
        throughout=(arrives("hv1/p1", "p4"), arrives("hv2/p2", "p4")),
    ),
    Story(
        "all ports leave",
        (*BLUE, *RED),
        (unplug("hv1", "p1", "p5"), unplug("hv2", "p2", "p6"), unplug("hv3", "p3")),
        (holds_nothing("hv1"), holds_nothing("hv2"), holds_nothing("hv3"), gone("hv1/p1", "hv2/p6")),
    ),
    Story(
        "a network comes back to a host",
        (*BLUE, *RED),
        (unplug("hv1", "p1"), plug("hv1", "p9"), unplug("hv2", "p2")),
        (talk("hv1/p9", "hv3/p3"), RED_TALK, active("hv1/p9"), gone("hv1/p1", "hv2/p2")),
    ),
    Story(
        "many ports in one transaction",
        BLUE,
        (in_one_transaction("hv1", {f"p{number}": a_port(f"p{number}") for number in (11, 12, 13)} | {"p1": None}),),
        (talk("hv1/p11", "hv1/p12", "hv1/p13", "hv2/p2", "hv3/p3"), active("hv1/p11", "hv1/p13"), gone("hv1/p1")),
    ),
    Story(
        "plugged, unplugged and plugged within milliseconds",
        BLUE,
        (plug("hv1", "p7"), unplug("hv1", "p7"), plug("hv1", "p7")),
        (talk("hv1/p1", "hv1/p7", "hv2/p2", "hv3/p3"), active("hv1/p7")),
    ),
    Story(
        "plugged and unplugged within milliseconds",
        BLUE,
        (plug("hv1", "p7"), unplug("hv1", "p7")),
        (BLUE_TALK, gone("hv1/p7"), heard_by("hv2/p2", mac("p7"), "hv1/p1", "hv3/p3")),
    ),
    Story(
        "pulled and plugged in again at once",
        BLUE,
        (unplug("hv1", "p1"), plug("hv1", "p1")),
        (BLUE_TALK, active("hv1/p1")),
    ),
    # --- details come late, are wrong, go ---
    Story(
        "keys come one by one",
        BLUE,
        (
            plug("hv1", "p7", None, mac=None, fixed_ips=()),
            change("hv1", "p7", mac=Mac(mac("p7"))),
            change("hv1", "p7", network_id=NetworkId("blue")),
            change("hv1", "p7", segmentation_id=a_vni("blue")),
            change("hv1", "p7", fixed_ips=(fixed_ip(ip("p7")),)),
        ),
        (
            talk("hv1/p1", "hv1/p7", "hv2/p2", "hv3/p3"),
            active("hv1/p7"),
            answered("hv2/p2", ip("p7"), mac("p7")),
        ),
    ),
    Story(
        "a port whose network is not known yet",
        BLUE,
        (plug("hv1", "p7", None),),
        (
            BLUE_TALK,
            cut_off("hv1/p7"),
            said("hv1/p7", "BUILD", "details-missing: network-id", network_id=None),
            row("hv1/p7", installed=False),
        ),
    ),
    Story(
        "a port whose MAC is not known yet",
        BLUE,
        (plug("hv1", "p7", mac=None),),
        (BLUE_TALK, cut_off("hv1/p7"), said("hv1/p7", "BUILD", "details-missing: attached-mac", mac=None)),
    ),
    Story(
        "a port with a wrong key",
        BLUE,
        (plug("hv1", "p7", fault="bad-fixed-ips: 10.0.0"),),
        (BLUE_TALK, cut_off("hv1/p7"), said("hv1/p7", "ERROR", "bad-fixed-ips: 10.0.0")),
    ),
    Story(
        "a key that goes wrong and is mended",
        BLUE,
        (change("hv1", "p1", fault="bad-attached-mac: zz"), change("hv1", "p1", fault=None)),
        (BLUE_TALK, active("hv1/p1")),
    ),
    Story(
        "a key that goes wrong and stays so",
        BLUE,
        (change("hv1", "p1", fault="bad-attached-mac: zz"),),
        (
            talk("hv2/p2", "hv3/p3"),
            cut_off("hv1/p1"),
            said("hv1/p1", "ERROR", "bad-attached-mac: zz"),
            row("hv1/p1", installed=False),
            accepts("hv2", "hv3"),
            asked_of("hv2/p2", ip("p1"), "hv3/p3"),
        ),
    ),
    Story(
        "keys go and come back",
        (*BLUE, *RED),
        (
            change("hv1", "p1", mac=None),
            change("hv2", "p2", **NOWHERE),
            change("hv1", "p1", mac=Mac(mac("p1"))),
            change("hv2", "p2", **IN_BLUE),
        ),
        (BLUE_TALK, RED_TALK, active("hv1/p1", "hv2/p2")),
    ),
    Story(
        "a port loses its network",
        (*BLUE, *RED),
        (change("hv2", "p2", **NOWHERE),),
        (
            talk("hv1/p1", "hv3/p3"),
            cut_off("hv2/p2"),
            RED_TALK,
            said("hv2/p2", "BUILD", "details-missing", network_id=None),
        ),
    ),
    # --- addresses ---
    Story(
        "fixed addresses change",
        BLUE,
        (change("hv1", "p1", fixed_ips=(fixed_ip("10.0.0.77"), fixed_ip("fd00::7"))),),
        (
            BLUE_TALK,
            active("hv1/p1"),
            answered("hv2/p2", "10.0.0.77", mac("p1")),
            answered("hv3/p3", "fd00::7", mac("p1")),
            asked_of("hv2/p2", ip("p1"), "hv1/p1", "hv3/p3"),
            said("hv1/p1", "ACTIVE", fixed_ips=["10.0.0.77", "fd00::7"]),
        ),
        throughout=(arrives("hv2/p2", "p1"), arrives("hv1/p1", "p3")),
    ),
    Story(
        "an address is added and the other stays",
        BLUE,
        (change("hv1", "p1", fixed_ips=(fixed_ip(ip("p1")), fixed_ip("10.0.0.77"))),),
        (answered("hv2/p2", ip("p1"), mac("p1")), answered("hv2/p2", "10.0.0.77", mac("p1")), BLUE_TALK),
        throughout=(answered("hv2/p2", ip("p1"), mac("p1")),),
    ),
    Story(
        "a port loses its only address",
        BLUE,
        (change("hv1", "p1", fixed_ips=()),),
        (BLUE_TALK, active("hv1/p1"), asked_of("hv2/p2", ip("p1"), "hv1/p1", "hv3/p3")),
        throughout=(arrives("hv2/p2", "p1"),),
    ),
    Story(
        "two ports swap their addresses",
        BLUE,
        (
            change("hv1", "p1", fixed_ips=a_port("p2").fixed_ips),
            change("hv2", "p2", fixed_ips=a_port("p1").fixed_ips),
        ),
        (
            BLUE_TALK,
            answered("hv3/p3", ip("p1"), mac("p2")),
            answered("hv3/p3", ip("p2"), mac("p1")),
            answered("hv1/p1", ip("p1"), mac("p2")),
        ),
        throughout=(arrives("hv3/p3", "p1"), arrives("hv3/p3", "p2")),
    ),
    Story(
        "two ports of one host swap their addresses in one transaction",
        (*BLUE, plug("hv1", "p4")),
        (
            in_one_transaction(
                "hv1",
                {
                    "p1": a_port("p1", fixed_ips=a_port("p4").fixed_ips),
                    "p4": a_port("p4", fixed_ips=a_port("p1").fixed_ips),
                },
            ),
        ),
        (
            answered("hv2/p2", ip("p1"), mac("p4")),
            answered("hv2/p2", ip("p4"), mac("p1")),
            talk("hv1/p1", "hv1/p4", "hv2/p2", "hv3/p3"),
        ),
    ),
    Story(
        "an address is used again before its old owner's end arrives",
        BLUE,
        (plug("hv2", "p7", fixed_ips=a_port("p1").fixed_ips), unplug("hv1", "p1")),
        (
            answered("hv3/p3", ip("p1"), mac("p7")),
            talk("hv2/p2", "hv2/p7", "hv3/p3"),
            heard_by("hv3/p3", mac("p1"), "hv2/p2", "hv2/p7"),
        ),
    ),
    Story(
        "an address has a newer owner while the old one is still there",
        BLUE,
        (plug("hv2", "p7", fixed_ips=a_port("p1").fixed_ips),),
        (
            answered("hv3/p3", ip("p1"), mac("p7")),
            talk("hv1/p1", "hv2/p2", "hv2/p7", "hv3/p3"),
        ),
    ),
    Story(
        "an address goes back to its old owner when the newer one has gone",
        (*BLUE, wait(3), plug("hv2", "p7", fixed_ips=a_port("p1").fixed_ips)),
        (unplug("hv2", "p7"),),
        (answered("hv3/p3", ip("p1"), mac("p1")), answered("hv2/p2", ip("p1"), mac("p1")), BLUE_TALK),
    ),
    # --- the MAC ---
    Story(
        "a port's MAC changes",
        BLUE,
        (change("hv2", "p2", mac=Mac("fa:16:3e:00:00:77")),),
        (
            BLUE_TALK,
            active("hv2/p2"),
            answered("hv1/p1", ip("p2"), "fa:16:3e:00:00:77"),
            copies("hv1/p1", mac("p2"), "hv2", "hv3"),
            said("hv2/p2", "ACTIVE", mac="fa:16:3e:00:00:77"),
        ),
        throughout=(arrives("hv1/p1", "p3"),),
    ),
    Story(
        "two ports swap their MACs",
        BLUE,
        (change("hv1", "p1", mac=Mac(mac("p2"))), change("hv2", "p2", mac=Mac(mac("p1")))),
        (
            BLUE_TALK,
            heard_by("hv3/p3", mac("p1"), "hv2/p2"),
            heard_by("hv3/p3", mac("p2"), "hv1/p1"),
            answered("hv3/p3", ip("p1"), mac("p2")),
        ),
    ),
    Story(
        "one MAC in two networks",
        (*BLUE, *RED),
        (plug("hv3", "p7", "red", mac=Mac(mac("p1")), fixed_ips=a_port("p1").fixed_ips),),
        (
            BLUE_TALK,
            talk("hv1/p5", "hv2/p6", "hv3/p7"),
            heard_by("hv2/p2", mac("p1"), "hv1/p1"),
            heard_by("hv2/p6", mac("p1"), "hv3/p7"),
        ),
        throughout=(arrives("hv2/p2", "p1"),),
    ),
    Story(
        "one MAC on two ports of a network",
        BLUE,
        (plug("hv2", "p7", mac=Mac(mac("p1"))),),
        (
            heard_by("hv3/p3", mac("p1"), "hv2/p7"),
            heard_by("hv2/p2", mac("p1"), "hv2/p7"),
            to_all("hv3/p3", "hv1/p1", "hv2/p2", "hv2/p7"),
        ),
    ),
    # --- network and VNI ---
    Story(
        "a port changes its network",
        (*BLUE, *RED),
        (change("hv1", "p1", **IN_RED), change("hv2", "p6", **IN_BLUE)),
        (
            talk("hv2/p2", "hv2/p6", "hv3/p3"),
            talk("hv1/p1", "hv1/p5"),
            active("hv1/p1", "hv2/p6"),
            said("hv1/p1", "ACTIVE", network_id="red"),
            accepts("hv1"),
        ),
        throughout=(arrives("hv2/p2", "p3"), arrives("hv3/p3", "p2")),
    ),
    Story(
        "two ports of one host swap their networks in one transaction",
        (*BLUE, *RED),
        (in_one_transaction("hv1", {"p1": a_port("p1", "red"), "p5": a_port("p5", "blue")}),),
        (talk("hv1/p5", "hv2/p2", "hv3/p3"), talk("hv1/p1", "hv2/p6"), active("hv1/p1", "hv1/p5")),
        throughout=(arrives("hv2/p2", "p3"),),
    ),
    Story(
        "a network changes its VNI, host by host",
        (*BLUE, *RED),
        tuple(change(f"hv{number}", f"p{number}", segmentation_id=Vni(77)) for number in (1, 2, 3)),
        (BLUE_TALK, RED_TALK, active("hv1/p1", "hv2/p2", "hv3/p3"), said("hv1/p1", "ACTIVE", segmentation_id=77)),
        throughout=(arrives("hv1/p5", "p6"),),
    ),
    # --- up and down ---
    Story(
        "a port goes down",
        (*BLUE, plug("hv1", "p4")),
        (change("hv1", "p1", admin_up=False),),
        (
            talk("hv1/p4", "hv2/p2", "hv3/p3"),
            cut_off("hv1/p1"),
            said("hv1/p1", "DOWN"),
            row("hv1/p1", installed=False),
            asked_of("hv2/p2", ip("p1"), "hv1/p4", "hv3/p3"),
        ),
        throughout=(arrives("hv2/p2", "p4"), arrives("hv1/p4", "p2")),
    ),
    Story(
        "a host's last port of a network goes down",
        BLUE,
        (change("hv1", "p1", admin_up=False),),
        (talk("hv2/p2", "hv3/p3"), cut_off("hv1/p1"), accepts("hv2", "hv3"), said("hv1/p1", "DOWN")),
    ),
    Story(
        "ports go down and one comes up again",
        BLUE,
        (
            change("hv1", "p1", admin_up=False),
            change("hv2", "p2", admin_up=False),
            change("hv1", "p1", admin_up=True),
        ),
        (talk("hv1/p1", "hv3/p3"), cut_off("hv2/p2"), active("hv1/p1"), said("hv2/p2", "DOWN")),
    ),
    # --- where it is plugged in ---
    Story(
        "a port has another number on its bridge",
        BLUE,
        (renumber("hv1", "p1", 55),),
        (BLUE_TALK, active("hv1/p1")),
    ),
    Story(
        "two ports swap their numbers on the bridge",
        (*BLUE, plug("hv1", "p4", "red"), *RED),
        (renumber("hv1", "p1", 61), renumber("hv1", "p4", 62), renumber("hv1", "p1", 63), renumber("hv1", "p4", 61)),
        (BLUE_TALK, talk("hv1/p4", "hv1/p5", "hv2/p6"), active("hv1/p1", "hv1/p4")),
    ),
    Story(
        "an interface's iface-id changes in place",
        BLUE,
        (in_one_transaction("hv1", {"p1": None, "p7": a_port("p7", mac=Mac(mac("p1")))}),),
        (talk("hv1/p7", "hv2/p2", "hv3/p3"), active("hv1/p7"), gone("hv1/p1"), answered("hv2/p2", ip("p7"), mac("p1"))),
    ),
    Story(
        "a name is plugged again with another port in one transaction",
        (*BLUE, *RED),
        (in_one_transaction("hv1", {"p1": None, "p7": a_port("p7", "red")}),),
        (
            talk("hv2/p2", "hv3/p3"),
            talk("hv1/p5", "hv1/p7", "hv2/p6"),
            gone("hv1/p1"),
            heard_by("hv2/p2", mac("p1"), "hv3/p3"),
        ),
        throughout=(arrives("hv1/p5", "p6"), arrives("hv2/p2", "p3")),
    ),
    Story(
        "the only port of a network is replaced in one transaction",
        BLUE,
        (in_one_transaction("hv1", {"p1": None, "p7": a_port("p7")}),),
        (talk("hv1/p7", "hv2/p2", "hv3/p3"), accepts("hv1", "hv2", "hv3"), gone("hv1/p1")),
        throughout=(arrives("hv2/p2", "p3"),),
    ),
    Story(
        "somebody writes over a port's tag",
        BLUE,
        (lose_tag("hv1", "p1"),),
        (BLUE_TALK, active("hv1/p1")),
        throughout=(BLUE_TALK,),
    ),
    # --- whose it is ---
    Story(
        "a port becomes a router's",
        BLUE,
        (change("hv1", "p1", device_owner="network:router_interface", fixed_ips=(fixed_ip("fd00::1"),)),),
        (BLUE_TALK, active("hv1/p1"), answered("hv2/p2", "fd00::1", mac("p1"), router=True)),
        throughout=(arrives("hv2/p2", "p1"),),
    ),
)
