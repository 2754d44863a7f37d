/** The event stream: one EventSource for the page, listeners by type, a reconnect that loses nothing. */

import { signal } from "@preact/signals";

import { address } from "./api/client";
import type { EventData } from "./api/types";

export type LinkState = "connecting" | "open" | "lost";
export const linkState = signal<LinkState>("connecting");

/** When the stream was last known to be open, UTC ms. */
export const lastHeard = signal(Date.now());

const TYPES = ["alert", "test", "station", "delivery"] as const;
export type LiveType = (typeof TYPES)[number];

export interface LiveEvent {
  id: string;
  type: LiveType;
  data: EventData;
}

type Listener = (event: LiveEvent) => void;
const listeners = new Set<Listener>();
const openers = new Set<() => void>();

/** Call `listener` for each event; returns the way to stop. */
export function onEvent(listener: Listener): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Call `opener` each time the stream opens, so that nothing between the first load and the stream is missed. */
export function onOpen(opener: () => void): void {
  openers.add(opener);
}

const RETRY_MS = 3000;
const LOST_AFTER_MS = 4000;
let lastId = "";
let lostTimer = 0;

function lostSoon(): void {
  if (linkState.value !== "open" && lostTimer) return;
  if (linkState.value === "open") {
    linkState.value = "connecting";
    lastHeard.value = Date.now();
  }
  clearTimeout(lostTimer);
  lostTimer = window.setTimeout(() => {
    linkState.value = "lost";
  }, LOST_AFTER_MS);
}

function receive(type: LiveType, message: MessageEvent<string>): void {
  if (message.lastEventId) lastId = message.lastEventId;
  let data: EventData;
  try {
    data = JSON.parse(message.data) as EventData;
  } catch {
    return; // the next refresh brings what this line would have said
  }
  for (const listener of listeners) listener({ id: message.lastEventId, type, data });
}

export function connect(): void {
  const source = new EventSource(address("events", { last_event_id: lastId }));
  source.onopen = () => {
    clearTimeout(lostTimer);
    lostTimer = 0;
    linkState.value = "open";
    for (const opener of openers) opener();
  };
  source.onerror = () => {
    lostSoon();
    if (source.readyState === EventSource.CLOSED) {
      source.close(); // a refused stream is not retried by the browser
      setTimeout(connect, RETRY_MS);
    }
  };
  for (const type of TYPES) source.addEventListener(type, (message) => receive(type, message));
}
