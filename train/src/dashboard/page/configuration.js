// The configuration of a run: every key, what is no default marked, and the command to have it
// again.

import { el, notice } from "./dom.js";
import { setting } from "./format.js";
import { keep, kept } from "./settings.js";

/** Copies a text and says so; `instead` is what else can be done where that is refused. */
async function copy(text, instead = "") {
  try {
    await navigator.clipboard.writeText(text);
    notice("Copied.");
  } catch {
    notice(`The browser does not let this page copy${instead}.`, true);
  }
}

/** A command, and a button that copies it. */
export function command(text) {
  const instead = ": select the command and copy it by hand";
  return el(
    "div",
    { class: "command sheet" },
    el("code", {}, text),
    el("button", { type: "button", onclick: () => copy(text, instead) }, "Copy"),
  );
}

/**
 * Leaves of a configuration as [key, value], keys with their sections; what is inside a list stays
 * there.
 */
function leaves(value, path = []) {
  if (value === null || typeof value !== "object" || Array.isArray(value))
    return [[path.join("."), value]];
  return Object.entries(value).flatMap(([key, inside]) => leaves(inside, [...path, key]));
}

/** Opens the tab. */
export async function openConfiguration(host, run) {
  const { config, config_toml: toml, changed = {}, command: again } = run.detail;
  const all = leaves(config ?? {});
  let only = kept("configuration.only", false);
  const search = el("input", {
    type: "search",
    placeholder: "Search keys and values",
    "aria-label": "Search the configuration",
    oninput: () => draw(),
  });
  const box = el("input", {
    type: "checkbox",
    checked: only,
    onchange: () => {
      only = box.checked;
      keep("configuration.only", only);
      draw();
    },
  });
  const sections = el("div", { class: "toml" });
  const asToml = el("button", { type: "button", onclick: () => copy(toml) }, "Copy as TOML");

  const isChanged = (key) =>
    Object.keys(changed).some(
      (each) => each === key || key.startsWith(`${each}.`) || each.startsWith(`${key}.`),
    );
  function draw() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const groups = new Map();
    for (const [key, value] of all) {
      const text = setting(value);
      if (only && !isChanged(key)) continue;
      if (!words.every((word) => `${key} = ${text}`.toLowerCase().includes(word))) continue;
      const [section, ...rest] = key.split(".");
      groups.set(section, [
        ...(groups.get(section) ?? []),
        [rest.join(".") || section, text, isChanged(key)],
      ]);
    }
    sections.replaceChildren(
      ...[...groups].map(([section, rows]) =>
        el(
          "section",
          { class: "sheet", "aria-label": section },
          el("h3", {}, `[${section}]`),
          el(
            "table",
            {},
            el(
              "tbody",
              {},
              rows.map(([key, text, marked]) =>
                el(
                  "tr",
                  {
                    class: marked ? "changed" : null,
                    title: marked ? "not the default" : null,
                  },
                  el("td", {}, key),
                  el("td", {}, text),
                ),
              ),
            ),
          ),
        ),
      ),
    );
    if (!groups.size)
      sections.append(
        el(
          "p",
          { class: "muted waits" },
          only && !words.length ? "Everything in this run is as by default." : "No key matches.",
        ),
      );
  }
  host.append(
    el("h3", { class: "above" }, "To have this run again"),
    command(again ?? ""),
    el(
      "div",
      { class: "controls" },
      search,
      el("label", {}, box, "only what is no default"),
      el(
        "span",
        { class: "caption" },
        `${Object.keys(changed).length} of ${all.length} keys are no defaults; they are marked`,
      ),
      el("span", { class: "grow" }),
      toml ? asToml : null,
    ),
    sections,
  );
  draw();
  return {};
}
