// Elements, made and kept. What comes from outside goes in as text and as nothing else: names are written by others.

const SVG = "http://www.w3.org/2000/svg";

/** Return an HTML element; functions among the attributes are listeners, null and false leave one out. */
export const h = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);

/** Return an SVG element. */
export const s = (name, attributes, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

function fill(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes ?? {})) {
        if (typeof value === "function") element.addEventListener(name, value);
        else if (value !== null && value !== undefined && value !== false)
            element.setAttribute(name, value === true ? "" : value);
    }
    element.append(
        ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
    );
    return element;
}

const kept = new WeakMap();

/** Make *parent* show *items* in order; one that is as before keeps its element, and with it the focus. */
export function keep(parent, items, keyOf, build) {
    const before = kept.get(parent) ?? new Map();
    const after = new Map();
    const keys = new Set(items.map(keyOf));
    for (const [key, { element }] of before) if (!keys.has(key)) element.remove();
    let place = parent.firstElementChild;
    for (const item of items) {
        const key = keyOf(item);
        const text = JSON.stringify(item);
        let entry = before.get(key);
        if (entry?.text !== text) {
            const element = build(item);
            if (entry) {
                const focused = entry.element.contains(document.activeElement);
                if (place === entry.element) place = element;
                entry.element.replaceWith(element);
                if (focused) element.querySelector("button")?.focus();
            }
            entry = { text, element };
        }
        after.set(key, entry);
        if (entry.element === place) place = place.nextElementSibling;
        else parent.insertBefore(entry.element, place);
    }
    kept.set(parent, after);
}

/** Return text from outside, set apart, so that letters that run from right to left disturb nothing around them. */
export const outside = (text) => h("bdi", { class: "outside" }, String(text));

const SIGNS = {
    ACTIVE: ["good", "✓"],
    BUILD: ["waiting", "…"],
    DOWN: ["off", "○"],
    ERROR: ["bad", "✕"],
    online: ["good", "✓"],
    stopped: ["off", "○"],
    leaving: ["waiting", "→"],
    offline: ["bad", "✕"],
    active: ["good", "✓"],
    preparing: ["waiting", "…"],
    unknown: ["off", "?"],
};

const sign = (state) => (Object.hasOwn(SIGNS, state) ? SIGNS[state] : SIGNS.unknown);

/** Return how good a state is: good, waiting, off or bad. */
export const mood = (state) => sign(state)[0];

/** Return a state as a badge: a sign, a word and a colour, each of which says it. */
export function badge(state) {
    const [feeling, mark] = sign(state);
    return h("span", { class: `badge ${feeling}` }, h("span", { "aria-hidden": "true" }, `${mark} `), state);
}

/** Return a button that explains a name. */
export const explainer = (name) => h("button", { type: "button", class: "link", "data-explain": name }, outside(name));

/**
 * Show *rows* as a table in *parent*; a narrow screen shows each as a card. *columns*: [heading, cell of a row].
 * The roles are said, for CSS that lays a table out as cards takes them away.
 */
export function table(parent, label, columns, rows, keyOf) {
    let body = parent.querySelector("tbody");
    if (!body) {
        const heads = columns.map(([heading]) => h("th", { role: "columnheader", scope: "col" }, heading));
        body = h("tbody", { role: "rowgroup" });
        parent.append(
            h(
                "table",
                { role: "table", "aria-label": label },
                h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, heads)),
                body,
            ),
        );
    }
    keep(body, rows, keyOf, (row) =>
        h(
            "tr",
            { role: "row" },
            columns.map(([heading, cell]) => {
                const content = [cell(row)]
                    .flat(Infinity)
                    .filter((part) => part !== null && part !== undefined && part !== "");
                return h(
                    "td",
                    { role: "cell", class: content.length ? null : "empty" },
                    h("span", { class: "label", "aria-hidden": "true" }, heading),
                    h("span", { class: "value" }, content),
                );
            }),
        ),
    );
}

/** Return seconds for people. */
export function duration(seconds) {
    if (seconds < 0.01) return `${(seconds * 1000).toFixed(1)}\u00a0ms`;
    if (seconds < 1) return `${Math.round(seconds * 1000)}\u00a0ms`;
    return `${seconds.toFixed(seconds < 10 ? 1 : 0)}\u00a0s`;
}

/** Return a number with its noun. */
export const count = (number, noun, plural = `${noun}s`) =>
    `${number.toLocaleString("en")} ${number === 1 ? noun : plural}`;
