"""Rows joined to what is plugged in: in any order, one by one, whole, and what OVSDB forgets for a moment."""

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portwatch.fabric.attachment import SwitchPorts
from portwatch.model import GENEVE, GRE, VXLAN, LocalVlan, OfPort, Plug, PortId, Vni
from portwatch.ovsdb.changes import RowChange
from portwatch.ovsdb.picture import OFPORT_PATIENCE, Picture, PictureChange
from tests.core.ovsdb import Ovsdb, ids_of, remembered

START = 100.0
P1, P2 = PortId("p1"), PortId("p2")


class Host:
    """An OVSDB, and the picture that we have of it."""

    def __init__(self) -> None:
        self.ovsdb = Ovsdb()
        self.picture = Picture("br-int", "br-tun")
        self.look(whole=True)

    def look(self, now: float = START, *, whole: bool = False) -> PictureChange:
        """Take in what changed, or everything there is."""
        rows = self.ovsdb.whole() if whole else self.ovsdb.take()
        return self.picture.apply(rows, now, whole=whole)

    def plug(self, name: str = "p1") -> Plug:
        return self.picture.plugs[PortId(name)]


def a_host(**plugged: str) -> Host:
    """Return a host with interfaces, by device name, that give ports: `a_host(tap1="p1")`."""
    host = Host()
    for number, (device, name) in enumerate(plugged.items(), 10):
        host.ovsdb.add(device, ids_of(name), ofport=number)
    host.look()
    return host


# --- coming and going --------------------------------------------------------------------------------------------


def test_a_port_that_is_plugged_in_is_told_once() -> None:
    host = Host()
    host.ovsdb.add("tap1", ids_of(), ofport=5)

    change = host.look()

    assert list(change.plugs) == [P1]
    assert change.plugs[P1] == host.plug()
    assert (host.plug().ofport, host.plug().port.segmentation_id) == (5, 100)
    assert not host.look()


def test_a_port_that_is_pulled_is_told_as_gone() -> None:
    host = a_host(tap1="p1", tap2="p2")

    host.ovsdb.remove("tap1")

    assert host.look().plugs == {P1: None}
    assert list(host.picture.plugs) == [P2]


def test_a_change_of_one_port_tells_of_that_port_alone() -> None:
    host = a_host(tap1="p1", tap2="p2")

    host.ovsdb.set_ids("tap1", segmentation_id="200")

    assert list(host.look().plugs) == [P1]
    assert host.plug().port.segmentation_id == Vni(200)


def test_a_change_that_means_nothing_to_us_is_no_change() -> None:
    host = a_host(tap1="p1")

    host.ovsdb.set_ids("tap1", vm_uuid="x")
    host.ovsdb.set("Port", "tap1", external_ids={"somebody": "else"})

    assert not host.look()


@pytest.mark.parametrize("bridge", ["br-tun", "br-ex"])
def test_an_interface_on_another_bridge_is_no_port(bridge: str) -> None:
    host = Host()
    host.ovsdb.add_bridge("br-ex")

    host.ovsdb.add("tap1", ids_of(), bridge=bridge)

    assert host.look().plugs == {}


def test_a_port_that_is_put_on_the_integration_bridge_is_plugged_in_and_one_that_is_taken_off_is_gone() -> None:
    host = Host()
    host.ovsdb.add_bridge("br-ex")
    host.ovsdb.add("tap1", ids_of(), bridge="br-ex")
    host.look()
    port = host.ovsdb.uuid("Port", "tap1")

    host.ovsdb.set("Bridge", "br-ex", ports=frozenset())
    host.ovsdb.put(port, "br-int")
    assert list(host.look().plugs) == [P1]

    host.ovsdb.set("Bridge", "br-int", ports=frozenset())
    host.ovsdb.put(port, "br-ex")
    assert host.look().plugs == {P1: None}


