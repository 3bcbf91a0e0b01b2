"""What a port may send from follows its keys, whatever happens to them."""

from portwatch.fabric.pipeline import Policy
from portwatch.model import AddressPair, Mac, fixed_ip
from tests.core.stories.facts import active, dropped, passes, talk
from tests.core.stories.ports import BLUE, BLUE_TALK
from tests.core.stories.story import Setting, Story, change, ip, mac, plug, renumber

OPEN = Setting(Policy(anti_spoofing=False))
OTHER = "fa:16:3e:00:00:aa"


def pairs(*texts: str) -> tuple[AddressPair, ...]:
    return tuple(map(AddressPair.parse, texts))


STORIES = (
    Story(
        "a port is held to its own MAC and addresses",
        BLUE,
        (plug("hv1", "p4", fixed_ips=(fixed_ip("10.0.0.44"), fixed_ip("fd00::4"))),),
        (
            passes("hv1/p4", "10.0.0.44"),
            passes("hv1/p4", "fd00::4"),
            passes("hv1/p4", "fe80::f816:3eff:fe00:4"),
            dropped("hv1/p4", "10.0.0.45"),
            dropped("hv1/p4", ip("p1")),
            dropped("hv1/p4", "fd00::5"),
            dropped("hv1/p4", "10.0.0.44", by=OTHER),
            dropped("hv1/p4", "fd00::4", by=mac("p2")),
        ),
    ),
    Story(
        "a port follows its addresses",
        BLUE,
        (change("hv1", "p1", fixed_ips=(fixed_ip("10.0.0.77"),)),),
        (passes("hv1/p1", "10.0.0.77"), dropped("hv1/p1", ip("p1")), active("hv1/p1"), BLUE_TALK),
    ),
    Story(
        "a port follows its MAC",
        BLUE,
        (change("hv1", "p1", mac=Mac(OTHER)),),
        (passes("hv1/p1", ip("p1")), dropped("hv1/p1", ip("p1"), by=mac("p1")), BLUE_TALK),
    ),
    Story(
        "pairs are allowed",
        BLUE,
        (change("hv1", "p1", allowed_address_pairs=pairs("10.9.0.0/16", f"{OTHER}/10.0.0.200", "fd00:9::/64")),),
        (
            passes("hv1/p1", "10.9.3.4"),
            passes("hv1/p1", "fd00:9::7"),
            passes("hv1/p1", "10.0.0.200", by=OTHER),
            passes("hv1/p1", ip("p1")),
            dropped("hv1/p1", "10.0.0.200"),
            dropped("hv1/p1", "10.9.3.4", by=OTHER),
            dropped("hv1/p1", "10.10.0.1"),
            dropped("hv1/p1", "fd00:8::7"),
        ),
    ),
    Story(
        "pairs are taken back",
        (*BLUE, change("hv1", "p1", allowed_address_pairs=pairs("10.9.0.0/16", f"{OTHER}/10.0.0.200"))),
        (change("hv1", "p1", allowed_address_pairs=()),),
        (
            dropped("hv1/p1", "10.9.3.4"),
            dropped("hv1/p1", "10.0.0.200", by=OTHER),
            passes("hv1/p1", ip("p1")),
            BLUE_TALK,
        ),
        throughout=(passes("hv1/p1", ip("p1")),),
    ),
    Story(
        "a pair of all addresses leaves the MAC to be checked",
        BLUE,
        (change("hv1", "p1", allowed_address_pairs=pairs("0.0.0.0/0", "::/0")),),
        (
            passes("hv1/p1", "198.51.100.1"),
            passes("hv1/p1", "2001:db8::1"),
            dropped("hv1/p1", "198.51.100.1", by=OTHER),
        ),
    ),
    Story(
        "a port without fixed addresses is held to its MAC alone",
        BLUE,
        (change("hv1", "p1", fixed_ips=()),),
        (passes("hv1/p1", "198.51.100.1"), passes("hv1/p1", "fd00::7"), dropped("hv1/p1", "198.51.100.1", by=OTHER)),
    ),
    Story(
        "a port gets its first address",
        (plug("hv1", "p1", fixed_ips=()), *BLUE[1:]),
        (change("hv1", "p1", fixed_ips=(fixed_ip("10.0.0.77"),)),),
        (passes("hv1/p1", "10.0.0.77"), dropped("hv1/p1", "198.51.100.1"), BLUE_TALK),
    ),
    Story(
        "the network's own ports are not checked",
        BLUE,
        (plug("hv1", "p9", device_owner="network:router_interface"),),
        (passes("hv1/p9", "198.51.100.1"), passes("hv1/p9", "198.51.100.1", by=OTHER), dropped("hv1/p1", ip("p9"))),
    ),
    Story(
        "a port is the network's own no more",
        (*BLUE, plug("hv1", "p9", device_owner="network:dhcp")),
        (change("hv1", "p9", device_owner="compute:nova"),),
        (
            dropped("hv1/p9", "198.51.100.1"),
            dropped("hv1/p9", ip("p9"), by=OTHER),
            talk("hv1/p1", "hv1/p9", "hv2/p2", "hv3/p3"),
        ),
    ),
    Story(
        "a port is held to its addresses at its new number, too",
        BLUE,
        (renumber("hv1", "p1", 55),),
        (passes("hv1/p1", ip("p1")), dropped("hv1/p1", "10.0.0.99"), dropped("hv1/p1", ip("p1"), by=OTHER)),
    ),
    Story(
        "nobody is checked where that is turned off",
        (),
        BLUE,
        (passes("hv1/p1", "198.51.100.1"), passes("hv1/p1", "198.51.100.1", by=OTHER), BLUE_TALK),
        setting=OPEN,
    ),
)
