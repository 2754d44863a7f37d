/** 现行限值: every limit of the catalogue with search; what applies on a plot; what a sample is judged by. */

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import { api } from "../api/client";
import type { AppliedRule, InForce, LimitPage, Medium, NearName, PlotLimits, PlotRow, ResidueRow, SampleLimits, StandardEntry } from "../api/types";
import { coarse } from "../clock";
import { conditionText, integer, number, shanghai } from "../format";
import { pick, t, term } from "../i18n";
import { EntryDetail, EntryForce, EntryLimit, entryConditions, entryProduct, EntryStandard, EntrySubject, nearText, standardName } from "../parts/entry";
import { Icon } from "../parts/icons";
import { Await, Choice, Empty, Panel, Unverified } from "../parts/parts";
import { useResource } from "../parts/resource";
import { route, setQuery } from "../route";

const PAGE = 60;
const TYPING_MS = 160;
const MEDIA: readonly Medium[] = ["soil", "irrigation", "fishery", "surface", "livestock", "product", "method", "notice"];
const VIEWS = ["search", "plot", "sample"] as const;
const ANY = "any";
const COLUMNS = 5;
const MOST_BANS = 12;

type View = (typeof VIEWS)[number];

const today = (): string => shanghai(Date.now()).day;

/** A day as the API takes it: its noon in Shanghai, so that a limit in force on that day is found. */
const atOf = (day: string): string => `${day}T12:00:00+08:00`;

/** A text that follows its input field at once and everything else a moment later. */
function useTyped(name: string): [string, (text: string) => void] {
  const asked = route.value.query.get(name) ?? "";
  const [text, setText] = useState(asked);
  const said = useRef(asked);
  useEffect(() => {
    if (asked !== said.current) {
      said.current = asked; // changed elsewhere: by a link or a button
      setText(asked);
    }
  }, [asked]);
  useEffect(() => {
    if (text === said.current) return undefined;
    const timer = setTimeout(() => {
      said.current = text;
      setQuery({ [name]: text || null, offset: null });
    }, TYPING_MS);
    return () => clearTimeout(timer);
  }, [text, name]);
  return [text, setText];
}

function DayChoice({ every = false }: { every?: boolean }) {
  const at = route.value.query.get("at") ?? "";
  const any = every && at === ANY;
  return (
    <div class="day-choice" role="group" aria-label={t("at_day")}>
      <label class="choice">
        <span>{t("at_day")}</span>
        <input type="date" name="at" data-testid="limits-day" value={any ? "" : at === ANY ? today() : at || today()} onInput={(e) => setQuery({ at: e.currentTarget.value && e.currentTarget.value !== today() ? e.currentTarget.value : null, offset: null })} />
      </label>
      {every && (
      <label class="check">
        <input type="checkbox" data-testid="limits-any-day" checked={any} onChange={(e) => setQuery({ at: e.currentTarget.checked ? ANY : null, offset: null })} />
        {t("at_any")}
      </label>
      )}
    </div>
  );
}

/** Fields that have the focus keep their keys. */
const typing = (target: EventTarget | null): boolean => target instanceof HTMLInputElement || target instanceof HTMLSelectElement || target instanceof HTMLTextAreaElement;

function EntryRow({ entry: e }: { entry: StandardEntry }) {
  const [open, setOpen] = useState(false);
  const id = `entry-${e.place}`;
  const what = [entryProduct(e), entryConditions(e)].filter(Boolean);
  return (
    <>
      <tr class={`entry-row med-${e.medium}${e.in_force ? "" : " not-in-force"}${open ? " opened" : ""}`} data-testid="limit-row" data-standard={e.standard} data-subject={e.subject} onClick={() => setOpen(!open)} title={e.source}>
        <td class="entry-subject">
          <div class="entry-name">
          <button
            type="button"
            class="expander"
            aria-expanded={open}
            aria-controls={id}
            aria-label={`${t("expand")} ${pick(e.subject_zh, e.subject_en)} ${entryProduct(e)}`}
            onClick={(event) => {
              event.stopPropagation();
              setOpen(!open);
            }}
          >
            <Icon name="chevron" size={12} />
          </button>
          <div>
            <EntrySubject entry={e} />
          </div>
          </div>
        </td>
        <td class="entry-what">
          {what.length === 0 && <span class="dim">{t("cv_any")}</span>}
          {what.map((line) => (
            <span key={line} class="block">
              {line}
            </span>
          ))}
        </td>
        <td class="end">
          <EntryLimit entry={e} />
        </td>
        <td>
          <EntryStandard entry={e} />
        </td>
        <td>
          <EntryForce entry={e} now={coarse.value} />
        </td>
      </tr>
      {open && (
        <tr class="entry-more" id={id}>
          <td colSpan={COLUMNS}>
            <EntryDetail entry={e} />
          </td>
        </tr>
      )}
    </>
  );
}

