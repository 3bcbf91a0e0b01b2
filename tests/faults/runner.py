"""Plays one fault on the stage and measures it: lost probes, time, flows, and what must hold afterwards."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field

from portwatch.fabric.tables import COOKIE
from tests.faults.fault import Fault, Story
from tests.faults.stage import Claims, Loss, Stage
from tests.system.conftest import BRIDGES

INTERVAL = 0.01
UNDER_WAY = 2
"""Two measurements of one outage differ by so many probes, and by a tenth: those under way at its edges."""
ALONE_SECONDS = 30.0
PORT_CHANGES = 2
"""Probes that a talk may lose when ports come or go on its way, be they one or ten. Open vSwitch itself drops what it
translates in such a moment: one probe in 100 changes, with no portwatch near (docs/reliability.md)."""


@dataclass
class Outcome:
    """One row of the table, and what is wrong with it."""

    fault: Fault
    lost: int = 0
    """Of the talk through the hypervisor that lost the most."""
    silence: float = 0.0
    """The longest time, in seconds, in which no answer came through the hypervisor that is hit."""
    alone: Loss | None = None
    """When the same was done while portwatch did not run."""
    seconds: float = 0.0
    """From the end of the harm until all had converged."""
    flows: int = 0
    """Of the hypervisor's flows: made again, changed or removed."""
    of_flows: int = 0
    elsewhere: int = 0
    notes: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def suffer(stage: Stage, fault: Fault) -> Outcome:
    """Play *fault*, and return what it did; `wrong` has what was not as promised."""
    stage.until_converged(fault.within)
    outcome = Outcome(fault)
    stage.notes, stage.wrong = outcome.notes, outcome.wrong
    if fault.alone is not None:
        if fault.alone not in stage.alone:
            stage.alone[fault.alone] = _lost_alone(stage, fault.alone)
        outcome.alone = stage.alone[fault.alone]
    with closing(fault.story(stage)) as story:
        _measure(stage, outcome, story)
        if next(story, "ended") != "ended":
            raise AssertionError(f"{fault.name}: a story yields once")
        stage.until_converged(fault.within)
    return outcome


def _measure(stage: Stage, outcome: Outcome, story: Story) -> None:
    """Play the harm, and fill the columns."""
    claims, flows = stage.claims(), stage.flows()
    port_changes = [talk.port_changes() for talk in stage.talks]
    watches = [(hv, hv.watch_flows(bridge)) for hv in stage.site.hypervisors for bridge in BRIDGES]
    probes = stage.probe()
    next(story)
    over = time.monotonic()
    stage.until_converged(outcome.fault.within)
    outcome.seconds = time.monotonic() - over
    stage.until_answered(probes)
    stage.results = [probe.stop() for probe in probes]
    loss = stage.loss()
    outcome.lost, outcome.silence = loss.probes, loss.silence
    events = [(hv, event) for hv, watch in watches for event in watch.stop() if event.cookie == COOKIE]
    after = stage.flows()
    told = {(event.table, event.text) for hv, event in events if hv is stage.hv}
    aged = sum(not (now := after.get(key)) or not carried.went_on(now) for key, carried in flows.items())
    # What is falsified keeps its age, and a monitor ends with its bridge: either tells what the other does not.
    outcome.flows, outcome.of_flows = max(aged, len(told)), len(flows)
    outcome.elsewhere = sum(hv is not stage.hv for hv, _ in events)
    outcome.wrong.extend(_lost_too_many(stage, outcome, port_changes))
    _judge(outcome, claims, stage.claims())


def _lost_alone(stage: Stage, harm: Callable[[Stage], object]) -> Loss:
    """Do *harm* to the switch while portwatch does not run; return what it loses by itself."""
    for agent in stage.agents:
        agent.stop()
    probes = stage.probe()
    harm(stage)
    stage.until_answered(probes, ALONE_SECONDS)
    stage.results = [probe.stop() for probe in probes]
    for agent in stage.agents:
        agent.start()
    stage.until_converged(ALONE_SECONDS)
    return stage.loss()


def _lost_too_many(stage: Stage, outcome: Outcome, port_changes: list[int]) -> Iterator[str]:
    """Tell of each talk that has lost more than it may; *port_changes*: of each, when the harm began."""
    fault, alone = outcome.fault, outcome.alone
    for talk, result, before in zip(stage.talks, stage.results, port_changes, strict=True):
        allowed = fault.lost if stage.hit(talk) else fault.lost_elsewhere
        if allowed is None:
            continue
        if alone is not None and stage.hit(talk):
            allowed += round(alone.probes * 1.1) + UNDER_WAY
        if talk.port_changes() > before:
            allowed += PORT_CHANGES
        if len(result.lost) > allowed:
            yield f"{talk.name}: {len(result.lost)} probes were lost, {allowed} may be"


def _judge(outcome: Outcome, before: Claims, after: Claims) -> None:
    """Hold what was measured against what was promised."""
    fault, wrong = outcome.fault, outcome.wrong
    if fault.flows is not None and outcome.flows > fault.flows:
        wrong.append(f"{outcome.flows} flows were touched, {fault.flows} may be")
    if fault.elsewhere is not None and outcome.elsewhere > fault.elsewhere:
        wrong.append(f"flows changed elsewhere {outcome.elsewhere} times, {fault.elsewhere} may be")
    if fault.same_claims and any(after.get(port) != claim for port, claim in before.items()):
        wrong.append(f"claims changed from {before} to {after}")
