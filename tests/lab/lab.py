"""N hypervisors on this one machine: built, lent out, and taken away again to the last trace.

with Lab(hypervisors=2) as lab:
    vm = lab.vm("web")
    lab.hypervisors[0].plug(vm.nic("web", lab.mac(), ("10.0.0.5/24",), Network("blue", 100)))
"""

import atexit
import secrets
import shutil
import signal
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab import agent, namespaces
from tests.lab.agent import Agent
from tests.lab.authority import Authority
from tests.lab.broker import Broker
from tests.lab.failures import LabError
from tests.lab.hypervisor import Hypervisor
from tests.lab.machine import Machine, lay
from tests.lab.namespaces import Namespace
from tests.lab.openvswitch import make_template
from tests.lab.ovn import Ovn
from tests.lab.ownership import Record
from tests.lab.ports import Keys
from tests.lab.processes import Children
from tests.lab.prometheus import Prometheus
from tests.lab.underlay import BROKER, SECOND, Address, Underlay
from tests.lab.vm import Nic, Vm

TOKEN_TRIES = 20
STANDBY_PORT = 1884


class Lab:
    """Hypervisors, an underlay and a broker, from `with` to its end, whichever way that comes.

    SIGTERM becomes a KeyboardInterrupt meanwhile, unless the program has its own way. What a SIGKILL leaves,
    a sweep removes.
    """

    def __init__(
        self,
        hypervisors: int = 3,
        *,
        broker: bool = True,
        default_limits: bool = False,
        persistent_broker: bool = False,
        authority: Authority | None = None,
    ) -> None:
        """*broker*: whether it is started; *default_limits*: mosquitto's own queue limits stay in force.

        With an *authority* the bus is locked, as deploy/mosquitto does it, and the agents have certificates.
        """
        self._record = _new_record()
        atexit.register(self.close)
        self._closed = False
        self._changed_sigterm = False
        self._macs = 0
        self._start_broker = broker
        self.token = self._record.token
        self.state = self._record.directory
        self._children = Children(self._record)
        self.underlay = Underlay(self._namespace("underlay"))
        self.broker = Broker(
            self._namespace("broker"),
            self._children,
            default_limits=default_limits,
            persistent=persistent_broker,
            authority=authority,
        )
        self.standby = Broker(
            self.broker.namespace,
            self._children,
            default_limits=default_limits,
            persistent=False,
            name="standby",
            port=STANDBY_PORT,
        )
        """A second broker, for who starts it."""
        self.hypervisors = tuple(
            Hypervisor(number, self._namespace(f"hv{number}"), self._children) for number in range(1, hypervisors + 1)
        )
        self.vms: dict[str, Vm] = {}
        self.agents: list[Agent] = []
        self._machines: list[Machine] = []

    def __enter__(self) -> Self:
        in_main_thread = threading.current_thread() is threading.main_thread()
        if in_main_thread and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            self._changed_sigterm = True
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every process, remove every namespace and file; again is no error."""
        if self._closed:
            return
        for machine in self._machines:
            machine.close()
        self._children.kill()
        remove(self._record)
        self._closed = True
        atexit.unregister(self.close)
        if self._changed_sigterm:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self._changed_sigterm = False

    def vm(self, name: str, *, router: bool = False) -> Vm:
        """Make a guest without network cards; a *router* forwards between the cards that it gets."""
        namespace = self._namespace(f"vm-{name}")
        namespaces.create([namespace.name])
        self.vms[name] = Vm(name, namespace, self._children, router=router)
        return self.vms[name]

    def agent(
        self,
        hypervisor: Hypervisor,
        command: Sequence[str] = agent.COMMAND,
        environment: Mapping[str, str] | None = None,
    ) -> Agent:
        """Prepare a `portwatch run` on a hypervisor; *environment* goes on top of the lab's settings."""
        settings = {**self.broker.agent_settings(hypervisor.name), **(environment or {})}
        new = Agent(self._children, hypervisor, self.broker.url, command, settings)
        self.agents.append(new)
        return new

    def prometheus(self, rules: Path, agents: Iterable[Agent], ca: Path, token_file: Path) -> Prometheus:
        """Prepare a Prometheus beside the broker, for *agents* that listen where it reaches them, over TLS."""
        targets = [agent.environment["PORTWATCH_HTTP__LISTEN"] for agent in agents]
        return Prometheus(self._children, self.broker.namespace, rules, targets, ca, token_file)

    def ovn(self) -> Ovn:
        """Prepare OVN on all hypervisors, its databases beside the broker."""
        return Ovn(self._children, self.broker.namespace, self.hypervisors)

    def bridge(self, authority: Authority) -> Broker:
        """Return a second broker, on a machine of its own, locked and bridged to the first, by deploy/mosquitto/bridge.

        Neither is started here.
        """
        namespace = self._namespace("second")
        namespaces.create([namespace.name])
        self.underlay.connect("second", namespace)
        second = Broker(
            *(namespace, self._children),
            default_limits=False,
            persistent=False,
            authority=authority,
            name="second",
            address=SECOND,
        )
        second.connect()
        authority.reader("bridge")
        self.broker.include("bridge/first.conf")
        second.include("bridge/second.conf", **{"first.example": BROKER.ipv4})
        return second

    def machine(self, name: str, base: Path, addresses: Mapping[str, Address]) -> Machine:
        """Prepare a whole machine, a copy of the file system *base*; *addresses*: who is where, it among them."""
        namespace = self._namespace(name)
        namespaces.create([namespace.name])
        self.underlay.connect(name, namespace)
        lay(namespace, addresses[name])
        self._machines.append(Machine(self._children, namespace, base, name, addresses))
        return self._machines[-1]

    def mac(self) -> str:
        """Return a MAC address not given before."""
        self._macs += 1
        return f"fa:16:3e:{self._macs.to_bytes(3).hex(':')}"

    def move(self, nic: Nic, source: Hypervisor, destination: Hypervisor, keys: Keys | None = None) -> None:
        """Migrate a running guest: plug it there, change over, activate it there, unplug it here.

        The steps are there one by one, too: `plug`, `Nic.run_on`, `set_external_ids`, `unplug`.
        """
        destination.plug(nic, {**(keys or {}), "iface-status": "inactive"})
        nic.run_on(destination.name)
        destination.set_external_ids(nic, {"iface-status": "active"})
        source.unplug(nic)

    def _start(self) -> None:
        places = [self.underlay.namespace, self.broker.namespace, *(hv.namespace for hv in self.hypervisors)]
        namespaces.create(place.name for place in places)
        template = self.state / "empty.db"
        make_template(template)
        self.underlay.start()
        self.underlay.connect("broker", self.broker.namespace)
        self.broker.connect()
        for hypervisor in self.hypervisors:
            self.underlay.connect(hypervisor.name, hypervisor.namespace)
        if self._start_broker:
            self.broker.start(wait=False)
        # Not by threads: an interrupt would reach this one only, and the others would go on in a lab that is gone.
        for hypervisor in self.hypervisors:
            hypervisor.begin(template)
        for hypervisor in self.hypervisors:
            hypervisor.configure()
        for hypervisor in self.hypervisors:
            hypervisor.wait_ready()
        if self._start_broker:
            self.broker.process.wait_ready()

    def _namespace(self, name: str) -> Namespace:
        return Namespace(f"{self._record.namespace_prefix}{name}")


def remove(record: Record) -> None:
    """Remove the namespaces and files of a lab whose processes are gone."""
    namespaces.delete(namespaces.existing(record.namespace_prefix))
    with suppress(FileNotFoundError):
        shutil.rmtree(record.directory)


def _new_record() -> Record:
    for _ in range(TOKEN_TRIES):
        record = Record(secrets.token_hex(2))
        if record.open():
            return record
    raise LabError("no free token in /tmp: too many labs, or a sweep is due (python -m tests.lab.sweep)")
