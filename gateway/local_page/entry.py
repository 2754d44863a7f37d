"""A test as a person types it, or completes it: fields to a record, or what is wrong with each (pure)."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
from msgspec import Meta

from drivers import units
from drivers.records import (
    Purpose,
    Qualifier,
    ResultKind,
    SamplingStage,
    ScreenResult,
    Source,
    TestRecord,
)
from drivers.tester.text import folded
from drivers.tester.words import built_in
from gateway.local_page.completeness import UNKNOWN_ITEM

if TYPE_CHECKING:
    from enum import StrEnum

    from drivers.tester.words import Parameter

BEIJING = dt.timezone(dt.timedelta(hours=8), "Asia/Shanghai")
AHEAD = dt.timedelta(minutes=5)
OLDEST = dt.timedelta(days=366)
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:agrigate:test-record")
MANUAL = "manual"
TYPED_DEVICE = "typed"
_NUMBER = re.compile(r"[+-]?\d{1,15}(\.\d{1,15})?", re.ASCII)
_RESULT_FLAGS = frozenset({"result_missing", "value_unreadable", "verdict_unknown", "unit_unknown"})
_TIME_FLAGS = frozenset({"time_missing", "clock_suspect"})

Short = Annotated[str, Meta(max_length=80)]
Long = Annotated[str, Meta(max_length=200)]
E_ = TypeVar("E_", bound="StrEnum")


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The form as sent; blank is not said.

    ``entry_id`` is made with the form, so that a second click is no second test.
    """

    station: Short
    entry_id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{8,64}$")]
    parent_record_id: Short = ""
    device_id: Short = ""
    sample_no: Annotated[str, Meta(max_length=40)] = ""
    product_name: Short = ""
    origin_text: Long = ""
    parameter: Short = ""
    method: Short = ""
    method_standard: Short = ""
    result_kind: Short = ""
    qualifier: Short = ""
    value: Short = ""
    unit: Short = ""
    screen_result: Short = ""
    purpose: Short = ""
    sampling_stage: Short = ""
    tested_subject_name: Long = ""
    subject_id: Short = ""
    plot_id: Short = ""
    lot_id: Short = ""
    sampling_sheet_no: Short = ""
    tester: Short = ""
    tested_at: Short = ""


class EntryError(Exception):
    """Fields that are wrong: name -> what, as a word that the page knows in both languages."""

    def __init__(self, faults: dict[str, str]) -> None:
        super().__init__(", ".join(f"{field}: {what}" for field, what in faults.items()))
        self.faults = faults