/** ↓ and ↑ walk from the search field through the rows. */
function walk(event: KeyboardEvent, box: HTMLElement | null): void {
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  const rows = [...(box?.querySelectorAll<HTMLElement>(".entry-row .expander") ?? [])];
  const here = rows.indexOf(document.activeElement as HTMLElement);
  if (here < 0 && event.key === "ArrowUp") return;
  event.preventDefault();
  const next = rows[here + (event.key === "ArrowDown" ? 1 : -1)];
  if (next) next.focus();
  else if (event.key === "ArrowUp") document.querySelector<HTMLElement>("[data-testid=limits-search]")?.focus();
}

function Table({ rows, children }: { rows: readonly StandardEntry[]; children?: ComponentChildren }) {
  return (
    <table class="table sticky entries" data-testid="limits-table">
      <thead>
        <tr>
          <th class="entry-subject">{t("limit_subject")}</th>
          <th>{t("applies_to")}</th>
          <th class="end">{t("limit")}</th>
          <th>{t("limit_standard")}</th>
          <th>{t("in_force")}</th>
        </tr>
      </thead>
      <tbody>
        {rows.map((e) => (
          <EntryRow key={e.place} entry={e} />
        ))}
        {children}
      </tbody>
    </table>
  );
}

/** Names instead of nothing. */
function Near({ names, word, choose }: { names: readonly NearName[]; word: "did_you_mean" | "known_near"; choose: (name: NearName) => void }) {
  if (names.length === 0) return null;
  return (
    <p class="near" data-testid="near">
      <span class="dim">{t(word)}</span>
      {names.map((n) => (
        <button key={n.code + n.zh} type="button" class="chip" onClick={() => choose(n)}>
          {nearText(n)}
        </button>
      ))}
    </p>
  );
}

function Rail({ page, medium, standard }: { page: LimitPage; medium: string; standard: string }) {
  const all = page.standards.reduce((n, s) => n + s.rows, 0);
  return (
    <nav class="rail scroll" aria-label={t("standards")} data-testid="limits-standards">
      <button type="button" class="rail-row" aria-pressed={standard === ""} onClick={() => setQuery({ standard: null, offset: null })}>
        <b>{t("all_standards")}</b>
        <span class="num">{integer(all)}</span>
      </button>
      {MEDIA.filter((m) => (!medium || m === medium) && page.standards.some((s) => s.medium === m)).map((m) => (
        <section key={m} class={`rail-group med-${m}`} aria-label={term("med_", m)}>
          <h3>
            <i aria-hidden="true" />
            {term("med_", m)}
          </h3>
          {page.standards
            .filter((s) => s.medium === m)
            .map((s) => (
              <button key={s.standard} type="button" class="rail-row" aria-pressed={standard === s.standard} data-testid="limits-standard" data-standard={s.standard} title={s.title_zh} onClick={() => setQuery({ standard: standard === s.standard ? null : s.standard, offset: null })}>
                <span class="rail-name">
                  {standardName(s)}
                  {standardName(s) !== s.title_zh && <small lang="zh-CN">{s.title_zh}</small>}
                </span>
                <span class="num">
                  {integer(s.rows)}
                  {s.unverified > 0 && <small class="rail-open">{t("n_unverified", { n: integer(s.unverified) })}</small>}
                </span>
              </button>
            ))}
        </section>
      ))}
    </nav>
  );
}

