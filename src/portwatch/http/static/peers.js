// The other hosts that share a network with this one: who is not online comes first.

import { badge, h, outside, table } from "./dom.js";

const ORDER = ["offline", "unknown", "leaving", "stopped", "online"];
const SHOWN = 200;

const COLUMNS = [
    ["Host", (peer) => outside(peer.host)],
    ["State", (peer) => [badge(peer.state), peer.reason && h("p", { class: "reason" }, outside(peer.reason))]],
    ["Tunnel address", (peer) => peer.tunnel_ip && h("code", null, peer.tunnel_ip)],
    ["Ports", (peer) => String(peer.ports)],
    ["Version", (peer) => peer.version && outside(peer.version)],
];

/** Show *peers*. */
export function showPeers(parent, peers) {
    const known = peers.map((peer) => ({ ...peer, state: peer.state ?? "unknown" }));
    known.sort((one, other) => rank(one) - rank(other));
    table(parent, "Peers", COLUMNS, known.slice(0, SHOWN), (peer) => peer.host);
    parent.querySelector("table").hidden = known.length === 0;
    let note = parent.querySelector(".note");
    if (!note) parent.append((note = h("p", { class: "note quiet" })));
    note.textContent = !known.length
        ? "No other host shares a network with this one."
        : known.length > SHOWN
          ? `${SHOWN} of ${known.length} are shown.`
          : "";
}

const rank = (peer) => (peer.reason ? -1 : ORDER.indexOf(peer.state));
