// Events as they happen, the newest first; and word to whoever wants to look again.

import { badge, explainer, h, outside } from "./dom.js";

const KEPT = 100;
const AGAIN = 5000;
const SIGNS = { added: ["good", "+"], updated: ["quiet", "~"], removed: ["bad", "−"] };

/** Follow the agent's events for ever; *happened* is called for each, and *connected* whenever that changes. */
export function follow(url, happened, connected) {
    const source = new EventSource(url);
    source.addEventListener("open", () => connected(true));
    source.addEventListener("error", () => {
        connected(false);
        // A browser tries again by itself, but not after an answer that was no stream: an agent that is starting.
        if (source.readyState === EventSource.CLOSED) setTimeout(() => follow(url, happened, connected), AGAIN);
    });
    for (const kind of Object.keys(SIGNS)) {
        source.addEventListener(`portwatch.port.${kind}`, (message) => happened(kind, JSON.parse(message.data)));
    }
}

/** Put an event on top of *list*. */
export function showEvent(list, kind, event) {
    const { port_id: port, host, network_id: network, status, state, reason } = event.data;
    const [feeling, sign] = SIGNS[kind];
    list.prepend(
        h(
            "li",
            null,
            h("time", { datetime: event.time, class: "quiet" }, new Date(event.time).toLocaleTimeString("en-GB")),
            h("span", { class: `badge ${feeling}` }, h("span", { "aria-hidden": "true" }, `${sign} `), kind),
            h("span", null, explainer(port), " on ", outside(host), network && [" in ", outside(network)]),
            kind !== "removed" && h("span", null, badge(status), state !== "active" && ` ${state}`),
            reason && h("span", { class: "reason" }, outside(reason)),
        ),
    );
    while (list.children.length > KEPT) list.lastElementChild.remove();
}
