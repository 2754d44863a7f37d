/** The large trend of one series: line, limits, suspect and failed points, gaps, zoom by dragging. */

import { useEffect, useMemo, useRef } from "preact/hooks";
import uPlot from "uplot";

import type { DeviceWindow, LimitLine, Readings } from "../api/types";
import { clauseText, direction, integer, limitText, number, reasonText, shanghai, stamp, standardText, withUnit } from "../format";
import { lang, pick, t, term } from "../i18n";
import { brokenAt, brokenBy, isFailed, risers, rollUpMs, shape, type Shaped, spread, type Summary, summary, valueRange } from "./shape";

const FLAGS: readonly (readonly [bit: number, name: string])[] = [
  [1, "late"],
  [2, "clock_suspect"],
  [4, "out_of_order"],
  [8, "bad_reading"],
  [16, "gross_range"],
  [32, "clock_free"],
  [64, "spike"],
  [128, "rate"],
  [256, "flat"],
  [512, "gap"],
  [1024, "model_range"],
  [2048, "site_range"],
  [4096, "maintenance"],
  [8192, "calibration"],
  [16384, "sentinel"],
];
const LABEL_PX = 20;
const MOST_INDENT = 0.6;
const DAY_S = 86_400;

interface Props {
  readings: Readings;
  /** Of this device. */
  windows?: readonly DeviceWindow[];
  allLimits: boolean;
  onZoom: (start_ms: number, end_ms: number) => void;
  /** Begin where the data begin, not where the request did. */
  tight?: boolean;
}

const css = (name: string): string => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** uPlot asks for a Date whose local parts are Shanghai's, so that ticks fall on Shanghai's hours and days. */
function shanghaiDate(ts: number): Date {
  const d = new Date(ts * 1000);
  return new Date(d.getTime() + (480 + d.getTimezoneOffset()) * 60_000);
}

function tickText(_u: uPlot, splits: number[], _axis: number, _space: number, step: number): string[] {
  let day = "";
  return splits.map((s) => {
    const p = shanghai(s * 1000);
    if (step >= 27 * DAY_S) return `${p.year}-${p.monthDay.slice(0, 2)}`;
    if (step >= DAY_S) return p.monthDay;
    const text = step < 60 ? p.second : p.minute;
    if (p.day === day) return text;
    day = p.day;
    return `${text}\n${p.monthDay}`;
  });
}

function limitLabel(l: LimitLine): string {
  return [standardText(l.standard), clauseText(l.clause, l.clause_en), term("lv_", l.level), limitText(l), reasonText(l.note ?? "")].filter(Boolean).join(" ");
}

/** One label per limit, however many spans of time it held. */
function distinct(limits: readonly LimitLine[]): LimitLine[] {
  return [...new Map(limits.map((l) => [`${limitLabel(l)}/${l.verified}`, l])).values()];
}

function mark(ctx: CanvasRenderingContext2D, shapeName: "diamond" | "cross", x: number, y: number, r: number): void {
  ctx.beginPath();
  if (shapeName === "diamond") {
    ctx.moveTo(x, y - r);
    ctx.lineTo(x + r, y);
    ctx.lineTo(x, y + r);
    ctx.lineTo(x - r, y);
    ctx.closePath();
    ctx.fill();
  } else {
    ctx.moveTo(x - r, y - r);
    ctx.lineTo(x + r, y + r);
    ctx.moveTo(x + r, y - r);
    ctx.lineTo(x - r, y + r);
  }
  ctx.stroke();
}

/** From where to where (canvas px) a limit held, or a window lasted. */
function held(u: uPlot, l: { from_ms: number; to_ms: number }): [number, number] {
  const { left, width } = u.bbox;
  return [Math.max(left, u.valToPos(l.from_ms / 1000, "x", true)), Math.min(left + width, u.valToPos(l.to_ms / 1000, "x", true))];
}

