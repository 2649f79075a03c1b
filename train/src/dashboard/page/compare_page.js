// The page that lays runs over each other: curves, differences, results, and ways through a sweep.

import { get, query } from "./api.js";
import { Chart, lineTrace, plain, swatch, View } from "./chart.js";
import { differencesOf, resultsOf } from "./compare_tables.js";
import { axis, curveControls } from "./curve_controls.js";
import { chooser, el, empty } from "./dom.js";
import { line } from "./palette.js";
import { parallel } from "./parallel.js";
import { go } from "./router.js";
import { state } from "./run_parts.js";
import { Series } from "./series.js";
import { keep, kept } from "./settings.js";
import { smooth } from "./smoothing.js";
import { listen } from "./stream.js";

const METRICS = [
  ["loss", "Training loss"],
  ["valid_loss", "Validation loss"],
  ["bits_per_byte", "Training loss, bits a byte"],
  ["mtp_loss", "MTP loss"],
  ["grad_norm", "Gradient norm"],
  ["lr", "Learning rate"],
  ["tokens_per_second", "Tokens a second"],
  ["max_violation", "Largest violation"],
  ["param_norm", "Parameter norm"],
  ["step_seconds", "Seconds of a step"],
];
const UNSMOOTHED = ["valid_loss", "lr", "param_norm"];
/** Opens the page. */
export async function openCompare(main, _, entitle) {
  entitle("Compare · deepseek");
  const asked = () =>
    (new URLSearchParams(location.search).get("ids") ?? "")
      .split(",")
      .filter((id) => /^[0-9a-f]{12}$/.test(id));
  let ids = asked();
  let answer = ids.length
    ? await get(query("compare", { ids: ids.join(",") }))
    : { runs: [], differences: [], results: [] };
  const { runs: everyRun } = await get("runs");
  const series = new Map();
  const unread = [];
  async function read(id) {
    const columns = new Series(id);
    await columns.load();
    series.set(id, columns);
  }
  await Promise.all(ids.map((id) => read(id).catch((error) => unread.push(error.message))));

  const total = () =>
    Math.max(0, ...[...series.values()].map((each) => each.tables.steps.step?.at(-1) ?? 0));
  const controls = curveControls("compare", total, (zooms) => (zooms ? view.zoom(null) : update()));
  const { set } = controls;
  const view = new View((range) => {
    reset.hidden = !range;
  });
  const reset = el(
    "button",
    { type: "button", hidden: true, onclick: () => view.zoom(null) },
    "Show all",
  );
  let metrics = kept("compare.metrics", ["loss", "valid_loss"]);
  const look = (id) => line(ids.indexOf(id));
  const row = (id) => answer.runs.find((each) => each.id === id);
  const longest = () =>
    Math.max(
      0,
      ...[...series.values()].map((each) => each.tables.steps.elapsed_seconds?.at(-1) ?? 0),
    );

  function overlaid(metric) {
    const traces = [];
    for (const id of ids) {
      const columns = series.get(id);
      const table =
        columns &&
        (columns.column("steps", metric)
          ? "steps"
          : columns.column("evaluations", metric)
            ? "evaluations"
            : null);
      if (!table) continue;
      const rows = columns.tables[table];
      const { column, unit } = axis(set.by, longest());
      const x = (rows[column] ?? rows.step).map((value) => value / unit);
      const over = table === "steps" && !UNSMOOTHED.includes(metric) ? controls.steps() : 0;
      traces.push(
        lineTrace({
          name: plain(row(id)?.name ?? id),
          x,
          y: smooth(rows[metric], rows.step, over),
          look: look(id),
          ...(table === "evaluations"
            ? { mode: "lines+markers", marker: { size: 5, color: look(id).colour } }
            : {}),
        }),
      );
    }
    return traces;
  }
  const chartOf = (metric, at) =>
    new Chart({
      title: "",
      file: `compare-${metric}`,
      view,
      tall: true,
      extra: chooser("Measure", METRICS, metric, (value) => {
        metrics[at] = value;
        keep("compare.metrics", metrics);
        drawCharts();
      }),
      draw: () => {
        const { title, format: ticks } = axis(set.by, longest());
        return {
          traces: overlaid(metric),
          x: { title: { text: title, standoff: 6 }, tickformat: ticks },
          log: set.log,
        };
      },
    });
  let charts = [];
  const grid = el("div", { class: "charts pair" });
  function drawCharts() {
    for (const chart of charts) chart.close();
    charts = metrics.map(chartOf);
    grid.replaceChildren(...charts.map((chart) => chart.element));
  }
  let planned = null;
  const update = () => {
    planned ??= setTimeout(() => {
      planned = null;
      controls.say();
      for (const chart of charts) chart.update();
    }, 300);
  };

  const names = el("div", { class: "compared", role: "list", "aria-label": "Compared runs" });
  const below = el("div");

  function drawNames() {
    const others = everyRun.filter(
      (each) => !each.error && !ids.includes(each.id) && !each.archived,
    );
    names.replaceChildren(
      ...ids.map((id) =>
        el(
          "span",
          { role: "listitem" },
          swatch(look(id)),
          el("a", { href: `/run/${id}`, "data-link": true }, row(id)?.name ?? id),
          row(id) ? el("span", { class: "muted" }, state(row(id).state)) : null,
          el(
            "button",
            {
              type: "button",
              class: "plain small",
              "aria-label": `Leave out ${row(id)?.name ?? id}`,
              onclick: () => show(ids.filter((each) => each !== id)),
            },
            "×",
          ),
        ),
      ),
      others.length
        ? chooser(
            "Add a run",
            [["", "add a run"], ...others.map((each) => [each.id, each.name])],
            "",
            (id) => id && show([...ids, id]),
          )
        : "",
    );
  }
  const show = (next) => go(`/compare${next.length ? `?ids=${next.join(",")}` : ""}`);

  function drawBelow() {
    const { differences, results } = answer;
    const columns = ids.map((id) => ({
      id,
      row: row(id),
      look: look(id),
      index: answer.runs.findIndex((each) => each.id === id),
    }));
    below.replaceChildren(
      el(
        "div",
        { class: "columns" },
        resultsOf(columns, results),
        ids.length > 1 && differencesOf(columns, differences),
      ),
      ids.length > 1 && differences.length
        ? el(
            "section",
            { class: "parallel" },
            el("h2", { class: "above" }, "Ways through the sweep"),
            parallel(columns, differences, results),
          )
        : "",
    );
  }

  async function renew() {
    if (!ids.length) return;
    answer = await get(query("compare", { ids: ids.join(",") }));
    drawNames();
    drawBelow();
  }

  main.append(
    el("div", { class: "controls" }, el("h1", {}, "Compare"), controls.bar, reset),
    names,
    ...unread.map((text) => el("p", { class: "problem" }, text)),
  );
  drawNames();
  if (!ids.length) {
    main.append(
      empty(
        "Nothing to compare yet",
        "Choose runs in the table (x chooses the one under the cursor, c compares), or " +
          "add one above.",
      ),
    );
  } else {
    main.append(grid, below);
    drawCharts();
    drawBelow();
  }

  const repaint = () => {
    drawNames();
    drawBelow();
  };
  document.addEventListener("themechange", repaint);
  const followed = new Map(); // of each run the row, as text, that its numbers are as new as
  async function follow(rows) {
    const mine = rows
      .map((each) => [each.id, JSON.stringify(each)])
      .filter(([id, text]) => ids.includes(id) && followed.get(id) !== text);
    if (!mine.length) return;
    await Promise.all(
      mine.map(async ([id, text]) => {
        const columns = series.get(id);
        const last = columns?.tables.steps.step?.at(-1);
        // From the last step on, not after it: its evaluation is written after it.
        if (last) await columns.more(last);
        else await read(id);
        followed.set(id, text);
      }),
    );
    await renew();
    update();
  }
  let news = new Map(); // the latest row of each run that was told of since
  let busy = false;
  async function live() {
    if (busy) return;
    busy = true;
    try {
      while (news.size) {
        const rows = [...news.values()];
        news = new Map();
        await follow(rows);
      }
    } finally {
      busy = false;
    }
  }
  const stream = listen(
    () => "/api/events",
    {
      runs: ({ runs }) => {
        for (const each of runs) news.set(each.id, each);
        live().catch(() => {}); // the sign in the header says that the server is gone
      },
    },
    () => renew().catch(() => {}),
  );

  return {
    close() {
      stream.close();
      clearTimeout(planned);
      document.removeEventListener("themechange", repaint);
      for (const chart of charts) chart.close();
    },
    keys: () => [
      { keys: "l", what: "log scale on and off", act: controls.toggleLog },
      { keys: "0", what: "show everything again", act: () => view.zoom(null) },
    ],
  };
}
