/** What several screens share: overview numbers, stations, open alerts, the live list; kept fresh by events and a slow poll. */

import { computed, signal } from "@preact/signals";

import { api, ApiError } from "./api/client";
import type { Alert, AlertState, EventData, Indicator, Overview, Severity, Station, Test, Verdict } from "./api/types";
import { burst } from "./burst";
import { measured } from "./format";
import { pick, t, term } from "./i18n";
import { connect, type LiveEvent, type LiveType, onEvent, onOpen } from "./live";
import { knowsProduct, learnProducts } from "./products";

const POLL_MS = 15_000;
const LIVE_MAX = 200;
const OPEN_ALERTS_MAX = 1000;
const PAGE = 200;

export interface Shared<T> {
  data: T | null;
  error: ApiError | null;
}
const blank = { data: null, error: null };

export const overview = signal<Shared<Overview>>(blank);
export const stations = signal<Shared<Station[]>>(blank);
export const openAlerts = signal<Shared<Alert[]>>(blank);
/** Alerts that came or changed while the page was open: their rows flash. */
export const freshAlerts = signal<ReadonlySet<string>>(new Set());

export interface LiveRow extends EventData {
  key: string;
  kind: LiveType;
  fresh: boolean;
}
export const live = signal<LiveRow[]>([]);
export const liveLoaded = signal(false);

async function load<T>(into: { value: Shared<T> }, get: () => Promise<T>): Promise<void> {
  try {
    into.value = { data: await get(), error: null };
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    into.value = { data: into.value.data, error };
  }
}

export const refreshOverview = burst(() => load(overview, () => api.overview()), 500);
export const refreshStations = burst(() => load(stations, async () => (await api.stations()).stations), 2000);
export const refreshOpenAlerts = burst(
  () =>
    load(openAlerts, async () => {
      const found: Alert[] = [];
      let before: string | null = null;
      do {
        const page: { alerts: Alert[]; next: string | null } = await api.alerts({ state: "open", limit: PAGE, before });
        found.push(...page.alerts);
        before = page.next;
      } while (before !== null && found.length < OPEN_ALERTS_MAX);
      for (const alert of found) learn(alert.indicator, alert.indicator_zh, alert.indicator_en);
      return found.sort(bySeverity);
    }),
  500,
);

// ---------------------------------------------------------------- alerts

const RANK: Record<Severity, number> = { critical: 0, major: 1, warning: 2, info: 3 };
const OPEN: ReadonlySet<AlertState> = new Set(["suspected", "confirmed", "open", "retest_ordered", "handed_over", "in_enforcement"]);

function bySeverity(a: Alert, b: Alert): number {
  return RANK[a.severity] - RANK[b.severity] || b.raised_ms - a.raised_ms;
}

const MAX_SINGLE = 4;
let single = 0;

/** Bring one alert up to date; in a storm the whole list is read once instead. */
async function refreshAlert(id: string): Promise<void> {
  if (single >= MAX_SINGLE) {
    refreshOpenAlerts();
    return;
  }
  single += 1;
  try {
    const alert = await api.alert(id);
    learn(alert.indicator, alert.indicator_zh, alert.indicator_en);
    const others = (openAlerts.value.data ?? []).filter((a) => a.alert_id !== id);
    freshAlerts.value = new Set(freshAlerts.value).add(id);
    const data = OPEN.has(alert.state) ? [...others, alert].sort(bySeverity) : others;
    openAlerts.value = { data, error: null };
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    refreshOpenAlerts();
  } finally {
    single -= 1;
  }
}

// ---------------------------------------------------------------- names

const names = signal<ReadonlyMap<string, readonly [zh: string, en: string]>>(new Map());

function learn(code: string, zh: string, en: string): void {
  if (!code || (!zh && !en) || names.peek().has(code)) return;
  names.value = new Map(names.peek()).set(code, [zh, en]);
}

const digits = signal<ReadonlyMap<string, number>>(new Map());

/** Digits after the point of an indicator; null when the catalogue does not say. */
export const digitsOf = (code: string): number | null => digits.value.get(code) ?? null;

export function learnTests(tests: Test[]): void {
  for (const test of tests) learn(test.parameter, test.parameter_zh, test.parameter_en);
  learnProducts(tests);
}

/** What was found, as text: the value, or that a banned substance is there. */
export function alertValue(a: Pick<Alert, "kind" | "value" | "unit" | "indicator" | "citation">): string {
  if (a.value !== null) return measured(a.value, a.unit, digitsOf(a.indicator), a.citation);
  return a.kind === "test" && a.citation.comparator === "detected" ? t("sr_positive") : "";
}

/** The name of an indicator or test item; its code until the name is known. */
export function codeName(code: string | undefined): string {
  if (!code) return "";
  const known = names.value.get(code);
  return known ? pick(known[0], known[1], code) : code;
}

