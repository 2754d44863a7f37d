"""A laboratory's report as it was entered becomes test records, or a list of all that is wrong with it (pure)."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import uuid
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from alerts.laboratory.words import bound, read_value, unit_of
from drivers.records import ResultKind, Source, TestRecord
from ingest.judge.catalogue.names import MethodClass, fold, standard_number
from ingest.judge.catalogue.tables import CHINA
from ingest.judge.records import amounts
from ingest.judge.records.open_record import OUT_OF_RANGE, UNIT_UNKNOWN
from ingest.judge.records.rapid import judge_test, time_ms

if TYPE_CHECKING:
    from collections.abc import Mapping

    from alerts.laboratory.words import Say
    from drivers.records import Qualifier
    from ingest.judge.catalogue.catalogue import Catalogue
    from ingest.judge.findings import Judgement

LABORATORY = "laboratory"  # the device path of records that no instrument of the station made
MAX_RESULTS = 500  # of one report
_PER_MESSAGE = 100  # records; far below what one row of the inbox holds
DAY_MS = 86_400_000
AHEAD_MS = 300_000
_NAMESPACE = uuid.UUID("6f0d3c1e-5b57-4d2c-9a1f-2a8f3c7e9b10")
_SHA256 = re.compile(r"[0-9a-f]{64}|")
_COPIED = (
    "sampled_at",
    "purpose",
    "sampling_stage",
    "subject_id",
    "tested_subject_name",
    "base_id",
    "plot_id",
    "lot_id",
    "sampling_sheet_no",
    "product_code",
    "origin_text",
)
"""What a result says of the sample is what its screening said."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: ``row`` and ``column`` of the sheet, or number (from 0) and field of a result."""

    row: int | None
    column: str
    sample_no: str
    what: str  # 中文 | English


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One result as written: ``value`` is a number, ``<0.01``, ``>5`` or 未检出; blank ``method``: the report's.

    ``row`` and ``columns`` (field -> column) say where it stands in a sheet.
    """

    indicator: str
    value: str
    unit: str
    lod: str = ""
    loq: str = ""
    method: str = ""
    row: int | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a laboratory said of one sample, as it was entered; times are RFC 3339 or dates."""

    station: str
    sample_no: str
    laboratory: str
    report_no: str
    method: str
    complete: bool
    reported_at: str
    results: tuple[Result, ...]
    entered_by: str
    source: str = "api"  # page | api | import
    report_sha256: str = ""
    alert_id: str = ""
    received_at: str = ""
    product_name: str = ""
    supersedes: str = ""  # report id
    note: str = ""
    row: int | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sample:
    """What the station's own records say of a sample: those of its first test, and which codes and names it has."""

    record: Mapping[str, object]
    screened_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Understood:
    """One result as it was understood: its record, its name, the amount in mg/kg and how that came, the verdict."""

    index: int
    record: TestRecord
    code: str
    name_zh: str
    mg_per_kg: Decimal | None
    conversion: str
    judgement: Judgement


@dataclass(frozen=True, slots=True)
class Accepted:
    """A report without a fault; ``content_sha256`` is of all that it says, whoever entered it."""

    report: Report
    results: tuple[Understood, ...]
    content_sha256: str
    reported_ms: int
    received_ms: int | None

    @property
    def record_ids(self) -> list[str]:
        """The records, in the order of the results."""
        return [one.record.record_id for one in self.results]


