// The curves of a run: losses, norms, schedule and speed, over steps, tokens or time.

import { Chart, lineTrace, View } from "./chart.js";
import { axis, curveControls } from "./curve_controls.js";
import { chooser, el, empty } from "./dom.js";
import { whole } from "./format.js";
import { faint, line } from "./palette.js";
import { keep, kept } from "./settings.js";
import { smooth } from "./smoothing.js";

const LOSSES = {
  loss: { title: "nats a token", valid: "valid_loss", mtp: true },
  bits_per_byte: { title: "bits a byte", valid: "valid_bits_per_byte" },
  perplexity: { title: "perplexity", valid: "valid_perplexity" },
};
const PARTS = ["embedding", "attention", "router", "experts", "mlp", "norms", "mtp", "head"];
const NOT_MORE_OFTEN_THAN_MS = 1000;
const CLOSER_AGAIN_MS = 5000;

/** Opens the tab. */
export async function openCurves(host, run) {
  await run.numbers();
  const { series } = run;
  let close = null; // closer rows of the range that is zoomed to
  let asking = null;
  let closest = 0; // when they were fetched again
  let lossIn = kept("curves.loss", "loss");
  if (!(lossIn in LOSSES)) lossIn = "loss";

  const total = () => series.tables.steps.step?.at(-1) ?? 0;
  const controls = curveControls("curves", total, (zooms) =>
    zooms ? ((close = null), view.zoom(null)) : update(),
  );
  const { set } = controls;
  const view = new View(zoomed);
  const reset = el(
    "button",
    { type: "button", hidden: true, onclick: () => view.zoom(null) },
    "Show all",
  );
  const how = el("span", { class: "muted" });

  const last = () => series.tables.steps.elapsed_seconds?.at(-1) ?? 0;
  const rows = () => close?.steps ?? series.tables.steps;
  const column = (key) => {
    const values = rows()[key];
    return values?.some((value) => value !== null) ? values : undefined;
  };
  const xOf = (table) => {
    const { column: key, unit } = axis(set.by, last());
    const values = table[key] ?? table.step ?? [];
    return unit === 1 ? values : values.map((value) => value / unit);
  };
  const xAxis = (titled = false) => {
    const { title, format } = axis(set.by, last());
    return {
      ...(titled ? { title: { text: title, standoff: 6 } } : {}),
      tickformat: format,
      hoverformat: format === "," ? ",d" : format ? ".4s" : ".2f",
    };
  };
  const { steps } = controls;

  /** A raw line, faint, with the smoothed one over it. */
  function measured(name, key, index, dash) {
    const y = column(key);
    if (!y) return [];
    const look = { ...line(index), ...(dash ? { dash } : {}) };
    const x = xOf(rows());
    if (!steps()) return [lineTrace({ name, x, y, look, width: 1.3 })];
    const raw = {
      type: "scatter",
      mode: "lines",
      name: `${name}, unsmoothed`,
      group: name,
      x,
      y,
      connectgaps: true,
      hoverinfo: "skip",
      line: { color: faint(`series-${(index % 8) + 1}`, 0.28), width: 1 },
      sign: look,
    };
    return [
      raw,
      lineTrace({
        name,
        group: name,
        x,
        y: smooth(y, rows().step, steps()),
        look,
        customdata: y,
        hovertemplate: "%{y:.5~g} (this step %{customdata:.5~g})",
      }),
    ];
  }
  function evaluated(name, key, index, dash = "solid") {
    const y = series.column("evaluations", key);
    if (!y) return [];
    const look = { ...line(index), dash };
    return [
      lineTrace({
        name,
        x: xOf(series.tables.evaluations),
        y,
        look,
        mode: "lines+markers",
        marker: {
          color: look.colour,
          size: 5,
          symbol: dash === "solid" ? "circle" : "diamond-open",
        },
      }),
    ];
  }
  const depths = (prefix) =>
    Object.keys(prefix === "valid" ? series.tables.evaluations : rows())
      .filter((key) => key.startsWith(prefix === "valid" ? "valid_mtp_losses_" : "mtp_losses_"))
      .map((key) => key.split("_").at(-1));

  const one =
    (key, extra = {}) =>
    () => {
      const traces = measured(key.replaceAll("_", " "), key, 0);
      return traces.length ? { traces, x: xAxis(), log: set.log, ...extra } : null;
    };
  const parts = (prefix) => () => {
    const traces = PARTS.flatMap((part, at) => {
      const y = column(`${prefix}_${part}`);
      return y ? [lineTrace({ name: part, x: xOf(rows()), y, look: line(at), width: 1.3 })] : [];
    });
    return traces.length ? { traces, x: xAxis(), log: true } : null;
  };

  const lossChart = new Chart({
    title: "Loss",
    file: `${run.row.name}-loss`,
    view,
    wide: true,
    tall: true,
    extra: chooser(
      "Loss in",
      Object.entries(LOSSES).map(([key, { title }]) => [key, title]),
      lossIn,
      (key) => {
        lossIn = key;
        keep("curves.loss", key);
        lossChart.low = null;
        lossChart.revision += 1;
        lossChart.update();
      },
    ),
    draw: () => {
      const { valid, mtp } = LOSSES[lossIn];
      const traces = [...measured("training", lossIn, 0), ...evaluated("validation", valid, 1)];
      if (mtp) {
        for (const depth of depths("train"))
          traces.push(
            ...measured(
              `MTP ${depth}`,
              `mtp_losses_${depth}`,
              2 + Number(depth) - 1,
              "dash",
            ).filter((trace) => trace.mode === "lines" && !trace.name.endsWith("unsmoothed")),
          );
        for (const depth of depths("valid"))
          traces.push(
            ...evaluated(
              `MTP ${depth}, validation`,
              `valid_mtp_losses_${depth}`,
              3 + Number(depth) - 1,
              "dot",
            ),
          );
      }
      return { traces, x: xAxis(true), log: set.log };
    },
  });
  const charts = [
    lossChart,
    new Chart({
      title: "Gradient norm",
      about: "before clipping",
      file: `${run.row.name}-grad-norm`,
      view,
      draw: one("grad_norm"),
    }),
    new Chart({
      title: "Learning rate",
      file: `${run.row.name}-lr`,
      view,
      draw: () =>
        column("lr")
          ? {
              traces: [
                lineTrace({
                  name: "learning rate",
                  x: xOf(rows()),
                  y: column("lr"),
                  look: line(0),
                }),
              ],
              x: xAxis(),
              log: set.log,
              zero: true,
              y: { tickformat: ".3~e" },
            }
          : null,
    }),
    new Chart({
      title: "Tokens a second",
      file: `${run.row.name}-speed`,
      view,
      draw: one("tokens_per_second", { log: false, y: { tickformat: "~s" } }),
    }),
    new Chart({
      title: "Gradient norm by part",
      file: `${run.row.name}-grad-norm-parts`,
      view,
      draw: parts("grad_norm"),
    }),
    new Chart({
      title: "Parameter norm by part",
      file: `${run.row.name}-param-norm-parts`,
      view,
      draw: parts("param_norm"),
    }),
    new Chart({
      title: "Largest violation",
      about: "of any layer: the busiest expert over the mean, less 1",
      file: `${run.row.name}-violation`,
      view,
      draw: one("max_violation", { zero: true }),
    }),
    new Chart({
      title: "Balance loss",
      about: "at alpha = 1",
      file: `${run.row.name}-balance`,
      view,
      draw: one("balance_loss"),
    }),
    new Chart({
      title: "Sequences of a step",
      file: `${run.row.name}-batch`,
      view,
      draw: () => {
        const y = column("global_batch");
        return y && new Set(y).size > 1
          ? {
              traces: [
                lineTrace({
                  name: "sequences",
                  x: xOf(rows()),
                  y,
                  look: { ...line(0) },
                }),
              ],
              x: xAxis(),
              zero: true,
            }
          : null;
      },
    }),
  ];

  function tell() {
    reset.hidden = !view.range;
    const many = close ? close.steps.step.length : (series.tables.steps.step?.length ?? 0);
    how.textContent =
      series.decimated || close
        ? `${whole(many)} of ${whole(close ? close.total : series.total)} steps drawn, spikes kept`
        : "";
    how.title =
      "Of every bucket of steps those with the lowest and the highest loss are drawn. " +
      "Zoom in to see more.";
  }

  async function zoomed(range) {
    asking?.abort();
    asking = null;
    if (!range) {
      close = null;
      tell();
      for (const chart of charts) chart.update();
      return;
    }
    tell();
    if (!series.decimated) return;
    asking = new AbortController();
    const { column: key, unit } = axis(set.by, last());
    const all = series.tables.steps;
    const within = all.step.filter(
      (_, at) => all[key][at] / unit >= range[0] && all[key][at] / unit <= range[1],
    );
    const from = set.by === "step" ? Math.floor(range[0]) : (within[0] ?? all.step[0]);
    const to = set.by === "step" ? Math.ceil(range[1]) : (within.at(-1) ?? all.step.at(-1));
    try {
      const rowsOf = await series.closer(Math.max(0, from), Math.max(1, to), asking.signal);
      if (!rowsOf?.step?.length) return;
      close = {
        steps: rowsOf,
        total: Math.min(to, all.step.at(-1)) - Math.max(from, all.step[0]) + 1,
      };
      tell();
      for (const chart of charts) chart.update();
    } catch (error) {
      if (error.name !== "AbortError") throw error;
    }
  }

  /** Fetches what is zoomed to again where the run goes on inside of it. */
  function follow() {
    const { column: key, unit } = axis(set.by, last());
    const drawn = (close?.steps[key]?.at(-1) ?? Infinity) / unit;
    if (!close || view.range[1] <= drawn || performance.now() - closest < CLOSER_AGAIN_MS) return;
    closest = performance.now();
    zoomed(view.range);
  }

  let planned = null;
  function update() {
    if (planned) return;
    planned = setTimeout(() => {
      planned = null;
      grid.hidden = !series.tables.steps.step?.length;
      nothing.hidden = !grid.hidden;
      tell();
      follow();
      controls.say();
      for (const chart of charts) chart.update();
    }, NOT_MORE_OFTEN_THAN_MS);
  }

  const grid = el(
    "div",
    { class: "charts" },
    charts.map((chart) => chart.element),
  );
  const nothing = empty(
    "No step yet",
    run.row.state === "training"
      ? "The first step of this run is still being computed. Curves begin here by themselves."
      : "This run ended before its first step. Its folder says why; resume it with:",
    run.row.state === "training" ? null : "deepseek train --resume RUN",
  );
  grid.hidden = !series.tables.steps.step?.length;
  nothing.hidden = !grid.hidden;
  host.append(
    el("div", { class: "controls" }, controls.bar, reset, el("span", { class: "grow" }), how),
    grid,
    nothing,
  );
  tell();
  return {
    lines: update,
    reloaded() {
      close = null;
      update();
    },
    close() {
      clearTimeout(planned);
      asking?.abort();
      for (const chart of charts) chart.close();
    },
    keys: () => [
      { keys: "l", what: "log scale on and off", act: controls.toggleLog },
      { keys: "0", what: "show everything again", act: () => view.zoom(null) },
    ],
  };
}
