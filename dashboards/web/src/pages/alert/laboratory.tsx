/** Laboratory reports of the sample: what was entered and what it says of the alert; and the form to enter one. */

import { useEffect, useRef, useState } from "preact/hooks";

import { api } from "../../api/client";
import type { AlertDetail, LaboratoryReport, ResultEntry } from "../../api/types";
import { stamp } from "../../format";
import { pick, t, term } from "../../i18n";
import { WriteForm } from "../../parts/key_form";
import { Await, Empty, Panel, When } from "../../parts/parts";
import { useResource } from "../../parts/resource";

const UNITS = ["mg/kg", "ug/kg", "mg/L", "ug/L", "g/100g", "%"];
const MAX_RESULTS = 40;
const OPEN: ReadonlySet<string> = new Set(["suspected", "retest_ordered", "confirmed"]);
const FIELDS = ["laboratory", "report_no", "method", "reported_at", "received_at"] as const;
type Fields = Record<(typeof FIELDS)[number], string>;

function Results({ rows, set }: { rows: ResultEntry[]; set: (rows: ResultEntry[]) => void }) {
  const change = (at: number, part: Partial<ResultEntry>): void => set(rows.map((row, n) => (n === at ? { ...row, ...part } : row)));
  return (
    <fieldset class="lab-results">
      <legend>{t("lab_results")}</legend>
      {rows.map((row, n) => (
        <div key={n} class="lab-row" data-testid="lab-row">
          <label>
            <span>{t("lab_indicator")}</span>
            <input name="indicator" required maxLength={120} value={row.indicator} onInput={(e) => change(n, { indicator: e.currentTarget.value })} />
          </label>
          <label title={t("lab_value_note")}>
            <span>{t("lab_value")}</span>
            <input name="value" required maxLength={40} value={row.value} onInput={(e) => change(n, { value: e.currentTarget.value })} />
          </label>
          <label>
            <span>{t("lab_unit")}</span>
            <select name="unit" required value={row.unit} onChange={(e) => change(n, { unit: e.currentTarget.value })}>
              {UNITS.map((unit) => (
                <option key={unit}>{unit}</option>
              ))}
            </select>
          </label>
          {rows.length > 1 && (
            <button type="button" class="link" onClick={() => set(rows.filter((_, other) => other !== n))}>
              {t("lab_remove")}
            </button>
          )}
        </div>
      ))}
      {rows.length < MAX_RESULTS && (
        <button type="button" class="link" data-testid="lab-add" onClick={() => set([...rows, { indicator: "", value: "", unit: "mg/kg" }])}>
          {t("lab_add")}
        </button>
      )}
      <small class="dim block">{t("lab_value_note")}</small>
    </fieldset>
  );
}

function Text(props: { name: keyof Fields; label: "lab_name" | "lab_report_no" | "lab_method" | "lab_reported" | "lab_received"; fields: Fields; set: (fields: Fields) => void; date?: boolean; optional?: boolean }) {
  const shared = {
    name: props.name,
    required: !props.optional,
    value: props.fields[props.name],
    onInput: (e: { currentTarget: HTMLInputElement }) => props.set({ ...props.fields, [props.name]: e.currentTarget.value }),
  };
  return (
    <label class="field">
      <span>
        {t(props.label)} {props.optional && <em class="dim">{t("optional")}</em>}
      </span>
      {props.date ? <input {...shared} type="date" /> : <input {...shared} maxLength={120} autocomplete="off" />}
    </label>
  );
}

function Entry({ a, done }: { a: AlertDetail; done: () => void }) {
  const [fields, setFields] = useState<Fields>({ laboratory: a.retest.laboratory ?? "", report_no: "", method: "", reported_at: "", received_at: "" });
  const [complete, setComplete] = useState(false);
  const [rows, setRows] = useState<ResultEntry[]>([{ indicator: a.indicator, value: "", unit: a.unit || "mg/kg" }]);
  const run = (key: string, actor: string): Promise<unknown> =>
    api.enterReport(key, {
      ...fields,
      station: a.station,
      sample_no: a.sample_no,
      complete,
      alert_id: a.alert_id,
      product_name: a.product_name,
      results: rows,
      entered_by: actor,
      source: "page",
      note: "",
    });
  const shared = { fields, set: setFields };
  return (
    <WriteForm action="laboratory_enter" testid="laboratory-form" actor run={run} done={done}>
      <div class="lab-fields">
        <Text name="laboratory" label="lab_name" {...shared} />
        <Text name="report_no" label="lab_report_no" {...shared} />
        <Text name="method" label="lab_method" {...shared} />
        <Text name="reported_at" label="lab_reported" date {...shared} />
        <Text name="received_at" label="lab_received" date optional {...shared} />
      </div>
      <small class="dim">{t("lab_method_note")}</small>
      <Results rows={rows} set={setRows} />
      <label class="check">
        <input name="complete" type="checkbox" checked={complete} onChange={(e) => setComplete(e.currentTarget.checked)} />
        {t("lab_complete")}
      </label>
    </WriteForm>
  );
}

function Report({ r, a }: { r: LaboratoryReport; a: AlertDetail }) {
  const pairing = r.pairing.find((p) => p.alert_id === a.alert_id);
  return (
    <li data-testid="laboratory-report" data-state={r.state}>
      <p>
        <b>{r.laboratory}</b> <span class="mono">{r.report_no}</span>
        <span class={`tag lab-${pairing?.result ?? r.state}`}>{pairing ? t(`lab_says_${pairing.result}`) : t(`lab_state_${r.state}`)}</span>
        <time class="num dim">{stamp(r.reported_ms).slice(0, 10)}</time>
      </p>
      <p class="dim">
        {r.method} · {t("lab_by", { actor: r.entered_by })} <When ms={r.entered_ms} />
      </p>
      {pairing?.reason && <p class="form-error">{pairing.reason}</p>}
      {pairing && pairing.missing.length > 0 && <p class="mono dim wrap">{pairing.missing.join(" ")}</p>}
    </li>
  );
}

export function Laboratory({ a, round, changed }: { a: AlertDetail; round: number; changed: () => void }) {
  const resource = useResource<{ reports: LaboratoryReport[] }>(
    `laboratory/${a.alert_id}`,
    (signal) => api.laboratoryReports({ station: a.station, sample_no: a.sample_no }, signal),
    { poll_ms: 15_000, keep: true },
  );
  const [entering, setEntering] = useState(false);
  const first = useRef(true);
  useEffect(() => {
    if (first.current) first.current = false;
    else resource.reload();
  }, [round]);
  return (
    <Panel
      title="laboratory"
      testid="laboratory"
      note={pick(a.indicator_zh, a.indicator_en, term("k_", a.kind))}
      tools={
        OPEN.has(a.state) && (
          <button type="button" class="button" aria-expanded={entering} data-testid="laboratory-open" onClick={() => setEntering(!entering)}>
            {t("laboratory_enter")}
          </button>
        )
      }
    >
      {entering && (
        <Entry
          a={a}
          done={() => {
            setEntering(false);
            resource.reload();
            changed();
          }}
        />
      )}
      <Await {...resource}>
        {({ reports }) =>
          reports.length === 0 ? (
            !entering && <Empty title="laboratory_none" />
          ) : (
            <ul class="lab-reports">
              {reports.map((r) => (
                <Report key={r.report_id} r={r} a={a} />
              ))}
            </ul>
          )
        }
      </Await>
    </Panel>
  );
}
