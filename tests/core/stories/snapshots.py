"""What is retained comes in parts, is lost, or contradicts itself; hosts fall silent. Nothing is deleted by guess."""

from portwatch import wire
from portwatch.bus.connection import Publication
from portwatch.events import ONLINE, HostStatus, Manifest, PortUpdated, manifest_of
from portwatch.model import NetworkId, fixed_ip
from tests.core.fleet import PREFIX, START, TOPICS, Fleet, a_claim, a_port
from tests.core.stories.facts import (
    accepts,
    active,
    answered,
    arrives,
    asked_of,
    copies,
    heard_by,
    incomplete,
    said,
    talk,
    to_all,
)
from tests.core.stories.ports import BLUE, BLUE_TALK, RED, RED_TALK
from tests.core.stories.story import (
    Setting,
    Step,
    Story,
    Trait,
    change,
    ip,
    kill,
    mac,
    plug,
    restart,
    start,
    unplug,
    wait,
)
from tests.core.switch import BROADCAST

SAID_AGAIN = frozenset({Trait.REPEATS, Trait.FORGETS})
"""Who comes back says all that was lost."""
ALONE = frozenset({Trait.WIPES, Trait.SPEAKS})
"""Who reads a snapshot of which something is lost has nothing but it, and what an earlier process left."""
STRANGER = a_claim(a_port("p7"), host=9)
"""A port of hv9, which is no member of the fleet and says what the story wants."""
NINE = str(STRANGER.tunnel_ip)
SHORT, LONG = Setting(grace=2), Setting(grace=1000)


def lose(what: str) -> Step:
    """The broker loses what it retained, without a word: each topic in which *what* stands."""

    def step(fleet: Fleet) -> None:
        for topic in [topic for topic in fleet.retained if what in topic]:
            del fleet.retained[topic]

    return step


def clear(what: str) -> Step:
    """Somebody clears what is retained: each topic in which *what* stands."""
    return lambda fleet: fleet.broker(
        Publication(topic, b"", retain=True) for topic in [topic for topic in fleet.retained if what in topic]
    )


def stop(host: str) -> Step:
    return lambda fleet: fleet[host].stop()


def reconnect(host: str) -> Step:
    return lambda fleet: fleet[host].connect()


def strangers_claim(fleet: Fleet) -> None:
    topic = TOPICS.port(STRANGER.port.network_id, STRANGER.host, STRANGER.port.port_id)
    fleet.broker((Publication(topic, wire.encode_event(PortUpdated(STRANGER, 1, START)), retain=True),))


def strangers_status(fleet: Fleet) -> None:
    status = HostStatus(STRANGER.host, STRANGER.session, ONLINE, STRANGER.tunnel_ip, "vxlan", "0", START)
    fleet.broker((Publication(TOPICS.host(STRANGER.host), wire.encode_host(status), retain=True),))


def strangers_manifest(*names: str) -> Step:
    """The stranger states that these are its ports in the blue network."""
    share = [a_claim(a_port(name), host=9) for name in names]
    stated: Manifest = manifest_of(NetworkId("blue"), STRANGER.host, STRANGER.session, share)
    topic = TOPICS.manifest(NetworkId("blue"), STRANGER.host)
    return lambda fleet: fleet.broker((Publication(topic, wire.encode_manifest(stated), retain=True),))


def replay(place: str, *, then: Step) -> Step:
    """Something happens, and after that what was retained of a port before it comes once more."""

    def step(fleet: Fleet) -> None:
        topic = next(topic for topic in fleet.retained if topic.startswith(f"{PREFIX}/ports/") and place in topic)
        before = fleet.retained[topic]
        then(fleet)
        fleet.broker((Publication(topic, before, retain=True),))

    return step


