/** 推送端点: who is sent webhooks; made, verified, tried out, keys rotated, what did not arrive sent again. */

import { useState } from "preact/hooks";

import { api } from "../api/client";
import type { CreatedEndpoint, Endpoint, ShownKey, Tried } from "../api/types";
import { duration, stamp } from "../format";
import { t } from "../i18n";
import { WriteForm } from "../parts/key_form";
import { Await, Empty, Panel, When } from "../parts/parts";
import { useResource } from "../parts/resource";
import type { Word } from "../words";

type Action = "verify" | "test" | "rotate" | "suspend" | "resume" | "replay" | "remove";
const DANGER: ReadonlySet<Action> = new Set(["suspend", "remove", "rotate"]);

/** What may be done with an endpoint as it stands. */
function actions(e: Endpoint): Action[] {
  if (e.state === "off") return [];
  const found: Action[] = e.state === "unverified" ? ["verify", "test"] : ["test"];
  if (e.source === "api") found.push("rotate");
  found.push(e.state === "suspended" ? "resume" : "suspend");
  if (e.undelivered > 0) found.push("replay");
  if (e.source === "api") found.push("remove");
  return found;
}

/** Keys that were just made: shown once. */
function Shown({ keys, done }: { keys: readonly (readonly [Word, ShownKey])[]; done: () => void }) {
  return (
    <div class="secret-box" role="status" data-testid="shown-keys">
      <p>{t("e_secret_once")}</p>
      <dl>
        {keys.map(([name, key]) => (
          <div key={key.id}>
            <dt>{t(name)}</dt>
            <dd class="mono wrap">{key.secret || key.public}</dd>
          </div>
        ))}
      </dl>
      <button type="button" class="button" onClick={done}>
        {t("e_done")}
      </button>
    </div>
  );
}

function Said({ tried, verifying }: { tried: Tried; verifying: boolean }) {
  const answer = tried.status_code === null ? t("e_no_answer", { error: tried.error }) : t("e_answered", { status: tried.status_code, time: duration(tried.duration_ms) });
  return (
    <p class={tried.ok ? "good pad" : "form-error pad"} role="status" data-testid="tried" data-ok={tried.ok}>
      {verifying && <b>{t(tried.ok ? "e_verified_ok" : "e_verified_not")} </b>}
      {answer}
      {tried.response && <span class="mono block wrap dim">{tried.response.slice(0, 400)}</span>}
    </p>
  );
}

function ActionForm({ e, action, done, shown, tried }: { e: Endpoint; action: Action; done: (note: string) => void; shown: (key: ShownKey) => void; tried: (answer: Tried) => void }) {
  const [reason, setReason] = useState("");
  const [hours, setHours] = useState("24");
  const [revoke, setRevoke] = useState(false);
  const run = async (key: string, actor: string): Promise<void> => {
    if (action === "verify" || action === "test") tried(await api.tryEndpoint(e.id, action, key, actor));
    else if (action === "rotate") shown(await api.rotateKey(e.id, key, { overlap_h: Number(hours), revoke_old_now: revoke, actor }));
    else if (action === "replay") {
      const reply = await api.replay(e.id, key, actor);
      done(t("e_replayed", { n: reply.events }));
      return;
    } else if (action === "remove") await api.removeEndpoint(e.id, key, e.version);
    else await api.switchEndpoint(e.id, action, key, action === "suspend" ? { actor, reason } : { actor });
    done("");
  };
  return (
    <WriteForm action={`e_${action}`} testid={`${action}-form`} actor danger={DANGER.has(action)} run={run} done={() => undefined}>
      {action === "suspend" && (
        <label class="field">
          <span>{t("silence_reason")}</span>
          <input name="reason" required maxLength={500} value={reason} onInput={(x) => setReason(x.currentTarget.value)} />
        </label>
      )}
      {action === "rotate" && (
        <>
          <label class="field">
            <span>{t("e_overlap")}</span>
            <input name="overlap_h" type="number" min={1} max={720} required disabled={revoke} value={hours} onInput={(x) => setHours(x.currentTarget.value)} />
          </label>
          <label class="check">
            <input name="revoke" type="checkbox" checked={revoke} onChange={(x) => setRevoke(x.currentTarget.checked)} />
            {t("e_revoke")}
          </label>
        </>
      )}
    </WriteForm>
  );
}

function Keys({ e }: { e: Endpoint }) {
  const now = Date.now();
  const shown = e.keys.filter((k) => k.ends_ms === null || now - k.ends_ms < 30 * 86_400_000);
  return (
    <ul class="endpoint-keys">
      {shown.map((k) => (
        <li key={k.id} class={k.ends_ms !== null && k.ends_ms <= now ? "dim" : undefined}>
          <span class="mono">{k.kind}</span> <span class="mono dim">{k.id}</span> <When ms={k.created_ms} />{" "}
          {k.ends_ms !== null && <b>{k.ends_ms <= now ? t("e_key_ended") : t("e_key_until", { time: stamp(k.ends_ms) })}</b>}
          {k.public && <span class="mono block wrap dim">{k.public}</span>}
        </li>
      ))}
    </ul>
  );
}

