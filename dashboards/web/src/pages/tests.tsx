/** 检测: rapid tests, our verdict beside the device's, the limits compared, the record as it came. */

import { useEffect, useRef, useState } from "preact/hooks";

import { api, ApiError } from "../api/client";
import type { Sample, Test, TestPage, Verdict } from "../api/types";
import { burst } from "../burst";
import { limitText, numericLimit, reasonText, withUnit } from "../format";
import { pick, t, term } from "../i18n";
import { onEvent } from "../live";
import { CitationTable } from "../parts/citation";
import { Icon } from "../parts/icons";
import { LimitBar } from "../parts/limit_bar";
import { Await, Choice, Empty, Flags, Panel, Unverified, VerdictTag, When } from "../parts/parts";
import { useResource } from "../parts/resource";
import { productName } from "../products";
import { href, route, setQuery } from "../route";
import { learnTests, stationName, stations } from "../state";

const VERDICTS: readonly Verdict[] = ["pass", "exceed", "suspect", "undetermined", "invalid"];
const PAGE = 50;
const COLUMNS = 9;

/** What the value was judged by: the finding that broke, else the first. */
const decisive = (test: Test) => test.findings.find((f) => f.exceeded) ?? test.findings[0];

const NEGATIVE_WORDS = /^(合格|阴性|未检出|达标|-|−|pass|negative|ok)$/i;
const POSITIVE_WORDS = /^(不合格|阳性|超标|检出|\+|fail|positive)$/i;

/** Whether the device said clearly the opposite of us. */
function differs(test: Test): boolean {
  const word = test.device_verdict.trim();
  if (test.verdict === "pass") return POSITIVE_WORDS.test(word);
  return (test.verdict === "suspect" || test.verdict === "exceed") && NEGATIVE_WORDS.test(word);
}

/** What was measured, as text: not detected and "less than" are no numbers. */
function measuredText(x: Pick<Test, "value" | "unit" | "qualifier">): string {
  if (x.qualifier === "not_detected") return t("qualifier_not_detected");
  if (x.value === null) return "";
  const text = withUnit(x.value, x.unit);
  if (x.qualifier === "lt") return t("below", { x: text });
  return x.qualifier === "gt" ? t("above", { x: text }) : text;
}

/** LOQ, else LOD, with its unit; blank when neither was stated. */
function bounds(x: Pick<Test, "lod" | "loq" | "unit">): string {
  return [x.loq !== null && `${t("loq")} ${withUnit(x.loq, x.unit)}`, x.lod !== null && `${t("lod")} ${withUnit(x.lod, x.unit)}`].filter(Boolean).join(" · ");
}

export function TestValue({ test }: { test: Test }) {
  const limit = decisive(test);
  const value = test.value === null ? null : Number(test.value);
  const bound = numericLimit(limit);
  const text = measuredText(test) || term("sr_", test.screen_result) || test.value_text || "—";
  return (
    <>
      <span class="test-value">
        <b class="num">{text}</b>
        {limit && limitText(limit) && (
          <small class="dim num">
            {limit.comparator === "detected" ? "" : t("cutoff")} {limitText(limit)}
          </small>
        )}
        {limit?.verified === false && <Unverified />}
      </span>
      {test.qualifier === "not_detected" && bounds(test) && <small class="block dim num">{bounds(test)}</small>}
      {limit && bound !== null && value !== null && Number.isFinite(value) && test.qualifier !== "not_detected" && (
        <LimitBar
          small
          value={value}
          unit={test.unit}
          limit={bound}
          comparator={limit.comparator ?? ""}
          exceeded={limit.exceeded ?? null}
          ratio={limit.ratio ?? null}
        />
      )}
    </>
  );
}

