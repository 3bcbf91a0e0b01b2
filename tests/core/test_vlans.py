"""Local VLANs: one a segment, and none that still means another segment in the switch."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portwatch.fabric.vlans import LocalVlans
from portwatch.model import VXLAN, LocalVlan, NetworkId, Segment, Vni


def a_segment(number: int = 1) -> Segment:
    return Segment(NetworkId(f"n{number}"), VXLAN, Vni(number))


def all_used_up() -> LocalVlans:
    vlans = LocalVlans()
    for number in range(1, LocalVlan.HIGHEST + 1):
        vlans.assign(a_segment(number))
    return vlans


def test_a_segment_keeps_its_tag() -> None:
    vlans = LocalVlans()
    tag = vlans.assign(a_segment(1))
    vlans.assign(a_segment(2))

    assert vlans.assign(a_segment(1)) == tag
    assert vlans.assign(a_segment(1), LocalVlan(77)) == tag


def test_a_segment_gets_back_the_tag_it_had() -> None:
    vlans = LocalVlans()

    assert vlans.assign(a_segment(1), LocalVlan(77)) == 77
    assert (vlans.of[a_segment(1)], vlans.segment(LocalVlan(77))) == (77, a_segment(1))


def test_a_tag_that_another_segment_has_is_not_given_twice() -> None:
    vlans = LocalVlans()
    vlans.assign(a_segment(1), LocalVlan(77))

    assert vlans.assign(a_segment(2), LocalVlan(77)) != 77


def test_a_tag_that_was_given_back_rests_even_from_who_had_it() -> None:
    vlans = LocalVlans()
    vlans.assign(a_segment(1), LocalVlan(77))

    vlans.release(a_segment(1))

    assert vlans.segment(LocalVlan(77)) is None
    assert vlans.assign(a_segment(2), LocalVlan(77)) != 77
    assert vlans.assign(a_segment(1), LocalVlan(77)) != 77


def test_a_tag_is_free_again_when_the_switch_has_forgotten_it() -> None:
    vlans = LocalVlans()
    vlans.assign(a_segment(1), LocalVlan(77))
    vlans.release(a_segment(1))

    assert vlans.rested() is True
    assert vlans.assign(a_segment(2), LocalVlan(77)) == 77
    assert vlans.rested() is False


def test_a_tag_rests_as_long_as_others_are_free() -> None:
    vlans = LocalVlans()
    given_out = []
    for number in range(1, LocalVlan.HIGHEST + 1):
        given_out.append(vlans.assign(a_segment(number)))
        vlans.release(a_segment(number))
        vlans.rested()

    assert sorted(tag for tag in given_out if tag) == list(range(1, LocalVlan.HIGHEST + 1))


def test_tags_that_are_used_up_are_not_given_out() -> None:
    vlans = all_used_up()

    assert vlans.free == 0
    assert vlans.assign(a_segment(5000)) is None
    assert a_segment(5000) not in vlans.of


def test_the_last_tag_is_found_wherever_it_lies() -> None:
    vlans = all_used_up()
    vlans.release(a_segment(1234))
    assert vlans.assign(a_segment(5000)) is None

    vlans.rested()

    assert vlans.assign(a_segment(5000)) == 1234


def test_giving_back_what_one_has_not_is_no_change() -> None:
    vlans = LocalVlans()

    vlans.release(a_segment(1))

    assert (vlans.free, vlans.rested()) == (LocalVlan.HIGHEST, False)


@pytest.mark.parametrize("hint", [None, LocalVlan(4094)])
def test_after_the_highest_tag_comes_the_lowest(hint: LocalVlan | None) -> None:
    vlans = LocalVlans()
    for number in range(1, LocalVlan.HIGHEST):
        vlans.assign(a_segment(number))
        vlans.release(a_segment(number))
    vlans.rested()

    vlans.assign(a_segment(1), hint)

    assert vlans.assign(a_segment(2)) == 1


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("assign"), st.integers(1, 6), st.none() | st.integers(1, 6)),
            st.tuples(st.just("release"), st.integers(1, 6), st.none()),
            st.tuples(st.just("rested"), st.just(0), st.none()),
        ),
        max_size=40,
    )
)
def test_no_tag_is_ever_two_segments_or_rests_while_it_is_used(story: list[tuple[str, int, int | None]]) -> None:
    vlans = LocalVlans()
    resting: set[LocalVlan] = set()

    for verb, number, hint in story:
        before = dict(vlans.of)
        match verb:
            case "assign":
                tag = vlans.assign(a_segment(number), LocalVlan(hint) if hint else None)
                assert tag is not None
                assert tag not in resting
            case "release":
                vlans.release(a_segment(number))
                resting |= {before[a_segment(number)]} if a_segment(number) in before else set()
            case "rested":
                assert vlans.rested() is bool(resting)
                resting.clear()
        assert len(set(vlans.of.values())) == len(vlans.of)
        assert all(vlans.segment(tag) == segment for segment, tag in vlans.of.items())
        assert vlans.free == LocalVlan.HIGHEST - len(vlans.of) - len(resting)
