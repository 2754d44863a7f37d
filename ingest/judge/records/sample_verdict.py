"""The verdict on a sample: its first test and the repeats, counted once (rapid_test_record §3.7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from drivers.records import Verdict
from ingest.judge.catalogue.names import MethodClass, fold
from ingest.judge.records.rapid import judge_test, method_class, time_ms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from drivers.records import TestRecord
    from ingest.judge.catalogue.catalogue import Catalogue
    from ingest.judge.catalogue.names import Names

REPEATS = 2
"""How often a rapid positive is repeated before it falls or stands."""

_POSITIVE = (Verdict.EXCEED, Verdict.SUSPECT)
_GRAVEST_FIRST = (
    Verdict.EXCEED,
    Verdict.SUSPECT,
    Verdict.UNDETERMINED,
    Verdict.INVALID,
    Verdict.PASS,
)


@dataclass(frozen=True, slots=True)
class SubstanceVerdict:
    """What the first test and the repeats say of one substance; ``repeats_due`` are still to be made."""

    verdict: Verdict
    first: Verdict
    repeats: tuple[Verdict, ...] = ()
    repeats_due: int = 0
    confirmed: bool = False


@dataclass(frozen=True, slots=True)
class SampleVerdict:
    """The verdict on one sample, however many tests it took; the gravest of its substances."""

    verdict: Verdict
    tests: int
    by_substance: Mapping[str, SubstanceVerdict]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedTest:
    """What counts of one test that was judged; ``confirms``: its method is a confirmatory one."""

    substance: str
    verdict: Verdict
    confirms: bool = False
    attempt: int = 0
    tested_ms: int = 0


def sample_verdict(catalogue: Catalogue, records: Sequence[TestRecord]) -> SampleVerdict:
    """Judge ``records``, which all are of one sample, and return the verdict on it."""
    return verdict_of_sample(
        [
            JudgedTest(
                substance=substance_of(catalogue.names, record.parameter),
                verdict=judge_test(catalogue, record).verdict,
                confirms=method_class(catalogue, record) is MethodClass.CONFIRMATORY,
                attempt=record.attempt,
                tested_ms=_tested_ms(record),
            )
            for record in records
        ]
    )


def substance_of(names: Names, parameter: str) -> str:
    """Return the code of what was tested for, else its folded name: what is the same in a test and its repeat."""
    substance = names.substance(parameter)
    return substance.code if substance else fold(parameter)


def verdict_of_sample(tests: Sequence[JudgedTest]) -> SampleVerdict:
    """Return the verdict on the sample that all ``tests`` are of.

    A valid confirmatory result decides; the last of several. Else a rapid positive stands, until it was repeated
    twice and no repeat was positive. A test that says nothing (invalid, undetermined) is no repeat.
    """
    of_substance: dict[str, list[JudgedTest]] = {}
    for test in sorted(tests, key=lambda one: (one.attempt, one.tested_ms)):
        of_substance.setdefault(test.substance, []).append(test)
    verdicts = {code: _combined(held) for code, held in of_substance.items()}
    worst = min(
        (one.verdict for one in verdicts.values()),
        key=_GRAVEST_FIRST.index,
        default=Verdict.UNDETERMINED,
    )
    return SampleVerdict(worst, len(tests), verdicts)


def _tested_ms(record: TestRecord) -> int:
    try:
        return time_ms(record.tested_at)
    except (ValueError, OverflowError):
        return 0


def _combined(tests: Sequence[JudgedTest]) -> SubstanceVerdict:
    screened = [test.verdict for test in tests if not test.confirms]
    confirmed = [test.verdict for test in tests if test.confirms]
    decided = [v for v in confirmed if v in (Verdict.EXCEED, Verdict.PASS)]
    first, *repeats = screened or confirmed
    if decided:
        return SubstanceVerdict(decided[-1], first, tuple(repeats), confirmed=True)
    valid = [v for v in screened if v in _POSITIVE or v is Verdict.PASS]
    if not any(v in _POSITIVE for v in valid):
        said = valid[0] if valid and not _leaves_open(screened, confirmed) else None
        verdict = said or min((*screened, *confirmed), key=_GRAVEST_FIRST.index)
        return SubstanceVerdict(verdict, first, tuple(repeats))
    at = next(i for i, v in enumerate(valid) if v in _POSITIVE)
    after = valid[at + 1 :]
    if any(v in _POSITIVE for v in after):
        return SubstanceVerdict(Verdict.SUSPECT, first, tuple(repeats))
    due = max(0, REPEATS - len(after))
    # All repeats negative: the sample is negative, the first positive is kept in the record.
    verdict = Verdict.SUSPECT if due or confirmed else Verdict.PASS
    return SubstanceVerdict(verdict, first, tuple(repeats), due)


def _leaves_open(screened: Sequence[Verdict], confirmed: Sequence[Verdict]) -> bool:
    """Whether the last word is one that says nothing."""
    return (confirmed or screened)[-1] is Verdict.UNDETERMINED
