"""Stories as data, each told in several ways: doubled, reordered, folded, all at once, with restarts and lost messages.

However a story was told, it ends in the same flows on every host, but for the numbers of the local VLANs.
"""

import re
from collections.abc import Callable
from functools import cache

import pytest

from portwatch.model import Kind, Mac, NetworkId, State, Vni, fixed_ip
from tests.core.fleet import Fleet, Host, a_port, a_vni

Step = Callable[[Fleet], None]
Story = tuple[Step, ...]


def plug(host: str, name: str, network: str = "blue", **changes: object) -> Step:
    return lambda fleet: fleet[host].plug(a_port(name, network, **changes))


def unplug(host: str, *names: str) -> Step:
    return lambda fleet: fleet[host].unplug(*names)


def change(host: str, name: str, **changes: object) -> Step:
    return lambda fleet: fleet[host].change(name, **changes)


BLUE_AND_RED: Story = (
    plug("hv1", "p1"),
    plug("hv2", "p2"),
    plug("hv3", "p3"),
    plug("hv1", "p5", "red"),
    plug("hv2", "p6", "red"),
)
NOWHERE: dict[str, object] = {"network_id": None, "segmentation_id": None}
STORIES: dict[str, Story] = {
    "two networks on three hosts": BLUE_AND_RED,
    "the last port of a host leaves": (*BLUE_AND_RED, unplug("hv3", "p3"), unplug("hv2", "p6")),
    "a network comes back to a host": (*BLUE_AND_RED, unplug("hv1", "p1"), plug("hv1", "p9"), unplug("hv2", "p2")),
    "a port moves": (*BLUE_AND_RED, plug("hv2", "p3"), unplug("hv3", "p3"), plug("hv3", "p4")),
    "a port moves there and back": (
        *BLUE_AND_RED,
        plug("hv2", "p3"),
        unplug("hv3", "p3"),
        plug("hv3", "p3"),
        unplug("hv2", "p3"),
    ),
    # Heard of before it is there twice: within the time in which a network settles, either may come out as the later.
    "a port is in two places": (*BLUE_AND_RED, Fleet.settle, plug("hv2", "p3")),
    "a live migration": (
        *BLUE_AND_RED,
        plug("hv2", "p3", state=State.PREPARING),
        change("hv2", "p3", state=State.ACTIVE),
        unplug("hv3", "p3"),
    ),
    "a live migration that fails": (*BLUE_AND_RED, plug("hv2", "p3", state=State.PREPARING), unplug("hv2", "p3")),
    "addresses and MACs change": (
        *BLUE_AND_RED,
        change("hv1", "p1", fixed_ips=(fixed_ip("10.0.0.77"), fixed_ip("fd00::7"))),
        change("hv2", "p2", mac=Mac("fa:16:3e:00:00:77")),
        change("hv2", "p2", fixed_ips=(fixed_ip("10.0.0.77"),)),
    ),
    "a port changes its network": (
        *BLUE_AND_RED,
        change("hv1", "p1", network_id=NetworkId("red"), segmentation_id=a_vni("red")),
        change("hv2", "p6", network_id=NetworkId("blue"), segmentation_id=a_vni("blue")),
    ),
    "a network changes its VNI, host by host": (
        *BLUE_AND_RED,
        *(change(f"hv{number}", f"p{number}", segmentation_id=Vni(77)) for number in (1, 2, 3)),
    ),
    "ports go down and one comes up": (
        *BLUE_AND_RED,
        change("hv1", "p1", admin_up=False),
        change("hv2", "p2", admin_up=False),
        change("hv1", "p1", admin_up=True),
    ),
    "keys go and come back": (
        *BLUE_AND_RED,
        change("hv1", "p1", mac=None),
        change("hv2", "p2", **NOWHERE),
        change("hv1", "p1", mac=Mac("fa:16:3e:00:00:01")),
        change("hv3", "p3", fault="bad-fixed-ips: x"),
    ),
    "a VNI conflict comes and heals": (
        *BLUE_AND_RED,
        plug("hv1", "p7", "green", segmentation_id=a_vni("red")),
        unplug("hv1", "p5"),
    ),
    "a distributed router": (
        *BLUE_AND_RED,
        *(plug(f"hv{number}", "p8", kind=Kind.SHARED) for number in (1, 2, 3)),
        unplug("hv2", "p8"),
    ),
}


