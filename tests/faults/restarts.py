"""The agent restarted in every way: not a probe lost, not a flow touched."""

from tests.faults.fault import Rows, Story
from tests.faults.stage import Stage

ROWS = Rows("The agent")
fault = ROWS.fault


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
