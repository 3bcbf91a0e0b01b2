"""The lab: real hypervisors on one machine, for tests, the demo and benchmarks. Needs root."""

from tests.lab import frames
from tests.lab.agent import Agent
from tests.lab.authority import Authority
from tests.lab.broker import Broker, Message, Recorder
from tests.lab.capture import Capture
from tests.lab.failures import CommandFailed, CommandTooSlow, LabError, NotInTime, ProcessFailed
from tests.lab.flowwatch import FlowWatch
from tests.lab.hypervisor import Hypervisor
from tests.lab.lab import Lab
from tests.lab.ovn import Binding, Ovn
from tests.lab.ports import Keys, Network, Port
from tests.lab.probe import Gap, PingResult, Probe, ProbeResult
from tests.lab.prometheus import Prometheus
from tests.lab.services import Dnsmasq, Lease
from tests.lab.vm import Nic, Vm
from tests.lab.waiting import eventually

__all__ = [
    "Agent",
    "Authority",
    "Binding",
    "Broker",
    "Capture",
    "CommandFailed",
    "CommandTooSlow",
    "Dnsmasq",
    "FlowWatch",
    "Gap",
    "Hypervisor",
    "Keys",
    "Lab",
    "LabError",
    "Lease",
    "Message",
    "Network",
    "Nic",
    "NotInTime",
    "Ovn",
    "PingResult",
    "Port",
    "Probe",
    "ProbeResult",
    "ProcessFailed",
    "Prometheus",
    "Recorder",
    "Vm",
    "eventually",
    "frames",
]