@given(st.randoms(use_true_random=False))
def test_an_interface_that_passes_from_one_port_row_to_another_takes_its_port_along(random: Random) -> None:
    host = Host()
    host.ovsdb.add("tap1", ids_of(), ofport=5, tag=7, row=remembered())
    host.ovsdb.add("bond", ofport=6)
    host.look()
    interface = host.ovsdb.uuid("Interface", "tap1")

    host.ovsdb.set("Port", "tap1", interfaces=frozenset())
    host.ovsdb.set("Port", "bond", interfaces=frozenset({interface}))
    rows = host.ovsdb.take()
    random.shuffle(rows)
    host.picture.apply(rows, START)

    assert host.picture.port_row(P1) == host.ovsdb.uuid("Port", "bond")
    assert (host.plug().ofport, host.plug().vlan) == (5, None)


@given(st.randoms(use_true_random=False))
def test_a_port_that_passes_from_one_bridge_to_another_does_so_in_whatever_order_the_rows_come(random: Random) -> None:
    host = Host()
    host.ovsdb.add_bridge("br-ex")
    host.ovsdb.add("tap1", ids_of(), bridge="br-ex")
    host.look()
    port = host.ovsdb.uuid("Port", "tap1")

    host.ovsdb.set("Bridge", "br-ex", ports=frozenset())
    host.ovsdb.put(port, "br-int")
    rows = host.ovsdb.take()
    random.shuffle(rows)

    assert list(host.picture.apply(rows, START).plugs) == [P1]


def test_an_interface_that_no_port_row_holds_any_more_is_no_port() -> None:
    host = a_host(tap1="p1")

    host.ovsdb.set("Port", "tap1", interfaces=frozenset())

    assert host.look().plugs == {P1: None}


def test_when_the_integration_bridge_goes_its_ports_go() -> None:
    host = a_host(tap1="p1")
    uuid = host.ovsdb.uuid("Bridge", "br-int")

    change = host.picture.apply([RowChange("Bridge", uuid, None)], START)

    assert (change.plugs, change.switch) == ({P1: None}, True)


@pytest.mark.parametrize(("before", "after"), [(None, 5), (-1, 5), (0, 5)])
def test_a_port_is_plugged_in_when_it_has_its_openflow_number(before: int | None, after: int) -> None:
    host = Host()
    host.ovsdb.add("tap1", ids_of(), ofport=before)
    assert host.look().plugs == {}

    host.ovsdb.set("Interface", "tap1", ofport=after)

    assert list(host.look().plugs) == [P1]


@pytest.mark.parametrize("ofport", [-1, 0])
def test_a_port_whose_device_has_failed_is_gone_at_once(ofport: int) -> None:
    host = a_host(tap1="p1")

    host.ovsdb.set("Interface", "tap1", ofport=ofport)

    assert host.look().plugs == {P1: None}


def test_a_port_with_a_new_number_is_told() -> None:
    host = a_host(tap1="p1")

    host.ovsdb.set("Interface", "tap1", ofport=77)
    host.look()

    assert host.plug().ofport == OfPort(77)


def test_a_port_whose_id_changes_is_another_port() -> None:
    host = a_host(tap1="p1")

    host.ovsdb.set_ids("tap1", iface_id="p2")

    change = host.look()
    assert change.plugs == {P1: None, P2: host.plug("p2")}


def test_the_row_of_a_port_is_known_to_those_who_write_on_it() -> None:
    host = a_host(tap1="p1")

    assert host.picture.port_row(P1) == host.ovsdb.uuid("Port", "tap1")
    assert (interface := host.picture.interface(P1)) is not None
    assert interface.name == "tap1"
    assert (host.picture.port_row(P2), host.picture.interface(P2)) == (None, None)


def test_what_we_write_on_a_row_comes_back_with_the_port() -> None:
    host = a_host(tap1="p1")

    host.ovsdb.set("Port", "tap1", tag=7, external_ids=remembered("blue", 42))
    change = host.look()

    assert list(change.plugs) == [P1]
    assert (host.plug().vlan, host.plug().seq, host.plug().remembered) == (LocalVlan(7), 42, "blue")


# --- in any order ------------------------------------------------------------------------------------------------


