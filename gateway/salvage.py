"""What a damaged spool file still holds, read page by page without SQLite, into a new file with the same epochs.

A pack counts when its bytes match their digest, wherever in the file its row stands; so it does not matter what else is
broken: header, tree, index, log. Holes become ``lost`` packs, the number of their readings an upper bound. The formats
are those of https://www.sqlite.org/fileformat2.html, sections 1.5, 1.6, 1.8, 2.1 and 4.
"""

from __future__ import annotations

import itertools
import sqlite3
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from gateway import wire
from gateway.spool_file import (
    PAGE_BYTES,
    LossReason,
    digest_of,
    give_name,
    prepare,
    salvaged_of,
    set_up_pages,
    size_of,
    wal_of,
)
from gateway.wire import Lane, Lost, LostReason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Losses = dict[tuple[Lane, LossReason], int]
Row = list[int | float | bytes | None]

WAL_HEADER = struct.Struct(">8I")
FRAME_HEADER = struct.Struct(">6I")
FRAME_BYTES = FRAME_HEADER.size + PAGE_BYTES
WAL_MAGIC = 0x377F0682  # the lowest bit says the byte order of the checksums
TABLE_LEAF, INDEX_LEAF = 13, 10
PTRMAP_ROOT, PTRMAP_FREE = 1, 2
PTRMAP_ENTRY = 5
LARGEST_PAYLOAD = wire.MAX_BODY_BYTES + 1024
TABLE_LOCAL = PAGE_BYTES - 35
INDEX_LOCAL = (PAGE_BYTES - 12) * 64 // 255 - 23
LEAST_LOCAL = (PAGE_BYTES - 12) * 32 // 255 - 23
TORN = (ValueError, IndexError, struct.error)  # what reading nonsense as a page raises
EPOCH_CHARS = 26


@dataclass(frozen=True, slots=True)
class KnownEpoch:
    """What is known of an epoch beside its packs; None where it is not."""

    lane: Lane
    last: int
    acked: int
    last_pack_ms: int
    ord: int | None = None
    oldest: int | None = None


@dataclass(slots=True)
class Report:
    """What became of a damaged file."""

    reason: str
    moved_to: str = ""
    packs: int = 0
    holes: int = 0
    lost: Losses = field(default_factory=dict)
    """Upper bound of records in unreceipted holes, found now."""
    rebuilt: list[str] = field(default_factory=list)
    """Epochs whose own row was unreadable: their receipts and end are not known."""


# ---------------------------------------------------------------- pages