function Pager({ page }: { page: LimitPage }) {
  if (page.total <= PAGE) return null;
  const go = (offset: number): void => {
    setQuery({ offset: offset > 0 ? String(offset) : null });
    document.querySelector(".entries-box")?.scrollTo(0, 0);
  };
  const last = Math.floor((page.total - 1) / PAGE) * PAGE;
  return (
    <div class="pager" data-testid="limits-pager">
      <button type="button" class="button" disabled={page.offset === 0} onClick={() => go(0)}>
        {t("page_first")}
      </button>
      <button type="button" class="button" disabled={page.offset === 0} data-testid="page-before" onClick={() => go(Math.max(0, page.offset - PAGE))}>
        {t("page_before")}
      </button>
      <span class="num">
        {t("page_of", { from: integer(page.offset + 1), to: integer(page.offset + page.limits.length), total: integer(page.total) })}
      </span>
      <button type="button" class="button" disabled={page.offset >= last} data-testid="page-next" onClick={() => go(page.offset + PAGE)}>
        {t("page_next")}
      </button>
      <button type="button" class="button" disabled={page.offset >= last} onClick={() => go(last)}>
        {t("page_last")}
      </button>
    </div>
  );
}

function Search() {
  const { query } = route.value;
  const [text, setText] = useTyped("q");
  const q = query.get("q") ?? "";
  const medium = query.get("medium") ?? "";
  const standard = query.get("standard") ?? "";
  const day = query.get("at") ?? "";
  const offset = Number(query.get("offset") ?? 0) || 0;
  const field = useRef<HTMLInputElement>(null);
  const box = useRef<HTMLDivElement>(null);
  const at = day === ANY ? ANY : day ? atOf(day) : "";
  const resource = useResource<LimitPage>(
    `limits/${q}/${medium}/${standard}/${at}/${offset}`,
    (signal) => api.limits({ q, medium, standard, at, offset, limit: PAGE }, signal),
    { keep: true },
  );
  useEffect(() => {
    const slash = (e: KeyboardEvent): void => {
      if (e.key !== "/" || typing(e.target) || e.ctrlKey || e.metaKey) return;
      e.preventDefault();
      field.current?.focus();
      field.current?.select();
    };
    addEventListener("keydown", slash);
    return () => removeEventListener("keydown", slash);
  }, []);
  const page = resource.data;
  const found = page ? Object.values(page.media).reduce((a, b) => a + b, 0) : null;
  const clear = (): void => {
    setText("");
    setQuery({ q: null, medium: null, standard: null, at: null, offset: null });
  };
  return (
    <div class="limits-search" onKeyDown={(e) => walk(e, box.current)}>
      <div class="limits-bar">
        <label class="search-field">
          <Icon name="search" size={18} />
          <span class="hidden">{t("search")}</span>
          <input ref={field} type="search" name="q" data-testid="limits-search" placeholder={t("limits_search_hint")} value={text} maxLength={100} autocomplete="off" spellcheck={false} onInput={(e) => setText(e.currentTarget.value)} onKeyDown={(e) => e.key === "Escape" && setText("")} />
          <kbd aria-hidden="true" title={t("search_key")}>
            /
          </kbd>
        </label>
        <DayChoice every />
      </div>
      <div class="chips" role="group" aria-label={t("medium")} data-testid="limits-media">
        <button type="button" class="chip" aria-pressed={medium === ""} onClick={() => setQuery({ medium: null, standard: null, offset: null })}>
          {t("all")} {found !== null && <span class="num">{integer(found)}</span>}
        </button>
        {MEDIA.map((m) => (
          <button key={m} type="button" class={`chip med-${m}`} aria-pressed={medium === m} disabled={page !== null && !page.media[m] && medium !== m} data-testid={`medium-${m}`} onClick={() => setQuery({ medium: medium === m ? null : m, standard: null, offset: null })}>
            <i aria-hidden="true" />
            {term("med_", m)} {page && <span class="num">{integer(page.media[m] ?? 0)}</span>}
          </button>
        ))}
        <span class="limits-found" role="status" data-testid="limits-total" data-total={page?.total}>
          {page && !resource.stale && t("rows_found", { n: integer(page.total) })}
        </span>
      </div>
      <Await {...resource}>
        {(p) => (
          <div class={`limits-body${resource.stale ? " stale" : ""}`} aria-busy={resource.stale}>
            <Rail page={p} medium={medium} standard={standard} />
            <div class="entries-side">
              <div class="table-wrap scroll entries-box" ref={box} role="region" aria-label={t("limits_page")} tabIndex={0}>
                {p.limits.length > 0 ? (
                  <Table rows={p.limits} />
                ) : (
                  <Empty title="limits_none_match" advice={day === ANY ? "limits_none_do" : "limits_none_day_do"}>
                    <Near names={p.nearest} word="did_you_mean" choose={(n) => setText(nearText(n))} />
                    <p class="near">
                      {day !== ANY && (
                        <button type="button" class="button" onClick={() => setQuery({ at: ANY, offset: null })}>
                          {t("search_any_day")}
                        </button>
                      )}
                      <button type="button" class="button" onClick={clear}>
                        {t("clear_filters")}
                      </button>
                    </p>
                  </Empty>
                )}
              </div>
              <Pager page={p} />
            </div>
          </div>
        )}
      </Await>
    </div>
  );
}

