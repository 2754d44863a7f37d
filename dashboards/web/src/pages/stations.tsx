/** 站点: the list of stations, those that need a look first. */

import { useState } from "preact/hooks";

import type { Station, StationState } from "../api/types";
import { duration, integer } from "../format";
import { pick, t, term } from "../i18n";
import { StateIcon } from "../parts/icons";
import { Ago, Empty, ErrorNote, Loading, Panel, StateMark } from "../parts/parts";
import { StationMap } from "../parts/station_map";
import { href } from "../route";
import { refreshStations, stations as shared } from "../state";

const STATES: readonly StationState[] = ["online", "stale", "offline", "never"];
const ORDER: Record<StationState, number> = { offline: 0, stale: 1, online: 2, never: 3 };

/** Alerts first, then keys to approve, then by state and code. */
function byNeed(a: Station, b: Station): number {
  return (
    Number(b.open_alerts > 0) - Number(a.open_alerts > 0) ||
    Number(b.key_state === "pending") - Number(a.key_state === "pending") ||
    ORDER[a.state] - ORDER[b.state] ||
    b.open_alerts - a.open_alerts ||
    a.code.localeCompare(b.code)
  );
}

function matches(s: Station, text: string): boolean {
  const wanted = text.trim().toLowerCase();
  return !wanted || [s.code, s.name, s.name_en, s.region_code, s.region_name, s.region_name_en, s.base_name].some((x) => x.toLowerCase().includes(wanted));
}

function Marks({ s }: { s: Station }) {
  return (
    <>
      {s.key_state !== "approved" && s.state !== "never" && (
        <span class="tag attention">
          {t("key_state")}
          {t("colon")}
          {term("key_", s.key_state)}
        </span>
      )}
      {s.alarms.map((alarm) => (
        <span key={alarm} class="tag attention">
          {term("alarm_", alarm)}
        </span>
      ))}
    </>
  );
}

function AlertCount({ s }: { s: Station }) {
  return (
    <span class="station-alerts" title={t("open_alerts")}>
      {s.open_alerts > 0 ? <b class="count-badge num">{integer(s.open_alerts)}</b> : <span class="dim num">0</span>}
      <span class="hidden">{t("open_alerts")}</span>
    </span>
  );
}

const identified = (s: Station): Record<string, string> => ({ "data-testid": "station-row", "data-station": s.code, "data-state": s.state });

function CompactRow({ s }: { s: Station }) {
  const name = pick(s.name, s.name_en, s.code);
  return (
    <li>
      <a class="station-row" href={href(["stations", s.code])} {...identified(s)}>
        <StateMark state={s.state} text={false} />
        <span class="station-name">
          <b title={name}>{name}</b>
          <small>
            <Marks s={s} />
            {[pick(s.region_name, s.region_name_en, s.region_code), s.code].join(" · ")}
            {s.queue > 0 && (
              <span class="station-queue num">
                {t("queue")} {integer(s.queue)}
              </span>
            )}
            <span class="station-seen">
              <Ago ms={s.seen_ms} />
            </span>
          </small>
        </span>
        <AlertCount s={s} />
      </a>
    </li>
  );
}

function Row({ s }: { s: Station }) {
  const to = href(["stations", s.code]);
  const lost = s.gaps + s.lost;
  return (
    <tr
      class="station-line"
      {...identified(s)}
      onClick={() => {
        location.hash = to;
      }}
    >
      <td>
        <StateMark state={s.state} />
      </td>
      <td>
        <a href={to}>
          <b>{pick(s.name, s.name_en, s.code)}</b>
        </a>
        <small class="block dim">
          {s.code} <Marks s={s} />
        </small>
      </td>
      <td>
        {pick(s.region_name, s.region_name_en, s.region_code)}
        <small class="block dim">{s.base_name || term("station_type_", s.station_type)}</small>
      </td>
      <td class="end">
        <AlertCount s={s} />
      </td>
      <td class={`num end${s.devices_ok < s.devices_total ? " bad" : ""}`}>
        {s.devices_ok}/{s.devices_total}
      </td>
      <td class="end">
        <Ago ms={s.seen_ms} />
      </td>
      <td class="num end">
        <span class={s.queue > 0 ? "strong" : "dim"}>{integer(s.queue)}</span>
        {s.queue > 0 && s.oldest_unreceipted_ms !== null && <small class="block dim">{duration(s.oldest_unreceipted_ms)}</small>}
      </td>
      <td class={`num end ${lost > 0 ? "strong" : "dim"}`}>{integer(lost)}</td>
    </tr>
  );
}

function Table({ shown }: { shown: Station[] }) {
  return (
    <div class="table-wrap scroll" tabIndex={0} role="region" aria-label={t("stations")}>
      <table class="table sticky">
        <thead>
          <tr>
            <th>{t("a_state")}</th>
            <th>{t("station")}</th>
            <th>{t("region")}</th>
            <th class="end">{t("open_alerts")}</th>
            <th class="end">{t("devices_ok")}</th>
            <th class="end">{t("last_seen")}</th>
            <th class="end" title={t("queue_long")}>
              {t("queue")}
            </th>
            <th class="end">{t("losses")}</th>
          </tr>
        </thead>
        <tbody>
          {shown.map((s) => (
            <Row key={s.code} s={s} />
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** Stations with a search field and a switch per state. */
export function StationList({ stations, compact = false }: { stations: Station[]; compact?: boolean }) {
  const [text, setText] = useState("");
  const [only, setOnly] = useState<StationState | null>(null);
  if (stations.length === 0) return <Empty title="stations_empty" advice="stations_empty_do" />;
  const shown = stations.filter((s) => (only === null || s.state === only) && matches(s, text)).sort(byNeed);
  return (
    <>
      <div class="station-tools">
        <label class="choice">
          <input type="search" value={text} placeholder={t("station_filter")} title={t("station_filter")} aria-label={t("station_filter")} data-testid="station-filter" onInput={(e) => setText(e.currentTarget.value)} />
        </label>
        <div class="chips" role="group" aria-label={t("a_state")}>
          {STATES.map((state) => {
            const n = stations.filter((s) => s.state === state).length;
            return (
              <button key={state} type="button" class={`chip state-${state}`} aria-pressed={only === state} title={term("state_", state)} onClick={() => setOnly(only === state ? null : state)}>
                <StateIcon state={state} size={11} />
                {!compact && term("state_", state)}
                {compact && <span class="hidden">{term("state_", state)}</span>} <span class="num">{integer(n)}</span>
              </button>
            );
          })}
        </div>
      </div>
      {shown.length === 0 ? (
        <Empty title="stations_none_match" />
      ) : compact ? (
          <ol class="rows scroll" tabIndex={0} aria-label={t("stations")}>
            {shown.map((s) => (
              <CompactRow key={s.code} s={s} />
            ))}
          </ol>
      ) : (
        <Table shown={shown} />
      )}
    </>
  );
}

export function StationsPage() {
  const { data, error } = shared.value;
  return (
    <div class="page stations">
      <h1 class="hidden">{t("stations")}</h1>
      {data !== null && data.length > 0 && (
        <Panel title="map" class="fill stations-map">
          <StationMap stations={data} />
        </Panel>
      )}
      <Panel title="stations" class="fill" note={data ? integer(data.length) : undefined}>
        {data === null && (error ? <ErrorNote error={error} retry={refreshStations} /> : <Loading />)}
        {data !== null && <StationList stations={data} />}
      </Panel>
    </div>
  );
}
