"""What ovs-ofctl says when it fails. The texts are those of OVS 3.1.0, provoked one by one on a real switch."""

import pytest

from portwatch.errors import BundleInvalid, OutcomeUnknown, SwitchUnavailable
from portwatch.switch.fault import LineRejected, OpenFlowVersionRefused, fault

REFUSED_COMMIT = """\
Error OFPBFC_MSG_FAILED for: OFPT_BUNDLE_CONTROL (OF1.5) (xid=0x{xid:x}):
 bundle_id=0 type=COMMIT_REQUEST flags=atomic ordered
ovs-ofctl: talking to unix:/run/openvswitch/br-tun.mgmt (Protocol error)
"""
GROUP_EXISTS = """\
Error OFPGMFC_GROUP_EXISTS for: OFPT_GROUP_MOD (OF1.5) (xid=0x4):
 ADD group_id=5,type=all,bucket=bucket_id:1,actions=output:1
""" + REFUSED_COMMIT.format(xid=8)
NO_SUCH_GROUP = """\
Error OFPBAC_BAD_OUT_GROUP for: OFPT_FLOW_MOD (OF1.5) (xid=0x3): ADD table:20 priority=2,dl_vlan=7 \
cookie:0x7077000000000002 actions=pop_vlan,set_field:0x64->tun_id,group:99
""" + REFUSED_COMMIT.format(xid=7)
GROUP_TOO_LARGE = """\
Error OFPGMFC_BAD_BUCKET for: (***only uses 14488 bytes out of 80024***)
00000000  06 0f 38 98 00 00 00 12-00 00 00 00 00 00 00 08 |..8.............|
00000010  38 80 00 00 ff ff ff ff-00 28 00 20 00 00 00 01 |8........(. ....|
ovs-ofctl: talking to unix:/run/openvswitch/br-tun.mgmt (Protocol error)
"""
LOG_WITHIN_A_LINE = """\
Error OFPGMFC_BAD_BUCKET for: 2026-11-22T11:41:04Z|00001|ofp_group|WARN|Duplicate bucket id
OFPT_GROUP_MOD (OF1.5) (xid=0x2): ***decode error: OFPGMFC_BAD_BUCKET***
00000000  06 0f 00 28 00 00 00 02-00 00 00 00 00 00 00 01 |...(............|
ovs-ofctl: talking to unix:/run/openvswitch/br-tun.mgmt (Protocol error)
"""
BYTES_WITHIN_A_LOG = """\
Error OFPBAC_BAD_SET_ARGUMENT for: 2026-11-22T12:07:34Z|00001|ofp_actions|WARN|Invalid value for set field vlan_vid: 6
2026-11-22T12:07:34Z|00002|ofp_actions|WARN|bad action at offset 0 (OFPBAC_BAD_SET_ARGUMENT):
00000000  00 19 00 10 80 00 0c 02-00 06 00 00 00 00 00 00
00000010  00 00 00 10 00 00 00 01-00 00 00 00 00 00 00 00
OFPT_FLOW_MOD (OF1.5) (xid=0x2): ***decode error: OFPBAC_BAD_SET_ARGUMENT***
00000000  06 0e 00 68 00 00 00 02-70 77 00 00 00 00 00 02 |...h....pw......|
ovs-ofctl: talking to unix:/run/openvswitch/br-tun.mgmt (Protocol error)
"""
VERSION = """\
2026-11-22T11:41:04Z|00001|vconn|WARN|unix:/run/openvswitch/br-tun.mgmt: version negotiation failed (we support \
version 0x06, peer supports versions 0x01, 0x04)
ovs-ofctl: unix:/run/openvswitch/br-tun.mgmt: failed to connect to socket (Broken pipe)
"""


@pytest.mark.parametrize(
    ("stderr", "line", "detail"),
    [
        (
            "ovs-ofctl: -:2: 99999: value too large for 2-byte field dl_vlan\n",
            2,
            "99999: value too large for 2-byte field dl_vlan",
        ),
        ("ovs-ofctl: -:1: unknown keyword insert_buckets\n", 1, "unknown keyword insert_buckets"),
        (
            "2026-11-22T11:41:04Z|00001|ofp_table|WARN|table 300 is outside the supported range 0 through 255\n"
            'ovs-ofctl: -:17: unknown table "300"\n',
            17,
            'unknown table "300"',
        ),
    ],
)
def test_an_unreadable_line_is_named(stderr: str, line: int, detail: str) -> None:
    error = fault("br-tun", stderr)

    assert isinstance(error, BundleInvalid)
    assert (error.line, error.detail) == (line, f"line {line}: {detail}")


