// A heat map as a chart: steps by experts or layers, with its scale beside it.

import { Chart } from "./chart.js";
import { el } from "./dom.js";
import { number } from "./format.js";
import { around, CIVIDIS, colour } from "./palette.js";

/**
 * A heat map. `data` gives {x, y, z, low, high, hover} or null; z is [y][x]. Around `even` the
 * colours
 * part to both sides, without it they go from little to much.
 */
export function heatMap({
  title,
  about,
  file,
  view,
  data,
  even = null,
  tall = false,
  wide = false,
  extra = null,
}) {
  const bar = el("i", {
    class: even === null ? "scale little-much" : "scale around-even",
    "aria-hidden": "true",
  });
  const [from, to] = [el("span"), el("span")];
  const scale = el("span", { class: "scales caption" }, from, bar, to);
  return new Chart({
    title,
    about,
    file,
    view,
    tall,
    wide,
    extra: el("span", { class: "map-extra" }, extra, scale),
    draw: () => {
      const found = data();
      if (!found || !found.z.length || !found.x.length) return null;
      const { x, y, z, low, high, hover } = found;
      from.textContent = number(low);
      to.textContent = even === null ? number(high) : `${number(high)} (even is ${number(even)})`;
      return {
        traces: [
          {
            type: "heatmap",
            name: title,
            x,
            y,
            z,
            zmin: low,
            zmax: high,
            showscale: false,
            colorscale: even === null ? CIVIDIS : around(),
            // A gap that cannot be seen: without one plotly scales an image, for which it writes
            // styles.
            ygap: 0.001,
            hoverongaps: false,
            hovertemplate: `${hover}: %{z:.4~g}<extra></extra>`,
          },
        ],
        range: [-0.5, y.length - 0.5],
        x: { tickformat: ",", showgrid: false },
        y: {
          type: "category",
          showgrid: false,
          fixedrange: true,
          dtick: Math.max(1, Math.ceil(y.length / 16)),
          range: [-0.5, y.length - 0.5],
        },
        layout: {
          hovermode: "closest",
          plot_bgcolor: colour("sunk"),
          margin: { l: 40, r: 14, t: 6, b: 24 },
        },
      };
    },
  });
}