@given(st.randoms(use_true_random=False))
def test_the_rows_of_a_port_may_come_in_any_order(random: Random) -> None:
    host = Host()
    host.ovsdb.add("tap1", ids_of(), ofport=5)
    host.ovsdb.add("tap2", ids_of("p2"), ofport=6)
    rows = host.ovsdb.take()
    random.shuffle(rows)

    host.picture.apply(rows, START)

    assert sorted(host.picture.plugs) == [P1, P2]


@given(st.randoms(use_true_random=False))
def test_the_rows_of_a_port_may_come_one_by_one(random: Random) -> None:
    host = Host()
    host.ovsdb.add("tap1", ids_of(), ofport=5)
    rows = host.ovsdb.take()
    random.shuffle(rows)

    told = [host.picture.apply([row], START).plugs for row in rows]

    assert [bool(plugs) for plugs in told] == [False, False, True]


_ORCHESTRATOR = {
    "iface_id": "p1",
    "attached_mac": "fa:16:3e:00:00:01",
    "network_id": "blue",
    "segmentation_id": "100",
    "fixed_ips": "10.0.0.1",
    "iface_status": "active",
}


@given(st.permutations(list(_ORCHESTRATOR)))
def test_the_keys_of_a_port_may_come_one_by_one_in_any_order(order: list[str]) -> None:
    host = Host()
    host.ovsdb.add("tap1", {}, ofport=5)
    host.look()

    seen = set()
    for key in order:
        host.ovsdb.set_ids("tap1", **{key: _ORCHESTRATOR[key]})
        seen.add(key)
        # A status of `active` is what the port has without the key.
        told = "iface_id" in seen and key != "iface_status"
        assert list(host.look().plugs) == ([P1] if told else [])

    assert host.plug().port == a_host(tap1="p1").plug().port


def test_the_number_may_come_before_the_keys_or_after_them() -> None:
    for first in ("ofport", "keys"):
        host = Host()
        host.ovsdb.add("tap1", ids_of() if first == "keys" else {}, ofport=5 if first == "ofport" else None)
        host.look()
        host.ovsdb.set("Interface", "tap1", ofport=5, external_ids=ids_of())

        assert list(host.look().plugs) == [P1]


# --- plugged in again --------------------------------------------------------------------------------------------


def test_a_port_that_is_plugged_in_again_within_one_batch_is_told_as_it_is_now() -> None:
    host = a_host(tap1="p1")

    host.ovsdb.remove("tap1")
    host.ovsdb.add("tap1", ids_of(), ofport=33)

    change = host.look()
    assert change.plugs == {P1: host.plug()}
    assert host.plug().ofport == OfPort(33)


@given(st.randoms(use_true_random=False))
def test_it_is_so_in_whatever_order_the_old_rows_go_and_the_new_ones_come(random: Random) -> None:
    host = a_host(tap1="p1")
    host.ovsdb.remove("tap1")
    host.ovsdb.add("tap1", ids_of(), ofport=33)
    rows = host.ovsdb.take()
    random.shuffle(rows)

    change = host.picture.apply(rows, START)

    assert change.plugs == {P1: host.plug()}
    assert host.plug().ofport == OfPort(33)


def test_a_port_that_is_plugged_in_again_does_not_inherit_what_its_old_row_remembered() -> None:
    host = Host()
    host.ovsdb.add("tap1", ids_of(), tag=7, row=remembered())
    host.look()

    host.ovsdb.remove("tap1")
    host.ovsdb.add("tap1", ids_of())
    host.look()

    assert (host.plug().vlan, host.plug().seq) == (None, None)


# --- the same port twice -----------------------------------------------------------------------------------------


def test_of_two_interfaces_with_one_id_the_first_has_the_port_until_it_goes() -> None:
    host = a_host(tap1="p1")

    host.ovsdb.add("tap9", ids_of("p1"), ofport=99)
    assert not host.look()
    assert host.plug().ofport == 10

    host.ovsdb.remove("tap1")
    host.look()
    assert host.plug().ofport == 99


