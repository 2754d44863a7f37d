/** Times in which a device is worked on: set, seen, cancelled. Their readings alarm nobody. */

import { useState } from "preact/hooks";

import { api } from "../api/client";
import type { DeviceWindow, StationDetail } from "../api/types";
import { coarse } from "../clock";
import { duration, shanghai, stamp } from "../format";
import { t, term } from "../i18n";
import { WriteForm } from "./key_form";
import { Await, Empty, Panel } from "./parts";
import type { Resource } from "./resource";

const HOUR_MS = 3_600_000;
const KINDS = ["maintenance", "calibration"] as const;

/** What a field of date and time shows for a UTC millisecond, Beijing time. */
function fieldText(ms: number): string {
  const p = shanghai(ms);
  return `${p.day}T${p.minute}`;
}

const fromField = (text: string): string => `${text}:00+08:00`;

function spanText(w: DeviceWindow): string {
  const [a, b] = [shanghai(w.from_ms), shanghai(w.to_ms)];
  return `${a.day} ${a.minute} – ${a.day === b.day ? b.minute : `${b.day} ${b.minute}`}`;
}

function AddForm({ s, done }: { s: StationDetail; done: () => void }) {
  const start = Math.ceil(Date.now() / 60_000) * 60_000;
  const [device, setDevice] = useState(s.devices[0]?.path ?? "");
  const [kind, setKind] = useState<(typeof KINDS)[number]>("maintenance");
  const [from, setFrom] = useState(fieldText(start));
  const [to, setTo] = useState(fieldText(start + 2 * HOUR_MS));
  const [note, setNote] = useState("");
  const wrong = from !== "" && to !== "" && to <= from;
  return (
    <WriteForm action="window_add" testid="window-form" actor run={(key, actor) => api.setWindow(s.code, key, { device, kind, from: fromField(from), to: fromField(to), note, actor })} done={done}>
      <div class="window-fields">
        <label class="field">
          <span>{t("window_device")}</span>
          <select name="device" value={device} required onChange={(e) => setDevice(e.currentTarget.value)}>
            {s.devices.map((d) => (
              <option key={d.path} value={d.path}>
                {d.name && d.name !== d.path ? `${d.name} (${d.path})` : d.path}
              </option>
            ))}
          </select>
        </label>
        <div class="field" role="group" aria-label={t("window_kind")}>
          <span>{t("window_kind")}</span>
          <div class="segments">
            {KINDS.map((k) => (
              <button key={k} type="button" aria-pressed={kind === k} data-testid={`window-${k}`} onClick={() => setKind(k)}>
                {term("wk_", k)}
              </button>
            ))}
          </div>
        </div>
        <label class="field">
          <span>{t("window_from")}</span>
          <input type="datetime-local" name="from" required value={from} onInput={(e) => setFrom(e.currentTarget.value)} />
        </label>
        <label class="field">
          <span>{t("window_to")}</span>
          <input
            type="datetime-local"
            name="to"
            required
            value={to}
            min={from}
            aria-invalid={wrong}
            onInput={(e) => {
              e.currentTarget.setCustomValidity(e.currentTarget.value <= from ? t("window_order") : "");
              setTo(e.currentTarget.value);
            }}
          />
          {wrong && <small class="form-error">{t("window_order")}</small>}
        </label>
        <label class="field window-memo">
          <span>{t("window_memo")}</span>
          <input name="note" maxLength={500} value={note} onInput={(e) => setNote(e.currentTarget.value)} />
        </label>
      </div>
    </WriteForm>
  );
}

function Row({ s, w, cancelling, choose, reload }: { s: StationDetail; w: DeviceWindow; cancelling: boolean; choose: (open: boolean) => void; reload: () => void }) {
  const left = w.state === "active" ? w.to_ms - coarse.value : w.state === "upcoming" ? w.from_ms - coarse.value : 0;
  const open = w.state === "active" || w.state === "upcoming";
  return (
    <li class={`window window-${w.state}`} data-testid="window" data-state={w.state} data-kind={w.kind}>
      <span class="window-state">
        <i aria-hidden="true" />
        {term("ws_", w.state)}
      </span>
      <b>{term("wk_", w.kind)}</b>
      <span>
        {w.device_name || w.device} {w.device_name && <small class="mono dim">{w.device}</small>}
      </span>
      <span class="num window-span">
        {spanText(w)}
        {left > 0 && (
          <small class="dim">
            {" "}
            {w.state === "active" ? t("window_left", { d: duration(left) }) : t("window_in", { d: duration(left) })}
          </small>
        )}
      </span>
      <span class="window-note" title={t("set_by", { actor: w.set_by, time: stamp(w.set_ms) })}>
        {w.note} <small class="dim">{w.set_by}</small>
      </span>
      {open && (
        <button type="button" class="button" aria-expanded={cancelling} data-testid="window-cancel" onClick={() => choose(!cancelling)}>
          {t("window_cancel_short")}
        </button>
      )}
      {open && cancelling && (
        <WriteForm
          action="window_cancel"
          testid="window-cancel-form"
          danger
          run={(key) => api.cancelWindow(s.code, key, w.id)}
          done={() => {
            choose(false);
            reload();
          }}
        >
          <p>{t("window_cancel_do")}</p>
        </WriteForm>
      )}
    </li>
  );
}

export function Windows({ s, resource }: { s: StationDetail; resource: Resource<{ windows: DeviceWindow[] }> }) {
  const [adding, setAdding] = useState(false);
  const [cancelling, setCancelling] = useState("");
  const [past, setPast] = useState(false);
  return (
    <Panel
      title="windows"
      class="station-windows"
      note={t("windows_note")}
      tools={
        s.devices.length > 0 && (
          <button type="button" class="button small" aria-expanded={adding} data-testid="window-add" onClick={() => setAdding(!adding)}>
            {t("window_add")}
          </button>
        )
      }
    >
      {adding && (
        <AddForm
          s={s}
          done={() => {
            setAdding(false);
            resource.reload();
          }}
        />
      )}
      <Await {...resource}>
        {({ windows }) => {
          const now = windows.filter((w) => w.state === "active" || w.state === "upcoming");
          const over = windows.filter((w) => w.state === "past" || w.state === "cancelled");
          const shown = past ? [...now, ...over] : now;
          if (windows.length === 0 && s.devices.length === 0) return <Empty title="windows_empty" />;
          return (
            <>
              {now.length === 0 && (
                <p class="quiet-ok">
                  {t("windows_empty")}
                  {t("colon")}
                  {t("windows_empty_do")}
                </p>
              )}
              {shown.length > 0 && (
                <ol class="windows scroll" tabIndex={0} aria-label={t("windows")}>
                  {shown.map((w) => (
                    <Row key={w.id} s={s} w={w} cancelling={cancelling === w.id} choose={(open) => setCancelling(open ? w.id : "")} reload={resource.reload} />
                  ))}
                </ol>
              )}
              {over.length > 0 && (
                <button type="button" class="link windows-past" aria-expanded={past} data-testid="windows-past" onClick={() => setPast(!past)}>
                  {t(past ? "keys_hidden" : "windows_past", { n: over.length })}
                </button>
              )}
            </>
          );
        }}
      </Await>
    </Panel>
  );
}
