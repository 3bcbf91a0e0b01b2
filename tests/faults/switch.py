"""The switch killed, taken apart and tampered with: all of it is back by itself, and at once."""

from tests.faults.fault import Rows, Story
from tests.faults.stage import Stage

ROWS = Rows("The switch")
fault = ROWS.fault

OURS = "cookie=0x7077000000000000/0xffff000000000000"


@fault("all our flows deleted by hand, on both bridges", lost=25, flows=None)
def flows_deleted(stage: Stage) -> Story:
    stage.hv.ofctl("-O", "OpenFlow15", "del-flows", "br-tun", OURS)
    stage.hv.ofctl("-O", "OpenFlow15", "del-flows", "br-int", OURS)
    yield
