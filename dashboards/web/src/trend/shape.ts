/** Pure arithmetic behind the trends: where the line breaks, how the axis is scaled, what the numbers are. */

import type { LimitLine, Point, Readings, RollUp } from "../api/types";

export const isFailed = (q: number): boolean => q === 4 || q === 9;
/** Measured while the device was worked on: kept, and judged by nothing. */
const NOT_EVALUATED = 2;
export const isSuspect = (q: number): boolean => q === 3;

/** Whether a value breaks a limit; the comparator says what breaks it. */
export function breaks(v: number, comparator: string | null | undefined, limit: number): boolean {
  switch (comparator) {
    case ">":
      return v > limit;
    case ">=":
      return v >= limit;
    case "<":
      return v < limit;
    case "<=":
      return v <= limit;
    default:
      return false;
  }
}

/** The gravest limit that a point breaks by itself; null for none, and for points that failed or were not evaluated. */
export function brokenBy([ms, v, q]: Point, limits: readonly LimitLine[]): LimitLine | null {
  if (v === null || isFailed(q) || q === NOT_EVALUATED) return null;
  const broken = limits.filter((l) => !l.note && ms >= l.from_ms && ms < l.to_ms + GRACE_MS && breaks(v, l.comparator, l.limit));
  return broken.find((l) => l.level === "intervention") ?? broken[0] ?? null;
}

/** The newest reading may be a moment younger than the span of its limit, which ends where the request did. */
const GRACE_MS = 60_000;

const ROLL_UP_MS: Record<RollUp, number> = { minute: 60_000, hour: 3_600_000, day: 86_400_000 };

/** How long the buckets of a reply are, ms; 0 for readings. */
export const rollUpMs = ({ downsampling }: Pick<Readings, "downsampling">): number => (downsampling === "none" || downsampling === "min_max" ? 0 : ROLL_UP_MS[downsampling]);

/** The reply with a point for each bucket: its mean, at its middle; missing when no reading in it had a value. */
export function withMeans(readings: Readings): Readings {
  if (readings.buckets.length === 0) return readings;
  const half = rollUpMs(readings) / 2;
  return { ...readings, points: readings.buckets.map(([start, , mean]) => [start + half, mean, mean === null ? 9 : 1, 0]) };
}

/** The gravest limit that a point breaks; of a bucket, that its maximum or its minimum breaks. */
export function brokenAt({ points, buckets, limits }: Pick<Readings, "points" | "buckets" | "limits">, i: number): LimitLine | null {
  const point = points[i];
  if (!point) return null;
  const bucket = buckets[i];
  if (!bucket) return brokenBy(point, limits);
  const [at, , q] = point;
  const both = [bucket[3], bucket[1]].map((v) => brokenBy([at, v, q, 0], limits));
  return both.find((l) => l?.level === "intervention") ?? both.find((l) => l !== null) ?? null;
}

export interface Shaped {
  /** Seconds, ascending; a null value breaks the line. */
  x: number[];
  y: (number | null)[];
  /** For each x: index into the points, or -1 for a break that we put in. */
  source: number[];
  /** Of buckets, their minima and maxima; all null for readings. */
  low: (number | null)[];
  high: (number | null)[];
  suspect: number[];
  failed: number[];
}

/** The step that is usual in the series, ms: the median of the differences. */
export function usualStep(points: readonly Point[]): number {
  const steps: number[] = [];
  for (let i = 1; i < points.length; i++) steps.push(points[i]![0] - points[i - 1]![0]);
  steps.sort((a, b) => a - b);
  return steps[steps.length >> 1] ?? 0;
}

/**
 * Points as columns, the line broken where nothing came for several usual steps.
 *
 * `bucket_ms` is the width of a bucket when the points were down-sampled: no gap is called below three of them.
 */
