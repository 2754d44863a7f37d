/** 告警: all alerts with filters, newest first. */

import { useEffect, useRef, useState } from "preact/hooks";

import { api, ApiError } from "../api/client";
import type { Alert, AlertPage, Severity } from "../api/types";
import { burst } from "../burst";
import { coarse } from "../clock";
import { clauseText, limitText, numericLimit, shortStamp, stamp, standardText } from "../format";
import { pick, t, term } from "../i18n";
import { onEvent } from "../live";
import { LimitBar } from "../parts/limit_bar";
import { AlertStateTag, Await, Choice, Empty, Flags, Panel, Severe, Unverified, When } from "../parts/parts";
import { useResource } from "../parts/resource";
import { productName } from "../products";
import { href, route, setQuery } from "../route";
import { alertTitle, alertValue, stationName, stations } from "../state";

const STATES = [
  "suspected",
  "retest_ordered",
  "confirmed",
  "handed_over",
  "in_enforcement",
  "closed",
  "cleared",
  "dismissed",
  "refuted",
  "superseded",
  "resolved",
] as const;
const KINDS = ["limit", "test", "cluster", "device_offline", "station_offline", "sensor_fault", "data_gap", "store_down", "clock", "duplicate_gateway", "certificate_expiry"] as const;
const FLAGS = ["overdue", "late", "limit_unverified", "clock_suspect", "data_stale", "flapping", "fp_prone"] as const;
const FILTERS = ["state", "severity", "kind", "flag", "station", "q"] as const;
const SEVERITIES: readonly Severity[] = ["critical", "major", "warning", "info"];
const PAGE = 100;

/** When the next clock of the law ends; in red once it has. */
function Due({ ms }: { ms: number }) {
  return (
    <time class={ms < coarse.value ? "num over" : "num"} title={stamp(ms)} data-testid="due">
      {shortStamp(ms, coarse.value)}
    </time>
  );
}

function Row({ a, fresh }: { a: Alert; fresh: boolean }) {
  const to = href(["alerts", a.alert_id]);
  const bound = numericLimit(a.citation);
  const flags = a.flags.filter((f) => f !== "limit_unverified");
  return (
    <tr
      class={`alert-line sev-edge-${a.severity}${fresh ? " fresh" : ""}`}
      data-testid="alert-row"
      data-alert-id={a.alert_id}
      data-severity={a.severity}
      data-state={a.state}
      onClick={() => {
        location.hash = to;
      }}
    >
      <td>
        <Severe severity={a.severity} />
      </td>
      <td>
        <a href={to}>
          <b>{pick(a.indicator_zh, a.indicator_en, a.indicator) || term("k_", a.kind)}</b>
        </a>
        <small class="block dim">{alertTitle(a)}</small>
      </td>
      <td>
        <b class={`num alert-value sev-${a.severity}`}>{alertValue(a) || "—"}</b>
        {a.value !== null && bound !== null && (
          <LimitBar small value={a.value} unit={a.unit} limit={bound} comparator={a.citation.comparator ?? ""} exceeded={a.citation.exceeded ?? null} ratio={a.citation.ratio ?? null} />
        )}
      </td>
      <td class="alert-limit-cell">
        <span class="num">{limitText(a.citation) || "—"}</span>
        <small class="block dim">
          {[standardText(a.citation.standard), clauseText(a.citation.clause)].filter(Boolean).join(" ")} {a.citation.verified === false && <Unverified />}
        </small>
      </td>
      <td class="alert-place">
        <span class="block">{pick(a.station_name, a.station_name_en, a.station)}</span>
        <small class="dim">{[a.plot_name, a.device_name || a.device, productName(a.product_name, a.product_name_en), a.sample_no].filter(Boolean).join(" · ")}</small>
      </td>
      <td>
        <AlertStateTag state={a.state} />
        {a.acked_ms !== null && <small class="block dim">{t("f_acked")}</small>}
      </td>
      <td>
        <Flags flags={flags} />
      </td>
      <td class="num">{a.occurrence_count}</td>
      <td>{a.due_ms === null ? <span class="dim">—</span> : <Due ms={a.due_ms} />}</td>
      <td>
        <When ms={a.raised_ms} />
      </td>
    </tr>
  );
}