def test_a_text_that_no_openflow_1_5_switch_takes_is_invalid_as_a_whole() -> None:
    formats = "none of the usable flow formats (none) is among the allowed flow formats (OXM-OpenFlow15)"

    error = fault("br-tun", f"ovs-ofctl: {formats}\n")

    assert isinstance(error, BundleInvalid)
    assert error.line == 0


@pytest.mark.parametrize(
    ("stderr", "lines", "code", "culprit", "index"),
    [
        (
            GROUP_EXISTS,
            4,
            "OFPGMFC_GROUP_EXISTS",
            "ADD group_id=5,type=all,bucket=bucket_id:1,actions=output:1",
            2,
        ),
        (
            NO_SUCH_GROUP,
            3,
            "OFPBAC_BAD_OUT_GROUP",
            "ADD table:20 priority=2,dl_vlan=7 cookie:0x7077000000000002 "
            "actions=pop_vlan,set_field:0x64->tun_id,group:99",
            1,
        ),
        (GROUP_TOO_LARGE, 40, "OFPGMFC_BAD_BUCKET", "(***only uses 14488 bytes out of 80024***)", 16),
        (LOG_WITHIN_A_LINE, 1, "OFPGMFC_BAD_BUCKET", "***decode error: OFPGMFC_BAD_BUCKET***", 0),
        (BYTES_WITHIN_A_LOG, 1, "OFPBAC_BAD_SET_ARGUMENT", "***decode error: OFPBAC_BAD_SET_ARGUMENT***", 0),
    ],
)
def test_a_refusal_names_code_culprit_and_line(stderr: str, lines: int, code: str, culprit: str, index: int) -> None:
    error = fault("br-tun", stderr, lines)

    assert isinstance(error, LineRejected)
    assert (error.code, error.culprit, error.index) == (code, culprit, index)


@pytest.mark.parametrize("lines", [3, 5])
def test_a_refusal_that_counts_otherwise_than_we_do_names_no_line(lines: int) -> None:
    error = fault("br-tun", GROUP_EXISTS, lines)

    assert isinstance(error, LineRejected)
    assert error.index is None


def test_a_culprit_does_not_fill_the_log() -> None:
    buckets = ",".join(f"bucket=bucket_id:{n},actions=output:1" for n in range(1000))

    error = fault("br-tun", GROUP_EXISTS.replace("bucket=bucket_id:1,actions=output:1", buckets))

    assert isinstance(error, LineRejected)
    assert len(error.culprit) == 1000


@pytest.mark.parametrize(
    ("stderr", "advice"),
    [
        (
            "ovs-ofctl: connecting to unix:/run/openvswitch/br-tun.mgmt (No such file or directory)\n",
            "there is no /run/openvswitch/br-tun.mgmt: does ovs-vswitchd run, and can it make br-tun?"
            " Its log tells; without a kernel datapath, bridges.datapath_type is netdev",
        ),
        (
            "ovs-ofctl: connecting to unix:/run/openvswitch/br-tun.mgmt (Connection refused)\n",
            "nobody listens at /run/openvswitch/br-tun.mgmt: ovs-vswitchd does not run",
        ),
        (
            "ovs-ofctl: connecting to unix:/run/openvswitch/br-tun.mgmt (Permission denied)\n",
            "may not open /run/openvswitch/br-tun.mgmt: "
            "portwatch needs write permission there and search permission above",
        ),
        (
            "ovs-ofctl: connecting to unix:/long/br-tun.mgmt (File name too long)\n",
            "/long/br-tun.mgmt: File name too long",
        ),
        (
            "ovs-ofctl: unix:/run/openvswitch/br-tun.mgmt: failed to connect to socket (Connection reset by peer)\n",
            "/run/openvswitch/br-tun.mgmt: Connection reset by peer, before the switch had said hello",
        ),
    ],
)
def test_no_connection_says_what_to_look_at(stderr: str, advice: str) -> None:
    error = fault("br-tun", stderr)

    assert type(error) is SwitchUnavailable
    assert error.detail == advice


def test_a_forbidden_openflow_version_says_how_to_allow_it() -> None:
    error = fault("br-tun", VERSION)

    assert isinstance(error, OpenFlowVersionRefused)
    assert error.detail == (
        "the bridge allows OpenFlow 1.0, 1.3 and not 1.5: ovs-vsctl add bridge br-tun protocols OpenFlow15"
    )


@pytest.mark.parametrize(
    ("stderr", "detail"),
    [
        (
            "ovs-ofctl: talking to unix:/run/openvswitch/br-tun.mgmt (End of file)\n",
            "talking to unix:/run/openvswitch/br-tun.mgmt (End of file)",
        ),
        ("", "ovs-ofctl ended without a word"),
    ],
)
def test_everything_else_leaves_the_outcome_unknown(stderr: str, detail: str) -> None:
    error = fault("br-tun", stderr)

    assert isinstance(error, OutcomeUnknown)
    assert error.detail == detail
