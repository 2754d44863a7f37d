/** The fields of what must or may be said with a decision or a step of the case. */

import type { Need } from "../../api/types";
import { pick, t, term } from "../../i18n";

/** Long texts by the last part of their name. */
const LONG: ReadonlySet<string> = new Set(["reason", "note"]);

function Input({ need, value, set }: { need: Need; value: string; set: (value: string) => void }) {
  if (need.kind !== "text") {
    const choices = need.kind === "yes_no" ? ["yes", "no"] : need.choices;
    return (
      <select name={need.field} required={need.required} value={value} onChange={(e) => set(e.currentTarget.value)}>
        <option value="">{t("choose")}</option>
        {choices.map((choice) => (
          <option key={choice} value={choice}>
            {need.kind === "yes_no" ? t(choice === "yes" ? "yes" : "no") : term("o_", choice)}
          </option>
        ))}
      </select>
    );
  }
  const shared = { name: need.field, required: need.required, value };
  return LONG.has(need.field) ? (
    <textarea {...shared} rows={2} maxLength={2000} onInput={(e) => set(e.currentTarget.value)} />
  ) : (
    <input {...shared} maxLength={80} autocomplete="off" onInput={(e) => set(e.currentTarget.value)} />
  );
}

export function Needs({ needs, said, set }: { needs: Need[]; said: Record<string, string>; set: (field: string, value: string) => void }) {
  return (
    <>
      {needs.map((need) => (
        <label key={need.field} class="field">
          <span>
            {pick(need.title_zh, need.title_en)} {!need.required && <em class="dim">{t("optional")}</em>}
          </span>
          <Input need={need} value={said[need.field] ?? ""} set={(value) => set(need.field, value)} />
        </label>
      ))}
    </>
  );
}
