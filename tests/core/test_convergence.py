"""How long news took: in the histogram for ever, in the memory for a while."""

from datetime import UTC, datetime

from portwatch.convergence import REMEMBERED, Convergence, Timing
from portwatch.events import ClaimKey
from portwatch.metrics import Metrics
from portwatch.model import HostName, NetworkId, PortId

NOW = datetime(2026, 11, 22, tzinfo=UTC)
WEB: ClaimKey = (NetworkId("blue"), HostName("hv1"), PortId("web"))


def test_a_timing_is_counted_under_its_stage_and_remembered() -> None:
    metrics = Metrics("1")
    convergence = Convergence(metrics)
    timing = Timing(NOW, "remote", WEB, 0.02)

    convergence.observe(timing)

    assert list(convergence.latest) == [timing]
    told = metrics.render().decode()
    assert 'portwatch_convergence_seconds_count{stage="remote"} 1.0' in told
    assert 'portwatch_convergence_seconds_count{stage="local"} 0.0' in told


def test_what_is_remembered_is_bounded_and_the_newest() -> None:
    convergence = Convergence(Metrics("1"))

    for number in range(REMEMBERED + 5):
        convergence.observe(Timing(NOW, "local", WEB, number))

    assert [timing.seconds for timing in convergence.latest] == list(range(5, REMEMBERED + 5))