class Entry:
    """Reads reports with the names and limits of one catalogue."""

    def __init__(self, catalogue: Catalogue, now_ms: int) -> None:
        self._catalogue = catalogue
        self._now_ms = now_ms

    def read(
        self, report: Report, sample: Sample | None, parents: Mapping[str, str] | None = None
    ) -> Accepted | list[Fault]:
        """Return the report as records, or every fault in it; ``parents`` are the records it corrects, by code."""
        faults: list[Fault] = []
        times = self._head(report, sample, faults)
        said = [
            one
            for index, result in enumerate(report.results)
            if (one := self._result(report, index, result, faults)) is not None
        ]
        self._twice(report, said, faults)
        if faults or times is None:
            return faults
        digest = _digest(report, said)
        product = report.product_name or str(
            (sample.record if sample else {}).get("product_name", "")
        )
        understood = []
        for one in said:
            record = self._record(report, one, times[0], digest, sample, product, parents or {})
            understood.append(self._understood(report, one, record, faults))
        if faults:
            return faults
        return Accepted(report, tuple(understood), digest, *times)

    # ---- the head

    def _head(
        self, report: Report, sample: Sample | None, faults: list[Fault]
    ) -> tuple[int, int | None] | None:
        def fault(column: str, what: str) -> None:
            shown = report.columns.get(column, column)
            faults.append(Fault(report.row, shown, report.sample_no, what))

        for name in ("station", "sample_no", "laboratory", "report_no", "entered_by"):
            if not getattr(report, name).strip():
                fault(name, f"缺少 {name} | {name} is missing")
        if not _SHA256.fullmatch(report.report_sha256):
            fault("report_sha256", "应为 64 位小写十六进制 | must be 64 hex digits, lower case")
        if not 1 <= len(report.results) <= MAX_RESULTS:
            fault(
                "results", f"应有 1～{MAX_RESULTS} 项结果 | 1 to {MAX_RESULTS} results are needed"
            )
        if sample is None and report.sample_no.strip() and not report.product_name.strip():
            fault(
                "sample_no",
                f"站点 {report.station} 没有样品 {report.sample_no[:60]} 的检测记录；新样品请填 product_name"
                f" | station {report.station} has no test of sample {report.sample_no[:60]}:"
                " correct the number, or give product_name for a new sample",
            )
        self._product(report, sample, fault)
        reported = self._time(report.reported_at, "reported_at", fault)
        received = (
            self._time(report.received_at, "received_at", fault) if report.received_at else None
        )
        reported = _not_before(reported, report.reported_at, sample)
        if reported is not None and received is not None and received > reported:
            fault("received_at", "收样晚于报告 | the sample came after the report")
        return None if reported is None else (reported, received)

    def _product(self, report: Report, sample: Sample | None, fault: Say) -> None:
        names, given = self._catalogue.names, report.product_name
        if not given.strip():
            return
        product = names.product(given)
        if product is None:
            near = ", ".join(names.near_product(given))
            fault(
                "product_name",
                f"未知产品“{given[:40]}”，相近的有：{near} | unknown product {given[:40]!r}, near it: {near}",
            )
        elif sample is not None:
            known = str(sample.record.get("product_name", ""))
            if known and names.product(known) not in (None, product):
                fault(
                    "product_name",
                    f"与样品记录的产品“{known}”不符 | the sample's record says {known!r}",
                )

    def _time(self, text: str, column: str, fault: Say) -> int | None:
        try:
            at_ms = time_ms(text)
        except (ValueError, OverflowError):
            fault(
                column, f"“{text[:40]}”不是时间或日期 | {text[:40]!r} is no RFC 3339 time or date"
            )
            return None
        if at_ms > self._now_ms + AHEAD_MS:
            fault(column, "在将来 | lies in the future")
        return at_ms

    # ---- one result

    def _result(
        self, report: Report, index: int, result: Result, faults: list[Fault]
    ) -> _Said | None:
        before = len(faults)

        def fault(column: str, what: str) -> None:
            row = index if result.row is None else result.row
            shown = result.columns.get(column, column)
            faults.append(Fault(row, shown, report.sample_no, what))

        code, zh = self._substance(result.indicator, fault)
        lod, loq = (bound(getattr(result, name), name, fault) for name in ("lod", "loq"))
        number: tuple[Decimal | None, Qualifier | None] = (None, None)
        try:
            number = read_value(result.value, lod, loq)
        except ValueError as exc:
            fault("value", str(exc))
        unit = unit_of(result.unit, number[0], fault)
        method, standard = self._method(result.method or report.method, fault)
        if len(faults) > before:
            return None
        return _Said(index, result, code, zh, *number, unit, lod, loq, method, standard)

    def _substance(self, name: str, fault: Say) -> tuple[str, str]:
        substance = self._catalogue.names.substance(name) if name.strip() else None
        if substance is not None:
            return substance.code, substance.name_zh
        near = "、".join(self._catalogue.names.near_substance(name)) if name.strip() else ""
        fault(
            "indicator",
            f"未知检测项目“{name[:40]}”{f'，相近的有：{near}' if near else ''}"
            f" | unknown indicator {name[:40]!r}{f', near it: {near}' if near else ''}",
        )
        return "", ""

    def _method(self, name: str, fault: Say) -> tuple[str, str]:
        """Return code and standard; a standard by itself is a laboratory's method that is not named."""
        method = self._catalogue.names.method(name) if name.strip() else None
        if method is None and standard_number(name) is not None:
            return "lab", name.strip()[:60]
        if method is None:
            near = "、".join(self._catalogue.names.near_method(name)) if name.strip() else ""
            fault(
                "method",
                f"未知检测方法“{name[:40]}”{f'，相近的有：{near}' if near else ''}"
                f" | unknown method {name[:40]!r}{f', near it: {near}' if near else ''}",
            )
            return "", ""
        if method.method_class is not MethodClass.CONFIRMATORY:
            fault(
                "method",
                f"{method.name_zh}是快检方法，不能确证 | {method.code} is a screening method: it confirms nothing",
            )
        return method.code, ""

    def _twice(self, report: Report, said: list[_Said], faults: list[Fault]) -> None:
        seen: dict[str, int] = {}
        for one in said:
            if one.code in seen:
                row = one.index if one.result.row is None else one.result.row
                column = one.result.columns.get("indicator", "indicator")
                what = f"{one.name_zh}出现两次 | {one.code} stands twice"
                faults.append(Fault(row, column, report.sample_no, what))
            seen[one.code] = one.index

    def _record(
        self,
        report: Report,
        one: _Said,
        reported_ms: int,
        digest: str,
        sample: Sample | None,
        product: str,
        parents: Mapping[str, str],
    ) -> TestRecord:
        identity = (report.station, report.sample_no, report.laboratory, report.report_no)
        record_id = str(uuid.uuid5(_NAMESPACE, "\n".join((*identity, one.code, digest))))
        record = TestRecord(
            record_id=record_id,
            dedup_key=f"laboratory:{record_id}",
            tested_at=dt.datetime.fromtimestamp(reported_ms / 1000, CHINA).isoformat(),
            device_id=LABORATORY,
            sample_no=report.sample_no,
            product_name=product,
            parameter=one.code,
            method=one.method,
            method_standard=one.standard,
            result_kind=ResultKind.QUANTITATIVE,
            value=one.value,
            unit=one.unit,
            value_text=one.result.value.strip(),
            qualifier=one.qualifier,
            lod=one.lod,
            loq=one.loq,
            parent_record_id=parents.get(one.code, ""),
            tester=report.entered_by,
            laboratory=laboratory_of(report.laboratory, report.station, sample),
            report_no=report.report_no,
            source=Source.IMPORTED if report.source == "import" else Source.TYPED,
            quality_flags=("manual",),
        )
        if sample is None:
            return record
        held = {**msgspec.to_builtins(record), **_copied(sample)}
        return msgspec.convert(held, TestRecord)

    def _understood(
        self, report: Report, one: _Said, record: TestRecord, faults: list[Fault]
    ) -> Understood:
        judgement = judge_test(self._catalogue, record)
        if {UNIT_UNKNOWN, OUT_OF_RANGE} & set(judgement.flags):
            row = one.index if one.result.row is None else one.result.row
            column = one.result.columns.get("unit", "unit")
            faults.append(Fault(row, column, report.sample_no, judgement.reason))
        factor = amounts.factor(one.unit, "mg/kg")
        amount = None if factor is None or one.value is None else one.value * factor
        shown = "" if factor in (None, Decimal(1)) else f"1 {one.unit} = {factor} mg/kg"
        return Understood(one.index, record, one.code, one.name_zh, amount, shown, judgement)