def test_a_port_that_goes_to_another_interface_in_one_transaction_never_leaves() -> None:
    host = a_host(tap1="p1")
    before = host.plug()

    host.ovsdb.remove("tap1")
    host.ovsdb.add("tap9", ids_of("p1"), ofport=before.ofport)

    assert not host.look()
    assert host.plug() == before


def test_the_first_keeps_the_port_when_it_changes() -> None:
    host = a_host(tap1="p1")
    host.ovsdb.add("tap9", ids_of("p1"), ofport=99)
    host.look()

    host.ovsdb.set_ids("tap1", segmentation_id="200")
    host.look()

    assert (host.plug().ofport, host.plug().port.segmentation_id) == (10, 200)


def test_the_second_may_change_and_go_without_a_word() -> None:
    host = a_host(tap1="p1")
    host.ovsdb.add("tap9", ids_of("p1"), ofport=99)
    host.look()

    host.ovsdb.set_ids("tap9", segmentation_id="200")
    assert not host.look()
    host.ovsdb.remove("tap9")
    assert not host.look()


def test_the_first_keeps_the_port_through_a_whole_picture() -> None:
    host = a_host(tap1="p1")
    host.ovsdb.add("tap9", ids_of("p1"), ofport=99)
    host.look()
    host.ovsdb.rows = dict(reversed(host.ovsdb.rows.items()))

    assert host.look(whole=True).plugs == {}
    assert host.plug().ofport == 10


# --- the number that is unset for a moment -----------------------------------------------------------------------


def unset(host: Host, now: float = START) -> PictureChange:
    host.ovsdb.set("Interface", "tap1", ofport=None)
    return host.look(now)


def test_a_port_whose_number_is_unset_stays_for_ten_seconds_and_then_goes() -> None:
    host = a_host(tap1="p1")

    assert not unset(host)
    assert host.picture.expires == START + 10
    assert not host.picture.expire(START + 9.9)
    assert host.plug().ofport == 10

    assert host.picture.expire(START + 10).plugs == {P1: None}
    assert host.picture.expires is None


def test_a_port_whose_number_comes_back_in_time_was_never_gone() -> None:
    host = a_host(tap1="p1")
    unset(host)

    host.ovsdb.set("Interface", "tap1", ofport=10)

    assert not host.look(START + 9)
    assert host.picture.expires is None
    assert not host.picture.expire(START + 100)


def test_a_port_whose_number_comes_back_changed_is_told() -> None:
    host = a_host(tap1="p1")
    unset(host)

    host.ovsdb.set("Interface", "tap1", ofport=33)

    assert host.look(START + 1).plugs == {P1: host.plug()}
    assert host.plug().ofport == 33


def test_waiting_for_the_number_does_not_begin_anew_with_each_change() -> None:
    host = a_host(tap1="p1")
    unset(host)

    host.ovsdb.set_ids("tap1", segmentation_id="200")
    host.look(START + 9)

    assert host.plug().port.segmentation_id == 200
    assert host.picture.expires == START + 10


def test_a_port_that_went_for_want_of_a_number_comes_back_with_it() -> None:
    host = a_host(tap1="p1")
    unset(host)
    host.picture.expire(START + 10)

    host.ovsdb.set("Interface", "tap1", ofport=10)

    assert list(host.look(START + 60).plugs) == [P1]


def test_a_port_without_a_number_is_gone_at_once_when_its_row_goes() -> None:
    host = a_host(tap1="p1")
    unset(host)

    host.ovsdb.remove("tap1")

    assert host.look(START + 1).plugs == {P1: None}
    assert host.picture.expires is None


def test_after_a_restart_of_ovsdb_all_ports_wait_for_their_numbers() -> None:
    host = a_host(tap1="p1", tap2="p2")
    for device in ("tap1", "tap2"):
        host.ovsdb.set("Interface", device, ofport=None)

    assert host.look(whole=True).plugs == {}
    assert host.picture.expires == START + OFPORT_PATIENCE

    for number, device in enumerate(("tap1", "tap2"), 10):
        host.ovsdb.set("Interface", device, ofport=number)
    assert host.look(START + 2).plugs == {}