STORIES = (
    # --- manifests ---
    Story(
        "a host speaks of a port and states nothing",
        BLUE,
        (strangers_claim, wait(6)),
        (
            incomplete("hv1", blue="hv9"),
            incomplete("hv3", blue="hv9"),
            copies("hv1/p1", mac("p7"), NINE),
            copies("hv1/p1", BROADCAST, NINE, "hv2", "hv3"),
            answered("hv1/p1", ip("p7"), mac("p7")),
        ),
    ),
    Story(
        "a host's manifest comes after its ports",
        BLUE,
        (strangers_claim, wait(6), strangers_manifest("p7")),
        (incomplete("hv1"), copies("hv1/p1", mac("p7"), NINE)),
    ),
    Story(
        "a host's manifest comes before its ports",
        BLUE,
        (strangers_manifest("p7"), wait(6), strangers_claim),
        (incomplete("hv1"), copies("hv1/p1", mac("p7"), NINE)),
    ),
    Story(
        "a manifest counts a port that does not come",
        BLUE,
        (strangers_claim, strangers_manifest("p7", "p8"), wait(6)),
        (incomplete("hv1", blue="hv9"), copies("hv1/p1", mac("p7"), NINE)),
    ),
    Story(
        "a manifest that does not match deletes nothing",
        (*BLUE, strangers_claim, strangers_manifest("p7")),
        (strangers_manifest("p8"), wait(6)),
        (
            incomplete("hv1", blue="hv9"),
            copies("hv1/p1", mac("p7"), NINE),
            copies("hv1/p1", mac("p8"), NINE, "hv2", "hv3"),
        ),
    ),
    Story(
        "a port whose end was lost goes when a whole snapshot does not count it",
        (*BLUE, strangers_claim, strangers_manifest("p7"), strangers_status),
        (lose("hv9/p7"), strangers_manifest(), reconnect("hv1"), reconnect("hv2"), reconnect("hv3")),
        (BLUE_TALK, incomplete("hv1")),
    ),
    Story(
        "a host that is online and states nothing for long has nothing",
        BLUE,
        (strangers_status, strangers_claim, wait(3), wait(31)),
        (BLUE_TALK, incomplete("hv1")),
        unless=SAID_AGAIN,
    ),
    Story(
        "a host that is online and states something late keeps what it has",
        BLUE,
        (strangers_status, strangers_claim, wait(20), strangers_manifest("p7"), wait(20)),
        (copies("hv1/p1", mac("p7"), NINE), incomplete("hv1")),
    ),
    # --- the broker loses things ---
    Story(
        "a snapshot lacks a port, and the host that reads it has just begun",
        BLUE,
        (lose("hv2/p2"), restart("hv3"), wait(6)),
        (
            incomplete("hv3", blue="hv2"),
            incomplete("hv1"),
            BLUE_TALK,
            answered("hv3/p3", ip("p2"), mac("p2")),
            accepts("hv3", "hv1", "hv2"),
        ),
        throughout=(BLUE_TALK,),
        unless=SAID_AGAIN | ALONE,
    ),
    Story(
        "a snapshot lacks a port, and another one of its host comes and goes",
        (*BLUE, *RED),
        (lose("hv2/"), restart("hv3"), restart("hv1"), plug("hv2", "p8"), unplug("hv2", "p8"), wait(40)),
        (BLUE_TALK, RED_TALK, incomplete("hv3", blue="hv2")),
        throughout=(arrives("hv2/p2", "p3"), arrives("hv3/p3", "p2"), RED_TALK),
        unless=SAID_AGAIN | ALONE,
    ),
    Story(
        "what a snapshot lacked is said again",
        BLUE,
        (lose("hv2/p2"), restart("hv3"), wait(6), reconnect("hv2")),
        (incomplete("hv3"), BLUE_TALK, answered("hv3/p3", ip("p2"), mac("p2"))),
        throughout=(BLUE_TALK,),
    ),
    Story(
        "the broker loses everything",
        (*BLUE, *RED),
        (lose(""), wait(40)),
        (BLUE_TALK, RED_TALK, incomplete("hv1"), answered("hv3/p3", ip("p2"), mac("p2"))),
        throughout=(BLUE_TALK, RED_TALK),
    ),
    Story(
        "the broker loses everything and a host begins anew",
        (*BLUE, *RED),
        (lose(""), restart("hv3"), wait(40)),
        (BLUE_TALK, RED_TALK, accepts("hv3", "hv1", "hv2")),
        throughout=(BLUE_TALK, RED_TALK),
        unless=SAID_AGAIN | ALONE,
    ),
    Story(
        "the broker loses everything and all come back",
        (*BLUE, *RED),
        (lose(""), reconnect("hv1"), reconnect("hv2"), reconnect("hv3")),
        (BLUE_TALK, RED_TALK, active("hv1/p1", "hv2/p2", "hv3/p3"), answered("hv3/p3", ip("p2"), mac("p2"))),
        throughout=(BLUE_TALK, RED_TALK),
    ),
    Story(
        "somebody clears a claim whose owner lives",
        BLUE,
        (clear("hv1/p1"),),
        (BLUE_TALK, said("hv1/p1", "ACTIVE"), answered("hv2/p2", ip("p1"), mac("p1"))),
    ),
    Story(
        "an older word of a port comes late",
        BLUE,
        (replay("hv1/p1", then=change("hv1", "p1", fixed_ips=(fixed_ip("10.0.0.77"),))), restart("hv3")),
        (
            BLUE_TALK,
            answered("hv2/p2", "10.0.0.77", mac("p1")),
            answered("hv3/p3", "10.0.0.77", mac("p1")),
            asked_of("hv2/p2", ip("p1"), "hv1/p1", "hv3/p3"),
            incomplete("hv2"),
        ),
        unless=frozenset({Trait.FOLDS}),
    ),
    Story(
        "a word of the process before comes late",
        BLUE,
        (replay("hv1/p1", then=restart("hv1")), replay("hv1/p1", then=kill("hv1")), start("hv1")),
        (BLUE_TALK, active("hv1/p1"), incomplete("hv2"), answered("hv2/p2", ip("p1"), mac("p1"))),
    ),
    # --- hosts fall silent ---
    Story(
        "a host falls silent",
        BLUE,
        (kill("hv3"), wait(3600)),
        (BLUE_TALK, accepts("hv1", "hv2", "hv3"), answered("hv1/p1", ip("p3"), mac("p3"))),
        throughout=(BLUE_TALK,),
    ),
    Story(
        "all hosts fall silent at once",
        (*BLUE, *RED),
        (kill("hv1"), kill("hv2"), kill("hv3"), wait(3600)),
        (BLUE_TALK, RED_TALK),
    ),
    Story(
        "a host falls silent for longer than is waited for it",
        BLUE,
        (kill("hv3"), wait(4)),
        (
            talk("hv1/p1", "hv2/p2"),
            heard_by("hv1/p1", mac("p3"), "hv2/p2"),
            copies("hv1/p1", BROADCAST, "hv2"),
            asked_of("hv1/p1", ip("p3"), "hv2/p2"),
            accepts("hv1", "hv2"),
        ),
        setting=SHORT,
    ),
    Story(
        "a host that fell silent for too long comes back",
        BLUE,
        (kill("hv3"), wait(4), start("hv3")),
        (BLUE_TALK, accepts("hv1", "hv2", "hv3"), answered("hv1/p1", ip("p3"), mac("p3"))),
        setting=SHORT,
    ),
    Story(
        "a port of a host that fell silent for too long is plugged in elsewhere",
        (*BLUE, wait(3), plug("hv2", "p3")),
        (kill("hv2"), wait(4)),
        (heard_by("hv1/p1", mac("p3"), "hv3/p3"), to_all("hv1/p1", "hv3/p3")),
        setting=SHORT,
    ),
    Story(
        "a host falls silent, but not for as long as is waited for it",
        BLUE,
        (kill("hv3"), wait(900)),
        (BLUE_TALK,),
        throughout=(BLUE_TALK,),
        setting=LONG,
    ),
    Story(
        "a host that is stopped on purpose is waited for without end",
        BLUE,
        (stop("hv3"), wait(3600)),
        (BLUE_TALK, accepts("hv1", "hv2", "hv3")),
        throughout=(BLUE_TALK,),
        setting=SHORT,
    ),
    Story(
        "an operator forgets a host",
        (*BLUE, kill("hv3")),
        (clear("/hv3"),),
        (talk("hv1/p1", "hv2/p2"), heard_by("hv1/p1", mac("p3"), "hv2/p2"), accepts("hv1", "hv2"), incomplete("hv1")),
        unless=SAID_AGAIN,  # mere absence proves nothing
    ),
)
