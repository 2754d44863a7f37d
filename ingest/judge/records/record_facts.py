"""What a test record says of itself before any rule: its times, its kind, the class of its method, what it lacks."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from drivers.records import ResultKind
from ingest.judge.catalogue.names import OP_CARBAMATE, MethodClass
from ingest.judge.catalogue.tables import CHINA

if TYPE_CHECKING:
    from drivers.records import TestRecord
    from ingest.judge.catalogue.catalogue import Catalogue


def time_ms(text: str) -> int:
    """Return UTC ms of an RFC 3339 time or a date; without an offset it is China's; raise ValueError.

    >>> time_ms("2026-05-01") == time_ms("2026-05-01T00:00:00+08:00") == 1777564800000
    True
    """
    moment = dt.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=CHINA)
    return round(moment.timestamp() * 1000)


def sample_time_ms(record: TestRecord) -> int | None:
    """Return when the sample was taken, else tested; None when neither is a time."""
    for text in (record.sampled_at, record.tested_at):
        if not text:
            continue
        try:
            return time_ms(text)
        except (ValueError, OverflowError):
            continue
    return None


def method_class(catalogue: Catalogue, record: TestRecord) -> MethodClass:
    """Return the class of the record's method; an unknown method never confirms anything."""
    method = catalogue.names.method(record.method) if record.method else None
    return MethodClass.SCREENING if method is None else method.method_class


def result_kind(catalogue: Catalogue, record: TestRecord) -> ResultKind | None:
    """Return the kind of result that the record says or shows, None when neither."""
    if record.result_kind is not None:
        return record.result_kind
    if record.screen_result is not None:
        return ResultKind.QUALITATIVE
    substance = catalogue.names.substance(record.parameter)
    if substance is not None and substance.code == OP_CARBAMATE:
        return ResultKind.INHIBITION
    if record.value is not None or record.components or record.qualifier is not None:
        return ResultKind.QUANTITATIVE
    if record.c_line is not None or record.t_line is not None:
        return ResultKind.QUALITATIVE
    return None


def is_incomplete(record: TestRecord) -> bool:
    """Tell whether a field is missing that the record must have (rapid_test_record §2)."""
    stage_needed = record.purpose is not None and record.purpose != "self"
    return not (
        record.sample_no
        and record.product_name
        and record.parameter
        and record.method
        and record.result_kind
        and record.purpose
        and (record.subject_id or record.tested_subject_name)
        and (record.sampling_stage or not stage_needed)
    )
