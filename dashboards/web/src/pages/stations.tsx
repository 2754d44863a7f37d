/** 站点: the list of stations, those that need a look first. */

import { useState } from "preact/hooks";

import type { Station, StationState } from "../api/types";
import { duration, integer } from "../format";
import { pick, t, term } from "../i18n";
import { StateIcon } from "../parts/icons";
import { Ago, Empty, ErrorNote, Loading, Panel, StateMark } from "../parts/parts";
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

function Row({ s, compact }: { s: Station; compact: boolean }) {
  const name = pick(s.name, s.name_en, s.code);
  return (
    <li>
      <a class={`station-row${compact ? "" : " wide"}`} href={href(["stations", s.code])} data-testid="station-row" data-station={s.code} data-state={s.state}>
        <StateMark state={s.state} text={false} />
        <span class="station-name">
          <b>{name}</b>
          <small>
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
            {s.code} · {pick(s.region_name, s.region_name_en, s.region_code)}
          </small>
        </span>
        <span class="station-cell" title={t("queue_long")}>
          <small>{t("queue")}</small>
          <span class={`num${s.queue > 0 ? " strong" : " dim"}`}>{integer(s.queue)}</span>
        </span>
        <span class="station-cell wide-cell" title={t(s.oldest_unreceipted_ms ? "oldest_unsent" : "last_seen")}>
          <small>{t(s.oldest_unreceipted_ms ? "oldest_unsent" : "last_seen")}</small>
          {s.oldest_unreceipted_ms ? <span class="num">{duration(s.oldest_unreceipted_ms)}</span> : <Ago ms={s.seen_ms} />}
        </span>
        {!compact && (
          <>
            <span class="station-cell">
              <small>{t("devices_ok")}</small>
              <span class="num">
                {s.devices_ok}/{s.devices_total}
              </span>
            </span>
            <span class="station-cell">
              <small>{t("losses")}</small>
              <span class={`num${s.lost + s.gaps > 0 ? " strong" : " dim"}`}>{integer(s.gaps + s.lost)}</span>
            </span>
          </>
        )}
        <span class="station-alerts" title={t("open_alerts")}>
          {s.open_alerts > 0 ? <b class="count-badge num">{integer(s.open_alerts)}</b> : <span class="dim num">0</span>}
          <span class="hidden">{t("open_alerts")}</span>
        </span>
      </a>
    </li>
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
          <span>{t("filters")}</span>
          <input type="search" value={text} title={t("station_filter")} aria-label={t("station_filter")} data-testid="station-filter" onInput={(e) => setText(e.currentTarget.value)} />
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
      ) : (
        <ol class="rows scroll" tabIndex={0} aria-label={t("stations")}>
          {shown.map((s) => (
            <Row key={s.code} s={s} compact={compact} />
          ))}
        </ol>
      )}
    </>
  );
}

export function StationsPage() {
  const { data, error } = shared.value;
  return (
    <div class="page">
      <h1 class="hidden">{t("stations")}</h1>
      <Panel title="stations" class="fill" note={data ? integer(data.length) : undefined}>
        {data === null && (error ? <ErrorNote error={error} retry={refreshStations} /> : <Loading />)}
        {data !== null && <StationList stations={data} />}
      </Panel>
    </div>
  );
}
