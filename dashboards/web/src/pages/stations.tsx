/** 站点: the list of stations for whoever keeps the links running, the worst first. */

import { useState } from "preact/hooks";

import type { Station, StationState } from "../api/types";
import { duration, integer, offsetText } from "../format";
import { pick, t, term } from "../i18n";
import { StateIcon } from "../parts/icons";
import { Ago, AlarmTag, Empty, ErrorNote, Loading, Panel, StateMark } from "../parts/parts";
import { byNeed, PROBLEMS, type Problem, problemsOf, waitsForKey } from "../parts/problems";
import { StationMap } from "../parts/station_map";
import { href } from "../route";
import { refreshStations, stations as shared } from "../state";
import type { Word } from "../words";

const STATES: readonly StationState[] = ["online", "stale", "offline", "never"];
const ORDER: Record<StationState, number> = { offline: 0, stale: 1, online: 2, never: 3 };

/** Of the overview: alerts first, then keys to approve, then by state and code. */
function byAlerts(a: Station, b: Station): number {
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
      {waitsForKey(s) && (
        <span class="tag attention">
          {t("key_state")}
          {t("colon")}
          {term("key_", s.key_state)}
        </span>
      )}
      {s.alarms.map((alarm) => (
        <AlarmTag key={alarm} alarm={alarm} />
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
  const problems = problemsOf(s);
  const place = [s.code, pick(s.region_name, s.region_name_en, s.region_code)].join(" · ");
  return (
    <tr
      class="station-line"
      {...identified(s)}
      data-problems={[...problems].join(" ")}
      onClick={() => {
        location.hash = to;
      }}
    >
      <td>
        <StateMark state={s.state} />
      </td>
      <td class="station-cell">
        <a href={to} title={pick(s.name, s.name_en, s.code)}>
          <b>{pick(s.name, s.name_en, s.code)}</b>
        </a>
        <small class="dim" title={place}>
          {place}
        </small>
      </td>
      <td class="station-problems">
        <Marks s={s} />
      </td>
      <td class={`num end ${s.queue === 0 ? "dim" : problems.has("backlog") ? "bad" : ""}`}>{integer(s.queue)}</td>
      <td class={`num end ${problems.has("backlog") ? "bad" : "dim"}`}>{s.queue > 0 && s.oldest_unreceipted_ms !== null ? duration(s.oldest_unreceipted_ms) : "—"}</td>
      <td class={`num end ${s.gaps > 0 ? "bad" : "dim"}`}>{integer(s.gaps)}</td>
      <td class={`num end ${s.lost > 0 ? "bad" : "dim"}`}>{integer(s.lost)}</td>
      <td class={`num end ${problems.has("clock") ? "bad" : "dim"}`}>{offsetText(s.clock_offset_ms)}</td>
      <td class={s.key_state === "approved" ? "dim" : waitsForKey(s) ? "bad" : "dim"}>{term("key_", s.key_state)}</td>
      <td class={`num end${s.devices_ok < s.devices_total ? " bad" : " dim"}`}>
        {s.devices_ok}/{s.devices_total}
      </td>
      <td class="end">
        <AlertCount s={s} />
      </td>
      <td class="end">
        <Ago ms={s.seen_ms} />
      </td>
      <td class="dim station-version" title={s.version}>
        {s.version === "source" ? t("version_source") : s.version || "—"}
      </td>
    </tr>
  );
}

type Order = "need" | "state" | "station" | "queue" | "oldest" | "gaps" | "lost" | "clock" | "key" | "devices" | "alerts" | "seen" | "version";

interface Column {
  order: Order;
  name: Word;
  long?: Word;
  end?: boolean;
  /** What comes first at the first click: the worst. */
  compare: (a: Station, b: Station) => number;
}

const more = (of: (s: Station) => number) => (a: Station, b: Station) => of(b) - of(a);
const text = (of: (s: Station) => string) => (a: Station, b: Station) => of(a).localeCompare(of(b), undefined, { numeric: true });

const COLUMNS: readonly Column[] = [
  { order: "state", name: "a_state", compare: (a, b) => ORDER[a.state] - ORDER[b.state] },
  { order: "station", name: "station", compare: text((s) => s.code) },
  { order: "need", name: "problems", compare: byNeed },
  { order: "queue", name: "queue", long: "queue_long", end: true, compare: more((s) => s.queue) },
  { order: "oldest", name: "oldest_short", long: "oldest_unsent", end: true, compare: more((s) => (s.queue > 0 ? (s.oldest_unreceipted_ms ?? 0) : -1)) },
  { order: "gaps", name: "gaps", long: "gaps_long", end: true, compare: more((s) => s.gaps) },
  { order: "lost", name: "lost_readings", long: "lost_long", end: true, compare: more((s) => s.lost) },
  { order: "clock", name: "clock_short", long: "clock_offset", end: true, compare: more((s) => Math.abs(s.clock_offset_ms ?? -1)) },
  { order: "key", name: "key_short", long: "key_state", compare: more((s) => (waitsForKey(s) ? 2 : Number(s.key_state !== "approved"))) },
  { order: "devices", name: "devices", long: "devices_ok", end: true, compare: more((s) => s.devices_total - s.devices_ok) },
  { order: "alerts", name: "alerts", long: "open_alerts", end: true, compare: more((s) => s.open_alerts) },
  { order: "seen", name: "seen_short", long: "last_seen", end: true, compare: (a, b) => (a.seen_ms ?? Infinity) - (b.seen_ms ?? Infinity) || 0 },
  { order: "version", name: "version_short", long: "agent_version", compare: text((s) => s.version) },
];

interface Sorting {
  order: Order;
  reverse: boolean;
}

function Table({ shown, sorting, sort }: { shown: Station[]; sorting: Sorting; sort: (order: Order) => void }) {
  return (
    <div class="table-wrap scroll" tabIndex={0} role="region" aria-label={t("stations")}>
      <table class="table sticky stations-table">
        <thead>
          <tr>
            {COLUMNS.map((c) => {
              const on = sorting.order === c.order;
              return (
                <th key={c.order} class={c.end ? "end" : ""} title={t(c.long ?? c.name)} aria-sort={on ? (sorting.reverse ? "ascending" : "descending") : undefined}>
                  <button type="button" class="sort" data-testid={`sort-${c.order}`} onClick={() => sort(c.order)}>
                    {t(c.name)}
                    {on && (
                      <span class="sort-mark" aria-hidden="true">
                        {sorting.reverse ? "▲" : "▼"}
                      </span>
                    )}
                  </button>
                </th>
              );
            })}
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

/** One switch per kind of problem that some station has. */
function ProblemChips({ stations, only, choose }: { stations: Station[]; only: Problem | null; choose: (problem: Problem | null) => void }) {
  const found = stations.map(problemsOf);
  return (
    <div class="chips" role="group" aria-label={t("problems")}>
      {PROBLEMS.map((problem) => {
        const n = found.filter((problems) => problems.has(problem)).length;
        if (n === 0 && only !== problem) return null;
        return (
          <button key={problem} type="button" class="chip problem" aria-pressed={only === problem} data-testid={`problem-${problem}`} onClick={() => choose(only === problem ? null : problem)}>
            {t(`problem_${problem}`)} <span class="num">{integer(n)}</span>
          </button>
        );
      })}
      {found.every((problems) => problems.size === 0) && <span class="good problem-none">{t("problem_none")}</span>}
    </div>
  );
}

/** Stations with a search field and a switch per state. */
export function StationList({ stations, compact = false }: { stations: Station[]; compact?: boolean }) {
  const [text, setText] = useState("");
  const [only, setOnly] = useState<StationState | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [sorting, setSorting] = useState<Sorting>({ order: "need", reverse: false });
  if (stations.length === 0) return <Empty title="stations_empty" advice="stations_empty_do" />;
  const compare = compact ? byAlerts : (COLUMNS.find((c) => c.order === sorting.order)?.compare ?? byNeed);
  const shown = stations
    .filter((s) => (only === null || s.state === only) && (problem === null || problemsOf(s).has(problem)) && matches(s, text))
    .sort((a, b) => (sorting.reverse ? compare(b, a) : compare(a, b)) || byNeed(a, b));
  const sort = (order: Order): void => setSorting({ order, reverse: sorting.order === order && !sorting.reverse });
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
        {!compact && <ProblemChips stations={stations} only={problem} choose={setProblem} />}
      </div>
      {shown.length === 0 ? (
        <Empty title="stations_none_match">
          <button
            type="button"
            class="button"
            onClick={() => {
              setText("");
              setOnly(null);
              setProblem(null);
            }}
          >
            {t("clear_filters")}
          </button>
        </Empty>
      ) : compact ? (
          <ol class="rows scroll" tabIndex={0} aria-label={t("stations")}>
            {shown.map((s) => (
              <CompactRow key={s.code} s={s} />
            ))}
          </ol>
      ) : (
        <Table shown={shown} sorting={sorting} sort={sort} />
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
