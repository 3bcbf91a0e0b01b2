"""Ports move between hosts: migrations, drains, and moves that go too far. docs/mobility.md."""

from portwatch.fabric.claims import Rule
from portwatch.model import Mac, State, fixed_ip
from tests.core.fleet import a_port
from tests.core.stories.facts import (
    accepts,
    active,
    answered,
    arrives,
    asked_of,
    contested,
    copies,
    decided,
    frozen,
    gone,
    heard_by,
    holds_nothing,
    later,
    not_frozen,
    said,
    talk,
    to_all,
)
from tests.core.stories.ports import BLUE, BLUE_TALK, RED, RED_TALK
from tests.core.stories.story import Step, Story, Trait, change, drain, in_one_transaction, ip, mac, plug, unplug, wait

SEEN = frozenset({Trait.FORGETS, Trait.FOLDS, Trait.REPEATS})
"""Only who saw each move knows that there were too many."""


def move(name: str, source: str, to: str, **changes: object) -> tuple[Step, Step]:
    """The port is plugged in at its new host before it is pulled at the old one."""
    return plug(to, name, "blue", **changes), unplug(source, name)


def fight(rounds: int) -> tuple[Step, ...]:
    """p1 is plugged in on hv2 over and over, while hv1 keeps it."""
    return (plug("hv2", "p1"), *((unplug("hv2", "p1"), plug("hv2", "p1")) * rounds))


