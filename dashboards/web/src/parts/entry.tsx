/** One row of a standard: how its limit, its subject and its force are said. */

import type { NearName, StandardEntry } from "../api/types";
import { clauseText, limitText, shanghai, standardText } from "../format";
import { lang, pick, t, term } from "../i18n";
import { Unverified } from "./parts";

/** Blank where the row is no number and says so elsewhere. */
export function EntryLimit({ entry: e }: { entry: StandardEntry }) {
  if (e.kind === "never_alone") return <span class="entry-words">{t("never_alone")}</span>;
  if (!e.limit) return <span class="entry-words">{limitText({ comparator: "detected", limit: null, unit: "", level: e.level })}</span>;
  const text = limitText({ comparator: e.comparator, limit: e.limit, unit: e.unit, level: e.level });
  const cut = /^([≤≥<>]?\s?[^\s]+)(?:\s(.*))?$/.exec(text);
  return (
    <span class="entry-limit num">
      <b>{cut?.[1] ?? text}</b>
      {cut?.[2] && <small>{cut[2]}</small>}
    </span>
  );
}

/** A notice by its Chinese title, where the reader reads Chinese; a standard by its number. */
export const standardName = (e: Pick<StandardEntry, "standard" | "title_zh">): string =>
  lang.value === "zh" && e.title_zh && e.standard.includes("notice") ? e.title_zh : standardText(e.standard);

/** Both names, that of the present language first. */
export function EntrySubject({ entry: e }: { entry: Pick<StandardEntry, "subject" | "subject_zh" | "subject_en"> }) {
  const first = pick(e.subject_zh, e.subject_en, e.subject);
  const other = lang.value === "zh" ? e.subject_en : e.subject_zh;
  return (
    <>
      <b class="block">{first}</b>
      {other && other !== first && (
        <small class="dim" lang={lang.value === "zh" ? "en" : "zh-CN"}>
          {other}
        </small>
      )}
    </>
  );
}

export const entryConditions = (e: StandardEntry): string => pick(e.conditions_zh, e.conditions_en);
export const entryProduct = (e: StandardEntry): string => pick(e.product_zh, e.product_en);

/** "表1" of "表1 镉 水田 pH≤5.5": what stands beside the row already is not said again. */
const tableOf = (clause: string): string => clauseText(/^(?:table|表)\s*\w+/i.exec(clause)?.[0] ?? "");

export function EntryStandard({ entry: e }: { entry: StandardEntry }) {
  return (
    <>
      <span class="block entry-standard">
        {standardName(e)} {!e.verified && <Unverified />}
        {e.temporary && <span class="tag flag">{t("temporary")}</span>}
      </span>
      <small class="dim">{[tableOf(e.clause), term("lv_", e.level)].filter(Boolean).join(" · ")}</small>
    </>
  );
}

/** "2021-09-03 起", "2020-02-15 – 2021-09-02"; the end is the last day of its force. */
export function forceText(e: Pick<StandardEntry, "from_ms" | "to_ms">): string {
  const from = e.from_ms > 0 ? shanghai(e.from_ms).day : "";
  if (e.to_ms === null) return from ? t("force_since", { day: from }) : t("force_always");
  return t("force_span", { from, to: shanghai(e.to_ms - 1).day });
}

export function EntryForce({ entry: e, now }: { entry: StandardEntry; now: number }) {
  const over = e.to_ms !== null && e.to_ms <= now;
  const coming = e.from_ms > now;
  return (
    <>
      <span class="block num">{forceText(e)}</span>
      {over && <span class="tag force-over">{t("force_over")}</span>}
      {coming && <span class="tag force-coming">{t("force_coming")}</span>}
    </>
  );
}

/** Where a row comes from, and what it is called in the catalogue. */
export function EntryDetail({ entry: e }: { entry: StandardEntry }) {
  const rows: [Parameters<typeof t>[0], preact.ComponentChildren][] = [
    ["clause", e.clause && <span lang="zh-CN">{clauseText(e.clause)}</span>],
    ["title", e.title_zh && <span lang="zh-CN">{e.title_zh}</span>],
    ["entry_source", e.source],
    ["entry_place", <span class="mono">{e.place}</span>],
    ["entry_code", <span class="mono">{e.subject}</span>],
    ["limit_version", <span class="mono">{e.limit_version}</span>],
    ["verified_state", e.verified ? t("verified") : t("unverified_hint")],
  ];
  return (
    <dl class="entry-detail">
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

export const nearText = (n: NearName): string => pick(n.zh, n.en, n.code);