const stationsByCode = computed(() => new Map((stations.value.data ?? []).map((s) => [s.code, s])));

export function stationName(code: string): string {
  const s = stationsByCode.value.get(code);
  return s ? pick(s.name, s.name_en, code) : code;
}

const learnNewTests = burst(async () => {
  try {
    learnTests((await api.tests({ limit: 20 })).tests);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
  }
}, 2000);

// ---------------------------------------------------------------- live list

const identity = (kind: LiveType, d: Partial<EventData>): string => `${kind}/${d.alert_id ?? d.record_id ?? d.station}/${d.state ?? ""}`;

let waiting: LiveRow[] = [];
let flushing = 0;

/** Rows are shown in one go every 60 ms, so that a storm of events does not freeze the page. */
function show(row: LiveRow): void {
  waiting.push(row);
  flushing ||= window.setTimeout(() => {
    const added = waiting.reverse();
    waiting = [];
    flushing = 0;
    live.value = [...added, ...live.value].slice(0, LIVE_MAX);
  }, 60);
}

function receive(event: LiveEvent): void {
  const { type, data } = event;
  show({ ...data, kind: type, key: `e${event.id}`, fresh: true });
  switch (type) {
    case "alert":
      if (data.alert_id) void refreshAlert(data.alert_id);
      refreshOverview();
      refreshStations(); // their counts of open alerts
      break;
    case "test":
      if ((data.parameter && !names.peek().has(data.parameter)) || (data.product_name && !knowsProduct(data.product_name))) learnNewTests();
      refreshOverview();
      break;
    case "station":
      refreshStations();
      refreshOverview();
      break;
    case "delivery":
      break;
  }
}

/** What happened before the page was opened, from the newest tests and alerts. */
async function fillLive(): Promise<void> {
  try {
    const [tests, alerts] = await Promise.all([api.tests({ limit: 30 }), api.alerts({ limit: 30 })]);
    learnTests(tests.tests);
    const rows: LiveRow[] = [
      ...tests.tests.map((x) => testRow(x)),
      ...alerts.alerts.map((a): LiveRow => {
        learn(a.indicator, a.indicator_zh, a.indicator_en);
        return {
          at_ms: a.changed_ms,
          type: "alert",
          kind: "alert",
          key: `a${a.alert_id}${a.state}`,
          fresh: false,
          station: a.station,
          alert_id: a.alert_id,
          state: a.state,
          severity: a.severity,
          indicator: a.indicator,
          value: a.value,
          unit: a.unit,
        };
      }),
    ].sort((a, b) => b.at_ms - a.at_ms);
    const seen = new Set(live.value.map((row) => identity(row.kind, row)));
    live.value = [...live.value, ...rows.filter((row) => !seen.has(identity(row.kind, row)))].slice(0, LIVE_MAX);
    liveLoaded.value = true;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    setTimeout(() => void fillLive(), POLL_MS);
  }
}

function testRow(x: Test): LiveRow {
  const verdict: Verdict = x.verdict;
  return {
    at_ms: x.received_ms,
    type: "test",
    kind: "test",
    key: `t${x.record_id}`,
    fresh: false,
    station: x.station,
    record_id: x.record_id,
    verdict,
    pass_scope: x.pass_scope,
    product_name: x.product_name,
    parameter: x.parameter,
  };
}

// ---------------------------------------------------------------- start

function refreshAll(): void {
  refreshOverview();
  refreshStations();
  refreshOpenAlerts();
}

/** Begin to load and to listen. */
export function start(): void {
  onEvent(receive);
  onOpen(refreshAll);
  refreshAll();
  connect();
  void fillLive();
  void loadIndicators();
  setInterval(() => {
    if (!document.hidden) refreshAll();
  }, POLL_MS);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) refreshAll();
  });
}

async function loadIndicators(): Promise<void> {
  try {
    const { indicators } = await api.indicators();
    const known = new Map(names.peek());
    for (const i of indicators as Indicator[]) known.set(i.code, [i.name_zh, i.name_en]);
    names.value = known;
    digits.value = new Map(indicators.map((i) => [i.code, i.decimals]));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    setTimeout(() => void loadIndicators(), POLL_MS);
  }
}

/** 疑似超标 until a confirmatory result confirms it; technical kinds by their name. */
export function alertTitle(a: { kind?: string; state?: string; certainty?: string }): string {
  const technical = a.kind !== undefined && a.kind !== "limit" && a.kind !== "test";
  if (technical) return term("k_", a.kind);
  const settled = a.state === "confirmed" || a.state === "handed_over" || a.state === "in_enforcement" || a.state === "closed";
  if (a.kind === "test" && a.certainty === "screening") return term("title_", settled ? "positive" : "suspected_positive");
  return term("title_", settled ? "exceedance" : "suspected_exceedance");
}
