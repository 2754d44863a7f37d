"""Tests put together to samples: the first test and its repeats are counted once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from sqlalchemy import and_, func, select

from dashboards.api.times import shanghai_day
from drivers.records import ResultKind, Verdict
from ingest.judge.catalogue.names import MethodClass
from ingest.judge.records.corrections import IN_FORCE
from ingest.judge.records.sample_verdict import JudgedTest, substance_of, verdict_of_sample
from ingest.tables import tests

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import ColumnElement, Connection, RowMapping

    from ingest.judge.catalogue.names import Names
    from ingest.judge.records.sample_verdict import SampleVerdict, SubstanceVerdict

RAPID = frozenset({ResultKind.INHIBITION, ResultKind.QUALITATIVE})
QUANTITATIVE = frozenset({ResultKind.QUANTITATIVE})

taken_ms: ColumnElement[int] = func.coalesce(tests.c.sampled_ms, tests.c.tested_ms)
"""When the sample was taken, as far as the record says. Instruments begin at 1 again each day: a number names a sample
of one day only."""

_FAILED = (Verdict.EXCEED, Verdict.SUSPECT)


@dataclass(frozen=True, slots=True)
class Rate:
    """Samples of one kind of test: the pass rate of no samples is None.

    ``undetermined`` are valid and have not failed (statistics.md §1.7); they are said beside it.
    """

    valid: int
    failed: int
    undetermined: int

    @property
    def passed(self) -> float | None:
        """0 … 1."""
        return (self.valid - self.failed) / self.valid if self.valid else None


class Samples:
    """The samples of some tests, with their verdicts."""

    def __init__(self, names: Names, rows: Iterable[RowMapping]) -> None:
        code = lru_cache(maxsize=None)(lambda parameter: substance_of(names, parameter))
        confirms = lru_cache(maxsize=None)(lambda method: _confirms(names, method))
        self._held: dict[tuple[str, str], list[tuple[str, JudgedTest]]] = {}
        for row in rows:
            test = JudgedTest(
                substance=code(row["parameter"]),
                verdict=Verdict(row["verdict"]),
                confirms=confirms(row["method"]),
                attempt=row["attempt"],
                tested_ms=row["tested_ms"],
            )
            sample = (row["station"], row["sample_no"] or f"\0{row['record_id']}")
            self._held.setdefault(sample, []).append((row["result_kind"], test))

    def verdicts(self) -> list[SampleVerdict]:
        """Return the verdict on each sample."""
        return [verdict_of_sample([test for _, test in held]) for held in self._held.values()]

    def rate(self, kinds: frozenset[ResultKind]) -> Rate:
        """Count the samples that were tested in one of ``kinds``.

        Each by what was tested for in that way: a confirmatory result of it decides, no other kind of test counts.
        """
        valid = failed = undetermined = 0
        for held in self._held.values():
            mine = {test.substance for kind, test in held if kind in kinds}
            if not mine:
                continue
            counted = [
                test
                for kind, test in held
                if kind in kinds or (test.confirms and test.substance in mine)
            ]
            said = _sample_says(verdict_of_sample(counted).by_substance)
            valid += said is not Verdict.INVALID
            failed += said in _FAILED
            undetermined += said is Verdict.UNDETERMINED
        return Rate(valid, failed, undetermined)


def _sample_says(by_substance: Mapping[str, SubstanceVerdict]) -> Verdict:
    """Return failed before undetermined before pass; invalid only when nothing else was said."""
    said = {one.verdict for one in by_substance.values()}
    for verdict in (*_FAILED, Verdict.UNDETERMINED, Verdict.PASS):
        if verdict in said:
            return verdict
    return Verdict.INVALID


def _confirms(names: Names, method: str) -> bool:
    known = names.method(method) if method else None
    return known is not None and known.method_class is MethodClass.CONFIRMATORY


_COLUMNS = tuple(
    tests.c[name]
    for name in (
        "station",
        "sample_no",
        "record_id",
        "parameter",
        "method",
        "result_kind",
        "verdict",
        "attempt",
        "tested_ms",
    )
)


def samples_of_day(connection: Connection, names: Names, now_ms: int) -> Samples:
    """Return the samples that were taken on the day of ``now_ms`` in Shanghai, with all tests of them."""
    start_ms, end_ms = shanghai_day(now_ms)
    query = select(*_COLUMNS).where(
        tests.c.tested_ms >= start_ms, taken_ms >= start_ms, taken_ms < end_ms, IN_FORCE
    )
    return Samples(names, connection.execute(query).mappings())


def of_sample(row: RowMapping) -> ColumnElement[bool]:
    """Return what is true of the tests of the sample of ``row``, which has ``taken_ms``."""
    start_ms, end_ms = shanghai_day(row["taken_ms"])
    numbered: ColumnElement[bool] = and_(
        tests.c.station == row["station"],
        tests.c.sample_no == row["sample_no"],
        taken_ms >= start_ms,
        taken_ms < end_ms,
    )
    itself: ColumnElement[bool] = tests.c.record_id == row["record_id"]
    return numbered if row["sample_no"] else itself
