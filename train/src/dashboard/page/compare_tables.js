// What came of the compared runs, and where their configurations differ.

import { swatch } from "./chart.js";
import { el, gridTable } from "./dom.js";
import * as format from "./format.js";

/** Of these results the lowest is the best; of speed it is the highest. */
const LOWEST = /loss|perplexity|bits_per_byte|violation|alerts/;
const HIGHEST = /tokens_per_second|acceptance/;

const shownResult = (key, value) => {
  if (typeof value !== "number")
    return value === null || value === undefined ? format.NONE : String(value);
  if (key.endsWith("_seconds")) return format.duration(value);
  if (key.endsWith("_bytes")) return format.bytes(value);
  if (key === "tokens") return format.count(value);
  return /loss/.test(key) ? format.loss(value) : format.number(value);
};

/** A row for every key, a column for every run; `marks` says which values of a key stand out. */
function table(columns, rows, title, shown, marks) {
  const heads = columns.map(({ id, row, look }) => [[swatch(look), " ", row?.name ?? id], true]);
  const lines = rows.map(({ key, values }) => {
    const marked = marks(key, values);
    const cells = columns.map(({ index }) =>
      el(
        "td",
        { class: `number mono${marked(values[index]) ? " best" : ""}` },
        shown(key, values[index]),
      ),
    );
    return el("tr", {}, el("th", { scope: "row", class: "mono" }, key), cells);
  });
  return el(
    "section",
    {},
    el("h2", { class: "above" }, title),
    el("div", { class: "sheet scroll-x" }, gridTable([[""], ...heads], lines)),
  );
}

function best(key, values) {
  const numbers = values.filter((value) => typeof value === "number");
  if (new Set(numbers).size < 2) return () => false;
  const wanted = LOWEST.test(key)
    ? Math.min(...numbers)
    : HIGHEST.test(key)
      ? Math.max(...numbers)
      : null;
  return (value) => wanted !== null && value === wanted;
}

/** The table of results, the best of each marked. */
export const resultsOf = (columns, results) =>
  results.length ? table(columns, results, "Results", shownResult, best) : "";

/** The table of differences. */
export function differencesOf(columns, differences) {
  const title = "Where their configurations differ";
  if (differences.length) {
    return table(
      columns,
      differences,
      title,
      (_, value) => format.setting(value),
      () => () => false,
    );
  }
  return el(
    "section",
    {},
    el("h2", { class: "above" }, title),
    el("p", { class: "muted" }, "Nowhere: these runs were asked for the same."),
  );
}
