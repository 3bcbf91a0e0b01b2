"""What is counted and measured: the metrics of docs/contract.md, section 5, on a registry of their own.

Callers count where things happen: `metrics.flow_mods.labels(bridge, "add").inc()`. Every series that can be
named beforehand exists from the start, at 0, so that a rate over it is right from its first event on.
"""

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.metrics_core import Metric

from portwatch.model import LocalVlan, Status

COMPONENTS: Final = ("ovsdb", "switch", "bus")
EVENT_TYPES: Final = ("portwatch.port.added", "portwatch.port.updated", "portwatch.port.removed")
ORIGINS: Final = ("local", "remote")
PEER_STATES: Final = ("online", "stopped", "leaving", "offline")
OPS: Final = ("add", "delete")
RESULTS: Final = ("committed", "rejected", "unavailable", "unknown")
STAGES: Final = ("local", "published", "remote")

SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Bucket bounds: a bundle takes a few milliseconds, a resync of a large host seconds."""

REASONS_MAX: Final = 32
OTHER: Final = "other"


class Metrics:
    """All metrics of one agent, which programs *bridges* and refuses messages for *reasons*."""

    content_type: Final = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, version: str, *, bridges: Sequence[str] = (), reasons: Sequence[str] = ()) -> None:
        self.registry = registry = _Registry()

        self.build_info = Gauge(
            "portwatch_build_info",
            "The running version of portwatch, as a label; the value is always 1.",
            ["version"],
            registry=registry,
        )
        self.connected = Gauge(
            "portwatch_connected",
            "Whether portwatch is connected to OVSDB, the switch and the bus: 1 or 0.",
            ["component"],
            registry=registry,
        )
        self.reconnects = Counter(
            "portwatch_reconnects_total",
            "Connections made again after they were lost.",
            ["component"],
            registry=registry,
        )
        self.ports = Gauge("portwatch_ports", "Ports on this host by their status.", ["status"], registry=registry)
        self.networks = Gauge("portwatch_networks", "Networks that have a port on this host.", registry=registry)
        self.peers = Gauge(
            "portwatch_peers", "Other hosts that share a network with this one.", ["state"], registry=registry
        )
        self.remote_ports = Gauge(
            "portwatch_remote_ports", "Ports of other hosts that are known here.", registry=registry
        )
        self.port_events = Counter(
            "portwatch_port_events_total",
            "Port events by type, of this host (local) and from the bus (remote).",
            ["type", "origin"],
            registry=registry,
        )
        self.bus_rejected = Counter(
            "portwatch_bus_rejected_total",
            "Messages from the bus that were refused and changed nothing.",
            ["reason"],
            registry=registry,
        )
        self.flows = Gauge(
            "portwatch_flows",
            "Flows on the bridge that portwatch owns, without those the switch learned.",
            ["bridge"],
            registry=registry,
        )
        self.flow_mods = Counter(
            "portwatch_flow_mods_total",
            "Modifications of flows and groups in committed bundles.",
            ["bridge", "op"],
            registry=registry,
        )
        self.bundles = Counter(
            "portwatch_bundles_total",
            "Bundles sent to the switch, by what became of them. After unknown the bridge is read back.",
            ["bridge", "result"],
            registry=registry,
        )
        self.bundle_seconds = Histogram(
            "portwatch_bundle_seconds",
            "Time from handing a bundle to the switch to its answer.",
            ["bridge"],
            buckets=SECONDS,
            registry=registry,
        )
        self.flow_drift = Counter(
            "portwatch_flow_drift_total",
            "Own flows and groups that somebody else removed or changed, and that were put back.",
            ["bridge"],
            registry=registry,
        )
        self.convergence_seconds = Histogram(
            "portwatch_convergence_seconds",
            "Time that news of a port takes. local: from a change seen in OVSDB to flows committed here;"
            " published: from seen to on the bus; remote: from the other host's event to flows committed here"
            " (two clocks).",
            ["stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self.resync_seconds = Histogram(
            "portwatch_resync_seconds",
            "Time to read the switch back, compare and mend: at the start, after restarts and for drift.",
            buckets=SECONDS,
            registry=registry,
        )
        self.networks_incomplete = Gauge(
            "portwatch_networks_incomplete",
            "Networks in which a host's ports do not match its manifest, so that nothing is removed there.",
            registry=registry,
        )
        self.mac_conflicts = Gauge(
            "portwatch_mac_conflicts",
            "MAC addresses that several hosts claim as active at once.",
            registry=registry,
        )
        self.tunnel_address_conflicts = Gauge(
            "portwatch_tunnel_address_conflicts",
            "Hosts whose tunnel address is another's, so that their claims are ignored; this host perhaps among them.",
            registry=registry,
        )
        self.mac_moves = Counter(
            "portwatch_mac_moves_total",
            "Changes of the host that a MAC address is sent to.",
            registry=registry,
        )
        self.mac_frozen = Gauge(
            "portwatch_mac_frozen",
            "MAC addresses that moved too often and are flooded instead of being sent to one host.",
            registry=registry,
        )
        self.vlan_free = Gauge(
            "portwatch_vlan_free",
            "Local VLANs left for networks that come to this host.",
            registry=registry,
        )
        self.orphan_interfaces = Gauge(
            "portwatch_orphan_interfaces",
            "Interfaces on the integration bridge whose device is gone (ofport -1): rows that were left behind.",
            registry=registry,
        )
        self.last_event_id = Gauge(
            "portwatch_last_event_id",
            "Number of the last event this agent published in this session.",
            registry=registry,
        )

        self.certificate_expiry = Gauge(
            "portwatch_certificate_expiry_timestamp_seconds",
            "When the certificate in use for a component ends, as Unix time; 0 when its file cannot be read.",
            ["component"],
            registry=registry,
        )

        self._reasons = {OTHER}
        self.build_info.labels(version).set(1)
        self.vlan_free.set(LocalVlan.HIGHEST)  # 0 would be an alarm until somebody has counted
        self._begin(bridges, reasons)

    def refused(self, reason: str) -> None:
        """Count a refused message; a reason beyond the `REASONS_MAX` first ones is counted as `other`."""
        if reason not in self._reasons:
            if len(self._reasons) >= REASONS_MAX:
                reason = OTHER
            self._reasons.add(reason)
        self.bus_rejected.labels(reason).inc()

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format, of the type `content_type`."""
        return generate_latest(self.registry)

    def _begin(self, bridges: Sequence[str], reasons: Sequence[str]) -> None:
        """Let every series exist whose labels are known beforehand."""
        known: tuple[tuple[Counter | Gauge | Histogram, tuple[Iterable[str], ...]], ...] = (
            (self.connected, (COMPONENTS,)),
            (self.reconnects, (COMPONENTS,)),
            (self.ports, (Status,)),
            (self.peers, (PEER_STATES,)),
            (self.port_events, (EVENT_TYPES, ORIGINS)),
            (self.bus_rejected, ((OTHER, *reasons),)),
            (self.flows, (bridges,)),
            (self.flow_mods, (bridges, OPS)),
            (self.bundles, (bridges, RESULTS)),
            (self.bundle_seconds, (bridges,)),
            (self.flow_drift, (bridges,)),
            (self.convergence_seconds, (STAGES,)),
        )
        for metric, labels in known:
            for values in product(*labels):
                metric.labels(*values)
        self._reasons.update(reasons)


class _Registry(CollectorRegistry):
    """A registry without `_created` series: the library's switch for them holds for the whole process."""

    def collect(self) -> Iterable[Metric]:
        for metric in super().collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric
