// The way of one token through all layers: scores, biases, kept groups, chosen experts and gates.

import { el, svg } from "./dom.js";
import { loss, number } from "./format.js";
import { shareOf, visible } from "./microscope_tokens.js";

const [WIDTH, HEIGHT] = [320, 44];

/** Scores of all experts as bars, with the bias on top; chosen ones are full, other groups pale. */
function bars({ scores, bias, kept_groups: kept, chosen }, groups) {
  const size = scores.length / (groups || 1);
  const low = Math.min(0, ...scores, ...scores.map((score, at) => score + (bias[at] ?? 0)));
  const high = Math.max(1e-9, ...scores, ...scores.map((score, at) => score + (bias[at] ?? 0)));
  const y = (value) => HEIGHT - 2 - ((value - low) / (high - low)) * (HEIGHT - 6);
  const wide = WIDTH / scores.length;
  const isKept = (at) => !kept?.length || kept.includes(Math.floor(at / size));
  return svg(
    "svg",
    {
      class: "scores",
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": `scores; chosen ${chosen.join(", ")}`,
    },
    groups > 1
      ? kept.map((group) =>
          svg("rect", {
            class: "group",
            x: group * size * wide,
            width: size * wide,
            y: 0,
            height: HEIGHT,
          }),
        )
      : null,
    scores.map((score, at) =>
      svg(
        "rect",
        {
          class: chosen.includes(at) ? "taken" : isKept(at) ? "kept" : "left",
          x: at * wide + wide * 0.12,
          width: wide * 0.76,
          y: y(score),
          height: Math.max(0.5, y(low) - y(score)),
        },
        svg("title", {}, `expert ${at}: score ${number(score)}, bias ${number(bias[at] ?? 0)}`),
      ),
    ),
    bias.some((value) => value)
      ? scores.map((score, at) =>
          svg("line", {
            class: "with-bias",
            x1: at * wide + wide * 0.05,
            x2: (at + 1) * wide - wide * 0.05,
            y1: y(score + bias[at]),
            y2: y(score + bias[at]),
          }),
        )
      : null,
  );
}

function gatesOf({ layer, chosen, gates, changed_chosen: after }, acts) {
  const order = chosen
    .map((expert, at) => [expert, gates[at]])
    .sort((left, right) => right[1] - left[1]);
  const most = Math.max(1e-9, ...gates);
  const gone = (expert) => after && !after.includes(expert);
  const came = after ? after.filter((expert) => !chosen.includes(expert)) : [];
  return el(
    "ul",
    { class: "gates" },
    order.map(([expert, gate]) =>
      el(
        "li",
        { class: gone(expert) ? "gone" : null },
        el(
          "button",
          {
            type: "button",
            class: "small",
            "data-expert": expert,
            title: `Which tokens expert ${expert} of layer ${layer} takes`,
            onclick: () => acts.expert(layer, expert),
          },
          String(expert),
        ),
        el(
          "span",
          {
            class: "gate",
            title: `gate ${number(gate)}, ${shareOf(gate, gates)} of all`,
          },
          el("i", { style: { width: `${((100 * gate) / most).toFixed(1)}%` } }),
        ),
        el("span", { class: "caption" }, number(gate)),
        el(
          "button",
          {
            type: "button",
            class: "plain small",
            title: `What if expert ${expert} of layer ${layer} were off`,
            onclick: () => acts.off(layer, expert),
          },
          "off",
        ),
      ),
    ),
    came.map((expert) =>
      el(
        "li",
        { class: "came" },
        el(
          "button",
          { type: "button", class: "small", onclick: () => acts.expert(layer, expert) },
          String(expert),
        ),
        el("span", { class: "caption" }, "instead, with the change"),
      ),
    ),
  );
}

/** The panel of a token. `acts.expert` opens an expert, `acts.off` asks what if it were off. */
export function tokenPath(found, token, layers, shownLayer, acts) {
  const { text, id, loss: own, mtp_agrees: agrees } = found.base.tokens[token];
  const after = found.changed?.tokens[token]?.loss;
  const shown = found.layers[shownLayer];
  const known = (agrees ?? [])
    .map((each, depth) =>
      each === null ? null : `MTP ${depth + 1} ${each ? "agrees" : "does not agree"}`,
    )
    .filter(Boolean);
  return [
    el(
      "header",
      {},
      el(
        "h2",
        {},
        el("span", { class: "mono token-text" }, visible(text)),
        el("span", { class: "caption" }, ` token ${token}, id ${id}`),
      ),
      el(
        "p",
        {},
        "loss ",
        el("strong", {}, loss(own)),
        typeof after === "number" ? [" with the change ", el("strong", {}, loss(after))] : null,
        known.length ? el("span", { class: "muted" }, `  ${known.join(", ")}`) : null,
      ),
    ),
    ...layers.map((each) =>
      el(
        "section",
        { class: each.layer === shown ? "layer here" : "layer" },
        el(
          "h3",
          {},
          `Layer ${each.layer}`,
          found.groups > 1
            ? el("span", { class: "caption" }, ` groups kept: ${each.kept_groups.join(", ")}`)
            : null,
        ),
        bars(each, found.groups),
        gatesOf(each, acts),
      ),
    ),
    el(
      "p",
      { class: "caption" },
      "Bars are scores, a line is the score with its bias: by it experts are chosen. Full " +
        "bars were chosen; pale ones are of groups that were not kept.",
    ),
  ];
}