export function AlertsPage() {
  const { query } = route.value;
  const filters = Object.fromEntries(FILTERS.map((name) => [name, query.get(name) ?? ""])) as Record<(typeof FILTERS)[number], string>;
  const { state, severity, kind, flag, station, q } = filters;
  const key = `alerts/${FILTERS.map((name) => filters[name]).join("/")}`;
  const first = useResource<AlertPage>(key, (signal) => api.alerts({ ...filters, limit: PAGE }, signal), { poll_ms: 30_000, keep: true });
  const [older, setOlder] = useState<{ key: string; alerts: Alert[]; next: string | null } | null>(null);
  const [moreError, setMoreError] = useState(false);
  const changed = useRef(new Set<string>());

  const reload = useRef(first.reload);
  reload.current = first.reload;
  useEffect(() => {
    const soon = burst(() => reload.current(), 500);
    return onEvent((e) => {
      if (e.type !== "alert" || !e.data.alert_id) return;
      changed.current.add(e.data.alert_id);
      soon();
    });
  }, []);

  const newest = first.data?.alerts ?? [];
  const more = older?.key === key ? older : null;
  const have = new Set(newest.map((a) => a.alert_id));
  const all = [...newest, ...(more?.alerts ?? []).filter((a) => !have.has(a.alert_id))];
  const next = more ? more.next : (first.data?.next ?? null);

  const loadMore = async (): Promise<void> => {
    setMoreError(false);
    try {
      const page = await api.alerts({ ...filters, limit: PAGE, before: next });
      setOlder({ key, alerts: [...all, ...page.alerts], next: page.next });
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setMoreError(true);
    }
  };

  const names = stations.value.data ?? [];
  const filtered = FILTERS.some((name) => filters[name] !== "");
  return (
    <div class="page">
      <h1 class="hidden">{t("alerts")}</h1>
      <Panel
        title="alerts"
        class="fill"
        tools={
          <div class="filters" role="group" aria-label={t("filters")}>
            <Choice
              label="a_state"
              value={state}
              testid="filter-state"
              options={[["", t("all")], ["open", t("any_open")], ...STATES.map((s) => [s, s === "resolved" ? `${term("st_", s)} (${t("technical")})` : term("st_", s)] as const)]}
              onChange={(v) => setQuery({ state: v || null })}
            />
            <Choice label="a_severity" value={severity} testid="filter-severity" options={[["", t("all")], ...SEVERITIES.map((s) => [s, term("sev_", s)] as const)]} onChange={(v) => setQuery({ severity: v || null })} />
            <Choice label="a_kind" value={kind} testid="filter-kind" options={[["", t("all")], ...KINDS.map((k) => [k, term("k_", k)] as const)]} onChange={(v) => setQuery({ kind: v || null })} />
            <Choice label="a_flag" value={flag} testid="filter-flag" options={[["", t("all")], ...FLAGS.map((f) => [f, term("f_", f)] as const)]} onChange={(v) => setQuery({ flag: v || null })} />
            <Choice
              label="station"
              value={station}
              testid="filter-station"
              options={[
                ["", t("all")],
                ...(station && !names.some((s) => s.code === station) ? [[station, station] as const] : []),
                ...names.map((s) => [s.code, `${stationName(s.code)} (${s.code})`] as const),
              ]}
              onChange={(v) => setQuery({ station: v || null })}
            />
            <label class="choice">
              <span>{t("a_search")}</span>
              <input type="search" value={q} maxLength={60} placeholder={t("a_search_hint")} data-testid="filter-q" onChange={(e) => setQuery({ q: e.currentTarget.value.trim() || null })} />
            </label>
          </div>
        }
      >
        <Await {...first}>
          {() =>
            all.length === 0 ? (
              filtered ? (
                <Empty title="alerts_none_match">
                  <button type="button" class="button" onClick={() => setQuery(Object.fromEntries(FILTERS.map((name) => [name, null])))}>
                    {t("clear_filters")}
                  </button>
                </Empty>
              ) : (
                <Empty title="alerts_empty" advice="alerts_empty_do" />
              )
            ) : (
              <div class={`table-wrap scroll${first.stale ? " stale" : ""}`} tabIndex={0} role="region" aria-label={t("alerts")}>
                <table class="table sticky" data-testid="alerts">
                  <thead>
                    <tr>
                      <th>{t("a_severity")}</th>
                      <th>{t("indicator")}</th>
                      <th>{t("value")}</th>
                      <th>{t("limit")}</th>
                      <th>{t("where")}</th>
                      <th>{t("a_state")}</th>
                      <th>{t("flags")}</th>
                      <th>{t("occurrences")}</th>
                      <th>{t("a_due")}</th>
                      <th>{t("raised_at")}</th>
                    </tr>
                  </thead>
                  <tbody>
                    {all.map((a) => (
                      <Row key={`${a.alert_id}${a.seq}`} a={a} fresh={changed.current.has(a.alert_id)} />
                    ))}
                  </tbody>
                </table>
                {next !== null && (
                  <button type="button" class="button more" onClick={() => void loadMore()}>
                    {t(moreError ? "retry" : "more")}
                  </button>
                )}
              </div>
            )
          }
        </Await>
      </Panel>
    </div>
  );
}
