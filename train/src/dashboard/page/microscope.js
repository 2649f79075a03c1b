// The routing microscope: a text through a checkpoint, token by token, and what would be if.

import { get, post, query } from "./api.js";
import { chooser, el, problem, segments } from "./dom.js";
import { loss, percent, signed, whole } from "./format.js";
import { expertTokens } from "./microscope_expert.js";
import { tokenPath } from "./microscope_path.js";
import { chips, legendOf, moved } from "./microscope_tokens.js";
import { WhatIf } from "./microscope_what_if.js";
import { keep, kept } from "./settings.js";

const TEXT = "the river ran under the old bridge and the children counted the boats";
/** Letters of the last sample that are looked at before anybody types; a shorter one is not. */
const MOST_SAMPLED = 200;
const LEAST_SAMPLED = 40;
const FORMATS = [
  ["", "as it was trained"],
  ["fp32", "FP32"],
  ["bf16", "BF16"],
  ["fp8", "FP8"],
];

/** Opens the tab. */
export async function openMicroscope(host, run) {
  const checkpoints = [...(run.detail.checkpoints ?? [])].reverse();
  const [{ runs }, { samples }] = await Promise.all([get("runs"), get(`runs/${run.id}/samples`)]);
  const sampled = samples.at(-1)?.text.slice(0, MOST_SAMPLED) ?? "";
  let asking = null;
  let found = null; // the answer
  let view = { by: "expert", layer: 0, ...kept("microscope", {}) };
  let chosen = null; // index of a token, or {layer, expert}

  const text = el("textarea", {
    rows: 3,
    "aria-label": "Text",
    placeholder: "A text to look at",
    value: kept("microscope.text", sampled.length < LEAST_SAMPLED ? TEXT : sampled),
    spellcheck: "false",
  });
  const checkpoint = chooser(
    "Checkpoint",
    [["", "latest checkpoint"], ...checkpoints.map(({ step }) => [step, `step ${whole(step)}`])],
    "",
    () => {},
  );
  const format = chooser("Number format", FORMATS, "", () => {});
  const others = runs.filter((row) => !row.error && row.id !== run.id);
  const otherRun = chooser(
    "Compare with a run",
    [["", "nothing"], [run.id, "this run"], ...others.map((row) => [row.id, row.name])],
    "",
    () => otherSteps(),
  );
  const otherStep = el("span");
  async function otherSteps() {
    otherStep.replaceChildren();
    if (!otherRun.value) return;
    const detail = otherRun.value === run.id ? run.detail : await get(`runs/${otherRun.value}`);
    otherStep.replaceChildren(
      chooser(
        "Checkpoint of the other",
        [
          ["", "latest"],
          ...[...(detail.checkpoints ?? [])]
            .reverse()
            .map(({ step }) => [step, `step ${whole(step)}`]),
        ],
        "",
        () => {},
      ),
    );
  }
  const whatIf = new WhatIf(() => look());
  const go = el(
    "button",
    {
      type: "button",
      class: "primary",
      onclick: () => look(),
      title: "Ctrl-Enter in the text",
    },
    "Look",
  );
  const status = el("span", { class: "muted", role: "status" });
  const trouble = el("div");
  const result = el("div", { class: "microscope" });
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) look();
  });

  async function look() {
    keep("microscope.text", text.value);
    asking?.abort();
    const mine = new AbortController();
    asking = mine;
    go.disabled = true;
    status.textContent = "Computing";
    trouble.replaceChildren();
    const began = performance.now();
    try {
      const step = (value) => (value ? Number(value) : null);
      const hadChange = Boolean(found?.changed);
      found = await post(
        `runs/${run.id}/microscope/inspect`,
        {
          checkpoint: step(checkpoint.value),
          text: text.value,
          format: format.value || null,
          what_if: whatIf.asked(),
          other: otherRun.value
            ? {
                run: otherRun.value,
                checkpoint: step(otherStep.querySelector("select")?.value),
              }
            : null,
        },
        mine.signal,
      );
      whatIf.know(found);
      if (typeof chosen === "number" && chosen >= found.base.tokens.length) chosen = null;
      view.layer = Math.min(view.layer, Math.max(0, found.layers.length - 1));
      if (found.changed && !hadChange) view.by = "moved";
      if (!choices().some(([by]) => by === view.by)) view.by = "expert";
      const tokens = whole(found.base.tokens.length);
      const seconds = ((performance.now() - began) / 1000).toFixed(1);
      status.textContent = `step ${whole(found.checkpoint)}, ${tokens} tokens, ${seconds} s`;
      draw();
    } catch (error) {
      if (error.name === "AbortError") return;
      status.textContent = "";
      trouble.replaceChildren(problem(error.message));
    } finally {
      if (asking === mine) go.disabled = false;
    }
  }

  const choices = () => [
    ["expert", "expert"],
    ["loss", "loss"],
    ...(found?.base.tokens.some(({ mtp_agrees: agrees }) => agrees?.length)
      ? [["mtp", "MTP agrees"]]
      : []),
    ...(found?.other ? [["agreement", "agreement"]] : []),
    ...(found?.changed ? [["moved", "moved"]] : []),
  ];

  const setView = (part) => {
    view = { ...view, ...part };
    keep("microscope", { by: view.by, layer: view.layer });
    draw();
  };

  function summary() {
    const { base, changed, other } = found;
    const cell = (title, value, small) =>
      el(
        "div",
        {},
        el("dt", {}, title),
        el("dd", {}, value, small ? el("span", { class: "caption" }, ` ${small}`) : null),
      );
    const gone = changed ? moved(base, changed) : null;
    const difference = (to) => signed(Number(to.mean_loss ?? NaN) - Number(base.mean_loss ?? NaN));
    const apart = other ? moved(base, other) : null;
    return el(
      "dl",
      { class: "figures" },
      cell("Loss", loss(base.mean_loss), "nats a token"),
      changed ? cell("Loss, changed", loss(changed.mean_loss), difference(changed)) : null,
      changed
        ? cell(
            "Choices that moved",
            whole(gone.choices),
            `of ${whole(gone.of)}, in ${whole(gone.tokens)} tokens`,
          )
        : null,
      other ? cell("Loss of the other", loss(other.mean_loss), difference(other)) : null,
      other
        ? cell("Same experts", percent(1 - apart.choices / (apart.of || 1)), "of all choices")
        : null,
      cell(
        "Experts",
        `${found.chosen} of ${found.experts}`,
        found.groups > 1 ? `${found.kept_groups} of ${found.groups} groups` : null,
      ),
    );
  }

  let last = {}; // what was last asked for beside the tokens, and its answer
  async function ask(what, values) {
    const key = query(`runs/${run.id}/microscope/${what}`, values);
    const mine = last.key === key ? last : { key, answer: get(key) };
    last = mine;
    try {
      return await mine.answer;
    } catch (error) {
      if (last === mine) last = {};
      throw error;
    }
  }

  const side = el("aside", { class: "side sheet", "aria-label": "What was chosen" });
  async function drawSide() {
    const mine = chosen;
    try {
      if (chosen === null) {
        side.replaceChildren(
          el(
            "p",
            { class: "muted" },
            "Choose a token to see its way through all layers; there, choose an expert to " +
              "see which tokens it takes.",
          ),
        );
      } else if (typeof chosen === "number") {
        const path = await ask("token", { inspection: found.inspection, token: chosen });
        if (mine !== chosen) return;
        side.replaceChildren(
          ...tokenPath(found, chosen, path.layers, view.layer, {
            expert: (layer, expert) => {
              chosen = { layer, expert, from: mine };
              drawSide();
            },
            off: (layer, expert) => whatIf.add({ kind: "disabled", layer, expert }),
          }),
        );
      } else {
        side.replaceChildren(el("p", { class: "muted" }, "Reading held-out text"));
        const taken = await ask("expert", {
          layer: chosen.layer,
          expert: chosen.expert,
          checkpoint: found.checkpoint,
        });
        if (mine !== chosen) return;
        side.replaceChildren(
          ...expertTokens(chosen, taken, {
            back: () => {
              chosen = mine.from ?? null;
              drawSide();
            },
            off: () =>
              whatIf.add({
                kind: "disabled",
                layer: mine.layer,
                expert: mine.expert,
              }),
          }),
        );
      }
    } catch (error) {
      if (mine === chosen) side.replaceChildren(problem(error.message));
    }
  }

  let tokens = null;
  function draw() {
    if (!found) return;
    const layers = chooser(
      "Layer",
      found.layers.map((layer, at) => [at, `layer ${layer}`]),
      view.layer,
      (at) => setView({ layer: Number(at) }),
    );
    const choose = (at) => {
      chosen = at;
      for (const [index, chip] of [...tokens.querySelectorAll(".chip")].entries())
        chip.toggleAttribute("data-chosen", index === at);
      drawSide();
    };
    tokens = chips(found, view, typeof chosen === "number" ? chosen : null, choose);
    result.replaceChildren(
      summary(),
      el(
        "div",
        { class: "two" },
        el(
          "section",
          { class: "sheet pad", "aria-label": "Tokens" },
          el(
            "div",
            { class: "controls" },
            el(
              "span",
              { class: "field" },
              el("span", { class: "muted" }, "Colour by"),
              segments("Colour tokens by", choices(), view.by, (by) => setView({ by })),
            ),
            layers,
            el("span", { class: "grow" }),
            legendOf(found, view),
          ),
          tokens,
        ),
        side,
      ),
    );
    drawSide();
  }

  host.append(
    el(
      "div",
      { class: "ask sheet pad" },
      el("div", { class: "what" }, text),
      el(
        "div",
        { class: "controls" },
        el("label", {}, "Checkpoint ", checkpoint),
        el("label", {}, "in ", format),
        el("label", {}, "beside ", otherRun),
        otherStep,
        el("span", { class: "grow" }),
        status,
        go,
      ),
    ),
    whatIf.element,
    trouble,
    result,
  );
  if (checkpoints.length) await look();
  else
    trouble.append(
      el(
        "p",
        { class: "muted waits" },
        "This run has no checkpoint yet: the first is saved after train.checkpoint_every steps.",
      ),
    );

  const shift = (by) => {
    if (!found) return;
    chosen = Math.max(
      0,
      Math.min(found.base.tokens.length - 1, (typeof chosen === "number" ? chosen : -1) + by),
    );
    draw();
    tokens.querySelectorAll(".chip")[chosen]?.scrollIntoView({ block: "nearest" });
  };
  return {
    close() {
      asking?.abort();
    },
    keys: () => [
      {
        keys: "j",
        what: "next layer",
        act: () => found && setView({ layer: Math.min(found.layers.length - 1, view.layer + 1) }),
      },
      {
        keys: "k",
        what: "layer before",
        act: () => found && setView({ layer: Math.max(0, view.layer - 1) }),
      },
      { keys: "n", what: "next token", act: () => shift(1) },
      { keys: "p", what: "token before", act: () => shift(-1) },
    ],
  };
}
