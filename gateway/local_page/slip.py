"""The QR code of a slip, as SVG: the record's id and the sample's number, nothing of a person."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drivers.records import TestRecord

MARK = "AGR1"


def qr_text(record: TestRecord) -> str:
    """Return what the code says.

    >>> from drivers.records import TestRecord
    >>> qr_text(
    ...     TestRecord(record_id="r-1", dedup_key="", tested_at="", device_id="", sample_no="S 7")
    ... )
    'AGR1:r-1:S 7'
    """
    return f"{MARK}:{record.record_id}:{record.sample_no}"


def qr_svg(record: TestRecord) -> bytes:
    """Return the code as an SVG document with the quiet zone that readers need."""
    import segno  # noqa: PLC0415 - 2 MB that only a printed slip needs

    out = io.BytesIO()
    segno.make(qr_text(record), error="m", micro=False).save(
        out, kind="svg", border=4, xmldecl=False, omitsize=True, nl=False
    )
    return out.getvalue()
