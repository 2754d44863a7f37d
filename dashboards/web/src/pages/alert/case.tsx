/** The case of an alert: the clocks that run, the steps that were taken, and those that may be taken now. */

import { useState } from "preact/hooks";

import { api } from "../../api/client";
import type { Case, CaseStep, NextStep } from "../../api/types";
import { stamp } from "../../format";
import { pick, t } from "../../i18n";
import { WriteForm } from "../../parts/key_form";
import { Panel } from "../../parts/parts";
import { Clock } from "./clock";
import { Needs } from "./needs";

const GOING: ReadonlySet<string> = new Set(["running", "overdue"]);

/** Beijing time of a date-and-time field, with its offset; null when it is blank. */
const beijing = (local: string): string | null => (local ? `${local}:00+08:00` : null);

function words(said: Record<string, string>, prefix: string): Record<string, string> {
  const found = Object.entries(said).filter(([field, value]) => field.startsWith(prefix) && value);
  return Object.fromEntries(found.map(([field, value]) => [field.slice(prefix.length), value]));
}

function StepForm({ c, step, done, stale }: { c: Case; step: NextStep; done: () => void; stale: () => void }) {
  const [said, setSaid] = useState<Record<string, string>>({});
  const [at, setAt] = useState("");
  const yesNo = new Set(step.needs.filter((n) => n.kind === "yes_no").map((n) => n.field));
  const run = (key: string, actor: string): Promise<unknown> => {
    const document = { type: "", no: "", sha256: "", ...words(said, "document.") };
    const data = Object.fromEntries(
      Object.entries(words(said, "data.")).map(([name, value]) => [name, yesNo.has(`data.${name}`) ? value === "yes" : value]),
    );
    return api.takeStep(c.alert_id, key, { step: step.step, at: beijing(at), seq: c.alert_seq, actor, note: said["note"] ?? "", document, data });
  };
  return (
    <WriteForm action="case_record" testid={`step-${step.step}-form`} actor run={run} done={done} stale={stale}>
      <Needs needs={step.needs} said={said} set={(field, value) => setSaid({ ...said, [field]: value })} />
      <label class="field">
        <span>
          {t("step_at")} <em class="dim">{t("optional")}</em>
        </span>
        <input name="at" type="datetime-local" value={at} onInput={(e) => setAt(e.currentTarget.value)} />
        <small>{t("step_at_note")}</small>
      </label>
    </WriteForm>
  );
}

function Taken({ step }: { step: CaseStep }) {
  const document = [step.document.type, step.document.no].filter(Boolean).join(" ");
  return (
    <li data-testid="case-step" data-step={step.step}>
      <b>{pick(step.title_zh, step.title_en)}</b> <time class="num dim">{stamp(Date.parse(step.at))}</time>
      <span class="block dim">{[step.actor, document, step.note].filter(Boolean).join(" · ")}</span>
    </li>
  );
}

export function CasePanel({ c, changed }: { c: Case; changed: () => void }) {
  const [chosen, setChosen] = useState<string | null>(null);
  const going = c.clocks.filter((clock) => GOING.has(clock.state));
  const ended = c.clocks.filter((clock) => !GOING.has(clock.state));
  const open = c.next.find((step) => step.step === chosen);
  return (
    <Panel title="case_panel" note={c.side ? t(`case_side_${c.side}`) : undefined} class="case" testid="case">
      {c.case_id === null && <p class="dim pad">{t("case_none")}</p>}
      {c.clocks.length > 0 && (
        <ol class="law-clocks" aria-label={t("clocks")}>
          {[...going, ...ended].map((clock) => (
            <Clock key={clock.id} clock={clock} />
          ))}
        </ol>
      )}
      {c.steps.length > 0 && (
        <>
          <h3 class="case-part">{t("case_steps")}</h3>
          <ol class="case-steps">
            {c.steps.map((step) => (
              <Taken key={`${step.step}${step.alert_seq}`} step={step} />
            ))}
          </ol>
        </>
      )}
      {c.next.length > 0 && (
        <>
          <h3 class="case-part">{t("case_next")}</h3>
          <div class="action-tabs case-next">
            {c.next.map((step) => (
              <button
                key={step.step}
                type="button"
                class={step.first ? "button primary" : "button"}
                title={step.first ? t("case_first") : undefined}
                aria-expanded={chosen === step.step}
                data-testid={`step-${step.step}`}
                onClick={() => setChosen(chosen === step.step ? null : step.step)}
              >
                {pick(step.title_zh, step.title_en)}
              </button>
            ))}
          </div>
          {open && (
            <StepForm
              key={open.step}
              c={c}
              step={open}
              done={() => {
                setChosen(null);
                changed();
              }}
              stale={changed}
            />
          )}
        </>
      )}
    </Panel>
  );
}
