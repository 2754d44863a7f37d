"""What the judge says: citations of the limits compared, verdicts, findings, and who is told."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import msgspec

from drivers.records import Severity, Verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import sqlalchemy as sa

    from ingest.batch import Series


class Citation(msgspec.Struct, frozen=True, kw_only=True):
    """One limit compared with one value, as stored and as replied by ``agrigate judge``.

    ``level`` is, of a test, ``cut_off``, ``screen``, ``banned``, ``restricted``, ``residue``, ``emrl``,
    ``zero_tolerance`` or ``decision``, of a reading ``screening``, ``intervention``, ``basic``, ``optional`` …;
    ``comparator`` what breaks the limit: ``>``, ``<``, ``>=`` or ``detected`` (then ``limit`` is None).
    ``ratio`` is value / limit. ``conditions`` picked the row; one that is not known is None. ``verified`` False
    means 待核.
    """

    standard: str
    title_zh: str
    clause: str
    clause_en: str = ""
    level: str
    comparator: str
    limit: float | None
    unit: str
    exceeded: bool
    ratio: float | None
    conditions: dict[str, str | float | None]
    verified: bool
    limit_version: str


@dataclass(frozen=True, slots=True)
class Breach:
    """One rule that was broken: the citation to freeze, and what hangs on it."""

    rule_id: str
    verdict: Verdict
    severity: Severity
    citation: Citation


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on one reading or test.

    ``citations`` are all limits compared, ``breaches`` the rules broken (at most one each). ``reason`` is
    ``中文 | English``, blank when nothing needs saying. ``flags`` are quality flags that the judge adds.
    """

    verdict: Verdict
    severity: Severity = Severity.INFO
    citations: tuple[Citation, ...] = ()
    breaches: tuple[Breach, ...] = ()
    reason: str = ""
    flags: tuple[str, ...] = ()


@dataclass(slots=True)
class Reasons:
    """Reasons in Chinese and English, said in the same order."""

    zh: list[str]
    en: list[str]

    def add(self, zh: str, en: str) -> None:
        """Add one reason unless it was said."""
        if en not in self.en:
            self.zh.append(zh)
            self.en.append(en)

    def text(self) -> str:
        """Return ``中文 | English``.

        >>> r = Reasons([], [])
        >>> r.add("缺少 ph", "ph is missing")
        >>> r.text()
        '缺少 ph | ph is missing'
        """
        return f"{'；'.join(self.zh)} | {'; '.join(self.en)}" if self.en else ""


LIMIT_UNVERIFIED = "limit_unverified"
"""Flag: the limit that was broken is 待核."""

SEVERITY_ORDER = tuple(Severity)


def gravest(severities: Sequence[Severity]) -> Severity:
    """Return the gravest of ``severities``, INFO for none."""
    return max(severities, key=SEVERITY_ORDER.index, default=Severity.INFO)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One rule broken by one reading or test: a row of the ``findings`` table, and what an alert needs beside it.

    ``certainty`` is ``sensor``, ``screening`` or ``confirmatory``. ``flags`` are of ``late, clock_suspect,
    limit_unverified, fp_prone``. ``clearable``: a process parameter, whose alert clears when the value returns.
    """

    finding_id: str
    station: str
    epoch: str
    seq: int
    position: int
    inbox_pos: int
    kind: str
    device: str
    indicator: str
    t_ms: int
    value: float | None
    unit: str
    record_id: str
    rule_id: str
    verdict: Verdict
    severity: Severity
    late: bool
    citation: dict[str, object]
    certainty: str
    flags: tuple[str, ...]
    sample_no: str
    product_name: str
    plot_id: str
    region_code: str
    clearable: bool
    purpose: str = ""  # of tests, as the record says it
    sampling_stage: str = ""
    method: str = ""
    laboratory: str = ""  # of tests: who made it, as far as the record says it


@dataclass(frozen=True, slots=True)
class Observation:
    """A good reading of a series that has an open clearable alert (or raises one in this batch).

    ``recovered``: the value is inside the limits of ``rule_id`` by the recovery margin. Neither it nor its contrary is
    said of failed readings, nor when it is not known which limit applies.
    """

    series: Series
    t_ms: int
    value: float
    rule_id: str
    recovered: bool


class FindingSink(Protocol):
    """Who turns findings into alerts, in the judge's transaction."""

    def watched(self) -> Collection[Series]:
        """Return the series with an open clearable alert."""
        ...

    def replaced(
        self, connection: sa.Connection, records: Mapping[str, str], received_ms: int
    ) -> None:
        """Take note of records that count no more, each with what counts instead; called before ``apply``."""
        ...

    def apply(
        self,
        connection: sa.Connection,
        findings: Sequence[Finding],
        observations: Sequence[Observation],
        received_ms: int,
    ) -> None:
        """Take new findings and observations, both in inbox order; write over ``connection`` only."""
        ...


def finding_id(
    station: str, epoch: str, seq: int, position: int, rule_id: str, limit_version: str
) -> str:
    """Return the identity of a finding: the same reading under the same rule and limit is the same finding."""
    parts = (station, epoch, str(seq), str(position), rule_id, limit_version)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
