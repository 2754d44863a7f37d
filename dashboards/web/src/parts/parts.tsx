/** Small pieces that every page is made of. */

import type { ComponentChildren } from "preact";

import type { ApiError } from "../api/client";
import type { PassScope, Severity, StationState, Verdict } from "../api/types";
import { coarse } from "../clock";
import { ago, reasonText, shortStamp, stamp } from "../format";
import { t, term } from "../i18n";
import { href, route } from "../route";
import { type Word } from "../words";
import { SeverityIcon, StateIcon, VerdictIcon } from "./icons";
import { isGrave } from "./problems";

export function Panel(props: {
  title: Word;
  note?: ComponentChildren;
  tools?: ComponentChildren;
  class?: string;
  children: ComponentChildren;
  testid?: string;
}) {
  const id = `panel-${props.title}`;
  return (
    <section class={`panel ${props.class ?? ""}`} aria-labelledby={id} data-testid={props.testid}>
      <header class="panel-head">
        <h2 id={id}>{t(props.title)}</h2>
        {props.note !== undefined && <span class="panel-note">{props.note}</span>}
        {props.tools !== undefined && <div class="panel-tools">{props.tools}</div>}
      </header>
      {props.children}
    </section>
  );
}

/** What is missing, and what to do about it. */
export function Empty({ title, advice, children }: { title: Word; advice?: Word; children?: ComponentChildren }) {
  return (
    <div class="empty" data-testid="empty">
      <svg class="empty-mark" viewBox="0 0 64 32" aria-hidden="true">
        <path d="M2 24h16l5-8 6 12 6-22 5 18h22" />
      </svg>
      <p class="empty-title">{t(title)}</p>
      {advice && <p class="empty-advice">{t(advice)}</p>}
      {children}
    </div>
  );
}

export function errorText(error: ApiError): string {
  if (error.status === 0) return t("error_network");
  if (error.status === 404) return t("error_not_found");
  if (error.status === 401 || error.status === 403) return t("error_key");
  if (error.status === 400 || error.status === 422) return t("error_refused", { detail: error.message });
  if (error.code === "stale") return t("error_changed");
  if (error.status === 409) return t("error_conflict", { detail: error.reason ? reasonText(error.reason) : error.message });
  return t("error_server", { status: error.status, detail: error.message });
}

export function ErrorNote({ error, retry }: { error: ApiError; retry: () => void }) {
  return (
    <div class="error-note" role="alert" data-testid="error">
      <SeverityIcon severity="major" />
      <span>{errorText(error)}</span>
      <button type="button" class="button" onClick={retry}>
        {t("retry")}
      </button>
    </div>
  );
}

export function Loading() {
  return (
    <div class="loading" role="status">
      {t("loading")}
    </div>
  );
}

/** Nothing yet, an error, or the data: in this order of what there is. */
export function Await<T>(props: {
  data: T | null;
  error: ApiError | null;
  waiting: boolean;
  reload: () => void;
  children: (data: T) => ComponentChildren;
}) {
  if (props.data !== null) {
    return (
      <>
        {props.error && (
          <p class="stale-note" role="status">
            {t("error_stale")}
            {t("colon")}
            {errorText(props.error)}
          </p>
        )}
        {props.children(props.data)}
      </>
    );
  }
  if (props.error && (props.error.status === 404 || props.error.status === 422)) {
    return (
      <Empty title="error_not_found">
        <a class="button" href={href(route.value.path.slice(0, 1))}>
          {t("back")}
        </a>
      </Empty>
    );
  }
  if (props.error) return <ErrorNote error={props.error} retry={props.reload} />;
  return props.waiting ? <Loading /> : null;
}

export function Severe({ severity, text = true }: { severity: Severity; text?: boolean }) {
  const word = term("sev_", severity);
  return (
    <span class={`severe sev-${severity}`} title={word}>
      <SeverityIcon severity={severity} />
      {text ? <span>{word}</span> : <span class="hidden">{word}</span>}
    </span>
  );
}

/** A verdict in words. A pass of a screening test is no 合格: it says what was looked for and not found. */
export function VerdictTag({ verdict, scope }: { verdict: Verdict; scope?: PassScope }) {
  const screened = verdict === "pass" && scope !== undefined && scope !== "limit";
  return (
    <span class={`tag verdict-${verdict}`} data-testid="verdict" title={screened ? term("scope_", scope) : undefined}>
      <VerdictIcon verdict={verdict} />
      {screened ? term("v_pass_", scope) : term("v_", verdict)}
    </span>
  );
}

export function AlertStateTag({ state }: { state: string }) {
  return (
    <span class={`tag outline alert-${state}`} data-testid="alert-state">
      {term("st_", state)}
    </span>
  );
}

export function StateMark({ state, text = true }: { state: StationState; text?: boolean }) {
  const word = term("state_", state);
  return (
    <span class={`state-mark state-${state}`} title={word}>
      <StateIcon state={state} />
      {text ? <span>{word}</span> : <span class="hidden">{word}</span>}
    </span>
  );
}

/** An alarm that an edge agent or ingest raised on a station. */
export function AlarmTag({ alarm }: { alarm: string }) {
  return (
    <span class={`tag ${isGrave(alarm) ? "grave" : "attention"}`} title={term("alarm_do_", alarm)} data-testid="alarm" data-alarm={alarm}>
      {term("alarm_", alarm)}
    </span>
  );
}

/** The mark of a limit that was not checked against the standard's text. */
export function Unverified() {
  return (
    <span class="tag unverified" title={t("unverified_hint")}>
      {t("unverified")}
    </span>
  );
}

export function Flags({ flags }: { flags: readonly string[] }) {
  return (
    <>
      {flags.map((flag) => (
        <span key={flag} class={flag === "limit_unverified" ? "tag unverified" : "tag flag"}>
          {term("f_", flag)}
        </span>
      ))}
    </>
  );
}

/** Time of day, or the date with it; the whole time as a hint. */
export function When({ ms }: { ms: number | null | undefined }) {
  return (
    <time class="num" dateTime={ms ? new Date(ms).toISOString() : undefined} title={stamp(ms)}>
      {shortStamp(ms, coarse.value)}
    </time>
  );
}

export function Ago({ ms }: { ms: number | null | undefined }) {
  return (
    <time class="num" dateTime={ms ? new Date(ms).toISOString() : undefined} title={stamp(ms)}>
      {ago(ms, coarse.value)}
    </time>
  );
}

/** Name and value, in a list of such. */
export function Fact({ name, children }: { name: Word; children: ComponentChildren }) {
  return (
    <div class="fact">
      <dt>{t(name)}</dt>
      <dd>{children}</dd>
    </div>
  );
}

export function Choice<T extends string>(props: {
  label: Word;
  value: T;
  options: readonly (readonly [T, string])[];
  onChange: (value: T) => void;
  testid?: string;
}) {
  return (
    <label class="choice">
      <span>{t(props.label)}</span>
      <select value={props.value} data-testid={props.testid} onChange={(e) => props.onChange(e.currentTarget.value as T)}>
        {props.options.map(([value, text]) => (
          <option key={value} value={value}>
            {text}
          </option>
        ))}
      </select>
    </label>
  );
}
