"""A record is withdrawn by a record that points to it and puts nothing in its place: the way of every correction."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import TYPE_CHECKING

import msgspec

from drivers.records import Source, TestRecord
from ingest.judge.catalogue.tables import CHINA
from ingest.judge.records.corrections import WITHDRAWN

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAMESPACE = uuid.UUID("d2b1a0f4-8a39-4e57-8a0f-0c5d6b7e2f31")


def withdrawal_id(record_id: str) -> str:
    """Return the id of the record that withdraws ``record_id``: withdrawn twice is withdrawn once."""
    return str(uuid.uuid5(_NAMESPACE, record_id))


def withdrawal_of(row: Mapping[str, object], reason: str, actor: str) -> TestRecord:
    """Return the record that withdraws the one of ``row`` (of the table ``tests``).

    It bears the times of what it withdraws and so stays with its sample; when it was made its pack says.
    """
    record_id = str(row["record_id"])
    own_id = withdrawal_id(record_id)
    return TestRecord(
        record_id=own_id,
        dedup_key=f"withdrawal:{own_id}",
        tested_at=_said(row["tested_ms"]),
        sampled_at=_said(row["sampled_ms"]),
        device_id=str(row["device"]),
        sample_no=str(row["sample_no"]),
        product_name=str(row["product_name"]),
        parameter=str(row["parameter"]),
        method=str(row["method"]),
        value_text=reason,
        attempt=int(str(row["attempt"])),
        parent_record_id=record_id,
        tester=actor,
        source=Source.TYPED,
        quality_flags=(WITHDRAWN,),
    )


def body_of(record: TestRecord) -> bytes:
    """Return the message for the inbox."""
    return msgspec.json.encode({"tests": [record]})


def _said(at_ms: object) -> str:
    return (
        dt.datetime.fromtimestamp(at_ms / 1000, CHINA).isoformat() if isinstance(at_ms, int) else ""
    )
