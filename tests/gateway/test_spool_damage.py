"""A damaged spool: what is readable is delivered, what is not is booked, the file is kept for whoever wants to look."""

from __future__ import annotations

import random
import shutil
import sqlite3
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import structlog

from gateway import wire
from gateway.spool import Spool, SpoolBlockedError, SpoolError
from gateway.spool_file import PAGE_BYTES, LossReason, wal_of
from gateway.wire import Lane, LostReason
from tests.gateway.test_spool import NOW, STORE, agrees_with_disk, body, held, new_id, open_spool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass
class Filled:
    """A spool file with what was put into it."""

    path: Path
    bodies: dict[tuple[str, int], bytes] = field(default_factory=dict)
    lanes: dict[str, Lane] = field(default_factory=dict)

    def add(self, spool: Spool, lane: Lane, numbers: range) -> None:
        items = []
        for number in numbers:
            # From a few bytes to many overflow pages.
            size = (20, 300, 2_000, 9_000)[number % 4] if number % 40 else 60_000
            key = "readings" if lane is Lane.READINGS else "tests"
            raw = body(number, size).replace(b"readings", key.encode())
            items.append((lane, raw, 7))
        spool.append_many(items, NOW)
        epoch = spool.current_epoch(lane)
        assert epoch is not None
        first = spool.epochs[epoch].last - len(items) + 1
        self.bodies |= {(epoch, first + n): raw for n, (_, raw, _) in enumerate(items)}
        self.lanes[epoch] = lane

    def damage(self, change: Callable[[bytearray], None], *, wal: bool = False) -> None:
        file = wal_of(self.path) if wal else self.path
        raw = bytearray(file.read_bytes())
        change(raw)
        file.write_bytes(raw)

    def salvaged(self, *, kept: int) -> Spool:
        """Open the spool and check that each pack is there as it was, or booked as lost, at least ``kept`` of them."""
        spool = open_spool(self.path, cap_bytes=1 << 26)
        intact = 0
        for name, epoch in spool.epochs.items():
            following = epoch.oldest
            for seq, raw in held(spool, name):
                lost = wire.peek_lost(raw)
                if lost is None:
                    assert seq == following
                    assert raw == self.bodies[name, seq]
                    intact += 1
                else:
                    assert (lost.from_seq, lost.through) == (following, seq)
                    assert lost.reason is LostReason.CORRUPT
                    assert lost.readings >= 7 * (seq - following + 1)
                following = seq + 1
            assert following == epoch.last + 1
        assert intact >= kept
        agrees_with_disk(spool)
        for lane, counts in spool.counts().items():
            assert counts.queued_at_start + counts.taken == (
                counts.receipted - counts.reopened + sum(counts.lost.values()) + counts.queued
            ), lane
        return spool

    @property
    def aside(self) -> list[str]:
        return sorted(p.name for p in self.path.parent.iterdir() if ".damaged-" in p.name)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """Two starts of the agent, 460 packs, a part of the first with a receipt; closed in order."""
    filled = Filled(tmp_path_factory.mktemp("template") / "spool.db")
    spool = open_spool(filled.path, cap_bytes=1 << 26)
    filled.add(spool, Lane.READINGS, range(200))
    filled.add(spool, Lane.TESTS, range(60))
    spool.new_store(STORE)
    epoch = spool.current_epoch(Lane.READINGS)
    assert epoch is not None
    spool.mark_receipted(epoch, 30)
    spool.close()
    spool = open_spool(filled.path, cap_bytes=1 << 26)
    filled.add(spool, Lane.READINGS, range(200, 400))
    spool.close()
    return filled


@pytest.fixture
def filled(template: Filled, tmp_path: Path) -> Filled:
    """Return a copy of the template."""
    shutil.copy(template.path, tmp_path)
    return Filled(tmp_path / "spool.db", dict(template.bodies), dict(template.lanes))


ALL = 460
IN_LOG = 25


def zeroed(*pages: int) -> Callable[[bytearray], None]:
    def change(raw: bytearray) -> None:
        for page in pages:
            raw[(page - 1) * PAGE_BYTES : page * PAGE_BYTES] = bytes(PAGE_BYTES)

    return change


