"""The edge link, format 1: packs, receipts and status as bytes (pure).

A pack is one ASCII header line, LF, then a UTF-8 JSON body::

    agri1 <epoch> <seq> <oldest> <sent_ms> <len> <first 16 hex of SHA-256 of the body>

The body holds exactly one of ``readings`` (SenML, RFC 8428), ``tests`` or ``lost``.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
from msgspec import Meta

from drivers.records import TestRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from drivers.records import Reading

MAGIC = b"agri1"
MAX_BODY_BYTES = 128 * 1024  # a receiver's buffer for one pack; the spool refuses more
MAX_HEADER_BYTES = 160  # 5 + 26 + 3 × 20 digits + 6 + 16 and blanks
PACK_MAX_RECORDS = 100
PACK_MAX_BYTES = 48 * 1024
MAX_RAW_BYTES = 8 * 1024

TOPIC_ROOT = "agri/v1"
STATION_CODE = re.compile(r"[a-z0-9][a-z0-9-]{2,39}")
_ULID = re.compile(rb"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_NUMBER = re.compile(rb"0|[1-9][0-9]{0,15}")
_HASH = re.compile(rb"[0-9a-f]{16}")
MAX_NUMBER = 2**53 - 1  # what every JSON reader holds exactly, and every database takes
MAX_LOST_BODY_BYTES = 1024

Count = Annotated[int, Meta(ge=0, le=MAX_NUMBER)]
Seq = Annotated[int, Meta(ge=1, le=MAX_NUMBER)]
Ms = Annotated[int, Meta(ge=-MAX_NUMBER, le=MAX_NUMBER)]
T = TypeVar("T")


class WireError(ValueError):
    """Bytes that are no pack, receipt or status; ``field`` names the part that is wrong."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class Lane(StrEnum):
    """Two streams of packs, so that a positive test never waits behind a backlog of readings."""

    READINGS = "readings"
    TESTS = "tests"


class ClockTrust(StrEnum):
    """How far the clock behind a body's times can be trusted."""

    SYNC = "sync"
    FREE = "free"
    UNSET = "unset"


class ReceiptState(StrEnum):
    """What ingest says beside the watermark."""

    OK = "ok"
    PENDING = "pending"
    HOLD = "hold"


class LostReason(StrEnum):
    """Why packs were dropped at the edge."""

    CAP = "cap"
    CORRUPT = "corrupt"


def is_ulid(text: str) -> bool:
    """Whether ``text`` is a ULID in its usual upper case."""
    return _ULID.fullmatch(text.encode()) is not None


def topic(station: str, leaf: str) -> str:
    """Return the topic of a station: ``leaf`` is ``up``, ``ack``, ``status`` or ``cmd``.

    >>> topic("hl-001", "up")
    'agri/v1/hl-001/up'
    """
    return f"{TOPIC_ROOT}/{station}/{leaf}"


def split_topic(name: str) -> tuple[str, str]:
    """Return (station, leaf) of a topic of ours; raise WireError for any other."""
    parts = name.split("/")
    if len(parts) != 4 or "/".join(parts[:2]) != TOPIC_ROOT:
        raise WireError("topic", f"{name!r} is not {TOPIC_ROOT}/<station>/<leaf>")
    if not STATION_CODE.fullmatch(parts[2]):
        raise WireError("topic", f"station code {parts[2]!r} must match {STATION_CODE.pattern}")
    return parts[2], parts[3]


# ---------------------------------------------------------------- packs


@dataclass(frozen=True, slots=True)
class Pack:
    """One pack as received: header fields and the body's bytes, length and hash checked."""

    epoch: str
    seq: int
    oldest: int
    sent_ms: int
    body: bytes


def encode_pack(epoch: str, seq: int, oldest: int, sent_ms: int, body: bytes) -> bytes:
    """Return header line and body."""
    digest = hashlib.sha256(body).hexdigest()[:16]
    return f"agri1 {epoch} {seq} {oldest} {sent_ms} {len(body)} {digest}\n".encode("ascii") + body