export function TestRecord({ test }: { test: Test }) {
  const rows: [Parameters<typeof t>[0], preact.ComponentChildren][] = [
    ["record_id", <span class="mono">{test.record_id}</span>],
    ["sample_no", test.sample_no],
    ["subject", test.subject],
    [
      "parameter",
      <>
        {pick(test.parameter_zh, test.parameter_en, test.parameter)} <span class="mono dim wrap">{test.parameter}</span>
      </>,
    ],
    ["method", term("m_", test.method)],
    ["method_standard", test.method_standard],
    ["result_kind", term("rk_", test.result_kind)],
    ["value", measuredText(test)],
    ["loq", test.loq === null ? "" : withUnit(test.loq, test.unit)],
    ["lod", test.lod === null ? "" : withUnit(test.lod, test.unit)],
    ["basis", test.basis ? term("basis_", test.basis) : ""],
    [
      "components",
      test.components.length > 0 &&
        test.components.map((c) => (
          <span key={c.parameter} class="block">
            {pick(c.parameter_zh, c.parameter_en, c.parameter)} <b class="num">{measuredText({ ...c, unit: c.unit || test.unit })}</b>{" "}
            <small class="dim num">{bounds({ ...c, unit: c.unit || test.unit })}</small>
          </span>
        )),
    ],
    ["scope", test.verdict === "pass" && test.pass_scope !== "limit" ? term("scope_", test.pass_scope) : ""],
    ["value_text", test.value_text],
    ["screen_result", term("sr_", test.screen_result)],
    ["device_verdict", test.device_verdict],
    ["device", test.device_name ? `${test.device_name} · ${test.device}` : test.device],
    ["attempt", test.attempt === 0 ? t("attempt_first") : t("attempt_again", { n: test.attempt })],
    ["source", term("src_", test.source)],
    ["completes", test.parent_record_id && test.attempt === 0 && <span class="mono">{test.parent_record_id}</span>],
    ["completed_by", test.superseded_by && <span class="mono">{test.superseded_by}</span>],
    ["tested_at", <When ms={test.tested_ms} />],
    ["received_at", <When ms={test.received_ms} />],
  ];
  return (
    <dl class="record" data-testid="test-record">
      {rows.map(
        ([name, value]) =>
          value && (
            <div key={name}>
              <dt>{t(name)}</dt>
              <dd>{value}</dd>
            </div>
          ),
      )}
    </dl>
  );
}

/** The first test and the repeats of the sample of a test, and what they say together. */
function SampleTests({ test }: { test: Test }) {
  const sample = useResource<Sample>(`sample/${test.record_id}`, (signal) => api.sample(test.record_id, signal), { poll_ms: 30_000, keep: true });
  const one = (record: Test) => (
    <li key={record.record_id} class={record.superseded_by ? "dim" : undefined} data-testid="sample-test" aria-current={record.record_id === test.record_id ? "true" : undefined}>
      <span>{record.attempt === 0 ? t("attempt_first") : t("attempt_again", { n: record.attempt })}</span> <When ms={record.tested_ms} />{" "}
      {pick(record.parameter_zh, record.parameter_en, record.parameter)} <b class="num">{measuredText(record) || term("sr_", record.screen_result) || record.value_text || "—"}</b>{" "}
      <VerdictTag verdict={record.verdict} scope={record.pass_scope} />{" "}
      {record.superseded_by && <span class="tag">{t("superseded")}</span>}
    </li>
  );
  return (
    <Await {...sample}>
      {({ items, tests }) => (
        <div data-testid="sample">
          <p class="dim">{t("sample_counts_once")}</p>
          <ol class="sample-tests">{tests.map(one)}</ol>
          {items
            .filter((item) => item.repeats_due > 0 || item.confirmed)
            .map((item) => (
              <p key={item.parameter}>
                {pick(item.parameter_zh, item.parameter_en, item.parameter)}
                {t("colon")}
                <VerdictTag verdict={item.verdict} /> {t(item.confirmed ? "by_confirmatory" : "repeats_due", { n: item.repeats_due })}
              </p>
            ))}
        </div>
      )}
    </Await>
  );
}

function Row({ test, fresh }: { test: Test; fresh: boolean }) {
  const [open, setOpen] = useState(false);
  const id = `test-${test.record_id}`;
  return (
    <>
      <tr class={`test-row verdict-row-${test.verdict}${fresh ? " fresh" : ""}${open ? " opened" : ""}`} data-testid="test-row" data-record-id={test.record_id} data-verdict={test.verdict} onClick={() => setOpen(!open)}>
        <td>
          <button
            type="button"
            class="expander"
            aria-expanded={open}
            aria-controls={id}
            aria-label={t("expand")}
            onClick={(e) => {
              e.stopPropagation();
              setOpen(!open);
            }}
          >
            <Icon name="chevron" size={12} />
          </button>
        </td>
        <td>
          <When ms={test.tested_ms} />
        </td>
        <td>
          <span class="block">{pick(test.station_name, test.station_name_en, test.station)}</span>
          <small class="dim">{test.device_name || test.device}</small>
        </td>
        <td>
          <b class="block">{productName(test.product_name, test.product_name_en) || "—"}</b>
          <small class="dim mono">{test.sample_no}</small>
        </td>
        <td class="test-parameter">{pick(test.parameter_zh, test.parameter_en, test.parameter)}</td>
        <td class="test-value-cell">
          <TestValue test={test} />
        </td>
        <td>
          <VerdictTag verdict={test.verdict} scope={test.pass_scope} />
          {test.attempt > 0 && <small class="block dim">{t("attempt_again", { n: test.attempt })}</small>}
        </td>
        <td>
          <span class="block">{test.device_verdict || "—"}</span>
          {differs(test) && <span class="tag attention">{t("verdict_differs")}</span>}
        </td>
        <td class="test-reason">
          <span>{reasonText(test.reason)}</span>
          <Flags flags={test.flags} />
          {test.incomplete && <span class="tag flag">{t("incomplete")}</span>}
        </td>
        <td>{term("src_", test.source)}</td>
      </tr>
      {open && (
        <tr class="test-detail" id={id}>
          <td />
          <td colSpan={COLUMNS}>
            <h3>{t("findings")}</h3>
            <CitationTable findings={test.findings} />
            <h3>{t("sample_tests")}</h3>
            <SampleTests test={test} />
            <h3>{t("raw_record")}</h3>
            <TestRecord test={test} />
            <details class="json">
              <summary>JSON</summary>
              <pre>{JSON.stringify(test, null, 2)}</pre>
            </details>
            {test.alert_id && (
              <a class="button" href={href(["alerts", test.alert_id])}>
                {t("to_alert")}
              </a>
            )}
          </td>
        </tr>
      )}
    </>
  );
}

