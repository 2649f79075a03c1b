// The rows of the table of runs: its head, a run, a run that cannot be read, the heading of a
// group.

import { el } from "./dom.js";
import { loss } from "./format.js";
import { COLUMNS } from "./runs_columns.js";

const classOf = ({ key, number }) => (number ? `number of-${key}` : `of-${key}`);

/** The head; pressing a title sorts by its column, or turns the order. */
export function headOf(view, change) {
  const head = (column) => {
    const by = view.column === column.key;
    const turn = () =>
      change({ column: column.key, falls: by ? !view.falls : Boolean(column.falls) });
    const order = by ? (view.falls ? "descending" : "ascending") : "none";
    const arrow = by ? (view.falls ? " ▾" : " ▴") : "";
    const title = column.sort
      ? el(
          "button",
          { type: "button", class: "sort", onclick: turn },
          column.title,
          el("span", { "aria-hidden": "true" }, arrow),
        )
      : column.title;
    return el(
      "th",
      {
        scope: "col",
        class: classOf(column),
        "aria-sort": column.sort ? order : null,
        title: column.hint,
      },
      title,
    );
  };
  return el("thead", {}, el("tr", {}, el("th", { class: "pick" }), COLUMNS.map(head)));
}

/** The row of a run. `choose` is told its id and whether it is chosen, `renew` its new row. */
export function rowOf(row, { chosen, choose, renew }) {
  const pick = el("input", {
    type: "checkbox",
    "aria-label": `choose ${row.name}`,
    checked: chosen,
    disabled: Boolean(row.error),
    onchange: (event) => choose(row.id, event.target.checked),
  });
  const line = el(
    "tr",
    { "data-id": row.id, tabindex: "-1", class: row.archived ? "archived" : null },
    el("td", { class: "pick" }, pick),
  );
  if (row.error) {
    const name = [
      el("span", { class: "name" }, row.name),
      el("span", { class: "caption folder" }, row.folder),
    ];
    line.append(
      el("td", { class: "of-name" }, name),
      el(
        "td",
        { colspan: COLUMNS.length - 1, class: "of-error" },
        el("p", { class: "problem" }, row.error),
      ),
    );
    return line;
  }
  for (const column of COLUMNS) {
    const title = column.key === "seconds_left" && row.state !== "training" ? "Took" : column.title;
    line.append(el("td", { class: classOf(column), "data-title": title }, column.cell(row, renew)));
  }
  return line;
}

/** The heading of a group. */
export function headingRow(heading, rows) {
  const best = Math.min(...rows.map((row) => row.best_valid_loss ?? Infinity));
  const runs = `  ${rows.length} ${rows.length === 1 ? "run" : "runs"}`;
  const text = Number.isFinite(best) ? `${runs}, best ${loss(best)}` : runs;
  return el(
    "tr",
    { class: "group" },
    el(
      "th",
      { colspan: COLUMNS.length + 1, scope: "colgroup" },
      heading,
      el("span", { class: "muted" }, text),
    ),
  );
}