function Card({ e, reload }: { e: Endpoint; reload: () => void }) {
  const [open, setOpen] = useState<Action | null>(null);
  const [key, setKey] = useState<ShownKey | null>(null);
  const [answer, setAnswer] = useState<{ tried: Tried; verifying: boolean } | null>(null);
  const [note, setNote] = useState("");
  return (
    <li class={`endpoint endpoint-${e.state}`} data-testid="endpoint" data-id={e.id} data-state={e.state}>
      <header>
        <h3>{e.name || e.id}</h3> <span class="mono dim">{e.id}</span>
        <span class={`tag endpoint-tag-${e.state}`}>{t(`e_${e.state}`)}</span>
        <span class="endpoint-counts">
          {t("e_pending")} <b class="num">{e.pending}</b> · {t("e_undelivered")} <b class={e.undelivered > 0 ? "num over" : "num"}>{e.undelivered}</b>
        </span>
      </header>
      <p class="mono wrap">{e.url}</p>
      <p class="dim">
        {t("e_where")} {t(`e_${e.source}`)} · {t("e_rate_value", { n: e.concurrency })}
        {e.rate_per_min !== null && ` · ${t("e_per_min", { n: e.rate_per_min })}`}
        {e.failing_since_ms !== null && <b class="over"> · {t("e_failing", { time: stamp(e.failing_since_ms) })}</b>}
      </p>
      <Keys e={e} />
      {e.source === "config" && <p class="dim">{t("e_rotate_config")}</p>}
      <div class="action-tabs">
        {actions(e).map((action) => (
          <button key={action} type="button" class={action === "verify" ? "button primary" : "button"} aria-expanded={open === action} data-testid={`${action}-${e.id}`} onClick={() => setOpen(open === action ? null : action)}>
            {t(`e_${action}`)}
          </button>
        ))}
      </div>
      {open && (
        <ActionForm
          key={open}
          e={e}
          action={open}
          shown={setKey}
          tried={(tried) => setAnswer({ tried, verifying: open === "verify" })}
          done={(text) => {
            setOpen(null);
            setNote(text);
            reload();
          }}
        />
      )}
      {note && (
        <p class="good pad" role="status">
          {note}
        </p>
      )}
      {answer && <Said {...answer} />}
      {key && <Shown keys={[[key.kind === "ed25519" ? "e_public_key" : "e_signing_key", key]]} done={() => setKey(null)} />}
    </li>
  );
}

function New({ made }: { made: (created: CreatedEndpoint) => void }) {
  const [said, setSaid] = useState({ id: "", name: "", url: "" });
  const [kind, setKind] = useState<"ed25519" | "hmac">("ed25519");
  const text = (name: keyof typeof said, label: Word, more: Record<string, unknown> = {}) => (
    <label class="field">
      <span>{t(label)}</span>
      <input name={name} required maxLength={300} autocomplete="off" value={said[name]} onInput={(e) => setSaid({ ...said, [name]: e.currentTarget.value })} {...more} />
    </label>
  );
  return (
    <WriteForm action="endpoint_new" testid="endpoint-form" actor run={async (key, actor) => made(await api.makeEndpoint(key, { ...said, key_kind: kind, actor }))} done={() => undefined}>
      {text("id", "e_id", { pattern: "[A-Za-z0-9_\\-]{1,40}" })}
      {text("name", "e_name")}
      {text("url", "e_url", { type: "url" })}
      <label class="field">
        <span>{t("e_key_kind")}</span>
        <select name="key_kind" value={kind} onChange={(e) => setKind(e.currentTarget.value === "hmac" ? "hmac" : "ed25519")}>
          <option value="ed25519">{t("e_ed25519")}</option>
          <option value="hmac">{t("e_hmac")}</option>
        </select>
        <small>{t("endpoint_new_note")}</small>
      </label>
    </WriteForm>
  );
}

export function EndpointsPage() {
  const resource = useResource<{ endpoints: Endpoint[] }>("endpoints", (signal) => api.endpoints(signal), { poll_ms: 15_000, keep: true });
  const [making, setMaking] = useState(false);
  const [created, setCreated] = useState<CreatedEndpoint | null>(null);
  return (
    <div class="page">
      <h1 class="hidden">{t("endpoints")}</h1>
      <Panel
        title="endpoints"
        class="fill"
        tools={
          <button type="button" class="button" aria-expanded={making} data-testid="endpoint-new" onClick={() => setMaking(!making)}>
            {t("endpoint_new")}
          </button>
        }
      >
        {making && (
          <New
            made={(made) => {
              setCreated(made);
              setMaking(false);
              resource.reload();
            }}
          />
        )}
        {created && (
          <Shown
            keys={[
              [created.signing_key.kind === "ed25519" ? "e_public_key" : "e_signing_key", created.signing_key],
              ["e_receipt_key", created.receipt_key],
            ]}
            done={() => setCreated(null)}
          />
        )}
        <Await {...resource}>
          {({ endpoints }) =>
            endpoints.length === 0 ? (
              <Empty title="endpoints_none" advice="endpoints_none_do" />
            ) : (
              <ul class="endpoint-list scroll">
                {endpoints.map((e) => (
                  <Card key={e.id} e={e} reload={resource.reload} />
                ))}
              </ul>
            )
          }
        </Await>
      </Panel>
    </div>
  );
}
