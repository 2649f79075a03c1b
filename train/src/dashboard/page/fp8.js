// What FP8 loses: codes at the ends of its range, and the range of the scales.

import { empty } from "./dom.js";
import { linesOf, openPanels } from "./panels.js";

const KINDS = ["activations", "weights", "gradients"];
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
    const traces = KINDS.flatMap((kind, at) =>
      linesOf(series, "steps", [
        [`fp8_${kind}_scale_min`, `${kind}, smallest`],
        [`fp8_${kind}_scale_max`, `${kind}, largest`],
      ]).map((trace, end) => {
        const look = { colour: trace.line.color, dash: end ? "solid" : "dot" };
        return { ...trace, at, look };
      }),
    );
    const colours = linesOf(series, "steps", of("scale_max")).map((trace) => trace.line.color);
    for (const trace of traces) {
      trace.line = { ...trace.line, color: colours[trace.at], dash: trace.look.dash };
      trace.sign = { colour: colours[trace.at], dash: trace.look.dash };
      trace.hovertemplate = "%{y:.3e}";
    }
    return traces.length
      ? { traces, x: { tickformat: "," }, log: true, y: { tickformat: ".0e", dtick: 1 } }
      : null;
  };
  return openPanels(
    host,
    run,
    () => [
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
