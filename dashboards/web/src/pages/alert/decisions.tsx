/** What a person may decide about the alert now; nothing that the state machine would refuse is offered. */

import { useState } from "preact/hooks";

import { api } from "../../api/client";
import type { AlertDetail, Decision, DecisionList } from "../../api/types";
import { stamp } from "../../format";
import { pick, t } from "../../i18n";
import { WriteForm } from "../../parts/key_form";
import { Await, Panel } from "../../parts/parts";
import { useResource } from "../../parts/resource";
import { Needs } from "./needs";

const GRAVE: ReadonlySet<string> = new Set(["dismiss", "close", "reject_handover"]);
/** The way onwards; what stands beside it is not drawn as the next thing to do. */
const ONWARDS: ReadonlySet<string> = new Set(["acknowledge", "order_retest", "confirm", "hand_over", "accept"]);

interface FormProps {
  a: AlertDetail;
  seq: number;
  decision: Decision;
  done: () => void;
  stale: () => void;
}

function Form({ a, seq, decision, done, stale }: FormProps) {
  const [said, setSaid] = useState<Record<string, string>>({});
  return (
    <WriteForm
      action="submit"
      label={pick(decision.title_zh, decision.title_en)}
      testid={`${decision.trigger}-form`}
      actor
      danger={GRAVE.has(decision.trigger)}
      run={(key, actor) => api.decide(a.alert_id, key, { ...said, trigger: decision.trigger, seq, actor })}
      done={done}
      stale={stale}
    >
      <Needs needs={decision.needs} said={said} set={(field, value) => setSaid({ ...said, [field]: value })} />
    </WriteForm>
  );
}

export function Decisions({ a, changed }: { a: AlertDetail; changed: () => void }) {
  // Read again with each seq; what somebody is writing stays, and is sent for the seq that is on the screen.
  const resource = useResource<DecisionList>(`decisions/${a.alert_id}/${a.seq}`, (signal) => api.decisions(a.alert_id, signal), { keep: true });
  const [chosen, setChosen] = useState<string | null>(null);
  const again = (): void => {
    resource.reload();
    changed();
  };
  const done = (): void => {
    setChosen(null);
    again();
  };
  return (
    <Panel title="decide" class="actions" testid="decisions">
      {a.acked_ms !== null && <p class="good pad">{t("acked_by", { actor: a.acked_by, time: stamp(a.acked_ms) })}</p>}
      <Await {...resource}>
        {({ decisions, seq }) => {
          const open = decisions.find((d) => d.trigger === chosen);
          if (decisions.length === 0) return <p class="dim pad">{t("decide_none")}</p>;
          return (
            <>
              <div class="action-tabs">
                {decisions.map((d) => (
                  <button
                    key={d.trigger}
                    type="button"
                    class={ONWARDS.has(d.trigger) ? "button primary" : "button"}
                    aria-expanded={chosen === d.trigger}
                    data-testid={`${d.trigger}-open`}
                    onClick={() => setChosen(chosen === d.trigger ? null : d.trigger)}
                  >
                    {pick(d.title_zh, d.title_en)}
                  </button>
                ))}
              </div>
              {a.kind === "test" && a.state === "suspected" && <p class="dim pad">{t("dismiss_tests")}</p>}
              {open && <Form key={`${open.trigger}/${a.state}`} a={a} seq={seq} decision={open} done={done} stale={again} />}
            </>
          );
        }}
      </Await>
    </Panel>
  );
}