export function TestsPage() {
  const { query } = route.value;
  const verdict = query.get("verdict") ?? "";
  const station = query.get("station") ?? "";
  const key = `tests/${verdict}/${station}`;
  const first = useResource<TestPage>(key, (signal) => api.tests({ verdict, station, limit: PAGE }, signal), { poll_ms: 30_000, keep: true });
  const [older, setOlder] = useState<{ key: string; tests: Test[]; next: string | null } | null>(null);
  const [moreError, setMoreError] = useState(false);
  const known = useRef(new Set<string>());
  const freshIds = useRef(new Set<string>());
  const shownKey = useRef("");

  const reload = useRef(first.reload);
  reload.current = first.reload;
  useEffect(() => {
    const soon = burst(() => reload.current(), 700);
    return onEvent((e) => e.type === "test" && soon());
  }, []);

  const newest = first.data?.tests ?? [];
  if (first.data && !first.stale) {
    if (shownKey.current !== key) {
      shownKey.current = key;
      known.current = new Set(newest.map((x) => x.record_id));
      freshIds.current = new Set();
    }
    for (const x of newest) {
      if (!known.current.has(x.record_id)) freshIds.current.add(x.record_id);
      known.current.add(x.record_id);
    }
  }
  useEffect(() => learnTests(newest), [first.data]);

  const more = older?.key === key ? older : null;
  const have = new Set(newest.map((x) => x.record_id));
  const all = [...newest, ...(more?.tests ?? []).filter((x) => !have.has(x.record_id))];
  const next = more ? more.next : (first.data?.next ?? null);

  const loadMore = async (): Promise<void> => {
    setMoreError(false);
    try {
      const page = await api.tests({ verdict, station, limit: PAGE, before: next });
      // All that is shown is kept: the first page moves on as new tests come.
      setOlder({ key, tests: [...all, ...page.tests], next: page.next });
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setMoreError(true);
    }
  };

  const names = stations.value.data ?? [];
  const filtered = verdict !== "" || station !== "";
  return (
    <div class="page">
      <h1 class="hidden">{t("tests")}</h1>
      <Panel
        title="tests"
        class="fill"
        tools={
          <div class="filters" role="group" aria-label={t("filters")}>
            <Choice label="verdict" value={verdict} testid="filter-verdict" options={[["", t("all")], ...VERDICTS.map((v) => [v, v === "pass" ? t("verdict_pass_all") : term("v_", v)] as const)]} onChange={(v) => setQuery({ verdict: v || null })} />
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
          </div>
        }
      >
        <Await {...first}>
          {() =>
            all.length === 0 ? (
              filtered ? (
                <Empty title="tests_none_match">
                  <button type="button" class="button" onClick={() => setQuery({ verdict: null, station: null })}>
                    {t("clear_filters")}
                  </button>
                </Empty>
              ) : (
                <Empty title="tests_empty" advice="tests_empty_do" />
              )
            ) : (
              <div class={`table-wrap scroll${first.stale ? " stale" : ""}`} tabIndex={0} role="region" aria-label={t("tests")}>
                <table class="table sticky" data-testid="tests">
                  <thead>
                    <tr>
                      <th>
                        <span class="hidden">{t("expand")}</span>
                      </th>
                      <th>{t("tested_at")}</th>
                      <th>{t("station")}</th>
                      <th>{t("sample")}</th>
                      <th>{t("parameter")}</th>
                      <th>{t("value")}</th>
                      <th>{t("verdict")}</th>
                      <th>{t("device_verdict")}</th>
                      <th>{t("reason")}</th>
                      <th>{t("source")}</th>
                    </tr>
                  </thead>
                  <tbody>
                    {all.map((test) => (
                      <Row key={test.record_id} test={test} fresh={freshIds.current.has(test.record_id)} />
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
