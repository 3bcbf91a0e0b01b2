"""What tenants run in their VMs: a DHCP and DNS server, and their clients.

All stays in the lab's own files: the client never touches this machine's /etc/resolv.conf, the server reads
neither that nor /etc/hosts.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from tests.lab import shell
from tests.lab.namespaces import Namespace
from tests.lab.processes import Children, Process

START_SECONDS = 10.0
LEASE_TRIES = 20  # one a second

LEASE_SCRIPT = """\
#!/bin/sh
# called by udhcpc; tells the lab what it got, and configures the card
case "$1" in
deconfig) ip -4 address flush dev "$interface"; ip link set "$interface" up ;;
bound | renew)
    ip address replace "$ip/$mask" dev "$interface"
    for gateway in $router; do ip route replace default via "$gateway" dev "$interface"; done
    printf 'ip=%s/%s\\nrouter=%s\\n' "$ip" "$mask" "$router" >"$LAB_LEASE"
    printf 'dns=%s\\ndomain=%s\\n' "$dns" "$domain" >>"$LAB_LEASE" ;;
esac
"""


@dataclass(frozen=True)
class Lease:
    """What a DHCP server gave."""

    ip: str
    router: str
    dns: str
    domain: str


class Dnsmasq:
    """A DHCP and DNS server in a VM. *hosts* maps MAC to address, *names* maps name to address."""

    def __init__(
        self,
        children: Children,
        namespace: Namespace,
        *,
        dhcp_range: str | None = None,
        hosts: Mapping[str, str] | None = None,
        names: Mapping[str, str] | None = None,
        domain: str | None = None,
        device: str = "eth0",
        options: tuple[str, ...] = (),
    ) -> None:
        leases = children.directory / f"{namespace.name}.leases"
        argv = ["dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--user=root", "--no-hosts", "--no-resolv"]
        argv += ["--no-poll", "--bind-interfaces", f"--interface={device}", "--pid-file", "--log-queries"]
        argv += ["--log-dhcp", "--no-ping", "--dhcp-authoritative", f"--dhcp-leasefile={leases}"]
        argv += [f"--dhcp-range={dhcp_range}"] if dhcp_range else []
        argv += [f"--dhcp-host={mac},{address}" for mac, address in (hosts or {}).items()]
        argv += [f"--host-record={name},{address}" for name, address in (names or {}).items()]
        argv += [f"--domain={domain}", f"--local=/{domain}/"] if domain else []
        name = children.unique(f"{namespace.name}-dnsmasq")
        self.process = Process(children, name, [*argv, *options], namespace=namespace, ready=_wait_until_it_serves)
        self.process.start()

    def log_lines(self) -> list[str]:
        """Return its log: every DHCP message and DNS query."""
        return self.process.errors.all()

    def stop(self) -> None:
        self.process.stop()


def dhcp(children: Children, namespace: Namespace, device: str = "eth0", tries: int = LEASE_TRIES) -> Lease:
    """Ask for a lease as a guest does, and configure the card by it; no lease is CommandFailed."""
    script = children.directory / "udhcpc-script"
    if not script.exists():
        script.write_text(LEASE_SCRIPT)
        script.chmod(0o755)
    path = children.directory / f"{namespace.name}-{device}.lease"
    path.unlink(missing_ok=True)
    argv = ["udhcpc", "-f", "-q", "-n", "-i", device, "-s", str(script), "-t", str(tries), "-T", "1"]
    environment = os.environ | {"LAB_LEASE": str(path)}
    shell.run(*argv, namespace=namespace.name, environment=environment, timeout=tries + shell.COMMAND_SECONDS)
    return Lease(**dict(line.split("=", 1) for line in path.read_text().splitlines()))


def resolve(namespace: Namespace, name: str, server: str, kind: str = "A") -> list[str]:
    """Ask a DNS server from *namespace*; return the addresses, none when it has none."""
    argv = ["busybox", "nslookup", f"-type={kind.lower()}", name, server]
    output = shell.run(*argv, namespace=namespace.name, accept=(0, 1))
    answer = output.partition("\n\n")[2]  # what comes before tells of the server
    return [line.split()[-1] for line in answer.splitlines() if line.startswith("Address")]


def _wait_until_it_serves(process: Process) -> None:
    # "started" is logged once its sockets are open
    process.until(lambda: any("started" in line for line in process.errors.all()), START_SECONDS, "serves")
