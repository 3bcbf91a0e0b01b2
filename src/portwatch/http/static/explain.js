// What is known of one port, interface or MAC: where it is delivered and why, who claims it, which flows it has.

import { badge, duration, h, mood, outside, table } from "./dom.js";

const RULES = {
    "attached here": "because it is attached here: a port on this host is always delivered to locally.",
    "only claim": "because no other host claims it.",
    state: "because the claims of the others are not active.",
    "higher seq": "because it was attached there last.",
    "lower tunnel address": "because both were attached in the same moment; the lower tunnel address decides.",
    "lower host name": "because nothing else tells the claims apart; the lower host name decides.",
    "shared: flood and learn": "because several hosts share it.",
    "moved too often: flood and learn":
        "because it moved too often: two hosts fight over it, or a loop brings it back.",
    "no claim that forwards": "because no claim of it forwards: it waits, is down or in error.",
};

const CLAIMS = [
    ["Host", (claim) => [outside(claim.host), claim.wins && h("strong", { class: "steady" }, " — delivered to")]],
    ["Port", (claim) => outside(claim.port_id)],
    ["State", (claim) => badge(claim.state)],
    [
        "Status",
        (claim) => [
            badge(claim.status),
            claim.reason && h("p", { class: `reason ${mood(claim.status)}` }, outside(claim.reason)),
        ],
    ],
    ["Attached", (claim) => h("span", { class: "steady" }, since(claim.seq))],
    [
        "Applied here",
        (claim) =>
            claim.applied && [
                clock(claim.applied),
                h("span", { class: "quiet small line steady" }, `after ${duration(claim.took)}`),
            ],
    ],
    ["Tunnel address", (claim) => claim.tunnel_ip && h("code", null, claim.tunnel_ip)],
];

/** Show in *parent* what *answer* knows of *name*. */
export function showExplanation(parent, name, answer) {
    parent.replaceChildren(
        ...(answer.length
            ? answer.map(entry)
            : [
                  h("p", null, "Nothing is known here of ", outside(name), "."),
                  h(
                      "p",
                      { class: "quiet" },
                      "A port is known if it is plugged in here, or claimed by a host of a network that is here, too. " +
                          "Its Interface needs external_ids:iface-id and an OpenFlow port.",
                  ),
              ]),
    );
}

function entry(found) {
    const claims = found.claims.map((claim) => ({
        ...claim,
        wins: claim.host === found.host && claim.port_id === found.port_id,
    }));
    const claimsTable = h("div", { class: "cards" });
    if (claims.length) table(claimsTable, "Claims", CLAIMS, claims, (claim) => `${claim.host} ${claim.port_id}`);
    const bridges = [...new Set(found.flows.map((item) => item.bridge))];
    return h(
        "article",
        null,
        found.interface && portless(found.interface),
        found.port && plugged(found.port),
        found.rule && delivery(found),
        found.conflict && h("p", { class: "reason" }, "Conflict: another host claims it, too, and would win."),
        claims.length > 0 && [h("h3", null, "Claims"), claimsTable],
        bridges.map((bridge) =>
            flowsOf(
                bridge,
                found.flows.filter((item) => item.bridge === bridge),
            ),
        ),
    );
}

function plugged(port) {
    return [
        h(
            "p",
            null,
            badge(port.status),
            " ",
            outside(port.port_id ?? port.interface),
            " is plugged in here, as ",
            outside(port.interface),
            port.ofport && ` (OpenFlow port ${port.ofport})`,
            port.local_vlan && `, in local VLAN ${port.local_vlan}`,
            ".",
        ),
        port.reason && h("p", { class: `reason ${mood(port.status)}` }, outside(port.reason)),
        written(port.ovsdb),
    ];
}

function portless(found) {
    return [
        h("p", null, "The interface ", outside(found.name), " gives no port here: ", outside(found.reason), "."),
        written(found.ovsdb),
    ];
}

function written(keys) {
    const pairs = Object.entries(keys).map(([key, text]) => [h("code", null, outside(`${key}=${text}`)), " "]);
    return pairs.length > 0 && h("p", { class: "quiet" }, "OVSDB says: ", pairs);
}

function delivery(found) {
    const segment = `${found.network_type} ${found.segmentation_id ?? ""}`.trim();
    const station = [h("code", null, found.mac), " in ", outside(found.network_id), ` (${segment}) `];
    if (found.reason) return h("p", null, station, "is not reached from here: ", outside(found.reason), ".");
    const where = found.host ? ["is delivered to ", outside(found.host)] : ["is flooded"];
    return h(
        "p",
        null,
        station,
        where,
        found.tunnel_ip && [" (", h("code", null, found.tunnel_ip), ")"],
        ` ${RULES[found.rule] ?? `by the rule “${found.rule}”.`}`,
    );
}

function flowsOf(bridge, items) {
    const owed = items.filter((item) => !item.installed).length;
    return [
        h(
            "h3",
            null,
            "Flows on ",
            outside(bridge),
            " ",
            h("span", { class: `badge ${owed ? "waiting" : "good"}` }, owed ? `… ${owed} owed` : "✓ installed"),
        ),
        h(
            "ul",
            { class: "flows" },
            items.map((item) =>
                h(
                    "li",
                    null,
                    !item.installed && h("span", { class: "badge waiting" }, "… owed"),
                    " ",
                    breakable(item.text),
                ),
            ),
        ),
    ];
}

// Every flow here has portwatch's cookie; what differs comes first. A line breaks between fields.
const breakable = (text) =>
    h(
        "code",
        null,
        text
            .replace(/^cookie=[^,]*,/, "")
            .split(/(?<=,)/)
            .flatMap((field) => [field, h("wbr")]),
    );

const clock = (time) => new Date(time).toLocaleTimeString("en-GB");

// A sequence is the millisecond of the attachment, or one more than a rival's: near enough to tell people the time.
function since(sequence) {
    const time = new Date(sequence);
    return sequence > 1e12 && !Number.isNaN(time.getTime())
        ? time.toISOString().slice(0, 19).replace("T", " ")
        : String(sequence);
}
