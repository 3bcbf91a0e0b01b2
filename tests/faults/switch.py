"""The switch killed, taken apart and tampered with: all of it is back by itself, and at once."""

from portwatch.fabric.purpose import is_ours
from portwatch.fabric.tables import OWN
from portwatch.openflow import parse
from portwatch.openflow.bundle import diff
from portwatch.openflow.flow import Item
from tests.faults import commands
from tests.faults.fault import Rows, Story
from tests.faults.openflow import FirstAnswer
from tests.faults.restarts import FAR_FLOWS, PORT_FLOWS
from tests.faults.stage import Stage
from tests.lab import Port, eventually
from tests.lab.ports import key_arguments
from tests.system.conftest import BRIDGES

ROWS = Rows("The switch")
fault = ROWS.fault

OURS = "cookie=0x7077000000000000/0xffff000000000000"
TRAFFIC_SECONDS = 0.2
"""From the first OpenFlow answer of a new ovs-vswitchd until traffic flows."""
EDGE = 0.1
AT_ONCE = 20
"""Probes, 10 ms each."""
A_SECOND = 100
OFPORT = 77


def vswitchd_alone(stage: Stage) -> None:
    """Restart it, and put the flows back with one bundle a bridge as soon as it answers: nobody can be quicker."""
    texts = {bridge: _bundle_of(stage, bridge) for bridge in BRIDGES}
    answer = _restart(stage)
    answer.wait()
    for bridge, text in texts.items():
        stage.hv.ofctl("--no-names", "-O", "OpenFlow15", "bundle", bridge, "-", stdin=text)
    stage.hv.vswitchd.wait_ready()


@fault("ovs-vswitchd killed and started", alone=vswitchd_alone, lost=AT_ONCE, flows=None)
def vswitchd_killed(stage: Stage) -> Story:
    answer = _restart(stage)
    stage.hv.vswitchd.wait_ready()
    yield
    spoke = answer.wait()
    hit = [result for talk, result in zip(stage.talks, stage.results, strict=True) if stage.hit(talk)]
    after = max(min(moment for moment in result.answered if moment > spoke) for result in hit) - spoke
    answered = 1000 * (spoke - answer.since)
    stage.note(f"the new one answered OpenFlow after {answered:.0f} ms, traffic flowed {1000 * after:.0f} ms later")
    # On a machine that is busy with other things, no slower than the bare bundles were there.
    at_once = after <= TRAFFIC_SECONDS or stage.loss().silence <= stage.alone[vswitchd_alone].silence + EDGE
    stage.promise(at_once, f"traffic flowed {after:.3f} s after the first OpenFlow answer")


@fault("ovs-vswitchd restarted with flow-restore-wait set by somebody, who clears it later", lost=None, flows=None)
def flow_restore_wait(stage: Stage) -> Story:
    stage.hv.vsctl("set", "Open_vSwitch", ".", "other_config:flow-restore-wait=true")
    try:
        _restart(stage).wait()
        stage.hv.vswitchd.wait_ready()
        stage.until_converged(10)
        kept = stage.hv.vsctl("get", "Open_vSwitch", ".", "other_config:flow-restore-wait")
        assert kept.strip() == '"true"', "it is not ours to clear"
    finally:
        stage.hv.vsctl("remove", "Open_vSwitch", ".", "other_config", "flow-restore-wait")
    yield


