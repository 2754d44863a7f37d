"""What a test record still lacks (rapid_test_record §2), as field names (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivers.records import Purpose

if TYPE_CHECKING:
    from drivers.records import TestRecord

UNKNOWN_ITEM = "parameter_unknown"


def missing(record: TestRecord) -> list[str]:
    """Return the fields without which the server calls ``record`` incomplete, in the order of the form."""
    lacks = [
        name
        for name in ("sample_no", "product_name", "parameter", "method", "result_kind")
        if not getattr(record, name)
    ]
    if record.value is None and record.qualifier is None and record.screen_result is None:
        lacks.append("result")
    if record.purpose is None:
        lacks.append("purpose")
    if record.purpose not in {None, Purpose.SELF} and record.sampling_stage is None:
        lacks.append("sampling_stage")
    if not (record.subject_id or record.tested_subject_name):
        lacks.append("tested_subject_name")
    if record.purpose is Purpose.SUPERVISION and not record.sampling_sheet_no:
        lacks.append("sampling_sheet_no")
    return lacks
