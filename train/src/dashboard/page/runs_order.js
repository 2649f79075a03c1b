// Which rows a table of runs shows, in which order, under which headings.

import { setting } from "./format.js";
import { COLUMNS, haystack } from "./runs_columns.js";

const missing = (value) => value === null || value === undefined || Number.isNaN(value);

function compare(left, right) {
  if (typeof left === "string" && typeof right === "string")
    return left.localeCompare(right, undefined, { numeric: true });
  return left < right ? -1 : left > right ? 1 : 0;
}

/** Sorts rows by a column; what has no value comes last either way. */
function sorted(rows, { column, falls }) {
  const of = COLUMNS.find(({ key }) => key === column)?.sort ?? ((row) => row.name);
  return [...rows].sort((left, right) => {
    const [a, b] = [of(left), of(right)];
    if (missing(a) || missing(b)) return missing(a) - missing(b);
    return (falls ? -1 : 1) * compare(a, b) || compare(left.name, right.name);
  });
}

/** What runs can be grouped by: [value, label], with every key that some of them changed. */
export function groupings(rows) {
  const keys = [...new Set(rows.flatMap((row) => Object.keys(row.changed ?? {})))].sort();
  return [
    ["", "not grouped"],
    ["state", "state"],
    ["tag", "tag"],
    ["folder", "folder"],
    ["format", "number format"],
    ...keys.map((key) => [`changed:${key}`, key]),
  ];
}

function headings(row, by) {
  if (by === "tag") return row.tags?.length ? row.tags : ["no tag"];
  if (by.startsWith("changed:")) {
    const key = by.slice("changed:".length);
    return [
      row.changed && key in row.changed
        ? `${key} = ${setting(row.changed[key])}`
        : `${key} as by default`,
    ];
  }
  return [row[by] ?? "unknown"];
}

/** Groups of rows: [{heading, rows}], one without a heading where nothing is grouped. */
export function arrange(rows, { search, column, falls, group, archived }) {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const shown = sorted(
    rows.filter(
      (row) => (archived || !row.archived) && words.every((word) => haystack(row).includes(word)),
    ),
    { column, falls },
  );
  if (!group) return [{ heading: null, rows: shown }];
  const groups = new Map();
  for (const row of shown) {
    for (const heading of headings(row, group))
      groups.set(heading, [...(groups.get(heading) ?? []), row]);
  }
  return [...groups]
    .map(([heading, inside]) => ({ heading, rows: inside }))
    .sort((left, right) => compare(left.heading, right.heading));
}
