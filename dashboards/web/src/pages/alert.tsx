/** One alert: what, where, when; the limit; the log; the evidence down to the bytes; what was sent to whom. */

import { useEffect, useRef, useState } from "preact/hooks";

import { api } from "../api/client";
import type { AlertDetail, Case, Delivery, Finding, Pack, Readings } from "../api/types";
import { burst } from "../burst";
import { duration, integer, limitText, measured, numericLimit, reasonText, stamp } from "../format";
import { pick, t, term } from "../i18n";
import { onEvent } from "../live";
import { rawOf } from "../parts/body";
import { CitationBlock } from "../parts/citation";
import { Icon } from "../parts/icons";
import { LimitBar } from "../parts/limit_bar";
import { Digest, PackBody, RawSlip } from "../parts/pack";
import { AlertStateTag, Await, Empty, Fact, Flags, Panel, Severe, VerdictTag, When } from "../parts/parts";
import { useResource } from "../parts/resource";
import { productName } from "../products";
import { href } from "../route";
import { alertTitle, alertValue, codeName, digitsOf, stations } from "../state";
import { Trend } from "../trend/trend";
import { CasePanel } from "./alert/case";
import { Decisions } from "./alert/decisions";
import { Laboratory } from "./alert/laboratory";
import { Timeline } from "./alert/timeline";
import { TestRecord } from "./tests";

const AROUND_MS = 5 * 60_000;
const MOST_AROUND_MS = 86_400_000;

function Head({ a }: { a: AlertDetail }) {
  return (
    <header class={`alert-head sev-edge-${a.severity}`}>
      <a class="back" href={href(["alerts"])} aria-label={t("back")}>
        <Icon name="back" />
      </a>
      <div>
        <p class="alert-over">
          <Severe severity={a.severity} /> <AlertStateTag state={a.state} /> <span>{alertTitle(a)}</span>
          {a.acked_ms !== null && <span class="good">{t("f_acked")}</span>}
          <Flags flags={a.flags} />
        </p>
        <h1>
          {pick(a.indicator_zh, a.indicator_en, a.indicator) || term("k_", a.kind)}
          {a.product_name && <span> · {productName(a.product_name, a.product_name_en)}</span>}
          {alertValue(a) && <span class={`num alert-head-value sev-${a.severity}`}>{alertValue(a)}</span>}
        </h1>
      </div>
      <span class="alert-id mono dim">{a.alert_id}</span>
    </header>
  );
}

function What({ a }: { a: AlertDetail }) {
  const c = a.citation;
  const limit = numericLimit(c);
  const place = (stations.value.data ?? []).find((s) => s.code === a.station && s.region_code === a.region_code);
  const region = place ? pick(place.region_name, place.region_name_en) : "";
  const numeric = a.value !== null && limit !== null;
  return (
    <Panel title="what" class="alert-what-panel">
      {a.value !== null && limit !== null && (
        <LimitBar value={a.value} shown={alertValue(a)} unit={a.unit} limit={limit} comparator={c.comparator ?? ""} exceeded={c.exceeded ?? null} ratio={c.ratio ?? null} />
      )}
      <dl class="facts">
        <Fact name="station">
          <a href={href(["stations", a.station], { device: a.device, indicator: a.indicator })}>{pick(a.station_name, a.station_name_en, a.station)}</a>
        </Fact>
        <Fact name="region">
          {region} <span class="num dim">{a.region_code}</span>
        </Fact>
        <Fact name="device">
          {a.device_name} <span class="mono dim">{a.device}</span>
        </Fact>
        {a.plot_name && <Fact name="plot">{a.plot_name}</Fact>}
        {a.handover.agency && (
          <Fact name="agency">
            {a.handover.agency} {a.handover.case_no && <span class="mono">{a.handover.case_no}</span>}
          </Fact>
        )}
        {a.outcome && <Fact name="outcome">{term("o_", a.outcome)}</Fact>}
        {a.related.length > 0 && (
          <Fact name="related">
            {a.related.map((r) => (
              <a key={r.alert_id} class="mono" href={href(["alerts", r.alert_id])}>
                {r.alert_id.slice(-6)}
              </a>
            ))}
          </Fact>
        )}
        {a.purpose && <Fact name="a_purpose">{term("p_", a.purpose)}</Fact>}
        {a.sample_no && (
          <Fact name="sample_no">
            <span class="mono">{a.sample_no}</span>
          </Fact>
        )}
        {!numeric && a.value === null && limitText(c) && <Fact name="limit">{limitText(c)}</Fact>}
        <Fact name="certainty">{term("c_", a.certainty) || "—"}</Fact>
        <Fact name="first_seen">
          <When ms={a.first_seen_ms} />
        </Fact>
        <Fact name="last_occurred">
          <When ms={a.last_seen_ms} />
        </Fact>
        <Fact name="occurrences">
          <span class="num">{integer(a.occurrence_count)}</span>
        </Fact>
        <Fact name="raised_at">
          <When ms={a.raised_ms} />
        </Fact>
      </dl>
    </Panel>
  );
}

