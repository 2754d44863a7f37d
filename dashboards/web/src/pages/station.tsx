/** 站点: one station: its state, its devices with their series, the trend of one series, its losses. */

import { useEffect, useMemo, useState } from "preact/hooks";

import { api } from "../api/client";
import type { Device, DeviceWindow, Loss, Readings, SeriesHead, StationDetail, TestPage } from "../api/types";
import { clauseText, conditionText, duration, integer, limitText, number, offsetText, reasonText, stamp, standardText, unitText } from "../format";
import { pick, t, term } from "../i18n";
import { onEvent } from "../live";
import { GatewayKeys } from "../parts/gateway_keys";
import { Icon } from "../parts/icons";
import { Ago, AlarmTag, Await, Empty, Fact, Panel, StateMark, Unverified, VerdictTag, When } from "../parts/parts";
import { useResource } from "../parts/resource";
import { Windows } from "../parts/windows";
import { productName } from "../products";
import { href, route, setQuery } from "../route";
import { Spark } from "../trend/spark";
import { Trend } from "../trend/trend";
import { TestValue } from "./tests";
import { words } from "../words";
import { brokenBy, isFailed, isSuspect } from "../trend/shape";

const STATION_TESTS = 30;
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const RANGES = [
  ["10m", 10 * MINUTE],
  ["1h", HOUR],
  ["6h", 6 * HOUR],
  ["24h", DAY],
  ["7d", 7 * DAY],
  ["30d", 30 * DAY],
  ["1y", 365 * DAY],
] as const;
const MAX_POINTS = 2000;
const SPARK_POINTS = 120;

const NO_WINDOWS: readonly DeviceWindow[] = [];

type RangeName = (typeof RANGES)[number][0];

const refreshEvery = (span_ms: number): number => (span_ms <= 6 * HOUR ? 5_000 : span_ms <= DAY ? 20_000 : 60_000);

function SeriesCard({ station, device, series, chosen, choose }: { station: string; device: string; series: SeriesHead; chosen: boolean; choose: () => void }) {
  const { data } = useResource<Readings>(
    `spark/${station}/${device}/${series.indicator}`,
    (signal) => {
      const end = Date.now() + 1;
      return api.readings({ station, device, indicator: series.indicator, start: end - DAY, end, max_points: SPARK_POINTS }, signal);
    },
    { poll_ms: MINUTE, keep: true },
  );
  const name = pick(series.name_zh, series.name_en, series.indicator);
  const over = data !== null && brokenBy([series.t_ms, series.v, series.q, 0], data.limits) !== null;
  const quality = isFailed(series.q) ? "q-failed" : isSuspect(series.q) ? "q-suspect" : "";
  return (
    <button type="button" class={`series-card ${quality}${over ? " over" : ""}`} aria-pressed={chosen} onClick={choose} data-testid="series-card" data-indicator={series.indicator} data-over={over ? "true" : undefined}>
      <span class="series-name" title={name}>
        {name}
      </span>
      <span class="series-value">
        <b class="num">{number(series.v, series.decimals)}</b> <small>{unitText(series.unit)}</small>
      </span>
      {over && <span class="series-over">{t("over_limit")}</span>}
      {data ? <Spark points={data.points} limits={data.limits} bucket_ms={data.downsampling === "none" ? 0 : (2 * DAY) / Math.max(data.returned, 1)} label={`${name} ${t("range_24h")}`} /> : <span class="spark" />}
      <span class="series-foot">
        <Ago ms={series.t_ms} />
        {quality && <span class={quality}>{term("q_", String(series.q))}</span>}
        <span class="dim num">{t("count_readings", { n: integer(series.count) })}</span>
      </span>
    </button>
  );
}

function Devices({ s, chosen, choose }: { s: StationDetail; chosen: Chosen | null; choose: (device: string, indicator: string) => void }) {
  if (s.devices.length === 0) return <Empty title="devices_empty" advice="devices_empty_do" />;
  return (
    <div class="devices scroll" tabIndex={0} role="region" aria-label={t("devices")}>
      {s.devices.map((d: Device) => (
        <section key={d.path} class="device" aria-label={d.name || d.path} data-testid="device" data-device={d.path}>
          <header>
            <b>{d.name || d.path}</b>
            <span class={d.ok ? "device-ok" : d.seen_ms === null ? "dim" : "device-failed"}>{t(d.ok ? "device_ok" : d.seen_ms === null ? "device_unknown" : "device_failed")}</span>
            <small>
              {[d.path, d.model, d.plot_name].filter(Boolean).join(" · ")}
              {d.serial_no && ` · ${t("serial_no")} ${d.serial_no}`}
            </small>
          </header>
          {d.series.length === 0 ? (
            <p class="device-none">
              {t("series_empty")} · <a href={href(["tests"], { station: s.code })}>{t("station_tests")}</a>
            </p>
          ) : (
            <div class="series-grid">
              {d.series.map((series) => (
                <SeriesCard
                  key={series.indicator}
                  station={s.code}
                  device={d.path}
                  series={series}
                  chosen={chosen?.device === d.path && chosen.series.indicator === series.indicator}
                  choose={() => choose(d.path, series.indicator)}
                />
              ))}
            </div>
          )}
        </section>
      ))}
    </div>
  );
}