class Pages:
    """The newest image of each page of a database: from its log, up to the last commit, else from the file."""

    def __init__(self, file: Path) -> None:
        self._db = file.open("rb") if size_of(file) else None
        self._wal = wal_of(file).open("rb") if size_of(wal_of(file)) else None
        self._in_wal = {} if self._wal is None else _committed_pages(wal_of(file))
        self.count = max([size_of(file) // PAGE_BYTES, *self._in_wal], default=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for opened in (self._db, self._wal):
            if opened is not None:
                opened.close()

    def page(self, number: int) -> bytes:
        """Return page ``number``, from 1; empty when there is none."""
        at = self._in_wal.get(number)
        if at is not None and self._wal is not None:
            self._wal.seek(at)
            return self._wal.read(PAGE_BYTES)
        if self._db is None or number < 1:
            return b""
        self._db.seek((number - 1) * PAGE_BYTES)
        page = self._db.read(PAGE_BYTES)
        return page if len(page) == PAGE_BYTES else b""

    def live(self) -> Iterator[tuple[int, bytes]]:
        """Yield every page that is in use, as far as that can be told."""
        mapped = self.page(2)[:1] == bytes([PTRMAP_ROOT])
        per_map = PAGE_BYTES // PTRMAP_ENTRY + 1
        pointers, at = b"", 0
        for number in range(1, self.count + 1):
            if mapped and number > 1:
                begin = (number - 2) // per_map * per_map + 2
                if begin != at:
                    pointers, at = self.page(begin), begin
                if number == begin:
                    continue
                entry = PTRMAP_ENTRY * (number - begin - 1)
                if pointers[entry : entry + 1] == bytes([PTRMAP_FREE]):
                    continue
            page = self.page(number)
            if page:
                yield number, page


def _frames(wal: Path) -> Iterator[tuple[int, tuple[int, ...], bytes]]:
    """Yield (offset of the page, frame header, page) of every whole frame of ``wal``."""
    with wal.open("rb") as file:
        file.seek(WAL_HEADER.size)
        at = WAL_HEADER.size
        while len(frame := file.read(FRAME_BYTES)) == FRAME_BYTES:
            yield (
                at + FRAME_HEADER.size,
                FRAME_HEADER.unpack_from(frame),
                frame[FRAME_HEADER.size :],
            )
            at += FRAME_BYTES


def _salts(wal: Path) -> tuple[int, int] | None:
    """Return the salts of the log's present generation: of the header, or of the first frame when that is damaged."""
    with wal.open("rb") as file:
        raw = file.read(WAL_HEADER.size)
    if len(raw) < WAL_HEADER.size:
        return None
    if _header_is_whole(raw):
        header = WAL_HEADER.unpack(raw)
        return header[4], header[5]
    return next(((head[2], head[3]) for _, head, _ in _frames(wal)), None)


def _header_is_whole(raw: bytes) -> bool:
    header = WAL_HEADER.unpack(raw)
    if header[0] & ~1 != WAL_MAGIC or header[2] != PAGE_BYTES:
        return False
    return _checksum(raw[:24], (0, 0), header[0]) == header[6:8]


def _committed_pages(wal: Path) -> dict[int, int]:
    """Return where in ``wal`` the newest committed image of each page stands; checksums are not asked."""
    salts = _salts(wal)
    committed: dict[int, int] = {}
    waiting: dict[int, int] = {}
    for at, (number, size, salt1, salt2, *_), _ in _frames(wal):
        if (salt1, salt2) != salts:
            continue
        waiting[number] = at
        if size:
            committed.update(waiting)
            waiting.clear()
            committed = {n: where for n, where in committed.items() if n <= size}
    return committed


def wal_is_broken(wal: Path) -> bool:
    """Whether SQLite would throw away commits of ``wal`` that were on disk.

    A chain of checksums that breaks in the last commit only is what a power cut leaves: that commit was never
    acknowledged. Each earlier one was on disk before the next began.
    """
    salts = _salts(wal)
    if salts is None:
        return False
    with wal.open("rb") as file:
        raw = file.read(WAL_HEADER.size)
    whole = _header_is_whole(raw)
    magic, *_, sum1, sum2 = WAL_HEADER.unpack(raw)
    chain, commits = (sum1, sum2), 0
    for _, head, page in _frames(wal):
        if head[2:4] != salts:
            if not whole:
                continue
            whole = False  # the end of this generation, or a damaged frame: see whether it goes on
        if whole:
            chain = _checksum(struct.pack(">2I", *head[:2]), chain, magic)
            chain = _checksum(page, chain, magic)
            whole = chain == head[4:6]
        if not whole and head[2:4] == salts and head[1]:
            commits += 1
    return commits > 1


def _checksum(data: bytes, start: tuple[int, int], magic: int) -> tuple[int, int]:
    first, second = start
    for one, two in struct.iter_unpack(">2I" if magic & 1 else "<2I", data):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + two + first) & 0xFFFFFFFF
    return first, second


# ---------------------------------------------------------------- rows


def rows_of(pages: Pages) -> Iterator[tuple[int, Row]]:
    """Yield (rowid, values) of every row in a leaf page, as far as they can be read; 0 for rows of an index."""
    for number, page in pages.live():
        begin = 100 if number == 1 else 0
        if page[begin] not in {TABLE_LEAF, INDEX_LEAF}:
            continue
        (cells,) = struct.unpack_from(">H", page, begin + 3)
        for index in range(min(cells, PAGE_BYTES // 4)):
            try:
                (at,) = struct.unpack_from(">H", page, begin + 8 + 2 * index)
                yield _cell(pages, page, at, table=page[begin] == TABLE_LEAF)
            except TORN:
                continue


def _cell(pages: Pages, page: bytes, at: int, *, table: bool) -> tuple[int, Row]:
    size, at = _varint(page, at)
    rowid = 0
    if table:
        rowid, at = _varint(page, at)
    if size > LARGEST_PAYLOAD:
        raise ValueError("no row of ours is as large")
    most = TABLE_LOCAL if table else INDEX_LOCAL
    if size <= most:
        return rowid, _record(page[at : at + size])
    local = LEAST_LOCAL + (size - LEAST_LOCAL) % (PAGE_BYTES - 4)
    local = local if local <= most else LEAST_LOCAL
    payload = bytearray(page[at : at + local])
    (following,) = struct.unpack_from(">I", page, at + local)
    while len(payload) < size:
        overflow = pages.page(following)
        (following,) = struct.unpack_from(">I", overflow)
        payload += overflow[4 : 4 + size - len(payload)]
    return rowid, _record(bytes(payload))


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for step in range(8):
        byte = data[at + step]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + step + 1
    return value << 8 | data[at + 8], at + 9


def _record(payload: bytes) -> Row:
    """Decode a record; texts stay bytes."""
    end, at = _varint(payload, 0)
    body = end
    row: Row = []
    while at < end:
        kind, at = _varint(payload, at)
        if kind == 0:
            row.append(None)
        elif kind <= 6:
            width = (0, 1, 2, 3, 4, 6, 8)[kind]
            row.append(int.from_bytes(payload[body : body + width], signed=True))
            body += width
        elif kind == 7:
            row.append(struct.unpack_from(">d", payload, body)[0])
            body += 8
        elif kind in {8, 9}:
            row.append(kind - 8)
        elif kind >= 12:
            width = (kind - 12) // 2
            row.append(payload[body : body + width])
            body += width
        else:
            raise ValueError("a reserved type")
        if body > len(payload):
            raise ValueError("a record longer than its row")
    return row


@dataclass(slots=True)
class _Found:
    """What the rows of a damaged file say, beside the packs."""

    epochs: dict[str, list[KnownEpoch]] = field(default_factory=dict)
    stores: dict[str, int] = field(default_factory=dict)
    lost: Losses = field(default_factory=dict)
    seen: dict[str, list[int]] = field(default_factory=dict)
    """Least and greatest seq that the index has, by epoch."""

    def take(self, rowid: int, row: Row) -> None:
        """Note a row that is no pack."""
        match row:
            case [bytes(name), int(seq), int(_)] if seq > 0 and (epoch := _ulid(name)):
                least, greatest = self.seen.setdefault(epoch, [seq, seq])
                self.seen[epoch] = [min(least, seq), max(greatest, seq)]
            case [bytes(name), bytes(lane), int(order), int(last), int(acked), int(at)]:
                epoch = _ulid(name)
                if epoch and lane.decode() in set(Lane) and 0 <= acked <= last <= wire.MAX_NUMBER:
                    known = KnownEpoch(Lane(lane.decode()), last, acked, at, ord=order)
                    self.epochs.setdefault(epoch, []).append(known)
            case [None, bytes(name)] if rowid and (store := _ulid(name)):
                self.stores[store] = rowid
            case [bytes(lane), bytes(reason), int(records)] if records >= 0:
                self.lost[Lane(lane.decode()), LossReason(reason.decode())] = records

    def known(self) -> dict[str, KnownEpoch]:
        """Return the epochs; where several images of one were found, with no receipt that one of them lacks."""
        return {
            epoch: KnownEpoch(
                images[0].lane,
                max(e.last for e in images),
                min(e.acked for e in images),
                max(e.last_pack_ms for e in images),
                ord=images[0].ord,
            )
            for epoch, images in self.epochs.items()
        }


def _ulid(name: bytes) -> str | None:
    text = name.decode("ascii", "replace")
    return text if len(name) == EPOCH_CHARS and wire.is_ulid(text) else None


def _is_pack(row: Row) -> bool:
    match row:
        case [
            None,
            bytes(epoch),
            int(first),
            int(seq),
            int(records),
            int(lost),
            int(_),
            bytes(digest),
            bytes(body),
        ]:
            sound = 0 < first <= seq <= wire.MAX_NUMBER and records >= 0 and lost in {0, 1}
            return sound and _ulid(epoch) is not None and digest_of(body) == digest
    return False


# ---------------------------------------------------------------- the new file


def replace_damaged(
    file: Path,
    reason: str,
    *,
    epochs: dict[str, KnownEpoch] | None = None,
    stores: list[str] | None = None,
    lost: Losses | None = None,
) -> Report:
    """Build a new spool from what is readable of ``file``, move that aside, give the new one its name.

    What a running agent knows is taken instead of what the file says. Raises sqlite3.Error and OSError when the new
    file cannot be written; ``file`` is then as it was.
    """
    new = salvaged_of(file)
    new.unlink(missing_ok=True)
    report = Report(reason)
    db = sqlite3.connect(new, isolation_level=None)
    try:
        set_up_pages(db)
        db.execute("PRAGMA journal_mode=OFF")  # nobody has it before it is whole
        db.execute("PRAGMA synchronous=OFF")
        prepare(db)
        db.execute("BEGIN")
        found = _copy_packs(file, db, report)
        _Rebuild(db, found, report, found.known() if epochs is None else epochs).all_epochs()
        kept = found.lost if lost is None else lost
        for key in sorted(kept.keys() | report.lost):
            records = kept.get(key, 0) + report.lost.get(key, 0)
            db.execute("INSERT INTO lost VALUES (?, ?, ?)", (key[0].value, key[1].value, records))
        names = sorted(found.stores, key=found.stores.__getitem__) if stores is None else stores
        db.executemany("INSERT INTO stores (store) VALUES (?)", [(name,) for name in names])
        db.execute("COMMIT")
    except BaseException:
        db.close()
        new.unlink(missing_ok=True)
        raise
    db.close()
    report.moved_to = move_aside(file)
    give_name(new, file)
    return report


def _endings() -> Iterator[str]:
    yield ""
    yield from (f"-{number}" for number in itertools.count(2))


def _taken(aside: Path) -> bool:
    return aside.exists() or wal_of(aside).exists()


def move_aside(file: Path) -> str:
    """Give ``file`` and its log a name that says when they were found damaged; return it."""
    at = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    names = (f"{file.stem}.damaged-{at}{more}{file.suffix}" for more in _endings())
    aside = next(a for name in names if not _taken(a := file.with_name(name)))
    # The log last: a kill in between leaves a log without a file, never an older file that looks whole.
    if file.exists():
        file.replace(aside)
    if wal_of(file).exists():
        wal_of(file).replace(wal_of(aside))
    file.with_name(f"{file.name}-shm").unlink(missing_ok=True)
    return aside.name


def _copy_packs(file: Path, db: sqlite3.Connection, report: Report) -> _Found:
    found = _Found()
    with Pages(file) as pages:
        for rowid, row in rows_of(pages):
            if _is_pack(row):
                texts = [
                    v.decode() if i == 1 and isinstance(v, bytes) else v for i, v in enumerate(row)
                ]
                report.packs += db.execute(
                    "INSERT OR IGNORE INTO packs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", texts
                ).rowcount
                continue
            try:
                found.take(rowid, row)
            except ValueError:  # a lane, reason or text that is none
                continue
    return found


class _Rebuild:
    """Runs without holes from the packs that were found."""

    def __init__(
        self,
        db: sqlite3.Connection,
        found: _Found,
        report: Report,
        known: dict[str, KnownEpoch],
    ) -> None:
        self._db = db
        self._found = found
        self._report = report
        self._known = known
        self._now_ms = int(datetime.now(UTC).timestamp() * 1000)

    def all_epochs(self) -> None:
        """Fill the holes of every epoch that anything was found of, in the order in which they began."""
        held = {row[0] for row in self._db.execute("SELECT DISTINCT epoch FROM packs")}
        names = held | set(self._found.seen) | set(self._known)
        order = {name: self._known[name].ord for name in names & set(self._known)}
        if None in order.values() or len(order) < len(names):
            ordered = sorted(names)  # ULIDs grow with time
        else:
            ordered = sorted(names, key=lambda name: (order[name] or 0, name))
        for number, name in enumerate(ordered, start=1):
            self._epoch(name, number)

    def _epoch(self, name: str, order: int) -> None:
        known = self._known.get(name)
        rows = self._db.execute(
            "SELECT id, from_seq, seq, lost, records FROM packs WHERE epoch = ? ORDER BY seq",
            (name,),
        ).fetchall()
        seen = self._found.seen.get(name, [])
        if known is None:
            self._report.rebuilt.append(name)
            known = KnownEpoch(self._lane(name), 0, 0, self._now_ms)
        last = max([known.last, *seen[1:], *(row[2] for row in rows)])
        starts = [*seen[:1], *(row[1] for row in rows[:1])]
        following = known.oldest or min(starts, default=known.acked + 1)
        for row_id, first, seq, lost, records in rows:
            if first < following:
                if lost:
                    self._shorten(row_id, following, seq, records)
            elif first > following:
                self._hole(name, known, following, first - 1)
            following = seq + 1
        if following <= last:
            self._hole(name, known, following, last)
        self._db.execute(
            "INSERT INTO epochs VALUES (?, ?, ?, ?, ?, ?)",
            (name, known.lane.value, order, last, known.acked, known.last_pack_ms),
        )

    def _lane(self, name: str) -> Lane:
        """Tell an epoch's lane from its packs; readings when nothing does."""
        for (start,) in self._db.execute(
            "SELECT substr(body, 1, 16) FROM packs WHERE epoch = ? AND lost = 0 LIMIT 1", (name,)
        ):
            return Lane.TESTS if bytes(start).startswith(b'{"tests"') else Lane.READINGS
        return Lane.READINGS

    def _shorten(self, row_id: int, first: int, last: int, records: int) -> None:
        """Take from a ``lost`` range what another row covers."""
        (body,) = self._db.execute("SELECT body FROM packs WHERE id = ?", (row_id,)).fetchone()
        lost = wire.peek_lost(body)
        if lost is not None:
            body = wire.encode_lost(Lost(first, last, records, lost.reason))
            self._db.execute(
                "UPDATE packs SET from_seq = ?, digest = ?, body = ? WHERE id = ?",
                (first, digest_of(body), body, row_id),
            )

    def _hole(self, name: str, known: KnownEpoch, first: int, last: int) -> None:
        if (
            first <= known.acked < last
        ):  # a receipt ends within: a range must not stand on both sides of it
            self._hole(name, known, first, known.acked)
            first = known.acked + 1
        records = min((last - first + 1) * wire.PACK_MAX_RECORDS, wire.MAX_NUMBER)
        body = wire.encode_lost(Lost(first, last, records, LostReason.CORRUPT))
        self._db.execute(
            "INSERT INTO packs (epoch, from_seq, seq, records, lost, created_ms, digest, body)"
            " VALUES (?, ?, ?, ?, 1, ?, ?, ?)",
            (name, first, last, records, self._now_ms, digest_of(body), body),
        )
        self._report.holes += 1
        if last > known.acked:
            key = (known.lane, LossReason.CORRUPT)
            self._report.lost[key] = self._report.lost.get(key, 0) + records
