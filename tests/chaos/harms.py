"""Harm as a pair of acts: what is done, and, after the `yield`, what ends it. Each says what it is done to.

How much it draws from *random* depends on nothing but what was drawn before: else a seed would not play it again.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from itertools import cycle
from random import Random

from tests.chaos.churn import Churn
from tests.faults.stage import Stage
from tests.lab import Hypervisor

Course = Generator[None, None, None]
OURS = "cookie=0x7077000000000000/0xffff000000000000"
GARBAGE = (b"{", b"\xff", b"[]", b"[" * 5000, b'{"specversion": "1.0"}')


@dataclass(frozen=True)
class Harm:
    """One kind. *victim*: two harms that have it in common exclude each other."""

    name: str
    victim: str
    course: Callable[[], Course]


def harms(stage: Stage, churn: Churn, random: Random) -> list[Harm]:
    """Return all kinds of harm that can be done here."""
    broker, underlay = stage.site.lab.broker, stage.site.lab.underlay
    past: dict[str, bytes] = {}

    def broker_killed() -> Course:
        broker.kill()
        yield
        broker.start()

    def broker_still() -> Course:
        broker.pause()
        yield
        broker.resume()

    def broker_cut_off() -> Course:
        underlay.cut("broker")
        yield
        underlay.mend("broker")

    def broker_replays() -> Course:
        past.update((topic, text.encode()) for topic, text in broker.retained("portwatch/v1/#").items())
        yield
        broker.retain(past.items())

    def broker_cleared() -> Course:
        broker.retain((topic, b"") for topic in sorted(broker.retained("portwatch/v1/#"))[::2])
        yield

    def garbage() -> Course:
        broker.retain(zip(broker.retained("portwatch/v1/#"), cycle(GARBAGE)))
        yield

    found = [
        Harm("the broker killed", "broker", broker_killed),
        Harm("the broker standing still", "broker", broker_still),
        Harm("the broker cut off", "broker", broker_cut_off),
        Harm("the broker says the past again", "broker", broker_replays),
        Harm("half of what is retained cleared", "broker", broker_cleared),
        Harm("all that is retained overwritten with garbage", "broker", garbage),
    ]
    for hypervisor in stage.site.hypervisors:
        found += _on(stage, churn, random, hypervisor)
    return found


def _on(stage: Stage, churn: Churn, random: Random, hypervisor: Hypervisor) -> list[Harm]:
    agent, underlay, name = stage.site.agents[hypervisor.name], stage.site.lab.underlay, hypervisor.name

    def agent_killed() -> Course:
        agent.kill()
        yield
        agent.start()

    def agent_stopped() -> Course:
        agent.stop()
        yield
        agent.start()

    def agent_still() -> Course:
        agent.pause()
        yield
        agent.process.resume()

    def switch_killed() -> Course:
        churn.away.add(hypervisor)
        hypervisor.vswitchd.kill()
        yield
        hypervisor.vswitchd.start()
        churn.away.discard(hypervisor)

    def database_still() -> Course:
        churn.away.add(hypervisor)
        hypervisor.ovsdb_server.pause()
        yield
        hypervisor.ovsdb_server.resume()
        churn.away.discard(hypervisor)

    def database_killed() -> Course:
        churn.away.add(hypervisor)
        hypervisor.ovsdb_server.kill()
        yield
        hypervisor.ovsdb_server.start()
        churn.away.discard(hypervisor)

    def flows_deleted() -> Course:
        hypervisor.ofctl("-O", "OpenFlow15", "del-flows", random.choice(["br-int", "br-tun"]), OURS)
        yield

    def flows_falsified() -> Course:
        hypervisor.ofctl("-O", "OpenFlow15", "mod-flows", "br-tun", "table=20,actions=drop")
        yield

    def cut_off() -> Course:
        underlay.cut(name)
        yield
        underlay.mend(name)

    return [
        Harm(f"{name}'s agent killed", f"agent of {name}", agent_killed),
        Harm(f"{name}'s agent stopped", f"agent of {name}", agent_stopped),
        Harm(f"{name}'s agent standing still", f"agent of {name}", agent_still),
        Harm(f"{name}'s switch killed", f"switch of {name}", switch_killed),
        Harm(f"{name}'s database standing still", f"switch of {name}", database_still),
        Harm(f"{name}'s database killed", f"switch of {name}", database_killed),
        Harm(f"{name}'s flows deleted", f"switch of {name}", flows_deleted),
        Harm(f"{name}'s flows falsified", f"switch of {name}", flows_falsified),
        Harm(f"{name} cut off from the underlay", f"cable of {name}", cut_off),
    ]
