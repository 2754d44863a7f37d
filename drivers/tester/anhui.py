"""The upload of Anhui's notice 524 of 2017, with the flat variants of Shandong and Henan (pure).

Names are initials of pinyin: an envelope ``count jczbh jcdw details[…]`` as JSON, or one record's fields as a form or a
query string. One wrong record never spoils its neighbours: each is a record or a refusal, in the order of the upload.
"""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from drivers.errors import FrameError
from drivers.tester.reader import MAX_RAW_BYTES, Found, RawRecord
from drivers.tester.text import decoded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from drivers.records import TestRecord

MAX_BODY_BYTES = 1024 * 1024
MAX_RECORDS = 5000
_MAX_FIELDS = 64
_MAX_DEPTH = 32

FIELDS: dict[str, str] = {
    "ybbh": "sample_no",
    "ybmc": "product_name",
    "ybcd": "origin_text",
    "bjdw": "tested_subject_name",
    "jcxm": "parameter",
    "jcdt": "tested_at",
    "jcz": "value",
    "szdw": "unit",
    "jgpd": "verdict",
    # one field for the method's standard and the limit's; rwbh, xlz, jczbh and jcdw stay in ``raw``
    "xlbz": "method_standard",
    "sbbh": "device_model",
    "jcy": "tester",
    "did": "serial_no",
}
ENVELOPE = ("count", "jczbh", "jcdw")


class AnhuiTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``anhui``: it has no keys."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One record of an upload that is none: its place, from 0, why, and its bytes."""

    index: int
    reason: str
    raw: bytes


def parse(
    body: bytes, content_type: str, record_of: Callable[[RawRecord], TestRecord]
) -> list[TestRecord | Refusal]:
    """Return what became of each record of an upload, in its order; raise FrameError for an envelope that is none.

    ``content_type`` may be blank: JSON begins with a brace or a bracket. ``record_of`` is ``points.record_of`` with the
    device, which gives what the upload lacks, and the time.
    """
    found: list[TestRecord | Refusal] = []
    for index, entry in enumerate(entries(body, content_type)):
        if isinstance(entry, FrameError):
            found.append(Refusal(index, str(entry), entry.raw))
            continue
        try:
            found.append(record_of(entry))
        except FrameError as exc:
            found.append(Refusal(index, str(exc), exc.raw))
    return found


def entries(body: bytes, content_type: str = "") -> list[RawRecord | FrameError]:
    """Return each record of an upload, or why it is none; raise FrameError for an envelope that is none."""
    if len(body) > MAX_BODY_BYTES:
        raise FrameError(f"an upload of {len(body)} bytes", raw=body[:MAX_RAW_BYTES])
    text, damaged = decoded(body.removeprefix(b"\xef\xbb\xbf").strip(), "auto")
    if damaged:
        raise FrameError("neither utf-8 nor GBK", raw=body[:MAX_RAW_BYTES])
    if text[:1] in ("{", "[") or "json" in content_type:
        return _of_json(text, body)
    return [_of_form(body.strip())]


def _of_json(text: str, body: bytes) -> list[RawRecord | FrameError]:
    _check_depth(text, body)
    try:
        if text.startswith("["):
            items, envelope = msgspec.json.decode(text, type=list[msgspec.Raw]), {}
        else:
            envelope = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
            if "details" not in envelope:
                return [_entry(text.encode(), envelope)]
            items = msgspec.json.decode(envelope["details"], type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeError) as exc:
        raise FrameError(f"not an upload: {exc}", raw=body[:MAX_RAW_BYTES]) from exc
    if len(items) > MAX_RECORDS:
        raise FrameError(f"an upload of {len(items)} records", raw=body[:MAX_RAW_BYTES])
    if "count" in envelope and _text(envelope["count"]) != str(len(items)):
        raise FrameError(
            f"count says {_text(envelope['count'])}, details has {len(items)}",
            raw=body[:MAX_RAW_BYTES],
        )
    return [_detail(bytes(item)) for item in items]


