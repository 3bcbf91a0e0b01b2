// Convergence: each piece of news as a point, when it came against how long it took; and what that comes to by stage.

import { duration, h, s, table } from "./dom.js";

const STAGES = {
    local: "OVSDB change here → flows committed here",
    published: "OVSDB change here → on the bus",
    remote: "another host's event → flows committed here",
};
const EDGE = { left: 54, right: 8, top: 8, bottom: 22 };
const HEIGHT = 210;

const COLUMNS = [
    ["Stage", (row) => [mark(row.stage), ` ${row.stage}`, h("span", { class: "quiet small line" }, STAGES[row.stage])]],
    ["Median", (row) => duration(row.median)],
    ["95\u00a0%", (row) => duration(row.most)],
    ["Worst", (row) => duration(row.worst)],
];

/** Show *timings* as points in *parent* and as numbers in *below*. */
export function showConvergence(parent, below, timings) {
    const rows = Object.keys(STAGES)
        .map((stage) => summary(stage, timings))
        .filter(Boolean);
    below.hidden = rows.length === 0;
    table(below, "Convergence by stage", COLUMNS, rows, (row) => row.stage);
    parent.replaceChildren(
        timings.length
            ? draw(timings, Math.max(280, Math.floor(parent.clientWidth)))
            : h("p", { class: "quiet" }, "No port has come or gone yet."),
    );
}

/** Return what the timings of a stage come to; null when there are none. */
export function summary(stage, timings) {
    const seconds = timings
        .filter((timing) => timing.stage === stage)
        .map((timing) => timing.seconds)
        .sort((a, b) => a - b);
    if (!seconds.length) return null;
    const at = (share) => seconds[Math.min(seconds.length - 1, Math.floor(share * seconds.length))];
    return { stage, median: at(0.5), most: at(0.95), worst: seconds.at(-1) };
}

function draw(timings, width) {
    const times = timings.map((timing) => Date.parse(timing.time));
    const [first, last] = [Math.min(...times), Math.max(...times)];
    const all = timings.map((timing) => Math.max(timing.seconds, 1e-4));
    const low = Math.floor(Math.log10(Math.min(...all, 1e-3)));
    const high = Math.max(low + 2, Math.ceil(Math.log10(Math.max(...all))));
    const inner = { width: width - EDGE.left - EDGE.right, height: HEIGHT - EDGE.top - EDGE.bottom };
    const across = (time) =>
        EDGE.left + inner.width * (last === first ? 0.5 : 0.01 + (0.98 * (time - first)) / (last - first));
    const up = (seconds) => EDGE.top + inner.height * (1 - (Math.log10(Math.max(seconds, 1e-4)) - low) / (high - low));
    const lines = [];
    for (let power = low; power <= high; power += 1) {
        const y = up(10 ** power);
        lines.push(
            s("line", { x1: EDGE.left, x2: width - EDGE.right, y1: y, y2: y, class: "grid" }),
            s("text", { x: EDGE.left - 6, y: y + 4, "text-anchor": "end" }, unit(power)),
        );
    }
    const label = `${timings.length} timings from ${clock(first)} to ${clock(last)}; the table below sums them up.`;
    return s(
        "svg",
        { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": label, class: "plot" },
        lines,
        s("text", { x: EDGE.left, y: HEIGHT - 4 }, clock(first)),
        s("text", { x: width - EDGE.right, y: HEIGHT - 4, "text-anchor": "end" }, clock(last)),
        timings.map((timing, number) => {
            const point = shape(timing.stage, across(times[number]), up(timing.seconds), 4);
            point.append(
                s("title", null, `${timing.port_id} of ${timing.host}: ${timing.stage}, ${duration(timing.seconds)}`),
            );
            return point;
        }),
    );
}

const unit = (power) => (power < 0 ? `${10 ** (power + 3)} ms` : `${10 ** power} s`);
const clock = (time) => new Date(time).toLocaleTimeString("en-GB");

function mark(stage) {
    return s("svg", { width: 12, height: 12, class: "plot mark", "aria-hidden": "true" }, shape(stage, 6, 6, 4.5));
}

function shape(stage, x, y, size) {
    if (stage === "local") return s("circle", { cx: x, cy: y, r: size, class: stage });
    if (stage === "remote") {
        return s("path", { d: `M${x} ${y - size}L${x + size} ${y + size}H${x - size}Z`, class: stage });
    }
    return s("rect", { x: x - size + 0.5, y: y - size + 0.5, width: 2 * size - 1, height: 2 * size - 1, class: stage });
}
