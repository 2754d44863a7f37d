/** One clock of the law: what is due when, how much is left, and which days count. */

import { useState } from "preact/hooks";

import type { LawClock } from "../../api/types";
import { second } from "../../clock";
import { stamp } from "../../format";
import { lang, pick, t, term } from "../../i18n";

const HOUR_S = 3600;
const DAY_S = 86_400;
const URGENT_S = DAY_S;

/** A span as people count it: 3 天 5 小时, 2 h 05 min 09 s. */
export function spanText(seconds: number, zh: boolean): string {
  const s = Math.floor(Math.abs(seconds));
  const days = Math.floor(s / DAY_S);
  const hours = Math.floor((s % DAY_S) / HOUR_S);
  const minutes = Math.floor((s % HOUR_S) / 60);
  if (days > 0) return zh ? `${days} 天 ${hours} 小时` : `${days} d ${hours} h`;
  const two = (n: number): string => String(n).padStart(2, "0");
  if (hours > 0) return zh ? `${hours} 小时 ${two(minutes)} 分` : `${hours} h ${two(minutes)} min`;
  return zh ? `${minutes} 分 ${two(s % 60)} 秒` : `${minutes} min ${two(s % 60)} s`;
}

function Left({ clock }: { clock: LawClock }) {
  if (clock.due_at === null) return <b class="clock-left">{pick(clock.message_zh, clock.message_en)}</b>;
  if (clock.state !== "running" && clock.state !== "overdue") return null;
  const left = (Date.parse(clock.due_at) - second.value) / 1000;
  const text = spanText(left, lang.value === "zh");
  const class_ = left < 0 ? "over" : left < URGENT_S ? "urgent" : "";
  return (
    <b class={`clock-left num ${class_}`} role="timer">
      {t(left < 0 ? "clock_over" : "clock_left", { time: text })}
    </b>
  );
}

function Days({ clock }: { clock: LawClock }) {
  return (
    <ol class="clock-days" data-testid="clock-days">
      {clock.days.map((day) => {
        const reason = pick(day.reason_zh, day.reason_en);
        const made_up = day.counted && reason !== "";
        const [, month = "", date = ""] = day.date.split("-");
        return (
          <li
            key={day.date}
            class={day.counted ? (made_up ? "worked made-up" : "worked") : "off"}
            data-counted={day.counted}
            title={[day.date, reason, day.number === null ? "" : t("clock_day_no", { n: day.number })].filter(Boolean).join(" · ")}
          >
            <span class="num">
              {Number(month)}/{Number(date)}
            </span>
            <b class="num">{day.number ?? "—"}</b>
            <small>{reason}</small>
          </li>
        );
      })}
    </ol>
  );
}

export function Clock({ clock }: { clock: LawClock }) {
  const [open, setOpen] = useState(false);
  return (
    <li class={`law-clock clock-${clock.state}`} data-testid="clock" data-clock={clock.name} data-state={clock.state}>
      <p class="clock-line">
        <b>{pick(clock.title_zh, clock.title_en)}</b>
        <span class={`tag clock-tag-${clock.state}`}>{t(`clock_${clock.state}`)}</span>
        <Left clock={clock} />
      </p>
      <p class="clock-facts dim">
        <span>
          {t("clock_started")} <span class="num">{stamp(Date.parse(clock.started_at))}</span>
        </span>
        {clock.due_at && (
          <span>
            {t("clock_due")} <b class="num clock-due">{stamp(Date.parse(clock.due_at))}</b>
          </span>
        )}
        {clock.ended_at && (
          <span>
            {t("clock_ended")} <span class="num">{stamp(Date.parse(clock.ended_at))}</span>
          </span>
        )}
        <span>{term("who_", clock.who)}</span>
        <span>{clock.basis}</span>
        {clock.days.length > 0 && (
          <button type="button" class="link" aria-expanded={open} data-testid={`days-${clock.name}`} onClick={() => setOpen(!open)}>
            {t("clock_days")}
          </button>
        )}
      </p>
      {clock.due_at !== null && clock.missing_year !== null && <p class="clock-missing">{pick(clock.message_zh, clock.message_en)}</p>}
      {open && <Days clock={clock} />}
    </li>
  );
}
