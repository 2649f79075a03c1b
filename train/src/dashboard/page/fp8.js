// What FP8 loses: codes at the ends of its range, and the range of the scales.

import { lineTrace } from "./chart.js";
import { empty } from "./dom.js";
import { line } from "./palette.js";
import { linesOf, openPanels } from "./panels.js";

const KINDS = ["activations", "weights", "gradients"];
/** The ends of a scale's range: key, name, dash. */
const ENDS = [
  ["min", "smallest", "dot"],
  ["max", "largest", "solid"],
];
const of = (what) => KINDS.map((kind) => [`fp8_${kind}_${what}`, kind]);

/** Opens the tab. */
export function openFp8(host, run) {
  const { series } = run;
  const share = (what) => () => {
    const traces = linesOf(series, "steps", of(what), { hovertemplate: "%{y:.3~%}" });
    const some = traces.some(({ y }) => y.some((value) => value > 0));
    return traces.length
      ? { traces, x: { tickformat: "," }, zero: true, y: { tickformat: some ? "~%" : ".0%" } }
      : null;
  };
  const scales = () => {
    const x = series.tables.steps.step ?? [];
    const traces = KINDS.flatMap((kind, at) =>
      ENDS.flatMap(([end, name, dash]) => {
        const y = series.column("steps", `fp8_${kind}_scale_${end}`);
        if (!y) return [];
        const look = { ...line(at), dash };
        const hovertemplate = "%{y:.3e}";
        return [lineTrace({ name: `${kind}, ${name}`, x, y, look, width: 1.4, hovertemplate })];
      }),
    );
    return traces.length
      ? { traces, x: { tickformat: "," }, log: true, y: { tickformat: ".0e", dtick: 1 } }
      : null;
  };
  return openPanels(
    host,
    run,
    [
      {
        title: "Saturated",
        about: "share of codes at the largest value",
        file: "fp8-saturated",
        draw: share("saturated"),
      },
      {
        title: "Underflowed",
        about: "share of values that became zero",
        file: "fp8-underflowed",
        draw: share("underflowed"),
      },
      { title: "Scales", about: "smallest and largest", file: "fp8-scales", draw: scales },
    ],
    empty(
      "No casts counted yet",
      "This run computes in FP8, and counts what its casts lose every `metrics.every` " +
        "steps; none of those has been written yet.",
    ),
  );
}
