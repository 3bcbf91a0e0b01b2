// The networks that have a port here, and a map of one of them: the network in the middle, its hosts around it.

import { count, h, keep, mood, outside, s } from "./dom.js";

const AROUND = 10; // hosts that a ring takes; more stand in rows
const SHOWN = 60;
const NARROW = 460; // pixels in which boxes around a ring would lie on each other
const ORDER = { bad: 0, waiting: 1, off: 2, good: 3 };

/** Show *networks* to choose from; *chosen* is pressed, and *choose* is called with another one's id. */
export function showNetworks(parent, networks, chosen, choose) {
    const items = networks.map((network) => ({ network, chosen: network.network_id === chosen }));
    keep(
        parent,
        items,
        ({ network }) => network.network_id,
        ({ network, chosen: pressed }) => {
            const faults = faultsOf(network);
            return h(
                "li",
                null,
                h(
                    "button",
                    { type: "button", "aria-pressed": String(pressed), click: () => choose(network.network_id) },
                    h("strong", null, outside(network.network_id)),
                    h("span", { class: "quiet" }, ` ${network.segments.map(segmentText).join(", ") || "not wired"}`),
                    h(
                        "span",
                        { class: "quiet line" },
                        `${count(network.local_ports, "port")} here, ${elsewhere(network)}`,
                    ),
                ),
                faults.map((fault) => h("p", { class: "reason" }, outside(fault))),
            );
        },
    );
}

function elsewhere(network) {
    const hosts = Object.keys(network.hosts).length - 1;
    return hosts ? `${network.remote_ports} on ${count(hosts, "other host")}` : "none elsewhere";
}

const segmentText = (segment) => `${segment.type} ${segment.id ?? ""}`.trim();

/** Return what is wrong with a network, a sentence each. */
export function faultsOf(network) {
    const faults = [];
    if (!network.complete)
        faults.push(`Incomplete: not all ports of ${network.incomplete_hosts.join(", ")} have arrived.`);
    for (const other of network.disagreeing) {
        faults.push(`${other.host} has it as ${segmentText(other)}: the two are not mixed.`);
    }
    for (const { mac, hosts } of network.frozen) {
        faults.push(`${mac} moved too often between ${hosts.join(" and ")}: it is flooded.`);
    }
    for (const { mac, hosts } of network.contested) {
        faults.push(`${mac} is claimed by ${hosts.join(" and ")}: each delivers to its own.`);
    }
    return faults;
}

/** Draw *network* and its hosts into *parent*; *states*: how each of the other hosts is. */
export function drawMap(parent, network, here, states) {
    if (!network) {
        parent.replaceChildren(h("p", { class: "quiet" }, "No network has a port here."));
        return;
    }
    const hosts = Object.entries(network.hosts).map(([name, ports]) => {
        const apart = network.disagreeing.some((other) => other.host === name);
        const partial = network.incomplete_hosts.includes(name);
        const state = name === here ? "online" : (states.get(name) ?? "unknown");
        const feeling = apart ? "bad" : partial ? "waiting" : mood(state);
        const words = apart ? "another VNI" : partial ? "incomplete" : state;
        return { name, ports, feeling, words: name === here ? "this host" : words, here: name === here };
    });
    hosts.sort(
        (one, other) =>
            other.here - one.here || ORDER[one.feeling] - ORDER[other.feeling] || (one.name < other.name ? -1 : 1),
    );
    const width = Math.max(280, Math.floor(parent.clientWidth));
    const words = hosts.slice(0, SHOWN).map((host) => `${host.name}: ${host.words}, ${count(host.ports, "port")}`);
    const label = `Hosts of the network ${network.network_id}. ${words.join("; ")}.`;
    const draw = hosts.length > AROUND ? inRows : width < NARROW ? alongLine : inRing;
    parent.replaceChildren(draw(network, hosts.slice(0, SHOWN), width, label));
    if (hosts.length > SHOWN) {
        parent.append(
            h("p", { class: "quiet" }, `And ${count(hosts.length - SHOWN, "more host")}, none worse than these.`),
        );
    }
}

