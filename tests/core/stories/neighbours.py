"""Who asks for an address is answered where he is, and who announces one is not: ARP and neighbour discovery."""

from dataclasses import replace

from portwatch.fabric.pipeline import Policy
from portwatch.model import AddressPair, Kind, State, fixed_ip
from tests.core.fleet import ALL_TUNNELS
from tests.core.stories.facts import answered, asked_of, heard_by, talk
from tests.core.stories.ports import BLUE
from tests.core.stories.story import Setting, Story, change, ip, mac, plug, unplug
from tests.core.switch import BROADCAST

SIX = tuple(
    plug(f"hv{number}", f"p{number}", fixed_ips=(fixed_ip(f"10.0.0.{number + 1}"), fixed_ip(f"fd00::{number}")))
    for number in (1, 2, 3)
)
DEAF_DATAPATH = Setting(ports=replace(ALL_TUNNELS, nd_extensions=False))
SILENT = Setting(Policy(arp_responder=False, nd_responder=False))

STORIES = (
    Story(
        "addresses elsewhere are answered here",
        (),
        SIX,
        (
            answered("hv1/p1", "10.0.0.3", mac("p2")),
            answered("hv1/p1", "fd00::2", mac("p2")),
            answered("hv3/p3", "10.0.0.2", mac("p1")),
            answered("hv3/p3", "fd00::1", mac("p1")),
        ),
    ),
    Story(
        "an address here is left to its port",
        SIX,
        (plug("hv1", "p4", fixed_ips=(fixed_ip("10.0.0.44"), fixed_ip("fd00::4"))),),
        (
            asked_of("hv1/p1", "10.0.0.44", "hv1/p4", "hv2/p2", "hv3/p3"),
            asked_of("hv1/p1", "fd00::4", "hv1/p4", "hv2/p2", "hv3/p3"),
            answered("hv2/p2", "10.0.0.44", mac("p4")),
        ),
    ),
    Story(
        "an address that nobody has is asked for everywhere",
        SIX,
        (plug("hv1", "p5", "red", fixed_ips=(fixed_ip("10.0.0.200"), fixed_ip("fd00::c8"))),),
        (
            asked_of("hv1/p1", "10.0.0.200", "hv2/p2", "hv3/p3"),
            asked_of("hv1/p1", "fd00::c8", "hv2/p2", "hv3/p3"),
            asked_of("hv1/p5", "10.0.0.2"),
        ),
    ),
    Story(
        "gratuitous ARP is no question",
        SIX,
        (change("hv1", "p1", allowed_address_pairs=(AddressPair.parse("10.0.0.3"),)),),
        (
            asked_of("hv1/p1", "10.0.0.3", "hv2/p2", "hv3/p3", says="10.0.0.3"),
            answered("hv1/p1", "10.0.0.3", mac("p2")),
        ),
    ),
    Story(
        "who probes for another's address is answered, and for its own never",
        SIX,
        (plug("hv2", "p7", fixed_ips=(fixed_ip("10.0.0.2"), fixed_ip("fd00::1"))),),
        (
            answered("hv1/p1", "10.0.0.3", mac("p2"), says="0.0.0.0"),
            answered("hv1/p1", "fd00::2", mac("p2"), says="::"),
            asked_of("hv1/p1", "10.0.0.2", "hv2/p2", "hv2/p7", "hv3/p3", says="0.0.0.0"),
            asked_of("hv1/p1", "fd00::1", "hv2/p2", "hv2/p7", "hv3/p3", says="::"),
        ),
    ),
    Story(
        "a port that prepares does not hear itself answered",
        SIX,
        (plug("hv2", "p1", state=State.PREPARING),),
        (
            asked_of("hv2/p1", "10.0.0.2", "hv1/p1", "hv2/p2", "hv3/p3", says="0.0.0.0"),
            answered("hv3/p3", "10.0.0.2", mac("p1")),
        ),
    ),
    Story(
        "addresses of pairs are never answered for",
        SIX,
        (
            change(
                "hv2",
                "p2",
                allowed_address_pairs=(AddressPair.parse("10.0.0.99"), AddressPair.parse("fd00::99")),
            ),
        ),
        (
            asked_of("hv1/p1", "10.0.0.99", "hv2/p2", "hv3/p3"),
            asked_of("hv1/p1", "fd00::99", "hv2/p2", "hv3/p3"),
            answered("hv1/p1", "10.0.0.3", mac("p2")),
        ),
    ),
    Story(
        "addresses of shared ports are never answered for",
        SIX,
        (change("hv2", "p2", kind=Kind.SHARED),),
        (
            asked_of("hv1/p1", "10.0.0.3", "hv2/p2", "hv3/p3"),
            asked_of("hv1/p1", "fd00::2", "hv2/p2", "hv3/p3"),
            answered("hv1/p1", "10.0.0.4", mac("p3")),
        ),
    ),
    Story(
        "an address of a shared port is never answered for, whoever else has it",
        (*SIX, change("hv2", "p2", kind=Kind.SHARED)),
        (plug("hv3", "p7", fixed_ips=(fixed_ip("10.0.0.3"), fixed_ip("fd00::2"))),),
        (
            asked_of("hv1/p1", "10.0.0.3", "hv2/p2", "hv3/p3", "hv3/p7"),
            asked_of("hv1/p1", "fd00::2", "hv2/p2", "hv3/p3", "hv3/p7"),
        ),
    ),
    Story(
        "addresses of a port that is down are asked for everywhere",
        (*SIX, plug("hv2", "p4")),
        (change("hv2", "p2", admin_up=False),),
        (asked_of("hv1/p1", "10.0.0.3", "hv2/p4", "hv3/p3"), asked_of("hv1/p1", "fd00::2", "hv2/p4", "hv3/p3")),
    ),
    Story(
        "a router's address is answered as a router's",
        SIX,
        (plug("hv2", "p9", device_owner="network:router_interface", fixed_ips=(fixed_ip("fd00::fe"),)),),
        (answered("hv1/p1", "fd00::fe", mac("p9"), router=True), answered("hv1/p1", "fd00::2", mac("p2"))),
    ),
    Story(
        "the same address in two networks",
        SIX,
        (plug("hv1", "p5", "red"), plug("hv2", "p6", "red", fixed_ips=(fixed_ip("10.0.0.3"),))),
        (answered("hv1/p1", "10.0.0.3", mac("p2")), answered("hv1/p5", "10.0.0.3", mac("p6"))),
    ),
    Story(
        "an address goes with its port",
        SIX,
        (unplug("hv2", "p2"), plug("hv2", "p7", fixed_ips=(fixed_ip("10.0.0.77"),))),
        (
            asked_of("hv1/p1", "10.0.0.3", "hv2/p7", "hv3/p3"),
            asked_of("hv1/p1", "fd00::2", "hv2/p7", "hv3/p3"),
            answered("hv1/p1", "10.0.0.77", mac("p7")),
        ),
    ),
    Story(
        "a datapath that cannot advertise",
        (),
        SIX,
        (answered("hv1/p1", "10.0.0.3", mac("p2")), asked_of("hv1/p1", "fd00::2", "hv2/p2", "hv3/p3")),
        setting=DEAF_DATAPATH,
    ),
    Story(
        "responders that are turned off",
        (),
        SIX,
        (
            asked_of("hv1/p1", "10.0.0.3", "hv2/p2", "hv3/p3"),
            asked_of("hv1/p1", "fd00::2", "hv2/p2", "hv3/p3"),
            talk("hv1/p1", "hv2/p2", "hv3/p3"),
        ),
        setting=SILENT,
    ),
    Story(
        "a port's two addresses of which one moves to another port",
        BLUE,
        (
            change("hv1", "p1", fixed_ips=(fixed_ip(ip("p1")), fixed_ip("10.0.0.77"))),
            plug("hv2", "p7", fixed_ips=(fixed_ip("10.0.0.77"),)),
            change("hv1", "p1", fixed_ips=(fixed_ip(ip("p1")),)),
        ),
        (
            answered("hv3/p3", "10.0.0.77", mac("p7")),
            answered("hv3/p3", ip("p1"), mac("p1")),
            answered("hv1/p1", "10.0.0.77", mac("p7")),
            heard_by("hv3/p3", BROADCAST, "hv1/p1", "hv2/p2", "hv2/p7"),
        ),
    ),
)
