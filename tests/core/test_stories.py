"""Each story is told in several ways: doubled, reordered, folded, all at once, with restarts and lost messages.

However a story was told, it ends in the same flows on every host, but for the numbers of the local VLANs, and these
flows do what the story says.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import pytest

from tests.core.fleet import Fleet, Host, a_port
from tests.core.stories import STORIES
from tests.core.stories.story import Step, Story, Trait, judge

VLANS = re.compile(r"(dl_vlan=|group:|group_id=|set_field:)(\d+)(?=->vlan_vid|,|$)")
Telling = Callable[[Fleet, tuple[Step, ...]], None]


def test_each_story_has_a_name_of_its_own() -> None:
    names = [story.name for story in STORIES]

    assert len({*names}) == len(names)
    assert len(names) >= 80


# --- ways to tell a story ----------------------------------------------------------------------------------------


def all_at_once(fleet: Fleet, steps: tuple[Step, ...]) -> None:
    for step in steps:
        step(fleet)


def every_message_twice(fleet: Fleet, steps: tuple[Step, ...]) -> None:
    for step in steps:
        step(fleet)
        for host in living(fleet):
            host.inbox = [message for message in host.inbox for _ in range(2)]


def the_last_topic_first(fleet: Fleet, steps: tuple[Step, ...]) -> None:
    for step in steps:
        step(fleet)
        for host in living(fleet):
            while host.inbox:
                fleet.hear(host, -1)


def only_the_newest_of_each_topic(fleet: Fleet, steps: tuple[Step, ...]) -> None:
    for step in steps:
        step(fleet)
        for host in living(fleet):
            host.inbox = list(dict(host.inbox).items())


def one_host_hears_nothing_until_the_end(fleet: Fleet, steps: tuple[Step, ...]) -> None:
    for step in steps:
        step(fleet)
        for name in ("hv1", "hv2"):
            fleet.hear_all(fleet[name])


def messages_are_lost_and_connections_made_again(fleet: Fleet, steps: tuple[Step, ...]) -> None:
    for step in steps:
        step(fleet)
        for host in living(fleet):
            host.inbox.clear()
            host.connect()


def words_are_lost_and_connections_made_again(fleet: Fleet, steps: tuple[Step, ...]) -> None:
    for step in steps:
        for host in living(fleet):
            host.deaf_and_mute = True
        step(fleet)
        for host in living(fleet):
            host.connect()


def everybody_restarts_after_each_step(fleet: Fleet, steps: tuple[Step, ...]) -> None:
    for step in steps:
        step(fleet)
        for host in living(fleet):
            host.restart()


def everybody_is_killed_before_anybody_hears(fleet: Fleet, steps: tuple[Step, ...]) -> None:
    for step in steps:
        step(fleet)
        hosts = living(fleet)
        for host in hosts:
            host.kill()
        for host in hosts:
            host.start(read_back=False)
            host.read_back()


def switches_restart_after_each_step(fleet: Fleet, steps: tuple[Step, ...]) -> None:
    for step in steps:
        step(fleet)
        for host in living(fleet):
            host.forget_flows()


def a_port_comes_and_goes_between_the_steps(fleet: Fleet, steps: tuple[Step, ...]) -> None:
    for step in steps:
        step(fleet)
        number = fleet["hv2"].next_ofport
        fleet["hv2"].plug(a_port("p99"), ofport=99)
        fleet.hush()
        fleet["hv2"].unplug("p99")
        fleet["hv2"].next_ofport = number


def living(fleet: Fleet) -> list[Host]:
    return [host for host in fleet.hosts.values() if host.alive]


@dataclass(frozen=True, slots=True)
class Way:
    """A way to tell a story, and what it does besides."""

    tell: Telling
    traits: frozenset[Trait] = frozenset()


WAYS = (
    Way(all_at_once),
    Way(every_message_twice),
    Way(the_last_topic_first),
    Way(only_the_newest_of_each_topic, frozenset({Trait.FOLDS})),
    Way(one_host_hears_nothing_until_the_end),
    Way(messages_are_lost_and_connections_made_again, frozenset({Trait.REPEATS})),
    Way(words_are_lost_and_connections_made_again, frozenset({Trait.REPEATS, Trait.FOLDS})),
    Way(everybody_restarts_after_each_step, frozenset({Trait.FORGETS})),
    Way(everybody_is_killed_before_anybody_hears, frozenset({Trait.FORGETS})),
    Way(switches_restart_after_each_step, frozenset({Trait.WIPES})),
    Way(a_port_comes_and_goes_between_the_steps, frozenset({Trait.SPEAKS})),
)


@pytest.mark.parametrize("story", STORIES, ids=str)
def test_a_story_told_plainly_ends_as_it_says_and_keeps_what_must_hold_throughout(story: Story) -> None:
    with story.begun() as fleet:
        judge(fleet, story.throughout)
        fleet.committed = lambda _: judge(fleet, story.throughout)

        told(fleet, story.when)
        fleet.settle()

        judge(fleet, story.then)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("story", "way"),
    [
        pytest.param(story, way, id=f"{story.name}-{way.tell.__name__}")
        for story in STORIES
        for way in WAYS
        if not way.traits & story.unless
    ],
)
def test_a_story_ends_in_the_same_flows_in_whatever_way_it_is_told(story: Story, way: Way) -> None:
    with story.begun() as fleet:
        way.tell(fleet, story.when)
        fleet.rest()
        fleet.settle()

        found, expected = flows(fleet), plain_end(story)
        assert found == expected, "\n".join(
            ["", *sorted(f"{'+' if line in found else '-'} {line}" for line in found ^ expected)]
        )
        judge(fleet, story.then)


def told(fleet: Fleet, steps: tuple[Step, ...]) -> None:
    """Tell it plainly: everybody hears of each step before the next."""
    for step in steps:
        step(fleet)
        fleet.settle()


@cache
def plain_end(story: Story) -> frozenset[str]:
    with story.begun() as fleet:
        told(fleet, story.when)
        fleet.settle()
        return flows(fleet)


def flows(fleet: Fleet) -> frozenset[str]:
    """Return each host's flows with networks for VLANs: which number a network has is history."""
    return frozenset(f"{host.name} {line}" for host in fleet.hosts.values() for line in _named(host))


def _named(host: Host) -> Iterator[str]:
    names = {int(vlan): segment.network_id for segment, vlan in host.reactor.fabric.vlans.of.items()}

    def named(found: re.Match[str]) -> str:
        number = int(found[2])
        vlan = number & 0xFFF if found[1] != "dl_vlan=" else number
        return f"{found[1]}{names[vlan]}"

    return (VLANS.sub(named, line) for line in host.flows())
