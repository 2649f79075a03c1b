// Light, dark, or as the system has it.

import { kept, keep } from "./settings.js";

const NEXT = { system: "light", light: "dark", dark: "system" };
const system = matchMedia("(prefers-color-scheme: dark)");

let chosen = kept("theme", "system");
if (!(chosen in NEXT)) chosen = "system";

function apply() {
  if (chosen === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
  const button = document.getElementById("theme");
  button.textContent = { system: "Auto", light: "Light", dark: "Dark" }[chosen];
  button.setAttribute("aria-label", `Colours: ${chosen}. Change to ${NEXT[chosen]}.`);
  button.title = "Light, dark, or as the system has it (t)";
  document.dispatchEvent(new Event("themechange"));
}

/** Takes the next of the three. */
export function nextTheme() {
  chosen = NEXT[chosen];
  keep("theme", chosen);
  apply();
}

/** Takes what was chosen before. */
export function startTheme() {
  document.getElementById("theme").addEventListener("click", nextTheme);
  system.addEventListener("change", apply);
  apply();
}