function LimitTable({ readings }: { readings: Readings }) {
  if (readings.limits.length === 0) return <p class="limits-none">{t("limits_none")}</p>;
  return (
    <div class="table-wrap">
      <table class="table limits-table" data-testid="limits">
        <caption class="hidden">{t("limits")}</caption>
        <thead>
          <tr>
            <th>{t("limits")}</th>
            <th>{t("level")}</th>
            <th>{t("limit")}</th>
            <th>{t("conditions")}</th>
            <th>{t("period")}</th>
          </tr>
        </thead>
        <tbody>
          {readings.limits.map((l, i) => (
            <tr key={i}>
              <td>
                {standardText(l.standard)} {clauseText(l.clause, l.clause_en)} {!l.verified && <Unverified />}
              </td>
              <td>{term("lv_", l.level)}</td>
              <td>
                <b class="num strong">{limitText(l)}</b>
                {reasonText(l.note ?? "") && <small class="block dim">{reasonText(l.note ?? "")}</small>}
              </td>
              <td>{conditionText(l.conditions) || t("none")}</td>
              <td class="num dim">
                {stamp(Math.max(l.from_ms, readings.start_ms)).slice(0, 16)} – {stamp(Math.min(l.to_ms, readings.end_ms)).slice(0, 16)}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

interface Chosen {
  device: string;
  series: SeriesHead;
}

function TrendPanel({ station, chosen, windows }: { station: string; chosen: Chosen; windows: readonly DeviceWindow[] }) {
  const wanted = route.value.query.get("range");
  const [fitting, setFitting] = useState<RangeName | null>(null);
  const range: RangeName = RANGES.find(([name]) => name === wanted)?.[0] ?? fitting ?? "24h";
  const span = RANGES.find(([name]) => name === range)?.[1] ?? DAY;
  const [zoom, setZoom] = useState<readonly [number, number] | null>(null);
  const [allLimits, setAllLimits] = useState(false);
  const { device, series } = chosen;
  useEffect(() => setFitting(null), [device, series.indicator]);
  useEffect(() => setZoom(null), [device, series.indicator, range]);

  const resource = useResource<Readings>(
    `trend/${station}/${device}/${series.indicator}/${zoom ? zoom.join("-") : range}`,
    (signal) => {
      const end = zoom ? zoom[1] : Date.now() + 1;
      const start = zoom ? zoom[0] : end - span;
      return api.readings({ station, device, indicator: series.indicator, start, end, max_points: MAX_POINTS }, signal);
    },
    { poll_ms: zoom ? undefined : refreshEvery(span), keep: true },
  );
  // A young series fills its chart: until somebody chooses, the shortest range that holds all of it.
  const first_ms = resource.data?.points[0]?.[0];
  useEffect(() => {
    if (wanted || fitting || resource.stale || first_ms === undefined) return;
    setFitting(RANGES.find(([, length]) => Date.now() - first_ms < length)?.[0] ?? "24h");
  }, [wanted, fitting, resource.stale, first_ms]);
  const name = pick(series.name_zh, series.name_en, series.indicator);
  return (
    <Panel
      title="trend"
      class="station-trend"
      note={
        <>
          {name} {unitText(series.unit) && `(${unitText(series.unit)})`} · {device}
        </>
      }
      tools={
        <div class="segments" role="group" aria-label={t("range_label")} data-testid="ranges">
          {RANGES.map(([r]) => (
            <button key={r} type="button" aria-pressed={!zoom && r === range} data-testid={`range-${r}`} onClick={() => (setZoom(null), setQuery({ range: r }))}>
              {t(`range_${r}`)}
            </button>
          ))}
          {zoom && (
            <button type="button" aria-pressed="true" onClick={() => setZoom(null)}>
              {t("zoom_out")}
            </button>
          )}
        </div>
      }
    >
      <div class={resource.stale ? "trend-body stale" : "trend-body"} aria-busy={resource.stale}>
        <Await {...resource}>
          {(readings) => (
            <>
              {readings.points.length === 0 ? (
                <div class="trend-empty">
                  <Empty title="trend_empty" advice="trend_empty_do" />
                </div>
              ) : (
                <Trend readings={readings} windows={windows} allLimits={allLimits} onZoom={(a, b) => setZoom([a, b])} tight={!wanted && !zoom} />
              )}
              <div class="trend-notes">
                <span>
                  {t("zoom_hint")} · {t("mark_gap")}
                </span>
                {readings.limits.length > 0 && (
                  <label class="check">
                    <input type="checkbox" checked={allLimits} onChange={(e) => setAllLimits(e.currentTarget.checked)} />
                    {t("show_all_limits")}
                  </label>
                )}
              </div>
              <LimitTable readings={readings} />
            </>
          )}
        </Await>
      </div>
    </Panel>
  );
}

/** A station of testers has no trend: its newest tests instead. */
function StationTests({ code }: { code: string }) {
  const resource = useResource<TestPage>(`station-tests/${code}`, (signal) => api.tests({ station: code, limit: STATION_TESTS }, signal), { poll_ms: 15_000 });
  useEffect(() => onEvent((e) => e.type === "test" && e.data.station === code && resource.reload()), [code]);
  return (
    <Panel title="station_tests" class="station-trend station-tests" tools={<a href={href(["tests"], { station: code })}>{t("see_all")}</a>}>
      <Await {...resource}>
        {({ tests }) =>
          tests.length === 0 ? (
            <Empty title="tests_empty" advice="tests_empty_do" />
          ) : (
            <div class="table-wrap scroll" tabIndex={0} role="region" aria-label={t("station_tests")}>
              <table class="table sticky" data-testid="station-tests">
                <thead>
                  <tr>
                    <th>{t("tested_at")}</th>
                    <th>{t("sample")}</th>
                    <th>{t("parameter")}</th>
                    <th>{t("value")}</th>
                    <th>{t("verdict")}</th>
                    <th>{t("device")}</th>
                  </tr>
                </thead>
                <tbody>
                  {tests.map((x) => (
                    <tr key={x.record_id} class={`test-row verdict-row-${x.verdict}`}>
                      <td>
                        <When ms={x.tested_ms} />
                      </td>
                      <td>
                        <b class="block">{productName(x.product_name, x.product_name_en) || "—"}</b>
                        <small class="dim mono">{x.sample_no}</small>
                      </td>
                      <td class="test-parameter">{pick(x.parameter_zh, x.parameter_en, x.parameter)}</td>
                      <td class="test-value-cell">
                        <TestValue test={x} />
                      </td>
                      <td>
                        {x.alert_id ? (
                          <a href={href(["alerts", x.alert_id])}>
                            <VerdictTag verdict={x.verdict} scope={x.pass_scope} />
                          </a>
                        ) : (
                          <VerdictTag verdict={x.verdict} scope={x.pass_scope} />
                        )}
                      </td>
                      <td>{x.device_name || x.device}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          )
        }
      </Await>
    </Panel>
  );
}

function Losses({ losses }: { losses: Loss[] }) {
  return (
    <Panel title="losses" class="station-losses" note={t("losses_note")}>
      {losses.length === 0 ? (
        <p class="quiet-ok">
          {t("losses_empty")}
          {t("colon")}
          {t("losses_empty_do")}
        </p>
      ) : (
        <div class="table-wrap scroll" tabIndex={0} role="region" aria-label={t("losses")}>
          <table class="table sticky" data-testid="losses">
            <thead>
              <tr>
                <th>{t("found_at")}</th>
                <th>{t("reason")}</th>
                <th class="end">{t("loss_packs")}</th>
                <th class="end">{t("loss_readings")}</th>
                <th>{t("loss_range")}</th>
                <th>{t("epoch")}</th>
              </tr>
            </thead>
            <tbody>
              {losses.map((l) => (
                <tr key={`${l.epoch}${l.from_seq}`} data-testid="loss" data-reason={l.reason}>
                  <td>
                    <When ms={l.at_ms} />
                  </td>
                  <td>
                    <b class="block">{term("loss_", l.reason)}</b>
                    <small class="dim">{term("loss_why_", l.reason)}</small>
                  </td>
                  <td class="num end">{integer(l.through_seq - l.from_seq + 1)}</td>
                  <td class="num end">{l.readings < 0 ? <span class="dim">{t("unknown")}</span> : `≤ ${integer(l.readings)}`}</td>
                  <td class="num">
                    {l.from_seq} – {l.through_seq}
                  </td>
                  <td class="mono dim">{l.epoch}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </Panel>
  );
}

/** What stands on the station, and what to do about it. */
function Alarms({ alarms }: { alarms: string[] }) {
  if (alarms.length === 0) return null;
  return (
    <ul class="attention-box alarm-list" aria-label={t("problems")}>
      {alarms.map((alarm) => (
        <li key={alarm}>
          <AlarmTag alarm={alarm} /> {`alarm_do_${alarm}` in words && <span>{term("alarm_do_", alarm)}</span>}
        </li>
      ))}
    </ul>
  );
}

function Head({ s }: { s: StationDetail }) {
  const slow = s.clock_offset_ms !== null && Math.abs(s.clock_offset_ms) > 5000;
  return (
    <header class="station-head">
      <a class="back" href={href(["stations"])} aria-label={t("back")}>
        <Icon name="back" />
      </a>
      <div class="station-title">
        <h1>
          {pick(s.name, s.name_en, s.code)} <StateMark state={s.state} />
        </h1>
        <p>
          {[s.code, pick(s.region_name, s.region_name_en, s.region_code), s.base_name].filter(Boolean).join(" · ")}
        </p>
      </div>
      <dl class="facts">
        <Fact name="last_seen">
          <Ago ms={s.seen_ms} />
        </Fact>
        <Fact name="clock_offset">
          <span class={`num${slow ? " bad" : ""}`}>{offsetText(s.clock_offset_ms)}</span>
        </Fact>
        <Fact name="queue">
          <span class="num">{integer(s.queue)}</span>
          {s.oldest_unreceipted_ms ? (
            <small>
              {" "}
              {t("oldest_unsent")} {duration(s.oldest_unreceipted_ms)}
            </small>
          ) : null}
        </Fact>
        <Fact name="devices_ok">
          <span class="num">
            {s.devices_ok}/{s.devices_total}
          </span>
        </Fact>
        <Fact name="key_state">
          <span class={s.key_state === "approved" ? "" : "bad"}>{term("key_", s.key_state)}</span>
        </Fact>
        <Fact name="agent_version">{s.version === "source" ? t("version_source") : s.version || "—"}</Fact>
        <Fact name="open_alerts">
          <a href={href(["alerts"], { station: s.code, state: "open" })} class={s.open_alerts > 0 ? "bad num" : "num"}>
            {integer(s.open_alerts)}
          </a>
        </Fact>
        <Fact name="tests">
          <a href={href(["tests"], { station: s.code })}>{t("station_tests")}</a>
        </Fact>
      </dl>
    </header>
  );
}

export function StationPage({ code }: { code: string }) {
  const resource = useResource<StationDetail>(`station/${code}`, (signal) => api.station(code, signal), { poll_ms: 5000 });
  const windows = useResource<{ windows: DeviceWindow[] }>(`windows/${code}`, (signal) => api.windows(code, signal), { poll_ms: 15_000 });
  const { query } = route.value;
  const device = query.get("device");
  const indicator = query.get("indicator");
  const { data, reload } = resource;
  useEffect(() => onEvent((e) => e.data.station === code && (e.type === "alert" || e.type === "station") && reload()), [code]);

  const chosen = useMemo<Chosen | null>(() => {
    if (!data) return null;
    const all = data.devices.flatMap((d) => d.series.map((series) => ({ device: d.path, series })));
    return all.find((c) => c.device === device && c.series.indicator === indicator) ?? all.find((c) => c.series.indicator === indicator) ?? all[0] ?? null;
  }, [data, device, indicator]);

  return (
    <div class="page station">
      <Await {...resource}>
        {(s) => (
          <>
            <div class="station-top">
              <Head s={s} />
              <Alarms alarms={s.alarms} />
              <GatewayKeys s={s} reload={reload} />
            </div>
            <Panel title="devices" class="station-devices" note={integer(s.devices.length)}>
              <Devices s={s} chosen={chosen} choose={(d, i) => setQuery({ device: d, indicator: i })} />
            </Panel>
            {chosen ? (
              <TrendPanel station={code} chosen={chosen} windows={windows.data?.windows.filter((w) => w.device === chosen.device) ?? NO_WINDOWS} />
            ) : (
              <StationTests code={code} />
            )}
            <Losses losses={s.losses} />
            <Windows s={s} resource={windows} />
          </>
        )}
      </Await>
    </div>
  );
}
