"""What a story is made of: given these ports, when this happens, then that holds, in the field's words.

A *step* is something that happens to a fleet. A *fact* is what must hold at its end: judged by frames that are sent
through the switches, by what stands on the bus, and by what is reported, never by what the fabric has computed.
"""

import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import cache
from unittest.mock import patch

from portwatch.fabric.attachment import SwitchPorts
from portwatch.fabric.pipeline import Policy
from portwatch.model import LocalVlan, Port, PortId, TunnelEndpoint
from tests.core.fleet import ALL_TUNNELS, Fleet, a_port

Step = Callable[[Fleet], None]
Fact = Callable[[Fleet], None]


class Trait(Enum):
    """What a way of telling does besides telling."""

    FORGETS = auto()
    """Processes begin anew."""
    REPEATS = auto()
    """Hosts say again what they have, and hear again what is retained."""
    FOLDS = auto()
    """Of several changes, others hear only the last."""
    WIPES = auto()
    """Switches lose what they hold."""
    SPEAKS = auto()
    """A host says something else besides."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What the operators of the fleet have chosen, and built."""

    policy: Policy = field(default_factory=Policy)
    endpoints: Mapping[int, TunnelEndpoint | None] = field(default_factory=dict)
    ports: SwitchPorts = ALL_TUNNELS
    grace: float | None = None
    directory: bool = False
    """Do ports' details come from the bus?"""
    vlans: int = LocalVlan.HIGHEST
    """So many local VLANs there are."""

    def fleet(self) -> Fleet:
        """Return three hosts that live in this setting; their ports are held to their addresses, as by default."""
        return Fleet(
            3,
            self.policy,
            self.endpoints,
            checked=True,
            ports=self.ports,
            grace=self.grace,
            directory={} if self.directory else None,
        )


PLAIN = Setting()


@dataclass(frozen=True, slots=True, eq=False)
class Story:
    """*given* is there and settled; *when* is told in every way; *then* holds at the end of each.

    What must hold *throughout* is looked at whenever a switch has taken a bundle, while the story is told plainly.
    *unless*: the traits of the ways in which it would be another story.
    """

    name: str
    given: tuple[Step, ...]
    when: tuple[Step, ...]
    then: tuple[Fact, ...]
    throughout: tuple[Fact, ...] = ()
    setting: Setting = PLAIN
    unless: frozenset[Trait] = frozenset()

    def __str__(self) -> str:
        return self.name

    @contextmanager
    def begun(self) -> Iterator[Fleet]:
        """Yield a fleet to which all that is given has happened, some time ago."""
        with patch.object(LocalVlan, "HIGHEST", self.setting.vlans):
            yield pickle.loads(_given(self))  # noqa: S301 - our own, made below


@cache
def _given(story: Story) -> bytes:
    """Return the fleet in which a story begins: it is begun a dozen times."""
    fleet = story.setting.fleet()
    for step in story.given:
        step(fleet)
        fleet.hush()
    fleet.rest()
    return pickle.dumps(fleet)


# --- what happens ------------------------------------------------------------------------------------------------


def plug(host: str, name: str, network: str | None = "blue", **changes: object) -> Step:
    """The port is plugged in there; say only what matters."""
    return lambda fleet: fleet[host].plug(a_port(name, network, **changes))


def unplug(host: str, *names: str) -> Step:
    return lambda fleet: fleet[host].unplug(*names)


def change(host: str, name: str, **changes: object) -> Step:
    """Keys of the port's Interface change."""
    return lambda fleet: fleet[host].change(name, **changes)


def in_one_transaction(host: str, ports: Mapping[str, Port | None]) -> Step:
    """Ports are plugged in, changed and (None) pulled, all at once."""
    return lambda fleet: fleet[host].batch(ports)


def renumber(host: str, name: str, ofport: int) -> Step:
    """The port has another number on its bridge."""
    return lambda fleet: fleet[host].plug(fleet[host].port(name), ofport)


def restart(host: str) -> Step:
    """The agent is stopped and started."""
    return lambda fleet: fleet[host].restart()


def kill(host: str) -> Step:
    """The agent, or its whole host, ends without a word: the broker speaks its last will."""
    return lambda fleet: fleet[host].kill()


def start(host: str) -> Step:
    """The agent is started again."""
    return lambda fleet: fleet[host].start()


def drain(host: str, *, leaving: bool = True) -> Step:
    return lambda fleet: fleet[host].drain(leaving=leaving)


def wait(seconds: float) -> Step:
    """Time passes in which everybody hears what was said."""
    return lambda fleet: fleet.settle(seconds)


# --- who is who --------------------------------------------------------------------------------------------------


def mac(name: str) -> str:
    """Return the MAC that a port has by default."""
    return str(a_port(name).mac)


def ip(name: str) -> str:
    """Return the IPv4 address that a port has by default."""
    return str(a_port(name).fixed_ips[0])


def apart(place: str) -> tuple[str, PortId]:
    """Take a place, `hv1/p1`, apart."""
    host, _, name = place.partition("/")
    return host, PortId(name)


# --- judging -----------------------------------------------------------------------------------------------------


def judge(fleet: Fleet, facts: tuple[Fact, ...]) -> None:
    """Hold the fleet against each fact. What the switches learn of one fact's frames tells the next one nothing."""
    for fact in facts:
        switches = [switch for host in fleet.hosts.values() for switch in host.bridges.values()]
        before = [dict(switch.flows) for switch in switches]
        fact(fleet)
        for switch, flows in zip(switches, before, strict=True):
            switch.flows = flows