def test_nobody_waits_for_the_number_of_a_port_that_never_had_one() -> None:
    host = Host()
    host.ovsdb.add("tap1", ids_of(), ofport=None)
    host.look()

    assert host.picture.expires is None
    assert host.picture.plugs == {}


# --- whole pictures ----------------------------------------------------------------------------------------------


def test_a_whole_picture_tells_what_has_gone_since_the_one_before() -> None:
    host = a_host(tap1="p1", tap2="p2")
    host.ovsdb.remove("tap1")

    change = host.look(whole=True)

    assert change.plugs == {P1: None}
    assert change.switch


def test_a_whole_picture_of_the_same_tells_of_no_port() -> None:
    host = a_host(tap1="p1", tap2="p2")

    assert host.look(whole=True).plugs == {}


def test_a_whole_picture_of_nothing_is_the_end_of_all() -> None:
    host = a_host(tap1="p1")

    change = host.picture.apply([], START, whole=True)

    assert change.plugs == {P1: None}
    assert (host.picture.plugs, host.picture.switch_ports) == ({}, SwitchPorts())


# --- what cannot be a port ---------------------------------------------------------------------------------------


def test_an_interface_with_an_unfit_id_is_kept_aside_with_its_reason() -> None:
    host = Host()
    host.ovsdb.add("tap1", ids_of("a/b"))

    change = host.look()

    assert change.plugs == {}
    ((uuid, unfit),) = host.picture.unfit.items()
    assert uuid == host.ovsdb.uuid("Interface", "tap1")
    assert (unfit.interface, unfit.reason[:7]) == ("tap1", "bad-id:")


def test_a_port_whose_network_becomes_unfit_is_gone_and_comes_back_when_it_is_mended() -> None:
    host = a_host(tap1="p1")

    host.ovsdb.set_ids("tap1", network_id="a/b")
    assert host.look().plugs == {P1: None}
    assert len(host.picture.unfit) == 1

    host.ovsdb.set_ids("tap1", network_id="blue")
    assert list(host.look().plugs) == [P1]
    assert host.picture.unfit == {}


def test_an_unfit_interface_that_goes_is_forgotten() -> None:
    host = Host()
    host.ovsdb.add("tap1", ids_of("a/b"))
    host.look()

    host.ovsdb.remove("tap1")
    host.look()

    assert host.picture.unfit == {}


# --- the switch's own ports --------------------------------------------------------------------------------------


def with_own_ports(host: Host) -> None:
    host.ovsdb.add("patch-tun", ofport=1)
    host.ovsdb.add("patch-int", ofport=2, bridge="br-tun")
    host.ovsdb.add("pw-vxlan", ofport=3, bridge="br-tun")


def test_the_switchs_own_ports_are_found_by_name_and_bridge() -> None:
    host = Host()
    with_own_ports(host)

    change = host.look()

    assert (change.plugs, change.switch) == ({}, True)
    assert host.picture.switch_ports == SwitchPorts(OfPort(1), OfPort(2), ((VXLAN, OfPort(3)),))


def test_tunnel_ports_of_each_type_are_found() -> None:
    host = Host()
    host.ovsdb.add("pw-vxlan", ofport=3, bridge="br-tun")
    host.ovsdb.add("pw-geneve", ofport=4, bridge="br-tun")
    host.look()

    assert host.picture.switch_ports.tunnel(VXLAN) == 3
    assert host.picture.switch_ports.tunnel(GENEVE) == 4


@pytest.mark.parametrize(
    ("device", "bridge"),
    [("patch-tun", "br-tun"), ("patch-int", "br-int"), ("pw-vxlan", "br-int"), ("patch-tun2", "br-int")],
)
def test_a_port_of_that_name_in_the_wrong_place_is_not_the_switchs_own(device: str, bridge: str) -> None:
    host = Host()

    host.ovsdb.add(device, ofport=1, bridge=bridge)
    host.look()

    assert host.picture.switch_ports == SwitchPorts()


