"""What the doctor sees in a real ovsdb-server that is too much for a hypervisor of the lab: thousands of networks."""

from pathlib import Path

import pytest

from portwatch.config import Config, OpenFlow, Ovsdb, OvsdbSocket
from portwatch.doctor.findings import examine
from portwatch.doctor.look import look
from tests.adapters.ovsdb_server import OvsdbServer, insert

pytestmark = [pytest.mark.adapters, pytest.mark.asyncio]

NETWORKS = 3700


async def test_local_vlans_that_are_nearly_used_up_are_found(tmp_path: Path) -> None:
    server = OvsdbServer(tmp_path)
    server.start()
    try:
        server.transact(*_networks(NETWORKS))
        config = Config(ovsdb=Ovsdb(remote=OvsdbSocket(server.socket)), openflow=OpenFlow(rundir=tmp_path))
        findings = {finding.name: finding for finding in examine(await look(config))}
    finally:
        server.kill()

    assert f"{4094 - NETWORKS} of 4094 local VLANs are left" in findings["vlans-nearly-used-up"].what


def _networks(number: int) -> list[dict[str, object]]:
    """Return what makes a bridge with a port in each of so many networks."""
    ports = [f"port{place}" for place in range(number)]
    operations = [
        operation
        for place, port in enumerate(ports, 1)
        for operation in (
            insert("Interface", f"i{port}", name=port),
            insert(
                "Port",
                port,
                name=port,
                tag=place,
                interfaces=["named-uuid", f"i{port}"],
                external_ids=["map", [["portwatch-network", f"network-{place}"]]],
            ),
        )
    ]
    members = ["set", [["named-uuid", port] for port in ports]]
    bridge = insert("Bridge", "bridge", name="br-int", ports=members)
    return [*operations, bridge, insert("Open_vSwitch", "root", bridges=["named-uuid", "bridge"])]
