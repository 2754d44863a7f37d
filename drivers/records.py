"""The records that instruments yield: readings and rapid-test results."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Literal

import msgspec


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of one indicator at one device.

    ``device`` is the device path (``plot3/soil1``), ``indicator`` a catalogue code, ``t_ms`` UTC milliseconds.
    A good reading has a finite ``value`` in the catalogue's unit and no ``quality``; a failed one has no ``value`` and
    ``quality`` such as ``bad:nan``, ``bad:sentinel``, ``bad:illegal_address``, ``bad:range``.
    """

    device: str
    indicator: str
    t_ms: int
    value: float | None
    quality: str | None = None


class ResultKind(StrEnum):
    """What kind of answer a test gives."""

    QUANTITATIVE = "quantitative"
    QUALITATIVE = "qualitative"
    INHIBITION = "inhibition"


class ScreenResult(StrEnum):
    """What a screening test says."""

    NEGATIVE = "negative"
    POSITIVE = "positive"
    DOUBTFUL = "doubtful"
    INVALID = "invalid"


class Qualifier(StrEnum):
    """How ``value`` is to be read."""

    EQ = "eq"
    LT = "lt"
    GT = "gt"
    NOT_DETECTED = "not_detected"


class Purpose(StrEnum):
    """Why the sample was tested (监测类型)."""

    SELF = "self"
    COMMISSIONED = "commissioned"
    ROUTINE = "routine"
    SPECIAL = "special"
    SUPERVISION = "supervision"
    RISK = "risk"


class SamplingStage(StrEnum):
    """Where in the chain the sample was taken (抽样环节)."""

    BASE = "base"
    TRANSPORT = "transport"
    WHOLESALE = "wholesale"
    RETAIL = "retail"
    SLAUGHTER = "slaughter"
    STORAGE = "storage"
    CANTEEN = "canteen"


class Source(StrEnum):
    """How the record came into being; shown on every screen."""

    DEVICE = "device"
    APP = "app"
    TYPED = "typed"
    IMPORTED = "imported"


class Verdict(StrEnum):
    """Our verdict on a reading or a test."""

    PASS = "pass"  # noqa: S105 - a verdict, no password
    EXCEED = "exceed"
    SUSPECT = "suspect"
    UNDETERMINED = "undetermined"
    INVALID = "invalid"


class Severity(StrEnum):
    """How grave a finding is."""

    INFO = "info"
    WARNING = "warning"
    MAJOR = "major"
    CRITICAL = "critical"


class Component(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One member of a residue that the standard defines as a sum (克百威 and 3-羟基克百威).

    ``value`` is as the definition expresses it; a blank ``unit`` is the record's.
    """

    parameter: str
    value: Decimal | None = None
    unit: str = ""
    qualifier: Qualifier | None = None
    lod: Decimal | None = None
    loq: Decimal | None = None


class TestRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One rapid-test result, edge fields only (rapid_test_record §2).

    ``tested_at`` and ``sampled_at`` are RFC 3339 with offset. ``value`` is a decimal, never a float; on the wire it is
    text. ``raw`` is base64 of what the instrument sent (at most 8 KiB before encoding). ``components`` are the members
    of a sum, which then counts instead of ``value``; ``basis`` says what a mass fraction refers to (以脂肪计: ``fat``).
    """

    __test__ = False  # not a pytest class

    record_id: str
    dedup_key: str
    tested_at: str
    device_id: str
    sample_no: str = ""
    product_name: str = ""
    parameter: str = ""
    method: str = ""
    method_standard: str = ""
    result_kind: ResultKind | None = None
    value: Decimal | None = None
    unit: str = ""
    value_text: str = ""
    qualifier: Qualifier | None = None
    lod: Decimal | None = None
    loq: Decimal | None = None
    components: list[Component] | None = None
    basis: Literal["product", "fat"] | None = None
    screen_result: ScreenResult | None = None
    device_verdict: str = ""
    attempt: int = 0
    parent_record_id: str = ""
    device_model: str = ""
    serial_no: str = ""
    sampled_at: str = ""
    purpose: Purpose | None = None
    sampling_stage: SamplingStage | None = None
    subject_id: str = ""
    tested_subject_name: str = ""
    base_id: str = ""
    plot_id: str = ""
    lot_id: str = ""
    sampling_sheet_no: str = ""
    product_code: str = ""
    origin_text: str = ""
    channel: str = ""
    control_value: Decimal | None = None
    absorbance: Decimal | None = None
    c_line: Decimal | None = None
    t_line: Decimal | None = None
    tester: str = ""
    laboratory: str = ""  # who made it, when it was not the station itself
    report_no: str = ""
    source: Source = Source.DEVICE
    quality_flags: tuple[str, ...] = ()
    raw: str = ""
    schema_version: str = "1.0.0"
