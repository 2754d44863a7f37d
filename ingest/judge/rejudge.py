"""Judges a past period again from the inbox and compares with what was stored; writes nothing into the data directory.

The packs are decoded, flagged and judged as they were at first, against a scratch database with a copy of the registry
as it is now. Reading begins a day before the period, so that companions and the state of the flags are there. Nothing
is kept in memory but one batch at a time.
"""

from __future__ import annotations

import json
import math
import sqlite3
import tempfile
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import sqlalchemy as sa

from drivers import indicators
from drivers.records import Severity, Verdict
from ingest import tables
from ingest.backup import INBOX, OPERATIONAL
from ingest.batch import CALIBRATION, FAIL, MAINTENANCE, MISSING
from ingest.decode import AHEAD_MS, ArrivalOrder, Decoder, SeriesIndex
from ingest.detect.flags import QualityFlags
from ingest.inbox import packs_after, read_only
from ingest.judge.consumer import CONSUMER, Judge
from ingest.judge.errors import RejudgeError
from ingest.judge.findings import gravest
from ingest.operational import Operational
from ingest.registry.live import Registry

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from ingest.batch import Batch, Series, TakenPack
    from ingest.judge.catalogue.catalogue import Catalogue
    from ingest.judge.findings import Finding, Observation
    from ingest.publishers.reader import MessageReader

NO_FINDING = "no_finding"
"""A good reading that broke no limit: the judge keeps no more of it."""
NOT_JUDGED = "not_judged"
"""A reading that failed or was taken in a maintenance window."""
NO_PACK = "no_pack"
"""A stored result whose pack is damaged or no longer in the inbox."""
NOT_STORED = "not_stored"
"""A test without a stored result: a repeat of an earlier record, or not yet judged."""

WARM_UP_MS = 25 * 3_600_000  # companions count for up to 24 h, the value before them for one more
PACKS = 200  # at a time
CLEAN_EVERY = 10  # batches
NAMED_MAX = 20  # damaged packs that are named, the others are counted

_REGISTRY = (
    "regions",
    "subjects",
    "bases",
    "plots",
    "stations",
    "devices",
    "device_windows",
    "quality_limits",
)
_STORED = """
CREATE TABLE stored (
    kind TEXT, station TEXT, epoch TEXT, seq INTEGER, position INTEGER, record_id TEXT, device TEXT,
    indicator TEXT, t_ms INTEGER, value REAL, unit TEXT, verdict TEXT, severity TEXT, cited TEXT, product TEXT
);
"""
_INDEXES = """
CREATE INDEX by_place ON stored (epoch, station, seq, kind);
CREATE INDEX by_record ON stored (record_id);
"""


@dataclass(frozen=True, slots=True)
class Cited:
    """A limit that a verdict rests on: ``limit`` is ``> 0.3 mg/kg``, ``detected`` for a ban."""

    standard: str
    clause: str
    limit: str


