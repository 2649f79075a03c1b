// Experts of a run over time: loads, violation, biases and entropy of the gate, a layer or all of
// them.

import { get, query } from "./api.js";
import { View } from "./chart.js";
import { chooser, el, empty } from "./dom.js";
import { number } from "./format.js";
import { heatMap } from "./heat_map.js";
import { keep, kept } from "./settings.js";

const AGAIN_MS = 5000;

/** [step][layer] as [layer][step]. */
const turned = (rows) =>
  rows?.length ? rows[0].map((_, at) => rows.map((row) => row[at] ?? null)) : [];
const largest = (rows) =>
  rows.reduce((most, row) => row.reduce((high, value) => Math.max(high, value ?? 0), most), 0);

/** Opens the tab. */
export async function openExperts(host, run) {
  const fetch = () => get(query(`runs/${run.id}/experts`, { points: 200 }));
  let data = await fetch();
  let layer = kept("experts.layer", 0);
  const view = new View();
  const layers = () => data.layers ?? [];
  const name = (index) => `layer ${index}`;
  const at = () => Math.min(layer, Math.max(0, layers().length - 1));
  const experts = () => Array.from({ length: data.experts ?? 0 }, (_, expert) => String(expert));
  const ofLayers = () => layers().map(String);

  const loadsOf = (index) => {
    const of = data.loads.map((step) => step[index]);
    return experts().map((_, expert) => of.map((row) => row?.[expert] ?? null));
  };
  const picker = el("span");
  const drawPicker = () =>
    picker.replaceChildren(
      chooser(
        "Layer",
        layers().map((each, index) => [index, name(each)]),
        at(),
        (value) => {
          layer = Number(value);
          keep("experts.layer", layer);
          update();
        },
      ),
    );
  const file = (what) => `${run.row.name}-${what}`;
  const evaluations = () => data.evaluations ?? { steps: [] };

  const now = () => {
    const last = data.loads?.at(-1);
    if (!last) return null;
    // Here x is the expert and y the layer: the loads of the last step that recorded them.
    return {
      x: experts().map(Number),
      y: ofLayers(),
      z: last,
      low: 0,
      high: 2,
      hover: "layer %{y}, expert %{x}",
    };
  };
  /** Layers over steps; a step of which nothing was recorded is left out. */
  const overSteps = (steps, rows, high = (z) => largest(z) || 1) => {
    const z = turned(rows.filter((row) => row?.length));
    return z.length
      ? {
          x: steps.filter((_, index) => rows[index]?.length),
          y: ofLayers(),
          z,
          low: 0,
          high: high(z),
          hover: "step %{x}, layer %{y}",
        }
      : null;
  };
  const charts = [
    heatMap({
      title: "Load of the experts",
      about: "over the run, 1 is an even share",
      file: file("load"),
      view,
      tall: true,
      wide: true,
      even: 1,
      extra: picker,
      data: () =>
        data.loads?.length
          ? {
              x: data.steps,
              y: experts(),
              z: loadsOf(at()),
              low: 0,
              high: 2,
              hover: "step %{x}, expert %{y}",
            }
          : null,
    }),
    heatMap({
      title: "Load now",
      about: "experts across, layers up; the last recorded step",
      file: file("load-now"),
      wide: layers().length > 12,
      even: 1,
      data: now,
    }),
    heatMap({
      title: "Violation",
      about: "busiest expert over the mean, less 1",
      file: file("violation"),
      view,
      data: () =>
        overSteps(
          data.steps,
          data.violation ?? [],
          (z) => largest(z.map((row) => row.slice(Math.floor(row.length * 0.05)))) || 1,
        ),
    }),
    heatMap({
      title: "Spread of the biases",
      about: "largest less smallest",
      file: file("bias"),
      view,
      data: () => {
        const { steps, bias_min: low, bias_max: high } = evaluations();
        if (!low?.length) return null;
        return overSteps(
          steps,
          high.map((row, index) => row.map((value, each) => value - low[index][each])),
        );
      },
    }),
    heatMap({
      title: "Bias of each expert",
      about: "in the layer chosen above",
      file: file("bias-of-experts"),
      view,
      even: 0,
      data: () => {
        const { steps, biases } = evaluations();
        if (!biases?.length) return null;
        const kept = steps
          .map((step, index) => [step, biases[index]?.[at()]])
          .filter(([, row]) => row?.length);
        if (!kept.length) return null;
        const z = experts().map((_, expert) => kept.map(([, row]) => row[expert] ?? null));
        const most = Math.max(1e-9, ...z.flat().map((value) => Math.abs(value ?? 0)));
        return {
          x: kept.map(([step]) => step),
          y: experts(),
          z,
          low: -most,
          high: most,
          hover: "step %{x}, expert %{y}",
        };
      },
    }),
    heatMap({
      title: "Drift of the biases",
      about: "mean change since the evaluation before",
      file: file("bias-drift"),
      view,
      data: () => overSteps(evaluations().steps, evaluations().bias_drift ?? []),
    }),
    heatMap({
      title: "Entropy of the gate",
      about: `nats; ${number(Math.log(data.experts || 1))} is even`,
      file: file("entropy"),
      view,
      data: () => {
        const { steps = [], values = [] } = data.gate_entropy ?? {};
        return overSteps(steps, values, () => Math.log(data.experts));
      },
    }),
  ];
  const update = () => {
    const none = !data.loads?.length;
    grid.hidden = none;
    nothing.hidden = !none;
    for (const chart of charts) chart.update();
  };
  const grid = el(
    "div",
    { class: "charts" },
    charts.map((chart) => chart.element),
  );
  const nothing = empty(
    "No loads recorded yet",
    "Loads of every expert are written every `metrics.every` steps. They appear here by " +
      "themselves; to have them sooner, train with:",
    "deepseek train --set metrics.every=1",
  );
  host.append(grid, nothing);
  drawPicker();
  update();

  let waiting = null;
  const renew = async () => {
    waiting = null;
    data = await fetch().catch(() => data); // the sign in the header says that the server is gone
    update();
  };
  const step = (by) => {
    layer = (at() + by + layers().length) % layers().length;
    keep("experts.layer", layer);
    drawPicker();
    update();
  };
  return {
    lines(lines) {
      if (lines.some((line) => line.expert_loads?.length || line.kind === "evaluation"))
        waiting ??= setTimeout(renew, AGAIN_MS);
    },
    reloaded: renew,
    close() {
      clearTimeout(waiting);
      for (const chart of charts) chart.close();
    },
    keys: () => [
      { keys: "j", what: "next layer", act: () => step(1) },
      { keys: "k", what: "layer before", act: () => step(-1) },
      { keys: "0", what: "show everything again", act: () => view.zoom(null) },
    ],
  };
}