@dataclass(frozen=True, slots=True)
class _Said:
    """A result whose words are all known."""

    index: int
    result: Result
    code: str
    name_zh: str
    value: Decimal | None
    qualifier: Qualifier | None
    unit: str
    lod: Decimal | None
    loq: Decimal | None
    method: str
    standard: str


def laboratory_of(name: str, station: str, sample: Sample | None) -> str:
    """Return the laboratory's name; the station's code for whatever means the station that screened the sample."""
    own = {fold(station), *(fold(each) for each in (sample.screened_by if sample else ()))}
    return station if fold(name) in own else name.strip()


def bodies_of(accepted: Accepted, withdrawn: tuple[TestRecord, ...] = ()) -> list[bytes]:
    """Return the messages for the inbox: the records, those that withdraw others, and the report's head beside them."""
    report = _head_of(accepted.report)
    tests = [one.record for one in accepted.results] + list(withdrawn)
    return [
        msgspec.json.encode({"report": report, "tests": tests[at : at + _PER_MESSAGE]})
        for at in range(0, len(tests), _PER_MESSAGE)
    ]


def _head_of(report: Report) -> dict[str, object]:
    return {
        one.name: getattr(report, one.name)
        for one in fields(report)
        if one.name not in {"results", "row", "columns", "method", "product_name"}
    }


def _copied(sample: Sample) -> dict[str, object]:
    held = {name: sample.record[name] for name in _COPIED if sample.record.get(name)}
    # The limits in force when the sample was taken count, not those of the report's day.
    held.setdefault("sampled_at", sample.record.get("tested_at", ""))
    return held


def _digest(report: Report, said: list[_Said]) -> str:
    head = (
        report.station,
        report.sample_no,
        report.laboratory,
        report.report_no,
        report.report_sha256,
        report.complete,
        report.reported_at,
        report.received_at,
        report.product_name,
        report.supersedes,
    )
    rows = sorted(
        (
            one.code,
            str(one.value),
            str(one.qualifier),
            one.unit,
            str(one.lod),
            str(one.loq),
            one.method,
            one.standard,
        )
        for one in said
    )
    return hashlib.sha256(msgspec.json.encode([head, rows])).hexdigest()


def _not_before(reported_ms: int | None, said: str, sample: Sample | None) -> int | None:
    """Return the time of a report that gives a date only: not before its sample was tested, on that day."""
    if reported_ms is None or sample is None or len(said.strip()) > len("2026-05-01"):
        return reported_ms
    try:
        tested_ms = time_ms(str(sample.record.get("tested_at", "")))
    except (ValueError, OverflowError):
        return reported_ms
    return tested_ms if 0 <= tested_ms - reported_ms < DAY_MS else reported_ms
