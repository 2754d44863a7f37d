/** Numbers, units and times as people read them; times are Asia/Shanghai (UTC+8, no summer time since 1991). */

import type { Citation, Conditions } from "./api/types";
import { lang, t, term } from "./i18n";
import { productName } from "./products";
import { breaks } from "./trend/shape";

const SHANGHAI_MS = 8 * 3_600_000;
export const MISSING = "—";

const two = (n: number): string => String(n).padStart(2, "0");

/** Calendar parts of a UTC millisecond in Shanghai. */
export function shanghai(ms: number): { day: string; monthDay: string; minute: string; second: string; year: number } {
  const d = new Date(ms + SHANGHAI_MS);
  const monthDay = `${two(d.getUTCMonth() + 1)}-${two(d.getUTCDate())}`;
  const minute = `${two(d.getUTCHours())}:${two(d.getUTCMinutes())}`;
  return {
    year: d.getUTCFullYear(),
    day: `${d.getUTCFullYear()}-${monthDay}`,
    monthDay,
    minute,
    second: `${minute}:${two(d.getUTCSeconds())}`,
  };
}

/** 2026-05-01 08:30:00 */
export function stamp(ms: number | null | undefined): string {
  if (ms === null || ms === undefined) return MISSING;
  const p = shanghai(ms);
  return `${p.day} ${p.second}`;
}

/** Time of day when today, else the date with it. */
export function shortStamp(ms: number | null | undefined, now: number): string {
  if (ms === null || ms === undefined) return MISSING;
  const p = shanghai(ms);
  const today = shanghai(now);
  if (p.day === today.day) return p.second;
  return p.year === today.year ? `${p.monthDay} ${p.minute}` : p.day;
}

export function ago(ms: number | null | undefined, now: number): string {
  if (ms === null || ms === undefined) return MISSING;
  const s = Math.max(0, Math.round((now - ms) / 1000));
  if (s < 5) return t("just_now");
  if (s < 60) return t("seconds_ago", { n: s });
  if (s < 3600) return t("minutes_ago", { n: Math.floor(s / 60) });
  if (s < 172_800) return t("hours_ago", { n: Math.floor(s / 3600) });
  return t("days_ago", { n: Math.floor(s / 86_400) });
}

export function duration(ms: number): string {
  const abs = Math.abs(ms);
  if (abs < 1000) return t("d_ms", { n: Math.round(ms) });
  if (abs < 60_000) return t("d_s", { n: Number((ms / 1000).toFixed(1)) });
  if (abs < 3_600_000) return t("d_min", { n: Math.trunc(ms / 60_000) });
  if (abs < 172_800_000) return t("d_h", { n: Math.trunc(ms / 3_600_000) });
  return t("d_d", { n: Math.trunc(ms / 86_400_000) });
}

/** How far a clock is ahead (+) or behind (−). */
export function offsetText(ms: number | null | undefined): string {
  if (ms === null || ms === undefined) return MISSING;
  return `${ms > 0 ? "+" : ""}${duration(ms).replace("-", "−")}`;
}

const grouped = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

export const integer = (n: number | null | undefined): string =>
  n === null || n === undefined ? MISSING : grouped.format(n);

/** A rate 0..1 as a per cent number with one decimal, never rounded up to 100. */
export function percent(rate: number | null | undefined): string {
  if (rate === null || rate === undefined) return MISSING;
  if (rate >= 1) return "100";
  return (Math.floor(rate * 1000) / 10).toFixed(1);
}

/** A number with the catalogue's decimals, or its shortest exact form. */
export function number(v: number | string | null | undefined, decimals?: number | null): string {
  if (v === null || v === undefined || v === "") return MISSING;
  if (typeof v === "string") return v; // decimal text of a test: as it came
  if (!Number.isFinite(v)) return MISSING;
  if (decimals !== null && decimals !== undefined) return v.toFixed(decimals);
  return String(Number(v.toPrecision(12)));
}

const UNITS: Record<string, [zh: string, en: string]> = {
  "1": ["", ""],
  Cel: ["℃", "°C"],
  "[pH]": ["", ""],
  "uS/cm": ["μS/cm", "μS/cm"],
  "ug/L": ["μg/L", "μg/L"],
  "ug/kg": ["μg/kg", "μg/kg"],
  "m-1": ["m⁻¹", "m⁻¹"],
  "[ppth]": ["‰", "‰"],
  "{NTU}": ["NTU", "NTU"],
  "{count}/L": ["个/L", "/L"],
  "{MPN}/L": ["MPN/L", "MPN/L"],
  "{MPN}/(100.mL)": ["MPN/100 mL", "MPN/100 mL"],
  "{eggs}/(10.L)": ["个/10 L", "/10 L"],
  "{deg_colour}": ["度", "deg"],
  "umol/m2/s": ["μmol/(m²·s)", "μmol/(m²·s)"],
  "W/m2": ["W/m²", "W/m²"],
  deg: ["°", "°"],
};

/** A UCUM unit as printed on a screen. */
export function unitText(unit: string): string {
  const known = UNITS[unit];
  return known ? known[lang.value === "zh" ? 0 : 1] : unit;
}

export function withUnit(v: number | string | null | undefined, unit: string, decimals?: number | null): string {
  const text = number(v, decimals);
  const u = unitText(unit);
  return text === MISSING || !u ? text : `${text} ${u}`;
}

/** Which side of a limit complies; the comparator says what breaks it (">" breaks an upper limit). */
export function direction(comparator: string | null | undefined): "max" | "min" | "other" {
  if (comparator === ">" || comparator === ">=") return "max";
  if (comparator === "<" || comparator === "<=") return "min";
  return "other";
}