/** What the sensor said before and since. */
function Around({ a }: { a: AlertDetail }) {
  const [allLimits, setAllLimits] = useState(false);
  const [zoom, setZoom] = useState<readonly [number, number] | null>(null);
  const resource = useResource<Readings>(
    `around/${a.alert_id}/${zoom ? zoom.join("-") : ""}`,
    (signal) => {
      const end = zoom ? zoom[1] : Math.min(Date.now() + 1, a.last_seen_ms + AROUND_MS);
      const start = zoom ? zoom[0] : Math.max(a.first_seen_ms - AROUND_MS, end - MOST_AROUND_MS);
      return api.readings({ station: a.station, device: a.device, indicator: a.indicator, start, end, max_points: 2000 }, signal);
    },
    { poll_ms: zoom ? undefined : 10_000, keep: true },
  );
  return (
    <Panel
      title="trend_around"
      class="around"
      tools={
        <>
          {zoom && (
            <button type="button" class="link" onClick={() => setZoom(null)}>
              {t("zoom_out")}
            </button>
          )}{" "}
          <label class="check">
            <input type="checkbox" checked={allLimits} onChange={(e) => setAllLimits(e.currentTarget.checked)} />
            {t("show_all_limits")}
          </label>{" "}
          <a href={href(["stations", a.station], { device: a.device, indicator: a.indicator })}>{t("to_trend")}</a>
        </>
      }
    >
      <div class="trend-body">
        <Await {...resource}>
          {(readings) => (readings.points.length === 0 ? <Empty title="trend_empty" /> : <Trend readings={readings} allLimits={allLimits} onZoom={(x, y) => setZoom([x, y])} tight />)}
        </Await>
      </div>
    </Panel>
  );
}

function EvidencePanel({ a }: { a: AlertDetail }) {
  const e = a.evidence;
  // The header line and quarantine marks are with the pack itself.
  const { data: whole } = useResource<Pack | null>(`pack/${e.station}/${e.epoch}/${e.seq}`, (signal) =>
    e.pack ? api.pack(e.station, e.epoch, e.seq, signal) : Promise.resolve(null),
  );
  const raw = e.pack ? rawOf(e.pack.body, e.position) : "";
  return (
    <Panel title="evidence" class="evidence" testid="evidence">
      {e.test && (
        <div class="evidence-test">
          <p>
            {t("test_record")} <VerdictTag verdict={e.test.verdict} scope={e.test.pass_scope} /> <span class="dim">{reasonText(e.test.reason)}</span>
          </p>
          <TestRecord test={e.test} />
        </div>
      )}
      {raw && <RawSlip raw={raw} />}
      {e.pack === null ? (
        <Empty title="evidence_none" advice="evidence_none_do" />
      ) : (
        <>
          <dl class="facts pack-facts">
            <Fact name="pack_topic">
              <span class="mono">{e.pack.topic}</span>
            </Fact>
            <Fact name="received_at">
              <span class="num">{stamp(e.pack.received_ms)}</span>
            </Fact>
            <Fact name="inbox_pos">
              <span class="num">{e.inbox_pos}</span>
            </Fact>
            <Fact name="pack_position">
              <span class="num">{e.position}</span>
            </Fact>
            {whole && (
              <Fact name="pack_header">
                <span class="mono wrap" data-testid="pack-header">
                  {whole.header}
                </span>
              </Fact>
            )}
            <div class="fact">
              <dt>SHA-256</dt>
              <dd>
                <Digest body={e.pack.body} sha256={e.pack.sha256} />
              </dd>
            </div>
          </dl>
          <PackBody body={e.pack.body} position={e.position} />
        </>
      )}
    </Panel>
  );
}

