// The tokens of held-out text that an expert takes.

import { el, gridTable } from "./dom.js";
import { percent, whole } from "./format.js";
import { visible } from "./microscope_tokens.js";

const HEADS = [
  ["Token"],
  ["Times", true],
  [""],
  ["Of this token", true, "Of all occurrences of this token, how many this expert takes"],
];

/** The panel of an expert. */
export function expertTokens(
  { layer, expert },
  { tokens, seen_tokens: seen, taken_tokens: taken },
  acts,
) {
  const most = Math.max(1, ...tokens.map(({ count }) => count));
  return [
    el(
      "header",
      {},
      el("h2", {}, `Expert ${expert} of layer ${layer}`),
      el(
        "p",
        {},
        "takes ",
        el("strong", {}, percent(taken / (seen || 1))),
        el("span", { class: "muted" }, ` of ${whole(seen)} held-out tokens`),
      ),
    ),
    el(
      "div",
      { class: "controls" },
      el("button", { type: "button", onclick: acts.back }, "Back to the token"),
      el("button", { type: "button", onclick: acts.off }, "What if it were off"),
    ),
    tokens.length
      ? gridTable(
          HEADS,
          tokens.map(({ text, id, count, share }) =>
            el(
              "tr",
              { title: `id ${id}` },
              el("td", { class: "mono" }, visible(text)),
              el("td", { class: "number" }, whole(count)),
              el(
                "td",
                { class: "bar-cell" },
                el("i", {
                  style: { width: `${((100 * count) / most).toFixed(1)}%` },
                  "aria-hidden": "true",
                }),
              ),
              el("td", { class: "number" }, percent(share, 0)),
            ),
          ),
          "takes",
        )
      : el("p", { class: "muted" }, "None of them: this expert is dead for this text."),
  ];
}
