// A chart: title, legend, exports, and a plot that keeps its zoom while numbers come in.

import { el, svg } from "./dom.js";
import { csvOf, download } from "./csv.js";
import { colour, dasharray } from "./palette.js";
import { plotly } from "./plotly.js";

const coarse = matchMedia("(pointer: coarse)");
const seen = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      const chart = target.chart;
      if (!chart) continue;
      chart.visible = isIntersecting;
      if (isIntersecting && chart.dirty) chart.redraw();
    }
  },
  { rootMargin: "200px" },
);

/** What the charts of a page share: the range of the x axis that somebody zoomed to. */
export class View {
  constructor(changed = () => {}) {
    this.range = null;
    this.revision = 0;
    this.charts = new Set();
    this.changed = changed;
  }

  /** Zooms all charts to a range, or back to everything with null. */
  zoom(range) {
    this.range = range;
    this.revision += 1;
    for (const chart of this.charts) {
      chart.low = null;
      chart.update();
    }
    this.changed(range);
  }
}

function settled(traces, range, log, zero) {
  const [from, to] = range ?? [-Infinity, Infinity];
  let [low, high] = [Infinity, -Infinity];
  for (const { x, y, fit } of traces) {
    if (fit === false) continue;
    // The first points of a long line do not pin the scale.
    for (let at = range ? 0 : Math.floor(0.03 * y.length); at < y.length; at += 1) {
      const value = y[at];
      if (
        value === null ||
        value === undefined ||
        x[at] < from ||
        x[at] > to ||
        (log && value <= 0)
      )
        continue;
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  if (!Number.isFinite(low)) return null;
  if (log) [low, high] = [Math.log10(low), Math.log10(high)];
  const atZero = zero && !log && low >= 0;
  const room = (high - (atZero ? 0 : low) || Math.abs(high) * 0.1 || 1) * 0.06;
  return [atZero ? 0 : low - room, high + room];
}

/**
 * A chart. `draw` gives {traces, x, y, log, zero, layout} or null where there is nothing to draw:
 * traces are plotly's, and may have `fit: false` (does not count for the scale), `group` (lines
 * that a
 * name of the legend stands for), `sign` (colour and dash of the legend) and `csv: false`.
 */
export class Chart {
  constructor({
    title,
    about = "",
    file,
    draw,
    view = null,
    tall = false,
    wide = false,
    extra = null,
  }) {
    Object.assign(this, {
      title,
      file,
      draw,
      view,
      hidden: new Set(),
      low: null,
      revision: 0,
      visible: false,
      dirty: true,
    });
    this.legend = el("div", { class: "legend" });
    this.plot = el("div", { class: "plot" });
    const saves = (kind, save) =>
      el(
        "button",
        {
          type: "button",
          class: "plain small",
          onclick: () => {
            this.menu.open = false;
            save();
          },
        },
        kind,
      );
    this.menu = el(
      "details",
      { class: "exports" },
      el("summary", { "aria-label": `Save ${title}` }, "Save"),
      el(
        "div",
        { class: "menu" },
        saves("PNG", () => this.picture("png")),
        saves("SVG", () => this.picture("svg")),
        saves("CSV", () => this.table()),
      ),
    );
    this.element = el(
      "figure",
      {
        class: `chart sheet${wide ? " wide" : ""}${tall ? " tall" : ""}`,
        "aria-label": title,
      },
      el(
        "figcaption",
        {},
        el("h3", {}, title, about && el("span", { class: "caption" }, ` ${about}`)),
        extra,
        this.legend,
        this.menu,
      ),
      this.plot,
    );
    this.element.chart = this;
    this.view?.charts.add(this);
    this.repaint = () => this.update();
    document.addEventListener("themechange", this.repaint);
    seen.observe(this.element);
  }

  /** Draws again as soon as somebody can see it. */
  update() {
    this.dirty = true;
    if (this.visible) this.redraw();
  }

  async redraw() {
    if (this.drawing) return;
    this.drawing = true;
    try {
      const Plotly = await plotly();
      while (this.dirty && !this.closed) {
        this.dirty = false;
        const drawn = this.draw();
        this.element.hidden = drawn === null;
        if (drawn === null) break;
        this.shown = drawn;
        await this.react(Plotly, drawn);
      }
    } finally {
      this.drawing = false;
    }
  }

  async react(
    Plotly,
    { traces, x = {}, y = {}, log = false, zero = false, layout = {}, range: fixed },
  ) {
    const ink = colour("ink-3");
    const axis = {
      gridcolor: colour("line"),
      linecolor: colour("line-strong"),
      tickcolor: colour("line-strong"),
      zeroline: false,
      ticks: "outside",
      ticklen: 4,
      automargin: true,
      exponentformat: "e",
    };
    const lines = traces.map((trace) => ({
      ...trace,
      visible: this.hidden.has(trace.group ?? trace.name) ? "legendonly" : true,
    }));
    const range =
      this.low ??
      fixed ??
      settled(
        lines.filter((each) => each.visible === true && each.y),
        this.view?.range,
        log,
        zero,
      );
    const key = `${this.view?.revision ?? 0}/${this.revision}`;
    const all = {
      font: { family: getComputedStyle(document.body).fontFamily, size: 11, color: ink },
      paper_bgcolor: colour("sheet"),
      plot_bgcolor: colour("sheet"),
      margin: { l: 44, r: 14, t: 6, b: 24 },
      showlegend: false,
      hovermode: "x unified",
      dragmode: coarse.matches ? false : "zoom",
      hoverlabel: {
        bgcolor: colour("raised"),
        bordercolor: colour("line-strong"),
        font: {
          color: colour("ink"),
          size: 11,
          family: getComputedStyle(document.body).fontFamily,
        },
        namelength: -1,
      },
      uirevision: key,
      xaxis: {
        ...axis,
        showgrid: false,
        ...(this.view?.range
          ? { range: [...this.view.range], autorange: false }
          : { autorange: true }),
        ...x,
      },
      yaxis: {
        ...axis,
        type: log ? "log" : "linear",
        ...(log
          ? {
              tickformat: "~g",
              dtick:
                range && range[1] - range[0] > 2
                  ? 1
                  : range && range[1] - range[0] < 0.8
                    ? undefined
                    : "D2",
            }
          : {}),
        ...(range ? { range, autorange: false } : {}),
        ...y,
      },
      ...layout,
    };
    await Plotly.react(this.plot, lines, all, {
      displayModeBar: false,
      responsive: true,
      doubleClick: false,
    });
    if (this.closed) return Plotly.purge(this.plot);
    if (!this.listening) {
      this.listening = true;
      this.plot.on("plotly_relayout", (change) => this.relaid(change));
      this.plot.on("plotly_doubleclick", () => this.whole());
    }
    this.names(lines);
  }

  relaid(change) {
    if (this.drawing && !("xaxis.range[0]" in change || "yaxis.range[0]" in change)) return;
    if ("yaxis.range[0]" in change) this.low = [change["yaxis.range[0]"], change["yaxis.range[1]"]];
    if ("xaxis.range[0]" in change && this.view) {
      const kept = this.low;
      this.view.zoom([change["xaxis.range[0]"], change["xaxis.range[1]"]]);
      this.low = kept;
    }
  }

  /** Shows everything again. */
  whole() {
    this.low = null;
    this.revision += 1;
    if (this.view) this.view.zoom(null);
    else this.update();
  }

  names(traces) {
    const names = new Map();
    for (const trace of traces) {
      const name = trace.group ?? trace.name;
      if (trace.sign && !names.has(name)) names.set(name, trace.sign);
    }
    const text = JSON.stringify([[...names], [...this.hidden]]);
    if (this.legend.dataset.text === text) return;
    this.legend.dataset.text = text;
    if (names.size < 2) return this.legend.replaceChildren();
    this.legend.replaceChildren(
      ...[...names].map(([name, sign]) =>
        el(
          "button",
          {
            type: "button",
            class: "plain small",
            "aria-pressed": String(!this.hidden.has(name)),
            title: `Show or hide ${name}`,
            onclick: () => {
              if (!this.hidden.delete(name)) this.hidden.add(name);
              this.update();
            },
          },
          swatch(sign),
          name,
        ),
      ),
    );
  }

  async picture(format) {
    const Plotly = await plotly();
    await Plotly.downloadImage(this.plot, {
      format,
      filename: this.file,
      width: Math.max(640, this.plot.clientWidth),
      height: Math.max(320, this.plot.clientHeight),
      scale: format === "png" ? 2 : 1,
    });
  }

  table() {
    download(
      `${this.file}.csv`,
      "text/csv",
      csvOf(this.shown?.traces ?? [], this.shown?.x?.title?.text ?? "step"),
    );
  }

  close() {
    this.closed = true;
    seen.unobserve(this.element);
    document.removeEventListener("themechange", this.repaint);
    this.view?.charts.delete(this);
    if (this.listening) window.Plotly?.purge(this.plot);
  }
}

/** The sign of a line in a legend. */
export function swatch({ colour: stroke, dash = "solid", filled = false }) {
  return svg(
    "svg",
    { class: "swatch", viewBox: "0 0 18 8", "aria-hidden": "true" },
    filled
      ? svg("rect", { x: 2, y: 0, width: 14, height: 8, rx: 1.5, fill: stroke })
      : svg("path", {
          d: "M0 4h18",
          stroke,
          "stroke-width": 2,
          "stroke-dasharray": dasharray(dash),
          fill: "none",
        }),
  );
}

/** Text for plotly, which reads a few tags of HTML in names and labels: none of a run's is one. */
export const plain = (text) =>
  String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

/** A line of a chart. */
export function lineTrace({ name, x, y, look, width = 1.6, ...rest }) {
  return {
    type: "scatter",
    mode: "lines",
    name,
    x,
    y,
    connectgaps: true,
    line: { color: look.colour, dash: look.dash, width, simplify: true },
    hovertemplate: "%{y:.5~g}",
    sign: look,
    ...rest,
  };
}
