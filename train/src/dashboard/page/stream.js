// A stream of events that comes back by itself, and the sign in the header that says whether it is
// there.

import { el, notice, sign } from "./dom.js";

const AGAIN_MS = 2000;

let lastHeard = null;

function say(state) {
  const box = document.getElementById("connection");
  if (state === "live") lastHeard = new Date();
  document.documentElement.dataset.connection = state;
  if (box.dataset.state === state) return;
  box.dataset.state = state;
  box.replaceChildren();
  if (state === "live") box.append(sign("circle"), "live");
  if (state === "waiting") box.append(sign("ring"), "connecting");
  if (state === "stale") {
    const since = lastHeard
      ? `as of ${lastHeard.toLocaleTimeString(undefined, { hour12: false })}`
      : "never reached";
    box.append(
      sign("cross"),
      el(
        "span",
        { title: "The server does not answer; this page tries again every 2 seconds." },
        `not connected, ${since}`,
      ),
    );
  }
}

/**
 * Listens to a stream. `address` is asked for the URL whenever it is opened; `handlers` are
 * functions
 * by name of event, which get the data; `opened` is told of every opening after the first.
 * A hidden tab keeps no stream: browsers allow few connections to one host.
 */
export function listen(address, handlers, opened = () => {}) {
  let source = null;
  let timer = null;
  let before = false;
  let closed = false;

  const stop = () => {
    clearTimeout(timer);
    source?.close();
    source = null;
  };
  const start = () => {
    stop();
    if (closed || document.visibilityState === "hidden") return;
    if (!before) say("waiting");
    const opening = new EventSource(address());
    source = opening;
    opening.onopen = () => {
      say("live");
      if (before) Promise.resolve(opened()).catch((error) => notice(error.message, true));
      before = true;
    };
    opening.onerror = () => {
      if (source !== opening) return;
      stop();
      say("stale");
      timer = setTimeout(start, AGAIN_MS);
    };
    for (const [name, handle] of Object.entries(handlers)) {
      opening.addEventListener(name, (event) => {
        if (source !== opening) return;
        lastHeard = new Date();
        handle(JSON.parse(event.data));
      });
    }
  };
  document.addEventListener("visibilitychange", start);
  start();
  return {
    restart: start,
    close() {
      closed = true;
      document.removeEventListener("visibilitychange", start);
      stop();
    },
  };
}