STORIES = (
    Story(
        "a port moves",
        (*BLUE, *RED),
        (*move("p3", "hv3", "hv2"), plug("hv3", "p4")),
        (
            talk("hv1/p1", "hv2/p2", "hv2/p3", "hv3/p4"),
            RED_TALK,
            active("hv2/p3"),
            gone("hv3/p3"),
            answered("hv1/p1", ip("p3"), mac("p3")),
            decided("hv1", "p3", Rule.ONLY),
        ),
        throughout=(arrives("hv1/p1", "p3"), arrives("hv2/p2", "p3"), arrives("hv1/p1", "p2")),
    ),
    Story(
        "a port moves there and back",
        (*BLUE, *RED),
        (*move("p3", "hv3", "hv2"), *move("p3", "hv2", "hv3")),
        (BLUE_TALK, RED_TALK, gone("hv2/p3"), active("hv3/p3")),
    ),
    Story(
        "a port is pulled first and plugged in elsewhere then",
        BLUE,
        (unplug("hv3", "p3"), plug("hv2", "p3")),
        (talk("hv1/p1", "hv2/p2", "hv2/p3"), holds_nothing("hv3"), accepts("hv1", "hv2")),
    ),
    Story(
        "a port goes round all hosts",
        BLUE,
        (*move("p1", "hv1", "hv2"), *move("p1", "hv2", "hv3"), *move("p1", "hv3", "hv1")),
        (BLUE_TALK, active("hv1/p1"), gone("hv2/p1", "hv3/p1")),
    ),
    Story(
        "a port moves to a host that has nothing of its network",
        (*BLUE[:2], plug("hv3", "p8", "red")),
        move("p1", "hv1", "hv3"),
        (talk("hv2/p2", "hv3/p1"), talk("hv3/p8"), holds_nothing("hv1"), accepts("hv2", "hv3")),
    ),
    Story(
        "two ports change places",
        BLUE,
        (plug("hv2", "p1"), plug("hv1", "p2"), unplug("hv1", "p1"), unplug("hv2", "p2")),
        (talk("hv2/p1", "hv1/p2", "hv3/p3"), active("hv2/p1", "hv1/p2"), gone("hv1/p1", "hv2/p2")),
        throughout=(arrives("hv3/p3", "p1"), arrives("hv3/p3", "p2")),
    ),
    Story(
        "a port moves and takes other addresses",
        BLUE,
        move("p1", "hv1", "hv2", fixed_ips=(fixed_ip("10.0.0.77"),)),
        (
            talk("hv2/p1", "hv2/p2", "hv3/p3"),
            answered("hv3/p3", "10.0.0.77", mac("p1")),
            asked_of("hv3/p3", ip("p1"), "hv2/p1", "hv2/p2"),
        ),
        throughout=(arrives("hv3/p3", "p1"),),
    ),
    Story(
        "a port moves and takes another MAC",
        BLUE,
        move("p1", "hv1", "hv2", mac=Mac("fa:16:3e:00:00:77")),
        (talk("hv2/p1", "hv2/p2", "hv3/p3"), answered("hv3/p3", ip("p1"), "fa:16:3e:00:00:77")),
    ),
    Story(
        "a port moves into another network",
        (*BLUE, *RED),
        (plug("hv2", "p1", "red"), unplug("hv1", "p1")),
        (
            talk("hv2/p2", "hv3/p3"),
            talk("hv1/p5", "hv2/p1", "hv2/p6"),
            heard_by("hv3/p3", mac("p1"), "hv2/p2"),
            said("hv2/p1", "ACTIVE", network_id="red"),
        ),
    ),
    Story(
        "a port is in two places",
        BLUE,
        (plug("hv2", "p3"),),
        (
            heard_by("hv1/p1", mac("p3"), "hv2/p3"),
            heard_by("hv2/p2", mac("p3"), "hv2/p3"),
            to_all("hv1/p1", "hv2/p2", "hv2/p3", "hv3/p3"),
            later("hv2/p3", than="hv3/p3"),
            contested("hv3", "p3"),
            contested("hv2", "p3", is_so=False),
            decided("hv1", "p3", Rule.SEQ),
            active("hv2/p3", "hv3/p3"),
        ),
        throughout=(arrives("hv1/p1", "p3"),),
    ),
    Story(
        "the later of two places is given up",
        (*BLUE, wait(3), plug("hv2", "p3")),
        (unplug("hv2", "p3"),),
        (BLUE_TALK, contested("hv3", "p3", is_so=False), decided("hv1", "p3", Rule.ONLY)),
    ),
    # --- live migration ---
    Story(
        "a migration's destination prepares",
        BLUE,
        (plug("hv2", "p3", state=State.PREPARING),),
        (
            heard_by("hv1/p1", mac("p3"), "hv3/p3"),
            heard_by("hv2/p2", mac("p3"), "hv3/p3"),
            to_all("hv1/p1", "hv2/p2", "hv2/p3", "hv3/p3"),
            active("hv2/p3"),
            said("hv2/p3", "ACTIVE", state="preparing"),
            decided("hv1", "p3", Rule.STATE),
        ),
        throughout=(arrives("hv1/p1", "p3"), copies("hv1/p1", mac("p3"), "hv3")),
    ),
    Story(
        "a live migration",
        (*BLUE, *RED),
        (
            plug("hv2", "p3", state=State.PREPARING),
            change("hv2", "p3", state=State.ACTIVE),
            unplug("hv3", "p3"),
        ),
        (talk("hv1/p1", "hv2/p2", "hv2/p3"), RED_TALK, active("hv2/p3"), gone("hv3/p3"), holds_nothing("hv3")),
        throughout=(arrives("hv1/p1", "p3"), arrives("hv2/p2", "p3")),
    ),
    Story(
        "a migration's destination is active and the source not yet gone",
        (*BLUE, wait(3), plug("hv2", "p3", state=State.PREPARING)),
        (change("hv2", "p3", state=State.ACTIVE),),
        (
            heard_by("hv1/p1", mac("p3"), "hv2/p3"),
            copies("hv1/p1", mac("p3"), "hv2"),
            contested("hv3", "p3"),
            later("hv2/p3", than="hv3/p3"),
        ),
        throughout=(arrives("hv1/p1", "p3"),),
    ),
    Story(
        "a live migration that fails",
        (*BLUE, *RED),
        (plug("hv2", "p3", state=State.PREPARING), unplug("hv2", "p3")),
        (BLUE_TALK, RED_TALK, gone("hv2/p3"), active("hv3/p3")),
        throughout=(arrives("hv1/p1", "p3"), copies("hv1/p1", mac("p3"), "hv3")),
    ),
    Story(
        "a migration whose destination is never activated",
        BLUE,
        (plug("hv2", "p3", state=State.PREPARING), unplug("hv3", "p3")),
        (talk("hv1/p1", "hv2/p2", "hv2/p3"), said("hv2/p3", "ACTIVE", state="preparing")),
    ),
    Story(
        "a migration there and a migration back",
        BLUE,
        (
            plug("hv2", "p3", state=State.PREPARING),
            change("hv2", "p3", state=State.ACTIVE),
            unplug("hv3", "p3"),
            plug("hv3", "p3", state=State.PREPARING),
            change("hv3", "p3", state=State.ACTIVE),
            unplug("hv2", "p3"),
        ),
        (BLUE_TALK, active("hv3/p3"), gone("hv2/p3")),
        throughout=(arrives("hv1/p1", "p3"),),
    ),
    Story(
        "a port whose addresses change in the middle of its migration",
        BLUE,
        (
            plug("hv2", "p3", state=State.PREPARING),
            change("hv3", "p3", fixed_ips=(fixed_ip("10.0.0.77"),)),
            change("hv2", "p3", state=State.ACTIVE, fixed_ips=(fixed_ip("10.0.0.77"),)),
            unplug("hv3", "p3"),
        ),
        (
            talk("hv1/p1", "hv2/p2", "hv2/p3"),
            answered("hv1/p1", "10.0.0.77", mac("p3")),
            asked_of("hv1/p1", ip("p3"), "hv2/p2", "hv2/p3"),
        ),
        throughout=(arrives("hv1/p1", "p3"),),
    ),
    # --- drains ---
    Story(
        "a host is drained and nobody takes its port",
        BLUE,
        (drain("hv3"),),
        (BLUE_TALK, said("hv3/p3", "ACTIVE", state="leaving"), decided("hv1", "p3", Rule.ONLY)),
        throughout=(BLUE_TALK,),
    ),
    Story(
        "a drained host's port is plugged in elsewhere",
        BLUE,
        (drain("hv3"), plug("hv2", "p3")),
        (
            heard_by("hv1/p1", mac("p3"), "hv2/p3"),
            decided("hv1", "p3", Rule.STATE),
            said("hv3/p3", "ACTIVE", state="leaving"),
        ),
        throughout=(arrives("hv1/p1", "p3"),),
    ),
    Story(
        "a drained host's port prepares elsewhere",
        BLUE,
        (drain("hv3"), plug("hv2", "p3", state=State.PREPARING)),
        (heard_by("hv1/p1", mac("p3"), "hv3/p3"), decided("hv1", "p3", Rule.STATE)),
        throughout=(arrives("hv1/p1", "p3"),),
    ),
    Story(
        "of two hosts that have a port the later is drained",
        (*BLUE, plug("hv2", "p3"), wait(3), unplug("hv3", "p3"), plug("hv3", "p3"), wait(3)),
        (drain("hv3"),),
        (heard_by("hv1/p1", mac("p3"), "hv2/p3"), later("hv3/p3", than="hv2/p3"), decided("hv1", "p3", Rule.STATE)),
    ),
    Story(
        "a drain is taken back",
        BLUE,
        (drain("hv3"), drain("hv3", leaving=False)),
        (BLUE_TALK, said("hv3/p3", "ACTIVE", state="active")),
        throughout=(BLUE_TALK,),
    ),
    Story(
        "a port comes to a drained host",
        BLUE,
        (drain("hv3"), plug("hv3", "p4")),
        (talk("hv1/p1", "hv2/p2", "hv3/p3", "hv3/p4"), said("hv3/p4", "ACTIVE", state="leaving")),
    ),
    # --- too many moves ---
    Story(
        "a port moves too often",
        (*BLUE, plug("hv3", "p4")),
        fight(3),
        (
            frozen("hv3", "p1"),
            heard_by("hv3/p3", mac("p1"), "hv1/p1", "hv2/p1", "hv3/p4"),
            asked_of("hv3/p3", ip("p1"), "hv1/p1", "hv2/p1", "hv2/p2", "hv3/p4"),
            decided("hv3", "p1", Rule.FROZEN),
            not_frozen("hv3", "p4"),
        ),
        unless=SEEN,
    ),
    Story(
        "a port moves often, but not too often",
        BLUE,
        fight(2),
        (not_frozen("hv3", "p1"), heard_by("hv3/p3", mac("p1"), "hv2/p1"), decided("hv3", "p1", Rule.SEQ)),
    ),
    Story(
        "a port that moved too often is left at one place",
        BLUE,
        (*fight(3), unplug("hv2", "p1")),
        (BLUE_TALK, not_frozen("hv3", "p1"), answered("hv3/p3", ip("p1"), mac("p1"))),
    ),
    Story(
        "a port that moved too often is quiet for half an hour",
        BLUE,
        (*fight(3), wait(1801)),
        (not_frozen("hv3", "p1"), heard_by("hv3/p3", mac("p1"), "hv2/p1"), answered("hv3/p3", ip("p1"), mac("p1"))),
    ),
    Story(
        "a port that moved too often goes altogether and comes anew",
        BLUE,
        (*fight(3), unplug("hv2", "p1"), unplug("hv1", "p1"), wait(3), plug("hv2", "p1")),
        (talk("hv2/p1", "hv2/p2", "hv3/p3"), not_frozen("hv3", "p1")),
    ),
    Story(
        "a port changes its id and its place in one go",
        BLUE,
        (in_one_transaction("hv2", {"p7": a_port("p7", mac=Mac(mac("p1")))}), unplug("hv1", "p1")),
        (talk("hv2/p2", "hv2/p7", "hv3/p3"), later("hv2/p7", than="hv2/p2")),
        throughout=(arrives("hv3/p3", "p2"),),
    ),
)
