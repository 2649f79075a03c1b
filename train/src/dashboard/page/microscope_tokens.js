// Tokens as chips, coloured by what one asks of them.

import { el } from "./dom.js";
import { loss, number, percent } from "./format.js";
import { cividis } from "./palette.js";

const MOST_LOSS = 6;

/** Text of a token with what cannot be seen made visible. */
export const visible = (text) =>
  text === ""
    ? "∅"
    : text
        .replaceAll(" ", "␣")
        .replaceAll("\n", "↵")
        .replaceAll("\t", "⇥")
        .replace(/[\p{Cc}\p{Cf}\p{Co}\p{Cn}]/gu, "�");

const same = (left, right) => left.filter((expert) => right.includes(expert)).length;

/** How many choices of experts differ between two inspections, and in how many tokens. */
export function moved(base, other) {
  let [choices, of] = [0, 0];
  const tokens = new Set();
  base.experts.forEach((layer, at) =>
    layer.forEach((chosen, token) => {
      const gone = chosen.length - same(chosen, other.experts[at]?.[token] ?? []);
      choices += gone;
      of += chosen.length;
      if (gone) tokens.add(token);
    }),
  );
  return { choices, of, tokens: tokens.size };
}

/** The expert of a token with the largest gate. */
function strongest(inspected, layer, token) {
  const [experts, gates] = [
    inspected.experts[layer]?.[token] ?? [],
    inspected.gates[layer]?.[token] ?? [],
  ];
  return experts[gates.indexOf(Math.max(...gates))] ?? null;
}

/** What a chip says, and how full its colour is: {label, share, title}. */
function said(found, { by, layer }, token) {
  const { base, changed, other, layers, experts } = found;
  const { loss: own, mtp_agrees: agrees } = base.tokens[token];
  if (by === "loss")
    return {
      label: own === null ? "" : own.toFixed(1),
      share: own === null ? null : own / MOST_LOSS,
      title: `loss ${loss(own)}`,
    };
  if (by === "mtp") {
    const known = (agrees ?? []).filter((each) => each !== null);
    const good = known.filter(Boolean).length;
    return {
      label: known.length
        ? good === known.length
          ? "✓"
          : good
            ? `${good}/${known.length}`
            : "×"
        : "",
      share: known.length ? good / known.length : null,
      title: known.length
        ? `MTP agreed in ${good} of ${known.length} depths`
        : "nothing predicted here",
    };
  }
  if (by === "agreement" || by === "moved") {
    const to = by === "moved" ? changed : other;
    const chosen = base.experts[layer]?.[token] ?? [];
    const kept = same(chosen, to?.experts[layer]?.[token] ?? []);
    const gone = chosen.length - kept;
    return {
      label: gone ? `${kept}/${chosen.length}` : "",
      share: by === "moved" ? gone / (chosen.length || 1) : kept / (chosen.length || 1),
      title: `${kept} of ${chosen.length} experts the same`,
      mark: by === "moved" && gone > 0,
    };
  }
  const top = strongest(base, layer, token);
  return {
    label: top === null ? "" : String(top),
    share: top === null ? null : experts > 1 ? top / (experts - 1) : 0.5,
    title: `layer ${layers[layer]}: experts ${(base.experts[layer]?.[token] ?? []).join(", ")}`,
  };
}

/** The chips of all tokens; `choose` is told an index. */
export function chips(found, view, chosen, choose) {
  const goes = (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    const chips = [...event.currentTarget.querySelectorAll(".chip")];
    chips[chips.indexOf(event.target) + by]?.focus();
    event.preventDefault();
    event.stopPropagation();
  };
  return el(
    "div",
    { class: "chips", role: "group", "aria-label": "Tokens", onkeydown: goes },
    found.base.tokens.map((token, at) => {
      const { label, share, title, mark } = said(found, view, at);
      const { ground, ink } =
        share === null ? { ground: "var(--sunk)", ink: "var(--ink-2)" } : cividis(share);
      const text = visible(token.text);
      const chip = el(
        "button",
        {
          type: "button",
          class: mark ? "chip mark" : "chip",
          "data-token": at,
          "data-chosen": at === chosen,
          tabindex: at === (chosen ?? 0) ? "0" : "-1",
          style: { background: ground, color: ink },
          title: `${text}  (token ${at}, id ${token.id})\n${title}`,
          "aria-label": `token ${at}, ${text}: ${title}`,
          onclick: () => choose(at),
        },
        el("span", {}, text),
        el("small", {}, label),
      );
      return token.text.includes("\n") ? [chip, el("span", { class: "line-end" })] : chip;
    }),
  );
}

/** What the colours mean. */
export function legendOf(found, { by }) {
  const [from, to] = {
    expert: ["expert 0", `expert ${found.experts - 1}`],
    loss: ["0", `${number(MOST_LOSS)} nats`],
    mtp: ["no", "yes"],
    agreement: ["none the same", "all the same"],
    moved: ["stays", "all move"],
  }[by];
  return el(
    "span",
    { class: "scales caption" },
    from,
    el("i", { class: "scale little-much", "aria-hidden": "true" }),
    to,
    by === "expert" ? " (largest gate)" : "",
  );
}

/** Share of a token's gates, for a title. */
export const shareOf = (gate, gates) =>
  percent(gate / (gates.reduce((sum, each) => sum + each, 0) || 1), 0);
