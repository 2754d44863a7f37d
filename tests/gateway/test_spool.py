"""Packs on disk: nothing lost by a kill, nothing kept beyond the cap, what is dropped is said."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ulid import ULID

from gateway import wire
from gateway.spool import (
    EPOCH_KEPT_MS,
    RETENTION_MS,
    ROW_BYTES,
    BodyTooLargeError,
    Spool,
    SpoolBlockedError,
    SpoolError,
)
from gateway.wire import MAX_BODY_BYTES, EpochState, Lane, Lost, LostReason

NOW = 1_777_600_000_000
MINUTE = 60_000
STORE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
REPO = Path(__file__).parents[2]


def new_id() -> str:
    return str(ULID())


def open_spool(path: Path, cap_bytes: int = 1 << 20) -> Spool:
    return Spool.open(path, cap_bytes=cap_bytes, new_id=new_id)


def in_memory(cap_bytes: int = 1 << 20) -> Spool:
    return Spool(
        sqlite3.connect(":memory:", isolation_level=None), cap_bytes=cap_bytes, new_id=new_id
    )


@pytest.fixture
def spool():
    spool = in_memory()
    yield spool
    spool.close()


def body(number: int, size: int = 100) -> bytes:
    return f'{{"readings":[],"n":{number},"pad":"{"x" * size}"}}'.encode()


def fill(spool: Spool, count: int, lane: Lane = Lane.READINGS, at_ms: int = NOW, size=100) -> str:
    for number in range(count):
        spool.append(lane, body(number, size), 1, at_ms)
    epoch = spool.current_epoch(lane)
    assert epoch is not None
    return epoch


def held(spool: Spool, epoch: str) -> list[tuple[int, bytes]]:
    return [(pack.seq, pack.body) for pack in spool.packs_from(epoch, 0, 10_000)]


def run_of(spool: Spool, epoch: str) -> tuple[int, int]:
    """What is held, after checking that it is one run and that memory agrees with the disk."""
    rows = spool._db.execute(
        "SELECT from_seq, seq FROM packs WHERE epoch = ? ORDER BY seq", (epoch,)
    ).fetchall()
    state = spool.epochs[epoch]
    following = state.oldest
    for first, last in rows:
        assert first == following
        following = last + 1
    assert following == state.last + 1
    agrees_with_disk(spool)
    return state.oldest, state.last


def agrees_with_disk(spool: Spool) -> None:
    spool.flush()
    memory = (spool.epochs, spool.held_bytes, spool._p.receipted_bytes, spool._p.stores)
    lost = spool._db.execute("SELECT lane, reason, records FROM lost").fetchall()
    assert spool.lost_ever == {(lane, reason): records for lane, reason, records in lost if records}
    assert memory[0] == spool._load_epochs()
    assert memory[1:3] == spool._sizes()
    assert memory[3] == [r[0] for r in spool._db.execute("SELECT store FROM stores ORDER BY ord")]


# ---- durable


WRITER = """
import sys
from pathlib import Path
from ulid import ULID
from gateway.spool import Spool
from gateway.wire import Lane
spool = Spool.open(Path(sys.argv[1]), cap_bytes=1 << 30, new_id=lambda: str(ULID()))
number = 0
while True:
    number += 1
    spool.append(Lane.READINGS, b"%d" % number, 1, 1_777_600_000_000)
    print(number, flush=True)