def _check_depth(text: str, body: bytes) -> None:
    """Refuse what is nested deeper than any upload; braces inside of texts only make it stricter by a hair."""
    depth = 0
    for character in text:
        if character in "{[":
            depth += 1
        elif character in "}]":
            depth -= 1
        if depth > _MAX_DEPTH:
            raise FrameError("nested too deep", raw=body[:MAX_RAW_BYTES])


def _detail(item: bytes) -> RawRecord | FrameError:
    try:
        members = msgspec.json.decode(item, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeError) as exc:
        return FrameError(f"not a record: {exc}", raw=item[:MAX_RAW_BYTES])
    return _entry(item, members)


def _entry(item: bytes, members: Mapping[str, msgspec.Raw]) -> RawRecord | FrameError:
    try:
        said = {name: _text(value) for name, value in members.items()}
    except FrameError as exc:
        return FrameError(str(exc), raw=item[:MAX_RAW_BYTES])
    return _record(said, item)


def _of_form(body: bytes) -> RawRecord | FrameError:
    try:
        said = dict(
            urllib.parse.parse_qsl(
                body.decode("latin-1"), encoding="latin-1", max_num_fields=_MAX_FIELDS
            )
        )
        texts = {name: decoded(value.encode("latin-1"), "auto") for name, value in said.items()}
    except (ValueError, UnicodeError) as exc:
        return FrameError(f"not a form: {exc}", raw=body[:MAX_RAW_BYTES])
    if any(broken for _, broken in texts.values()):
        return FrameError("neither utf-8 nor GBK", raw=body[:MAX_RAW_BYTES])
    return _record({name: text for name, (text, _) in texts.items()}, body)


def _record(said: Mapping[str, str], raw: bytes) -> RawRecord | FrameError:
    if len(raw) > MAX_RAW_BYTES:
        return FrameError(f"a record of {len(raw)} bytes", raw=raw[:MAX_RAW_BYTES])
    pairs = tuple((FIELDS[name], value) for name, value in said.items() if name in FIELDS and value)
    if not pairs:
        return FrameError(f"none of {', '.join(FIELDS)}", raw=raw)
    return RawRecord(pairs, raw, "\n".join(f"{name}={value}" for name, value in said.items()))


def _text(value: msgspec.Raw) -> str:
    """Return a text, or a number's own digits; blank for null. Raises FrameError for anything else."""
    said = bytes(value).strip()
    if said == b"null":
        return ""
    if said[:1] == b'"':
        try:
            return msgspec.json.decode(said, type=str).strip()
        except (msgspec.DecodeError, UnicodeError) as exc:
            raise FrameError(f"not a text: {exc}") from exc
    if said[:1] in (b"{", b"["):
        raise FrameError("a list or an object where a text should be")
    return said.decode("utf-8", errors="replace")


class AnhuiReader:
    """An upload's body, read when it is whole (``silence``)."""

    def __init__(self) -> None:
        self._found = Found()
        self._body = bytearray()

    @property
    def is_open(self) -> bool:
        """Whether a body has begun."""
        return bool(self._body)

    def feed(self, data: bytes) -> None:
        """Take a part of the body; what goes beyond the cap is only counted as too much."""
        self._body += data[: MAX_BODY_BYTES + 1 - len(self._body)]

    def silence(self) -> None:
        """The body is whole."""
        body = bytes(self._body)
        self._body.clear()
        if not body.strip():
            return
        self._found.reply(body[:MAX_RAW_BYTES])
        try:
            found = entries(body)
        except FrameError as exc:
            self._found.refuse(str(exc), exc.raw)
            return
        for entry in found:
            if isinstance(entry, FrameError):
                self._found.refuse(str(entry), entry.raw)
            else:
                self._found.record(entry)

    def next(self) -> RawRecord | None:
        """Return the next record; raise FrameError for one that is none."""
        return self._found.next()

    def next_reply(self) -> bytes | None:
        """Return the next whole body."""
        return self._found.next_reply()