@pytest.mark.parametrize("device", ["patch-tun", "pw-vxlan"])
def test_a_port_of_that_name_and_another_type_is_somebody_elses(device: str) -> None:
    host = Host()
    with_own_ports(host)
    host.look()

    host.ovsdb.set("Interface", device, type="internal")
    assert host.look().switch

    ports = host.picture.switch_ports
    assert (ports.patch_to_tunnel is None, ports.tunnel(VXLAN) is None) == (device == "patch-tun", device == "pw-vxlan")


def test_gre_between_ipv6_addresses_is_a_type_of_its_own() -> None:
    host = Host()

    host.ovsdb.add("pw-gre", ofport=4, bridge="br-tun")
    host.ovsdb.set("Interface", "pw-gre", type="ip6gre")
    host.look()

    assert host.picture.switch_ports.tunnel(GRE) == 4


@pytest.mark.parametrize("number", [None, 0, -1])
def test_a_patch_port_without_a_number_is_not_there(number: int | None) -> None:
    host = Host()
    with_own_ports(host)
    host.look()

    host.ovsdb.set("Interface", "patch-tun", ofport=number)
    change = host.look()

    assert change.switch
    assert host.picture.switch_ports.patch_to_tunnel is None


def test_own_ports_that_go_and_come_with_other_numbers_are_told() -> None:
    host = Host()
    with_own_ports(host)
    host.look()

    host.ovsdb.remove("pw-vxlan")
    assert host.look().switch
    assert host.picture.switch_ports.tunnels == ()

    host.ovsdb.add("pw-vxlan", ofport=9, bridge="br-tun")
    assert host.look().switch
    assert host.picture.switch_ports.tunnel(VXLAN) == 9


def test_an_own_port_that_carries_an_iface_id_by_mistake_keeps_its_job() -> None:
    host = Host()
    host.ovsdb.add("patch-tun", ids_of(), ofport=1)

    host.look()

    assert host.picture.switch_ports.patch_to_tunnel == 1


def test_plugging_in_a_port_does_not_touch_the_switch() -> None:
    host = Host()
    with_own_ports(host)
    host.look()

    host.ovsdb.add("tap1", ids_of())

    assert host.look().switch is False


@pytest.mark.parametrize("column", [{"fail_mode": "standalone"}, {"protocols": frozenset({"OpenFlow15"})}])
def test_a_bridge_that_is_otherwise_configured_is_told(column: dict[str, object]) -> None:
    host = Host()

    host.ovsdb.set("Bridge", "br-int", **column)

    assert host.look().switch is True
    assert (row := host.picture.bridge("br-int")) is not None
    assert {"fail_mode": row.fail_mode, "protocols": row.protocols}.items() >= column.items()


@given(st.randoms(use_true_random=False))
def test_the_switchs_own_ports_are_found_in_whatever_order_their_rows_come(random: Random) -> None:
    host = Host()
    with_own_ports(host)
    rows = host.ovsdb.take()
    random.shuffle(rows)

    for row in rows:
        host.picture.apply([row], START)

    assert host.picture.switch_ports == SwitchPorts(OfPort(1), OfPort(2), ((VXLAN, OfPort(3)),))


def test_the_hosts_own_name_and_what_its_datapath_can_are_known() -> None:
    host = Host()
    uuid = host.ovsdb.uuid("Bridge", "br-int")
    columns = {"external_ids": {"hostname": "hv1.example"}, "datapaths": {"netdev": uuid}}

    host.picture.apply(
        [
            RowChange("Open_vSwitch", uuid, columns),
            RowChange("Datapath", uuid, {"capabilities": {"nd_ext": "true"}}),
        ],
        START,
    )

    assert (host.picture.hostname, host.picture.capabilities) == ("hv1.example", {"nd_ext": "true"})


# --- any story ---------------------------------------------------------------------------------------------------

_devices = st.sampled_from(["tap1", "tap2", "tap3", "patch-tun", "pw-vxlan"])
_numbers = st.sampled_from([None, -1, 5, 6, 7])
_Step = Callable[[Ovsdb], None]


