// A tab of charts over steps, from columns of a run's record.

import { Chart, lineTrace, View } from "./chart.js";
import { el } from "./dom.js";
import { line } from "./palette.js";

const NOT_MORE_OFTEN_THAN_MS = 1000;

/** Lines of columns of one table that have numbers in them. `columns` are [key, name]. */
export function linesOf(series, table, columns, rest = {}) {
  const at = series.tables[table].step ?? [];
  return columns.flatMap(([key, name], index) => {
    const y = series.column(table, key);
    return y ? [lineTrace({ name, x: at, y, look: line(index), width: 1.4, ...rest })] : [];
  });
}

/** Charts side by side that share their zoom and follow the run; `panels` are what each takes. */
export async function openPanels(host, run, panels, nothing) {
  await run.numbers();
  const view = new View();
  const charts = panels.map(
    (options) => new Chart({ view, ...options, file: `${run.row.name}-${options.file}` }),
  );
  const grid = el(
    "div",
    { class: "charts" },
    charts.map((chart) => chart.element),
  );
  host.append(grid, nothing);
  const show = () => {
    const some = charts.some((chart) => chart.draw() !== null);
    grid.hidden = !some;
    nothing.hidden = some;
    for (const chart of charts) chart.update();
  };
  let planned = null;
  const update = () => {
    planned ??= setTimeout(() => {
      planned = null;
      show();
    }, NOT_MORE_OFTEN_THAN_MS);
  };
  show();
  return {
    lines: update,
    reloaded: update,
    close() {
      clearTimeout(planned);
      for (const chart of charts) chart.close();
    },
    keys: () => [{ keys: "0", what: "show everything again", act: () => view.zoom(null) }],
  };
}
