/** 总览: six numbers, open alerts, the live list, stations with their state. */

import { api } from "../api/client";
import type { Alert, Overview, Readings, Severity } from "../api/types";
import { integer, limitText, measured, numericLimit, percent, shortStamp } from "../format";
import { pick, t, term } from "../i18n";
import { linkState } from "../live";
import { Icon } from "../parts/icons";
import { LimitBar } from "../parts/limit_bar";
import { AlertStateTag, Empty, ErrorNote, Loading, Panel, Severe, StateMark, Unverified, VerdictTag, When } from "../parts/parts";
import { useResource } from "../parts/resource";
import { productName } from "../products";
import { StationMap } from "../parts/station_map";
import { href } from "../route";
import {
  alertTitle,
  alertValue,
  codeName,
  digitsOf,
  freshAlerts,
  live,
  liveLoaded,
  type LiveRow,
  openAlerts,
  overview,
  refreshOpenAlerts,
  refreshOverview,
  stationName,
  stations,
} from "../state";
import { Spark } from "../trend/spark";
import type { Word } from "../words";
import { StationList } from "./stations";

const SHOWN_ALERTS = 200;
/** A trend is drawn for the gravest only: each is a request of its own. */
const DRAWN_ALERTS = 8;
const SPARK_POINTS = 160;
const LEAD_MS = 10 * 60_000;
const DAY_MS = 86_400_000;

type Tone = "plain" | "suspect" | "exceed";

function Figure(props: { name: keyof Overview; label: Word; value: string; unit?: string; note?: preact.ComponentChildren; tone?: Tone; to?: string; rest?: preact.ComponentChildren }) {
  const content = (
    <>
      <span class="figure-label">{t(props.label)}</span>
      <span class="figure-value">
        <span class="num" data-testid={`num-${props.name}`}>
          {props.value}
        </span>
        {props.rest}
        {props.unit && <small>{props.unit}</small>}
      </span>
      {props.note && <span class="figure-note">{props.note}</span>}
    </>
  );
  const look = `figure tone-${props.tone ?? "plain"}`;
  return props.to ? (
    <a class={look} href={props.to}>
      {content}
    </a>
  ) : (
    <div class={look}>{content}</div>
  );
}

const GRAVEST: readonly Severity[] = ["critical", "major", "warning", "info"];

/** How many of the open suspicions are how grave. */
function SuspectsBySeverity() {
  const suspected = (openAlerts.value.data ?? []).filter((a) => a.state === "suspected" || a.state === "retest_ordered");
  if (suspected.length === 0) return <>{t("none_open")}</>;
  return (
    <>
      {GRAVEST.map((severity) => {
        const n = suspected.filter((a) => a.severity === severity).length;
        return (
          n > 0 && (
            <span key={severity} class={`figure-part sev-${severity}`}>
              {term("sev_", severity)} <b class="num">{integer(n)}</b>
            </span>
          )
        );
      })}
    </>
  );
}

function Figures() {
  const { data, error } = overview.value;
  if (!data && error) return <ErrorNote error={error} retry={refreshOverview} />;
  const rate = (kind: "rapid" | "quantitative"): Pick<Parameters<typeof Figure>[0], "value" | "unit" | "note"> => {
    const r = data?.[`pass_rate_${kind}`];
    if (!data || r === null || r === undefined) return { value: percent(r), note: data ? t("rate_none") : undefined };
    const open = data[`undetermined_${kind}`];
    const note = t("note_samples", { n: integer(data[`samples_${kind}`]) });
    return { value: percent(r), unit: "%", note: open > 0 ? `${note} · ${t("note_undetermined", { n: integer(open) })}` : note };
  };
  return (
    <section class="figures" aria-label={t("key_numbers")} aria-busy={!data}>
      <Figure
        name="suspects_open"
        label="num_suspects_open"
        value={integer(data?.suspects_open)}
        unit={t("unit_alerts")}
        tone={data && data.suspects_open > 0 ? "suspect" : "plain"}
        note={<SuspectsBySeverity />}
        to={href(["alerts"], { state: "suspected" })}
      />
      <Figure
        name="exceedances_open"
        label="num_exceedances_open"
        value={integer(data?.exceedances_open)}
        unit={t("unit_alerts")}
        tone={data && data.exceedances_open > 0 ? "exceed" : "plain"}
        note={t("note_confirmed")}
        to={href(["alerts"], { state: "confirmed" })}
      />
      <Figure
        name="tests_today"
        label="num_tests_today"
        value={integer(data?.tests_today)}
        unit={t("unit_tests")}
        note={
          <>
            {t("note_as_of")}{" "}
            <span class="num" data-testid="num-generated_at">
              {data ? shortStamp(Date.parse(data.generated_at), Date.parse(data.generated_at)) : "—"}
            </span>
          </>
        }
        to={href(["tests"])}
      />
      <Figure name="pass_rate_rapid" label="num_pass_rate_rapid" {...rate("rapid")} />
      <Figure name="pass_rate_quantitative" label="num_pass_rate_quantitative" {...rate("quantitative")} />
      <Figure
        name="stations_online"
        label="num_stations_online"
        value={integer(data?.stations_online)}
        rest={
          <span class="figure-of num">
            /<span data-testid="num-stations_total">{integer(data?.stations_total)}</span>
          </span>
        }
        note={
          <>
            {t("num_readings_total")}{" "}
            <span class="num" data-testid="num-readings_total">
              {integer(data?.readings_total)}
            </span>
          </>
        }
        to={href(["stations"])}
      />
    </section>
  );
}

