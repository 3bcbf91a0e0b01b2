"""Agents, switches and hosts begin anew, and what happened while they were away is made up for."""

from portwatch.fabric.pipeline import Bridge
from portwatch.model import NetworkId, State, fixed_ip
from tests.core.fleet import STRANGERS_FLOW, TUN, Fleet, a_vni
from tests.core.stories.facts import (
    accepts,
    active,
    answered,
    arrives,
    asked_of,
    contested,
    gone,
    heard_by,
    holds_nothing,
    later,
    said,
    talk,
)
from tests.core.stories.ports import BLUE, BLUE_TALK, RED, RED_TALK
from tests.core.stories.story import Step, Story, change, ip, kill, mac, plug, renumber, restart, start, unplug, wait


def restart_switch(host: str) -> Step:
    """ovs-vswitchd begins anew, and knows no flow."""
    return lambda fleet: fleet[host].forget_flows()


def delete_flows(host: str) -> Step:
    """Somebody deletes flows of ours, and we look."""

    def step(fleet: Fleet) -> None:
        flows = fleet[host].bridges[TUN].flows
        for key in [key for key in flows if key != STRANGERS_FLOW.key][::2]:
            del flows[key]
        fleet[host].read_back()

    return step


def disconnect(host: str) -> Step:
    return lambda fleet: fleet[host].disconnect()


def connect(host: str) -> Step:
    return lambda fleet: fleet[host].connect()


def stall(host: str) -> Step:
    """The switch takes nothing any more."""
    return lambda fleet: fleet[host].programmed.clear()


def go_on(host: str) -> Step:
    """The switch takes what is owed."""

    def step(fleet: Fleet) -> None:
        fleet[host].programmed.update(Bridge)
        if fleet[host].alive:
            fleet.carry_out(fleet[host])

    return step


