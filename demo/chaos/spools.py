"""What was truly accepted: every pack that an agent committed, read from its spool file from outside while it lives.

A pack is read before it can leave: an agent drops the oldest, and these reads follow the newest every second. So the
account of what was accepted does not rest on what the agent says of itself.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway import wire

if TYPE_CHECKING:
    from pathlib import Path

Place = tuple[str, str, int]  # station, epoch, seq
SeriesKey = tuple[str, str, str]


@dataclass(slots=True)
class Column:
    """The accepted readings of one series, in the order of their packs; a failed one has NaN."""

    t_ms: array[int] = field(default_factory=lambda: array("q"))
    v: array[float] = field(default_factory=lambda: array("d"))
    pack: array[int] = field(default_factory=lambda: array("q"))


@dataclass(slots=True)
class Accepted:
    """Everything that was ever committed to a spool."""

    packs: list[Place] = field(default_factory=list)
    records: list[int] = field(default_factory=list)
    series: dict[SeriesKey, Column] = field(default_factory=lambda: defaultdict(Column))
    last: dict[tuple[str, str], int] = field(default_factory=dict)
    """The highest seq seen of each (station, epoch)."""
    unseen: set[Place] = field(default_factory=set)
    """Packs that had been replaced by ``lost`` before they were read: what was in them is not known."""

    def take(self, station: str, epoch: str, seq: int, body: bytes) -> None:
        """Note one pack; packs of an epoch come in order."""
        before = self.last.get((station, epoch), 0)
        if seq <= before:
            return
        self.last[station, epoch] = seq
        # The front of a run may have left before the first look at it.
        self.unseen.update((station, epoch, gone) for gone in range(before + 1, seq))
        self._keep(station, epoch, seq, body)

    def _keep(self, station: str, epoch: str, seq: int, body: bytes) -> None:
        decoded = wire.decode_body(body)
        if decoded.lost is not None:
            self.unseen.add((station, epoch, seq))
            return
        number = len(self.packs)
        self.packs.append((station, epoch, seq))
        base, base_s = "", 0.0
        records = decoded.readings or []
        for record in records:
            base = record.bn if record.bn is not None else base
            base_s = record.bt if record.bt is not None else base_s
            device, _, indicator = f"{base}{record.n}".rpartition("/")
            column = self.series[station, device, indicator]
            column.t_ms.append(round((base_s + (record.t or 0.0)) * 1000))
            column.v.append(float("nan") if record.v is None else record.v)
            column.pack.append(number)
        self.records.append(len(records))

    def fill(self, station: str, epoch: str, seq: int, body: bytes) -> None:
        """Note a pack that the server has and no look at the spool caught: it was accepted, or it could not be sent."""
        if (station, epoch, seq) in self.unseen:
            self.unseen.remove((station, epoch, seq))
            self._keep(station, epoch, seq, body)


@dataclass(frozen=True, slots=True)
class EpochRow:
    """One line of a spool's epochs."""

    epoch: str
    last: int


def open_read_only(path: Path) -> sqlite3.Connection:
    """Open a database that others write, without ever writing; raise sqlite3.OperationalError while it cannot be."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)
    connection.execute("PRAGMA query_only=ON")
    return connection


def watch(path: Path, station: str, accepted: Accepted) -> bool:
    """Note every pack of a spool that is new; False when it cannot be read now (killed, and not yet opened again)."""
    try:
        with closing(open_read_only(path)) as spool:
            for epoch, last in spool.execute("SELECT epoch, last FROM epochs ORDER BY ord"):
                seen = accepted.last.get((station, epoch), 0)
                if last <= seen:
                    continue
                rows = spool.execute(
                    "SELECT seq, body FROM packs WHERE epoch = ? AND seq > ? ORDER BY seq",
                    (epoch, seen),
                )
                for seq, body in rows:
                    accepted.take(station, epoch, seq, body)
    except sqlite3.OperationalError:
        return False
    return True


def epochs(path: Path) -> list[EpochRow]:
    """Return the epochs that a spool lists; raise sqlite3.OperationalError."""
    with closing(open_read_only(path)) as spool:
        return [EpochRow(*row) for row in spool.execute("SELECT epoch, last FROM epochs")]


def copy_live(path: Path, to: Path) -> None:
    """Copy a spool as it is at one moment; raise sqlite3.OperationalError."""
    to.unlink(missing_ok=True)
    with closing(open_read_only(path)) as spool, closing(sqlite3.connect(to)) as copy:
        spool.backup(copy)


def watermarks(inbox: Path) -> dict[tuple[str, str], int]:
    """Return how far each (station, epoch) is in the server's inbox; raise sqlite3.OperationalError."""
    with closing(open_read_only(inbox)) as db:
        rows = db.execute("SELECT station, epoch, last FROM watermarks")
        return {(station, epoch): last for station, epoch, last in rows}
