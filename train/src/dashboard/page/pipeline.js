// The pipeline of a run: the measured timeline of a step, and the simulated one on the same axis
// of time.

import { get } from "./api.js";
import { el, empty, gridTable } from "./dom.js";
import { bytes, micro, percent, whole } from "./format.js";
import { partsLegend, timeline } from "./timeline.js";

const AGAIN_MS = 15_000;

function links(title, found) {
  const most = Math.max(1, ...found.map((link) => link.bytes));
  return el(
    "section",
    {},
    el("h2", { class: "above" }, title),
    el(
      "div",
      { class: "sheet" },
      gridTable(
        [["Link"], ["Sent", true], [""]],
        found.map((link) =>
          el(
            "tr",
            {},
            el("td", {}, link.name),
            el("td", { class: "number" }, bytes(link.bytes)),
            el(
              "td",
              { class: "bar-cell" },
              el("i", {
                style: {
                  width: `${((100 * link.bytes) / most).toFixed(1)}%`,
                  "margin-top": "7px",
                },
                "aria-hidden": "true",
              }),
            ),
          ),
        ),
      ),
    ),
  );
}

function idle(measured, simulated) {
  const share = (line, at) => (line?.ranks[at] ? line.ranks[at].idle_us / line.total_us : null);
  const ranks = (measured ?? simulated).ranks;
  return el(
    "section",
    {},
    el("h2", { class: "above" }, "Idle time"),
    el(
      "div",
      { class: "sheet" },
      gridTable(
        [["Rank"], ["Busy", true], ["Idle, measured", true], ["Idle, simulated", true]],
        ranks.map((rank, at) =>
          el(
            "tr",
            {},
            el("td", {}, rank.name),
            el("td", { class: "number" }, micro(rank.busy_us)),
            el("td", { class: "number" }, percent(share(measured, at))),
            el("td", { class: "number" }, percent(share(simulated, at))),
          ),
        ),
      ),
    ),
  );
}

/** Takes away what the pointer was told: whoever it was about is gone. */
const dropTip = () => document.querySelector(".tip")?.remove();

/** Opens the tab. */
export async function openPipeline(host, run) {
  let data = null;
  let range = null;
  const body = el("div");
  host.append(body);

  function draw() {
    const { measured, simulated, note } = data;
    dropTip();
    if (!measured && !simulated) {
      body.replaceChildren(
        empty(
          "No timeline of this run",
          note || "A run over several ranks writes the timeline of a step.",
          "deepseek train --set parallel.pipeline=2 --set train.micro_batch=1 --devices flex,flex",
        ),
      );
      return;
    }
    const total = Math.max(measured?.total_us ?? 0, simulated?.total_us ?? 0);
    const shown = range ?? [0, total];
    const zoom = (next) => {
      range = next && [Math.max(0, next[0]), Math.min(total, next[1])];
      if (range && range[1] - range[0] > total * 0.995) range = null;
      draw();
    };
    const focused = document.activeElement?.dataset?.key;
    const buttons = el(
      "div",
      { class: "controls" },
      partsLegend([measured, simulated]),
      el("span", { class: "grow" }),
      el("span", { class: "muted" }, `${micro(shown[0])} to ${micro(shown[1])}`),
      el(
        "button",
        {
          type: "button",
          "data-key": "in",
          "aria-label": "Closer",
          onclick: () => around(0.5),
        },
        "+",
      ),
      el(
        "button",
        {
          type: "button",
          "data-key": "out",
          "aria-label": "Wider",
          onclick: () => around(2),
        },
        "−",
      ),
      el(
        "button",
        { type: "button", "data-key": "all", disabled: !range, onclick: () => zoom(null) },
        "Whole step",
      ),
    );
    const around = (by) => {
      const middle = (shown[0] + shown[1]) / 2;
      const half = ((shown[1] - shown[0]) / 2) * by;
      zoom([middle - half, middle + half]);
    };
    body.replaceChildren(
      buttons,
      measured
        ? timeline(
            measured,
            shown,
            zoom,
            `Measured${measured.step ? `, step ${whole(measured.step)}` : ""}`,
          )
        : el("p", { class: "muted" }, "This step was not measured."),
      simulated ? timeline(simulated, shown, zoom, "Simulated") : "",
      note ? el("p", { class: "caption" }, note) : "",
      el(
        "div",
        { class: "columns" },
        idle(measured, simulated),
        measured?.links?.length
          ? links("Between ranks", measured.links)
          : simulated?.links?.length
            ? links("Between ranks, simulated", simulated.links)
            : "",
      ),
    );
    if (focused) body.querySelector(`[data-key="${focused}"]`)?.focus();
    zoomKeys = {
      closer: () => around(0.5),
      wider: () => around(2),
      all: () => zoom(null),
      move: (by) => {
        const by_us = (shown[1] - shown[0]) * by;
        if (range) zoom([shown[0] + by_us, shown[1] + by_us]);
      },
    };
  }
  let zoomKeys = null;
  const load = async () => {
    data = await get(`runs/${run.id}/pipeline`);
    draw();
  };
  await load();
  let waiting = null;
  let size = 0; // until the tab is shown, which is no reason to draw again
  const follow = new ResizeObserver(() => {
    const before = size;
    if (Math.abs(body.clientWidth - before) <= 8) return;
    size = body.clientWidth;
    if (before) draw();
  });
  follow.observe(body);
  return {
    lines(lines) {
      if (!range && lines.some((line) => line.kind === "step"))
        waiting ??= setTimeout(() => {
          waiting = null;
          load().catch(() => {});
        }, AGAIN_MS);
    },
    reloaded: load,
    close() {
      clearTimeout(waiting);
      follow.disconnect();
      dropTip();
    },
    keys: () => [
      { keys: "+ =", what: "closer", act: () => zoomKeys?.closer() },
      { keys: "-", what: "wider", act: () => zoomKeys?.wider() },
      { keys: "h", what: "earlier", act: () => zoomKeys?.move(-0.25) },
      { keys: "l", what: "later", act: () => zoomKeys?.move(0.25) },
      { keys: "0", what: "the whole step", act: () => zoomKeys?.all() },
    ],
  };
}