class _Form:
    """Reads one entry; what is wrong gathers in ``faults``."""

    def __init__(self, entry: Entry, now: dt.datetime) -> None:
        self.entry = entry
        self.now = now
        self.faults: dict[str, str] = {}

    def text(self, name: str) -> str:
        value: str = getattr(self.entry, name)
        if any(ord(c) < 32 or ord(c) == 127 for c in value):
            self.faults[name] = "control_character"
        return " ".join(value.split())

    def need(self, name: str, given: object) -> None:
        if not given:
            self.faults.setdefault(name, "required")

    def need_of_purpose(
        self, purpose: Purpose | None, stage: SamplingStage | None, sheet_no: str
    ) -> None:
        if purpose not in {None, Purpose.SELF}:
            self.need("sampling_stage", stage)
        if purpose is Purpose.SUPERVISION:
            self.need("sampling_sheet_no", sheet_no)

    def choice(self, name: str, kind: type[E_]) -> E_ | None:
        value = self.text(name)
        if not value:
            return None
        try:
            return kind(value)
        except ValueError:
            self.faults[name] = "unknown"
            return None

    def number(self) -> Decimal | None:
        text = self.text("value")
        if not text:
            return None
        if not _NUMBER.fullmatch(text):
            self.faults["value"] = "not_a_number"
            return None
        return Decimal(text)

    def unit(self) -> str:
        text = self.text("unit")
        if not text:
            return ""
        try:
            return units.canonical(text)
        except units.UnitError:
            self.faults["unit"] = "unit_unknown"
            return ""

    def time(self) -> str:
        """Return the time of the test with its offset; a form gives it without one, and means Beijing."""
        text = self.text("tested_at")
        if not text:
            return ""
        try:
            when = dt.datetime.fromisoformat(text)
        except ValueError:
            self.faults["tested_at"] = "not_a_time"
            return ""
        if when.tzinfo is None:
            when = when.replace(tzinfo=BEIJING)
        if when > self.now + AHEAD:
            self.faults["tested_at"] = "in_future"
        elif when < self.now - OLDEST:
            self.faults["tested_at"] = "too_old"
        return when.astimezone(BEIJING).isoformat(timespec="seconds")

    def parameter(self) -> tuple[str, Parameter | None]:
        """Return the code that the item's name stands for; a name that is not known stays as typed."""
        text = self.text("parameter")
        known = built_in().parameters.get(folded(text)) if text else None
        return (known.code if known is not None else text), known

    def result(self, kind: ResultKind | None) -> tuple[Decimal | None, Qualifier | None, str]:
        """Return value, qualifier and unit; check that they make a result of ``kind``."""
        value, qualifier, unit = self.number(), self.choice("qualifier", Qualifier), self.unit()
        screen = self.choice("screen_result", ScreenResult)
        if qualifier is Qualifier.NOT_DETECTED:
            value = None
        elif value is None:
            qualifier = None
        match kind:
            case ResultKind.QUALITATIVE:
                self.need("screen_result", screen)
            case ResultKind.INHIBITION:
                unit = "%" if value is not None else ""
                self.need("value", value is not None or screen is ScreenResult.INVALID)
                if value is not None and not -100 <= value <= 200:
                    self.faults.setdefault("value", "out_of_range")
            case ResultKind.QUANTITATIVE:
                self.need("value", value is not None or qualifier is Qualifier.NOT_DETECTED)
                if value is not None:
                    self.need("unit", unit)
                    if value < 0:
                        self.faults.setdefault("value", "out_of_range")
            case None:
                pass
        if value is not None and qualifier is None:
            qualifier = Qualifier.EQ
        return value, qualifier, unit

    def end(self) -> None:
        """Raise EntryError when something is wrong."""
        if self.faults:
            raise EntryError(self.faults)


def typed(entry: Entry, now: dt.datetime, new_sample_no: str) -> TestRecord:
    """Return the record of a test that a person typed; raise EntryError with every fault.

    ``new_sample_no`` is what a sample without a number gets.
    """
    form = _Form(entry, now)
    kind = form.choice("result_kind", ResultKind)
    value, qualifier, unit = form.result(kind)
    screen = form.choice("screen_result", ScreenResult)
    if kind is ResultKind.QUANTITATIVE and screen is not ScreenResult.INVALID:
        screen = None  # the number is the result
    purpose = form.choice("purpose", Purpose)
    stage = form.choice("sampling_stage", SamplingStage)
    parameter, known = form.parameter()
    tested_at = form.time()
    form.need_of_purpose(purpose, stage, form.text("sampling_sheet_no"))
    if not form.text("subject_id"):
        form.need("tested_subject_name", form.text("tested_subject_name"))
    for name in ("product_name", "method", "tester"):
        form.need(name, form.text(name))
    form.need("parameter", parameter)
    form.need("result_kind", kind)
    form.need("purpose", purpose)
    form.need("tested_at", tested_at)
    form.end()
    dedup_key = f"{entry.station}|typed|{entry.entry_id}"
    flags = {MANUAL} if known is not None else {MANUAL, UNKNOWN_ITEM}
    record = TestRecord(
        record_id=str(uuid.uuid5(NAMESPACE, dedup_key)),
        dedup_key=dedup_key,
        device_id=form.text("device_id") or TYPED_DEVICE,
        tested_at=tested_at,
        sample_no=form.text("sample_no") or new_sample_no,
        parameter=parameter,
        result_kind=kind,
        value=value,
        unit=unit,
        value_text=form.text("value"),
        qualifier=qualifier,
        screen_result=screen,
        purpose=purpose,
        sampling_stage=stage,
        source=Source.TYPED,
        quality_flags=tuple(sorted(flags)),
    )
    return msgspec.structs.replace(record, **{name: form.text(name) for name in _TEXTS})