def _present(ovsdb: Ovsdb, device: str) -> bool:
    return any((table, columns["name"]) == ("Interface", device) for table, columns in ovsdb.rows.values())


def _toggle(ovsdb: Ovsdb, device: str, number: int | None, bridge: str) -> None:
    if _present(ovsdb, device):
        ovsdb.remove(device)
    else:  # each device has an id of its own: which of two comes first is history
        ovsdb.add(device, ids_of(f"p{device[-1]}") if device.startswith("tap") else {}, number, bridge)


def _change(ovsdb: Ovsdb, device: str, key: str, text: str | None) -> None:
    if _present(ovsdb, device):
        ovsdb.set_ids(device, **{key: text})


def _renumber(ovsdb: Ovsdb, device: str, number: int | None) -> None:
    if _present(ovsdb, device):
        ovsdb.set("Interface", device, ofport=number)


_steps: st.SearchStrategy[_Step] = st.one_of(
    st.tuples(_devices, _numbers, st.sampled_from(["br-int", "br-int", "br-tun"])).map(
        lambda made: lambda ovsdb: _toggle(ovsdb, *made)
    ),
    st.tuples(_devices, _numbers).map(lambda made: lambda ovsdb: _renumber(ovsdb, *made)),
    st.tuples(_devices, st.sampled_from(["segmentation_id", "network_id"]), st.sampled_from([None, "7", "a/b"])).map(
        lambda made: lambda ovsdb: _change(ovsdb, *made)
    ),
)


@given(st.lists(st.lists(_steps, max_size=4), max_size=8), st.randoms(use_true_random=False))
def test_what_is_told_piece_by_piece_is_what_a_whole_picture_shows(batches: list[list[_Step]], random: Random) -> None:
    ovsdb, picture = Ovsdb(), Picture("br-int", "br-tun")
    told: dict[PortId, Plug] = {}
    now = START

    def listen(change: PictureChange) -> None:
        for port_id, plug in change.plugs.items():
            assert plug != told.get(port_id), "told without a change"
            if plug is None:
                del told[port_id]
            else:
                told[port_id] = plug

    listen(picture.apply(ovsdb.whole(), now, whole=True))
    for batch in batches:
        now += 1
        for step in batch:
            step(ovsdb)
        rows = ovsdb.take()
        random.shuffle(rows)
        listen(picture.apply(rows, now))
    listen(picture.expire(now + OFPORT_PATIENCE))

    whole = Picture("br-int", "br-tun")
    whole.apply(ovsdb.whole(), now, whole=True)
    assert told == picture.plugs == whole.plugs
    assert picture.switch_ports == whole.switch_ports
    assert picture.unfit == whole.unfit
    assert picture.expires is None


# --- interfaces that give no port ---------------------------------------------------------------------------------


def test_an_interface_that_gives_no_port_is_told_with_the_reason() -> None:
    host = a_host(tap1="p1")
    host.ovsdb.add_bridge("br-ex")
    host.ovsdb.add("tap2", ids_of("p2"), ofport=-1)
    host.ovsdb.add("tap3", {"attached-mac": "fa:16:3e:00:00:03"})
    host.ovsdb.add("tap4", ids_of("p4"), bridge="br-ex")
    host.look()

    def why(name: str) -> list[str]:
        return [reason for _, reason in host.picture.portless(name)]

    assert why("p1") == why("nobody") == []
    assert "no OpenFlow port" in why("p2")[0]
    assert why("tap3") == ["external_ids:iface-id is not set"]
    assert why("p4") == ["it is not on br-int"]


# --- orphans ------------------------------------------------------------------------------------------------------


def test_an_interface_of_the_integration_bridge_without_a_device_is_an_orphan() -> None:
    host = a_host(tap1="p1", tap2="p2")
    host.ovsdb.add("tap3", ofport=-1, bridge="br-tun")

    host.ovsdb.set("Interface", "tap2", ofport=-1)

    assert host.look().plugs == {P2: None}
    assert host.picture.orphans == ["tap2"]
    host.ovsdb.remove("tap2")
    host.look()
    assert host.picture.orphans == []
