// Colours and dashes of what charts draw; every pair can be told apart without colour vision.

const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];
const probe = document.createElement("span");

/** A colour of `theme.css` as the page has it now, for what does not read style sheets. */
export function colour(name) {
  if (!probe.isConnected) {
    probe.hidden = true;
    document.body.append(probe);
  }
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}

/** The same, as transparent as `share` of 1 says. */
export const faint = (name, share) => colour(name).replace(/^rgb\((.*)\)$/, `rgba($1, ${share})`);

/** Colour and dash of the line with an index. */
export const line = (index) => ({
  colour: colour(`series-${(index % 8) + 1}`),
  dash: DASHES[index % DASHES.length],
});

/** `stroke-dasharray` of a dash, for signs drawn by hand. */
export const dasharray = (dash) =>
  ({
    solid: null,
    dash: "5 3",
    dot: "1.500 2.500",
    dashdot: "5 2 1.500 2",
    longdash: "8 3",
    longdashdot: "8 2 1.500 2",
  })[dash];

/** Cividis: from little to much, the same with and without colour vision. */
export const CIVIDIS = [
  [0, "#00224e"],
  [0.125, "#123570"],
  [0.25, "#3b496c"],
  [0.375, "#575d6d"],
  [0.5, "#707173"],
  [0.625, "#8a8678"],
  [0.75, "#a59c74"],
  [0.875, "#c3b369"],
  [1, "#fee838"],
];

const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

/** The colour of a share, 0 to 1, and the ink that can be read on it. */
export function cividis(share) {
  const place = Math.min(1, Math.max(0, share)) * (CIVIDIS.length - 1);
  const low = Math.min(CIVIDIS.length - 2, Math.floor(place));
  const [from, to] = [rgb(CIVIDIS[low][1]), rgb(CIVIDIS[low + 1][1])];
  const mixed = from.map((part, at) => Math.round(part + (to[at] - part) * (place - low)));
  const light = 0.299 * mixed[0] + 0.587 * mixed[1] + 0.114 * mixed[2];
  return { ground: `rgb(${mixed.join(", ")})`, ink: light > 125 ? "#14161a" : "#fff" };
}

/** Below even, even, above even: blue, the ground, orange. */
export const around = () => [
  [0, "#0b62a4"],
  [0.25, "#6aa5cf"],
  [0.5, colour("sheet")],
  [0.75, "#dc8f4a"],
  [1, "#b34a00"],
];