_TEXTS = (
    "product_name",
    "origin_text",
    "method",
    "method_standard",
    "tested_subject_name",
    "subject_id",
    "plot_id",
    "lot_id",
    "sampling_sheet_no",
    "tester",
)


def locked(parent: TestRecord) -> list[str]:
    """Return the fields of ``parent`` that stand: what an instrument measured is not typed over."""
    if parent.source is not Source.DEVICE:
        return []
    flags = set(parent.quality_flags)
    has_result = parent.value is not None or parent.qualifier or parent.screen_result
    stands = ["device_id"]
    if has_result:
        stands += ["value", "qualifier", "screen_result"]
        if parent.result_kind is not None:
            stands.append("result_kind")
        if parent.unit and "unit_unknown" not in flags:
            stands.append("unit")
    if parent.parameter and UNKNOWN_ITEM not in flags:
        stands.append("parameter")
    if not flags & _TIME_FLAGS:
        stands.append("tested_at")
    return stands


def completed(entry: Entry, parent: TestRecord, now: dt.datetime) -> TestRecord:
    """Return a correction of ``parent``, which stays as it is; raise EntryError with every fault.

    Blank fields keep what the parent says. A result that the instrument did not give makes the correction typed.
    """
    form = _Form(entry, now)
    fixed = locked(parent)
    changes: dict[str, object] = {
        name: text for name in (*_TEXTS, "sample_no") if (text := form.text(name))
    }
    chosen = {
        "result_kind": form.choice("result_kind", ResultKind),
        "qualifier": form.choice("qualifier", Qualifier),
        "screen_result": form.choice("screen_result", ScreenResult),
        "purpose": form.choice("purpose", Purpose),
        "sampling_stage": form.choice("sampling_stage", SamplingStage),
        "value": form.number(),
    }
    changes |= {name: value for name, value in chosen.items() if value is not None}
    parameter, known = form.parameter()
    for name, text in (
        ("parameter", parameter),
        ("unit", form.unit()),
        ("tested_at", form.time()),
    ):
        if text:
            changes[name] = text
    changes = {name: new for name, new in changes.items() if new != getattr(parent, name)}
    for name in changes.keys() & set(fixed):
        form.faults[name] = "measured"
    if not changes:
        form.faults.setdefault("", "nothing_new")
    form.end()
    flags = set(parent.quality_flags) | {MANUAL}
    source = parent.source
    if changes.keys() & {"value", "qualifier", "screen_result", "unit"}:
        flags -= _RESULT_FLAGS
        source = Source.TYPED
        if "value" in changes:
            changes["value_text"] = form.text("value")
            changes.setdefault("qualifier", parent.qualifier or Qualifier.EQ)
    if "tested_at" in changes:
        flags -= _TIME_FLAGS
    if known is not None and "parameter" in changes:
        flags.discard(UNKNOWN_ITEM)
    result = msgspec.structs.replace(parent, **changes)
    form.need("sample_no", result.sample_no)
    form.need_of_purpose(result.purpose, result.sampling_stage, result.sampling_sheet_no)
    if "sample_no" in changes or "product_name" in changes:
        flags -= {"sample_missing"}
    if result.value is not None:
        if result.result_kind is ResultKind.INHIBITION and not result.unit:
            result = msgspec.structs.replace(result, unit="%")
        form.need("unit", result.unit)
    form.end()
    dedup_key = f"{entry.station}|typed|{entry.entry_id}"
    return msgspec.structs.replace(
        result,
        record_id=str(uuid.uuid5(NAMESPACE, dedup_key)),
        dedup_key=dedup_key,
        parent_record_id=parent.record_id,
        source=source,
        quality_flags=tuple(sorted(flags)),
    )
