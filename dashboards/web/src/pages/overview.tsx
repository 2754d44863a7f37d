/** 总览: six numbers, open alerts, the live list, stations with their state. */

import { linkState } from "../live";
import type { Overview } from "../api/types";
import { integer, percent, stamp, withUnit } from "../format";
import { t, term } from "../i18n";
import { Icon } from "../parts/icons";
import { AlertStateTag, Empty, ErrorNote, Loading, Panel, Severe, StateMark, VerdictTag, When } from "../parts/parts";
import { href } from "../route";
import {
  alertTitle,
  codeName,
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
import { pick } from "../i18n";
import type { Alert } from "../api/types";
import type { Word } from "../words";
import { StationList } from "./stations";

const SHOWN_ALERTS = 200;

type Tone = "plain" | "suspect" | "exceed";

function Figure(props: { name: keyof Overview; label: Word; value: string; unit?: string; note?: string; tone?: Tone; to?: string; rest?: preact.ComponentChildren }) {
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

function Figures() {
  const { data, error } = overview.value;
  if (!data && error) return <ErrorNote error={error} retry={refreshOverview} />;
  const rate = (r: number | null | undefined): Pick<Parameters<typeof Figure>[0], "value" | "unit" | "note"> =>
    data && r === null ? { value: percent(r), note: t("rate_none") } : { value: percent(r), unit: data ? "%" : "" };
  return (
    <section class="figures" aria-label={t("key_numbers")} aria-busy={!data}>
      <Figure name="tests_today" label="num_tests_today" value={integer(data?.tests_today)} unit={t("unit_tests")} to={href(["tests"])} />
      <Figure
        name="suspects_open"
        label="num_suspects_open"
        value={integer(data?.suspects_open)}
        unit={t("unit_alerts")}
        tone={data && data.suspects_open > 0 ? "suspect" : "plain"}
        to={href(["alerts"], { state: "suspected" })}
      />
      <Figure
        name="exceedances_open"
        label="num_exceedances_open"
        value={integer(data?.exceedances_open)}
        unit={t("unit_alerts")}
        tone={data && data.exceedances_open > 0 ? "exceed" : "plain"}
        to={href(["alerts"], { state: "confirmed" })}
      />
      <Figure
        name="stations_online"
        label="num_stations_online"
        value={integer(data?.stations_online)}
        rest={
          <span class="figure-of num">
            /<span data-testid="num-stations_total">{integer(data?.stations_total)}</span>
          </span>
        }
        to={href(["stations"])}
      />
      <Figure name="pass_rate_rapid" label="num_pass_rate_rapid" {...rate(data?.pass_rate_rapid)} />
      <Figure name="pass_rate_quantitative" label="num_pass_rate_quantitative" {...rate(data?.pass_rate_quantitative)} />
      <div class="figures-foot">
        <span>
          {t("num_readings_total")}
          <b class="num" data-testid="num-readings_total">
            {integer(data?.readings_total)}
          </b>
        </span>
        <span>
          {t("generated_at")}
          <b class="num" data-testid="num-generated_at">
            {data ? stamp(Date.parse(data.generated_at)) : "—"}
          </b>
        </span>
      </div>
    </section>
  );
}

function AlertRow({ alert }: { alert: Alert }) {
  const fresh = freshAlerts.value.has(alert.alert_id);
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
          {alert.value !== null && <span class="num alert-value">{withUnit(alert.value, alert.unit)}</span>}
          <span class="alert-title">{alertTitle(alert)}</span>
        </span>
        <span class="alert-where">
          {pick(alert.station_name, alert.station_name_en, alert.station)}
          {alert.plot_name ? ` · ${alert.plot_name}` : ""}
          {alert.product_name ? ` · ${alert.product_name}` : ""}
        </span>
        <span class="alert-tail">
          <AlertStateTag state={alert.state} />
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
          {data.slice(0, SHOWN_ALERTS).map((alert) => (
            <AlertRow key={`${alert.alert_id}${alert.seq}`} alert={alert} />
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
            {row.value !== null && row.value !== undefined && <span class="num">{withUnit(row.value, row.unit ?? "")}</span>}
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
            {row.verdict && <VerdictTag verdict={row.verdict} />}
            <b>{row.product_name || t("sample")}</b>
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
            {t("station")} {term("state_", state)}
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
        {data !== null && <StationList stations={data} compact />}
      </Panel>
    </div>
  );
}