"""


def test_what_was_appended_survives_kill_9(tmp_path):
    path = tmp_path / "spool.db"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, cwd=REPO, text=True
    ) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) >= 50:
                os.kill(writer.pid, signal.SIGKILL)
                break
        said = [int(line), *(int(late) for late in writer.stdout if late.strip())]
    spool = open_spool(path)
    [epoch] = spool.epochs
    packs = held(spool, epoch)
    assert len(packs) >= said[-1]
    assert packs == [(n, b"%d" % n) for n in range(1, len(packs) + 1)]
    spool.close()


def test_a_restart_opens_new_epochs_and_keeps_the_old(tmp_path):
    spool = open_spool(tmp_path / "spool.db")
    old = [fill(spool, 3), fill(spool, 2, Lane.TESTS)]
    packs = [held(spool, epoch) for epoch in old]
    spool.close()
    spool = open_spool(tmp_path / "spool.db")
    assert spool.current_epoch(Lane.READINGS) is None
    assert [held(spool, epoch) for epoch in old] == packs
    fresh = fill(spool, 1)
    assert fresh not in old
    first = spool.first_unreceipted(Lane.READINGS)
    assert first is not None
    assert first.epoch == old[0]
    assert spool.states() == {
        Lane.READINGS: [EpochState(old[0], 1, 3), EpochState(fresh, 1, 1)],
        Lane.TESTS: [EpochState(old[1], 1, 2)],
    }
    spool.close()


def test_receipts_and_stores_survive_a_restart(tmp_path):
    spool = open_spool(tmp_path / "spool.db")
    epoch = fill(spool, 5)
    spool.new_store(STORE)
    spool.mark_receipted(epoch, 3)
    spool.close()
    spool = open_spool(tmp_path / "spool.db")
    assert (spool.epochs[epoch].acked, spool.queue_length(), spool.store) == (3, 2, STORE)
    agrees_with_disk(spool)
    spool.close()


def test_an_epoch_that_never_had_a_pack_is_not_listed(spool):
    assert spool.states() == {}
    assert spool.current_epoch(Lane.READINGS) is None
    assert spool.first_unreceipted(Lane.READINGS) is None
    assert spool.oldest_unreceipted_ms() is None


def test_several_bodies_are_one_transaction(spool):
    too_large = b"x" * (MAX_BODY_BYTES + 1)
    with pytest.raises(BodyTooLargeError, match=str(MAX_BODY_BYTES)):
        spool.append_many([(Lane.READINGS, body(1), 1), (Lane.READINGS, too_large, 1)], NOW)
    assert spool.epochs == {}
    spool.append(Lane.READINGS, b"x" * MAX_BODY_BYTES, 1, NOW)


def test_the_oldest_without_receipt_is_known_over_all_epochs(spool):
    tests = fill(spool, 2, Lane.TESTS, NOW)
    fill(spool, 2, Lane.READINGS, NOW + 5)
    assert spool.oldest_unreceipted_ms() == NOW
    spool.mark_receipted(tests, 2)
    assert spool.oldest_unreceipted_ms() == NOW + 5


# ---- cap


CAP = 20 * (150 + ROW_BYTES)


def test_at_the_cap_the_oldest_receipted_packs_go_first():
    spool = in_memory(CAP)
    epoch = fill(spool, 12)
    spool.mark_receipted(epoch, 6)
    fill(spool, 12)
    assert spool.queue_length() == 18
    assert spool.alarms == set()
    oldest, last = run_of(spool, epoch)
    assert 1 < oldest <= 7
    assert last == 24
    assert spool._p.bytes <= CAP
    spool.close()


def test_no_more_receipted_packs_go_than_must():
    spool = in_memory(CAP)
    epoch = fill(spool, 20)
    spool.mark_receipted(epoch, 8)
    while (oldest := run_of(spool, epoch)[0]) == 1:
        fill(spool, 1)
    assert oldest <= 3
    spool.close()


def test_then_the_oldest_readings_become_one_lost_range_in_their_place():
    spool = in_memory(CAP)
    epoch = fill(spool, 40)
    assert run_of(spool, epoch) == (1, 40)
    (seq, first), *rest = held(spool, epoch)
    lost = wire.peek_lost(first)
    assert lost == Lost(1, seq, seq, LostReason.CAP)
    assert [wire.peek_lost(pack) for _, pack in rest] == [None] * (40 - seq)
    assert spool.dropped_records == seq
    assert spool.alarms == {"spool_full"}
    assert spool._p.bytes <= CAP
    spool.close()


def test_tests_go_last():
    spool = in_memory(CAP)
    tests = fill(spool, 10, Lane.TESTS)
    readings = fill(spool, 40)
    assert all(wire.peek_lost(pack) is None for _, pack in held(spool, tests))
    for number in range(30):
        spool.append(Lane.TESTS, body(number), 1, NOW)
    dropped = [wire.peek_lost(pack) for _, pack in held(spool, readings)]
    assert None not in dropped
    lost = wire.peek_lost(held(spool, tests)[0][1])
    assert lost is not None
    assert lost.reason is LostReason.CAP
    assert run_of(spool, readings) == (1, 40)
    assert run_of(spool, tests) == (1, 40)
    spool.close()


def test_a_receipted_range_is_not_joined_to_the_next():
    spool = in_memory(CAP)
    epoch = fill(spool, 40)
    [(through, _), *_] = held(spool, epoch)
    spool.mark_receipted(epoch, through)
    fill(spool, 40)
    first = held(spool, epoch)[0]
    lost = wire.peek_lost(first[1])
    assert lost is not None
    assert lost.from_seq == through + 1
    run_of(spool, epoch)
    spool.close()


def test_a_spool_smaller_than_one_pack_keeps_at_least_the_newest():
    spool = in_memory(10)
    epoch = fill(spool, 5)
    assert run_of(spool, epoch) == (1, 5)
    assert held(spool, epoch)[-1] == (5, body(4))
    spool.close()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["readings", "tests", "receipt", "prune", "restart", "store"]),
            st.integers(1, 12),
        ),
        max_size=30,
    )
)
def test_whatever_happens_each_epoch_is_one_run_and_memory_is_the_disk(steps):
    db = sqlite3.connect(":memory:", isolation_level=None)
    spool = Spool(db, cap_bytes=5_000, new_id=new_id)
    at_ms = NOW
    for kind, number in steps:
        at_ms += number * 6 * 3_600_000 * (1 if number % 5 else -1)  # a clock may be set back
        match kind:
            case "readings" | "tests":
                fill(spool, number, Lane(kind), at_ms, size=number * 30)
            case "receipt":
                for epoch in spool.epochs.values():
                    seqs = [s for s, _ in held(spool, epoch.epoch) if s > epoch.acked]
                    if seqs:
                        spool.mark_receipted(epoch.epoch, seqs[min(number, len(seqs)) - 1])
            case "prune":
                spool.prune(at_ms)
            case "restart":
                spool.flush()
                spool = Spool(db, cap_bytes=5_000, new_id=new_id)
            case "store":
                spool.new_store(new_id())
        for epoch in spool.epochs:
            run_of(spool, epoch)
    db.close()


# ---- retention


def test_receipted_packs_are_kept_7_days(spool):
    epoch = fill(spool, 3, at_ms=NOW)
    fill(spool, 2, at_ms=NOW + MINUTE)
    spool.mark_receipted(epoch, 4)
    spool.prune(NOW + RETENTION_MS)
    assert run_of(spool, epoch) == (1, 5)
    spool.prune(NOW + RETENTION_MS + MINUTE)
    assert run_of(spool, epoch) == (4, 5)
    spool.prune(NOW + 2 * RETENTION_MS)
    assert run_of(spool, epoch) == (5, 5)  # without receipt: kept for ever
    spool.mark_receipted(epoch, 5)
    spool.prune(NOW + 3 * RETENTION_MS)
    assert spool.states() == {Lane.READINGS: [EpochState(epoch, 6, 5)]}


def test_a_lane_with_young_packs_does_not_keep_the_other_lanes_old_ones(spool):
    tests = fill(spool, 1, Lane.TESTS, NOW)
    readings = fill(spool, 5, Lane.READINGS, NOW)
    fill(spool, 1, Lane.TESTS, NOW + RETENTION_MS)
    spool.mark_receipted(tests, 2)
    spool.mark_receipted(readings, 5)
    spool.prune(NOW + RETENTION_MS + 2 * MINUTE)
    assert run_of(spool, tests) == (2, 2)
    assert run_of(spool, readings) == (6, 5)


def test_packs_leave_from_the_front_only_though_a_clock_was_set_back(spool):
    epoch = fill(spool, 2, at_ms=NOW + RETENTION_MS)  # the clock was ahead
    fill(spool, 2, at_ms=NOW)
    spool.mark_receipted(epoch, 4)
    spool.prune(NOW + RETENTION_MS + MINUTE)
    assert run_of(spool, epoch) == (1, 4)
    spool.prune(NOW + 3 * RETENTION_MS)
    assert run_of(spool, epoch) == (5, 4)


def test_receipted_packs_keep_to_half_the_cap():
    spool = in_memory(CAP)
    epoch = fill(spool, 18)
    spool.mark_receipted(epoch, 18)
    assert spool._p.receipted_bytes > CAP // 2
    spool.prune(NOW)
    assert CAP // 2 - 150 - ROW_BYTES < spool._p.receipted_bytes <= CAP // 2
    run_of(spool, epoch)
    spool.close()


def test_an_epoch_is_listed_90_days_after_its_last_pack(tmp_path):
    spool = open_spool(tmp_path / "spool.db")
    epoch = fill(spool, 1)
    spool.mark_receipted(epoch, 1)
    spool.prune(NOW + EPOCH_KEPT_MS + MINUTE)
    assert epoch in spool.epochs  # this start still writes to it
    spool.close()
    spool = open_spool(tmp_path / "spool.db")
    spool.prune(NOW + EPOCH_KEPT_MS)
    assert epoch in spool.epochs
    spool.prune(NOW + EPOCH_KEPT_MS + MINUTE)
    assert spool.epochs == {}
    agrees_with_disk(spool)
    spool.close()


def test_an_epoch_with_packs_to_deliver_is_never_forgotten(tmp_path):
    spool = open_spool(tmp_path / "spool.db")
    epoch = fill(spool, 1)
    spool.close()
    spool = open_spool(tmp_path / "spool.db")
    spool.prune(NOW + 2 * EPOCH_KEPT_MS)
    assert held(spool, epoch) == [(1, body(0))]
    spool.close()


# ---- damage


def test_a_corrupt_body_becomes_lost_in_its_place(spool):
    epoch = fill(spool, 3)
    spool._db.execute("UPDATE packs SET body = X'00' WHERE seq = 2")
    spool._load()
    assert [seq for seq, _ in held(spool, epoch)] == [1, 2, 3]
    assert wire.peek_lost(held(spool, epoch)[1][1]) == Lost(2, 2, 1, LostReason.CORRUPT)
    assert spool.alarms == {"spool_corrupt"}
    assert spool.dropped_records == 1
    assert run_of(spool, epoch) == (1, 3)


def test_a_range_lost_to_the_cap_is_not_joined_to_a_corrupt_one():
    spool = in_memory(cap_bytes=1_200)
    epoch = fill(spool, 4)
    spool._db.execute("UPDATE packs SET body = zeroblob(length(body)) WHERE seq = 1")
    assert wire.peek_lost(held(spool, epoch)[0][1]) == Lost(1, 1, 1, LostReason.CORRUPT)
    fill(spool, 2)
    lost = [wire.peek_lost(raw) for _, raw in held(spool, epoch)]
    assert lost[0] == Lost(1, 1, 1, LostReason.CORRUPT)
    assert lost[1] is not None
    assert (lost[1].from_seq, lost[1].reason) == (2, LostReason.CAP)
    spool.close()


def test_a_file_that_cannot_be_opened_is_named_and_nobody_is_told_to_move_it(tmp_path):
    path = tmp_path / "spool.db"
    path.mkdir()
    with pytest.raises(SpoolError, match=r"spool\.db: .*permissions") as caught:
        open_spool(path)
    assert "move" not in str(caught.value)


# ---- a disk that is full


def full(spool: Spool) -> None:
    (pages,) = spool._db.execute("PRAGMA page_count").fetchone()
    spool._db.execute(f"PRAGMA max_page_count = {pages}")


def roomy(spool: Spool) -> None:
    spool._db.execute("PRAGMA max_page_count = 1000000")
    assert spool.alarms == {"disk_full"}
    spool.prune(NOW)
    assert spool.alarms == set()


def test_a_full_disk_leaves_memory_as_the_disk_and_the_spool_usable(tmp_path):
    spool = open_spool(tmp_path / "spool.db")
    epoch = fill(spool, 3)
    spool.mark_receipted(epoch, 2)
    full(spool)
    with pytest.raises(SpoolBlockedError, match="full"):
        spool.append_many([(Lane.READINGS, body(n, 20_000), 1) for n in range(5)], NOW)
    assert spool.current_epoch(Lane.READINGS) == epoch
    assert run_of(spool, epoch) == (1, 3)
    roomy(spool)
    assert fill(spool, 1) == epoch
    assert run_of(spool, epoch) == (1, 4)
    spool.close()


def test_an_epoch_whose_first_pack_failed_was_never_there(tmp_path):
    spool = open_spool(tmp_path / "spool.db")
    full(spool)
    with pytest.raises(SpoolBlockedError, match="full"):
        spool.append(Lane.TESTS, body(1, 50_000), 1, NOW)
    assert spool.epochs == {}
    assert spool.current_epoch(Lane.TESTS) is None
    roomy(spool)
    assert run_of(spool, fill(spool, 1, Lane.TESTS)) == (1, 1)
    spool.close()


def test_a_move_that_fails_leaves_the_open_epoch_open(tmp_path):
    spool = open_spool(tmp_path / "spool.db", cap_bytes=1 << 24)
    epoch = fill(spool, 40, size=3_000)
    spool._new_id = lambda: epoch  # the row is there already: the transaction fails
    with pytest.raises(sqlite3.IntegrityError):
        spool.move_to_new_epoch(Lane.READINGS, NOW)
    assert (
        spool.current_epoch(Lane.READINGS) == epoch
    )  # else its packs would be taken for delivered
    assert run_of(spool, epoch) == (1, 40)
    assert spool.queue_length() == 40
    spool.close()


# ---- moving


def test_moving_spools_the_unreceipted_packs_again_under_a_new_epoch(spool):
    epoch = fill(spool, 5)
    spool.mark_receipted(epoch, 2)
    spool.move_to_new_epoch(Lane.READINGS, NOW + 1)
    fresh = spool.current_epoch(Lane.READINGS)
    assert fresh is not None
    assert fresh != epoch
    assert held(spool, fresh) == [(1, body(2)), (2, body(3)), (3, body(4))]
    assert run_of(spool, epoch) == (1, 2)
    assert run_of(spool, fresh) == (1, 3)
    assert spool.queue_length() == 3
    assert fill(spool, 1) == fresh


def test_moving_renumbers_lost_ranges():
    spool = in_memory(CAP)
    epoch = fill(spool, 40)
    [(through, _), *_] = held(spool, epoch)
    spool.move_to_new_epoch(Lane.READINGS, NOW)
    fresh = spool.current_epoch(Lane.READINGS)
    assert fresh is not None
    assert wire.peek_lost(held(spool, fresh)[0][1]) == Lost(1, through, through, LostReason.CAP)
    assert run_of(spool, fresh) == (1, 40)
    spool.close()


def test_moving_does_not_vouch_for_a_corrupt_body(spool):
    epoch = fill(spool, 2)
    spool._db.execute("UPDATE packs SET body = X'00' WHERE seq = 1")
    spool._load()
    spool.move_to_new_epoch(Lane.READINGS, NOW)
    fresh = spool.current_epoch(Lane.READINGS)
    assert fresh not in {None, epoch}
    assert wire.peek_lost(held(spool, fresh)[0][1]) == Lost(1, 1, 1, LostReason.CORRUPT)
    assert spool.alarms == {"spool_corrupt"}
    assert run_of(spool, fresh) == (1, 2)


def test_moving_with_everything_receipted_moves_nothing(spool):
    epoch = fill(spool, 2)
    spool.mark_receipted(epoch, 2)
    spool.move_to_new_epoch(Lane.READINGS, NOW)
    assert spool.current_epoch(Lane.READINGS) is None
    assert run_of(spool, epoch) == (1, 2)
    assert fill(spool, 1) != epoch


# ---- server lives


def test_a_new_store_unreceipts_everything_and_remembers_the_ones_before(spool):
    epoch = fill(spool, 3)
    first, second = new_id(), new_id()
    spool.new_store(first)
    spool.mark_receipted(epoch, 3)
    spool.new_store(second)
    assert spool.queue_length() == 3
    assert (spool.store, spool.is_superseded(first), spool.is_superseded(second)) == (
        second,
        True,
        False,
    )
    spool.new_store(first)
    assert (spool.store, spool.is_superseded(second)) == (first, True)
    agrees_with_disk(spool)