def test_a_file_cut_in_half(filled: Filled) -> None:
    filled.damage(lambda raw: raw.__delitem__(slice(len(raw) // 2 + 1_000, None)))
    spool = filled.salvaged(kept=200)
    assert spool.alarms == {"spool_corrupt"}
    assert spool.epochs.keys() == set(filled.lanes.keys())
    assert spool.store == STORE
    assert len(filled.aside) == 1
    assert spool.dropped_records > 0
    spool.close()


@pytest.mark.parametrize("seed", range(6))
def test_bits_flipped_in_the_middle(filled: Filled, seed: int) -> None:
    rng = random.Random(seed)

    def change(raw: bytearray) -> None:
        for _ in range(12):
            raw[rng.randrange(PAGE_BYTES, len(raw))] ^= 1 << rng.randrange(8)

    filled.damage(change)
    filled.salvaged(kept=ALL - 12 * 12).close()


@pytest.mark.parametrize("seed", range(3))
def test_pages_of_noise_in_the_middle(filled: Filled, seed: int) -> None:
    rng = random.Random(seed)

    def change(raw: bytearray) -> None:
        for _ in range(8):
            at = rng.randrange(2, len(raw) // PAGE_BYTES) * PAGE_BYTES
            raw[at : at + PAGE_BYTES] = rng.randbytes(PAGE_BYTES)

    filled.damage(change)
    spool = filled.salvaged(kept=ALL - 8 * 30)
    assert spool.alarms == {"spool_corrupt"}
    spool.close()


def test_a_header_of_noise_costs_nothing(filled: Filled) -> None:
    def change(raw: bytearray) -> None:
        raw[:100] = random.Random(1).randbytes(100)

    filled.damage(change)
    spool = filled.salvaged(kept=ALL)
    assert {name: e.lane for name, e in spool.epochs.items()} == filled.lanes
    assert [e.acked for e in sorted(spool.epochs.values(), key=lambda e: e.ord)] == [30, 0, 0]
    assert spool.queue_length() == ALL - 30
    assert spool.dropped_records == 0
    spool.close()


def test_one_bit_of_the_version_is_damage_and_no_newer_agent(filled: Filled) -> None:
    filled.damage(lambda raw: raw.__setitem__(60, raw[60] ^ 0x40))
    filled.salvaged(kept=ALL).close()


def test_an_unreadable_table_of_epochs_is_rebuilt_from_the_packs(filled: Filled) -> None:
    with sqlite3.connect(filled.path) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'epochs'").fetchone()
    db.close()
    filled.damage(zeroed(root))
    with structlog.testing.capture_logs() as said:
        spool = filled.salvaged(kept=ALL)
    (line,) = [entry for entry in said if entry["event"] == "spool_damaged"]
    assert set(line["epochs_without_receipts"]) == set(filled.lanes)
    assert {name: e.lane for name, e in spool.epochs.items()} == filled.lanes
    assert spool.queue_length() == ALL  # receipts are not known: the server has them
    first = spool.first_unreceipted(Lane.READINGS)
    assert first is not None
    assert first.epoch == min(name for name, lane in filled.lanes.items() if lane is Lane.READINGS)
    spool.close()


def test_an_empty_file_is_no_new_spool(filled: Filled) -> None:
    filled.path.write_bytes(b"")
    spool = filled.salvaged(kept=0)
    assert spool.epochs == {}
    assert spool.alarms == {"spool_corrupt"}
    assert len(filled.aside) == 1
    spool.close()


def test_a_file_of_garbage_is_kept_aside_as_it_is(filled: Filled) -> None:
    garbage = b"this is no database" * 10_000
    filled.path.write_bytes(garbage)
    filled.salvaged(kept=0).close()
    [aside] = filled.aside
    assert (filled.path.parent / aside).read_bytes() == garbage
    assert not open_spool(filled.path).alarms


# ---- the log beside the file


@pytest.fixture
def killed(filled: Filled, tmp_path: Path) -> Filled:
    """As ``filled``, with a few packs more that are in the log only: the agent was killed."""
    spool = open_spool(filled.path, cap_bytes=1 << 26)
    for number in range(IN_LOG):
        raw = body(number, 500)
        spool.append(Lane.READINGS, raw, 7, NOW)
        epoch = spool.current_epoch(Lane.READINGS)
        assert epoch is not None
        filled.bodies[epoch, number + 1] = raw
        filled.lanes[epoch] = Lane.READINGS
    copy = tmp_path / "killed"
    copy.mkdir()
    for file in (filled.path, wal_of(filled.path)):
        shutil.copy(file, copy)
    spool.close()
    filled.path = copy / "spool.db"
    return filled


def test_a_whole_log_is_no_damage(killed: Filled) -> None:
    spool = killed.salvaged(kept=ALL + IN_LOG)
    assert spool.alarms == set()
    assert killed.aside == []
    spool.close()


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7])
def test_a_bit_flipped_in_the_log_does_not_cost_the_commits_behind_it(
    killed: Filled, share: float
) -> None:
    killed.damage(
        lambda raw: raw.__setitem__(int(len(raw) * share), raw[int(len(raw) * share)] ^ 8), wal=True
    )
    spool = killed.salvaged(kept=ALL + IN_LOG - 12)
    assert spool.alarms == {"spool_corrupt"}
    last = spool.first_unreceipted(Lane.READINGS)
    assert last is not None
    assert max(e.last for e in spool.epochs.values() if e.lane is Lane.READINGS) == 200
    assert sum(e.last for e in spool.epochs.values()) == ALL + IN_LOG
    assert [name.endswith("-wal") for name in killed.aside] == [False, True]
    spool.close()


def test_a_damaged_header_of_the_log_does_not_cost_the_log(killed: Filled) -> None:
    killed.damage(lambda raw: raw.__setitem__(slice(0, 24), b"x" * 24), wal=True)
    killed.salvaged(kept=ALL + IN_LOG).close()


def test_a_log_whose_file_is_gone(killed: Filled) -> None:
    killed.path.unlink()
    spool = killed.salvaged(kept=20)
    assert spool.alarms == {"spool_corrupt"}
    spool.close()


def test_a_commit_that_a_power_cut_tore_is_no_damage(killed: Filled) -> None:
    killed.damage(lambda raw: raw.__setitem__(len(raw) - 100, raw[-100] ^ 1), wal=True)
    spool = open_spool(killed.path, cap_bytes=1 << 26)
    assert spool.alarms == set()
    assert sum(e.last for e in spool.epochs.values()) == ALL + IN_LOG - 1
    spool.close()


# ---- while the agent runs


def overwrite_pages(path: Path) -> None:
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        for page in range(6, size // PAGE_BYTES, 9):
            file.seek(page * PAGE_BYTES)
            file.write(b"\xa5" * PAGE_BYTES)


def test_damage_found_while_running_is_overcome_and_every_record_accounted_for(
    filled: Filled,
) -> None:
    spool = open_spool(filled.path, cap_bytes=1 << 26)
    filled.add(spool, Lane.READINGS, range(400, 420))
    opened = spool.current_epoch(Lane.READINGS)
    spool._checkpoint()
    before = sum(c.queued for c in spool.counts().values())
    overwrite_pages(filled.path)
    spool._db.execute("PRAGMA shrink_memory")
    for name in list(spool.epochs):
        held(spool, name)
    filled.add(spool, Lane.READINGS, range(420, 430))
    assert spool.current_epoch(Lane.READINGS) == opened
    assert spool.alarms == {"spool_corrupt"}
    after = spool.counts()
    lost = sum(c.lost.get(LossReason.CORRUPT, 0) for c in after.values())
    assert lost > 0
    assert sum(c.queued for c in after.values()) + lost == before + 70
    assert len(filled.aside) >= 1
    spool.close()
    filled.salvaged(kept=100).close()


def test_a_salvage_that_cannot_be_written_is_tried_again(
    filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = open_spool(filled.path, cap_bytes=1 << 26)
    queued = sum(c.queued for c in spool.counts().values())
    spool._damaged = "said so"
    with monkeypatch.context() as patch:
        patch.setattr("gateway.salvage.prepare", lambda _: (_ for _ in ()).throw(OSError("full")))
        with pytest.raises(SpoolBlockedError, match="cannot be written: full"):
            spool.append(Lane.READINGS, body(1), 1, NOW)
    spool.append(Lane.READINGS, body(1), 1, NOW)
    assert sum(c.queued for c in spool.counts().values()) == queued + 1
    spool.close()


def test_a_kill_in_the_middle_of_a_salvage(filled: Filled) -> None:
    half = filled.path.with_name("spool.salvaged.db")
    half.write_bytes(b"half")  # killed before it was whole: the damaged file has its place yet
    filled.salvaged(kept=ALL).close()
    assert not half.exists()
    filled.path.rename(half)  # killed between the two renames
    wal_of(filled.path).write_bytes(b"of the damaged one")
    spool = filled.salvaged(kept=ALL)
    assert [name.endswith("-wal") for name in filled.aside] == [True]
    spool.close()


def test_a_newer_file_is_not_salvaged_though_it_has_a_log(killed: Filled) -> None:
    db = sqlite3.connect(killed.path)
    db.execute("PRAGMA user_version = 3")
    files = {p.name: p.read_bytes() for p in killed.path.parent.iterdir() if "shm" not in p.name}
    copy = killed.path.parent / "newer"
    copy.mkdir()
    for name in files:
        shutil.copy(killed.path.parent / name, copy)
    db.close()
    with pytest.raises(SpoolError, match="schema 3, this agent knows 2"):
        Spool.open(copy / "spool.db", cap_bytes=1 << 20, new_id=new_id)
    assert {p.name: p.read_bytes() for p in copy.iterdir()} == files