def decode_pack(payload: bytes) -> Pack:
    """Split and check a pack; raise WireError naming the field. The body is not decoded."""
    end = payload.find(b"\n", 0, MAX_HEADER_BYTES)
    if end < 0:
        raise WireError("header", f"no LF in the first {MAX_HEADER_BYTES} bytes")
    parts = payload[:end].split(b" ")
    if parts[0] != MAGIC:
        raise WireError(
            "header", "does not begin with 'agri1'; is the agent newer than the server?"
        )
    if len(parts) != 7:
        raise WireError("header", f"has {len(parts)} fields, not 7")
    _, epoch, seq, oldest, sent_ms, length, digest = parts
    if not _ULID.fullmatch(epoch):
        raise WireError("header.epoch", "is not a ULID")
    for name, text in (("seq", seq), ("oldest", oldest), ("sent_ms", sent_ms), ("len", length)):
        if not _NUMBER.fullmatch(text):
            raise WireError(f"header.{name}", "is not a plain decimal number")
    if int(seq) < 1 or not 1 <= int(oldest) <= int(seq):
        raise WireError("header.oldest", "must lie in 1..seq")
    if not _HASH.fullmatch(digest):
        raise WireError("header.hash", "is not 16 lower-case hex digits")
    body = payload[end + 1 :]
    if len(body) != int(length):
        raise WireError("header.len", f"says {int(length)} bytes, the body has {len(body)}")
    if len(body) > MAX_BODY_BYTES:
        raise WireError("body", f"has {len(body)} bytes, more than {MAX_BODY_BYTES}")
    if hashlib.sha256(body).hexdigest()[:16].encode() != digest:
        raise WireError("header.hash", "does not match the body")
    return Pack(epoch.decode(), int(seq), int(oldest), int(sent_ms), body)


# ---------------------------------------------------------------- bodies


class SenmlRecord(msgspec.Struct, omit_defaults=True):
    """One SenML record; ``bn`` and ``bt`` hold until replaced. ``q`` marks a reading that failed (it has no ``v``)."""

    n: str = ""
    bn: str | None = None
    bt: float | None = None
    t: float = 0.0
    v: float | None = None
    u: str | None = None
    q: str | None = None
    raw: str | None = None


class Lost(msgspec.Struct, frozen=True, rename={"from_seq": "from"}):
    """A range of packs that the edge dropped; ``readings`` is an upper bound of the records in it."""

    from_seq: Seq
    through: Seq
    readings: Count
    reason: LostReason


class Body(msgspec.Struct, omit_defaults=True):
    """The body of a pack: exactly one of ``readings``, ``tests``, ``lost``."""

    readings: list[SenmlRecord] | None = None
    tests: list[TestRecord] | None = None
    lost: Lost | None = None
    clk: ClockTrust = ClockTrust.SYNC


_encoder = msgspec.json.Encoder()


def _decode(decoder: msgspec.json.Decoder[T], payload: bytes, field: str) -> T:
    """Decode, with every way in which a stranger's bytes can fail as WireError."""
    try:
        return decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise WireError(field, str(exc)) from exc
    except RecursionError as exc:
        raise WireError(field, "is nested too deeply") from exc


def encode_readings(readings: Iterable[Reading], clk: ClockTrust = ClockTrust.SYNC) -> bytes:
    """Return a body of SenML records; names and times are based on the first record of each device.

    Times are written so that ``round((bt + t) × 1000)`` is ``t_ms`` again.
    """
    records: list[SenmlRecord] = []
    device: str | None = None
    base_ms = 0
    for reading in readings:
        record = SenmlRecord(n=reading.indicator, v=reading.value, q=reading.quality)
        if device is None:
            base_ms = reading.t_ms
            record.bt = base_ms / 1000
        if reading.device != device:
            device = reading.device
            record.bn = f"{device}/"
        record.t = (reading.t_ms - base_ms) / 1000
        records.append(record)
    return _encoder.encode({"readings": records, "clk": clk})


