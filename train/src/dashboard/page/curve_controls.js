// The controls that curves have: smoothing, what x counts, log scale.

import { el, segments } from "./dom.js";
import { whole } from "./format.js";
import { keep, kept } from "./settings.js";
import { smoothedOver, WIDEST } from "./smoothing.js";

/** How x is counted: the column, and what it is divided by. */
export function axis(by, last) {
  if (by === "tokens") return { column: "tokens", unit: 1, title: "tokens", format: "~s" };
  if (by !== "elapsed_seconds") return { column: "step", unit: 1, title: "step", format: "," };
  const [unit, title] =
    last > 4 * 3600 ? [3600, "hours"] : last > 240 ? [60, "minutes"] : [1, "seconds"];
  return { column: "elapsed_seconds", unit, title: `${title} of training`, format: "" };
}

/** The controls that curves have, and what they are set to; `total` gives the steps of the run. */
export function curveControls(name, total, changed) {
  const set = { smoothing: 28, by: "step", log: false, ...kept(name, {}) };
  const change = (part, zooms = false) => {
    Object.assign(set, part);
    keep(name, set);
    changed(zooms);
  };
  const said = el("output", { class: "muted fixed" });
  const say = () => {
    const steps = smoothedOver(set.smoothing, total());
    said.textContent = steps ? `${whole(steps)} step${steps === 1 ? "" : "s"}` : "none";
  };
  const slider = el("input", {
    type: "range",
    min: 0,
    max: WIDEST,
    step: 1,
    value: set.smoothing,
    "aria-label": "Smoothing",
    oninput: () => {
      set.smoothing = Number(slider.value);
      say();
      change({});
    },
  });
  say();
  const log = el("input", {
    type: "checkbox",
    checked: set.log,
    onchange: () => change({ log: log.checked }),
  });
  const bar = [
    el(
      "label",
      { title: "A mean over about so many steps on either side" },
      "Smoothing ",
      slider,
      said,
    ),
    el(
      "span",
      { class: "field" },
      el("span", { class: "muted" }, "x"),
      segments(
        "x axis",
        [
          ["step", "steps"],
          ["tokens", "tokens"],
          ["elapsed_seconds", "time"],
        ],
        set.by,
        (by) => change({ by }, true),
      ),
    ),
    el("label", {}, log, "log scale"),
  ];
  return {
    set,
    bar,
    say,
    steps: () => smoothedOver(set.smoothing, total()),
    toggleLog: () => {
      log.checked = !log.checked;
      change({ log: log.checked });
    },
  };
}
