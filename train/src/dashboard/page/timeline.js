// One timeline: a row a rank, a box for everything that it did, in colour, pattern and label.

import { el, svg } from "./dom.js";
import { micro, percent } from "./format.js";

const KINDS = {
  forward: { title: "forward", pattern: null },
  backward: { title: "backward", pattern: "rising" },
  backward_input: { title: "backward, input (B)", pattern: "rising" },
  weights: { title: "backward, weights (W)", pattern: "dots" },
  overlapped: { title: "forward and backward overlapped", pattern: "falling" },
  wait: { title: "waiting", pattern: null },
};
const [ROW, GAP, LEFT, RIGHT, AXIS] = [24, 5, 64, 92, 22];
let drawings = 0;

const fillOf = (kind) => `var(--${kind.replaceAll("_", "-")})`;

function patterns(id) {
  const mark = (attributes) =>
    svg("path", {
      stroke: "var(--sheet)",
      "stroke-opacity": 0.42,
      "stroke-width": 1.2,
      fill: "none",
      ...attributes,
    });
  const pattern = (name, ...inside) =>
    svg(
      "pattern",
      { id: `${id}-${name}`, width: 7, height: 7, patternUnits: "userSpaceOnUse" },
      inside,
    );
  return svg(
    "defs",
    {},
    pattern("rising", mark({ d: "M-1 1l2-2M0 7l7-7M6 8l2-2" })),
    pattern("falling", mark({ d: "M-1 6l2 2M0 0l7 7M6-1l2 2" })),
    pattern(
      "dots",
      svg("circle", { cx: 2, cy: 2, r: 1, fill: "var(--sheet)", "fill-opacity": 0.5 }),
      svg("circle", { cx: 5.5, cy: 5.5, r: 1, fill: "var(--sheet)", "fill-opacity": 0.5 }),
    ),
  );
}

/** Names of the parts that some timelines have. */
export function partsLegend(lines) {
  const kinds = new Set(
    lines
      .filter(Boolean)
      .flatMap(({ ranks }) => ranks.flatMap(({ slices }) => slices.map(({ kind }) => kind))),
  );
  const id = `parts-${(drawings += 1)}`;
  return el(
    "div",
    { class: "parts" },
    Object.entries(KINDS)
      .filter(([kind]) => kinds.has(kind))
      .map(([kind, { title, pattern }]) =>
        el(
          "span",
          {},
          svg(
            "svg",
            { viewBox: "0 0 22 12", "aria-hidden": "true" },
            patterns(`${id}-${kind}`),
            svg("rect", { width: 22, height: 12, rx: 2, fill: fillOf(kind) }),
            pattern &&
              svg("rect", {
                width: 22,
                height: 12,
                rx: 2,
                fill: `url(#${id}-${kind}-${pattern})`,
              }),
          ),
          title,
        ),
      ),
  );
}

function ticks([from, to], wanted) {
  const rough = (to - from) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((by) => by * power).find((each) => each >= rough);
  const all = [];
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) all.push(at);
  return all;
}

function tip(event, text) {
  let box = document.querySelector(".tip");
  if (!text) return box?.remove();
  if (!box) document.body.append((box = el("div", { class: "tip", role: "tooltip" })));
  box.textContent = text;
  const { left, top, height } = event.target.getBoundingClientRect();
  const [x, y] = event.type === "focus" ? [left, top + height] : [event.clientX, event.clientY];
  box.style.left = `${Math.min(x + 14, innerWidth - box.offsetWidth - 8)}px`;
  box.style.top = `${Math.min(y + 14, innerHeight - box.offsetHeight - 8)}px`;
}

/**
 * A timeline between two times; `zoom` is told a range that was drawn over with the pointer, or
 * null.
 */
