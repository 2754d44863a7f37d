"""The verdict on one reading: every limit compared, and why when none can be said to apply."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from drivers.records import Verdict
from ingest.judge.catalogue.limits import edge, select
from ingest.judge.findings import Breach, Citation, Judgement, Reasons, gravest
from ingest.judge.readings.derived import (
    NH3_PER_N,
    OXYGEN,
    SATURATION,
    TEMPERATURE,
    TOTAL_AMMONIA,
    UNIONISED,
    UNIONISED_FROM,
    WARMEST_DEGC,
    low_and_other_ms,
    oxygen_saturation,
    unionised_n,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ingest.judge.catalogue.catalogue import Catalogue
    from ingest.judge.catalogue.limits import Limit
    from ingest.judge.readings.conditions import Conditions

HOUR_MS = 3_600_000


def cite(
    limit: Limit,
    value: float | None,
    conditions: Mapping[str, str | float],
    *,
    exceeded: bool | None = None,
    **more: str | float,
) -> Citation:
    """Cite ``limit`` for ``value`` (catalogue unit; None: not known).

    ``exceeded`` is what was decided, None: what the value says by itself. ``more`` is kept beside the conditions that
    picked the row.
    """
    picked: dict[str, str | float | None] = {
        key: conditions.get(key) for key in limit.condition_keys()
    }
    if exceeded is None:
        exceeded = value is not None and limit.broken_by(value)
    return Citation(
        standard=limit.standard,
        title_zh=limit.title_zh,
        clause=limit.clause,
        clause_en=limit.clause_en,
        level=limit.level,
        comparator=limit.comparator.value,
        limit=float(limit.limit),
        unit=limit.unit,
        exceeded=exceeded,
        ratio=value / limit.threshold if limit.threshold and value is not None else None,
        conditions={**picked, **more},
        verified=limit.verified,
        limit_version=limit.limit_version,
    )


def duration_used(low_ms: int, window_ms: int) -> dict[str, str | float]:
    """Return what a citation says of a limit on a duration."""
    return {"low_h": low_ms / HOUR_MS, "window_h": window_ms / HOUR_MS}


def unionised_used(total_n: float, ph: float, temp_degc: float) -> dict[str, str | float]:
    """Return what a citation says of a computed un-ionised ammonia."""
    return {
        "computed_from": ", ".join((TOTAL_AMMONIA, *UNIONISED_FROM)),
        TOTAL_AMMONIA: total_n,
        **dict(zip(UNIONISED_FROM, (ph, temp_degc), strict=True)),
    }


def saturation_used(saturation: float, temp_degc: float) -> dict[str, str | float]:
    """Return what a citation says of a computed saturation (percent)."""
    return {
        "computed_from": f"{OXYGEN}, {TEMPERATURE}",
        SATURATION: saturation,
        TEMPERATURE: temp_degc,
    }


class _Answer(NamedTuple):
    """What one row says of the reading: broken, kept or (None) not known; what it looked at; why it is not known."""

    exceeded: bool | None
    used: dict[str, str | float]
    why: tuple[str, str] | None = None


class _Reading:
    """One reading with what was measured beside it: answers of single rows."""

    def __init__(
        self,
        indicator: str,
        value: float,
        conditions: Conditions,
        at_ms: int | None,
        window: Sequence[tuple[int, float]],
    ) -> None:
        self.indicator = indicator
        self.value = value
        self.beside = conditions.companions
        self.wrong = conditions.wrong
        self._at_ms = at_ms
        self._window = window

    def answer(self, row: Limit) -> _Answer:
        """Compare the value with ``row``."""
        if row.duration is not None:
            return self._within_duration(row, row.duration.window_ms, row.duration.least_ms)
        if row.unless is not None and row.broken_by(self.value):
            return self._otherwise(row.unless.indicator, row.unless.minimum)
        return _Answer(row.broken_by(self.value), {})

    def _within_duration(self, row: Limit, window_ms: int, least_ms: int) -> _Answer:
        low = row.broken_by(self.value)
        if self._at_ms is None or not self._window:
            why = self._no_window(window_ms) if low else None
            return _Answer(None if low else False, {}, why)
        low_ms, other_ms = low_and_other_ms(
            [*self._window, (self._at_ms, self.value)],
            edge(row.threshold),
            window_ms,
            self._at_ms,
        )
        used = duration_used(low_ms, window_ms)
        too_long = low_ms > window_ms - least_ms
        if too_long or not low or other_ms >= least_ms:
            return _Answer(too_long, used)
        return _Answer(None, used, self._no_window(window_ms))

    def _no_window(self, window_ms: int) -> tuple[str, str]:
        hours = f"{window_ms / HOUR_MS:g}"
        return (
            f"此前 {hours} 小时的记录不足，无法判定持续时间",
            f"the readings of the {hours} h before do not tell for how long {self.indicator} was low",
        )

    def _otherwise(self, indicator: str, minimum: float) -> _Answer:
        """Tell whether the alternative is kept when the value itself breaks the limit."""
        other = self.beside.get(indicator)
        used: dict[str, str | float] = {}
        if other is not None:
            used = {indicator: other}
        elif indicator == SATURATION and indicator not in self.wrong:
            temperature = self.beside.get(TEMPERATURE)
            if temperature is not None:
                other = oxygen_saturation(self.value, temperature)
                used = saturation_used(other, temperature)
        if other is None and indicator == SATURATION:
            most = oxygen_saturation(self.value, WARMEST_DEGC)
            if most < edge(minimum, upward=False):
                return _Answer(exceeded=True, used={})
        if other is None:
            names = f"{indicator} / {TEMPERATURE}" if indicator == SATURATION else indicator
            return _Answer(
                None, {}, (f"缺少 {names}，无法判定替代限值", f"{names} missing or not valid")
            )
        return _Answer(other < edge(minimum, upward=False), used)


class _ComputedAmmonia(_Reading):
    """Total ammonia, compared with limits on un-ionised ammonia.

    Whether the limit of GB 11607 is meant as NH3 or as N is open: only what holds in both readings of the text is said.
    """

    def __init__(self, total_n: float, conditions: Conditions, at_ms: int | None) -> None:
        super().__init__(UNIONISED, total_n, conditions, at_ms, ())
        self.missing = [name for name in UNIONISED_FROM if name not in self.beside]
        self.least, self.most = 0.0, total_n * NH3_PER_N  # no more than all of it can be un-ionised
        self.used: dict[str, str | float] = {}
        if not self.missing:
            ph, temperature = (self.beside[name] for name in UNIONISED_FROM)
            self.least = unionised_n(total_n, ph, temperature)
            self.most = self.least * NH3_PER_N
            self.used = unionised_used(total_n, ph, temperature)

    def answer(self, row: Limit) -> _Answer:
        answers = {row.broken_by(self.least), row.broken_by(self.most)}
        if len(answers) == 1:
            return _Answer(answers.pop(), self.used)
        if self.missing:
            names = ", ".join(self.missing)
            why = (
                f"缺少 {names}，无法计算非离子氨",
                f"{names} missing or not valid: un-ionised ammonia is not known",
            )
        else:
            why = (
                "非离子氨限值以 NH3 计还是以 N 计待核，两种解释结论不同",
                "whether the limit means NH3 or N is open, and the two say different things",
            )
        return _Answer(None, self.used, why)


class _Outcome:
    """Collects what the rules say."""

    def __init__(self, conditions: Conditions, at_ms: int | None) -> None:
        self._conditions = conditions
        self._at_ms = at_ms
        self.citations: list[Citation] = []
        self.breaches: list[Breach] = []
        self.undecided = Reasons([], [])
        self.complied = False

    def add(self, rule: Sequence[Limit], reading: _Reading, value: float | None) -> None:
        """Compare with one rule; ``value`` is the one to cite."""
        known, wrong = self._conditions.known, self._conditions.wrong
        if wrong:
            keys = dict.fromkeys(key for row in rule for key in row.condition_keys())
            unusable = [key for key in keys if key in wrong]
            for key in unusable:
                self.undecided.add(f"条件 {key} 的值无效", f"context.{key}: {wrong[key]}")
            if unusable:
                return
        selection = select(rule, known, self._at_ms)
        if selection is None:
            return
        answers = [reading.answer(row) for row in selection.rows]
        cited = [
            cite(row, value, known, exceeded=bool(answer.exceeded), **answer.used)
            for row, answer in zip(selection.rows, answers, strict=True)
        ]
        self.citations += cited
        said = {answer.exceeded for answer in answers}
        if selection.complete and said == {True}:
            row = selection.mildest()
            self.breaches.append(
                Breach(row.rule_id, Verdict.EXCEED, row.severity, cited[selection.rows.index(row)])
            )
        elif selection.complete and said == {False}:
            self.complied = True
        else:
            self._undecided(rule[0], selection.missing, answers)

    def _undecided(self, row: Limit, missing: tuple[str, ...], answers: Sequence[_Answer]) -> None:
        why = dict.fromkeys(answer.why for answer in answers if answer.why is not None)
        if missing or not why:
            keys = ", ".join(missing) or "at"
            self.undecided.add(
                f"缺少条件 {keys}，无法确定 {row.standard} 的适用限值",
                f"{keys} missing: which row of {row.standard} ({row.level}) applies is not known",
            )
        for zh, en in why:
            self.undecided.add(f"{row.standard}：{zh}", f"{row.standard}: {en}")


def judge_row(row: Limit, value: float, conditions: Conditions, at_ms: int | None) -> bool | None:
    """Tell whether ``value`` breaks ``row``, which applies; None: a companion is missing."""
    return _Reading(row.indicator, value, conditions, at_ms, ()).answer(row).exceeded


def judge_reading(
    catalogue: Catalogue,
    indicator: str,
    value: float,
    conditions: Conditions,
    at_ms: int | None,
    window: Sequence[tuple[int, float]] = (),
) -> Judgement:
    """Judge a good reading in the catalogue's unit, measured at ``at_ms`` (None: not known).

    ``window`` holds earlier readings (ms, value) of the same indicator, for limits on a duration. A condition or a
    companion that is missing makes the verdict undetermined, unless every row it could pick says the same.
    """
    if not math.isfinite(value):
        return Judgement(Verdict.INVALID, reason="数值无效 | the value is not a finite number")
    outcome = _Outcome(conditions, at_ms)
    reading = _Reading(indicator, value, conditions, at_ms, window)
    for rule in catalogue.rules.get(indicator, ()):
        outcome.add(rule, reading, value)
    if indicator == TOTAL_AMMONIA:
        ammonia = _ComputedAmmonia(value, conditions, at_ms)
        for rule in catalogue.rules.get(UNIONISED, ()):
            outcome.add(rule, ammonia, None if ammonia.missing else ammonia.least)
    undecided = outcome.undecided
    if not outcome.citations and not undecided.en:
        undecided.add(
            f"标准库中没有适用于 {indicator} 的限值",
            f"no limit in the catalogue applies to {indicator} under these conditions",
        )
    verdict = Verdict.UNDETERMINED
    if outcome.breaches:
        verdict = Verdict.EXCEED
    elif outcome.complied and not undecided.en:
        verdict = Verdict.PASS
    if conditions.ignored:
        names = ", ".join(conditions.ignored)
        undecided.add(f"未识别的条件：{names}", f"unknown context keys ignored: {names}")
    return Judgement(
        verdict,
        gravest([breach.severity for breach in outcome.breaches]),
        tuple(outcome.citations),
        tuple(outcome.breaches),
        undecided.text(),
    )
