/** A small trend without axes; failed points sit on the base line. */

import type { Point } from "../api/types";
import { isFailed, isSuspect, shape, summary } from "./shape";

const W = 180;
const H = 36;
const PAD = 4;

export function Spark({ points, bucket_ms, label }: { points: readonly Point[]; bucket_ms: number; label: string }) {
  const s = summary(points);
  const first = points[0];
  const last = points[points.length - 1];
  if (!first || !last || s.min === null || s.max === null) return <svg class="spark" viewBox={`0 0 ${W} ${H}`} role="img" aria-label={label} />;
  const t0 = first[0];
  const span_ms = last[0] - t0 || 1;
  const span = s.max - s.min || 1;
  const x = (t: number): number => PAD + ((t - t0) / span_ms) * (W - 2 * PAD);
  const y = (v: number): number => (s.max === s.min ? H / 2 : H - PAD - ((v - s.min!) / span) * (H - 2 * PAD));
  const shaped = shape(points, bucket_ms);
  let path = "";
  let pen = false;
  shaped.x.forEach((t, i) => {
    const v = shaped.y[i];
    if (v === null || v === undefined) {
      pen = false;
      return;
    }
    path += `${pen ? "L" : "M"}${x(t * 1000).toFixed(1)} ${y(v).toFixed(1)}`;
    pen = true;
  });
  return (
    <svg class="spark" viewBox={`0 0 ${W} ${H}`} role="img" aria-label={label} preserveAspectRatio="none">
      <path class="spark-line" d={path} />
      {points.map(([t, v, q]) => {
        if (v === null || isFailed(q)) return <rect key={t} class="spark-failed" x={x(t) - 1.5} y={H - 4} width="3" height="4" />;
        if (isSuspect(q)) return <circle key={t} class="spark-suspect" cx={x(t)} cy={y(v)} r="2.2" />;
        return null;
      })}
    </svg>
  );
}
