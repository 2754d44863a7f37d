/** What is wrong with a station's link, by kind, and which station is worse off. */

import type { Station, StationState } from "../api/types";

export const PROBLEMS = ["silent", "backlog", "loss", "key", "storage", "clock", "certificate"] as const;
export type Problem = (typeof PROBLEMS)[number];

/** Data is lost, or soon will be, or may not be the station's own. */
const GRAVE: ReadonlySet<string> = new Set([
  "gateway_cloned",
  "duplicate_gateway",
  "taken_over",
  "disk_full",
  "spool_full",
  "spool_corrupt",
  "certificate_expired",
  "certificate_1d",
]);
const KIND: Record<string, Problem> = {
  gateway_cloned: "key",
  duplicate_gateway: "key",
  taken_over: "key",
  disk_full: "storage",
  spool_full: "storage",
  spool_corrupt: "storage",
  spool_restored: "storage",
  clock_off: "clock",
  clock_unset: "clock",
};
const BACKLOG_MS = 10 * 60_000;
const ORDER: Record<StationState, number> = { offline: 2, stale: 1, online: 0, never: 0 };

export const isGrave = (alarm: string): boolean => GRAVE.has(alarm);

/** A gateway has spoken, and nobody has decided about its key. */
export const waitsForKey = (s: Station): boolean => s.key_state === "pending" || (s.key_state === "none" && s.state !== "never");

export const hasBacklog = (s: Station): boolean => s.queue > 0 && (s.oldest_unreceipted_ms ?? 0) > BACKLOG_MS;

export function problemsOf(s: Station): ReadonlySet<Problem> {
  const found = new Set<Problem>();
  if (s.state === "offline" || s.state === "stale") found.add("silent");
  if (hasBacklog(s)) found.add("backlog");
  if (s.gaps + s.lost > 0) found.add("loss");
  if (waitsForKey(s)) found.add("key");
  for (const alarm of s.alarms) {
    const kind = alarm.startsWith("certificate_") ? "certificate" : KIND[alarm];
    if (kind) found.add(kind);
  }
  return found;
}

/** From the worst on: grave alarms, silence, a key that waits, other alarms, what waits longest, what is lost. */
export function byNeed(a: Station, b: Station): number {
  const grave = (s: Station): number => s.alarms.filter(isGrave).length;
  return (
    grave(b) - grave(a) ||
    ORDER[b.state] - ORDER[a.state] ||
    Number(waitsForKey(b)) - Number(waitsForKey(a)) ||
    b.alarms.length - a.alarms.length ||
    Number(hasBacklog(b)) - Number(hasBacklog(a)) ||
    (hasBacklog(a) ? (b.oldest_unreceipted_ms ?? 0) - (a.oldest_unreceipted_ms ?? 0) : 0) ||
    b.gaps + b.lost - (a.gaps + a.lost) ||
    b.open_alerts - a.open_alerts ||
    Number(a.state === "never") - Number(b.state === "never") ||
    a.code.localeCompare(b.code)
  );
}