@fault("br-tun deleted", lost=A_SECOND // 2, flows=None)
def tunnel_bridge_deleted(stage: Stage) -> Story:
    stage.hv.vsctl("del-br", "br-tun")
    yield


@fault("br-tun deleted and made again by somebody, without its ports", lost=A_SECOND // 2, flows=None)
def tunnel_bridge_replaced(stage: Stage) -> Story:
    stage.hv.vsctl(*_without("br-tun"), *_with("br-tun"))
    yield


@fault(
    "br-int deleted and made again, and its ports plugged anew",
    lost=A_SECOND,
    flows=None,
    elsewhere=None,
    same_claims=False,
)
def integration_bridge_replaced(stage: Stage) -> Story:
    words = [*_without("br-int"), *_with("br-int")]
    for hypervisor, item in stage.site.plugged:
        if hypervisor is stage.hv:
            port = item if isinstance(item, Port) else item.port
            kind = [f'mac="{port.mac}"', "type=internal"] if isinstance(item, Port) else ["type=system"]
            words += ["--", "add-port", "br-int", port.device, "--", "set", "Interface", port.device]
            words += [*kind, *key_arguments(port.keys())]
    stage.hv.vsctl(*words)
    yield


@fault("the tunnel port made again by somebody, with another OpenFlow port", lost=AT_ONCE, flows=None)
def tunnel_port_renumbered(stage: Stage) -> Story:
    port = ["type=vxlan", "options:remote_ip=flow", "options:key=flow", f"options:local_ip={stage.hv.ip}"]
    stage.hv.vsctl(
        *("--", "del-port", "br-tun", "pw-vxlan", "--", "add-port", "br-tun", "pw-vxlan"),
        *("--", "set", "Interface", "pw-vxlan", *port, f"ofport_request={OFPORT}"),
        *("--", "set", "Port", "pw-vxlan", "external_ids:portwatch-owner=true"),
    )
    yield
    assert stage.hv.ofport("pw-vxlan") == OFPORT


@fault("all our flows deleted by hand, on both bridges", lost=AT_ONCE, flows=None)
def flows_deleted(stage: Stage) -> Story:
    drift = stage.metric(stage.hv, "portwatch_flow_drift_total")
    for bridge in BRIDGES:
        stage.hv.ofctl("-O", "OpenFlow15", "del-flows", bridge, OURS)
    yield
    assert stage.metric(stage.hv, "portwatch_flow_drift_total") >= drift + len(stage.flows())


@fault("a flow falsified by hand: a station's frames are dropped", lost=AT_ONCE, flows=2)
def flow_falsified(stage: Stage) -> Story:
    drift = stage.metric(stage.hv, "portwatch_flow_drift_total")
    match = f"table=20,dl_dst={stage.there_nic.port.mac}"
    stage.hv.ofctl("mod-flows", "br-tun", f"{match},actions=drop")  # by OpenFlow 1.0, which takes our cookie, too
    yield
    assert stage.metric(stage.hv, "portwatch_flow_drift_total") > drift


@fault("a group deleted by hand, and with it the flow that leads to it", flows=2)
def group_deleted(stage: Stage) -> Story:
    drift = stage.metric(stage.hv, "portwatch_flow_drift_total")
    stage.hv.ofctl("-O", "OpenFlow15", "del-groups", "br-tun", f"group_id={_group(stage)}")
    yield
    assert stage.metric(stage.hv, "portwatch_flow_drift_total") > drift


@fault("a group falsified by hand: broadcasts reach nobody")
def group_falsified(stage: Stage) -> Story:
    drift = stage.metric(stage.hv, "portwatch_flow_drift_total")
    stage.hv.ofctl("-O", "OpenFlow15", "mod-group", "br-tun", f"group_id={_group(stage)},type=all")
    yield
    assert stage.metric(stage.hv, "portwatch_flow_drift_total") > drift


@fault("an OpenFlow controller added by somebody, which deletes what it finds", lost=AT_ONCE, flows=None)
def controller_added(stage: Stage) -> Story:
    stage.hv.vsctl("set-controller", "br-tun", "ptcp:16653:127.0.0.1")
    try:
        stage.hv.namespace.run("ovs-ofctl", "-O", "OpenFlow15", "del-flows", "tcp:127.0.0.1:16653")
        yield
    finally:
        stage.hv.vsctl("del-controller", "br-tun")


@fault(
    "an ovs-ofctl hangs (SIGSTOP) with a bundle: ended after its time limit, tried again",
    flows=2 * PORT_FLOWS,
    elsewhere=4 * FAR_FLOWS,
)
def ofctl_hangs(stage: Stage) -> Story:
    first = stage.plug(stage.hv, "10.0.8.1/16")  # a commit: from now on an ovs-ofctl waits for the next one
    stage.until_converged(5)
    command = commands.waiting(stage.agent, "br-int")
    with commands.frozen(command):
        second = stage.plug(stage.hv, "10.0.8.2/16")
        yield
    assert not command.alive()
    stage.unplug(stage.hv, first)
    stage.unplug(stage.hv, second)


@fault(
    "the switch refuses a flow: it is set aside and named, and the rest goes in",
    flows=4 * PORT_FLOWS,
    elsewhere=None,
)
def flow_refused(stage: Stage) -> Story:
    answers = sum(",table=21," in line.replace(" ", ",") for line in stage.hv.dump_flows("br-tun", "table=21"))
    table = ["create", "Flow_Table", "name=full", f"flow_limit={answers}", "overflow_policy=refuse"]
    crowd = next(item for hv, item in stage.site.plugged if hv is stage.second and isinstance(item, Port))
    try:
        stage.hv.vsctl("--", "--id=@full", *table, "--", "set", "Bridge", "br-tun", "flow_tables:21=@full")
        stage.second.set_external_ids(crowd, {"fixed-ips": f"{','.join(crowd.fixed_ips)},10.0.8.1"})
        near = stage.plug(stage.hv, "10.0.8.2/16")
        eventually(lambda: _refused(stage), 5, "one flow is named as refused")
        for refused in _refused(stage):
            assert "=10.0.8.1" in refused["text"], refused
            assert refused["state"] == "refused: OFPFMFC_TABLE_FULL", refused
        stage.site.wait_active(stage.hv, near)
    finally:
        stage.hv.vsctl("clear", "Bridge", "br-tun", "flow_tables")
        stage.second.set_external_ids(crowd, {"fixed-ips": ",".join(crowd.fixed_ips)})
    stage.unplug(stage.hv, near)
    yield


def _restart(stage: Stage) -> FirstAnswer:
    """Kill ovs-vswitchd and start it; return who knows when the new one answers OpenFlow."""
    stage.hv.vswitchd.kill()
    stage.hv.vswitchd.start(wait=False)
    return FirstAnswer(*(stage.hv.rundir / f"{bridge}.mgmt" for bridge in BRIDGES))


def _bundle_of(stage: Stage, bridge: str) -> str:
    """Return what puts back all that portwatch has on a bridge."""
    items: list[Item] = [
        *parse.groups("\n".join(stage.hv.dump_groups(bridge))),
        *parse.flows("\n".join(stage.hv.dump_flows(bridge))),
    ]
    return diff({}, {item.key: item for item in items if is_ours(item)}, OWN).text()


def _without(bridge: str) -> list[str]:
    return ["--", "del-br", bridge]


def _with(bridge: str) -> list[str]:
    return ["--", "add-br", bridge, "--", "set", "Bridge", bridge, "datapath_type=netdev", "fail_mode=secure"]


def _group(stage: Stage) -> int:
    """Return the flood group of the stage's network."""
    return 0x70770000 + stage.claims()[stage.near_nic.port.id][1]


def _refused(stage: Stage) -> list[dict[str, str]]:
    return [row for row in stage.ask(stage.hv, "flows") if row["state"].startswith("refused")]
