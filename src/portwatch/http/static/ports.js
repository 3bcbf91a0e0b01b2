// This host's ports: what is wrong comes first.

import { badge, explainer, h, mood, outside, table } from "./dom.js";

const ORDER = ["ERROR", "BUILD", "DOWN", "ACTIVE"];
const SHOWN = 200;

const COLUMNS = [
    [
        "Port",
        (port) => [
            port.port_id ? explainer(port.port_id) : outside(port.interface),
            port.port_id && port.interface && h("span", { class: "quiet small" }, " on ", outside(port.interface)),
        ],
    ],
    [
        "Status",
        (port) => [
            badge(port.status),
            port.state && port.state !== "active" && h("span", { class: "quiet" }, ` ${port.state}`),
            port.reason && h("p", { class: `reason ${mood(port.status)}` }, outside(port.reason)),
        ],
    ],
    [
        "Network",
        (port) =>
            port.network_id && [
                outside(port.network_id),
                port.local_vlan && h("span", { class: "quiet small" }, ` VLAN ${port.local_vlan}`),
            ],
    ],
    ["MAC", (port) => port.mac && h("code", null, port.mac)],
    ["Addresses", (port) => (port.fixed_ips ?? []).map((address) => h("code", { class: "line" }, address))],
];

/** Show *ports*, those that contain *wanted*. */
export function showPorts(parent, ports, wanted) {
    const words = wanted.trim().toLowerCase();
    const found = ports
        .filter((port) => !words || JSON.stringify(Object.values(port)).toLowerCase().includes(words))
        .sort((one, other) => ORDER.indexOf(one.status) - ORDER.indexOf(other.status));
    table(
        parent,
        "Ports on this host",
        COLUMNS,
        found.slice(0, SHOWN),
        (port) => port.port_id ?? `interface ${port.interface}`,
    );
    parent.querySelector("table").hidden = found.length === 0;
    let note = parent.querySelector(".note");
    if (!note) parent.append((note = h("p", { class: "note quiet", role: "status" })));
    note.textContent = !ports.length
        ? "No port is plugged in here."
        : !found.length
          ? "No port here contains that."
          : found.length > SHOWN
            ? `${SHOWN} of ${found.length} are shown; filter to see others.`
            : "";
}