// ---------------------------------------------------------------- a plot

/** Rules that are settled, and those that wait for a condition. */
function Rule({ rule }: { rule: AppliedRule }) {
  const open = !rule.known;
  const only = open || rule.rows.length > 1 ? undefined : rule.rows[0];
  const keys = [...rule.missing, ...Object.keys(rule.wrong)];
  return (
    <tr class={`rule-row med-${rule.medium}${open ? " depends" : ""}`} data-testid="rule" data-subject={rule.subject} data-open={open}>
      <td class="entry-subject">
        <div>
          <EntrySubject entry={rule} />
        </div>
      </td>
      {only ? (
        <>
          <td class="entry-what">{entryConditions(only) || <span class="dim">{t("cv_any")}</span>}</td>
          <td class="end">
            <EntryLimit entry={only} />
          </td>
          <td>
            <EntryStandard entry={only} />
          </td>
        </>
      ) : (
        <td colSpan={3}>
          {open && (
          <p class="missing-line">
            {t("missing_conditions")}
            {keys.map((key) => (
              <b key={key} class="tag attention">
                {term("cond_", key)}
              </b>
            ))}
            <span class="dim">
              {t("could_be", { n: rule.rows.length })}
              {!rule.complete && ` · ${t("or_none")}`}
            </span>
          </p>
          )}
          <ul class={open ? "could-be" : "could-be all-apply"}>
            {rule.rows.map((e, i) => (
              <li key={e.limit_version + e.place + i}>
                <span>{entryConditions(e) || t("cv_any")}</span>
                <EntryLimit entry={e} />
                <span class="dim">
                  {standardName(e)} {!e.verified && <Unverified />}
                </span>
              </li>
            ))}
          </ul>
        </td>
      )}
    </tr>
  );
}

function PlotHead({ found: { plot, missing, measured } }: { found: PlotLimits }) {
  const known = Object.entries(plot.conditions).filter(([key]) => !(key === "ph" && "soil_ph" in measured));
  return (
    <div class="plot-head">
      <div>
        <h3>{plot.name}</h3>
        <p class="dim">{[plot.base_name, ...plot.devices].filter(Boolean).join(" · ")}</p>
      </div>
      <dl class="known">
        {known.map(([key, value]) => (
          <div key={key}>
            <dt>{term("cond_", key)}</dt>
            <dd>{conditionText({ [key]: value }).replace(`${term("cond_", key)} `, "")}</dd>
          </div>
        ))}
        {Object.entries(measured).map(([key, value]) => (
          <div key={key} class="measured">
            <dt>{term("cond_", key)}</dt>
            <dd>
              {number(value)} <small>{t("measured_now")}</small>
            </dd>
          </div>
        ))}
        {missing.map(({ key, rules }) => (
          <div key={key} class="unknown" data-testid="missing" data-key={key}>
            <dt>{term("cond_", key)}</dt>
            <dd>
              {t("not_registered")} <small>{t("n_rules_open", { n: rules })}</small>
            </dd>
          </div>
        ))}
      </dl>
    </div>
  );
}

