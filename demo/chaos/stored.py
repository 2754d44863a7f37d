"""What the stopped server holds and what the receiver took, read from their files for the account."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import zstandard

from demo.chaos.account import Booked, Replies, Stored, Told
from demo.chaos.counting import read_journal
from demo.chaos.spools import open_read_only
from gateway import wire
from ingest.store.duckdb_stock import DuckDBStock
from ingest.store.stock import READING_TYPES, joined

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from demo.chaos.load import Agent
    from demo.chaos.spools import Accepted, Place, SeriesKey


class _Analyte(msgspec.Struct):
    code: str


class _Finding(msgspec.Struct):
    analyte: _Analyte


class _Site(msgspec.Struct):
    site_id: str
    device: str


class _Data(msgspec.Struct):
    alert_id: str
    kind: str
    finding: _Finding
    site: _Site


class _Event(msgspec.Struct):
    type: str
    data: _Data


class _Entry(msgspec.Struct):
    webhook_id: str
    event: _Event | None = None


def replies(journal_dir: Path, crew: Iterable[Agent]) -> dict[tuple[str, str], Replies]:
    """Return what every device served."""
    found = {}
    for agent in crew:
        n: dict[str, list[int]] = {d.path: [] for d in agent.devices}
        ms: dict[str, list[int]] = {d.path: [] for d in agent.devices}
        over: dict[str, dict[int, list[int]]] = {d.path: {} for d in agent.devices}
        for served in read_journal(journal_dir / f"{agent.name}.jsonl"):
            n[served.device].append(served.n)
            ms[served.device].append(served.ms)
            for place in served.over:
                over[served.device].setdefault(place, []).append(served.n)
        for device in agent.devices:
            found[agent.station, device.path] = Replies(
                device.indicators,
                np.array(n[device.path], np.int64),
                np.array(ms[device.path], np.int64),
                over[device.path],
            )
    return found


def store(path: Path) -> dict[SeriesKey, Stored]:
    """Return every series of the store."""
    with closing(DuckDBStock(path)) as stock:
        pieces = [
            stock.read(piece)
            for month_ms in stock.months(None)
            for piece in stock.pieces(None, month_ms)
        ]
        rows, series = joined(pieces, READING_TYPES), stock.series
    found = {}
    for number, one in enumerate(series):
        begin, end = np.searchsorted(rows["series"], [number, number + 1])
        found[one.station, one.device, one.indicator] = Stored(
            rows["t_ms"][begin:end], rows["v"][begin:end], rows["dup"][begin:end].astype(np.int64)
        )
    return found


def taken(inbox: Path) -> set[Place]:
    """Return every pack in the inbox."""
    with closing(open_read_only(inbox)) as db:
        return set(db.execute("SELECT station, epoch, seq FROM packs"))


def fill(inbox: Path, accepted: Accepted) -> None:
    """Complete what was accepted by packs that were delivered and gone between two looks at a spool."""
    with closing(open_read_only(inbox)) as db:
        for place in sorted(accepted.unseen):
            row = db.execute(
                "SELECT body FROM packs WHERE station = ? AND epoch = ? AND seq = ?", place
            ).fetchone()
            if row is not None:
                accepted.fill(*place, _unpacked(row[0]))


def booked(inbox: Path) -> list[Booked]:
    """Return every range that was booked as lost or gap."""
    with closing(open_read_only(inbox)) as db:
        rows = db.execute(
            "SELECT l.station, l.epoch, from_seq, through_seq, readings, reason, p.body FROM losses l"
            " LEFT JOIN packs p ON p.station = l.station AND p.epoch = l.epoch AND p.seq = l.through_seq"
        )
        return [
            Booked(station, epoch, first, through, readings, reason, *_said_by(body))
            for station, epoch, first, through, readings, reason, body in rows
        ]


def _said_by(stored: bytes | None) -> tuple[int, int]:
    """Return where the range of a ``lost`` pack begins and the readings that it speaks of; 0 and −1 for another."""
    lost = None if stored is None else wire.peek_lost(_unpacked(stored))
    return (0, -1) if lost is None else (lost.from_seq, lost.readings)


def _unpacked(stored: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(stored, max_output_size=wire.MAX_BODY_BYTES)


def pending(operational: Path) -> int:
    """Return how many webhooks wait to be sent; raise sqlite3.OperationalError."""
    with closing(open_read_only(operational)) as db:
        (count,) = db.execute("SELECT count(*) FROM outbox WHERE state = 'pending'").fetchone()
        return int(count)


def told(journal: Path) -> list[Told]:
    """Return the webhooks about limits that the receiver took; technical alerts are nobody's breach."""
    decoder = msgspec.json.Decoder(_Entry)
    data = journal.read_bytes() if journal.exists() else b""
    entries = [decoder.decode(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]
    return [
        Told(
            entry.webhook_id,
            entry.event.type,
            entry.event.data.alert_id,
            (
                entry.event.data.site.site_id,
                entry.event.data.site.device,
                entry.event.data.finding.analyte.code,
            ),
        )
        for entry in entries
        if entry.event is not None and entry.event.data.kind == "limit"
    ]
