/** Pages are chosen by the address after `#`, so any static server will do and links can be sent by mail. */

import { computed, signal } from "@preact/signals";

export interface Route {
  path: string[];
  query: URLSearchParams;
}

// A plain address (/alerts/…, as in a mail or a webhook) is turned into ours.
if (location.pathname !== "/" && !location.hash) {
  history.replaceState(null, "", `/#${location.pathname}${location.search}`);
}

const hash = signal(location.hash);
addEventListener("hashchange", () => {
  hash.value = location.hash;
});

export const route = computed<Route>(() => {
  const [path = "", query = ""] = hash.value.replace(/^#\/?/, "").split("?", 2);
  const parts = path.split("/").filter(Boolean);
  return { path: parts.map(decode), query: new URLSearchParams(query) };
});

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The address of a page. */
export function href(path: string[], query: Record<string, string | null | undefined> = {}): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value) search.set(name, value);
  const text = search.toString();
  return `#/${path.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

/** Change the query of the present page without a new entry in the history. */
export function setQuery(changes: Record<string, string | null>): void {
  const query = Object.fromEntries(route.value.query);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null) delete query[name];
    else query[name] = value;
  }
  history.replaceState(null, "", href(route.value.path, query));
  hash.value = location.hash;
}
