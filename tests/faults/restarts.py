"""The agent restarted in every way: not a probe lost, and no flow touched but for what has changed meanwhile."""

import signal
import time

from tests.faults import commands
from tests.faults.fault import Rows, Story
from tests.faults.stage import Stage
from tests.lab import eventually

ROWS = Rows("The agent")
fault = ROWS.fault

RESTARTS = 20
STEP = 0.05
"""Seconds: so much later each of them is killed; the last ones have long been ready."""
PORT_FLOWS = 24
"""What a port that comes or goes touches on its own hypervisor, at most: its flows, and the floods that it is in."""
FAR_FLOWS = 6
"""What it touches on each other one, at most."""


@fault("stopped (SIGTERM) and started")
def stopped(stage: Stage) -> Story:
    assert stage.agent.stop() == 0
    stage.agent.start()
    yield


@fault("killed (SIGKILL) and started")
def killed(stage: Stage) -> Story:
    stage.agent.kill()
    stage.agent.start()
    yield


@fault(f"killed or stopped {RESTARTS} times in a row, at ever later moments of its start")
def killed_again_and_again(stage: Stage) -> Story:
    for number in range(RESTARTS):
        stage.agent.stop(signal.SIGKILL if number % 2 else signal.SIGTERM)
        stage.agent.start()
        time.sleep(STEP * number)  # the moment at which it is hit
    yield


@fault(
    "killed amid a bundle, which reaches the switch late, and wrong by then",
    flows=2 * PORT_FLOWS,
    elsewhere=4 * FAR_FLOWS,
)
def killed_amid_a_bundle(stage: Stage) -> Story:
    going = stage.plug(stage.hv, "10.0.8.1/16")  # a commit: from now on an ovs-ofctl waits for the next one
    stage.until_converged(5)
    command = commands.waiting(stage.agent, "br-int")
    with commands.frozen(command):
        stage.unplug(stage.hv, going)
        eventually(command.fed, 5, "a bundle is on its way")
        stage.agent.kill()
        coming = stage.plug(stage.hv, "10.0.8.1/16")  # the bundle that is under way knows nothing of it
        stage.agent.start()
        stage.agent.wait_ready()
    yield
    assert not command.alive()
    stage.unplug(stage.hv, coming)


@fault(
    "away while a port comes, one goes, and one changes its address",
    flows=4 * PORT_FLOWS,
    elsewhere=8 * FAR_FLOWS,
)
def changes_while_it_was_away(stage: Stage) -> Story:
    going, changing = stage.plug(stage.hv, "10.0.8.1/16"), stage.plug(stage.hv, "10.0.8.2/16")
    stage.until_converged(5)
    stage.agent.stop()
    stage.unplug(stage.hv, going)
    stage.hv.set_external_ids(changing, {"fixed-ips": "10.0.8.3"})
    coming = stage.plug(stage.hv, "10.0.8.4/16")
    stage.agent.start()
    yield
    known = {row["mac"]: row["fixed_ips"] for row in stage.ask(stage.third, "fdb")}
    assert (known[changing.mac], known[coming.mac]) == (["10.0.8.3"], ["10.0.8.4"])
    assert going.mac not in known
    stage.unplug(stage.hv, changing)
    stage.unplug(stage.hv, coming)


@fault("made anew, as a container is: another process in an empty place")
def made_anew(stage: Stage) -> Story:
    stage.agent.kill()
    empty = stage.site.lab.state / f"empty-{time.monotonic_ns()}"
    empty.mkdir()
    stage.site.agents[stage.hv.name] = stage.site.lab.agent(stage.hv, environment={"HOME": str(empty)})
    stage.agent.start()
    yield
    assert list(empty.iterdir()) == [], "it keeps nothing on disk"
