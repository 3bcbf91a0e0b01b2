"""What happens to ports, and which claims make up a share."""

from dataclasses import replace
from hashlib import sha256
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portwatch.events import (
    ClaimKey,
    PortAdded,
    PortRemoved,
    PortUpdated,
    changes,
    key_of,
    manifest_of,
    rewires,
)
from portwatch.model import Claim, HostName, Kind, Mac, NetworkId, PortId, State, Status, Vni, fixed_ip
from tests.core.fleet import a_claim, a_port, an_endpoint
from tests.core.strategies import claims

BLUE, HV2 = NetworkId("blue"), HostName("hv2")


def test_a_port_that_appears_is_added() -> None:
    claim = a_claim()

    assert changes(None, claim) == (PortAdded(claim),)


def test_a_port_that_goes_is_removed_as_it_was() -> None:
    claim = a_claim()

    assert changes(claim, None) == (PortRemoved(claim),)


def test_nothing_from_nothing_is_no_news() -> None:
    assert changes(None, None) == ()


def test_the_same_claim_is_no_news_in_another_session_and_revision() -> None:
    claim = a_claim()

    assert changes(claim, replace(claim, session="another", revision=9)) == ()


@pytest.mark.parametrize(
    "after",
    [
        a_claim(status=Status.ERROR),
        a_claim(reason="vni-conflict: words"),
        a_claim(seq=2),
        a_claim(tunnel_ip=an_endpoint(9)),
        a_claim(a_port(mac=Mac("fa:16:3e:00:00:09"))),
        a_claim(a_port(fixed_ips=(fixed_ip("10.0.0.9"),))),
        a_claim(a_port(state=State.PREPARING)),
        a_claim(a_port(kind=Kind.SHARED)),
        a_claim(a_port(segmentation_id=Vni(9))),
        a_claim(a_port(device_owner="network:dhcp")),
        a_claim(a_port(admin_up=False)),
    ],
)
def test_whatever_changes_about_a_port_is_one_update(after: Claim) -> None:
    assert changes(a_claim(), after) == (PortUpdated(after),)


def test_a_port_that_changes_its_network_ends_in_the_old_one_and_begins_in_the_new_one() -> None:
    before, after = a_claim(a_port(network="red")), a_claim(a_port(network="blue"))

    assert changes(before, after) == (PortRemoved(before), PortAdded(after))
    assert [event.key for event in changes(before, after)] == [
        ("red", "hv2", "p1"),
        ("blue", "hv2", "p1"),
    ]


def test_a_port_whose_network_becomes_known_leaves_the_unknown_one() -> None:
    before, after = a_claim(a_port(network=None)), a_claim()

    assert [event.key for event in changes(before, after)] == [(None, "hv2", "p1"), ("blue", "hv2", "p1")]


@settings(max_examples=50)
@given(st.none() | claims(), st.none() | claims())
def test_who_follows_the_events_ends_with_what_is(before: Claim | None, after: Claim | None) -> None:
    if before and after:  # one port of one host
        after = replace(after, host=before.host, port=replace(after.port, port_id=before.port.port_id))
    held: dict[ClaimKey, Claim] = {} if before is None else {key_of(before): before}

    for event in changes(before, after):
        if isinstance(event, PortRemoved):
            del held[event.key]
        else:
            held[event.key] = event.claim

    if after is None:
        assert held == {}
    else:
        assert [replace(claim, session="", revision=0) for claim in held.values()] == [
            replace(after, session="", revision=0)
        ]


def test_a_manifest_is_the_hash_of_its_claims_lines_as_the_contract_spells_it() -> None:
    share = [a_claim(a_port("p2"), session="s", revision=3), a_claim(a_port("p1"), session="t", revision=12)]

    manifest = manifest_of(BLUE, HV2, "s", share)

    assert (manifest.count, manifest.digest) == (2, sha256(b"p1 t 12\np2 s 3").hexdigest())


def test_an_empty_share_is_the_hash_of_nothing() -> None:
    manifest = manifest_of(BLUE, HV2, "s", [])

    assert (manifest.count, manifest.digest) == (0, sha256(b"").hexdigest())


def test_a_manifests_lines_are_sorted_by_code_point() -> None:
    names = ["p10", "p9", "P9", "é", "z"]  # a locale would order them otherwise
    share = [a_claim(replace(a_port(), port_id=a_port(name).port_id), session="s") for name in names]

    digest = manifest_of(BLUE, HV2, "s", share).digest

    assert digest == sha256("P9 s 1\np10 s 1\np9 s 1\nz s 1\né s 1".encode()).hexdigest()


_ids_and_revisions = st.dictionaries(st.sampled_from(["p1", "p10", "p2", "é", "P"]), st.integers(0, 20), max_size=5)


@given(_ids_and_revisions, st.randoms(use_true_random=False))
def test_a_manifest_does_not_depend_on_the_order_of_the_claims(share: dict[str, int], random: Random) -> None:
    claims_of = [a_claim(a_port(port_id=PortId(name)), revision=revision) for name, revision in share.items()]
    shuffled = list(claims_of)
    random.shuffle(shuffled)

    assert manifest_of(BLUE, HV2, "s", shuffled) == manifest_of(BLUE, HV2, "s", claims_of)


@pytest.mark.parametrize(
    "other",
    [
        [],
        [a_claim(revision=2)],
        [a_claim(session="another")],
        [a_claim(a_port("p2"))],
        [a_claim(), a_claim(a_port("p2"))],
    ],
)
def test_a_share_with_another_port_session_or_revision_has_another_manifest(other: list[Claim]) -> None:
    assert manifest_of(BLUE, HV2, "s", other) != manifest_of(BLUE, HV2, "s", [a_claim()])


def test_a_port_that_only_looks_different_has_the_same_manifest() -> None:
    """What a revision says is the port event's business: the manifest only counts."""
    share = [a_claim(a_port(mac=Mac("fa:16:3e:00:00:09")))]

    assert manifest_of(BLUE, HV2, "s", share) == manifest_of(BLUE, HV2, "s", [a_claim()])


# --- what changes a flow elsewhere --------------------------------------------------------------------------------


def test_a_port_that_comes_goes_or_has_another_place_rewires() -> None:
    built = a_claim(status=Status.BUILD)

    assert rewires(None, PortAdded(built))
    assert rewires(built, PortRemoved(built))
    assert rewires(built, PortUpdated(replace(built, seq=built.seq + 1)))
    assert rewires(built, PortUpdated(replace(built, status=Status.DOWN)))


def test_a_port_that_becomes_active_is_said_again_or_had_gone_before_rewires_nothing() -> None:
    built = a_claim(status=Status.BUILD)

    assert not rewires(built, PortUpdated(replace(built, status=Status.ACTIVE, revision=9)))
    assert not rewires(built, PortUpdated(replace(built, session="another", reason="words")))
    assert not rewires(None, PortRemoved(built))