/** The line again, in red, where it breaks a limit. */
function redden(u: uPlot, readings: Readings, { x, y, source }: Shaped): void {
  if (readings.limits.length === 0) return;
  const { ctx } = u;
  ctx.strokeStyle = css("--critical");
  ctx.lineWidth = 2.2 * (devicePixelRatio || 1);
  ctx.beginPath();
  for (let i = 0; i < x.length; i++) {
    const v = y[i];
    if (v === null || v === undefined || !brokenAt(readings, source[i]!)) continue;
    const from = i > 0 && y[i - 1] !== null ? i - 1 : i;
    ctx.moveTo(u.valToPos(x[from]!, "x", true), u.valToPos(y[from]!, "y", true));
    ctx.lineTo(u.valToPos(x[i]!, "x", true), u.valToPos(v, "y", true));
  }
  ctx.stroke();
}

/** Windows in which nothing alarms: hatched from top to bottom. */
function paintWindows(u: uPlot, windows: readonly DeviceWindow[]): void {
  const { ctx } = u;
  const { top, height } = u.bbox;
  const px = devicePixelRatio || 1;
  for (const w of windows) {
    const [x0, x1] = held(u, w);
    if (x1 <= x0) continue;
    ctx.save();
    ctx.beginPath();
    ctx.rect(x0, top, x1 - x0, height);
    ctx.clip();
    ctx.strokeStyle = css("--window");
    ctx.lineWidth = 5 * px;
    ctx.beginPath();
    for (let x = x0 - height - 12 * px; x < x1; x += 12 * px) {
      ctx.moveTo(x, top + height);
      ctx.lineTo(x + height, top);
    }
    ctx.stroke();
    ctx.strokeStyle = css("--info");
    ctx.lineWidth = px;
    ctx.strokeRect(x0, top - px, x1 - x0, height + 2 * px);
    ctx.restore();
  }
}

/** Limits as dashed lines over the time that they hold; marks above the line. */
function paint(u: uPlot, readings: Readings, shaped: Shaped, windows: readonly DeviceWindow[]): void {
  const { ctx } = u;
  const { left, top, width, height } = u.bbox;
  const px = devicePixelRatio || 1;
  ctx.save();
  ctx.beginPath();
  ctx.rect(left, top, width, height);
  ctx.clip();

  paintWindows(u, windows);
  ctx.fillStyle = css("--over-zone");
  for (const l of readings.limits) {
    if (l.note) continue; // a value beyond it need not break it
    const y = Math.min(Math.max(u.valToPos(l.limit, "y", true), top), top + height);
    const [x0, x1] = held(u, l);
    if (direction(l.comparator) === "max") ctx.fillRect(x0, top, x1 - x0, y - top);
    if (direction(l.comparator) === "min") ctx.fillRect(x0, y, x1 - x0, top + height - y);
  }
  redden(u, readings, shaped);

  ctx.setLineDash([6 * px, 4 * px]);
  for (const l of readings.limits) {
    ctx.strokeStyle = css(l.level === "intervention" ? "--critical" : "--limit");
    ctx.lineWidth = (l.level === "intervention" ? 2 : 1.5) * px;
    const y = u.valToPos(l.limit, "y", true);
    const [x0, x1] = held(u, l);
    ctx.beginPath();
    ctx.moveTo(x0, y);
    ctx.lineTo(x1, y);
    ctx.stroke();
  }
  ctx.strokeStyle = css("--limit");
  ctx.lineWidth = px;
  for (const [ms, from, to] of risers(readings.limits)) {
    const x = u.valToPos(ms / 1000, "x", true);
    ctx.beginPath();
    ctx.moveTo(x, u.valToPos(from, "y", true));
    ctx.lineTo(x, u.valToPos(to, "y", true));
    ctx.stroke();
  }
  ctx.setLineDash([]);

  const { points } = readings;
  ctx.lineWidth = 1.6 * px;
  ctx.strokeStyle = css("--panel");
  ctx.fillStyle = css("--suspect");
  for (const i of shaped.suspect) {
    const [ms, v] = points[i]!;
    mark(ctx, "diamond", u.valToPos(ms / 1000, "x", true), u.valToPos(v!, "y", true), 5 * px);
  }
  ctx.strokeStyle = css("--failed");
  ctx.lineWidth = 1.8 * px;
  const base = top + height - 7 * px;
  for (const i of shaped.failed) {
    const [ms, v] = points[i]!;
    // A failed value far outside would flatten the rest: its mark stays at the edge.
    const y = v === null ? base : Math.min(Math.max(u.valToPos(v, "y", true), top + 7 * px), base);
    mark(ctx, "cross", u.valToPos(ms / 1000, "x", true), y, 3.5 * px);
  }
  ctx.restore();
}

