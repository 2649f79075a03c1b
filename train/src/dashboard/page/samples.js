// Samples of a run side by side, the newest first.

import { get } from "./api.js";
import { el, empty } from "./dom.js";
import { loss, percent, whole } from "./format.js";
import { unknown } from "./series.js";

const SHOWN = 12;

function card({ step, prompt, text, temperature, mtp_acceptance: accepted }) {
  const rest = text.startsWith(prompt) ? text.slice(prompt.length) : text;
  return el(
    "article",
    { class: "sample sheet", "aria-label": `sample after step ${step}`, tabindex: "0" },
    el(
      "header",
      {},
      el("h3", {}, `step ${whole(step)}`),
      el(
        "span",
        { class: "caption" },
        `temperature ${temperature}`,
        typeof accepted === "number" ? `, ${percent(accepted, 0)} of MTP drafts taken` : "",
      ),
    ),
    el(
      "div",
      { class: "text" },
      prompt && text.startsWith(prompt) ? el("span", { class: "prompt" }, prompt) : null,
      rest,
    ),
  );
}

/** Opens the tab. */
export async function openSamples(host, run) {
  let { samples } = await get(`runs/${run.id}/samples`);
  let all = false;
  const row = el("div", { class: "samples" });
  const more = el("button", {
    type: "button",
    onclick: () => {
      all = true;
      draw();
    },
  });
  const nothing = el("div");
  const said = el("span", { class: "muted" });
  function draw() {
    const newest = [...samples].reverse();
    const few = all ? newest : newest.slice(0, SHOWN);
    row.replaceChildren(...few.map(card));
    more.hidden = few.length === newest.length;
    more.textContent = `Show all ${whole(newest.length)}`;
    const { best_step: best, best_valid_loss: bestLoss } = run.row;
    const ofBest = best
      ? `; the best validation loss, ${loss(bestLoss)}, is of step ${whole(best)}`
      : "";
    said.textContent = newest.length
      ? `${whole(newest.length)} samples, newest first${ofBest}`
      : "";
    nothing.replaceChildren(
      ...(newest.length
        ? []
        : [
            empty(
              "No sample yet",
              "A sample is drawn at every evaluation (train.eval_every), from " +
                "output.sample_prompt and with output.sample_tokens tokens; 0 of them turns " +
                "samples off.",
            ),
          ]),
    );
  }
  host.append(
    el("div", { class: "controls" }, said, el("span", { class: "grow" }), more),
    row,
    nothing,
  );
  draw();
  return {
    lines(lines) {
      const fresh = unknown(lines, "sample", samples);
      if (!fresh.length) return;
      samples = [...samples, ...fresh];
      draw();
    },
    async reloaded() {
      ({ samples } = await get(`runs/${run.id}/samples`));
      draw();
    },
  };
}