const BOX = { width: 116, height: 46 };
const HUB = 38;

function inRing(network, hosts, width, label) {
    const height = Math.max(210, Math.min(380, 150 + 46 * Math.ceil(hosts.length / 2)));
    const middle = { x: width / 2, y: height / 2 };
    const reach = { x: Math.min(middle.x - BOX.width / 2 - 4, 260), y: middle.y - BOX.height / 2 - 4 };
    const places = hosts.map((host, number) => {
        const angle = -Math.PI / 2 + (2 * Math.PI * number) / hosts.length;
        return { host, x: middle.x + reach.x * Math.cos(angle), y: middle.y + reach.y * Math.sin(angle) };
    });
    return s(
        "svg",
        { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label, class: "map" },
        places.map(({ host, x, y }) =>
            s("line", { x1: middle.x, y1: middle.y, x2: x, y2: y, class: `cable ${host.feeling}` }),
        ),
        hub(network, middle.x, middle.y),
        places.map(({ host, x, y }) => box(host, x - BOX.width / 2, y - BOX.height / 2)),
    );
}

function alongLine(network, hosts, width, label) {
    const rows = Math.ceil(hosts.length / 2);
    const pitch = BOX.height + 12;
    const height = 2 * HUB + 16 + rows * pitch;
    const middle = width / 2;
    const places = hosts.map((host, number) => ({
        host,
        left: number % 2 === 0,
        y: 2 * HUB + 12 + Math.floor(number / 2) * pitch + BOX.height / 2,
    }));
    return s(
        "svg",
        { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label, class: "map" },
        s("line", { x1: middle, y1: HUB, x2: middle, y2: places.at(-1).y, class: "cable trunk" }),
        places.map(({ host, left, y }) =>
            s("line", {
                x1: middle,
                y1: y,
                x2: left ? BOX.width : width - BOX.width,
                y2: y,
                class: `cable ${host.feeling}`,
            }),
        ),
        hub(network, middle, HUB + 2),
        places.map(({ host, left, y }) => box(host, left ? 0 : width - BOX.width, y - BOX.height / 2)),
    );
}

function inRows(network, hosts, width, label) {
    const gap = 6;
    const columns = Math.max(2, Math.floor((width + gap) / (BOX.width + gap)));
    const wide = (width - gap * (columns - 1)) / columns;
    const height = Math.ceil(hosts.length / columns) * (BOX.height + gap);
    return s(
        "svg",
        { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label, class: "map" },
        hosts.map((host, number) =>
            box(host, (number % columns) * (wide + gap), Math.floor(number / columns) * (BOX.height + gap), wide),
        ),
    );
}

function hub(network, x, y) {
    return s(
        "g",
        null,
        s("circle", { cx: x, cy: y, r: HUB, class: "hub" }),
        text(x, y - 2, cut(network.network_id, 10), "name"),
        text(x, y + 15, cut(network.segments.map(segmentText)[0] ?? "not wired", 12), "small"),
    );
}

function box(host, x, y, width = BOX.width) {
    return s(
        "g",
        { class: `host ${host.feeling}${host.here ? " here" : ""}` },
        s("title", null, host.name),
        s("rect", { x: x + 1, y: y + 1, width: width - 2, height: BOX.height - 2, rx: 6 }),
        text(x + width / 2, y + 19, cut(host.name, Math.floor(width / 8.2)), "name"),
        text(x + width / 2, y + 36, `${host.words} · ${host.ports}`, "small"),
    );
}

const text = (x, y, words, kind) => s("text", { x, y, "text-anchor": "middle", class: kind }, words);

function cut(words, most) {
    const letters = [...words];
    return letters.length > most ? `${letters.slice(0, most - 1).join("")}…` : words;
}