export function shape(points: readonly Point[], bucket_ms = 0, buckets: Readings["buckets"] = []): Shaped {
  const gap = Math.max(usualStep(points) * 4, bucket_ms * 3, 1000);
  const out: Shaped = { x: [], y: [], source: [], low: [], high: [], suspect: [], failed: [] };
  points.forEach(([t, v, q], i) => {
    const before = points[i - 1];
    if (before && t - before[0] > gap) {
      out.x.push((before[0] + t) / 2000);
      out.y.push(null);
      out.source.push(-1);
      out.low.push(null);
      out.high.push(null);
    }
    const failed = isFailed(q) || v === null;
    out.x.push(t / 1000);
    out.y.push(failed ? null : v);
    out.source.push(i);
    out.low.push(buckets[i]?.[1] ?? null);
    out.high.push(buckets[i]?.[3] ?? null);
    if (failed) out.failed.push(i);
    else if (isSuspect(q)) out.suspect.push(i);
  });
  return out;
}

export interface Summary {
  n: number;
  min: number | null;
  max: number | null;
  last: Point | null;
  suspect: number;
  failed: number;
}

/** What the usable points say; failed ones are only counted. */
export function summary(points: readonly Point[], buckets: Readings["buckets"] = []): Summary {
  const s: Summary = { n: points.length, min: null, max: null, last: points[points.length - 1] ?? null, suspect: 0, failed: 0 };
  for (const [, v, q] of points) {
    if (v === null || isFailed(q)) {
      s.failed += 1;
      continue;
    }
    if (isSuspect(q)) s.suspect += 1;
    if (s.min === null || v < s.min) s.min = v;
    if (s.max === null || v > s.max) s.max = v;
  }
  for (const [, low, , high] of buckets) {
    if (low !== null && (s.min === null || low < s.min)) s.min = low;
    if (high !== null && (s.max === null || high > s.max)) s.max = high;
  }
  return s;
}

const LEAST_SHARE = 0.2;

/**
 * The value axis [low, high]: the data, and each limit that leaves the data at least a fifth of the height.
 *
 * Limits beyond stay out unless `all`; they are labelled at the edge.
 */
export function valueRange(s: Summary, limits: readonly LimitLine[], all: boolean): [number, number] {
  let low = s.min ?? 0;
  let high = s.max ?? 1;
  const span = high - low || Math.abs(high) * 0.1 || 1;
  const most = all ? Infinity : span / LEAST_SHARE;
  const values = limits.map((l) => l.limit).sort((a, b) => Math.abs(a - high) - Math.abs(b - high));
  for (const v of values) {
    const [l, h] = [Math.min(low, v), Math.max(high, v)];
    // A value of zero with a limit above is the common healthy case: the nearest limit always shows then.
    if (h - l <= most || s.min === null) [low, high] = [l, h];
  }
  const pad = (high - low || Math.abs(high) * 0.1 || 1) * 0.08;
  const floor = low >= 0 && low - pad < 0 ? 0 : low - pad;
  return [floor, high + pad];
}

/** Where a limit changes into the next one of the same kind: [at_ms, from, to]. */
export function risers(limits: readonly LimitLine[]): [number, number, number][] {
  const kinds = new Map<string, LimitLine[]>();
  for (const l of limits) {
    const kind = `${l.level}/${l.comparator}`;
    kinds.set(kind, [...(kinds.get(kind) ?? []), l]);
  }
  const out: [number, number, number][] = [];
  for (const lines of kinds.values()) {
    for (const a of lines) {
      const b = lines.find((l) => l !== a && l.from_ms === a.to_ms && l.limit !== a.limit);
      if (b) out.push([a.to_ms, a.limit, b.limit]);
    }
  }
  return out;
}

/** Move labels apart: `wanted` centres (px), each `height` tall, inside 0..`room`; returns the centres, same order. */
export function spread(wanted: readonly number[], height: number, room: number): number[] {
  const order = wanted.map((y, i) => ({ y: Math.min(Math.max(y, height / 2), room - height / 2), i })).sort((a, b) => a.y - b.y);
  for (let k = 1; k < order.length; k++) order[k]!.y = Math.max(order[k]!.y, order[k - 1]!.y + height);
  let bottom = room - height / 2;
  for (let k = order.length - 1; k >= 0; k--) {
    order[k]!.y = Math.min(order[k]!.y, bottom);
    bottom = order[k]!.y - height;
  }
  const out = new Array<number>(wanted.length).fill(0);
  for (const { y, i } of order) out[i] = y;
  return out;
}
