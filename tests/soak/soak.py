"""Ports come and go for as long as you like, and the agents hold no more at the end than in the beginning.

    python -m tests.soak MINUTES [SEED]

Every now and then the broker is killed and our flows are deleted: what is made again must replace what was there.
"""

import time
from collections.abc import Iterator
from random import Random

from portwatch.switch.ofctl import REST
from portwatch.switch.programmer import PURGE_AGAIN
from tests.faults.stage import Stage
from tests.lab import Agent, eventually
from tests.soak.churn import Churn
from tests.soak.holdings import Holdings, slope

ROUND = 25
"""Acts between two looks."""
WARM_UP = 0.3
"""Of the looks: caches fill, the allocator finds its size."""
GROWTH = 2.0
"""KiB an act, at most: an hour of this is some 30,000 acts."""
OURS = "cookie=0x7077000000000000/0xffff000000000000"


def soak(stage: Stage, seconds: float, seed: str) -> Iterator[dict[str, Holdings]]:
    """Let ports come and go for so long; yield what each agent holds after each round, when all is quiet."""
    random = Random(seed)
    churn = Churn(stage, random)
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        number += 1
        if number % 4 == 2:
            stage.site.lab.broker.kill()
            stage.site.lab.broker.start()
        if number % 4 == 0:
            random.choice(stage.site.hypervisors).ofctl("-O", "OpenFlow15", "del-flows", "br-tun", OURS)
        for _ in range(ROUND):
            churn.act()
        churn.clear()
        churn.until_converged()
        yield {agent.hypervisor.name: _quiet(agent) for agent in stage.agents}


def judge(looks: list[dict[str, Holdings]]) -> Iterator[str]:
    """Say what each agent has gained; a line that begins with `NOT SO` is a promise broken."""
    later = looks[int(len(looks) * WARM_UP) :]
    for name in looks[0]:
        counts = {look[name].counted for look in later}
        rise = slope([(number * ROUND, look[name].memory) for number, look in enumerate(later)])
        first, last = later[0][name], later[-1][name]
        verdict = "NOT SO: " if len(counts) > 1 or rise > GROWTH else ""
        yield (
            f"{verdict}{name}: descriptors, threads, children {sorted(counts)}; memory {first.memory} to {last.memory}"
            f" KiB, {rise:+.2f} KiB an act over {len(later) * ROUND} acts"
        )


def _quiet(agent: Agent) -> Holdings:
    """Return what an agent holds when nobody asks it anything: twice the same."""
    before = Holdings.of(agent.process.pid)

    def settled() -> Holdings | None:
        nonlocal before
        time.sleep(PURGE_AGAIN + 2 * REST)  # the last commit is done by then, and spare processes are made up
        before, last = Holdings.of(agent.process.pid), before
        return before if before.counted == last.counted else None

    return eventually(settled, 10, f"{agent.hypervisor.name} is quiet")