export function timeline(line, [from, to], zoom, title) {
  const id = `timeline-${(drawings += 1)}`;
  const width = Math.max(320, (document.getElementById("main").clientWidth || 1200) - 80);
  const height = line.ranks.length * (ROW + GAP) + AXIS;
  const right = width < 600 ? 8 : RIGHT;
  const x = (us) => LEFT + ((us - from) / (to - from)) * (width - LEFT - right);
  const back = (px) => from + ((px - LEFT) / (width - LEFT - right)) * (to - from);
  const drawing = svg(
    "svg",
    {
      viewBox: `0 0 ${width} ${height}`,
      role: "group",
      "aria-label": `${title}: ${line.title}`,
    },
    patterns(id),
    svg(
      "clipPath",
      { id: `${id}-clip` },
      svg("rect", { x: LEFT, y: 0, width: width - LEFT - right, height }),
    ),
  );
  for (const at of ticks([from, to], width / 130)) {
    drawing.append(
      svg("line", { class: "grid-line", x1: x(at), x2: x(at), y1: 0, y2: height - AXIS + 4 }),
      svg("text", { x: x(at), y: height - 4, "text-anchor": "middle" }, micro(at)),
    );
  }
  line.ranks.forEach((rank, at) => {
    const top = at * (ROW + GAP);
    const row = svg("g", {
      "clip-path": `url(#${id}-clip)`,
      role: "list",
      "aria-label": rank.name,
    });
    drawing.append(
      svg(
        "text",
        { x: LEFT - 8, y: top + 16, "text-anchor": "end" },
        svg("title", {}, rank.name),
        rank.name.split(" on ")[0],
      ),
      svg("rect", {
        x: LEFT,
        y: top,
        width: width - LEFT - right,
        height: ROW,
        fill: "var(--sunk)",
      }),
      row,
    );
    if (right > 40)
      drawing.append(
        svg(
          "text",
          { class: "idle", x: width - right + 8, y: top + 16 },
          `${percent(rank.idle_us / line.total_us)} idle`,
        ),
      );
    for (const { name, kind, start_us: start, end_us: end, details } of rank.slices) {
      if (end < from || start > to) continue;
      const [left, wide] = [x(start), Math.max(0.6, x(end) - x(start) - 0.6)];
      const { pattern, title: what } = KINDS[kind] ?? { title: kind };
      const says = [
        `${name}: ${what}`,
        `${micro(end - start)}, from ${micro(start)} to ${micro(end)}`,
        typeof details === "string"
          ? details
          : details
            ? Object.entries(details)
                .map(([key, value]) => `${key} ${value}`)
                .join(", ")
            : "",
      ]
        .filter(Boolean)
        .join("\n");
      const box = svg(
        "g",
        {
          class: "slice",
          role: "listitem",
          "aria-label": says,
          tabindex: "-1",
          onpointermove: (event) => tip(event, says),
          onpointerleave: (event) => tip(event, null),
          onfocus: (event) => tip(event, says),
          onblur: (event) => tip(event, null),
        },
        svg("rect", {
          class: "face",
          x: left,
          y: top,
          width: wide,
          height: ROW,
          rx: wide > 6 ? 2 : 0,
          fill: fillOf(KINDS[kind] ? kind : "wait"),
        }),
        pattern &&
          wide > 3 &&
          svg("rect", {
            x: left,
            y: top,
            width: wide,
            height: ROW,
            fill: `url(#${id}-${pattern})`,
            "pointer-events": "none",
          }),
      );
      if (kind !== "wait" && wide > 7 * name.length + 6) {
        const middle =
          Math.max(left, LEFT) + (Math.min(left + wide, width - right) - Math.max(left, LEFT)) / 2;
        box.append(
          svg(
            "text",
            { class: `on-${kind}`, x: middle, y: top + 16, "text-anchor": "middle" },
            name,
          ),
        );
      }
      row.append(box);
    }
  });

  const chosen = svg("rect", {
    y: 0,
    height: height - AXIS,
    fill: "var(--accent)",
    "fill-opacity": 0.18,
    visibility: "hidden",
    "pointer-events": "none",
  });
  drawing.append(chosen);
  const at = (event) => {
    const { left, width: shown } = drawing.getBoundingClientRect();
    return ((event.clientX - left) / shown) * width;
  };
  let began = null;
  drawing.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "mouse" && event.button === 0) began = at(event);
  });
  drawing.addEventListener("pointermove", (event) => {
    if (began === null || Math.abs(at(event) - began) < 4) return;
    chosen.setAttribute("visibility", "visible");
    chosen.setAttribute("x", Math.min(began, at(event)));
    chosen.setAttribute("width", Math.abs(at(event) - began));
  });
  drawing.addEventListener("pointerup", (event) => {
    const [first, last] = [began, at(event)];
    began = null;
    chosen.setAttribute("visibility", "hidden");
    if (first !== null && Math.abs(last - first) > 6) {
      tip(event, null);
      zoom([back(Math.min(first, last)), back(Math.max(first, last))]);
    }
  });
  drawing.addEventListener("pointerleave", () => {
    began = null;
    chosen.setAttribute("visibility", "hidden");
  });
  drawing.addEventListener("dblclick", () => zoom(null));

  const busy =
    line.ranks.reduce((sum, rank) => sum + rank.busy_us, 0) /
    (line.ranks.length * line.total_us || 1);
  return el(
    "figure",
    { class: "timeline sheet", "aria-label": title },
    el(
      "header",
      {},
      el("h2", {}, title),
      el("span", { class: "muted" }, line.title),
      el("span", { class: "grow" }),
      el("span", {}, micro(line.total_us)),
      el("span", { class: "muted" }, `${percent(1 - busy)} idle`),
    ),
    drawing,
  );
}