function Deliveries({ id, round }: { id: string; round: number }) {
  const resource = useResource<{ deliveries: Delivery[] }>(`deliveries/${id}`, (signal) => api.deliveries(id, signal), { poll_ms: 15_000 });
  const first = useRef(true);
  useEffect(() => {
    if (first.current) first.current = false;
    else resource.reload();
  }, [round]);
  return (
    <Panel title="deliveries" testid="deliveries">
      <Await {...resource}>
        {({ deliveries }) =>
          deliveries.length === 0 ? (
            <Empty title="deliveries_empty" advice="deliveries_empty_do" />
          ) : (
            <ul class="deliveries">
              {deliveries.map((d) => (
                <li key={d.webhook_id} data-testid="delivery" data-state={d.state}>
                  <p>
                    <span class={`tag delivery-${d.state}`}>{term("d_", d.state)}</span> <b>{d.endpoint_name || d.endpoint_id}</b> <span class="mono">{d.event_type}</span>
                    <span class="dim num">{stamp(d.delivered_ms ?? d.created_ms)}</span>
                  </p>
                  <p class="mono dim wrap">{d.webhook_id}</p>
                  {d.attempts.length === 0 && <p class="dim">{t("no_attempt")}</p>}
                  {d.attempts.length > 0 && (
                    <table class="table inner">
                      <thead>
                        <tr>
                          <th>{t("attempts")}</th>
                          <th>{t("when")}</th>
                          <th>{t("duration")}</th>
                          <th>{t("http_status")}</th>
                          <th>{t("response")}</th>
                        </tr>
                      </thead>
                      <tbody>
                        {d.attempts.map((x) => (
                          <tr key={x.attempt}>
                            <td class="num">{t("attempt_no", { n: x.attempt })}</td>
                            <td class="num">{stamp(x.at_ms)}</td>
                            <td class="num">{duration(x.duration_ms)}</td>
                            <td class={x.status_code !== null && x.status_code < 300 ? "num good" : "num bad"}>{x.status_code ?? "—"}</td>
                            <td class="mono wrap response">{x.error || x.response || "—"}</td>
                          </tr>
                        ))}
                      </tbody>
                    </table>
                  )}
                  {d.state === "pending" && d.next_ms !== null && (
                    <p class="dim">
                      {t("next_try")} {stamp(d.next_ms)}
                    </p>
                  )}
                </li>
              ))}
            </ul>
          )
        }
      </Await>
    </Panel>
  );
}

function Findings({ findings }: { findings: Finding[] }) {
  if (findings.length < 2) return null;
  return (
    <Panel title="later_findings" note={t("newest_n", { n: findings.length })}>
      <div class="table-wrap findings-list scroll" tabIndex={0} role="region" aria-label={t("later_findings")}>
        <table class="table inner">
          <thead>
            <tr>
              <th>{t("when")}</th>
              <th>{t("indicator")}</th>
              <th>{t("value")}</th>
              <th>{t("limit")}</th>
            </tr>
          </thead>
          <tbody>
            {findings.map((f) => (
              <tr key={f.finding_id}>
                <td class="num">{stamp(f.t_ms)}</td>
                <td>{codeName(f.indicator)}</td>
                <td class="num strong">{measured(f.value, f.unit, digitsOf(f.indicator), f.citation)}</td>
                <td class="num">{limitText(f.citation)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Panel>
  );
}

/** What the law's way is for. */
const LEGAL: ReadonlySet<string> = new Set(["limit", "test", "cluster"]);

export function AlertPage({ id }: { id: string }) {
  const resource = useResource<AlertDetail>(`alert/${id}`, (signal) => api.alert(id, signal), { poll_ms: 30_000 });
  const kase = useResource<Case>(`case/${id}`, (signal) => api.caseOf(id, signal), { poll_ms: 30_000, keep: true });
  const [round, setRound] = useState(0);
  const refresh = (): void => {
    resource.reload();
    kase.reload();
    setRound((n) => n + 1);
  };
  const latest = useRef(refresh);
  latest.current = refresh;
  useEffect(() => {
    const soon = burst(() => latest.current(), 500);
    return onEvent((e) => e.data.alert_id === id && soon());
  }, [id]);
  return (
    <div class="page alert">
      <Await {...resource}>
        {(a) => (
          <>
            <Head a={a} />
            <div class="alert-left">
              <What a={a} />
              <Decisions a={a} changed={refresh} />
              {LEGAL.has(a.kind) && kase.data && <CasePanel c={kase.data} changed={refresh} />}
              <Panel title="citation">
                <CitationBlock citation={a.citation} />
              </Panel>
              <Timeline transitions={a.transitions} steps={kase.data?.steps ?? []} clocks={kase.data?.clocks ?? []} />
              <Deliveries id={id} round={round} />
            </div>
            <div class="alert-right">
              {a.kind === "test" && a.sample_no && <Laboratory a={a} round={round} changed={refresh} />}
              {a.kind === "limit" && a.indicator && <Around a={a} />}
              <EvidencePanel a={a} />
              <Findings findings={a.findings} />
            </div>
          </>
        )}
      </Await>
    </div>
  );
}
