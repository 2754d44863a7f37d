/** The limit or rule behind a finding, as an officer would quote it. */

import type { Citation } from "../api/types";
import { clauseText, conditionPairs, conditionText, limitText, standardText } from "../format";
import { t, term } from "../i18n";
import { Fact, Unverified } from "./parts";

export function CitationBlock({ citation: c }: { citation: Partial<Citation> }) {
  if (!c.standard && !c.level && !c.clause) return <p class="dim pad">{t("no_citation")}</p>;
  const conditions = conditionPairs(c.conditions);
  return (
    <dl class="facts citation" data-testid="citation">
      <Fact name="standard_no">
        <b>{standardText(c.standard) || "—"}</b> {c.verified === false && <Unverified />}
        {c.verified === true && <small class="block dim">{t("verified")}</small>}
      </Fact>
      {c.title_zh && (
        <Fact name="title">
          <span lang="zh-CN">{c.title_zh}</span>
        </Fact>
      )}
      <Fact name="clause">{clauseText(c.clause) || "—"}</Fact>
      <Fact name="level">{term("lv_", c.level) || "—"}</Fact>
      <Fact name="limit">
        <b class="num">{limitText(c) || "—"}</b>
      </Fact>
      <Fact name="conditions">
        {conditions.length === 0
          ? t("none")
          : conditions.map(([name, value]) => (
              <span key={name + value} class="condition">
                {name} <b>{value}</b>
              </span>
            ))}
      </Fact>
      {c.limit_version && (
        <Fact name="limit_version">
          <span class="mono">{c.limit_version}</span>
        </Fact>
      )}
      {c.verified === false && <p class="citation-warning">{t("unverified_hint")}</p>}
    </dl>
  );
}

/** Every limit that was compared, one line each. */
export function CitationTable({ findings }: { findings: readonly Partial<Citation>[] }) {
  if (findings.length === 0) return <p class="dim">{t("findings_none")}</p>;
  return (
    <table class="table inner">
      <thead>
        <tr>
          <th>{t("limit_standard")}</th>
          <th>{t("level")}</th>
          <th>{t("limit")}</th>
          <th>{t("conditions")}</th>
          <th>{t("verdict")}</th>
        </tr>
      </thead>
      <tbody>
        {findings.map((c, i) => (
          <tr key={i}>
            <td>
              {standardText(c.standard)} {clauseText(c.clause)} {c.verified === false && <Unverified />}
              {c.title_zh && (
                <small class="block dim" lang="zh-CN">
                  {c.title_zh}
                </small>
              )}
            </td>
            <td>{term("lv_", c.level)}</td>
            <td class="num">{limitText(c)}</td>
            <td>
{conditionText(c.conditions)}
            </td>
            <td class={c.exceeded ? "bad" : ""}>
              {c.exceeded === true && t("v_exceed")}
              {c.exceeded === false && t("within")}
              {typeof c.ratio === "number" && <small class="num dim"> ×{Number(c.ratio.toPrecision(3))}</small>}
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
