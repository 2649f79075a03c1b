// What is to be different: experts switched off, biases moved, groups kept, another number format.

import { chooser, el } from "./dom.js";
import { signed } from "./format.js";

/** The list of changes, and the form that adds to it. `ask` is called when it has changed. */
export class WhatIf {
  constructor(ask) {
    this.ask = ask;
    this.changes = [];
    this.found = null;
    this.list = el("div", { class: "changes", role: "list", "aria-label": "Changes" });
    this.form = el("div", { class: "controls" });
    this.element = el(
      "section",
      { class: "what-if sheet pad", "aria-label": "What if", hidden: true },
      this.form,
      this.list,
    );
  }

  /** What the server is asked for; null for nothing. */
  asked() {
    if (!this.changes.length) return null;
    const of = (kind) => this.changes.filter((change) => change.kind === kind);
    return {
      disabled: of("disabled").map(({ layer, expert }) => ({ layer, expert })),
      bias: of("bias").map(({ layer, expert, delta }) => ({ layer, expert, delta })),
      topk_group: of("groups").at(-1)?.groups ?? null,
      format: of("format").at(-1)?.format ?? null,
    };
  }

  /** Learns from an answer which layers and experts there are. */
  know(found) {
    const before = this.found;
    this.found = found;
    this.element.hidden = false;
    if (!before) this.draw();
  }

  /** Adds a change, in place of one that says the same thing otherwise, and asks. */
  add(change) {
    const same = (other) =>
      other.kind === change.kind &&
      (change.layer === undefined ||
        (other.layer === change.layer && other.expert === change.expert));
    this.changes = [...this.changes.filter((other) => !same(other)), change];
    this.drawList();
    this.ask();
  }

  drop(change) {
    this.changes = this.changes.filter((other) => other !== change);
    this.drawList();
    this.ask();
  }

  draw() {
    const { layers, experts, groups, kept_groups: kept } = this.found;
    const what = chooser(
      "What if",
      [
        ["disabled", "an expert is off"],
        ["bias", "a bias is moved"],
        ...(groups > 1 ? [["groups", "more groups are kept"]] : []),
        ["format", "the number format is"],
      ],
      "disabled",
      () => fields(),
    );
    const inside = el("span", { class: "field" });
    const layer = chooser(
      "Layer of the expert",
      layers.map((each) => [each, `layer ${each}`]),
      layers[0],
      () => {},
    );
    const expert = el("input", {
      type: "number",
      min: 0,
      max: experts - 1,
      value: 0,
      "aria-label": "Expert",
      class: "short",
    });
    const delta = el("input", {
      type: "number",
      step: "0.01",
      value: 0.05,
      "aria-label": "Added to its bias",
      class: "short",
    });
    const groupCount = chooser(
      "Groups kept",
      Array.from({ length: groups }, (_, at) => [at + 1, `${at + 1} of ${groups}`]),
      Math.min(groups, kept + 1),
      () => {},
    );
    const format = chooser(
      "Number format",
      [
        ["fp32", "FP32"],
        ["bf16", "BF16"],
        ["fp8", "FP8"],
      ],
      "fp8",
      () => {},
    );
    const fields = () =>
      inside.replaceChildren(
        ...{
          disabled: [layer, " expert ", expert],
          bias: [layer, " expert ", expert, " by ", delta],
          groups: [groupCount],
          format: [format],
        }[what.value],
      );
    const add = () => {
      const at = { layer: Number(layer.value), expert: Number(expert.value) };
      if (["disabled", "bias"].includes(what.value) && !expert.reportValidity()) return;
      this.add(
        {
          disabled: { kind: "disabled", ...at },
          bias: { kind: "bias", ...at, delta: Number(delta.value) },
          groups: { kind: "groups", groups: Number(groupCount.value) },
          format: { kind: "format", format: format.value },
        }[what.value],
      );
    };
    fields();
    this.form.replaceChildren(
      el("h3", {}, "What if"),
      what,
      inside,
      el("button", { type: "button", onclick: add, "data-key": "add-change" }, "Compute"),
    );
    this.drawList();
  }

  drawList() {
    const says = {
      disabled: ({ layer, expert }) => `expert ${expert} of layer ${layer} is off`,
      bias: ({ layer, expert, delta }) =>
        `bias of expert ${expert}, layer ${layer}: ${signed(delta)}`,
      groups: ({ groups }) => `${groups} groups kept`,
      format: ({ format }) => `in ${format.toUpperCase()}`,
    };
    this.list.replaceChildren(
      ...this.changes.map((change) =>
        el(
          "span",
          { class: "change", role: "listitem" },
          says[change.kind](change),
          el(
            "button",
            {
              type: "button",
              class: "plain small",
              "aria-label": `Undo: ${says[change.kind](change)}`,
              onclick: () => this.drop(change),
            },
            "×",
          ),
        ),
      ),
      this.changes.length > 1
        ? el(
            "button",
            {
              type: "button",
              class: "plain small",
              onclick: () => {
                this.changes = [];
                this.drawList();
                this.ask();
              },
            },
            "Undo all",
          )
        : "",
    );
  }
}
