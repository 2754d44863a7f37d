/** The log of an alert: every transition with who, why, what was said, and the hash that chains it. */

import type { CaseStep, LawClock, Transition } from "../../api/types";
import { reasonText, stamp } from "../../format";
import { pick, t, term } from "../../i18n";
import { AlertStateTag, Panel } from "../../parts/parts";
import { words, type Word } from "../../words";

/** The actor of what no person did. */
const SYSTEM = "system";
const SAID = ["agency", "case_no", "laboratory", "order_id", "outcome"] as const;

function title(x: Transition, steps: CaseStep[], clocks: LawClock[]): string {
  const word = `ev_${x.event.replace(/^alert\./, "")}`;
  const known = word in words ? t(word as Word) : "";
  if (x.event === "alert.case_step") {
    const step = steps.find((s) => s.alert_seq === x.seq);
    return step ? pick(step.title_zh, step.title_en) : known;
  }
  if (x.event === "alert.overdue") {
    const clock = clocks.find((c) => c.id === x.data["clock_id"]);
    return clock ? `${known}${t("colon")}${pick(clock.title_zh, clock.title_en)}` : known;
  }
  if (known) return known;
  if (x.from_state === x.to_state) return t(x.actor === SYSTEM ? "severity_raised" : "f_acked"); // of older releases
  return x.from_state ? "" : t("raised");
}

function said(x: Transition): string {
  return SAID.filter((name) => typeof x.data[name] === "string")
    .map((name) => `${t(`ev_said_${name}`)} ${name === "outcome" ? term("o_", String(x.data[name])) : String(x.data[name])}`)
    .join(" · ");
}

export function Timeline({ transitions, steps, clocks }: { transitions: Transition[]; steps: CaseStep[]; clocks: LawClock[] }) {
  return (
    <Panel title="timeline">
      <ol class="timeline" data-testid="timeline">
        {transitions.map((x) => (
          <li key={x.seq} data-event={x.event}>
            <p>
              <span>{title(x, steps, clocks)}</span>
              {x.from_state !== x.to_state && x.from_state && <span class="dim">{term("st_", x.from_state)} →</span>}
              {x.from_state !== x.to_state && <AlertStateTag state={x.to_state} />}
              <time class="num">{stamp(x.at_ms)}</time>
            </p>
            <p class="timeline-why">
              <b>{x.actor === SYSTEM ? t("system") : x.actor}</b>
              {x.reason && <span> {reasonText(x.reason)}</span>}
              {said(x) && <span> {said(x)}</span>}
            </p>
            <p class="mono dim" title={`${t("hash")} ${x.hash}`}>
              {t("hash")} {x.hash.slice(0, 16)}…
            </p>
          </li>
        ))}
      </ol>
    </Panel>
  );
}
