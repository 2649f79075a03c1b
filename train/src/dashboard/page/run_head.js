// The head of a run's page: name, state, labels, and the numbers that one looks at first.

import { el } from "./dom.js";
import * as format from "./format.js";
import { inPlace, label, tagsOf } from "./labels.js";
import { alertCounts, progress, state, tags } from "./run_parts.js";

const figure = (title, value, small, live = true) =>
  el(
    "div",
    {},
    el("dt", {}, title),
    el(
      "dd",
      { class: live ? "live-value" : null },
      value,
      small ? el("span", { class: "caption" }, ` ${small}`) : null,
    ),
  );

/** Draws the head anew; a label that is being written stays. */
export function drawHead(head, run) {
  if (head.querySelector("[data-editing]")) return;
  const { row } = run;
  const focused = head.contains(document.activeElement)
    ? document.activeElement.getAttribute("aria-label")
    : null;
  const save = async (labels) => {
    const renewed = await label(run.id, labels);
    if (renewed) run.detail.row = renewed;
    drawHead(head, run);
  };
  const training = row.state === "training";
  const counts = alertCounts(row.alerts);
  head.replaceChildren(
    ...[
      el(
        "div",
        { class: "title" },
        el("a", { href: "/", "data-link": true, class: "muted" }, "Runs"),
        el("span", { class: "muted", "aria-hidden": "true" }, "/"),
        el("h1", {}, row.name),
        state(row.state),
        inPlace({
          name: "tags",
          text: (row.tags ?? []).join(" "),
          shown: tags(row.tags),
          placeholder: "add tags",
          save: (text) => save({ tags: tagsOf(text) }),
        }),
        inPlace({
          name: "note",
          text: row.note ?? "",
          shown: row.note ? [el("span", { class: "note" }, row.note)] : [],
          placeholder: "add a note",
          save: (text) => save({ note: text }),
        }),
        el("span", { class: "grow" }),
        el(
          "button",
          {
            type: "button",
            class: "plain",
            onclick: () => save({ archived: !row.archived }),
          },
          row.archived ? "Take out of the archive" : "Archive",
        ),
        el("a", { class: "button", href: `/compare?ids=${run.id}`, "data-link": true }, "Compare"),
      ),
      el(
        "dl",
        { class: "figures" },
        el("div", {}, el("dt", {}, "Step"), el("dd", {}, progress(row))),
        figure("Loss", format.loss(row.loss), "nats a token"),
        figure(
          "Validation",
          format.loss(row.valid_loss),
          row.best_valid_loss !== null && row.best_valid_loss !== undefined
            ? `best ${format.loss(row.best_valid_loss)} at ${format.whole(row.best_step)}`
            : null,
        ),
        figure(
          "Tokens",
          format.count(row.tokens),
          `${format.count(row.tokens_per_second)} a second`,
        ),
        training
          ? figure(
              "Time left",
              format.duration(row.seconds_left),
              `after ${format.duration(row.elapsed_seconds)}`,
            )
          : figure(
              "Took",
              format.duration(row.elapsed_seconds),
              `ended ${format.moment(row.updated)}`,
            ),
        figure(
          "Model",
          row.parameters ? `${format.count(row.parameters)}` : format.NONE,
          [row.model, row.format].filter(Boolean).join(", "),
          false,
        ),
        figure("Alerts", counts.length ? counts : "none", null),
      ),
      row.unreadable_lines
        ? el(
            "p",
            { class: "problem" },
            `${format.whole(row.unreadable_lines)} lines of this run's record cannot be read; `,
            "what is shown is without them.",
          )
        : null,
    ].filter(Boolean),
  );
  if (focused)
    [...head.querySelectorAll("[aria-label]")]
      .find((each) => each.getAttribute("aria-label") === focused)
      ?.focus({ preventScroll: true });
}
