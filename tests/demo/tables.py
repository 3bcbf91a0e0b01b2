"""The end of the demo: what is plugged where, what the switches hold, and that nothing odd happened."""

from typing import Any

from tests.demo.moments import BRIDGES
from tests.demo.stage import Stage
from tests.lab import Hypervisor

OWN = "cookie=0x7077000000000000/0xffff000000000000"
QUIET = ("portwatch_flow_drift_total", "portwatch_bus_rejected_total")


def nothing_odd(stage: Stage) -> None:
    """No switch refused a bundle, no flow was lost or changed, no message was refused."""
    with stage.proofs.proving("no bundle refused, no drift, no message rejected", *stage.agents) as proof:
        bundles = 0
        for host, agent in stage.agents.items():
            odd = []
            for line in agent.http_get("/metrics")[1].splitlines():
                name, _, value = line.rpartition(" ")
                if name.startswith("portwatch_bundles_total") and 'result="committed"' in name:
                    bundles += int(float(value))
                elif name.startswith((*QUIET, "portwatch_bundles_total")) and float(value):
                    odd.append(line)
            proof.require(not odd, f"{host}: {', '.join(odd)}")
        proof.figure = f"{bundles} bundles committed on {len(stage.agents)} hosts"


def show(stage: Stage) -> None:
    """Show all ports as the agents tell them, which must be those that are plugged, and what the switches hold."""
    with stage.proofs.proving("every port is ACTIVE on its host, and nowhere else", *stage.agents) as proof:
        rows = [_port(host, port) for host in stage.agents for port in stage.ask(host, "ports")]
        stage.screen.table(("host", "port", "network", "VNI", "MAC", "addresses", "status"), rows)
        stage.screen.line()
        heads = ("host", "tunnel address", "ports", *(f"{bridge} flows" for bridge in BRIDGES), "groups", "networks")
        stage.screen.table(heads, [_host(stage, hypervisor) for hypervisor in stage.lab.hypervisors])
        stage.screen.line()
        active = {row[1]: row[0] for row in rows if row[-1] == "ACTIVE"}
        proof.require(len(active) == len(rows) and active == stage.places, f"plugged: {stage.places}")
        proof.figure = f"{len(rows)} ports on {len(stage.agents)} hosts"


def _port(host: str, port: dict[str, Any]) -> list[str]:
    keys = ("port_id", "network_id", "segmentation_id", "mac")
    return [host, *(str(port[key]) for key in keys), ", ".join(port["fixed_ips"]), port["status"]]


def _host(stage: Stage, hypervisor: Hypervisor) -> list[str]:
    """Return what the switch itself says: how many flows and groups of portwatch's it holds."""
    flows = [len(hypervisor.dump_flows(bridge, OWN)) for bridge in BRIDGES]
    groups = sum(len(hypervisor.dump_groups(bridge)) for bridge in BRIDGES)
    plugged = [stage.nics[port].port for port, host in stage.places.items() if host == hypervisor.name]
    networks = sorted({port.network.id for port in plugged if port.network})
    return [hypervisor.name, hypervisor.ip, *map(str, (len(plugged), *flows, groups)), ", ".join(networks)]