function ForPlot() {
  const { query } = route.value;
  const plots = useResource<{ plots: PlotRow[] }>("plots", (signal) => api.plots(signal));
  const list = plots.data?.plots ?? [];
  const asked = query.get("plot") ?? "";
  const plot = asked || (list[0]?.id ?? "");
  const day = query.get("at") ?? "";
  const at = day && day !== ANY ? atOf(day) : "";
  const resource = useResource<InForce | null>(`in-force/plot/${plot}/${at}`, (signal) => (plot ? api.inForce({ plot, at }, signal) : Promise.resolve(null)), { keep: true });
  const only = query.get("open") === "1";
  if (plots.data && list.length === 0) return <Empty title="plots_empty" advice="plots_empty_do" />;
  return (
    <div class="limits-view">
      <div class="limits-bar">
        <Choice label="plot" value={plot} testid="limits-plot" options={[...(asked && !list.some((p) => p.id === asked) ? [[asked, asked] as const] : []), ...list.map((p) => [p.id, `${p.name}${p.base_name ? ` · ${p.base_name}` : ""}`] as const)]} onChange={(v) => setQuery({ plot: v })} />
        <DayChoice />
        <label class="check">
          <input type="checkbox" checked={only} onChange={(e) => setQuery({ open: e.currentTarget.checked ? "1" : null })} />
          {t("only_open_rules")}
        </label>
      </div>
      <Await {...(plots.error ? { ...resource, data: null, error: plots.error, reload: plots.reload } : resource)}>
        {(reply) => {
          const found = reply?.plots[0];
          if (!found) return <Empty title="plots_empty" advice="plots_empty_do" />;
          const rules = found.rules.filter((r) => !only || !r.known);
          return (
            <div class={`limits-plot${resource.stale ? " stale" : ""}`}>
              <PlotHead found={found} />
              <div class="table-wrap scroll entries-box" role="region" aria-label={t("view_plot")} tabIndex={0}>
                {rules.length === 0 ? (
                  <Empty title={only ? "no_open_rules" : "plot_no_rules"} advice={only ? undefined : "plot_no_rules_do"} />
                ) : (
                  <table class="table sticky entries" data-testid="plot-limits">
                    <thead>
                      <tr>
                        <th class="entry-subject">{t("limit_subject")}</th>
                        <th>{t("conditions")}</th>
                        <th class="end">{t("limit")}</th>
                        <th>{t("limit_standard")}</th>
                      </tr>
                    </thead>
                    {MEDIA.filter((m) => rules.some((r) => r.medium === m)).map((m) => (
                      <tbody key={m}>
                        <tr class={`medium-head med-${m}`}>
                          <th colSpan={4} scope="rowgroup">
                            <i aria-hidden="true" />
                            {term("med_", m)} <span class="num dim">{integer(rules.filter((r) => r.medium === m).length)}</span>
                          </th>
                        </tr>
                        {rules
                          .filter((r) => r.medium === m)
                          .map((r, i) => (
                            <Rule key={`${r.subject}${i}`} rule={r} />
                          ))}
                      </tbody>
                    ))}
                  </table>
                )}
              </div>
            </div>
          );
        }}
      </Await>
    </div>
  );
}

// ---------------------------------------------------------------- a sample

