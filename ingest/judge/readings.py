"""The verdict on one reading: every limit compared, and why when none can be said to apply."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from drivers.records import Verdict
from ingest.judge.findings import Breach, Citation, Judgement, Reasons, gravest
from ingest.judge.limits import select

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ingest.judge.catalogue import Catalogue
    from ingest.judge.conditions import Conditions
    from ingest.judge.limits import Limit


def cite(
    limit: Limit, value: float, conditions: Mapping[str, str | float], **more: str | float
) -> Citation:
    """Cite ``limit`` for ``value`` (catalogue unit); ``more`` is kept beside the conditions that picked the row."""
    picked: dict[str, str | float | None] = {
        key: conditions.get(key) for key in limit.condition_keys()
    }
    return Citation(
        standard=limit.standard,
        title_zh=limit.title_zh,
        clause=limit.clause,
        level=limit.level,
        comparator=limit.comparator.value,
        limit=float(limit.limit),
        unit=limit.unit,
        exceeded=limit.broken_by(value),
        ratio=value / limit.threshold if limit.threshold else None,
        conditions={**picked, **more},
        verified=limit.verified,
        limit_version=limit.limit_version,
    )


def judge_reading(
    catalogue: Catalogue,
    indicator: str,
    value: float,
    conditions: Conditions,
    at_ms: int | None,
) -> Judgement:
    """Judge a good reading in the catalogue's unit, measured at ``at_ms`` (None: not known).

    A condition that is missing makes the verdict undetermined, unless every row it could pick says the same.
    """
    if not math.isfinite(value):
        return Judgement(Verdict.INVALID, reason="数值无效 | the value is not a finite number")
    citations: list[Citation] = []
    breaches: list[Breach] = []
    undecided = Reasons([], [])
    complied = False
    for rule in catalogue.rules.get(indicator, ()):
        wrong = [
            k
            for k in dict.fromkeys(k for r in rule for k in r.condition_keys())
            if k in conditions.wrong
        ]
        if wrong:
            for key in wrong:
                undecided.add(f"条件 {key} 的值无效", f"context.{key}: {conditions.wrong[key]}")
            continue
        selection = select(rule, conditions.known, at_ms)
        if selection is None:
            continue
        citations += [cite(row, value, conditions.known) for row in selection.rows]
        exceeded = selection.verdict(value)
        if exceeded is None:
            keys = ", ".join(selection.missing) or "at"
            row = rule[0]
            undecided.add(
                f"缺少条件 {keys}，无法确定 {row.standard} 的适用限值",
                f"{keys} missing: which row of {row.standard} ({row.level}) applies is not known",
            )
        elif exceeded:
            row = selection.mildest()
            citation = cite(row, value, conditions.known)
            breaches.append(Breach(row.rule_id, Verdict.EXCEED, row.severity, citation))
        else:
            complied = True
    if not citations and not undecided.en:
        undecided.add(
            f"标准库中没有适用于 {indicator} 的限值",
            f"no limit in the catalogue applies to {indicator} under these conditions",
        )
    verdict = Verdict.UNDETERMINED
    if breaches:
        verdict = Verdict.EXCEED
    elif complied and not undecided.en:
        verdict = Verdict.PASS
    if conditions.ignored:
        names = ", ".join(conditions.ignored)
        undecided.add(f"未识别的条件：{names}", f"unknown context keys ignored: {names}")
    return Judgement(
        verdict,
        gravest([breach.severity for breach in breaches]),
        tuple(citations),
        tuple(breaches),
        undecided.text(),
    )
