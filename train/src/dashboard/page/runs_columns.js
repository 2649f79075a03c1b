// The columns of the table of runs: what each shows and what it sorts by.

import { el } from "./dom.js";
import * as format from "./format.js";
import { label, tagsAndNote } from "./labels.js";
import * as parts from "./run_parts.js";
import { sparkline } from "./sparkline.js";

const ORDER = { training: 0, diverged: 1, stopped: 2, finished: 3 };
const weight = (alerts) => (alerts ? alerts.error * 1e6 + alerts.warning * 1e3 + alerts.info : 0);

function changed(row) {
  const all = parts.changedText(row.changed, format.setting);
  if (!all.length) return el("span", { class: "none" }, format.NONE);
  const few = all.slice(0, 2).map((text) => el("span", { class: "key" }, text));
  return el(
    "span",
    { title: all.join("\n") },
    few,
    all.length > 2 && el("span", { class: "muted" }, `and ${all.length - 2} more`),
  );
}

function labels(row, renew) {
  const save = async (changed) => renew(await label(row.id, changed));
  return el("div", { class: "labels" }, tagsAndNote(row, save, ` of ${row.name}`));
}

/**
 * `sort` gives a number or text; `best` says which end is first when it is sorted by for the first
 * time.
 */
export const COLUMNS = [
  {
    key: "name",
    title: "Run",
    sort: (row) => row.name,
    cell: (row) => [
      el("a", { href: `/run/${row.id}`, "data-link": true, class: "name" }, row.name),
      row.archived && el("span", { class: "tag" }, "archived"),
      el("span", { class: "caption folder", title: row.folder }, row.folder),
    ],
  },
  {
    key: "state",
    title: "State",
    sort: (row) => ORDER[row.state] ?? 9,
    cell: (row) => parts.state(row.state),
  },
  { key: "step", title: "Steps", sort: (row) => row.step, cell: parts.progress },
  {
    key: "loss",
    title: "Loss",
    hint: "Mean cross entropy of the last step, nats a token",
    number: true,
    sort: (row) => row.loss,
    cell: (row) => format.loss(row.loss),
  },
  {
    key: "valid_loss",
    title: "Valid.",
    hint: "The last validation loss",
    number: true,
    sort: (row) => row.valid_loss,
    cell: (row) => format.loss(row.valid_loss),
  },
  {
    key: "best_valid_loss",
    title: "Best",
    hint: "The best validation loss, and the step that had it",
    number: true,
    sort: (row) => row.best_valid_loss,
    cell: (row) => [
      el("strong", {}, format.loss(row.best_valid_loss)),
      row.best_step !== null &&
        row.best_step !== undefined &&
        el("span", { class: "caption" }, ` @${format.whole(row.best_step)}`),
    ],
  },
  {
    key: "trend",
    title: "Course",
    hint: "The loss over the whole run",
    cell: (row) => sparkline(row.sparkline),
  },
  {
    key: "tokens_per_second",
    title: "Tokens/s",
    number: true,
    falls: true,
    sort: (row) => row.tokens_per_second,
    cell: (row) => format.count(row.tokens_per_second),
  },
  {
    key: "seconds_left",
    title: "Left or took",
    hint: "What is left; of a run that has ended, how long it took",
    number: true,
    sort: (row) => row.seconds_left ?? row.elapsed_seconds,
    cell: (row) =>
      row.state === "training"
        ? el("span", { class: "live-value" }, format.duration(row.seconds_left))
        : el("span", { class: "muted", title: "took" }, format.duration(row.elapsed_seconds)),
  },
  {
    key: "alerts",
    title: "Alerts",
    falls: true,
    sort: (row) => weight(row.alerts),
    cell: (row) => {
      const counts = parts.alertCounts(row.alerts);
      return counts.length ? counts : el("span", { class: "none" }, format.NONE);
    },
  },
  {
    key: "changed",
    title: "Changed",
    hint: "What of the configuration is no default",
    cell: changed,
  },
  { key: "labels", title: "Tags and note", cell: labels },
  {
    key: "updated",
    title: "Updated",
    number: true,
    falls: true,
    sort: (row) => row.updated,
    cell: (row) =>
      el(
        "time",
        { datetime: row.updated, title: new Date(row.updated).toLocaleString() },
        format.ago(row.updated),
      ),
  },
];

/** Text that a search looks through. */
export const haystack = (row) =>
  [
    row.name,
    row.folder,
    row.state,
    row.model,
    row.format,
    row.note,
    row.error,
    ...(row.tags ?? []),
    ...parts.changedText(row.changed, format.setting),
  ]
    .join("\n")
    .toLowerCase();
