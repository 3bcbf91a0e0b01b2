"""A whole machine: a fresh Debian root file system whose first process is systemd, by systemd-nspawn.

It has the lab's underlay on `uplink`, and the way out of the machine that runs the lab on `internet`.
"""

import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tests.lab import shell
from tests.lab.failures import CommandFailed
from tests.lab.namespaces import Namespace
from tests.lab.ownership import ProcessId
from tests.lab.processes import Children, Process
from tests.lab.underlay import UPLINK, Address
from tests.lab.waiting import eventually

BOOT_SECONDS = 60.0
OFF_SECONDS = 60.0
COMMAND_SECONDS = 300.0
RESOLVER = "10.0.2.3"
"""slirp4netns's own."""
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
HIERARCHIES = ("", "systemd", "unified")
"""Where control groups are made: of version 2, or of systemd's own version 1 and version 2 beside it."""
USER_HOME = "/root"
HOME = f"{USER_HOME}/portwatch"
"""Where README is followed, in the file system of the machine that is made here: as whoever logs in as root does."""
ENVIRONMENT = {
    "HOME": USER_HOME,
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "DEBIAN_FRONTEND": "noninteractive",
    "LC_ALL": "C.UTF-8",
}


class Machine:
    """One machine; what happens on it stays in its own root file system, a copy of *base*."""

    def __init__(
        self, children: Children, namespace: Namespace, base: Path, name: str, names: Mapping[str, Address]
    ) -> None:
        """*names*: what it finds in its /etc/hosts."""
        self.name = name
        self.namespace = namespace
        self.root = children.directory / f"{name}.root"
        shell.run("cp", "-a", "--reflink=auto", str(base), str(self.root), timeout=COMMAND_SECONDS)
        self.write("etc/hostname", f"{name}\n")
        known = "".join(f"{address.ipv4} {each}\n" for each, address in names.items())
        self.write("etc/hosts", f"127.0.0.1 localhost {name}\n{known}")
        (self.root / "etc/resolv.conf").unlink(missing_ok=True)
        self.write("etc/resolv.conf", f"nameserver {RESOLVER}\n")
        self.write("etc/apt/apt.conf.d/90yes", 'APT::Get::Assume-Yes "true";\n')
        # Where somebody looks into TLS on the way, pip must know his authority, as the one who runs the lab does.
        shutil.copy(AUTHORITIES, self.root / "etc/lab-authorities.pem")
        self.write("etc/pip.conf", "[global]\ncert = /etc/lab-authorities.pem\n")
        self._record = children.record
        self._process_ids: list[ProcessId] = []
        self._group = f"{children.record.token}-{name}"
        self._process = Process(children, name, self._boot_command(), ready=self._wait_until_it_is_up)
        way_out = ["slirp4netns", "--configure", "--mtu=1500", "--disable-host-loopback", "--netns-type=path"]
        way_out += [f"/run/netns/{namespace.name}", "internet"]
        self._internet = Process(children, f"{name}-internet", way_out, ready=self._wait_for_the_way_out)

    def start(self) -> None:
        """Switch it on; return when systemd has started all that it shall."""
        if not self._internet.running:
            self._internet.start()
        self._process.start()

    def off(self) -> None:
        """Shut it down, as by its power button; its file system stays."""
        self._process.stop(timeout=OFF_SECONDS)
        self._remove_groups()

    def close(self) -> None:
        """End it, however it is."""
        for first in self._process_ids:
            first.kill()
        for process in (self._process, self._internet):
            if process.running:
                process.kill()
        eventually(self._remove_groups, OFF_SECONDS, f"{self.name} has no process left")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Put a file into its file system, before it needs it."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def run(self, script: str, *, accept: tuple[int, ...] = (0,), timeout: float = COMMAND_SECONDS) -> str:
        """Type *script* as root, in a checkout; the first line that fails ends it, and is CommandFailed."""
        enter = ["nsenter", "--target", str(self._first_process()), "--all", "env", "-i"]
        settings = [f"{key}={value}" for key, value in ENVIRONMENT.items()]
        shell_line = f"mkdir -p {HOME} && cd {HOME}\n{script}"
        return shell.run(*enter, *settings, "bash", "-e", "-c", shell_line, accept=accept, timeout=timeout)

    def unit(self, unit: str, name: str) -> str:
        """Return a property of a unit, as systemd tells it."""
        return self.run(f"systemctl show --value -p {name} {unit}").strip()

    def _boot_command(self) -> list[str]:
        # A control group of its own: two machines in one would take each other's processes for theirs.
        join = 'for each in "$@"; do mkdir -p "$each" && echo 0 >"$each/cgroup.procs"; done'
        nspawn = ["systemd-nspawn", "--quiet", "--boot", "--keep-unit", "--register=no", "--resolv-conf=off"]
        nspawn += ["--capability=CAP_NET_ADMIN,CAP_IPC_LOCK"]  # Open vSwitch's
        nspawn += [f"--directory={self.root}", f"--machine={self.name}", f"--hostname={self.name}"]
        nspawn += [f"--network-namespace-path=/run/netns/{self.namespace.name}", "--console=pipe"]
        groups = [str(path) for path in self._groups()]
        return ["bash", "-e", "-c", f"{join}; exec {' '.join(nspawn)}", "-", *groups]

    def _groups(self) -> list[Path]:
        places = [Path("/sys/fs/cgroup") / each for each in HIERARCHIES]
        return [place / self._group for place in places if (place / "cgroup.procs").exists()]

    def _remove_groups(self) -> bool:
        for group in self._groups():
            folders = sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True)
            for folder in (*folders, group):
                with suppress(OSError):  # busy as long as somebody is in it
                    folder.rmdir()
        return not any(group.exists() for group in self._groups())

    def _first_process(self) -> int:
        """Return the pid, seen from here, of the machine's systemd; 0 while there is none."""
        for pid in Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split():
            with suppress(FileNotFoundError, ProcessLookupError):
                if Path(f"/proc/{pid}/comm").read_text() == "systemd\n":
                    return int(pid)
        return 0

    def _wait_until_it_is_up(self, process: Process) -> None:
        def up() -> bool:
            try:
                return self.run("systemctl is-system-running", accept=(0, 1)).strip() in ("running", "degraded")
            except CommandFailed:  # not yet to be entered, or to be asked
                return False

        process.until(self._first_process, BOOT_SECONDS, f"{self.name} has a first process")
        # It does not die with systemd-nspawn: whoever cleans up must know it.
        first = ProcessId.of(self._first_process())
        assert first is not None
        self._record.note(first)
        self._process_ids.append(first)
        process.until(up, BOOT_SECONDS, f"{self.name} is up")

    def _wait_for_the_way_out(self, process: Process) -> None:
        process.until(
            lambda: "internet" in self.namespace.run("ip", "-br", "address", "show", "up"), BOOT_SECONDS, "a way out"
        )


def lay(namespace: Namespace, address: Address) -> None:
    """Give the cable to the underlay its address."""
    namespace.ip(f"link set {UPLINK} up", f"address add {address.ipv4}/24 dev {UPLINK}")
