"""Every record is somewhere: the balance of a lane holds whatever happens."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import wire
from gateway.spool import Spool
from gateway.spool_file import LossReason, wal_of
from gateway.wire import Lane, Lost, LostReason
from tests.gateway.test_spool import NOW, agrees_with_disk, body, held, new_id, run_of

CAP = 6_000


def check(spool: Spool) -> None:
    spool.flush()
    for lane, c in spool.counts().items():
        lost = sum(n for reason, n in c.lost.items() if reason is not LossReason.MEMORY)
        assert c.taken + c.queued_at_start == c.receipted - c.reopened + lost + c.queued
        assert min(c.taken, c.receipted, c.reopened, c.queued) >= 0
        names = [e.epoch for e in spool.epochs.values() if e.lane is lane]
        (queued,) = spool._db.execute(
            "SELECT coalesce(sum(records), 0) FROM packs JOIN epochs USING (epoch)"
            f" WHERE lost = 0 AND seq > acked AND epoch IN ({','.join('?' * len(names))})",
            names,
        ).fetchone()
        assert c.queued == queued


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "readings",
                "tests",
                "receipt",
                "restart",
                "store",
                "damage",
                "move",
                "memory",
                "fail",
                "wreck",
            ]
        ),
        st.integers(1, 12),
    ),
    max_size=25,
)


@settings(max_examples=30, deadline=None)
@given(STEPS)
def test_taken_is_receipted_lost_or_queued(steps: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "spool.db"
        spool = Spool.open(path, cap_bytes=CAP, new_id=new_id)
        try:
            for kind, number in steps:
                spool = step(spool, path, kind, number)
                check(spool)
                for name in list(spool.epochs):
                    run_of(spool, name)
        finally:
            spool.close()


def step(spool: Spool, path: Path, kind: str, number: int) -> Spool:  # noqa: C901
    match kind:
        case "readings" | "tests":
            spool.append_many(
                [(Lane(kind), body(n, 30 * number), n + 1) for n in range(number)], NOW
            )
        case "memory":
            lost = wire.encode_lost(Lost(1, 1, number, LostReason.CAP))
            spool.append_many([(Lane.READINGS, lost, number), (Lane.READINGS, body(1), 3)], NOW)
        case "receipt":
            for epoch in list(spool.epochs.values()):
                seqs = [seq for seq, _ in held(spool, epoch.epoch) if seq > epoch.acked]
                if seqs:
                    spool.mark_receipted(epoch.epoch, seqs[min(number, len(seqs)) - 1])
        case "restart":
            spool.close()
            spool = Spool.open(path, cap_bytes=CAP, new_id=new_id)
        case "store":
            spool.new_store(new_id())
        case "damage":
            spool._db.execute(
                "UPDATE packs SET body = X'00' || substr(body, 2) WHERE id % 13 = ?", (number,)
            )
            for name in list(spool.epochs):
                held(spool, name)
        case "move":
            if spool.current_epoch(Lane.READINGS) is not None:
                spool.move_to_new_epoch(Lane.READINGS, NOW)
        case "fail":
            spool._db.execute(
                "CREATE TRIGGER no BEFORE INSERT ON packs BEGIN SELECT raise(FAIL, 'no'); END"
            )
            with contextlib.suppress(sqlite3.IntegrityError):
                spool.append_many([(Lane.READINGS, body(1), 3)], NOW)
            spool._db.execute("DROP TRIGGER no")
        case "wreck":
            spool.flush()
            spool._damaged = "said so"
            spool._recover()
            agrees_with_disk(spool)
    return spool


def test_what_an_opening_found_damaged_is_in_the_balance(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    spool = Spool.open(path, cap_bytes=1 << 24, new_id=new_id)
    spool.append_many([(Lane.READINGS, body(n, 3_000), 5) for n in range(100)], NOW)
    spool.close()
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 :] = b""
    path.write_bytes(raw)
    spool = Spool.open(path, cap_bytes=1 << 24, new_id=new_id)
    check(spool)
    counts = spool.counts()[Lane.READINGS]
    assert 0 < counts.queued < 500
    assert counts.lost[LossReason.CORRUPT] >= 500 - counts.queued
    assert spool.lost_ever == {(Lane.READINGS, LossReason.CORRUPT): counts.lost[LossReason.CORRUPT]}
    spool.close()


def test_losses_are_remembered_by_the_file(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    spool = Spool.open(path, cap_bytes=CAP, new_id=new_id)
    lost = wire.encode_lost(Lost(1, 1, 7, LostReason.CAP))
    spool.append_many([(Lane.READINGS, lost, 7), (Lane.READINGS, body(1), 3)], NOW)
    assert spool.counts()[Lane.READINGS].taken == 3
    copy = tmp_path / "killed"
    copy.mkdir()
    for file in (path, wal_of(path)):
        shutil.copy(file, copy)
    spool.close()
    spool = Spool.open(copy / "spool.db", cap_bytes=CAP, new_id=new_id)
    assert spool.lost_ever == {(Lane.READINGS, LossReason.MEMORY): 7}
    [(_, first), _] = held(spool, next(iter(spool.epochs)))
    assert wire.peek_lost(first) == Lost(1, 1, 7, LostReason.CAP)
    spool.close()