/** What the sensor said around the breach, with the limit. */
function AlertSpark({ alert }: { alert: Alert }) {
  const { data } = useResource<Readings>(
    `alert-spark/${alert.alert_id}`,
    (signal) => {
      const end = Date.now() + 1;
      const start = Math.max(alert.first_seen_ms - LEAD_MS, end - DAY_MS);
      return api.readings({ station: alert.station, device: alert.device, indicator: alert.indicator, start, end, max_points: SPARK_POINTS }, signal);
    },
    { poll_ms: 15_000, keep: true },
  );
  if (!data || data.points.length < 2) return null;
  const bucket_ms = data.downsampling === "none" ? 0 : ((data.end_ms - data.start_ms) * 2) / Math.max(data.returned, 1);
  return <Spark points={data.points} bucket_ms={bucket_ms} limits={data.limits} label={pick(data.name_zh, data.name_en, data.indicator)} />;
}

function AlertRow({ alert, drawn }: { alert: Alert; drawn: boolean }) {
  const fresh = freshAlerts.value.has(alert.alert_id);
  const c = alert.citation;
  const limit = numericLimit(c);
  const value = alertValue(alert);
  return (
    <li>
      <a
        class={`alert-row sev-edge-${alert.severity}${fresh ? " fresh" : ""}`}
        href={href(["alerts", alert.alert_id])}
        data-testid="alert-row"
        data-alert-id={alert.alert_id}
        data-severity={alert.severity}
        data-state={alert.state}
      >
        <Severe severity={alert.severity} text={false} />
        <span class="alert-what">
          <b>{pick(alert.indicator_zh, alert.indicator_en, alert.indicator) || term("k_", alert.kind)}</b>
          {alert.product_name && <span>{productName(alert.product_name, alert.product_name_en)}</span>}
        </span>
        <span class="alert-tail">
          {alert.acked_ms !== null && <span class="good">{t("f_acked")}</span>}
          <AlertStateTag state={alert.state} />
        </span>
        <span class="alert-found">
          <b class={`num alert-value sev-${alert.severity}`}>{value || alertTitle(alert)}</b>
          {limitText(c) && (
            <span class="alert-limit num">
              {c.comparator === "detected" ? "" : t(c.level === "cut_off" ? "cutoff" : "limit")} {limitText(c)} {c.verified === false && <Unverified />}
            </span>
          )}
        </span>
        <span class="alert-plot">
          {alert.kind === "limit" && drawn && <AlertSpark alert={alert} />}
          {alert.kind !== "limit" && alert.value !== null && limit !== null && (
            <LimitBar small value={alert.value} unit={alert.unit} limit={limit} comparator={c.comparator ?? ""} exceeded={c.exceeded ?? null} ratio={c.ratio ?? null} />
          )}
        </span>
        <span class="alert-where">
          {[pick(alert.station_name, alert.station_name_en, alert.station), alert.plot_name || alert.device_name].filter(Boolean).join(" · ")}
        </span>
        <span class="alert-when">
          <When ms={alert.raised_ms} />
        </span>
      </a>
    </li>
  );
}

