/** The API key that writing needs: asked for once, kept in this tab only. */

import { signal } from "@preact/signals";
import { useState } from "preact/hooks";
import type { ComponentChildren } from "preact";

import { ApiError } from "../api/client";
import { t } from "../i18n";
import { errorText } from "./parts";
import type { Word } from "../words";

const KEY = "agrigate.key";
const ACTOR = "agrigate.actor";

function read(storage: () => Storage, name: string): string {
  try {
    return storage().getItem(name) ?? "";
  } catch {
    return "";
  }
}

function keep(storage: () => Storage, name: string, value: string): void {
  try {
    if (value) storage().setItem(name, value);
    else storage().removeItem(name);
  } catch {
    // forbidden storage: the value lasts as long as the page
  }
}

const session = (): Storage => sessionStorage;
const local = (): Storage => localStorage;
const apiKey = signal(read(session, KEY));
const actorName = signal(read(local, ACTOR));

interface Props {
  action: Word;
  /** What the button says; the words of `action` without it. */
  label?: string;
  testid: string;
  /** Ask who acts. */
  actor?: boolean;
  danger?: boolean;
  children?: ComponentChildren;
  run: (key: string, actor: string) => Promise<unknown>;
  done: () => void;
  /** Somebody else changed it meanwhile: read it again. */
  stale?: () => void;
}

/** A form that runs one write; a refused key is forgotten and asked for again. */
export function WriteForm({ action, label, testid, actor = false, danger = false, children, run, done, stale }: Props) {
  const [key, setKey] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ApiError | null>(null);

  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    const used = apiKey.value || key.trim();
    setBusy(true);
    setError(null);
    try {
      await run(used, actorName.value.trim());
      apiKey.value = used;
      keep(session, KEY, used);
      keep(local, ACTOR, actorName.value.trim());
      setKey("");
      done();
    } catch (caught) {
      if (!(caught instanceof ApiError)) throw caught;
      if (caught.status === 401 || caught.status === 403) {
        apiKey.value = "";
        keep(session, KEY, "");
      }
      setError(caught);
      if (caught.code === "stale") stale?.();
    } finally {
      setBusy(false);
    }
  };

  return (
    <form class="write-form" onSubmit={(e) => void submit(e)} data-testid={testid}>
      {actor && (
        <label class="field">
          <span>{t("your_name")}</span>
          <input
            name="actor"
            required
            maxLength={60}
            autocomplete="name"
            value={actorName.value}
            onInput={(e) => {
              actorName.value = e.currentTarget.value;
            }}
          />
        </label>
      )}
      {children}
      {apiKey.value ? (
        <p class="key-kept">
          {t("key_kept")}{" "}
          <button
            type="button"
            class="link"
            onClick={() => {
              apiKey.value = "";
              keep(session, KEY, "");
            }}
          >
            {t("forget_key")}
          </button>
        </p>
      ) : (
        <label class="field">
          <span>{t("api_key")}</span>
          <input
            name="api_key"
            type="password"
            required
            autocomplete="off"
            value={key}
            aria-describedby={`${testid}-note`}
            onInput={(e) => setKey(e.currentTarget.value)}
          />
          <small id={`${testid}-note`}>{t("api_key_note")}</small>
        </label>
      )}
      <button type="submit" class={danger ? "button danger" : "button primary"} disabled={busy}>
        {busy ? t("sending") : (label ?? t(action))}
      </button>
      {error && (
        <p class="form-error" role="alert">
          {errorText(error)}
        </p>
      )}
    </form>
  );
}
