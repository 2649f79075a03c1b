// The page of one run: its head, its tabs, and the stream that keeps them up to date.

import { get } from "./api.js";
import { el } from "./dom.js";
import { drawHead } from "./run_head.js";
import { go } from "./router.js";
import { Series } from "./series.js";
import { listen } from "./stream.js";

/** Each tab: how it is called, when it has something to show, and where it comes from. */
const TABS = [
  { name: "curves", title: "Curves", load: async () => (await import("./curves.js")).openCurves },
  {
    name: "experts",
    title: "Experts",
    when: ({ detail }) => detail.layers?.length,
    load: async () => (await import("./experts.js")).openExperts,
  },
  {
    name: "fp8",
    title: "FP8",
    when: ({ detail }) => /^fp8/i.test(detail.row.format ?? ""),
    load: async () => (await import("./fp8.js")).openFp8,
  },
  {
    name: "machine",
    title: "Machine",
    load: async () => (await import("./machine.js")).openMachine,
  },
  {
    name: "samples",
    title: "Samples",
    load: async () => (await import("./samples.js")).openSamples,
  },
  { name: "alerts", title: "Alerts", load: async () => (await import("./alerts.js")).openAlerts },
  {
    name: "configuration",
    title: "Configuration",
    load: async () => (await import("./configuration.js")).openConfiguration,
  },
  { name: "files", title: "Files", load: async () => (await import("./files.js")).openFiles },
  {
    name: "pipeline",
    title: "Pipeline",
    load: async () => (await import("./pipeline.js")).openPipeline,
  },
  {
    name: "microscope",
    title: "Microscope",
    when: ({ detail }) => detail.layers?.length,
    load: async () => (await import("./microscope.js")).openMicroscope,
  },
];
const PATHS = ["pipeline", "microscope"];

/** Everything that the tabs know of the run. */
class Run {
  constructor(id, detail) {
    this.id = id;
    this.detail = detail;
    this.series = new Series(id);
    this.loaded = null;
  }

  get row() {
    return this.detail.row;
  }

  /** The numbers, fetched when the first tab asks for them. */
  numbers() {
    this.loaded ??= this.series.load().catch((error) => {
      this.loaded = null;
      throw error;
    });
    return this.loaded;
  }
}

/** Opens the page, with the tab that the address names. */
export async function openRun(main, { id }, entitle) {
  const run = new Run(id, await get(`runs/${id}`));
  const head = el("header", { class: "run-head" });
  const tabs = el("nav", { class: "tabs", "aria-label": "Parts of the run" });
  const host = el("section", { class: "tab" });
  main.append(head, tabs, host);
  entitle(`${run.row.name} · deepseek`);

  let shown = null;
  let open = null;
  let turn = 0;

  const address = (name) =>
    PATHS.includes(name)
      ? `/run/${id}/${name}`
      : name === "curves"
        ? `/run/${id}`
        : `/run/${id}#${name}`;
  const present = () => TABS.filter(({ when }) => !when || when(run));
  const wanted = () => {
    const [, , , inPath] = location.pathname.split("/");
    const name = inPath || location.hash.slice(1) || "curves";
    return present().find((tab) => tab.name === name) ?? TABS[0];
  };

  function drawTabs() {
    const counted = {
      alerts:
        (run.row.alerts?.warning ?? 0) + (run.row.alerts?.error ?? 0) + (run.row.alerts?.info ?? 0),
    };
    const says = JSON.stringify([shown, counted, present().length]);
    if (tabs.dataset.says === says) return;
    tabs.dataset.says = says;
    tabs.replaceChildren(
      ...present().map((tab) =>
        el(
          "a",
          {
            href: address(tab.name),
            "data-link": true,
            "aria-current": tab.name === shown ? "page" : null,
          },
          tab.title,
          counted[tab.name] ? el("span", { class: "count" }, String(counted[tab.name])) : null,
        ),
      ),
    );
    const here = tabs.querySelector("[aria-current]");
    if (here) tabs.scrollLeft = here.offsetLeft + (here.offsetWidth - tabs.clientWidth) / 2;
  }

  async function showTab() {
    const tab = wanted();
    if (tab.name === shown) return;
    const mine = ++turn;
    open?.close?.();
    open = null;
    shown = tab.name;
    drawTabs();
    host.replaceChildren(el("p", { class: "muted waits" }, "Loading"));
    host.setAttribute("aria-label", tab.title);
    try {
      const fill = await tab.load();
      const inside = el("div");
      const opened = await fill(inside, run);
      if (mine !== turn) return opened?.close?.();
      host.replaceChildren(inside);
      open = opened;
    } catch (error) {
      if (mine !== turn) return;
      host.replaceChildren(el("p", { class: "problem", role: "alert" }, error.message));
      if (!("status" in error)) throw error;
    }
  }

  async function reload() {
    run.detail = await get(`runs/${id}`);
    await run.series.load();
    drawHead(head, run);
    drawTabs();
    open?.reloaded?.();
  }

  drawHead(head, run);
  await Promise.all([run.numbers(), showTab()]);
  const stream = listen(
    () => `/api/runs/${id}/events?after=${encodeURIComponent(run.series.offset)}`,
    {
      lines: ({ offset, lines }) => {
        const grown = run.series.append(lines, offset);
        open?.lines?.(lines);
        // The sign in the header says that the server is gone; the next lines try again.
        if (grown)
          run.series.thin().then(
            () => open?.lines?.([]),
            () => {},
          );
      },
      state: (row) => {
        const changed =
          row.state !== run.row.state ||
          JSON.stringify(row.alerts) !== JSON.stringify(run.row.alerts);
        run.detail.row = row;
        drawHead(head, run);
        if (changed) drawTabs();
      },
      rewound: () => reload().then(() => stream.restart()),
    },
  );
  window.addEventListener("hashchange", showTab);

  return {
    stay(path) {
      if (path !== `/run/${id}` && !PATHS.some((name) => path === `/run/${id}/${name}`))
        return false;
      showTab();
      return true;
    },
    close() {
      turn += 1;
      stream.close();
      window.removeEventListener("hashchange", showTab);
      open?.close?.();
    },
    keys: () => [
      { keys: "] ArrowRight", what: "next tab", act: () => step(1) },
      { keys: "[ ArrowLeft", what: "tab before", act: () => step(-1) },
      { keys: "u", what: "up to the runs", act: () => go("/") },
      ...(open?.keys?.() ?? []),
    ],
  };

  function step(by) {
    const all = present();
    const at = all.findIndex((tab) => tab.name === shown);
    go(address(all[(at + by + all.length) % all.length].name));
  }
}
