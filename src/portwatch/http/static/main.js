// The page: asks the agent's /v1 and shows what it says, again after every event, and every few seconds for the rest.

import { count, duration, h, keep, mood } from "./dom.js";
import { follow, showEvent } from "./events.js";
import { showExplanation } from "./explain.js";
import { drawMap, faultsOf, showNetworks } from "./networks.js";
import { showPeers } from "./peers.js";
import { showConvergence, summary } from "./plot.js";
import { showPorts } from "./ports.js";

const VIEWS = ["host", "ports", "networks", "peers", "convergence"];
const EVERY = 5000;
const SOON = 150; // events that come close together are looked at together

const at = (id) => document.getElementById(id);
const seen = { host: {}, ports: [], networks: [], peers: [], convergence: [] };
let chosen = null;
let paused = false;
let timer = null;
let due = Infinity;
let working = false;
let again = false;

async function ask(path) {
    const response = await fetch(path);
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error ?? `${path}: ${response.status}`);
    return answer;
}

async function refresh() {
    due = Infinity;
    if (document.hidden) return; // nobody looks; whoever comes back is shown the news at once
    working = true;
    again = false;
    try {
        const ready = await (await fetch("readyz")).json();
        showComponents(ready.reasons);
        const answers = await Promise.all(VIEWS.map((view) => ask(`v1/${view}`)));
        VIEWS.forEach((view, number) => {
            seen[view] = answers[number];
        });
        showTrouble(null);
        show();
    } catch (error) {
        showTrouble(
            error instanceof TypeError
                ? "The agent does not answer. What you see is what it said last."
                : error.message,
        );
    }
    working = false;
    plan(again ? SOON : EVERY);
}

/** Look again after *delay* milliseconds, or sooner if that is planned already. */
function plan(delay) {
    again = true;
    if (working || due <= Date.now() + delay) return;
    due = Date.now() + delay;
    clearTimeout(timer);
    timer = setTimeout(refresh, delay);
}

function show() {
    at("host").textContent = seen.host.host;
    document.title = `${seen.host.host} – portwatch`;
    const tunnel = seen.host.tunnel_ip
        ? `${seen.host.tunnel_type} from ${seen.host.tunnel_ip}`
        : "no tunnel address: local ports only";
    at("about").textContent =
        `${tunnel} · version ${seen.host.version}${seen.host.leaving ? " · drained: its ports are leaving" : ""}`;
    showFigures();
    showPorts(at("ports-list"), seen.ports, at("filter").value);
    showPeers(at("peers-list"), seen.peers);
    showConvergence(at("plot"), at("stages"), seen.convergence);
    showMap();
}

function showMap() {
    const network = seen.networks.find((each) => each.network_id === chosen) ?? worst(seen.networks);
    showNetworks(at("networks-list"), seen.networks, network?.network_id, (id) => {
        chosen = id;
        showMap();
    });
    drawMap(at("map"), network, seen.host.host, new Map(seen.peers.map((peer) => [peer.host, peer.state])));
}

const worst = (networks) => networks.find((network) => faultsOf(network).length) ?? networks[0];

function showFigures() {
    const number = (status) => seen.ports.filter((port) => port.status === status).length;
    const lost = seen.peers.filter((peer) => peer.state !== "online").length;
    const missed = seen.peers.some((peer) => mood(peer.state) === "bad" || peer.reason);
    const remote = seen.networks.reduce((sum, network) => sum + network.remote_ports, 0);
    const partial = seen.networks.filter((network) => faultsOf(network).length).length;
    const waiting = number("BUILD");
    const local = summary("local", seen.convergence);
    const figures = [
        [
            "Ports active",
            number("ACTIVE"),
            waiting ? `${waiting} waiting` : `of ${seen.ports.length} here`,
            waiting ? "waiting" : "good",
        ],
        [
            "Ports in error",
            number("ERROR"),
            number("ERROR") ? "see the reasons below" : "none",
            number("ERROR") ? "bad" : "good",
        ],
        [
            "Networks",
            seen.networks.length,
            partial ? `${partial} ${partial === 1 ? "needs" : "need"} a look` : `${count(remote, "port")} elsewhere`,
            partial ? "bad" : "good",
        ],
        [
            "Peers",
            seen.peers.length,
            lost ? `${lost} not online` : "all online",
            missed ? "bad" : lost ? "waiting" : "good",
        ],
        ["Local convergence", local ? duration(local.median) : "–", "median of the latest", "quiet"],
    ];
    keep(
        at("figures"),
        figures,
        ([name]) => name,
        ([name, value, words, feeling]) =>
            h(
                "div",
                { class: feeling },
                h("dt", null, name),
                h("dd", { class: "figure" }, String(value)),
                h("dd", { class: "words" }, words),
            ),
    );
}

function showComponents(reasons) {
    const keys = new Set(["ovsdb", "switch", "bus", ...Object.keys(reasons)]);
    const components = [...keys].map((key) => ({ name: key === "ovsdb" ? "OVSDB" : key, why: reasons[key] ?? null }));
    keep(
        at("components"),
        components,
        ({ name }) => name,
        ({ name, why }) =>
            h(
                "li",
                { class: why ? "bad" : "good" },
                h("span", { "aria-hidden": "true" }, why ? "✕ " : "✓ "),
                name,
                h("span", { class: why ? "why" : "unseen" }, why ? `: ${why}` : " connected"),
            ),
    );
}

function showTrouble(words) {
    at("trouble").hidden = !words;
    if (at("trouble").textContent !== (words ?? "")) at("trouble").textContent = words ?? "";
}

async function explain(name) {
    at("explained").textContent = name;
    at("explanation-body").replaceChildren(h("p", { class: "quiet" }, "Asking…"));
    if (!at("explanation").open) at("explanation").showModal();
    try {
        showExplanation(at("explanation-body"), name, await ask(`v1/explain/${encodeURIComponent(name)}`));
    } catch (error) {
        at("explanation-body").replaceChildren(h("p", { class: "reason" }, `The agent cannot say: ${error.message}`));
    }
}

function showLive(connected) {
    at("live").className = `badge ${connected ? "good" : "bad"}`;
    at("live").textContent = connected ? "live" : "not connected";
    if (connected) plan(SOON);
}

at("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    explain(at("name").value.trim());
});
at("close").addEventListener("click", () => at("explanation").close());
at("filter").addEventListener("input", () => showPorts(at("ports-list"), seen.ports, at("filter").value));
at("pause").addEventListener("click", () => {
    paused = !paused;
    at("pause").setAttribute("aria-pressed", String(paused));
});
document.addEventListener("click", (event) => {
    const name = event.target.closest("[data-explain]")?.dataset.explain;
    if (name !== undefined) explain(name);
});
document.addEventListener("visibilitychange", () => plan(0));
let drawnAt = window.innerWidth;
window.addEventListener("resize", () => {
    if (window.innerWidth === drawnAt || !seen.host.host) return;
    drawnAt = window.innerWidth;
    showMap();
    showConvergence(at("plot"), at("stages"), seen.convergence);
});

follow(
    "v1/events",
    (kind, event) => {
        if (!paused) {
            showEvent(at("events-list"), kind, event);
            at("no-events").hidden = true;
        }
        plan(SOON);
    },
    showLive,
);
refresh();
