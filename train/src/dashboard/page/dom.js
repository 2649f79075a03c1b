// Builds elements. Text becomes text nodes: nothing that a run says is ever parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style")
      for (const [key, text] of Object.entries(value)) node.style.setProperty(key, text);
    else if (name === "value" || name === "checked" || name === "disabled") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(
    ...children
      .flat(Infinity)
      .filter((child) => child !== null && child !== undefined && child !== false),
  );
  return node;
}

/** An element with attributes; `on...` are listeners, `style` is an object of properties. */
export const el = (tag, attributes = {}, ...children) =>
  fill(document.createElement(tag), attributes, children);

/** An element of SVG. */
export const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

const SHAPES = {
  circle: "M5 1a4 4 0 1 1 0 8a4 4 0 1 1 0-8z",
  square: "M1.500 1.500h7v7h-7z",
  tick: "M1.200 5.500l2.600 2.600l5-6",
  cross: "M1.500 1.500l7 7m0-7l-7 7",
  triangle: "M5 1l4.500 8h-9z",
  ring: "M5 1.500a3.500 3.500 0 1 1 0 7a3.500 3.500 0 1 1 0-7z",
  diamond: "M5 0.500l4.500 4.500l-4.500 4.500l-4.500-4.500z",
};

/** A small sign; its shape says the same as its colour. */
export function sign(shape) {
  const drawn = shape === "tick" || shape === "cross" || shape === "ring";
  return svg(
    "svg",
    { viewBox: "0 0 10 10", "aria-hidden": "true" },
    svg("path", {
      d: SHAPES[shape],
      fill: drawn ? "none" : "currentColor",
      stroke: drawn ? "currentColor" : null,
      "stroke-width": drawn ? 2 : null,
      "stroke-linecap": "round",
    }),
  );
}

/**
 * A choice of one of a few, as buttons. `options` are [value, label]; `choose` is told the value.
 */
export function segments(label, options, chosen, choose) {
  const group = el("div", { class: "segments", role: "group", "aria-label": label });
  const press = (value) => {
    for (const button of group.children)
      button.setAttribute("aria-pressed", button.dataset.value === String(value));
  };
  for (const [value, text] of options) {
    group.append(
      el(
        "button",
        {
          type: "button",
          "data-value": value,
          onclick: () => {
            press(value);
            choose(value);
          },
        },
        text,
      ),
    );
  }
  press(chosen);
  return group;
}

/** A list to choose from. `options` are [value, label]. */
export function chooser(label, options, chosen, choose) {
  const select = el("select", {
    "aria-label": label,
    onchange: (event) => choose(event.target.value),
  });
  for (const [value, text] of options) select.append(el("option", { value }, text));
  select.value = chosen;
  return select;
}

/**
 * A table with titles over its columns. `heads` are [title, whether it is over numbers, what it
 * means], `rows` are elements; `kind` is a class of its own.
 */
export function gridTable(heads, rows, kind = null) {
  const titles = heads.map(([text, number = false, title = null]) =>
    el("th", { scope: "col", class: number ? "number" : null, title }, text),
  );
  return el(
    "table",
    { class: kind ? `grid-table ${kind}` : "grid-table" },
    el("thead", {}, el("tr", {}, titles)),
    el("tbody", {}, rows),
  );
}

/** A page or panel that has nothing to show, and what to do about it. */
export function empty(title, text, command) {
  return el(
    "div",
    { class: "empty" },
    el("h2", {}, title),
    el("p", {}, text),
    command && el("code", {}, command),
  );
}

/** Something that went wrong, where it went wrong. */
export const problem = (text) => el("p", { class: "problem", role: "alert" }, text);

/** A short message that goes away by itself. */
export function notice(text, bad = false) {
  const box = el("div", { class: bad ? "notice bad" : "notice" }, text);
  document.getElementById("notices").append(box);
  setTimeout(() => box.remove(), bad ? 9000 : 4000);
}
