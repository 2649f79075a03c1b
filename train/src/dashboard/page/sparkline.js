// A curve of a few dozen numbers, as small as a word.

import { el, svg } from "./dom.js";
import { loss, NONE } from "./format.js";

const [WIDTH, HEIGHT] = [84, 20];

/** The curve of some losses; the first ones do not pin its scale. */
export function sparkline(values) {
  const points = (values ?? [])
    .map((value, at) => [at, value])
    .filter(([, value]) => value !== null);
  if (points.length < 2) return el("span", { class: "none" }, NONE);
  const settled = points.slice(Math.floor(points.length * 0.06)).map(([, value]) => value);
  const [low, high] = [Math.min(...settled), Math.max(...settled)];
  const x = (at) => 1 + (WIDTH - 4) * (at / (values.length - 1));
  const y = (value) => HEIGHT - 2 - (HEIGHT - 4) * Math.min(1, (value - low) / (high - low || 1));
  const path = points
    .map(([at, value], index) => `${index ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`)
    .join("");
  const [lastAt, last] = points[points.length - 1];
  return svg(
    "svg",
    {
      class: "sparkline",
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      role: "img",
      "aria-label": `loss from ${loss(points[0][1])} to ${loss(last)}`,
    },
    svg("path", { d: path }),
    svg("circle", { cx: x(lastAt), cy: y(last), r: 1.8 }),
  );
}
