/** The gateway keys of a station: one in use, those before it, those that wait for a decision. */

import { useState } from "preact/hooks";

import { api } from "../api/client";
import type { GatewayKey, StationDetail } from "../api/types";
import { t, term } from "../i18n";
import type { Word } from "../words";
import { WriteForm } from "./key_form";
import { When } from "./parts";

type Decision = "approve" | "replace" | "refuse";

interface Chosen {
  key: string;
  decision: Decision;
}

/** What may be decided about a key; the first is the likely one. */
function decisions(k: GatewayKey, inUse: boolean): Decision[] {
  const welcome = inUse ? "replace" : "approve";
  switch (k.state) {
    case "approved":
    case "replaced":
      return k.state === "approved" ? ["refuse"] : [welcome, "refuse"];
    case "pending":
      return [welcome, "refuse"];
    case "refused":
      return [welcome];
  }
}

function warning(k: GatewayKey, decision: Decision): Word | null {
  if (decision === "refuse") return k.state === "approved" ? "refuse_approved" : "refuse_confirm";
  return null;
}

function Row({ s, k, chosen, choose, reload }: { s: StationDetail; k: GatewayKey; chosen: Decision | null; choose: (decision: Decision | null) => void; reload: () => void }) {
  const inUse = s.keys.some((other) => other.state === "approved");
  const note = chosen && warning(k, chosen);
  return (
    <li class={`gateway-key key-${k.state}`} data-testid="gateway-key" data-key={k.key} data-state={k.state}>
      <span class="key-mark">{term("key_", k.state)}</span>
      <span class="mono key-text">{k.key}</span>
      <span class="dim">
        {t("key_first_seen")} <When ms={k.first_seen_ms} />
        {k.replaced_ms !== null && (
          <>
            {" · "}
            {t("key_replaced_at")} <When ms={k.replaced_ms} />
          </>
        )}
      </span>
      <span class="key-actions">
        {decisions(k, inUse).map((decision) => (
          <button key={decision} type="button" class={`button${decision !== "refuse" && k.state === "pending" ? " primary" : ""}`} aria-expanded={chosen === decision} data-testid={`${decision}-open`} onClick={() => choose(chosen === decision ? null : decision)}>
            {t(decision)}
          </button>
        ))}
      </span>
      {chosen && (
        <WriteForm
          key={chosen}
          action={chosen}
          testid={`${chosen}-key`}
          danger={chosen !== "approve"}
          run={(apiKey) => api.decideKey(chosen, s.code, apiKey, k.key)}
          done={() => {
            choose(null);
            reload();
          }}
        >
          {chosen === "replace" && (
            <label class="check key-confirm">
              <input type="checkbox" name="confirm" required />
              {t("replace_confirm")}
            </label>
          )}
          {note && <p class="key-confirm">{t(note)}</p>}
        </WriteForm>
      )}
    </li>
  );
}

export function GatewayKeys({ s, reload }: { s: StationDetail; reload: () => void }) {
  const [all, setAll] = useState(false);
  const [chosen, setChosen] = useState<Chosen | null>(null);
  const pending = s.keys.filter((k) => k.state === "pending");
  const others = s.keys.filter((k) => k.state !== "pending");
  if (s.keys.length === 0) return null;
  const used = others.filter((k) => k.state === "approved");
  const inUse = used.length > 0;
  const shown = all ? [...pending, ...others] : pending.length > 0 ? [...pending, ...used] : [];
  const more = shown.length < s.keys.length || all;
  const toggle = (
    <button type="button" class="link" aria-expanded={all} data-testid="all-keys" onClick={() => setAll(!all)}>
      {t(all ? "keys_hidden" : "keys_shown")} ({s.keys.length})
    </button>
  );
  return (
    <section class={pending.length > 0 ? "attention-box" : "key-box"} aria-label={t("gateway_keys")} data-testid="gateway-keys">
      {pending.length > 0 ? (
        <p class="key-line">
          <span>{t(inUse ? "key_second_do" : "key_pending_do")}</span>
          {more && toggle}
        </p>
      ) : (
        <p class="key-line">
          {t("gateway_keys")}
          {t("colon")}
          {inUse ? <span class="mono dim">{used[0]?.key}</span> : term("key_", "none")}
          {toggle}
        </p>
      )}
      {shown.length > 0 && (
        <ol class="gateway-keys">
          {shown.map((k) => (
            <Row
              key={k.key}
              s={s}
              k={k}
              chosen={chosen?.key === k.key ? chosen.decision : null}
              choose={(decision) => setChosen(decision && { key: k.key, decision })}
              reload={reload}
            />
          ))}
        </ol>
      )}
    </section>
  );
}
