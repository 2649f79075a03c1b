// What the rules of a run called out.

import { get } from "./api.js";
import { el, empty } from "./dom.js";
import { moment, number, whole } from "./format.js";
import { level } from "./run_parts.js";

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
        el(
          "table",
          { class: "grid-table" },
          el(
            "thead",
            {},
            el(
              "tr",
              {},
              ["Level", "Rule", "What was seen"].map((title) => el("th", { scope: "col" }, title)),
              ["Value", "Threshold", "Step", "When"].map((title) =>
                el("th", { scope: "col", class: "number" }, title),
              ),
            ),
          ),
          el(
            "tbody",
            {},
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
      ),
    );
  };
  draw();
  return {
    lines(lines) {
      const fresh = lines.filter((line) => line.kind === "alert");
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
