/** A value against its limit on one scale. */

import { direction, limitText, withUnit } from "../format";
import { t } from "../i18n";

interface Props {
  value: number;
  /** The value as text; else with its unit as it is. */
  shown?: string;
  unit: string;
  limit: number;
  comparator: string;
  exceeded: boolean | null;
  ratio: number | null;
  small?: boolean;
}

const HEADROOM = 1.18;

export function LimitBar({ value, shown, unit, limit, comparator, exceeded, ratio, small = false }: Props) {
  const top = Math.max(value, limit) * HEADROOM;
  if (!(top > 0) || value < 0 || limit < 0) return null;
  const at = (v: number): number => Math.min(100, (v / top) * 100);
  const bad = exceeded ?? (direction(comparator) === "min" ? value < limit : value > limit);
  const times = ratio ?? (limit > 0 ? value / limit : null);
  const text =
    times === null ? "" : times >= 1 ? t("ratio", { x: Number(times.toPrecision(3)) }) : t("ratio_below", { x: Number((times * 100).toPrecision(3)) });
  const label = `${withUnit(value, unit)}, ${limitText({ comparator, limit, unit })}`;
  if (small) {
    return (
      <svg class="limit-bar-small" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label={label}>
        <rect class="track" x="0" y="3" width="100" height="4" />
        <rect class={bad ? "bar bad" : "bar"} x="0" y="3" width={at(value)} height="4" />
        <rect class="tick" x={at(limit) - 0.6} y="0" width="1.2" height="10" />
      </svg>
    );
  }
  return (
    <figure class="limit-bar" role="img" aria-label={label}>
      <svg viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true">
        <rect class="track" x="0" y="2" width="100" height="8" />
        <rect class={bad ? "bar bad" : "bar"} x="0" y="2" width={at(value)} height="8" />
        <rect class="tick" x={at(limit) - 0.2} y="0" width="0.5" height="12" />
      </svg>
      <figcaption>
        <span class={bad ? "limit-bar-value bad" : "limit-bar-value"}>{shown ?? withUnit(value, unit)}</span>
        <span>{text}</span>
        <span class="limit-bar-limit">
          {t("limit")} {limitText({ comparator, limit, unit })}
        </span>
      </figcaption>
    </figure>
  );
}
