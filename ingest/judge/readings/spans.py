"""Which limits held for a series over time, for the trend: they move with the edition and with the soil's pH."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from drivers import indicators
from ingest.judge.catalogue.limits import FOREVER_MS, PH, edge, select
from ingest.judge.readings import conditions
from ingest.judge.readings.companions import SOIL_PH, VALIDITY_MS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import sqlalchemy as sa

    from ingest.batch import Series
    from ingest.judge.catalogue.catalogue import Catalogue
    from ingest.judge.catalogue.limits import Limit
    from ingest.judge.readings.companions import Companions
    from ingest.judge.readings.compiled import Floats, Ints
    from ingest.registry.context import PlotContext

_HOUR_MS = 3_600_000
_AVERAGING_ZH = {"weekly mean": "周平均"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSpan:
    """One limit that held in ``from_ms`` ≤ t < ``to_ms``; ``limit`` is in the indicator's catalogue unit.

    ``note`` says in ``中文 | English`` what else the limit asks for, blank when the value alone decides.
    """

    standard: str
    clause: str
    clause_en: str
    level: str
    comparator: str
    limit: float
    unit: str
    verified: bool
    conditions: dict[str, str | float | None]
    from_ms: int
    to_ms: int
    note: str = ""


def spans(
    catalogue: Catalogue,
    connection: sa.Connection,
    companions: Companions,
    series: Series,
    plot: PlotContext | None,
    start_ms: int,
    end_ms: int,
) -> list[LimitSpan]:
    """Return the spans in which exactly one row of a rule is known to apply, by rule and time."""
    if end_ms <= start_ms:
        return []
    known = conditions.of_plot(plot)
    rules = catalogue.rules.get(series.indicator, ())
    rows = [row for rule in rules for row in rule]
    starts, ph = np.array([start_ms], np.int64), np.array([known.known.get(PH, math.nan)], float)
    if plot is not None and plot.plot_id and any(row.band is not None for row in rows):
        times, values = companions.series(connection, plot.plot_id, SOIL_PH, start_ms, end_ms)
        starts, ph = _ph_steps(times, values, float(ph[0]), start_ms, end_ms)
    edges = sorted({b for row in rows if row.band for b in (row.band.low, row.band.high) if b})
    band = np.where(np.isnan(ph), -1, np.searchsorted(np.array([edge(b) for b in edges]), ph))
    moved = np.flatnonzero(np.diff(band, prepend=-2))
    starts, ph = starts[moved], ph[moved]
    dates = {t for row in rows for t in (row.from_ms, row.to_ms) if start_ms < t < end_ms}
    cuts = np.array(sorted({*starts.tolist(), *dates}), np.int64)
    ph = ph[np.searchsorted(starts, cuts, side="right") - 1]
    found: list[LimitSpan] = []
    for rule in rules:
        if any(key in known.wrong for row in rule for key in row.condition_keys()):
            continue
        found += _spans_of_rule(rule, known.known, cuts, ph, end_ms)
    return found


def _ph_steps(
    times: Ints, values: Floats, registered: float, start_ms: int, end_ms: int
) -> tuple[Ints, Floats]:
    """Return where the pH in use changes within the range, and its value from there on, each (n,)."""
    ends = np.minimum(np.append(times[1:], FOREVER_MS), times + VALIDITY_MS)
    gaps = ends < np.append(times[1:], FOREVER_MS)  # after these the registered pH is used
    at = np.concatenate([[start_ms - VALIDITY_MS - 1], times, ends[gaps]])
    ph = np.concatenate([[registered], values, np.full(int(gaps.sum()), registered)])
    order = np.argsort(at, kind="stable")
    at, ph = at[order], ph[order]
    first = int(np.searchsorted(at, start_ms, side="right")) - 1
    at, ph = at[first:], ph[first:]
    at[0] = start_ms
    return at[at < end_ms], ph[at < end_ms]


def _spans_of_rule(
    rule: Sequence[Limit], known: Mapping[str, str | float], cuts: Ints, ph: Floats, end_ms: int
) -> list[LimitSpan]:
    """Return the spans of one rule; neighbours of the same row are one span."""
    runs: list[tuple[int, Limit | None, float]] = []
    for cut, value in zip(cuts.tolist(), ph.tolist(), strict=True):
        row = _only_row(rule, known, value, cut)
        if not runs or runs[-1][1] is not row:
            runs.append((cut, row, value))
    ends = [start for start, _, _ in runs[1:]] + [end_ms]
    return [
        _span(row, known, value, start, end)
        for (start, row, value), end in zip(runs, ends, strict=True)
        if row is not None
    ]


def _only_row(
    rule: Sequence[Limit], known: Mapping[str, str | float], ph: float, at_ms: int
) -> Limit | None:
    """Return the row that applies, None when none does or several could."""
    case = {**known, PH: ph}
    if math.isnan(ph):
        del case[PH]
    selection = select(rule, case, at_ms)
    if selection is None or not selection.complete or len(selection.rows) > 1:
        return None
    return selection.rows[0]


def _span(
    row: Limit, known: Mapping[str, str | float], ph: float, start_ms: int, end_ms: int
) -> LimitSpan:
    picked: dict[str, str | float | None] = {key: known.get(key) for key in row.where}
    if row.band is not None:
        picked[PH] = ph
    return LimitSpan(
        standard=row.standard,
        clause=row.clause,
        clause_en=row.clause_en,
        level=row.level,
        comparator=row.comparator.value,
        limit=row.threshold,
        unit=indicators.lookup(row.indicator).unit,
        verified=row.verified,
        conditions=picked,
        from_ms=start_ms,
        to_ms=end_ms,
        note=note(row),
    )


def note(row: Limit) -> str:
    """Return what ``row`` asks for beside its limit as ``中文 | English``, blank for nothing."""
    zh: list[str] = []
    en: list[str] = []
    if row.duration is not None:
        window, least = row.duration.window_ms / _HOUR_MS, row.duration.least_ms / _HOUR_MS
        side_zh, side = ("高于", "above") if row.comparator.from_below else ("低于", "below")
        zh.append(f"连续 {window:g} h 中至少 {least:g} h {side_zh}此值")
        en.append(f"{side} this for at least {least:g} h of any {window:g} h")
    if row.unless is not None:
        other = indicators.lookup(row.unless.indicator)
        zh.append(f"或{other.zh} ≥ {row.unless.minimum:g} {other.unit}")
        en.append(f"or {other.en} ≥ {row.unless.minimum:g} {other.unit}")
    if row.averaging:
        zh.append(_AVERAGING_ZH.get(row.averaging, row.averaging))
        en.append(row.averaging)
    return f"{'；'.join(zh)} | {'; '.join(en)}" if en else ""