@dataclass(frozen=True, slots=True)
class Said:
    """What one judging says of a record."""

    verdict: str
    severity: str = ""
    cited: tuple[Cited, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One record with its stored and its new verdict; ``t_ms`` is when it was measured (UTC ms)."""

    kind: str
    station: str
    epoch: str
    seq: int
    position: int
    record_id: str
    device: str
    indicator: str
    product: str
    t_ms: int
    value: float | str | None
    unit: str
    old: Said
    new: Said

    @property
    def changed(self) -> bool:
        """Whether the verdict or its severity is another; of what cannot be judged again that is not known."""
        if self.new.verdict == NO_PACK:
            return False
        return (self.old.verdict, self.old.severity) != (self.new.verdict, self.new.severity)


@dataclass(slots=True)
class Summary:
    """What a run has seen; complete when its rows were all taken.

    ``verdicts`` counts records by kind, old and new verdict. ``repeats`` are tests that were sent again, ``unreadable``
    packs and ``quarantined`` records that do not decode, ``lost_packs`` with at most ``lost_readings`` never came.
    """

    verdicts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    changed: int = 0
    packs: int = 0
    damaged: int = 0
    damaged_names: list[str] = field(default_factory=list)
    unreadable: int = 0
    quarantined: int = 0
    repeats: int = 0
    lost_packs: int = 0
    lost_readings: int = 0
    begins_ms: int | None = None
    """When the first pack that the inbox still holds was received."""

    @property
    def records(self) -> int:
        """How many records were compared."""
        return self.verdicts.total()


class _Sink:
    """Takes the findings of a batch instead of alerts."""

    def __init__(self) -> None:
        self.found: list[Finding] = []

    def watched(self) -> Collection[Series]:
        return ()

    def replaced(
        self,
        connection: sa.Connection,  # the protocol's
        records: Mapping[str, str],
        received_ms: int,
    ) -> None:
        del connection, records, received_ms  # alerts are none of its business

    def apply(
        self,
        connection: sa.Connection,  # noqa: ARG002 - the protocol's
        findings: Sequence[Finding],
        observations: Sequence[Observation],  # noqa: ARG002
        received_ms: int,  # noqa: ARG002
    ) -> None:
        self.found += findings


class Rejudge:
    """One run over the data directory of a server, stopped or running: opened for reading only.

    The period is of the measured time, from ≤ t < to (UTC ms). ``changed_only`` gives rows of changed records only;
    the summary counts all of them.
    """

    def __init__(
        self,
        data_dir: Path,
        catalogue: Catalogue,
        from_ms: int,
        to_ms: int,
        *,
        changed_only: bool = False,
        reader: MessageReader | None = None,
    ) -> None:
        self._reader = reader
        self._data_dir = data_dir
        self._catalogue = catalogue
        self._from_ms = from_ms
        self._to_ms = to_ms
        self._changed_only = changed_only
        self.summary = Summary()

    def rows(self) -> Generator[Compared]:
        """Yield what is compared, in inbox order; stored results whose pack is gone come last. Raises RejudgeError."""
        try:
            with ExitStack() as stack:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                for row in self._run(stack, folder):
                    self.summary.verdicts[row.kind, row.old.verdict, row.new.verdict] += 1
                    self.summary.changed += row.changed
                    if row.changed or not self._changed_only:
                        yield row
        except sqlite3.Error as exc:
            raise RejudgeError(f"{self._data_dir}: {exc}") from exc

    def _run(self, stack: ExitStack, folder: Path) -> Iterator[Compared]:
        for name in (INBOX, OPERATIONAL):
            if not (self._data_dir / name).is_file():
                raise RejudgeError(f"{self._data_dir / name}: is not there")
        scratch = Operational(f"sqlite:///{folder / OPERATIONAL}")
        stack.callback(scratch.close)
        scratch.migrate()
        stored = stack.enter_context(
            closing(sqlite3.connect(folder / "stored.db", isolation_level=None))
        )
        stored.execute("PRAGMA synchronous=OFF")
        with closing(read_only(self._data_dir / OPERATIONAL)) as source:
            source.execute("BEGIN")  # one state of it, and not for long: a server may be writing
            through = _cursor(source)
            self._copy_registry(source, folder / OPERATIONAL)
            self._copy_stored(source, stored)
        inbox = stack.enter_context(closing(read_only(self._data_dir / INBOX)))
        self._count_lost(inbox)
        yield from self._judge(inbox, scratch, stored, through)
        yield from _left_over(stored)

    # ---- before

    def _copy_registry(self, source: sqlite3.Connection, scratch: Path) -> None:
        with closing(sqlite3.connect(scratch, isolation_level=None)) as db:
            db.execute("BEGIN")
            for name in (*_REGISTRY, "companions"):
                columns = _shared_columns(source, db, name)
                if not columns:
                    continue
                names, places = ", ".join(columns), ", ".join("?" * len(columns))
                where = " WHERE t_ms >= ? AND t_ms < ?" if name == "companions" else ""
                span = (self._from_ms - WARM_UP_MS, self._to_ms) if where else ()
                rows = source.execute(f"SELECT {names} FROM {name}{where}", span)  # noqa: S608
                db.executemany(f"INSERT INTO {name} ({names}) VALUES ({places})", rows)  # noqa: S608
            db.execute("COMMIT")

    def _copy_stored(self, source: sqlite3.Connection, stored: sqlite3.Connection) -> None:
        stored.executescript(_STORED)
        insert = "INSERT INTO stored VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        span = (self._from_ms, self._to_ms)
        stored.execute("BEGIN")
        findings = source.execute(
            "SELECT 'reading', station, epoch, seq, position, '', device, indicator, t_ms, value, unit, verdict,"
            " severity, citation, '' FROM findings WHERE kind = 'reading' AND t_ms >= ? AND t_ms < ?",
            span,
        )
        stored.executemany(insert, findings)
        tests = source.execute(
            "SELECT 'test', station, epoch, seq, position, record_id, device, parameter, tested_ms, value, unit,"
            " verdict, severity, findings, product_name FROM tests WHERE tested_ms >= ? AND tested_ms < ?",
            span,
        )
        stored.executemany(insert, tests)
        stored.execute("COMMIT")
        stored.executescript(_INDEXES)

    def _count_lost(self, inbox: sqlite3.Connection) -> None:
        packs, readings = inbox.execute(
            "SELECT sum(through_seq - from_seq + 1), sum(max(readings, 0)) FROM losses"
            " WHERE at_ms >= ? AND at_ms < ?",
            (self._from_ms, self._to_ms),
        ).fetchone()
        self.summary.lost_packs, self.summary.lost_readings = packs or 0, readings or 0
        first = inbox.execute("SELECT received_ms FROM packs ORDER BY pos LIMIT 1").fetchone()
        self.summary.begins_ms = first[0] if first else None

    # ---- the pass

    def _judge(
        self,
        inbox: sqlite3.Connection,
        scratch: Operational,
        stored: sqlite3.Connection,
        through: int,
    ) -> Iterator[Compared]:
        sink = _Sink()
        registry = Registry(scratch)
        judge = Judge(self._catalogue, registry, scratch, sink)
        # As a consumer of the inbox does.
        decoder, order = Decoder(SeriesIndex(self._reader)), ArrivalOrder()
        quality = QualityFlags(registry.quality)
        tests_done = batches = 0
        first = inbox.execute(
            "SELECT pos FROM packs WHERE received_ms >= ? ORDER BY pos LIMIT 1",
            (self._from_ms - WARM_UP_MS - AHEAD_MS,),
        ).fetchone()
        pos = first[0] - 1 if first else through
        while pos < through:
            packs = [pack for pack in packs_after(inbox, pos, PACKS) if pack.pos <= through]
            if not packs:
                return
            pos = packs[-1].pos
            batch = quality.flag(order.flag(decoder.decode(packs)))
            sink.found.clear()
            judge.handle(batch)
            self._count(batch)
            yield from self._readings(batch, sink.found, stored)
            new, tests_done = _new_tests(scratch, tests_done)
            yield from self._tests(batch, new, stored)
            batches += 1
            if batches % CLEAN_EVERY == 0:
                _clean(scratch)

    def _count(self, batch: Batch) -> None:
        summary = self.summary
        summary.packs += len(batch.packs)
        for fault in batch.faults:
            if fault.position >= 0:
                summary.quarantined += 1
            elif fault.pack.damage:
                summary.damaged += 1
                if len(summary.damaged_names) < NAMED_MAX:
                    pack = fault.pack
                    name = f"{pack.station}/{pack.epoch}/{pack.seq}"
                    summary.damaged_names.append(f"{name}: {pack.damage}")
            else:
                summary.unreadable += 1

    def _readings(
        self, batch: Batch, found: Sequence[Finding], stored: sqlite3.Connection
    ) -> Iterator[Compared]:
        inside = (batch.t_ms >= self._from_ms) & (batch.t_ms < self._to_ms)  # (n,)
        if not inside.any():
            return
        good = (batch.q != FAIL) & (batch.q != MISSING) & np.isfinite(batch.v)
        good &= batch.flags & (MAINTENANCE | CALIBRATION) == 0
        new: dict[int, list[Said]] = {}
        old: dict[int, list[Said]] = {}
        rows = _Rows(batch)
        by_pos = {pack.pos: at for at, pack in enumerate(batch.packs)}
        for finding in found:
            if finding.kind == "reading":
                at = rows.of(by_pos[finding.inbox_pos], finding.position)
                if at is not None:
                    new.setdefault(at, []).append(_of_finding(finding))
        for number, pack in enumerate(batch.packs):
            for row_id, position, said in _taken(stored, pack):
                at = rows.of(number, position)
                if at is not None and inside[at]:
                    old.setdefault(at, []).append(said)
                    stored.execute("DELETE FROM stored WHERE rowid = ?", (row_id,))
        told = np.array(sorted({*old, *new}), np.intp)
        if self._changed_only:
            rest = inside.copy()
            rest[told] = False
            for verdict, some in ((NO_FINDING, rest & good), (NOT_JUDGED, rest & ~good)):
                if some.any():
                    self.summary.verdicts["reading", verdict, verdict] += int(some.sum())
            shown = told[inside[told]]
        else:
            shown = np.flatnonzero(inside)
        for at in shown.tolist():
            none = Said(NO_FINDING if good[at] else NOT_JUDGED)
            yield _compared(batch, at, _all(old.get(at), none), _all(new.get(at), none))

    def _tests(
        self,
        batch: Batch,
        new: Mapping[tuple[int, int], sa.RowMapping],
        stored: sqlite3.Connection,
    ) -> Iterator[Compared]:
        for item in batch.tests:
            row = new.get((item.pack.pos, item.position))
            if row is None:
                self.summary.repeats += 1
                continue
            if not self._from_ms <= row["tested_ms"] < self._to_ms:
                continue
            held = stored.execute(
                "SELECT rowid, verdict, severity, cited FROM stored WHERE record_id = ? AND kind = 'test'"
                " AND station = ?",
                (row["record_id"], item.pack.station),
            ).fetchone()
            before = Said(NOT_STORED)
            if held is not None:
                before = Said(held[1], held[2], _deciding(json.loads(held[3])))
                stored.execute("DELETE FROM stored WHERE rowid = ?", (held[0],))
            yield Compared(
                kind="test",
                station=item.pack.station,
                epoch=item.pack.epoch,
                seq=item.pack.seq,
                position=item.position,
                record_id=str(row["record_id"]),
                device=str(row["device"]),
                indicator=str(row["parameter"]),
                product=str(row["product_name"]),
                t_ms=int(row["tested_ms"]),
                value=row["value"],
                unit=str(row["unit"]),
                old=before,
                new=Said(str(row["verdict"]), str(row["severity"]), _deciding(row["findings"])),
            )


class _Rows:
    """Finds the row of a batch by the number of its pack and its place there."""

    def __init__(self, batch: Batch) -> None:
        self._keys: NDArray[np.int64] = (  # (n,) rising: rows are in inbox order
            batch.pack_index.astype(np.int64) << 32 | batch.position
        )

    def of(self, pack: int, position: int) -> int | None:
        """Return the row, None when the place holds no reading."""
        key = pack << 32 | position
        at = int(np.searchsorted(self._keys, key))
        return at if at < len(self._keys) and self._keys[at] == key else None


def _cursor(source: sqlite3.Connection) -> int:
    """Return up to which pack the server has judged: of later ones nothing is stored yet."""
    row = source.execute("SELECT inbox_pos FROM cursors WHERE consumer = ?", (CONSUMER,)).fetchone()
    return int(row[0]) if row else 0


def _shared_columns(source: sqlite3.Connection, target: sqlite3.Connection, name: str) -> list[str]:
    """Return the columns of a table that both have: the server's may be from before an update."""
    theirs = [row[1] for row in source.execute(f"PRAGMA table_info({name})")]
    ours = {row[1] for row in target.execute(f"PRAGMA table_info({name})")}
    return [column for column in theirs if column in ours]


def _new_tests(scratch: Operational, done: int) -> tuple[dict[tuple[int, int], sa.RowMapping], int]:
    """Return the tests judged since ``done`` by place, and the new mark."""
    row_id = sa.literal_column("rowid", sa.Integer).label("row_id")
    t = tables.tests
    columns = (
        t.c.inbox_pos,
        t.c.position,
        t.c.record_id,
        t.c.device,
        t.c.parameter,
        t.c.product_name,
        t.c.tested_ms,
        t.c.value,
        t.c.unit,
        t.c.verdict,
        t.c.severity,
        t.c.findings,
    )
    with scratch.read() as db:
        found = db.execute(
            sa.select(row_id, *columns).select_from(t).where(row_id > done).order_by(row_id)
        ).mappings()
        rows = list(found)
    new = {(row["inbox_pos"], row["position"]): row for row in rows}
    return new, rows[-1]["row_id"] if rows else done


def _clean(scratch: Operational) -> None:
    """Drop what was looked at; tests stay: later ones may be repeats of them."""
    with scratch.write() as db:
        for table in (tables.findings, tables.events, tables.quarantine):
            db.execute(sa.delete(table))


def _taken(stored: sqlite3.Connection, pack: TakenPack) -> list[tuple[int, int, Said]]:
    """Return the stored findings on the readings of a pack: row, place in the pack, what was said."""
    rows = stored.execute(
        "SELECT rowid, position, verdict, severity, cited FROM stored"
        " WHERE epoch = ? AND station = ? AND seq = ? AND kind = 'reading'",
        (pack.epoch, pack.station, pack.seq),
    ).fetchall()
    return [
        (row_id, position, Said(verdict, severity, (_cited(json.loads(cited)),)))
        for row_id, position, verdict, severity, cited in rows
    ]


def _left_over(stored: sqlite3.Connection) -> Iterator[Compared]:
    rows = stored.execute(
        "SELECT kind, station, epoch, seq, position, record_id, device, indicator, product, t_ms, value, unit,"
        " verdict, severity, cited FROM stored ORDER BY kind, epoch, seq, position"
    )
    for *place, verdict, severity, cited in rows:
        (
            kind,
            station,
            epoch,
            seq,
            position,
            record_id,
            device,
            indicator,
            product,
            t_ms,
            value,
            unit,
        ) = place
        said = json.loads(cited)
        yield Compared(
            kind=kind,
            station=station,
            epoch=epoch,
            seq=seq,
            position=position,
            record_id=record_id,
            device=device,
            indicator=indicator,
            product=product,
            t_ms=t_ms,
            value=value,
            unit=unit,
            old=Said(verdict, severity, (_cited(said),) if kind == "reading" else _deciding(said)),
            new=Said(NO_PACK),
        )


def _of_finding(finding: Finding) -> Said:
    return Said(finding.verdict.value, finding.severity.value, (_cited(finding.citation),))


def _all(parts: Sequence[Said] | None, none: Said) -> Said:
    """Return what several findings on one reading say together."""
    if not parts:
        return none
    cited = sorted({one for part in parts for one in part.cited}, key=_by_text)
    severity = gravest([Severity(part.severity) for part in parts])
    return Said(parts[0].verdict, severity.value, tuple(cited))


def _by_text(cited: Cited) -> tuple[str, str, str]:
    return cited.standard, cited.clause, cited.limit


def _deciding(citations: Sequence[Mapping[str, object]]) -> tuple[Cited, ...]:
    """Return the limits that were broken, or all that were compared when none was."""
    broken = [citation for citation in citations if citation.get("exceeded")]
    return tuple(map(_cited, broken or citations))


def _cited(citation: Mapping[str, object]) -> Cited:
    limit, comparator = citation.get("limit"), str(citation.get("comparator", ""))
    said = comparator
    if isinstance(limit, int | float):
        said = f"{comparator} {limit:g} {citation.get('unit', '')}".strip()
    return Cited(str(citation.get("standard", "")), str(citation.get("clause", "")), said)


def _compared(batch: Batch, at: int, old: Said, new: Said) -> Compared:
    series = batch.series[batch.series_id[at]]
    pack = batch.packs[batch.pack_index[at]]
    value = float(batch.v[at])
    return Compared(
        kind="reading",
        station=pack.station,
        epoch=pack.epoch,
        seq=pack.seq,
        position=int(batch.position[at]),
        record_id="",
        device=series.device,
        indicator=series.indicator,
        product="",
        t_ms=int(batch.t_ms[at]),
        value=None if math.isnan(value) else value,
        unit=indicators.lookup(series.indicator).unit,
        old=old,
        new=new,
    )


VERDICTS = (*Verdict, NO_FINDING, NOT_JUDGED, NOT_STORED, NO_PACK)
