// Numbers, sizes and times as people read them.

/** What stands where there is no number. */
export const NONE = "·";

const known = (value) => typeof value === "number" && Number.isFinite(value);
const SPACE = "\u202f"; // thin, does not break

/** A whole number with its thousands apart. */
export const whole = (value) =>
  known(value)
    ? Math.round(value)
        .toString()
        .replace(/\B(?=(\d{3})+$)/g, SPACE)
    : NONE;

/** A loss, in nats a token. */
export const loss = (value) => (known(value) ? value.toFixed(value >= 100 ? 1 : 4) : NONE);

/** A number of which nothing is known but that it is one: four digits. */
export function number(value) {
  if (!known(value)) return NONE;
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (Number.isInteger(value) && size < 1e7) return whole(value);
  if (size >= 1e7 || size < 1e-3) return value.toExponential(2).replace("e+", "e");
  return size >= 1000 ? whole(value) : String(Number(value.toPrecision(4)));
}

/** A difference, with its sign. */
export const signed = (value) =>
  known(value) ? `${value < 0 ? "−" : "+"}${number(Math.abs(value))}` : NONE;

/** A count in K, M, B, T. */
export function count(value) {
  if (!known(value)) return NONE;
  for (const [size, unit] of [
    [1e12, "T"],
    [1e9, "B"],
    [1e6, "M"],
    [1e4, "K"],
  ]) {
    if (Math.abs(value) >= size)
      return `${(value / (unit === "K" ? 1e3 : size)).toPrecision(3)}${SPACE}${unit}`;
  }
  return whole(value);
}

/** Bytes, in powers of 1000. */
export function bytes(value) {
  if (!known(value)) return NONE;
  for (const [size, unit] of [
    [1e12, "TB"],
    [1e9, "GB"],
    [1e6, "MB"],
    [1e3, "KB"],
  ]) {
    if (Math.abs(value) >= size) return `${(value / size).toPrecision(3)}${SPACE}${unit}`;
  }
  return `${whole(value)}${SPACE}B`;
}

/** Seconds, in the two largest units that say something. */
export function duration(seconds) {
  if (!known(seconds)) return NONE;
  if (seconds < 10) return `${seconds.toFixed(1)}${SPACE}s`;
  const left = Math.round(seconds);
  const [days, hours, minutes] = [
    Math.floor(left / 86400),
    Math.floor(left / 3600) % 24,
    Math.floor(left / 60) % 60,
  ];
  if (days) return `${days}${SPACE}d ${hours}${SPACE}h`;
  if (hours) return `${hours}${SPACE}h ${minutes}${SPACE}min`;
  if (minutes) return `${minutes}${SPACE}min ${left % 60}${SPACE}s`;
  return `${left}${SPACE}s`;
}

/** Microseconds, in the unit that fits. */
export function micro(us) {
  if (!known(us)) return NONE;
  if (us >= 1e6) return `${(us / 1e6).toPrecision(3)}${SPACE}s`;
  if (us >= 1e3) return `${(us / 1e3).toPrecision(3)}${SPACE}ms`;
  return `${Math.round(us)}${SPACE}µs`;
}

/** A share of one, in percent. */
export const percent = (value, digits = 1) =>
  known(value) ? `${(100 * value).toFixed(digits)}${SPACE}%` : NONE;

/** A moment: the time of today, else the day too. */
export function moment(text) {
  const date = new Date(text);
  if (!text || Number.isNaN(date.getTime())) return NONE;
  const time = date.toLocaleTimeString(undefined, {
    hour: "2-digit",
    minute: "2-digit",
    hour12: false,
  });
  return date.toDateString() === new Date().toDateString()
    ? time
    : `${date.toLocaleDateString(undefined, { day: "numeric", month: "short" })} ${time}`;
}

/** How long ago a moment was. */
export function ago(text) {
  const seconds = (Date.now() - new Date(text).getTime()) / 1000;
  if (!text || Number.isNaN(seconds)) return NONE;
  if (seconds < 60) return "now";
  if (seconds < 3600) return `${Math.floor(seconds / 60)}${SPACE}min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)}${SPACE}h ago`;
  return `${Math.floor(seconds / 86400)}${SPACE}d ago`;
}

/** A value of a configuration, as it would be written there. */
export function setting(value) {
  if (value === null || value === undefined) return "none";
  if (typeof value === "string") return value;
  if (Array.isArray(value)) return `[${value.map(setting).join(", ")}]`;
  if (typeof value === "object")
    return `{ ${Object.entries(value)
      .map(([key, inner]) => `${key} = ${setting(inner)}`)
      .join(", ")} }`;
  return typeof value === "number" && value !== 0 && Math.abs(value) < 1e-3
    ? value.toExponential().replace("e+", "e")
    : String(value);
}