/** The limit as a number when it is one that a value can be drawn against; it may come as decimal text. */
export function numericLimit(c: Partial<Citation> | undefined): number | null {
  if (!c || direction(c.comparator) === "other" || c.limit === null || c.limit === undefined || c.limit === "") return null;
  const limit = Number(c.limit);
  return Number.isFinite(limit) ? limit : null;
}

const COMPLIES: Record<string, string> = { ">": "≤", ">=": "<", "<": "≥", "<=": ">" };

/** What complies: "≤ 0.3 mg/kg", "≥ 5 mg/L"; words for a ban; blank when there is no limit. */
export function limitText(c: Pick<Partial<Citation>, "comparator" | "limit" | "unit" | "level">): string {
  const cmp = c.comparator ?? "";
  if (cmp === "detected") return t(c.level === "screen" ? "cmp_screen" : "cmp_detected");
  if (c.limit === null || c.limit === undefined || c.limit === "") return "";
  if (cmp === "outside") return withUnit(c.limit, c.unit ?? ""); // two bounds: 6.5–8.5
  return `${COMPLIES[cmp] ?? cmp} ${withUnit(c.limit, c.unit ?? "")}`.trim();
}

const MOST_DIGITS = 6;

/** A measured value with the catalogue's digits: more of them where rounding would hide that it breaks the limit. */
export function measured(v: number | null | undefined, unit: string, decimals: number | null, c?: Partial<Citation>): string {
  const limit = numericLimit(c);
  if (v === null || v === undefined || decimals === null || limit === null) return withUnit(v, unit, decimals);
  let digits = decimals;
  while (digits < MOST_DIGITS && breaks(Number(v.toFixed(digits)), c?.comparator, limit) !== breaks(v, c?.comparator, limit)) digits += 1;
  return withUnit(v, unit, digits);
}

/** A notice of the ministry by its own name; numbers of standards as they are. */
export function standardText(standard: string | null | undefined): string {
  const notice = /^(MARA|MOA) notice (\d+)$/.exec(standard ?? "");
  return notice?.[2] ? t(notice[1] === "MOA" ? "moa_notice" : "mara_notice", { n: notice[2] }) : (standard ?? "");
}

/** "Table 1" in the reader's language; the rest is the standard's own text, or its English where there is one. */
export function clauseText(clause: string | null | undefined, english?: string | null): string {
  if (!clause) return "";
  if (english && lang.value === "en") return english;
  const table = /^(?:table|表)\s*(\w+)(?:\s+(.*))?$/i.exec(clause);
  return table?.[1] ? [t("clause_table", { n: table[1] }), table[2]].filter(Boolean).join(" ") : clause;
}

function conditionValue(name: string, v: unknown): string {
  if (typeof v === "boolean") return t(v ? "yes" : "no");
  if (typeof v === "string") {
    if (name === "product") return productName(v);
    const own = `${name}_${v}`; // paddy is a land use and a crop, with two names
    const text = term("cv_", own);
    return text === own ? term("cv_", v) : text;
  }
  if (typeof v === "number") return number(v);
  if (Array.isArray(v)) return v.map((x) => conditionValue(name, x)).join(" / ");
  return JSON.stringify(v);
}

/** What a value was computed from or measured beside; the rest of a citation's conditions picked its row. */
const INPUTS: ReadonlySet<string> = new Set(["computed_from", "water_ammonia_n", "water_ph", "water_temperature", "water_do", "water_do_saturation", "low_h", "window_h"]);

/** The conditions that picked a limit, as name and value; those that are not known are listed by `missingKeys`. */
export function conditionPairs(conditions: Conditions | null | undefined): [string, string][] {
  return Object.entries(conditions ?? {})
    .filter(([name, v]) => v !== "" && v !== null && v !== undefined && !INPUTS.has(name))
    .map(([name, v]) => {
      const value = conditionValue(name, v);
      return [value.includes("pH") ? "" : term("cond_", name), value]; // a band names itself: 5.5<pH≤6.5
    });
}

/** Conditions that were not known when the row was picked. */
export const missingKeys = (conditions: Conditions | null | undefined): string[] =>
  Object.entries(conditions ?? {})
    .filter(([name, v]) => v === null && !INPUTS.has(name))
    .map(([name]) => term("cond_", name));

const INPUT_UNITS: Record<string, string> = {
  water_ammonia_n: "mg/L",
  water_temperature: "Cel",
  water_do: "mg/L",
  water_do_saturation: "%",
  low_h: "h",
  window_h: "h",
};
const INPUT_DIGITS = 4;

/** What a computed value was computed from, as name and value. */
export function inputPairs(conditions: Conditions | null | undefined): [string, string][] {
  return Object.entries(conditions ?? {})
    .filter(([name, v]) => INPUTS.has(name) && name !== "computed_from" && typeof v === "number")
    .map(([name, v]) => [term("cond_", name), withUnit(Number(Number(v).toPrecision(INPUT_DIGITS)), INPUT_UNITS[name] ?? "")]);
}

/** Names of the indicators that a computed value was computed from. */
export const computedFrom = (conditions: Conditions | null | undefined): string[] => {
  const from = conditions?.["computed_from"];
  return typeof from === "string" ? from.split(/,\s*/).map((name) => term("cond_", name)) : [];
};

export const conditionText = (conditions: Conditions | null | undefined): string =>
  conditionPairs(conditions)
    .map(([name, v]) => `${name} ${v}`.trim())
    .join(" · ");

/** A reason of the judge, which says it in both languages: "中文 | English". */
export function reasonText(reason: string): string {
  const cut = reason.indexOf(" | ");
  if (cut < 0) return reason;
  return lang.value === "zh" ? reason.slice(0, cut) : reason.slice(cut + 3);
}