function NameField({ name, kind }: { name: "product" | "substance"; kind: "product" | "substance" }) {
  const [text, setText] = useTyped(name);
  const { data } = useResource<{ names: NearName[] }>(`names/${kind}/${text}`, (signal) => api.limitNames(kind, text, signal), { keep: true });
  const id = `names-${kind}`;
  return (
    <label class="name-field">
      <span>{t(kind === "product" ? "sample_product" : "sample_substance")}</span>
      <input type="search" name={name} data-testid={`sample-${name}`} list={id} value={text} maxLength={100} autocomplete="off" placeholder={t(kind === "product" ? "sample_product_hint" : "sample_substance_hint")} onInput={(e) => setText(e.currentTarget.value)} />
      <datalist id={id}>
        {(data?.names ?? []).map((n) => (
          <option key={n.code + n.zh} value={nearText(n)}>
            {n.zh === nearText(n) ? n.en : n.zh}
          </option>
        ))}
      </datalist>
    </label>
  );
}

function Card({ title, children, mark }: { title: Parameters<typeof t>[0]; children: ComponentChildren; mark?: string }) {
  return (
    <section class={`sample-card ${mark ?? ""}`} aria-label={t(title)}>
      <h3>{t(title)}</h3>
      {children}
    </section>
  );
}

function Lines({ entries }: { entries: readonly StandardEntry[] }) {
  return (
    <ul class="sample-lines">
      {entries.map((e, i) => (
        <li key={e.limit_version + e.place + i} title={e.source}>
          <EntryLimit entry={e} />
          <span class="sample-what">
            <b class="block">{pick(e.subject_zh, e.subject_en, e.subject)}</b>
            {[entryProduct(e), entryConditions(e)].filter(Boolean).join(" · ")}
          </span>
          <span>
            <EntryStandard entry={e} />
          </span>
          <span class="dim">
            <EntryForce entry={e} now={coarse.value} />
          </span>
        </li>
      ))}
    </ul>
  );
}

/** One limit, large: what it is, and by which name of the product it was found. */
function Residue({ r, product }: { r: ResidueRow; product: NearName }) {
  return (
    <>
      <p class="mrl-limit" data-testid="sample-mrl">
        <EntryLimit entry={r.limit} />
        <span class="mrl-path">
          {nearText(product)}
          <span class="mrl-arrow" aria-hidden="true">
            →
          </span>
          <b data-testid="matched">{pick(r.matched_zh, r.matched_en)}</b>
          <span class={`tag ${r.matched_level === "group" ? "attention" : "flag"}`}>{t(r.matched_level === "commodity" ? "match_commodity" : "match_group")}</span>
        </span>
      </p>
      {r.fallback_zh && <p class="fallback">{pick(r.fallback_zh, r.fallback_en)}</p>}
      <div class="mrl-standard">
        <EntryStandard entry={r.limit} /> <EntryForce entry={r.limit} now={coarse.value} />
      </div>
      {r.definition_zh && (
        <p class="definition">
          <span class="dim">
            {t("residue_definition")}
            {t("colon")}
          </span>
          <span lang="zh-CN">{r.definition_zh}</span>
          {r.components.length > 1 && <small class="block dim">{t(r.is_sum ? "definition_sum" : "definition_members", { names: r.components.map(nearText).join(" + ") })}</small>}
        </p>
      )}
      <EntryDetail entry={r.limit} />
    </>
  );
}

