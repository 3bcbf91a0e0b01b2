"""`ovs-appctl`: what ovs-vswitchd says a packet would meet. It blocks: for the command line, not for the agent."""

import os
import subprocess
from pathlib import Path
from typing import Final

from portwatch.errors import SwitchError, SwitchUnavailable

TRACE_SECONDS: Final = 10


def trace(rundir: Path, bridge: str, packet: str, *, program: str = "ovs-appctl") -> str:
    """Return what `ofproto/trace` prints for *packet*, a flow in ovs-ofctl's words, on *bridge*."""
    argv = [program, f"--timeout={TRACE_SECONDS}", "--target=ovs-vswitchd", "ofproto/trace", bridge, packet]
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and typed values only
            argv,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env=os.environ | {"OVS_RUNDIR": str(rundir)},
        )
    except FileNotFoundError:
        raise SwitchUnavailable(bridge, f"there is no program {program}: install openvswitch-common") from None
    if done.returncode == 0:
        return done.stdout
    words = " ".join(done.stderr.split())
    if "pidfile" in words or "connect" in words:
        raise SwitchUnavailable(bridge, f"ovs-vswitchd does not answer in {rundir}: {words}")
    raise SwitchError(bridge, f"ofproto/trace: {words}")
