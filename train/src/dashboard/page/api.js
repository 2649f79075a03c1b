// Asks the server. Every failure is an error with a sentence that can be shown.

/** What the server refused, or why it was not reached. */
class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(
      "The dashboard's server does not answer. Is `deepseek dashboard` still running?",
      0,
    );
  }
  const body = await response.json().catch(() => null);
  if (response.ok && body !== null) return body;
  throw new Refused(
    body?.error ?? `The server answered ${response.status} without saying why.`,
    response.status,
  );
}

/** Reads from `/api/...`. */
export const get = (path, signal) => ask(`/api/${path}`, { signal });

/** Sends an object to `/api/...`. */
export const post = (path, body, signal) =>
  ask(`/api/${path}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });

/** A path of the API with a query. */
export function query(path, values) {
  const pairs = Object.entries(values).filter(([, value]) => value !== null && value !== undefined);
  return pairs.length ? `${path}?${new URLSearchParams(pairs)}` : path;
}
