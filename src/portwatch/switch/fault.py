"""What `ovs-ofctl` says when it fails, told apart by what the caller does about it. Pure: text in, error out.

Its exit status is 1 for every fault; only the words differ. The tests hold them as a real switch, OVS 3.1,
made them come; the sources of 3.7 still have the same.
"""

import re
from typing import Final

from portwatch.errors import BundleInvalid, BundleRejected, OutcomeUnknown, SwitchError, SwitchUnavailable


class OpenFlowVersionRefused(SwitchUnavailable):
    """The bridge's `protocols` leave OpenFlow 1.5 out: the operator mends it."""


class LineRejected(BundleRejected):
    """A refused bundle, and which line of it was refused: `index`, from 0; None when it cannot be told."""

    def __init__(self, bridge: str, code: str, culprit: str, index: int | None) -> None:
        self.index = index
        super().__init__(bridge, code, culprit)


_LOG: Final = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z\|\d+\|[^|\n]+\|[A-Z]+\|.*\n")
_UNREADABLE: Final = re.compile(r"(?m)^ovs-ofctl: -:(\d+): (.*)")
_NO_COMMON_FORMAT: Final = re.compile(r"(?m)^ovs-ofctl: (none of the usable flow formats .*)")
_REFUSED: Final = re.compile(r"(?ms)^Error (\w+) for: (.*?)(?=^Error |^ovs-ofctl: |\Z)")
_XID: Final = re.compile(r"OFPT_\w+ \(\S+\) \(xid=0x([0-9a-f]+)\):")
_HEXDUMP: Final = re.compile(r"(?m)^[0-9a-f]{8}  .*\n?")
_HEXDUMP_XID: Final = re.compile(r"(?m)^00000000  (?:[0-9a-f]{2} ){4}([0-9a-f]{2}(?:[ -][0-9a-f]{2}){3})")
_COMMIT_XID: Final = re.compile(r"(?m)^Error \w+ for: OFPT_BUNDLE_CONTROL \(\S+\) \(xid=0x([0-9a-f]+)\):")
_VERSION: Final = re.compile(r"version negotiation failed \(.*peer supports versions? (.*)\)")
_NOT_CONNECTED: Final = re.compile(r"(?m)^ovs-ofctl: connecting to unix:(.*) \((.*)\)")
_NO_HELLO: Final = re.compile(r"(?m)^ovs-ofctl: unix:(.*): failed to (?:connect to|open) socket \((.*)\)")

_CULPRIT_MAX: Final = 1000
_FIRST_XID: Final = 2  # the HELLO has 1; then come the bundle's lines, its OPEN, a BARRIER and its COMMIT


def fault(bridge: str, stderr: str, lines: int | None = None) -> SwitchError:
    """Return what *stderr* of a failed `ovs-ofctl` means. *lines*, how many it was fed, makes `index` sure."""
    words = _LOG.sub("", stderr)  # a log line may stand anywhere, even within another line
    return (
        _invalid(bridge, words)
        or _rejected(bridge, words, lines)
        or _unavailable(bridge, words, stderr)
        or OutcomeUnknown(bridge, _last_words(words))
    )


def _invalid(bridge: str, words: str) -> BundleInvalid | None:
    if line := _UNREADABLE.search(words):
        return BundleInvalid(bridge, int(line[1]), line[2])
    if bundle := _NO_COMMON_FORMAT.search(words):
        return BundleInvalid(bridge, 0, bundle[1])
    return None


def _rejected(bridge: str, words: str, lines: int | None) -> LineRejected | None:
    refused = _REFUSED.search(words)
    if refused is None:
        return None
    code, message = refused.groups()
    # A message that OVS cannot read back, such as a group of more than 64 KiB, is shown as bytes only.
    xid = _XID.search(message) or _HEXDUMP_XID.search(message)
    culprit = " ".join(_XID.sub("", _HEXDUMP.sub("", message), count=1).split())
    commit = _COMMIT_XID.search(words)
    index = _index(xid and _number(xid), commit and _number(commit), lines)
    return LineRejected(bridge, code, culprit[:_CULPRIT_MAX], index)


def _index(xid: int | None, commit_xid: int | None, lines: int | None) -> int | None:
    if xid is None:
        return None
    if lines is not None and commit_xid is not None and commit_xid != _FIRST_XID + lines + 2:
        return None  # it counts otherwise than we know
    index = xid - _FIRST_XID
    return index if index >= 0 and (lines is None or index < lines) else None


def _number(xid: re.Match[str]) -> int:
    return int(re.sub("[ -]", "", xid[1]), 16)


def _unavailable(bridge: str, words: str, stderr: str) -> SwitchUnavailable | None:
    if version := _VERSION.search(stderr):
        spoken = re.sub(r"0x([0-9a-f]{2})", lambda number: f"1.{int(number[1], 16) - 1}", version[1])
        remedy = f"ovs-vsctl add bridge {bridge} protocols OpenFlow15"
        return OpenFlowVersionRefused(bridge, f"the bridge allows OpenFlow {spoken} and not 1.5: {remedy}")
    if socket := _NOT_CONNECTED.search(words):
        return SwitchUnavailable(bridge, _unreached(bridge, socket[1], socket[2]))
    if socket := _NO_HELLO.search(words):
        return SwitchUnavailable(bridge, f"{socket[1]}: {socket[2]}, before the switch had said hello")
    return None


def _last_words(words: str) -> str:
    return words.strip().rpartition("\n")[2].removeprefix("ovs-ofctl: ") or "ovs-ofctl ended without a word"


def _unreached(bridge: str, path: str, reason: str) -> str:
    match reason:
        case "No such file or directory":
            return (
                f"there is no {path}: does ovs-vswitchd run, and can it make {bridge}?"
                " Its log tells; without a kernel datapath, bridges.datapath_type is netdev"
            )
        case "Connection refused":
            return f"nobody listens at {path}: ovs-vswitchd does not run"
        case "Permission denied":
            return f"may not open {path}: portwatch needs write permission there and search permission above"
        case _:
            return f"{path}: {reason}"
