// The head of a run's page: name, state, labels, and the numbers that one looks at first.

import { el } from "./dom.js";
import * as format from "./format.js";
import { label, tagsAndNote } from "./labels.js";
import { alertCounts, progress, state } from "./run_parts.js";

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

function title(head, run) {
  const { row } = run;
  const save = async (labels) => {
    const renewed = await label(run.id, labels);
    if (renewed) run.detail.row = renewed;
    drawHead(head, run);
  };
  return el(
    "div",
    { class: "title" },
    el("a", { href: "/", "data-link": true, class: "muted" }, "Runs"),
    el("span", { class: "muted", "aria-hidden": "true" }, "/"),
    el("h1", {}, row.name),
    state(row.state),
    tagsAndNote(row, save),
    el("span", { class: "grow" }),
    el(
      "button",
      { type: "button", class: "plain", onclick: () => save({ archived: !row.archived }) },
      row.archived ? "Take out of the archive" : "Archive",
    ),
    el("a", { class: "button", href: `/compare?ids=${run.id}`, "data-link": true }, "Compare"),
  );
}

function figures(row) {
  const counts = alertCounts(row.alerts);
  const best = row.best_valid_loss ?? null;
  const unread = format.whole(row.unreadable_lines);
  return [
    el(
      "dl",
      { class: "figures" },
      el("div", {}, el("dt", {}, "Step"), el("dd", {}, progress(row))),
      figure("Loss", format.loss(row.loss), "nats a token"),
      figure(
        "Validation",
        format.loss(row.valid_loss),
        best === null ? null : `best ${format.loss(best)} at ${format.whole(row.best_step)}`,
      ),
      figure("Tokens", format.count(row.tokens), `${format.count(row.tokens_per_second)} a second`),
      row.state === "training"
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
        format.count(row.parameters),
        [row.model, row.format].filter(Boolean).join(", "),
        false,
      ),
      figure("Alerts", counts.length ? counts : "none", null),
    ),
    row.unreadable_lines
      ? el(
          "p",
          { class: "problem" },
          `${unread} lines of this run's record cannot be read; `,
          "what is shown is without them.",
        )
      : null,
  ];
}

/**
 * Draws the head anew. What can be pressed or written in stays as it is where nothing of it
 * changed.
 */
export function drawHead(head, run) {
  const { name, state: now, tags: labels, note, archived } = run.row;
  const says = JSON.stringify([name, now, labels, note, archived]);
  if (head.dataset.says !== says && !head.querySelector("[data-editing]")) {
    const focused =
      head.contains(document.activeElement) && document.activeElement.getAttribute("aria-label");
    head.dataset.says = says;
    head.replaceChildren(title(head, run), el("div"));
    const found = [...head.querySelectorAll("[aria-label]")];
    if (focused)
      found
        .find((each) => each.getAttribute("aria-label").split(":")[0] === focused.split(":")[0])
        ?.focus({ preventScroll: true });
  }
  head.lastElementChild.replaceChildren(...figures(run.row).filter(Boolean));
}
