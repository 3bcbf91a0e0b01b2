"""What an orchestrator wrote on an Interface, as a port: typed, or at fault by the key's name."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portwatch import wire
from portwatch.events import PortAdded
from portwatch.model import (
    GENEVE,
    SEQ_MAX,
    VXLAN,
    AddressPair,
    Kind,
    LocalVlan,
    Mac,
    NetworkId,
    NetworkType,
    OfPort,
    Plug,
    Port,
    PortId,
    State,
    Status,
    Vni,
    fixed_ip,
)
from portwatch.ovsdb.rows import InterfaceRow, PortRow, Unfit, plug
from tests.core.fleet import START, TOPICS, a_claim
from tests.core.ovsdb import ids_of, remembered

INTERFACE, PORT = UUID(int=1), UUID(int=2)


def plugged(
    ids: dict[str, str], ofport: int | None = 5, tag: int | None = None, row: dict[str, str] | None = None
) -> Plug | Unfit | None:
    interface = InterfaceRow.of(INTERFACE, {"name": "tap1", "type": "", "ofport": ofport, "external_ids": ids})
    columns = {"name": "tap1", "interfaces": {INTERFACE}, "tag": tag, "external_ids": row or {}}
    return plug(interface, PortRow.of(PORT, columns))


def port(network: str | None = "blue", **changes: str | None) -> Port:
    """Return the port of an interface that lacks nothing, but for *changes*."""
    found = plugged(ids_of("p1", network, **changes))
    assert isinstance(found, Plug)
    return found.port


# --- what is a port ----------------------------------------------------------------------------------------------


def test_an_interface_with_all_keys_is_a_port_with_all_that_they_say() -> None:
    assert port(
        network_type="geneve",
        fixed_ips="10.0.0.5, fd00::5",
        allowed_address_pairs="10.0.0.0/24,fa:16:3e:00:00:09/10.0.0.9",
        device_owner="compute:nova",
        iface_status="active",
        admin_state="up",
        port_kind="single",
    ) == Port(
        port_id=PortId("p1"),
        network_id=NetworkId("blue"),
        network_type=GENEVE,
        segmentation_id=Vni(100),
        mac=Mac("fa:16:3e:00:00:01"),
        fixed_ips=(fixed_ip("10.0.0.5"), fixed_ip("fd00::5")),
        allowed_address_pairs=(AddressPair.parse("10.0.0.0/24"), AddressPair.parse("fa:16:3e:00:00:09/10.0.0.9")),
        device_owner="compute:nova",
    )


def test_an_interface_without_an_iface_id_is_no_port() -> None:
    assert plugged(ids_of(iface_id=None)) is None
    assert plugged({}) is None


@pytest.mark.parametrize("ofport", [None, 0, -1, 65280, 65535])
def test_an_interface_without_an_openflow_port_is_no_port_yet(ofport: int | None) -> None:
    assert plugged(ids_of(), ofport=ofport) is None


@pytest.mark.parametrize("ofport", [1, 65279])
def test_a_port_knows_where_on_the_bridge_it_is(ofport: int) -> None:
    found = plugged(ids_of(), ofport=ofport)

    assert isinstance(found, Plug)
    assert found.ofport == OfPort(ofport)


@pytest.mark.parametrize("key", ["iface_id", "network_id"])
@pytest.mark.parametrize("text", ["a/b", "a#", "$a", "a" * 129, "_", "a\n"])
def test_ids_that_cannot_stand_in_a_topic_are_unfit_and_named(key: str, text: str) -> None:
    found = plugged(ids_of(**{key: text}))

    assert isinstance(found, Unfit)
    assert found.interface == "tap1"
    assert found.reason.startswith("bad-id: ")
    assert repr(text) in found.reason
    assert found.names == {ids_of(**{key: text})["iface-id"], "fa:16:3e:00:00:01"}


def test_an_empty_iface_id_is_unfit_and_an_empty_network_is_none() -> None:
    assert isinstance(plugged(ids_of(iface_id="")), Unfit)
    assert port(network_id="").network_id is None


@pytest.mark.parametrize(
    ("key", "of_the_port"),
    [
        ("attached_mac", "mac"),
        ("network_id", "network_id"),
        ("segmentation_id", "segmentation_id"),
    ],
)
@pytest.mark.parametrize("text", [None, "", " "])
def test_a_key_that_is_not_there_yet_is_no_fault(key: str, of_the_port: str, text: str | None) -> None:
    if key == "network_id" and text == " ":
        return  # an id is taken as it is
    found = port(**{key: text})

    assert getattr(found, of_the_port) is None
    assert (found.fault, found.missing) == (None, (key.replace("_", "-"),))


def test_what_nobody_says_has_its_default() -> None:
    found = port(fixed_ips=None)

    assert (found.network_type, found.fixed_ips, found.allowed_address_pairs) == (VXLAN, (), ())
    assert (found.device_owner, found.kind, found.state, found.admin_up) == ("", Kind.SINGLE, State.ACTIVE, True)


def test_spaces_around_values_do_not_matter() -> None:
    assert port(attached_mac=" fa:16:3e:00:00:01 ", segmentation_id=" 100 ", fixed_ips=" 10.0.0.1 ") == port()


def test_empty_parts_and_repetitions_of_a_list_do_not_matter() -> None:
    assert port(fixed_ips=",10.0.0.1,,10.0.0.1,") == port()


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"device_owner": "compute:nova"}, Kind.SINGLE),
        ({"device_owner": "network:dhcp"}, Kind.SINGLE),
        ({"device_owner": "network:router_interface"}, Kind.SINGLE),
        ({"device_owner": "network:router_interface_distributed"}, Kind.SHARED),
        ({"device_owner": "network:ha_router_replicated_interface"}, Kind.SHARED),
        ({"device_owner": "network:router_ha_interface"}, Kind.SHARED),
        ({"port_kind": "shared"}, Kind.SHARED),
        ({"device_owner": "network:router_interface_distributed", "port_kind": "single"}, Kind.SINGLE),
    ],
)
def test_the_owner_implies_the_kind_and_port_kind_overrides_it(changes: dict[str, str], kind: Kind) -> None:
    assert port(**changes).kind is kind


@pytest.mark.parametrize(
    ("status", "state"),
    [(None, State.ACTIVE), ("active", State.ACTIVE), ("inactive", State.PREPARING), ("", State.PREPARING)],
)
def test_a_port_whose_iface_status_is_not_active_prepares(status: str | None, state: State) -> None:
    assert port(iface_status=status).state is state


@pytest.mark.parametrize(("text", "up"), [(None, True), ("up", True), ("down", False)])
def test_admin_state_is_up_unless_it_is_down(text: str | None, up: bool) -> None:  # a column of the table
    assert port(admin_state=text).admin_up is up


@pytest.mark.parametrize("text", ["vlan", "flat", "local"])
def test_a_type_that_is_not_tunnelled_needs_no_key(text: str) -> None:
    found = port(network_type=text, segmentation_id=None)

    assert (found.network_type, found.fault, found.missing) == (NetworkType(text), None, ())


# --- what is wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("attached_mac", "zz"),
        ("attached_mac", "01:00:5e:00:00:01"),
        ("attached_mac", "00:00:00:00:00:00"),
        ("segmentation_id", "0"),
        ("segmentation_id", "16777216"),
        ("segmentation_id", "-1"),
        ("segmentation_id", "0x64"),
        ("segmentation_id", "1e2"),
        ("segmentation_id", "١٠٠"),
        ("segmentation_id", "9" * 5000),
        ("network_type", "VXLAN"),
        ("network_type", "vx lan"),
        ("fixed_ips", "10.0.0.300"),
        ("fixed_ips", "10.0.0.1,x"),
        ("fixed_ips", "10.0.0.1/24"),
        ("fixed_ips", "224.0.0.1"),
        ("fixed_ips", ",".join(f"10.0.{n // 250}.{n % 250 + 1}" for n in range(2000))),
        ("allowed_address_pairs", "10.0.0.0/33"),
        ("allowed_address_pairs", "fe80::1%eth0"),
        ("allowed_address_pairs", ",".join(f"fd00::{n:x}" for n in range(1, 2000))),
        ("device_owner", "x" * 256),
        ("device_owner", "a\x00b"),
        ("port_kind", "both"),
        ("admin_state", "UP"),
        ("admin_state", "yes"),
    ],
)
def test_a_wrong_value_is_the_ports_fault_by_the_name_of_its_key(key: str, text: str) -> None:
    found = port(**{key: text})

    name = key.replace("_", "-")
    assert (found.fault or "").startswith(f"bad-{name}: {name} is ")
    assert found.port_id == "p1"


def test_a_wrong_value_is_not_said_twice() -> None:
    assert (port(attached_mac="zz").fault or "").startswith("bad-attached-mac: attached-mac is 'zz', not a MAC address")
    assert (port(segmentation_id="0").fault or "").startswith("bad-segmentation-id: segmentation-id is '0', not a")
    assert (port(port_kind="both").fault or "") == "bad-port-kind: port-kind is 'both': single or shared"


def test_of_several_wrong_values_one_is_named() -> None:
    assert (port(attached_mac="zz", segmentation_id="0").fault or "").count("bad-") == 1


def test_a_wrong_value_leaves_the_rest_readable() -> None:
    found = port(attached_mac="zz")

    assert (found.mac, found.network_id, found.segmentation_id) == (None, "blue", 100)


_KEYS = (
    *("attached-mac", "network-id", "network-type", "segmentation-id", "fixed-ips", "allowed-address-pairs"),
    *("device-owner", "port-kind", "admin-state", "iface-status"),
)
_some_text = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=100),
    st.sampled_from(["zz" * 3000, "10.0.0.1," * 300, "fd00::/64"]),
)


@given(st.dictionaries(st.sampled_from(_KEYS), _some_text))
def test_whatever_is_written_the_port_can_be_said_and_heard(ids: dict[str, str]) -> None:
    said_and_heard(ids)


def test_a_value_that_is_long_when_it_is_shown_can_be_said_and_heard() -> None:
    said_and_heard({"allowed-address-pairs": "\U000e0001" * 300})


def said_and_heard(ids: dict[str, str]) -> None:
    """Else its peers would hold on to what was said before."""
    found = plugged({**ids_of(), **ids})
    if isinstance(found, Plug):
        fault = found.port.fault
        status = Status.ERROR if fault else Status.BUILD if found.port.admin_up else Status.DOWN
        event = PortAdded(a_claim(found.port, status=status, reason=fault), 1, START)

        heard = TOPICS.decode(TOPICS.port(*event.key), wire.encode_event(event))

        assert isinstance(heard, PortAdded)
        assert (heard.claim.port.mac, heard.claim.port.fixed_ips) == (found.port.mac, found.port.fixed_ips)
    else:
        assert isinstance(found, Unfit)


# --- what the row remembers --------------------------------------------------------------------------------------


def test_a_row_on_which_we_wrote_remembers_tag_seq_and_network() -> None:
    found = plugged(ids_of(), tag=7, row=remembered("blue", 42))

    assert isinstance(found, Plug)
    assert (found.vlan, found.seq, found.remembered, found.installed) == (LocalVlan(7), 42, "blue", True)


def test_a_row_on_which_nobody_wrote_remembers_nothing() -> None:
    found = plugged(ids_of())

    assert isinstance(found, Plug)
    assert (found.vlan, found.seq, found.remembered, found.installed) == (None, None, None, False)


def test_a_row_that_remembers_another_network_remembers_none_of_this_one() -> None:
    found = plugged(ids_of("p1", "red"), tag=7, row=remembered("blue"))

    assert isinstance(found, Plug)
    assert (found.remembered, found.vlan, found.seq) == (None, 7, 5)


def test_a_port_without_a_network_is_not_remembered_by_an_empty_key() -> None:
    found = plugged(ids_of("p1", None), row={"portwatch-network": ""})

    assert isinstance(found, Plug)
    assert found.remembered is None


@pytest.mark.parametrize("tag", [0, -1, 4095, 5000])
def test_a_tag_that_is_no_vlan_of_ours_is_none(tag: int) -> None:
    found = plugged(ids_of(), tag=tag)

    assert isinstance(found, Plug)
    assert found.vlan is None


@pytest.mark.parametrize(
    ("text", "seq"),
    [
        ("0", 0),
        ("1763802802998", 1763802802998),
        (str(SEQ_MAX), SEQ_MAX),
        (str(SEQ_MAX + 1), SEQ_MAX),
        ("", None),
        ("-1", None),
        ("x", None),
        ("١", None),
        ("9" * 5000, None),
    ],
)
def test_every_seq_that_can_be_is_remembered_and_nothing_else(text: str, seq: int | None) -> None:
    found = plugged(ids_of(), row={"portwatch-seq": text})

    assert isinstance(found, Plug)
    assert found.seq == seq


@pytest.mark.parametrize("text", ["false", "", "True", "1"])
def test_installed_is_true_or_it_is_not(text: str) -> None:
    found = plugged(ids_of(), row={"portwatch-installed": text})

    assert isinstance(found, Plug)
    assert found.installed is False
