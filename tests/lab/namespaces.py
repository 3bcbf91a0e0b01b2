"""Network namespaces: made, entered, configured and removed, many at a time."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.lab import shell

T = TypeVar("T")


@dataclass(frozen=True)
class Namespace:
    """One network namespace, by name."""

    name: str

    def run(self, *argv: str, timeout: float = shell.COMMAND_SECONDS, stdin: str = "") -> str:
        """Run a command here and return its standard output."""
        return shell.run(*argv, namespace=self.name, timeout=timeout, stdin=stdin)

    def ip(self, *lines: str) -> None:
        """Run several `ip` commands here, in one process."""
        shell.run("ip", "-batch", "-", namespace=self.name, stdin="\n".join(lines) + "\n")

    def inside(self, work: Callable[[], T]) -> T:
        """Do *work* in a thread of this process that is in this namespace."""
        return shell.inside(self.name, work)

    def sysctl(self, settings: Mapping[str, str]) -> None:
        """Set keys below /proc/sys/net, written with slashes: `ipv4/ip_forward`."""

        def write() -> None:
            for key, value in settings.items():
                Path("/proc/sys/net", key).write_text(value)

        self.inside(write)

    def checksum_in_software(self, *devices: str) -> None:
        """Let the kernel finish checksums and segments before a frame leaves *devices*.

        A veth leaves both to the receiver, and a receiver that reads raw frames, as OVS's userspace datapath
        does, passes them on unfinished.
        """
        for device in devices:
            self.run("ethtool", "-K", device, "tx", "off")


def create(names: Iterable[str]) -> None:
    """Make namespaces, each with its loopback up."""
    names = list(names)
    shell.run("ip", "-batch", "-", stdin="".join(f"netns add {name}\n" for name in names))
    for name in names:
        Namespace(name).ip("link set lo up")


def existing(prefix: str) -> list[str]:
    """Return the names of all namespaces that begin with *prefix*."""
    if not shell.NAMESPACES.is_dir():
        return []
    return sorted(path.name for path in shell.NAMESPACES.iterdir() if path.name.startswith(prefix))


def delete(names: Iterable[str]) -> None:
    """Remove namespaces; one that is gone already is no error."""
    lines = "".join(f"netns del {name}\n" for name in names)
    if lines:
        shell.run("ip", "-force", "-batch", "-", stdin=lines, accept=(0, 1))