STORIES = (
    Story(
        "agents begin anew",
        (*BLUE, *RED),
        (restart("hv1"), restart("hv2"), restart("hv3")),
        (BLUE_TALK, RED_TALK, active("hv1/p1", "hv2/p2", "hv3/p3")),
        throughout=(BLUE_TALK, RED_TALK),
    ),
    Story(
        "agents are killed and begin anew",
        (*BLUE, *RED),
        (kill("hv1"), kill("hv2"), start("hv1"), start("hv2")),
        (BLUE_TALK, RED_TALK, active("hv1/p1", "hv2/p2")),
        throughout=(BLUE_TALK, RED_TALK),
    ),
    Story(
        "a restart is no move",
        (*BLUE, wait(3), plug("hv2", "p3")),
        (restart("hv3"), kill("hv3"), start("hv3")),
        (
            later("hv2/p3", than="hv3/p3"),
            heard_by("hv1/p1", mac("p3"), "hv2/p3"),
            contested("hv3", "p3"),
        ),
        throughout=(heard_by("hv1/p1", mac("p3"), "hv2/p3"),),
    ),
    Story(
        "a port comes while the agent is away",
        BLUE,
        (kill("hv1"), plug("hv1", "p7"), start("hv1")),
        (talk("hv1/p1", "hv1/p7", "hv2/p2", "hv3/p3"), active("hv1/p7")),
        throughout=(arrives("hv2/p2", "p1"), arrives("hv1/p1", "p3")),
    ),
    Story(
        "a port goes while the agent is away",
        (*BLUE, *RED),
        (kill("hv1"), unplug("hv1", "p1"), start("hv1")),
        (talk("hv2/p2", "hv3/p3"), RED_TALK, gone("hv1/p1"), accepts("hv3", "hv2")),
        throughout=(RED_TALK,),
    ),
    Story(
        "all ports go while the agent is away",
        BLUE,
        (kill("hv1"), unplug("hv1", "p1"), start("hv1")),
        (talk("hv2/p2", "hv3/p3"), gone("hv1/p1"), holds_nothing("hv1")),
    ),
    Story(
        "another host's port goes while the agent is away",
        BLUE,
        (kill("hv1"), unplug("hv2", "p2"), start("hv1")),
        (talk("hv1/p1", "hv3/p3"), accepts("hv1", "hv3"), asked_of("hv1/p1", ip("p2"), "hv3/p3")),
        throughout=(arrives("hv1/p1", "p3"), arrives("hv3/p3", "p1")),
    ),
    Story(
        "a port moves away while the agent is away",
        BLUE,
        (kill("hv3"), plug("hv2", "p3"), unplug("hv3", "p3"), start("hv3")),
        (talk("hv1/p1", "hv2/p2", "hv2/p3"), gone("hv3/p3"), active("hv2/p3"), holds_nothing("hv3")),
    ),
    Story(
        "a port changes its network while the agent is away",
        (*BLUE, *RED),
        (
            kill("hv1"),
            change("hv1", "p1", network_id=NetworkId("red"), segmentation_id=a_vni("red")),
            start("hv1"),
        ),
        (talk("hv2/p2", "hv3/p3"), talk("hv1/p1", "hv1/p5", "hv2/p6"), said("hv1/p1", "ACTIVE", network_id="red")),
        throughout=(arrives("hv1/p5", "p6"),),
    ),
    Story(
        "a port takes other addresses while the agent is away",
        BLUE,
        (kill("hv1"), change("hv1", "p1", fixed_ips=(fixed_ip("10.0.0.77"),)), start("hv1")),
        (
            BLUE_TALK,
            answered("hv2/p2", "10.0.0.77", mac("p1")),
            asked_of("hv2/p2", ip("p1"), "hv1/p1", "hv3/p3"),
        ),
    ),
    Story(
        "a host is switched off and on",
        (*BLUE, *RED),
        (
            kill("hv1"),
            restart_switch("hv1"),
            renumber("hv1", "p1", 31),
            renumber("hv1", "p5", 32),
            start("hv1"),
        ),
        (BLUE_TALK, RED_TALK, active("hv1/p1", "hv1/p5")),
    ),
    Story(
        "both hosts of a migration begin anew in the middle of it",
        BLUE,
        (
            plug("hv2", "p3", state=State.PREPARING),
            restart("hv3"),
            restart("hv2"),
            change("hv2", "p3", state=State.ACTIVE),
            restart("hv2"),
            restart("hv3"),
            unplug("hv3", "p3"),
        ),
        (talk("hv1/p1", "hv2/p2", "hv2/p3"), active("hv2/p3"), gone("hv3/p3")),
        throughout=(arrives("hv1/p1", "p3"),),
    ),
    Story(
        "a switch begins anew",
        (*BLUE, *RED),
        (restart_switch("hv1"), restart_switch("hv3")),
        (BLUE_TALK, RED_TALK, active("hv1/p1", "hv3/p3")),
    ),
    Story(
        "somebody deletes flows of ours",
        (*BLUE, *RED),
        (delete_flows("hv1"),),
        (BLUE_TALK, RED_TALK, answered("hv1/p1", ip("p2"), mac("p2"))),
    ),
    Story(
        "a switch hangs while ports come and go",
        BLUE,
        (stall("hv1"), plug("hv1", "p7"), plug("hv2", "p8"), unplug("hv2", "p2"), go_on("hv1")),
        (talk("hv1/p1", "hv1/p7", "hv2/p8", "hv3/p3"), active("hv1/p7")),
    ),
    Story(
        "an agent is killed while its switch hangs",
        BLUE,
        (stall("hv1"), plug("hv1", "p7"), unplug("hv1", "p1"), kill("hv1"), go_on("hv1"), start("hv1")),
        (talk("hv1/p7", "hv2/p2", "hv3/p3"), active("hv1/p7"), gone("hv1/p1")),
    ),
    Story(
        "the bus is away while ports come and go",
        BLUE,
        (
            disconnect("hv1"),
            plug("hv1", "p7"),
            unplug("hv1", "p1"),
            plug("hv2", "p8"),
            unplug("hv2", "p2"),
            connect("hv1"),
        ),
        (talk("hv1/p7", "hv2/p8", "hv3/p3"), active("hv1/p7", "hv2/p8"), gone("hv1/p1", "hv2/p2")),
    ),
    Story(
        "a port moves while its old host hears nothing",
        BLUE,
        (disconnect("hv3"), plug("hv2", "p3"), unplug("hv3", "p3"), connect("hv3")),
        (talk("hv1/p1", "hv2/p2", "hv2/p3"), gone("hv3/p3"), later("hv2/p3", than="hv2/p2")),
        throughout=(arrives("hv1/p1", "p3"),),
    ),
)