def encode_tests(tests: Sequence[TestRecord], clk: ClockTrust = ClockTrust.SYNC) -> bytes:
    """Return a body of test records."""
    return _encoder.encode({"tests": tests, "clk": clk})


def encode_lost(lost: Lost) -> bytes:
    """Return the body that stands for dropped packs."""
    return _encoder.encode({"lost": lost})


_body_decoder = msgspec.json.Decoder(Body)


def decode_body(body: bytes) -> Body:
    """Decode a body; raise WireError with the path of what is wrong. Unknown keys are ignored."""
    decoded = _decode(_body_decoder, body, "body")
    held = (decoded.readings is not None) + (decoded.tests is not None) + (decoded.lost is not None)
    if held != 1:
        raise WireError("body", f"must hold exactly one of readings, tests, lost; holds {held}")
    return decoded


def peek_lost(body: bytes) -> Lost | None:
    """Return the lost range when ``body`` is one, else None (also for a body that does not decode)."""
    if len(body) > MAX_LOST_BODY_BYTES or b'"lost"' not in body:
        return None
    try:
        return decode_body(body).lost
    except WireError:
        return None


# ---------------------------------------------------------------- receipts


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """Every pack of ``epoch`` up to ``seq`` is durable in ingest's inbox, under the server life ``store``."""

    epoch: str
    seq: Count
    store: str
    now_ms: Ms
    state: ReceiptState = ReceiptState.OK
    ahead: bool = False


_receipt_decoder = msgspec.json.Decoder(Receipt)


def encode_receipt(receipt: Receipt) -> bytes:
    """Return the receipt's bytes for the ``ack`` topic."""
    return _encoder.encode(receipt)


def decode_receipt(payload: bytes) -> Receipt:
    """Decode a receipt; raise WireError."""
    receipt = _decode(_receipt_decoder, payload, "receipt")
    if not is_ulid(receipt.store):
        raise WireError("receipt.store", "is not a ULID")
    return receipt


# ---------------------------------------------------------------- status


class EpochState(msgspec.Struct, frozen=True):
    """One epoch of a lane: what the spool holds; ``oldest`` = ``last`` + 1 when nothing is held."""

    epoch: str
    oldest: Seq
    last: Count


class DeviceSeen(msgspec.Struct, frozen=True):
    """When a device last answered, and whether it answers now."""

    path: str
    seen_ms: Ms | None
    ok: bool


class Status(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What an agent says of itself at each connect and every 60 s; the will has only ``online`` and ``session``.

    ``queue`` counts packs without receipt, ``oldest_unreceipted_ms`` is the age of the oldest.
    """

    online: bool
    session: str
    sent_ms: Ms = 0
    version: str = ""
    queue: Count = 0
    oldest_unreceipted_ms: Count | None = None
    disk_free: Count | None = None
    clock_offset_ms: Ms | None = None
    alarms: list[str] = []
    devices: list[DeviceSeen] = []
    lanes: dict[Lane, list[EpochState]] = {}
    key: str = ""
    sig: str = ""


_status_decoder = msgspec.json.Decoder(Status)


def status_signing_bytes(station: str, session: str, lanes: dict[Lane, list[EpochState]]) -> bytes:
    """Return the bytes that a status signature covers: compact JSON of [station, session, epochs].

    Epochs are ``[lane, epoch, oldest, last]``, sorted by lane, then by epoch.
    """
    epochs = sorted(
        (lane.value, e.epoch, e.oldest, e.last) for lane, held in lanes.items() for e in held
    )
    return _encoder.encode([station, session, epochs])


def encode_status(status: Status) -> bytes:
    """Return the status as bytes."""
    return _encoder.encode(status)


def encode_will(session: str) -> bytes:
    """Return the will of a session."""
    return _encoder.encode({"online": False, "session": session})


def decode_status(payload: bytes) -> Status:
    """Decode a status or a will; raise WireError."""
    return _decode(_status_decoder, payload, "status")