/** Labels of the limits as text over the plot, moved apart; those off the scale sit at the edge with an arrow. */
function placeLabels(u: uPlot, box: HTMLElement, spans: readonly LimitLine[]): void {
  const limits = distinct(spans);
  const height = u.over.clientHeight;
  const wanted = limits.map((l) => u.valToPos(l.limit, "y"));
  // Above the line when there is room: the text must not strike the line through.
  const centres = spread(
    wanted.map((y) => y - LABEL_PX / 2 - 1),
    LABEL_PX,
    height,
  );
  box.replaceChildren(
    ...limits.map((l, i) => {
      const y = wanted[i]!;
      const label = document.createElement("div");
      label.className = `limit-label${l.level === "intervention" ? " grave" : ""}`;
      label.dataset["testid"] = "limit-label";
      label.style.top = `${centres[i]! - LABEL_PX / 2}px`;
      const begins = u.valToPos(l.from_ms / 1000, "x");
      if (begins > 0) label.style.left = `${Math.min(begins, u.over.clientWidth * MOST_INDENT) + 6}px`;
      const off = y < 0 ? "↑ " : y > height ? "↓ " : "";
      label.append(`${off}${limitLabel(l)}`);
      if (off) label.append(` (${t("limit_off_scale")})`);
      if (!l.verified) {
        const mark = document.createElement("span");
        mark.className = "tag unverified";
        mark.textContent = t("unverified");
        label.append(" ", mark);
      }
      return label;
    }),
  );
}

/** Names of the windows that are wide enough to carry one, at the top of the plot. */
function placeWindows(u: uPlot, box: HTMLElement, windows: readonly DeviceWindow[]): void {
  const { left } = u.bbox;
  const px = devicePixelRatio || 1;
  for (const w of windows) {
    const [x0, x1] = held(u, w);
    if (x1 <= x0) continue;
    const label = document.createElement("div");
    label.className = "window-label";
    label.dataset["testid"] = "window-label";
    label.style.left = `${(x0 - left) / px + 2}px`;
    label.textContent = term("wk_", w.kind);
    box.append(label);
  }
}

/** What the chart draws from; replaced when data come, while the chart stays (and with it the pointer and a drag). */
interface Drawn {
  readings: Readings;
  windows: readonly DeviceWindow[];
  shaped: Shaped;
  summary: Summary;
  range: [number, number];
}

/** Time, value and quality under the pointer, else of the latest point. */
function say(u: uPlot, out: HTMLElement, { readings, shaped, summary: s }: Drawn): void {
  const index = u.cursor.idx;
  const under = index === null || index === undefined ? -1 : (shaped.source[index] ?? -1);
  const at = under >= 0 ? under : readings.points.length - 1;
  const shown = readings.points[at] ?? s.last;
  if (!shown) {
    out.replaceChildren();
    return;
  }
  const [ms, v, q, flags] = shown;
  const time = document.createElement("time");
  const bucket = readings.buckets[at];
  time.textContent = bucket ? `${stamp(bucket[0])} · ${term("bucket_", readings.downsampling)}` : stamp(ms);
  const value = document.createElement("b");
  value.textContent = withUnit(v, readings.unit, readings.decimals);
  const broken = brokenAt(readings, at);
  value.className = broken ? "bad" : "";
  const quality = document.createElement("span");
  quality.className = isFailed(q) ? "q-failed" : q === 3 ? "q-suspect" : "dim";
  quality.textContent = [`${t("data_quality")}${t("colon")}${term("q_", String(q))}`, ...FLAGS.filter(([bit]) => flags & bit).map(([, name]) => term("f_", name))].join(" · ");
  const over = document.createElement("span");
  over.className = "bad";
  if (bucket) {
    const [, low, , high, count, good] = bucket;
    const range = `${withUnit(low, readings.unit, readings.decimals)} – ${withUnit(high, readings.unit, readings.decimals)}`;
    value.textContent = `${t("mean")} ${withUnit(v, readings.unit, readings.decimals)}`;
    quality.className = "dim";
    quality.textContent = t("bucket_says", { range, n: integer(count), good: (Math.floor(good * 1000) / 10).toFixed(1) });
  }
  over.textContent = broken ? `${t("over_limit_of", { limit: limitText(broken) })}` : "";
  out.replaceChildren(time, value, over, quality);
}

