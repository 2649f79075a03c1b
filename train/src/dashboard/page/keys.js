// The keyboard: what a key does everywhere, and the list of them.

import { el } from "./dom.js";
import { current, go } from "./router.js";
import { nextTheme } from "./theme.js";

const EVERYWHERE = [
  ["/", "search"],
  ["g r", "go to the runs"],
  ["g c", "go to the comparison"],
  ["g l", "go to the run that is being trained"],
  ["t", "light, dark, or as the system has it"],
  ["?", "these keys"],
  ["Esc", "leave a field, close what is open"],
];

let waiting = -Infinity; // when `g` was pressed
let live = null;

/** Which run `g l` goes to. */
export const setLive = (id) => {
  live = id;
};

const editing = (target) =>
  target.matches?.("input:not([type=checkbox], [type=range]), textarea, select, [contenteditable]");

const NAMES = { ArrowUp: "↑", ArrowDown: "↓", ArrowLeft: "←", ArrowRight: "→" };

/** Keys and what they do; `between` stands between two keys of a line. */
function list(pairs, between) {
  const line = ([keys, what]) => [
    el(
      "dt",
      {},
      keys.split(" ").map((key, at) => [at ? between : "", el("kbd", {}, NAMES[key] ?? key)]),
    ),
    el("dd", {}, what),
  ];
  return el("dl", { class: "keys" }, pairs.map(line));
}

/** Shows the keys of this page and of every page. */
function showKeys() {
  const own = current()?.keys?.() ?? [];
  const close = el("button", { type: "button", onclick: () => dialog.close() }, "Close");
  const dialog = el(
    "dialog",
    { "aria-label": "Keys", onclose: () => dialog.remove() },
    own.length
      ? [
          el("h2", {}, "On this page"),
          list(
            own.map(({ keys, what }) => [keys, what]),
            " or ",
          ),
        ]
      : null,
    el("h2", {}, "Everywhere"),
    list(EVERYWHERE, " then "),
    close,
  );
  document.body.append(dialog);
  dialog.showModal();
}

/** Closes the menus that are open, but for one around `inside`. */
function closeMenus(inside) {
  for (const menu of document.querySelectorAll("details.exports[open]"))
    if (!menu.contains(inside)) menu.open = false;
}

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.key === "Escape") {
    if (editing(event.target)) event.target.blur();
    closeMenus(null);
    return;
  }
  if (editing(event.target) || document.querySelector("dialog[open]")) return;
  const second = event.timeStamp - waiting < 1200;
  waiting = -Infinity;
  const act = second
    ? { r: () => go("/"), c: () => go("/compare"), l: () => live && go(`/run/${live}`) }[event.key]
    : ({
        g: () => {
          waiting = event.timeStamp;
        },
        t: nextTheme,
        "?": showKeys,
        "/": () => document.querySelector("main [type=search]")?.focus(),
      }[event.key] ??
      current()
        ?.keys?.()
        .find(({ keys }) => keys.split(" ").includes(event.key))?.act);
  if (!act) return;
  if (act(event) !== false) event.preventDefault();
}

/** Listens to the keyboard. */
export function startKeys() {
  document.addEventListener("keydown", press);
  document.addEventListener("pointerdown", (event) => closeMenus(event.target));
  document.getElementById("help").addEventListener("click", showKeys);
}
