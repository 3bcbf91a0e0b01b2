"""The indexes over what others claim equal what is found by looking at all the claims."""

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from portwatch.events import key_of
from portwatch.fabric.heard import Heard
from portwatch.model import HostName, NetworkId, PortId
from tests.core.fleet import a_claim, a_port

HOSTS, PORTS, NETWORKS = ("hv2", "hv3", "hv4"), ("p1", "p2", "p3"), ("blue", "red")

words = st.tuples(
    st.sampled_from(HOSTS), st.sampled_from(PORTS), st.sampled_from(NETWORKS), st.integers(1, 9), st.booleans()
)


@given(st.lists(words, max_size=40))
def test_the_indexes_are_what_a_look_at_all_claims_finds(said: list[tuple[str, str, str, int, bool]]) -> None:
    heard, changes = Heard(), 0
    for host, port, network, revision, gone in said:
        claim = replace(a_claim(a_port(port, network)), host=HostName(host), revision=revision)
        before, hosts = heard.claims.get(key_of(claim)), set(heard.hosts)
        assert (heard.pop(key_of(claim)) if gone else heard.put(claim)) == before
        changes += set(heard.hosts) != hosts

    claims = list(heard.claims.values())
    assert heard.changes == changes
    assert heard.hosts == Counter(claim.host for claim in claims)
    assert set(heard.of_hosts({HostName("hv2"), HostName("hv3")})) == {each for each in claims if each.host != "hv4"}
    for network in NETWORKS:
        inside = {key_of(claim): claim for claim in claims if claim.port.network_id == network}
        assert {key_of(claim): claim for claim in heard.of_network(NetworkId(network))} == inside
        for port in PORTS:
            assert set(heard.of_port(NetworkId(network), PortId(port))) == {key for key in inside if key[2] == port}
