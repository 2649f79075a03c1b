// Parallel coordinates: an axis for every key that differs and for the result, a line for every
// run.

import { el, svg } from "./dom.js";
import { loss, setting } from "./format.js";
import { dasharray } from "./palette.js";

const [WIDTH, HEIGHT, TOP, SIDE, FOOT] = [1100, 260, 34, 110, 14];

/**
 * Where a value stands on its axis, 0 to 1 from below: numbers by size (by their logarithm where
 * they span decades), others in order.
 */
function placed(values) {
  const numbers = values.every((value) => typeof value === "number");
  if (!numbers) {
    const all = [...new Set(values.map(setting))].sort((left, right) =>
      left.localeCompare(right, undefined, { numeric: true }),
    );
    return {
      ends: all.map((text, at) => [text, all.length > 1 ? at / (all.length - 1) : 0.5]),
      place: (value) => (all.length > 1 ? all.indexOf(setting(value)) / (all.length - 1) : 0.5),
    };
  }
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const log = low > 0 && high / low >= 10;
  const scale = (value) => (log ? Math.log(value) : value);
  const place = (value) =>
    high === low ? 0.5 : (scale(value) - scale(low)) / (scale(high) - scale(low));
  return {
    ends:
      high === low
        ? [[setting(low), 0.5]]
        : [
            [setting(low), 0],
            [setting(high), 1],
          ],
    place,
  };
}

/** A number where a text is one. */
const numeric = (value) =>
  typeof value === "string" && value.trim() && Number.isFinite(Number(value))
    ? Number(value)
    : value;

/** A curve from a point to the next, level at both. */
const bend = ([x, y], [nextX, nextY]) =>
  `C${(x + nextX) / 2} ${y} ${(x + nextX) / 2} ${nextY} ${nextX} ${nextY}`;

const short = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);

/**
 * The drawing. `runs` are {id, row, look, index}: index is the run's place in `differences` and
 * `results`.
 */
export function parallel(runs, differences, results) {
  const result =
    results.find(
      ({ key, values }) =>
        key === "best_valid_loss" && values.some((value) => typeof value === "number"),
    ) ?? results.find(({ key }) => key === "loss");
  const columns = [...differences.slice(0, 9), ...(result ? [{ ...result, result: true }] : [])];
  const axes = columns.map((column, at) => {
    const values = column.values.map(numeric);
    const known = runs
      .map(({ index }) => values[index])
      .filter((value) => value !== null && value !== undefined);
    return {
      ...column,
      values,
      ...placed(known),
      x: columns.length > 1 ? SIDE + (WIDTH - 2 * SIDE) * (at / (columns.length - 1)) : WIDTH / 2,
    };
  });
  const y = (share) => TOP + (HEIGHT - TOP - FOOT) * (1 - share);
  const drawing = svg("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    role: "img",
    "aria-label": `Runs over ${axes.map(({ key }) => key).join(", ")}`,
  });
  for (const { x } of axes)
    drawing.append(svg("line", { class: "axis", x1: x, x2: x, y1: y(0), y2: y(1) }));
  for (const { row, look, index } of runs) {
    const points = axes.flatMap(({ values, place, x }) =>
      values[index] === null || values[index] === undefined ? [] : [[x, y(place(values[index]))]],
    );
    if (points.length < 1) continue;
    const d = points
      .map(([px, py], at) => (at === 0 ? `M${px} ${py}` : bend(points[at - 1], [px, py])))
      .join("");
    const says = [
      row?.name,
      ...axes.map(({ key, values }) => `${key} = ${setting(values[index])}`),
    ].join("\n");
    drawing.append(
      svg(
        "g",
        { class: "way", tabindex: "0", role: "img", "aria-label": says },
        svg("title", {}, says),
        svg("path", { class: "hit", d }),
        svg("path", {
          class: "drawn",
          d,
          stroke: look.colour,
          "stroke-dasharray": dasharray(look.dash),
        }),
        points.map(([px, py]) => svg("circle", { cx: px, cy: py, r: 3, fill: look.colour })),
      ),
    );
  }
  for (const axis of axes) {
    drawing.append(
      svg(
        "text",
        { x: axis.x, y: 14, "text-anchor": "middle" },
        svg("title", {}, axis.key),
        short(axis.key, 26),
      ),
    );
    for (const [text, share] of axis.ends)
      drawing.append(
        svg(
          "text",
          { x: axis.x + 9, y: y(share) + 4 },
          short(axis.result ? loss(Number(text)) : text, 16),
        ),
      );
  }
  return el("div", { class: "sheet pad" }, drawing);
}
