// What tables and headers say of a run: its state, alerts, tags, and how far it is.

import { el, sign } from "./dom.js";
import { whole } from "./format.js";

const STATES = { training: "circle", finished: "tick", stopped: "square", diverged: "cross" };
const LEVELS = { info: "ring", warning: "triangle", error: "diamond" };

/** The state, as sign and word. */
export const state = (name) =>
  el("span", { class: `state state-${name}` }, sign(STATES[name] ?? "ring"), name);

/** A level of alerts, with a text. */
export const level = (name, text = name) =>
  el("span", { class: `level level-${name}` }, sign(LEVELS[name] ?? "ring"), text);

/** How many alerts of each level there were; nothing for none. */
export function alertCounts(alerts) {
  const levels = ["error", "warning", "info"].filter((name) => alerts?.[name]);
  return levels.map((name) => {
    const text = `${alerts[name]} ${name}${alerts[name] === 1 || name === "info" ? "" : "s"}`;
    const shown = level(name, String(alerts[name]));
    shown.title = text;
    shown.setAttribute("aria-label", text);
    return shown;
  });
}

/** Tags in their order. */
export const tags = (names) =>
  (names ?? []).map((name) => el("span", { class: "tag", title: name }, name));

/** How many of the planned steps were made, as a bar and as numbers. */
export function progress(row) {
  const share = row.planned_steps ? Math.min(1, row.step / row.planned_steps) : 0;
  const text = `${whole(row.step)} of ${whole(row.planned_steps)}`;
  return el(
    "div",
    { class: "how-far", title: `step ${text}` },
    el(
      "span",
      { class: "live-value" },
      whole(row.step),
      el("span", { class: "muted" }, ` / ${whole(row.planned_steps)}`),
    ),
    el(
      "div",
      {
        class: row.state === "training" ? "progress" : "progress done",
        role: "img",
        "aria-label": `${Math.round(100 * share)} percent`,
      },
      el("i", { style: { width: `${(100 * share).toFixed(2)}%` } }),
    ),
  );
}

/** `key = value` of what is no default. */
export const changedText = (changed, show) =>
  Object.entries(changed ?? {}).map(([key, value]) => `${key} = ${show(value)}`);
