// What the reader of the page chose, kept in this browser.

const PREFIX = "deepseek.";

/** What was kept under a name, or else `fallback`. */
export function kept(name, fallback) {
  try {
    const text = localStorage.getItem(PREFIX + name);
    return text === null ? fallback : JSON.parse(text);
  } catch {
    return fallback; // no storage, or another program's text: the page works without
  }
}

/** Keeps a value. */
export function keep(name, value) {
  try {
    localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // A browser that keeps nothing still shows the choice until the page is left.
  }
}
