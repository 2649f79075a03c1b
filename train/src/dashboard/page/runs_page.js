// The page of all runs: a table that follows them.

import { get } from "./api.js";
import { chooser, el, empty } from "./dom.js";
import * as format from "./format.js";
import { label } from "./labels.js";
import { go } from "./router.js";
import { arrange, groupings } from "./runs_order.js";
import { headingRow, headOf, rowOf } from "./runs_rows.js";
import { keep, kept } from "./settings.js";
import { listen } from "./stream.js";

const DEFAULT = { search: "", column: "updated", falls: true, group: "", archived: false };

/** Opens the page. */
export async function openRuns(main, _, entitle) {
  entitle("Runs · deepseek");
  const rows = new Map();
  const drawn = new Map(); // of each row what was drawn, and its element
  const chosen = new Set();
  const view = { ...DEFAULT, ...kept("runs", {}) };
  let cursor = null;
  let shape = "";

  const change = (part) => {
    Object.assign(view, part);
    keep("runs", view);
    draw();
  };
  const search = el("input", {
    type: "search",
    placeholder: "Search names, tags, notes, keys",
    "aria-label": "Search runs",
    "aria-keyshortcuts": "/",
    value: view.search,
    oninput: () => change({ search: search.value }),
  });
  const group = el("span", { class: "field" });
  const archived = el("input", {
    type: "checkbox",
    checked: view.archived,
    onchange: () => change({ archived: archived.checked }),
  });
  const summary = el("span", { class: "muted", role: "status" });
  const table = el("table", { class: "runs" });
  const body = el("div", { class: "sheet scroll-x" }, table);
  const nothing = el("div");
  const bar = el("div", {
    class: "chosen sheet",
    role: "region",
    "aria-label": "Chosen runs",
    hidden: true,
  });
  main.append(
    el(
      "div",
      { class: "controls" },
      el("h1", {}, "Runs"),
      summary,
      el("span", { class: "grow" }),
      search,
      group,
      el("label", {}, archived, "show archived"),
    ),
    body,
    nothing,
    bar,
  );

  const renew = (row) => {
    if (row) {
      rows.set(row.id, row);
      draw();
    }
  };

  /** The element of a row: the old one where nothing has changed or somebody writes in it. */
  function elementOf(row, place) {
    const key = `${place} ${row.id}`;
    const text =
      JSON.stringify(row) +
      (row.state === "training" ? "" : format.ago(row.updated)) +
      chosen.has(row.id);
    const before = drawn.get(key);
    if (before && (before.text === text || before.element.querySelector("[data-editing]")))
      return before.element;
    const element = rowOf(row, { chosen: chosen.has(row.id), choose, renew });
    drawn.set(key, { text, element });
    return element;
  }

  // What is being pressed stays until it is let go: a new element would not be the one pressed.
  let pressed = false;
  const press = () => {
    pressed = true;
  };
  const release = () => {
    if (pressed)
      setTimeout(() => {
        pressed = false;
        draw();
      });
  };
  table.addEventListener("pointerdown", press);
  window.addEventListener("pointerup", release);
  window.addEventListener("pointercancel", release);

  function draw() {
    if (pressed) return;
    const all = [...rows.values()];
    const groups = arrange(all, view);
    const count = new Set(groups.flatMap((each) => each.rows.map((row) => row.id))).size;
    const focused = document.activeElement?.closest?.("tr")?.dataset.id;
    const focusedPart = document.activeElement?.getAttribute?.("aria-label");
    const options = groupings(all);
    if (JSON.stringify(options) !== group.dataset.options) {
      group.dataset.options = JSON.stringify(options);
      if (!options.some(([value]) => value === view.group)) view.group = "";
      group.replaceChildren(
        chooser("Group by", options, view.group, (value) => change({ group: value })),
      );
    }
    const training = all.filter((row) => row.state === "training").length;
    summary.textContent = `${count} of ${all.length}${training ? `, ${training} training` : ""}`;
    body.hidden = count === 0;
    nothing.replaceChildren();
    if (!all.length)
      nothing.append(
        empty(
          "No runs here yet",
          "The folders that this dashboard was given hold no run. Start one in another " +
            "terminal, and it appears here.",
          "deepseek train",
        ),
      );
    else if (!count) {
      nothing.append(
        empty(
          "No run matches",
          `No run${view.archived ? "" : " that is not archived"} has all of these words in its ` +
            "name, tags, note or changed keys.",
        ),
        el(
          "p",
          { class: "empty" },
          el(
            "button",
            {
              type: "button",
              onclick: () => {
                search.value = "";
                change({ search: "" });
              },
            },
            "Clear the search",
          ),
        ),
      );
    }
    const lines = groups
      .flatMap(({ heading, rows: inside }) => [
        heading !== null && headingRow(heading, inside),
        ...inside.map((row) => elementOf(row, heading ?? "")),
      ])
      .filter(Boolean);
    const now = JSON.stringify([view.column, view.falls]);
    if (shape !== now || !table.tHead) {
      shape = now;
      table.tHead?.remove();
      table.prepend(headOf(view, change));
    }
    if (!table.tBodies.length) table.append(el("tbody"));
    const inTable = table.tBodies[0];
    if (
      lines.length !== inTable.children.length ||
      lines.some((line, at) => inTable.children[at] !== line)
    ) {
      // A field that is being written in must not leave the document, not even for a moment.
      const writing = inTable.querySelector("[data-editing]");
      if (!writing) inTable.replaceChildren(...lines);
    }
    if (focused && !document.activeElement?.closest?.("tr")) {
      const line = inTable.querySelector(`tr[data-id="${focused}"]`);
      const parts = [...(line?.querySelectorAll("[aria-label]") ?? [])];
      const part = parts.find(
        (each) => focusedPart && each.getAttribute("aria-label") === focusedPart,
      );
      (part ?? line)?.focus({ preventScroll: true });
    }
    point(cursor);
    drawBar();
  }

  function choose(id, is) {
    if (is) chosen.add(id);
    else chosen.delete(id);
    draw();
  }

  const picked = () => [...chosen].map((id) => rows.get(id)).filter(Boolean);
  const compare = () => {
    if (chosen.size) go(`/compare?ids=${[...chosen].join(",")}`);
  };

  async function archive() {
    const to = !picked().every((row) => row.archived);
    for (const row of picked()) renew(await label(row.id, { archived: to }));
    chosen.clear();
    draw();
  }

  function drawBar() {
    for (const id of chosen) if (!rows.has(id)) chosen.delete(id);
    bar.hidden = chosen.size === 0;
    if (bar.dataset.drawn === [...chosen].join()) return;
    bar.dataset.drawn = [...chosen].join();
    const button = (text, act, kind) =>
      el("button", { type: "button", class: kind, onclick: act }, text);
    bar.replaceChildren(
      el("span", {}, `${chosen.size} chosen`),
      button("Compare", compare, "primary"),
      button(
        picked().every((row) => row.archived) ? "Take out of the archive" : "Archive",
        archive,
      ),
      button(
        "Clear",
        () => {
          chosen.clear();
          draw();
        },
        "plain",
      ),
    );
  }

  const lines = () => [...(table.tBodies[0]?.querySelectorAll("tr[data-id]") ?? [])];
  function point(id) {
    for (const line of lines()) line.toggleAttribute("data-cursor", line.dataset.id === id);
  }
  function move(by) {
    const all = lines();
    const at = all.findIndex((line) => line.dataset.id === cursor);
    const next = all[Math.max(0, Math.min(all.length - 1, at < 0 ? 0 : at + by))];
    if (!next) return;
    cursor = next.dataset.id;
    point(cursor);
    next.focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
  }

  const load = async () => {
    const { runs } = await get("runs");
    rows.clear();
    for (const row of runs) rows.set(row.id, row);
    draw();
  };
  await load();
  const stream = listen(
    () => "/api/events",
    {
      runs: ({ runs, removed }) => {
        for (const row of runs) rows.set(row.id, row);
        for (const id of removed ?? []) rows.delete(id);
        draw();
      },
    },
    load,
  );
  const clock = setInterval(draw, 30_000);

  return {
    close() {
      stream.close();
      clearInterval(clock);
      window.removeEventListener("pointerup", release);
      window.removeEventListener("pointercancel", release);
    },
    keys: () => [
      { keys: "j ArrowDown", what: "next run", act: () => move(1) },
      { keys: "k ArrowUp", what: "run before", act: () => move(-1) },
      {
        keys: "Enter o",
        what: "open the run",
        act: (event) => {
          if (!cursor || event.target.matches("a, button, input")) return false;
          go(`/run/${cursor}`);
        },
      },
      {
        keys: "x",
        what: "choose the run",
        act: () => cursor && !rows.get(cursor)?.error && choose(cursor, !chosen.has(cursor)),
      },
      { keys: "c", what: "compare the chosen runs", act: compare },
    ],
  };
}
