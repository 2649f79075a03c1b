// Starts the page: theme, keys, addresses.

import { get } from "./api.js";
import { el, notice } from "./dom.js";
import { setLive, startKeys } from "./keys.js";
import { route, startRouter } from "./router.js";
import { startTheme } from "./theme.js";

const ID = "(?<id>[0-9a-f]{12})";

/** Marks which of the header's links is here. */
function here(name) {
  for (const link of document.querySelectorAll("[data-nav]")) {
    if (link.dataset.nav === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function page(pattern, name, load) {
  route(pattern, async (main, parts, entitle) => {
    here(name);
    return (await load())(main, parts, entitle);
  });
}

page(/^\/$/, "runs", async () => (await import("./runs_page.js")).openRuns);
page(
  new RegExp(`^/run/${ID}(?:/(?<part>pipeline|microscope))?$`),
  "run",
  async () => (await import("./run_page.js")).openRun,
);
page(/^\/compare$/, "compare", async () => (await import("./compare_page.js")).openCompare);

startTheme();
startKeys();
startRouter();

try {
  const { live, version } = await get("session");
  setLive(live);
  document.querySelector(".brand").append(el("span", { class: "caption" }, version));
  const link = document.querySelector("[data-nav=live]");
  link.hidden = !live;
  if (live) link.href = `/run/${live}`;
} catch (error) {
  notice(error.message, true);
}
