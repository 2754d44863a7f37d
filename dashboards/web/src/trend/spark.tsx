/** A small trend without axes; failed points sit on the base line. */

import type { LimitLine, Point } from "../api/types";
import { brokenBy, isFailed, isSuspect, shape, summary, valueRange } from "./shape";

const W = 180;
const H = 36;
const PAD = 4;

interface Props {
  points: readonly Point[];
  bucket_ms: number;
  label: string;
  /** Drawn where they leave the line room; what breaks one is red. */
  limits?: readonly LimitLine[];
}

export function Spark({ points, bucket_ms, label, limits = [] }: Props) {
  const s = summary(points);
  const first = points[0];
  const last = points[points.length - 1];
  if (!first || !last || s.min === null || s.max === null) return <svg class="spark" viewBox={`0 0 ${W} ${H}`} role="img" aria-label={label} />;
  const t0 = first[0];
  const span_ms = last[0] - t0 || 1;
  const flat = s.max === s.min && limits.length === 0;
  const [low, high] = limits.length > 0 ? valueRange(s, limits, false) : [s.min, s.max];
  const span = high - low || 1;
  const x = (t: number): number => PAD + ((t - t0) / span_ms) * (W - 2 * PAD);
  const y = (v: number): number => (flat ? H / 2 : H - PAD - ((v - low) / span) * (H - 2 * PAD));
  const shaped = shape(points, bucket_ms);
  let path = "";
  let over = "";
  let pen = false;
  let before = "";
  shaped.x.forEach((t, i) => {
    const v = shaped.y[i];
    if (v === null || v === undefined) {
      pen = false;
      return;
    }
    const here = `${x(t * 1000).toFixed(1)} ${y(v).toFixed(1)}`;
    path += `${pen ? "L" : "M"}${here}`;
    if (brokenBy(points[shaped.source[i]!]!, limits)) over += pen ? `M${before}L${here}` : `M${here}`;
    before = here;
    pen = true;
  });
  return (
    <svg class="spark" viewBox={`0 0 ${W} ${H}`} role="img" aria-label={label} preserveAspectRatio="none">
      {limits
        .filter((l) => l.limit >= low && l.limit <= high)
        .map((l, i) => (
          <path key={i} class="spark-limit" d={`M0 ${y(l.limit).toFixed(1)}H${W}`} />
        ))}
      <path class="spark-line" d={path} />
      {over && <path class="spark-line over" d={over} />}
      {points.map(([t, v, q]) => {
        if (v === null || isFailed(q)) return <rect key={t} class="spark-failed" x={x(t) - 1.5} y={H - 4} width="3" height="4" />;
        if (isSuspect(q)) return <circle key={t} class="spark-suspect" cx={x(t)} cy={y(v)} r="2.2" />;
        return null;
      })}
    </svg>
  );
}
