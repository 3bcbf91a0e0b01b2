"""What was dropped of each port, read off the counts of its flows."""

from portwatch.doctor.drops import Reading, read, rises
from portwatch.model import OfPort

FIVE, SIX = OfPort(5), OfPort(6)
OURS = "0x7077000000000001"


def dump(ofport: int, sent: int, let_on: int, *, cookie: str = OURS, more: str = "") -> str:
    """Return the flows of one port as the switch tells them: it sent so much, and so much was let on."""
    told = "duration=7.5s, table={}, n_packets={}, n_bytes=60, idle_age=1, priority=200,"
    enter = f"in_port={ofport},vlan_tci=0x0000/0x1fff actions=push_vlan:0x8100,set_field:4097->vlan_vid,goto_table:39"
    source = f"ip,in_port={ofport},dl_src=fa:16:3e:00:00:01,nw_src=10.0.0.1 actions=goto_table:41"
    lines = [f"cookie={cookie}, {told.format(0, sent)}{enter}", f"cookie={cookie}, {told.format(39, let_on)}{source}"]
    return "\n".join(f" {line}" for line in (*lines, *([more] if more else ())))


def one(sent: int, let_on: int, **more: str) -> Reading:
    return read(dump(5, sent, let_on, **more))


def test_what_is_sent_and_not_let_on_was_dropped() -> None:
    reading = read("\n".join((dump(5, 100, 90), dump(6, 7, 7), dump(7, 9, 1, cookie="0x5"))))

    assert (reading.dropped[FIVE], reading.dropped[SIX], reading.dropped[OfPort(7)]) == (10, 0, 0)
    assert reading.any
    assert not one(7, 7).any


def test_a_port_whose_count_rises_spoofs() -> None:
    before, after = one(100, 90), one(130, 100)

    assert list(rises((before, before), (after, after))) == [(FIVE, 20)]
    assert list(rises((before, before), (one(200, 190), one(200, 190)))) == [], "dropped long ago"


def test_a_reading_amid_the_counting_of_the_switch_accuses_nobody() -> None:
    fair, half, whole = one(100, 100), one(100, 150), one(150, 150)

    assert list(rises((half, whole), (whole, whole))) == []
    assert list(rises((fair, fair), (whole, one(200, 150)))) == []


def test_of_a_port_whose_flows_changed_meanwhile_nothing_is_known() -> None:
    gone = f"cookie={OURS}, duration=7s, table=39, n_packets=50, n_bytes=60, priority=400,arp,in_port=5 actions=drop"
    before, after = one(100, 50, more=gone), one(100, 50)

    assert list(rises((before, before), (after, after))) == []


def test_a_switch_that_tells_nothing_accuses_nobody() -> None:
    assert list(rises((), (one(2, 1), one(2, 1)))) == []
    assert list(rises((one(2, 1), one(2, 1)), ())) == []
