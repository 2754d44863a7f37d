/** Where the stations are: a sketch by longitude and latitude, the ones with alerts to be seen first. */

import { useEffect, useRef, useState } from "preact/hooks";

import type { Severity, Station } from "../api/types";
import { integer } from "../format";
import { pick, t, term } from "../i18n";
import { href } from "../route";
import { openAlerts } from "../state";
import { spread } from "../trend/shape";

const EDGE_PX = 34;
const LABEL_PX = 17;
const MOST_LABELS = 14;
const KM_PER_DEGREE = 111.32;
const RULES_KM = [1, 2, 5, 10, 20, 50, 100, 200, 500];
const RANK: readonly Severity[] = ["critical", "major", "warning", "info"];

interface Placed {
  s: Station;
  x: number;
  y: number;
  worst: Severity | null;
}

/** The gravest open alert of each station. */
function worstByStation(): Map<string, Severity> {
  const worst = new Map<string, Severity>();
  for (const a of openAlerts.value.data ?? []) {
    const known = worst.get(a.station);
    if (!known || RANK.indexOf(a.severity) < RANK.indexOf(known)) worst.set(a.station, a.severity);
  }
  return worst;
}

function Dot({ p }: { p: Placed }) {
  const { s, x, y, worst } = p;
  const name = pick(s.name, s.name_en, s.code);
  const state = term("state_", s.state);
  return (
    <a href={href(["stations", s.code])} aria-label={`${name}, ${state}, ${t("open_alerts")} ${s.open_alerts}`}>
      <title>{`${name} · ${state}${s.open_alerts > 0 ? ` · ${t("open_alerts")} ${s.open_alerts}` : ""}`}</title>
      {s.open_alerts > 0 ? (
        <>
          <circle class={`map-ring sev-${worst ?? "major"}`} cx={x} cy={y} r="15" />
          <circle class={`map-alert sev-${worst ?? "major"}`} cx={x} cy={y} r="9.5" />
          <text class="map-count" x={x} y={y + 4}>
            {integer(s.open_alerts)}
          </text>
        </>
      ) : (
        <circle class={`map-dot state-${s.state}`} cx={x} cy={y} r="6" />
      )}
    </a>
  );
}

/** About how wide a name is: Chinese characters are square, Latin ones half of that. */
const widthOf = (text: string): number => [...text].reduce((w, c) => w + (c > "\u2e7f" ? 12.2 : 6.8), 0);

interface Label {
  p: Placed;
  text: string;
  right: boolean;
}

/** A name goes outwards, where there are no other dots, when there is room for it. */
function labelOf(p: Placed, width: number): Label {
  const text = pick(p.s.name, p.s.name_en, p.s.code);
  const need = widthOf(text) + 24;
  const outer = p.x > width / 2;
  const fits = outer ? p.x + need < width : p.x - need > 0;
  return { p, text, right: outer === fits };
}

/** Names beside the dots, those on one side moved apart. */
function Labels({ placed, width, height }: { placed: Placed[]; width: number; height: number }) {
  const labels = placed.map((p) => labelOf(p, width));
  return (
    <>
      {[false, true].map((right) => {
        const side = labels.filter((l) => l.right === right);
        const at = spread(
          side.map((l) => l.p.y),
          LABEL_PX,
          height,
        );
        return side.map(({ p, text }, i) => {
          const off = p.s.open_alerts > 0 ? 19 : 11;
          return (
            <text key={p.s.code} class={p.s.open_alerts > 0 ? "map-name strong" : "map-name"} x={p.x + (right ? off : -off)} y={at[i]! + 4} text-anchor={right ? "start" : "end"}>
              {text}
            </text>
          );
        });
      })}
    </>
  );
}

export function StationMap({ stations }: { stations: Station[] }) {
  const box = useRef<HTMLDivElement>(null);
  const [size, setSize] = useState<readonly [number, number]>([0, 0]);
  useEffect(() => {
    const element = box.current;
    if (!element) return undefined;
    const watch = new ResizeObserver(() => setSize([element.clientWidth, element.clientHeight]));
    watch.observe(element);
    return () => watch.disconnect();
  }, []);
  const [width, height] = size;
  const known = stations.filter((s) => s.lon !== null && s.lat !== null);
  return (
    <div class="map" ref={box} data-testid="map">
      {known.length === 0 ? <p class="dim pad">{t("map_none")}</p> : width > 0 && <Sketch known={known} width={width} height={height} />}
    </div>
  );
}

function Sketch({ known, width, height }: { known: Station[]; width: number; height: number }) {
  const lons = known.map((s) => s.lon!);
  const lats = known.map((s) => s.lat!);
  const [west, east, south, north] = [Math.min(...lons), Math.max(...lons), Math.min(...lats), Math.max(...lats)];
  const squeeze = Math.cos((((south + north) / 2) * Math.PI) / 180);
  const wide = Math.max((east - west) * squeeze, 0.02);
  const tall = Math.max(north - south, 0.02);
  // Pixels per degree of latitude.
  const scale = Math.min((width - 2 * EDGE_PX) / wide, (height - 2 * EDGE_PX) / tall);
  const x = (lon: number): number => width / 2 + (lon - (west + east) / 2) * squeeze * scale;
  const y = (lat: number): number => height / 2 - (lat - (south + north) / 2) * scale;
  const worst = worstByStation();
  const placed = known.map((s): Placed => ({ s, x: x(s.lon!), y: y(s.lat!), worst: worst.get(s.code) ?? null })).sort((a, b) => a.s.open_alerts - b.s.open_alerts);
  const named = placed.length <= MOST_LABELS ? placed : placed.filter((p) => p.s.open_alerts > 0).slice(-MOST_LABELS);
  const km = RULES_KM.findLast((k) => (k / KM_PER_DEGREE) * scale <= width * 0.3) ?? 1;
  const rule = (km / KM_PER_DEGREE) * scale;
  const lines = Array.from({ length: Math.ceil(Math.max(width, height) / rule) }, (_, i) => i);
  return (
    <svg width={width} height={height} role="group" aria-label={t("map_aria", { n: known.length })}>
      <g class="map-grid" aria-hidden="true">
        {lines.map((i) => (
          <path key={i} d={`M${16 + i * rule} 0V${height}M0 ${27 + i * rule}H${width}`} />
        ))}
      </g>
      {placed.map((p) => (
        <Dot key={p.s.code} p={p} />
      ))}
      <Labels placed={named} width={width} height={height} />
      <g class="map-rule" aria-hidden="true">
        <path d={`M16 22v5h${rule}v-5`} />
        <text x={16 + rule / 2} y={21} text-anchor="middle">
          {t("km", { n: km })}
        </text>
        <path d={`M${width - 18} 14l-5 13l5 -4l5 4z`} class="map-north" />
        <text x={width - 18} y="40" text-anchor="middle">
          {t("north")}
        </text>
      </g>
    </svg>
  );
}