function OpenAlerts() {
  const { data, error } = openAlerts.value;
  return (
    <Panel title="open_alerts" class="overview-alerts" note={data ? integer(data.length) : undefined} tools={<a href={href(["alerts"])}>{t("see_all")}</a>}>
      {data === null && (error ? <ErrorNote error={error} retry={refreshOpenAlerts} /> : <Loading />)}
      {data?.length === 0 && <Empty title="open_alerts_empty" advice="open_alerts_empty_do" />}
      {data !== null && data.length > 0 && (
        <ol class="rows scroll" tabIndex={0} aria-label={t("open_alerts")}>
          {data.slice(0, SHOWN_ALERTS).map((alert, i) => (
            <AlertRow key={`${alert.alert_id}${alert.seq}`} alert={alert} drawn={i < DRAWN_ALERTS} />
          ))}
          {data.length > SHOWN_ALERTS && (
            <li>
              <a class="more-row" href={href(["alerts"])}>
                {t("more_alerts", { n: integer(data.length - SHOWN_ALERTS) })}
              </a>
            </li>
          )}
        </ol>
      )}
    </Panel>
  );
}

function liveContent(row: LiveRow): { icon: preact.ComponentChildren; text: preact.ComponentChildren; to: string } {
  switch (row.kind) {
    case "alert":
      return {
        icon: row.severity ? <Severe severity={row.severity} text={false} /> : null,
        text: (
          <>
            <b>{row.indicator ? codeName(row.indicator) : t("alerts")}</b>
            {row.value !== null && row.value !== undefined && <span class="num">{measured(row.value, row.unit ?? "", row.indicator ? digitsOf(row.indicator) : null)}</span>}
            <AlertStateTag state={row.state ?? ""} />
            {row.state === row.previous_state && <span class="dim">{t("updated")}</span>}
          </>
        ),
        to: href(["alerts", row.alert_id ?? ""]),
      };
    case "test":
      return {
        icon: null,
        text: (
          <>
            {row.verdict && <VerdictTag verdict={row.verdict} scope={row.pass_scope} />}
            <b>{productName(row.product_name) || t("sample")}</b>
            <span>{codeName(row.parameter)}</span>
          </>
        ),
        to: href(["tests"], { station: row.station }),
      };
    case "station": {
      const state = row.state;
      const known = state === "online" || state === "stale" || state === "offline" || state === "never";
      return {
        icon: known ? <StateMark state={state} text={false} /> : null,
        text: (
          <b>
            {t("station")} {known ? term("state_", state) : state === "pending" ? term("key_", state) : term("alarm_", state)}
          </b>
        ),
        to: href(["stations", row.station]),
      };
    }
    case "delivery":
      return {
        icon: <Icon name="delivery" />,
        text: (
          <>
            <span>
              {t("delivery")} {term("d_", row.state)}
            </span>
            {row.status_code !== null && row.status_code !== undefined && <span class="num dim">HTTP {row.status_code}</span>}
          </>
        ),
        to: row.alert_id ? href(["alerts", row.alert_id]) : href(["alerts"]),
      };
  }
}

function LiveList() {
  const rows = live.value;
  return (
    <Panel title="live_list" class="overview-live" note={rows.length > 0 ? t("live_count", { n: rows.length }) : undefined}>
      {rows.length === 0 && (liveLoaded.value ? <Empty title="live_empty" advice="live_empty_do" /> : <Loading />)}
      {rows.length > 0 && (
        <ol class="rows scroll" tabIndex={0} aria-label={t("live_list")} aria-busy={linkState.value !== "open"}>
          {rows.map((row) => {
            const { icon, text, to } = liveContent(row);
            return (
              <li key={row.key}>
                <a
                  class={`live-row live-${row.kind}${row.fresh ? " fresh" : ""}`}
                  href={to}
                  data-testid="live-row"
                  data-kind={row.kind}
                  data-alert-id={row.alert_id}
                  data-record-id={row.record_id}
                  data-verdict={row.verdict}
                >
                  <When ms={row.at_ms} />
                  <span class="live-icon">{icon}</span>
                  <span class="live-text">{text}</span>
                  <span class="live-where">{row.station ? stationName(row.station) : ""}</span>
                </a>
              </li>
            );
          })}
        </ol>
      )}
    </Panel>
  );
}

export function OverviewPage() {
  const { data, error } = stations.value;
  return (
    <div class="overview">
      <h1 class="hidden">{t("overview")}</h1>
      <Figures />
      <OpenAlerts />
      <LiveList />
      <Panel title="stations" class="overview-stations" note={data ? integer(data.length) : undefined} tools={<a href={href(["stations"])}>{t("see_all")}</a>}>
        {data === null && (error ? <ErrorNote error={error} retry={refreshOverview} /> : <Loading />)}
        {data !== null && data.length > 0 && <StationMap stations={data} />}
        {data !== null && <StationList stations={data} compact />}
      </Panel>
    </div>
  );
}
