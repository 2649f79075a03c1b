// From the address to a page, without loading the document again.

import { el, problem } from "./dom.js";

const routes = [];
const home = () => el("p", { class: "pad" }, el("a", { href: "/", "data-link": true }, "All runs"));

let open = null;
let turn = 0;

/**
 * Adds a page: a pattern of its path, and a function that fills an element, is told how to name the
 * document, and says how to close the page.
 */
export const route = (pattern, show) => routes.push({ pattern, show });

/** Goes to an address of this page. */
export function go(address, { replace = false } = {}) {
  if (replace) history.replaceState(null, "", address);
  else history.pushState(null, "", address);
  show();
}

/** The page that is open: it may have `keys` and `close`. */
export const current = () => open;

async function show() {
  const main = document.getElementById("main");
  const path = location.pathname.replace(/(.)\/$/, "$1");
  // The same page may take another address by itself, and keep what it has loaded.
  if (open?.stay?.(path)) return;
  const mine = ++turn;
  open?.close?.();
  open = null;
  // A page that another has replaced while it was loading fills what is shown no more.
  const place = el("div");
  main.replaceChildren(place);
  window.scrollTo(0, 0);
  const entitle = (title) => {
    if (mine === turn) document.title = title;
  };
  for (const { pattern, show: fill } of routes) {
    const found = path.match(pattern);
    if (!found) continue;
    try {
      const page = await fill(place, found.groups ?? {}, entitle);
      if (mine !== turn) page?.close?.();
      else open = page;
    } catch (error) {
      if (mine !== turn) return;
      place.replaceChildren(problem(error.message), home());
      if (!("status" in error)) throw error;
    }
    return;
  }
  place.replaceChildren(problem(`There is no page at ${path}.`), home());
}

/** Follows links with `data-link`, and the browser's own buttons. */
export function startRouter() {
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-link]");
    if (
      !link ||
      event.defaultPrevented ||
      event.button !== 0 ||
      event.metaKey ||
      event.ctrlKey ||
      event.shiftKey ||
      event.altKey
    )
      return;
    event.preventDefault();
    go(link.getAttribute("href"));
  });
  window.addEventListener("popstate", show);
  return show();
}
