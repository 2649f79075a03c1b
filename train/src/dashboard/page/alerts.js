// What the rules of a run called out.

import { get } from "./api.js";
import { el, empty, gridTable } from "./dom.js";
import { moment, number, whole } from "./format.js";
import { level } from "./run_parts.js";
import { unknown } from "./series.js";

const HEADS = [
  ["Level"],
  ["Rule"],
  ["What was seen"],
  ["Value", true],
  ["Threshold", true],
  ["Step", true],
  ["When", true],
];

/** Opens the tab. */
export async function openAlerts(host, run) {
  let { alerts } = await get(`runs/${run.id}/alerts`);
  const draw = () => {
    if (!alerts.length)
      return host.replaceChildren(
        empty(
          "No alert",
          "Every step and every evaluation is looked at by the rules of [alerts]: spikes " +
            "and rises of the loss, experts that collapse or die, a drop in speed, a full " +
            "disk. None of them had anything to say.",
        ),
      );
    host.replaceChildren(
      el(
        "div",
        { class: "sheet scroll-x" },
        gridTable(
          HEADS,
          [...alerts]
            .reverse()
            .map((alert) =>
              el(
                "tr",
                {},
                el("td", {}, level(alert.level)),
                el("td", { class: "mono" }, alert.rule),
                el("td", {}, alert.message),
                el("td", { class: "number" }, number(alert.value)),
                el("td", { class: "number" }, number(alert.threshold)),
                el("td", { class: "number" }, whole(alert.step)),
                el("td", { class: "number" }, moment(alert.time)),
              ),
            ),
        ),
      ),
    );
  };
  draw();
  return {
    lines(lines) {
      const fresh = unknown(lines, "alert", alerts);
      if (fresh.length) {
        alerts = [...alerts, ...fresh];
        draw();
      }
    },
    async reloaded() {
      ({ alerts } = await get(`runs/${run.id}/alerts`));
      draw();
    },
  };
}