/** Every limit on one product. */
function Residues({ rows }: { rows: readonly ResidueRow[] }) {
  return (
    <div class="table-wrap residues">
      <table class="table entries" data-testid="sample-residues">
        <thead>
          <tr>
            <th>{t("sample_substance")}</th>
            <th class="end">{t("limit")}</th>
            <th>{t("matched_by")}</th>
            <th>{t("limit_standard")}</th>
          </tr>
        </thead>
        <tbody>
          {rows.map((r) => (
            <tr key={r.substance.code} class={`med-${r.limit.medium}`}>
              <td>
                <button type="button" class="link" onClick={() => setQuery({ substance: nearText(r.substance) })}>
                  {nearText(r.substance)}
                </button>
              </td>
              <td class="end">
                <EntryLimit entry={r.limit} />
              </td>
              <td>
                {pick(r.matched_zh, r.matched_en)} {r.matched_level === "group" && <small class="dim">{t("match_group")}</small>}
              </td>
              <td>
                <EntryStandard entry={r.limit} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function SampleReply({ s, asked }: { s: SampleLimits; asked: string }) {
  const one = s.substance !== null ? s.residues[0] : undefined;
  return (
    <div class="sample-cards scroll" tabIndex={0} role="region" aria-label={t("view_sample")} data-testid="sample-limits">
      {!s.product && (
        <Card title="product_unknown" mark="warn">
          <p>{t("product_unknown_do")}</p>
          <Near names={s.near_products} word="known_near" choose={(n) => setQuery({ product: nearText(n) })} />
        </Card>
      )}
      {asked && !s.substance && (
        <Card title="substance_unknown" mark="warn">
          <p>{t("substance_unknown_do")}</p>
          <Near names={s.near_substances} word="known_near" choose={(n) => setQuery({ substance: nearText(n) })} />
        </Card>
      )}
      {s.product && s.substance && (
        <Card title="sample_mrl" mark="card-mrl">
          {one ? <Residue r={one} product={s.product} /> : <p data-testid="sample-none">{pick(s.reason_zh, s.reason_en)}</p>}
          {!one && <p class="dim">{t("sample_no_mrl")}</p>}
        </Card>
      )}
      {s.product && !asked && (
        <Card title="sample_all" mark="wide">
          {s.residues.length > 0 ? <Residues rows={s.residues} /> : <p>{t("sample_no_mrl")}</p>}
        </Card>
      )}
      {s.bans.length > 0 && (
        <Card title="sample_bans" mark="ban">
          <p>{t("sample_bans_do")}</p>
          <Lines entries={s.bans.slice(0, MOST_BANS).map((b) => b.entry)} />
          {s.bans.some((b) => b.reach === "open") && <p class="fallback">{t("ban_open")}</p>}
          {s.bans.length > MOST_BANS && <p class="dim">{t("and_more", { n: s.bans.length - MOST_BANS })}</p>}
        </Card>
      )}
      {s.methods.length > 0 && (
        <Card title="sample_cut_offs">
          <p>{t("sample_cut_offs_do")}</p>
          <Lines entries={s.methods} />
        </Card>
      )}
    </div>
  );
}

function ForSample() {
  const { query } = route.value;
  const product = query.get("product") ?? "";
  const substance = query.get("substance") ?? "";
  const day = query.get("at") ?? "";
  const at = day && day !== ANY ? atOf(day) : "";
  const ready = product !== "";
  const resource = useResource<InForce | null>(
    `in-force/sample/${product}/${substance}/${at}`,
    (signal) => (ready ? api.inForce({ product, substance, at }, signal) : Promise.resolve(null)),
    { keep: true },
  );
  return (
    <div class="limits-view">
      <div class="limits-bar">
        <NameField name="product" kind="product" />
        <NameField name="substance" kind="substance" />
        <DayChoice />
      </div>
      <Await {...resource}>
        {(reply) => (ready && reply?.sample ? <div class={resource.stale ? "sample-box stale" : "sample-box"}><SampleReply s={reply.sample} asked={substance} /></div> : <Empty title="sample_empty" advice="sample_empty_do" />)}
      </Await>
    </div>
  );
}

export function LimitsPage() {
  const wanted = route.value.query.get("view");
  const view: View = VIEWS.find((v) => v === wanted) ?? "search";
  return (
    <div class="page limits-page">
      <h1 class="hidden">{t("limits_page")}</h1>
      <Panel
        title="limits_page"
        class="fill"
        note={t(`view_${view}_note`)}
        tools={
          <div class="segments" role="group" aria-label={t("view")} data-testid="limits-views">
            {VIEWS.map((v) => (
              <button key={v} type="button" aria-pressed={v === view} data-testid={`view-${v}`} onClick={() => setQuery({ view: v === "search" ? null : v })}>
                {t(`view_${v}`)}
              </button>
            ))}
          </div>
        }
      >
        {view === "search" && <Search />}
        {view === "plot" && <ForPlot />}
        {view === "sample" && <ForSample />}
      </Panel>
    </div>
  );
}

