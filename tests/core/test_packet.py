"""What `ofproto/trace` prints, as Open vSwitch 3.1 printed it, put into words."""

from portwatch.cli.packet import Site, fate, steps

SITE = Site(
    integration="br-int",
    tunnel="br-tun",
    ports={2: {"port_id": "web-1"}, 3: {"port_id": "web-2"}},
    hosts={"192.0.2.12": "hv2"},
    status="details-missing: network-id not set on the Interface",
    unreached="none has a wired port in this network",
)
COOKIE = "cookie 0x7077000000000001"
ADMITTED = f"""\
bridge("br-int")
----------------
 0. in_port=2,vlan_tci=0x0000/0x1fff, priority 200, {COOKIE}
    push_vlan:0x8100
    set_field:4101->vlan_vid
    goto_table:39
"""
FLOODED = f"""\
{ADMITTED}39. ip,in_port=2,dl_src=fa:16:3e:00:00:01,nw_src=10.0.0.1, priority 400, {COOKIE}
    goto_table:41
41. priority 1, {COOKIE}
    goto_table:42
42. dl_vlan=5, priority 200, {COOKIE}
    output:1

    bridge("br-tun")
    ----------------
         0. in_port=2, priority 200, {COOKIE}
            goto_table:2
        20. priority 1, {COOKIE}
            goto_table:22
        22. dl_vlan=5, priority 200, {COOKIE}
            pop_vlan
            set_field:0x64->tun_id
            group:1886846977
            bucket 3221225996
                    set_field:192.0.2.12->tun_dst
                    output:1
                     -> output to native tunnel
            bucket 3221225997
                    set_field:192.0.2.13->tun_dst
                    output:1

                bridge("br-phy")
                ----------------
                 0. priority 0
                    NORMAL
                     -> forwarding to learned port
    pop_vlan
    output:2
     >> skipping output to input port
    output:3

Final flow: unchanged
Datapath actions: 7
"""


def test_actions_after_a_nested_bridge_belong_to_the_flow_that_goes_on() -> None:
    flood = next(step for step in steps(FLOODED) if (step.bridge, step.table) == ("br-int", 42))

    assert flood.actions == ["output:1", "pop_vlan", "output:2", ">> skipping output to input port", "output:3"]


def test_a_flood_goes_to_the_other_ports_here_and_to_each_host_and_not_back() -> None:
    found = fate(FLOODED, SITE)

    assert found.delivered == ["web-2"]
    assert found.tunnelled == ["hv2 (192.0.2.12)", "192.0.2.13"]
    assert "br-int, table 0: admitted, into local VLAN 5" in found.words
    assert "br-int, table 41: nobody claims this MAC: flooded" in found.words
    assert found.end == "It is delivered here to web-2, and sent through the tunnel to hv2 (192.0.2.12), 192.0.2.13."


def test_what_anti_spoofing_drops_is_told_with_what_it_met() -> None:
    found = fate(f"{ADMITTED}39. ip, priority 300, {COOKIE}\n    drop\n", SITE)

    assert found.end.startswith("Nobody gets it: dropped in table 39 of br-int; anti-spoofing")
    assert "(it met ip)" in found.end


def test_a_port_that_is_not_wired_is_not_let_in_for_its_reason() -> None:
    found = fate(f'bridge("br-int")\n----------------\n 0. priority 1, {COOKIE}\n    drop\n', SITE)

    assert found.dropped == f"dropped in table 0 of br-int; the port is not let in: {SITE.status}"


def test_an_empty_table_drops() -> None:
    found = fate('bridge("br-int")\n----------------\n 0. No match.\n    drop\n', SITE)

    assert found.dropped is not None


def test_the_switchs_own_rule_for_an_empty_table_behind_a_patch_port_is_no_strangers() -> None:
    text = f"""\
bridge("br-tun")
----------------
 0. in_port=1, priority 200, {COOKIE}
    goto_table:22
22. reg0=0x2, priority 0
    drop
"""
    found = fate(text, SITE)

    assert found.words[-1] == "br-tun, table 22: no other host to flood to: none has a wired port in this network"
    assert found.end.endswith(
        "dropped in table 22 of br-tun; no other host to flood to: none has a wired port in this network."
    )


def test_a_strangers_flow_is_named_as_such() -> None:
    found = fate('bridge("br-int")\n----------------\n 0. in_port=2, priority 999\n    drop\n', SITE)

    assert "a flow that is not portwatch's takes it (in_port=2): drop" in found.words[0]


def test_a_learned_endpoint_is_read_from_the_number_that_is_loaded() -> None:
    text = """\
bridge("br-tun")
----------------
20. vlan_tci=0x0005/0x0fff,dl_dst=fa:16:3e:00:00:09, priority 100, cookie 0x7077000000000002
    load:0xc000020c->NXM_NX_TUN_IPV4_DST[]
    output:1
"""
    found = fate(text, SITE)

    assert found.tunnelled == ["hv2 (192.0.2.12)"]
    assert "the switch has learned where this MAC is" in found.words[0]


def test_a_tunnel_that_the_switch_cannot_use_is_told() -> None:
    text = f"""\
bridge("br-tun")
----------------
20. dl_vlan=5,dl_dst=fa:16:3e:00:00:09, priority 200, {COOKIE}
    set_field:192.0.2.12->tun_dst
    output:1
     -> output to native tunnel
     -> native tunnel routing failed
"""
    assert "br-tun: the switch cannot send it there: native tunnel routing failed" in fate(text, SITE).words


def test_what_meets_no_flow_of_a_bridge_further_on_is_told_as_such() -> None:
    """Open vSwitch says "No match." for the bridge where the trace begins, and shows its own flow for the others."""
    alone = FLOODED[: FLOODED.index("        22. ")] + "        22. reg0=0x2, priority 0\n            drop\n"

    found = fate(alone, SITE)

    assert found.words[-1] == f"br-tun, table 22: no other host to flood to: {SITE.unreached}"
    assert found.end.startswith("Nobody gets it: dropped in table 22 of br-tun; no other host to flood to")
