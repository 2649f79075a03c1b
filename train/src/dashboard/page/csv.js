// The numbers of a chart as a file that a table program reads.

import { el } from "./dom.js";

const field = (value) => {
  const text = value === null || value === undefined ? "" : String(value);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

const text = (rows) => rows.map((row) => row.map(field).join(",")).join("\n") + "\n";

/**
 * A row for every x, which `counted` names, a column for every line; of a heat map a row for every
 * field.
 */
export function csvOf(traces, counted) {
  const lines = traces.filter((trace) => trace.csv !== false);
  const map = lines.find((trace) => trace.z);
  if (map) {
    return text([
      ["x", "y", "value"],
      ...map.z.flatMap((row, at) => row.map((value, x) => [map.x[x], map.y[at], value])),
    ]);
  }
  const at = lines.map((trace) => new Map(trace.x.map((x, index) => [x, trace.y[index]])));
  const all = [...new Set(lines.flatMap((trace) => trace.x))].sort((left, right) => left - right);
  return text([
    [counted, ...lines.map((trace) => trace.name)],
    ...all.map((x) => [x, ...at.map((values) => values.get(x))]),
  ]);
}

/** Hands a text to the browser as a file. */
export function download(name, type, content) {
  const address = URL.createObjectURL(new Blob([content], { type }));
  const link = el("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}
