// What a run takes of its machine: memory, processor, disk, and each step's time by part.

import { empty } from "./dom.js";
import { colour } from "./palette.js";
import { linesOf, openPanels } from "./panels.js";

const SECONDS = [
  ["data_seconds", "data"],
  ["forward_seconds", "forward"],
  ["backward_seconds", "backward"],
  ["compute_seconds", "forward and backward"],
  ["update_seconds", "update"],
  ["average_seconds", "average of the weights"],
  ["saving_seconds", "saving"],
];

const PATTERNS = ["", "/", "", "\\", "x", "-", "."];
const BINS = 96;

/**
 * Lines over steps as bars on each other, each the mean over some steps; patterns tell the same as
 * colours.
 */
function stacked(traces) {
  const at = traces[0].x;
  const wide = Math.max(1, (at.at(-1) - at[0] + 1) / BINS);
  const bin = (step) => Math.floor((step - at[0]) / wide);
  const bins = [...new Set(at.map(bin))];
  const bars = traces.map(({ name, y, sign, line }, index) => {
    const sums = new Map(bins.map((each) => [each, [0, 0]]));
    at.forEach((step, row) => {
      const sum = sums.get(bin(step));
      sum[0] += y[row] ?? 0;
      sum[1] += 1;
    });
    return {
      type: "bar",
      name,
      x: bins.map((each) => at[0] + (each + 0.5) * wide - 0.5),
      y: bins.map((each) => sums.get(each)[0] / sums.get(each)[1]),
      width: wide,
      sign: { ...sign, filled: true },
      hovertemplate: "%{y:.3~s}s",
      marker: {
        color: line.color,
        opacity: 0.82,
        line: { width: 0 },
        pattern: {
          shape: PATTERNS[index],
          bgcolor: line.color,
          fgcolor: colour("sheet"),
          fgopacity: 0.4,
          size: 6,
        },
      },
    };
  });
  const sums = bins
    .map((_, index) => bars.reduce((sum, { y }) => sum + y[index], 0))
    .sort((left, right) => left - right);
  // A mean that has a saving in it is much longer than the others, which decide the scale.
  return {
    traces: bars,
    x: { tickformat: "," },
    range: [0, 1.2 * (sums[Math.floor(sums.length * 0.9)] || 1)],
    y: { tickformat: "~s", ticksuffix: "s" },
    layout: { barmode: "stack", bargap: 0 },
  };
}

/** Opens the tab. */
export function openMachine(host, run) {
  const { series } = run;
  const x = { tickformat: "," };
  const lines =
    (table, columns, options = {}, rest = {}) =>
    () => {
      const traces = linesOf(series, table, columns, rest);
      return traces.length ? { traces, x, zero: true, ...options } : null;
    };
  const parts = () => {
    const apart =
      series.column("steps", "forward_seconds") && series.column("steps", "backward_seconds");
    const columns = SECONDS.filter(([key]) =>
      apart ? key !== "compute_seconds" : key !== "forward_seconds" && key !== "backward_seconds",
    );
    const traces = linesOf(series, "steps", columns).filter(({ y }) =>
      y.some((value) => value > 0),
    );
    return traces.length ? stacked(traces) : null;
  };
  const ranks = (key) => () => {
    const found = Object.keys(series.tables.steps).filter((column) => column.startsWith(`${key}_`));
    return lines(
      "steps",
      found.map((column) => [column, `rank ${Number(column.slice(key.length + 1)) - 1}`]),
      { y: { tickformat: "~s", ticksuffix: "s" } },
    )();
  };
  const bytes = { y: { tickformat: "~s", ticksuffix: "B" } };
  return openPanels(
    host,
    run,
    [
      {
        title: "Seconds of a step",
        about: "by part",
        file: "step-seconds",
        wide: true,
        tall: true,
        draw: parts,
      },
      {
        title: "Memory",
        about: "of the process and of the device",
        file: "memory",
        draw: lines(
          "systems",
          [
            ["resident_bytes", "process"],
            ["device_bytes", "device"],
          ],
          bytes,
          { hovertemplate: "%{y:.4~s}B" },
        ),
      },
      {
        title: "Memory left",
        about: "on the machine",
        file: "memory-left",
        draw: lines("systems", [["available_bytes", "available"]], bytes, {
          hovertemplate: "%{y:.4~s}B",
        }),
      },
      {
        title: "Processor",
        about: "cores kept busy",
        file: "cpu",
        draw: lines("systems", [["cpu_cores", "cores"]]),
      },
      {
        title: "Disk left",
        about: "for the run's folder",
        file: "disk",
        draw: lines("systems", [["disk_free_bytes", "free"]], bytes, {
          hovertemplate: "%{y:.4~s}B",
        }),
      },
      {
        title: "Ranks at work",
        about: "seconds of a step",
        file: "ranks-busy",
        draw: ranks("rank_busy_seconds"),
      },
      {
        title: "Ranks waiting",
        about: "seconds of a step",
        file: "ranks-waiting",
        draw: ranks("rank_waiting_seconds"),
      },
      {
        title: "Between ranks",
        about: "bytes of a step",
        file: "exchange",
        draw: lines(
          "steps",
          [
            ["exchange_fast_bytes", "within a node"],
            ["exchange_slow_bytes", "between nodes"],
            ["exchange_direct_fast_bytes", "within a node, direct route"],
            ["exchange_direct_slow_bytes", "between nodes, direct route"],
          ],
          bytes,
          { hovertemplate: "%{y:.4~s}B" },
        ),
      },
    ],
    empty(
      "Nothing measured yet",
      "Times are written with every step, memory and processor every `metrics.every` " +
        "steps. They appear here by themselves.",
    ),
  );
}
