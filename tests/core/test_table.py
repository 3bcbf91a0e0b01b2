"""Tables for people."""

from portwatch.cli.table import table

ROWS = [
    {"host": "hv1", "port_id": "a" * 40, "status": "ACTIVE", "text": "b" * 60},
    {"host": "hv2", "port_id": "c", "status": "ERROR", "text": "d"},
]
COLUMNS = ("host", "port_id", "status", "text")


def test_a_pipe_gets_everything_and_no_colour() -> None:
    lines = table(COLUMNS, ROWS).splitlines()

    assert lines[0].split() == ["HOST", "PORT", "STATUS", "TEXT"]
    assert lines[1] == f"hv1   {'a' * 40}  ACTIVE  {'b' * 60}"
    assert lines[2].split() == ["hv2", "c", "ERROR", "d"]


def test_on_a_narrow_terminal_the_widest_column_is_cut_and_the_last_never() -> None:
    lines = table(COLUMNS, ROWS, width=100).splitlines()

    assert lines[1].startswith(f"hv1   {'a' * 23}…  ACTIVE  ")
    assert lines[1].endswith("b" * 60)
    assert len(lines[1]) == 100


def test_states_have_colours_where_they_are_seen() -> None:
    text = table(COLUMNS, ROWS, colour=True)

    assert "\x1b[32mACTIVE" in text
    assert "\x1b[31mERROR" in text


def test_what_comes_from_outside_cannot_write_on_the_terminal() -> None:
    assert "\x1b" not in table(("host",), [{"host": "\x1b[2Jhv1"}], colour=True)


def test_what_a_number_beside_a_segment_is_is_said() -> None:
    segments = [{"type": "vxlan", "id": 200, "local_vlan": 2}, {"type": "flat", "id": None, "local_vlan": 3}]

    text = table(("segments", "peers"), [{"segments": segments, "peers": ["192.0.2.12"]}])

    assert text.splitlines()[1].startswith("vxlan 200 (VLAN 2), flat (VLAN 3)  192.0.2.12")
    assert text.split()[:3] == ["SEGMENTS", "PEER", "ADDRESSES"]


def test_empty_columns_are_left_out() -> None:
    assert table(("host", "reason"), [{"host": "hv1", "reason": None}]) == "HOST\nhv1\n"