const NONE: readonly DeviceWindow[] = [];

const columns = ({ x, y, low, high }: Shaped): uPlot.AlignedData => [x, y, low, high];

/** Good readings among all of the buckets, rounded down: 100 % means every one. */
function goodShare({ buckets, total }: Readings): string {
  const good = buckets.reduce((sum, [, , , , count, share]) => sum + count * share, 0);
  return `${(Math.floor((good / Math.max(total, 1)) * 1000 + 1e-9) / 10).toFixed(1)}%`;
}

/** In words: all readings, a choice of them, or roll-ups. */
function sampling(readings: Readings): string {
  const counts = { n: integer(readings.returned), total: integer(readings.total) };
  if (readings.downsampling === "none") return t("not_downsampled", counts);
  if (readings.downsampling === "min_max") return t("downsampled", counts);
  return t("rolled_up", { ...counts, level: term("level_", readings.downsampling) });
}

export function Trend({ readings, windows = NONE, allLimits, onZoom, tight = false }: Props) {
  const host = useRef<HTMLDivElement>(null);
  const readout = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot | null>(null);
  const zoom = useRef(onZoom);
  zoom.current = onZoom;
  const language = lang.value;

  const s = useMemo(() => summary(readings.points, readings.buckets), [readings]);
  const begin = useRef(tight);
  begin.current = tight;
  const drawn = useRef<Drawn | null>(null);
  const now = useMemo<Drawn>(() => {
    const thinned_ms = readings.downsampling === "min_max" ? ((readings.end_ms - readings.start_ms) * 2) / Math.max(readings.returned, 1) : 0;
    const bucket_ms = rollUpMs(readings) || thinned_ms;
    return { readings, windows: windows.filter((w) => w.state !== "cancelled" && w.from_ms < readings.end_ms && w.to_ms > readings.start_ms), shaped: shape(readings.points, bucket_ms, readings.buckets), summary: s, range: valueRange(s, readings.limits, allLimits) };
  }, [readings, windows, allLimits]);
  drawn.current = now;

  useEffect(() => {
    const element = host.current;
    const out = readout.current;
    if (!element || !out) return undefined;
    const get = (): Drawn => drawn.current ?? now;
    const labels = document.createElement("div");
    labels.className = "limit-labels";
    const grid = { stroke: css("--line-soft"), width: 1 };
    const ticks = { stroke: css("--line"), width: 1, size: 5 };
    const font = `12px ${css("--font")}`;
    const made = new uPlot(
      {
        width: element.clientWidth,
        height: element.clientHeight,
        tzDate: shanghaiDate,
        legend: { show: false },
        cursor: { drag: { x: true, y: false, setScale: false }, points: { size: 8 } },
        scales: {
          x: { time: true, range: () => [((begin.current ? get().readings.points[0]?.[0] : null) ?? get().readings.start_ms) / 1000, get().readings.end_ms / 1000] },
          y: { range: () => get().range },
        },
        axes: [
          { stroke: css("--ink-2"), grid, ticks, font, values: tickText, space: 70, size: 44 },
          { stroke: css("--ink-2"), grid, ticks, font, size: 60, values: (_u, splits) => splits.map((v) => number(v)) },
        ],
        bands: [{ series: [3, 2], fill: css("--trend-band") }],
        series: [
          {},
          {
            stroke: css("--trend"),
            width: 1.6,
            spanGaps: false,
            points: { size: 4, fill: css("--trend"), width: 0, stroke: css("--trend") },
          },
          { stroke: css("--trend-edge"), width: 0.8, spanGaps: false, points: { show: false } },
          { stroke: css("--trend-edge"), width: 0.8, spanGaps: false, points: { show: false } },
        ],
        hooks: {
          ready: [(u) => u.over.append(labels), (u) => say(u, out, get())],
          draw: [
            (u) => paint(u, get().readings, get().shaped, get().windows),
            (u) => placeLabels(u, labels, get().readings.limits),
            (u) => placeWindows(u, labels, get().windows),
          ],
          setCursor: [(u) => say(u, out, get())],
          setSelect: [
            (u) => {
              if (u.select.width < 8) return;
              const start = u.posToVal(u.select.left, "x") * 1000;
              const end = u.posToVal(u.select.left + u.select.width, "x") * 1000;
              u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
              zoom.current(Math.round(start), Math.round(end));
            },
          ],
        },
      },
      columns(get().shaped),
      element,
    );
    chart.current = made;
    const watch = new ResizeObserver(() => {
      if (element.clientWidth > 0) made.setSize({ width: element.clientWidth, height: element.clientHeight });
    });
    watch.observe(element);
    return () => {
      watch.disconnect();
      made.destroy();
      chart.current = null;
    };
  }, [language]);

  const first = useRef(true);
  useEffect(() => {
    if (first.current) {
      first.current = false; // made with these data just now
      return;
    }
    const u = chart.current;
    if (!u || !readout.current) return;
    u.setData(columns(now.shaped));
    say(u, readout.current, now);
  }, [now]);

  const name = pick(readings.name_zh, readings.name_en, readings.indicator);
  const text = (v: number | null): string => withUnit(v, readings.unit, readings.decimals);
  return (
    <>
      <div class="trend-top">
        <div class="readout num" ref={readout} aria-hidden="true" />
        <span class="trend-sampling num" data-testid="sampling">
          {sampling(readings)}
        </span>
      </div>
      <div
        class="trend"
        data-testid="trend"
        data-points={readings.returned}
        data-total={readings.total}
        data-buckets={readings.buckets.length}
        data-suspect={s.suspect}
        data-failed={s.failed}
        data-windows={now.windows.length}
        role="img"
        aria-label={t("trend_aria", { name, n: s.n, min: text(s.min), max: text(s.max), last: text(s.last?.[1] ?? null), suspect: s.suspect, failed: s.failed })}
        ref={host}
      />
      <dl class="trend-facts">
        <div>
          <dt>{t(readings.buckets.length ? "latest_mean" : "latest")}</dt>
          <dd class={s.last && brokenBy(s.last, readings.limits) ? "num bad" : "num"}>{text(s.last?.[1] ?? null)}</dd>
        </div>
        <div>
          <dt>{t("minimum")}</dt>
          <dd class="num">{text(s.min)}</dd>
        </div>
        <div>
          <dt>{t("maximum")}</dt>
          <dd class="num">{text(s.max)}</dd>
        </div>
        {readings.buckets.length > 0 && (
          <div>
            <dt>{t("good_share")}</dt>
            <dd class="num">{goodShare(readings)}</dd>
          </div>
        )}
        <div class="key-suspect" hidden={readings.buckets.length > 0}>
          <dt>
            <i aria-hidden="true">◆</i>
            {t("mark_suspect")}
          </dt>
          <dd class="num" data-testid="count-suspect">
            {s.suspect}
          </dd>
        </div>
        <div class="key-failed" hidden={readings.buckets.length > 0}>
          <dt>
            <i aria-hidden="true">×</i>
            {t("mark_failed")}
          </dt>
          <dd class="num" data-testid="count-failed">
            {s.failed}
          </dd>
        </div>
      </dl>
    </>
  );
}
