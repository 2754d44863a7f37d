"""Uploads in the way of Anhui's notice, told as an agent's inbox of the same device would tell them."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

from drivers.errors import FrameError
from drivers.tester import anhui, config, points
from drivers.tester.text import decoded
from ingest.publishers import strict_json
from ingest.publishers.parsed import MAX_TESTS, WHOLE, Body, Context, Parsed, RecordError
from ingest.publishers.strict_json import JsonError, Twice

if TYPE_CHECKING:
    from drivers.records import TestRecord
    from drivers.tester.config import TesterDevice
    from drivers.tester.reader import RawRecord

_BOM = b"\xef\xbb\xbf"
_SENML = frozenset({"n", "bn"})


class AnhuiFormat:
    """The envelope ``details``, a list of its records, one record, or one as a form; UTF-8 or GBK."""

    def is_mine(self, body: Body) -> bool:
        """Whether a field of the notice is where one would be."""
        document = _document(body)
        if document is None:
            names = {pair.partition(b"=")[0] for pair in body.raw.strip().split(b"&")}
            return any(name.encode() in names for name in anhui.FIELDS)
        items = document if isinstance(document, list) else [document]
        return any(
            isinstance(item, dict)
            and ("details" in item or not anhui.FIELDS.keys().isdisjoint(item))
            and _SENML.isdisjoint(item)
            for item in items
        )

    def read(self, body: Body, context: Context) -> Parsed:
        """Read each record with the device's path; the time of arrival stands in for one that it lacks."""
        parsed = Parsed()
        if not context.device:
            said = "an upload does not say whose it is: send it with the key of a device (--device)"
            parsed.refuse(WHOLE, RecordError("device", said))
            return parsed
        device = dataclasses.replace(_device(), station=context.station, path=context.device)

        def record_of(raw: RawRecord) -> TestRecord:
            return points.record_of(raw, device, context.received_ms)

        try:
            found = anhui.parse(body.raw, "", record_of)
        except FrameError as exc:
            parsed.refuse(WHOLE, RecordError("body", str(exc)))
            return parsed
        if len(found) > MAX_TESTS:
            said = f"has {len(found)} records, more than {MAX_TESTS}"
            parsed.refuse(WHOLE, RecordError("body", said))
            return parsed
        doubled = _doubled(_document(body))
        for position, entry in enumerate(found):
            if position in doubled:
                parsed.refuse(position, RecordError("record", doubled[position].reason))
            elif isinstance(entry, anhui.Refusal):
                parsed.refuse(position, RecordError("record", entry.reason))
            else:
                parsed.tests.append((position, entry))
        return parsed


@functools.cache
def _device() -> TesterDevice:
    """Return what an agent makes of ``profile = "anhui"`` alone."""
    table = {"path": "upload", "profile": "anhui", "transport": {"http": "/"}}
    return config.parse(table, "upload")


def _document(body: Body) -> object:
    """Return the JSON of ``body``, in GBK too; None when it is none."""
    if not isinstance(body.document, JsonError):
        return body.document
    text, damaged = decoded(body.raw.removeprefix(_BOM).strip(), "auto")
    if damaged or not text.startswith(("{", "[")):
        return None
    try:
        return strict_json.decode(text.encode())
    except JsonError:
        return None


def _doubled(document: object) -> dict[int, Twice]:
    """Return the records that say a field twice, by place."""
    items = (
        document["details"] if isinstance(document, dict) and "details" in document else document
    )
    if not isinstance(items, list):
        return {}
    return {place: item for place, item in enumerate(items) if isinstance(item, Twice)}