# --- ways to tell a story ----------------------------------------------------------------------------------------


def all_at_once(fleet: Fleet, story: Story) -> None:
    for step in story:
        step(fleet)


def every_message_twice(fleet: Fleet, story: Story) -> None:
    for step in story:
        step(fleet)
        for host in fleet.hosts.values():
            host.inbox = [message for message in host.inbox for _ in range(2)]


def the_last_topic_first(fleet: Fleet, story: Story) -> None:
    for step in story:
        step(fleet)
        for host in fleet.hosts.values():
            while host.inbox:
                fleet.hear(host, -1)


def only_the_newest_of_each_topic(fleet: Fleet, story: Story) -> None:
    for step in story:
        step(fleet)
        for host in fleet.hosts.values():
            host.inbox = list(dict(host.inbox).items())


def one_host_hears_nothing_until_the_end(fleet: Fleet, story: Story) -> None:
    for step in story:
        step(fleet)
        for name in ("hv1", "hv2"):
            fleet.hear_all(fleet[name])


def messages_are_lost_and_connections_made_again(fleet: Fleet, story: Story) -> None:
    for step in story:
        step(fleet)
        for host in fleet.hosts.values():
            host.inbox.clear()
            host.connect()


def words_are_lost_and_connections_made_again(fleet: Fleet, story: Story) -> None:
    for step in story:
        for host in fleet.hosts.values():
            host.deaf_and_mute = True
        step(fleet)
        for host in fleet.hosts.values():
            host.connect()


def everybody_restarts_after_each_step(fleet: Fleet, story: Story) -> None:
    for step in story:
        step(fleet)
        for host in fleet.hosts.values():
            host.restart()


def everybody_is_killed_before_anybody_hears(fleet: Fleet, story: Story) -> None:
    for step in story:
        step(fleet)
        for host in fleet.hosts.values():
            host.kill()
        for host in fleet.hosts.values():
            host.start(read_back=False)
            host.read_back()


def switches_restart_after_each_step(fleet: Fleet, story: Story) -> None:
    for step in story:
        step(fleet)
        for host in fleet.hosts.values():
            host.forget_flows()


def a_port_comes_and_goes_between_the_steps(fleet: Fleet, story: Story) -> None:
    for step in story:
        step(fleet)
        number = fleet["hv2"].next_ofport
        fleet["hv2"].plug(a_port("p99"), ofport=99)
        fleet.hush()
        fleet["hv2"].unplug("p99")
        fleet["hv2"].next_ofport = number


WAYS = (
    all_at_once,
    every_message_twice,
    the_last_topic_first,
    only_the_newest_of_each_topic,
    one_host_hears_nothing_until_the_end,
    messages_are_lost_and_connections_made_again,
    words_are_lost_and_connections_made_again,
    everybody_restarts_after_each_step,
    everybody_is_killed_before_anybody_hears,
    switches_restart_after_each_step,
    a_port_comes_and_goes_between_the_steps,
)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("title", list(STORIES))
def test_a_story_ends_in_the_same_flows_in_whatever_way_it_is_told(
    title: str, way: Callable[[Fleet, Story], None]
) -> None:
    fleet = Fleet(3)

    way(fleet, STORIES[title])
    fleet.settle()
    fleet.settle()

    assert flows(fleet) == told_plainly(title)


@cache
def told_plainly(title: str) -> dict[str, list[str]]:
    fleet = Fleet(3)
    for step in STORIES[title]:
        step(fleet)
        fleet.settle()
    return flows(fleet)


def flows(fleet: Fleet) -> dict[str, list[str]]:
    """Return each host's flows with networks for VLANs: which number a network has is history."""
    return {name: _named(host) for name, host in fleet.hosts.items()}


def _named(host: Host) -> list[str]:
    names = {int(vlan): segment.network_id for segment, vlan in host.reactor.fabric.vlans.of.items()}

    def named(found: re.Match[str]) -> str:
        number = int(found[2])
        vlan = number & 0xFFF if found[1] != "dl_vlan=" else number
        return f"{found[1]}{names[vlan]}"

    pattern = re.compile(r"(dl_vlan=|group:|group_id=|set_field:)(\d+)(?=->vlan_vid|,|$)")
    return sorted(pattern.sub(named, line) for line in host.flows())
