"""`make bench`: the way of one port from OVSDB to the other hosts' switches, beside the bare parts it is made of."""

import argparse
import asyncio
import sys

from tests.bench import primitives
from tests.bench.plug import chain
from tests.bench.samples import HEADING, Samples, line
from tests.lab import Lab


def main() -> None:
    """Measure, print a table, and end with 1 when a port takes more than twice its parts."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="samples of each figure (default 100)")
    parser.add_argument("--bound", type=float, default=None, help="fail above this ratio of plug to parts")
    options = parser.parse_args()
    ratio = asyncio.run(measure(options.count))
    if options.bound is not None and ratio > options.bound:
        sys.exit(f"a plug takes {ratio:.2f} times the sum of its parts, more than {options.bound}")


async def measure(count: int) -> float:
    """Print the table; return the ratio of a plug elsewhere to the sum of the bare parts, by their medians."""
    with Lab(2) as lab:
        here = lab.hypervisors[0]
        here.create_bridge()
        _say("two hypervisors and a broker are up; measuring the bare parts")
        parts = {
            "ofport assignment by vswitchd": await primitives.ofport_assignment(lab, here, count),
            "ovs-ofctl bundle of one flow, started ahead": await primitives.bundle(here, count, ahead=True),
            "broker round trip": await asyncio.to_thread(primitives.broker_round_trip, lab, here, count),
        }
        cold = await primitives.bundle(here, count, ahead=False)
        _say("the parts are measured; starting portwatch on both")
        agents = [lab.agent(hypervisor, environment={"PORTWATCH_LOG__LEVEL": "info"}) for hypervisor in lab.hypervisors]
        for agent in agents:
            agent.start()
        for agent in agents:
            agent.wait_ready()
        _say(f"plugging and unplugging {count} ports, one by one")
        measured = await chain(lab, count)
        for agent in agents:
            agent.stop()

    stages = measured.samples()
    print(f"\n{HEADING}")
    for name, samples in parts.items():
        print(line(name, samples))
    print(line("(ovs-ofctl bundle of one flow, cold)", cold))
    for name, samples in stages.items():
        print(line(name, samples))
    return _ratios(parts, stages["commit → committed on another host"])


def _ratios(parts: dict[str, Samples], elsewhere: Samples) -> float:
    p50 = sum(samples.p50 for samples in parts.values())
    ratio = elsewhere.p50 / p50
    print(f"\nthe three parts together: {1000 * p50:.2f} ms; a port on another host: {ratio:.2f} times that (p50)")
    return ratio


def _say(words: str) -> None:
    print(words, flush=True)


if __name__ == "__main__":
    main()
