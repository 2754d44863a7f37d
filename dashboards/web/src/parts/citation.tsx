/** The limit or rule behind a finding, as an officer would quote it. */

import type { Citation, Conditions } from "../api/types";
import { clauseText, computedFrom, conditionPairs, conditionText, inputPairs, limitText, missingKeys, standardText } from "../format";
import { t, term } from "../i18n";
import { Fact, Unverified } from "./parts";

export function CitationBlock({ citation: c }: { citation: Partial<Citation> }) {
  if (!c.standard && !c.level && !c.clause) return <p class="dim pad">{t("no_citation")}</p>;
  const conditions = conditionPairs(c.conditions);
  const missing = missingKeys(c.conditions);
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
      <Fact name="clause">{clauseText(c.clause, c.clause_en) || "—"}</Fact>
      <Fact name="level">{term("lv_", c.level) || "—"}</Fact>
      <Fact name="limit">
        <b class="num">{limitText(c) || "—"}</b>
      </Fact>
      <Fact name="conditions">
        {conditions.length === 0 && missing.length === 0
          ? t("none")
          : conditions.map(([name, value]) => (
              <span key={name + value} class="condition">
                {name} <b>{value}</b>
              </span>
            ))}
        {missing.map((name) => (
          <span key={name} class="condition missing">
            {name} <b>{t("cond_unknown")}</b>
          </span>
        ))}
      </Fact>
      <Inputs conditions={c.conditions} />
      {c.limit_version && (
        <Fact name="limit_version">
          <span class="mono">{c.limit_version}</span>
        </Fact>
      )}
      {c.verified === false && <p class="citation-warning">{t("unverified_hint")}</p>}
    </dl>
  );
}

/** A computed value says what went into it. */
function Inputs({ conditions }: { conditions: Conditions | null | undefined }) {
  const inputs = inputPairs(conditions);
  const from = computedFrom(conditions);
  if (inputs.length === 0 && from.length === 0) return null;
  return (
    <div class="fact inputs" data-testid="inputs">
      <dt>{t(from.length > 0 ? "computed_from" : "measured_beside")}</dt>
      <dd>
        {inputs.map(([name, value]) => (
          <span key={name} class="condition">
            {name} <b class="num">{value}</b>
          </span>
        ))}
        {inputs.length === 0 && from.join(" · ")}
      </dd>
    </div>
  );
}

/** The conditions of one line: what picked the row, what was not known, what went in. */
function ConditionCell({ conditions }: { conditions: Conditions | null | undefined }) {
  const missing = missingKeys(conditions);
  const inputs = inputPairs(conditions);
  return (
    <>
      {conditionText(conditions)}
      {missing.length > 0 && (
        <span class="block condition missing">
          {missing.join(" · ")} {t("cond_unknown")}
        </span>
      )}
      {inputs.length > 0 && (
        <small class="block dim">
          {t(computedFrom(conditions).length > 0 ? "computed_from" : "measured_beside")}
          {t("colon")}
          {inputs.map((pair) => pair.join(" ")).join(" · ")}
        </small>
      )}
    </>
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
              {standardText(c.standard)} {clauseText(c.clause, c.clause_en)} {c.verified === false && <Unverified />}
              {c.title_zh && (
                <small class="block dim" lang="zh-CN">
                  {c.title_zh}
                </small>
              )}
            </td>
            <td>{term("lv_", c.level)}</td>
            <td class="num">{limitText(c)}</td>
            <td>
              <ConditionCell conditions={c.conditions} />
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
