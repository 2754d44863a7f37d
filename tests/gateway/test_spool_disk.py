"""The disk under a spool: full, limited, read-only, taken away; and how much of it the spool may ever use."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from gateway import wire
from gateway.reserve import RESERVE_BYTES, Reserve
from gateway.spool import SEGMENT_BYTES, SpoolGoneError
from gateway.spool_file import LossReason, wal_of
from gateway.wire import Lane
from tests.gateway.test_spool import (
    NOW,
    REPO,
    agrees_with_disk,
    body,
    fill,
    held,
    open_spool,
    run_of,
)

if TYPE_CHECKING:
    from pathlib import Path

MB = 1024 * 1024

BEGIN = """
import json, os, resource, sys
from pathlib import Path
import structlog
from ulid import ULID
from gateway import wire
from gateway.spool import Spool, SpoolBlockedError, SpoolGoneError
from gateway.wire import Lane
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
NOW, MB = 1_777_600_000_000, 1024 * 1024
disk = Path(sys.argv[1])
path = disk / "spool.db"

def open_spool(cap):
    return Spool.open(path, cap_bytes=cap, new_id=lambda: str(ULID()))

def packs(count, lane=Lane.READINGS, size=3000):
    return [(lane, b'{"readings":[],"pad":"%s"}' % (b"x" * size), 10)] * count

def filler(size):
    with (disk / "filler").open("ab") as file:
        try:
            while file.tell() < size:
                file.write(bytes(64 * 1024))
                file.flush()
        except OSError:
            pass

def lost(spool):
    return sum(sum(c.lost.values()) for c in spool.counts().values())

def holes(spool):
    found = 0
    for name, epoch in spool.epochs.items():
        following = epoch.oldest
        for pack in spool.packs_from(name, 0, 1_000_000):
            gone = wire.peek_lost(pack.body)
            if gone is not None:
                assert gone.from_seq == following
                found += gone.readings
            following = pack.seq + 1
        assert following == epoch.last + 1
    return found

def balanced(spool):
    return all(
        c.taken + c.queued_at_start
        == c.receipted - c.reopened + sum(c.lost.values()) + c.queued
        for c in spool.counts().values()
    )
"""


def on_small_disk(directory: Path, size: str, script: str) -> dict[str, Any]:
    """Run ``script`` where ``disk`` is a tmpfs of its own; return the JSON that it prints."""
    unshare = shutil.which("unshare")
    mounts = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(directory)]
    if unshare is None or subprocess.run([unshare, "-Urm", *mounts], check=False).returncode:
        if os.environ.get("CI") == "true":
            pytest.fail("user namespaces are not permitted; CI must have them")
        pytest.skip("user namespaces are not permitted here")
    mount = f'mount -t tmpfs -o size={size} none "$1" && exec "$2" -c "$3" "$1"'
    command = [
        unshare,
        "-Urm",
        "sh",
        "-c",
        mount,
        "sh",
        str(directory),
        sys.executable,
        BEGIN + script,
    ]
    return run_child(command)


def run_child(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, cwd=REPO, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_a_disk_that_others_fill_costs_the_oldest_and_comes_back(tmp_path: Path) -> None:
    said = on_small_disk(
        tmp_path,
        "24m",
        """
spool = open_spool(50 * MB)
reserve = disk / "spool.reserve"
reserved = reserve.exists()
spool.append_many(packs(100), NOW)
first = spool.current_epoch(Lane.READINGS)
spool.mark_receipted(first, 50)
spool.append_many(packs(20, Lane.TESTS), NOW)
filler(17 * MB)
kept_polling = 0
for _ in range(60):
    spool.append_many(packs(20), NOW)  # 3.6 MB more than there is
    kept_polling += 1
filler(40 * MB)  # and nothing at all is left
for _ in range(60):
    spool.append_many(packs(20), NOW)
    kept_polling += 1
full = dict(
    alarms=sorted(spool.alarms), lost=lost(spool), holes=holes(spool), balanced=balanced(spool),
    reserve=reserve.exists(), oldest=spool.epochs[first].oldest,
    tests=[c.lost for lane, c in spool.counts().items() if lane is Lane.TESTS],
)
(disk / "filler").unlink()
spool.prune(NOW + 60_000)
spool.append_many(packs(700), NOW)
spool.append_many(packs(700), NOW)
back = dict(alarms=sorted(spool.alarms - {"spool_full"}), reserve=reserve.exists(),
    more_lost=lost(spool) - full["lost"], holes=holes(spool) == lost(spool))
spool.close()
spool = open_spool(50 * MB)
print(json.dumps(dict(reserved=reserved, kept_polling=kept_polling, full=full, back=back,
    last=spool.epochs[first].last, again=sorted(spool.alarms))))
""",
    )
    assert said["reserved"]
    assert said["kept_polling"] == 120
    full = said["full"]
    assert "disk_full" in full["alarms"]
    assert full["lost"] == full["holes"] > 0
    assert full["balanced"]
    assert not full["reserve"]
    assert full["oldest"] == 51  # what had its receipt went first
    assert full["tests"] == [{}]  # tests go last
    assert said["back"] == {"alarms": [], "reserve": True, "more_lost": 0, "holes": True}
    assert said["last"] == 100 + 120 * 20 + 1400
    assert said["again"] == []


def test_a_file_that_may_not_grow_costs_the_oldest(tmp_path: Path) -> None:
    said = run_child(
        [
            sys.executable,
            "-c",
            BEGIN
            + """
spool = open_spool(50 * MB)
spool.append_many(packs(10), NOW)
resource.setrlimit(resource.RLIMIT_FSIZE, (8 * MB, resource.RLIM_INFINITY))
blocked = 0
for _ in range(200):
    try:
        spool.append_many(packs(20), NOW)
    except SpoolBlockedError:
        blocked += 1
limited = dict(alarms=sorted(spool.alarms), balanced=balanced(spool), size=path.stat().st_size,
    lost=lost(spool), holes=holes(spool))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
spool.prune(NOW + 60_000)
before = lost(spool)
spool.append_many(packs(1000), NOW)
epoch = spool.current_epoch(Lane.READINGS)
print(json.dumps(dict(blocked=blocked, limited=limited, alarms=sorted(spool.alarms),
    more_lost=lost(spool) - before, last=spool.epochs[epoch].last)))
spool.close()
""",
            str(tmp_path),
        ]
    )
    assert said["blocked"] == 0
    limited = said["limited"]
    assert "disk_full" in limited["alarms"]
    assert limited["balanced"]
    assert limited["size"] <= 8 * MB
    assert limited["lost"] == limited["holes"] > 0
    assert limited["lost"] < 4010 * 10 / 2 + 10_000
    assert "disk_full" not in said["alarms"]
    assert said["more_lost"] == 0
    assert said["last"] == 10 + 4000 + 1000


def test_a_read_only_file_system_is_said_and_nothing_is_acknowledged(tmp_path: Path) -> None:
    said = on_small_disk(
        tmp_path,
        "24m",
        """
spool = open_spool(50 * MB)
spool.append_many(packs(10), NOW)
os.system(f"mount -o remount,ro,size=24m none {disk} 2>/dev/null || umount -l {disk}")
try:
    for _ in range(100):
        spool.append_many(packs(20), NOW)
    answer = "it went on"
except SpoolGoneError as exc:
    answer = str(exc)
print(json.dumps(dict(answer=answer, lines=answer.count("\\n"))))
""",
    )
    assert "spool.db" in said["answer"]
    assert said["lines"] == 0


@pytest.mark.parametrize("what", ["spool", "log", "replaced"])
def test_a_file_taken_away_is_said_at_the_next_commit(tmp_path: Path, what: str) -> None:
    spool = open_spool(tmp_path / "spool.db")
    fill(spool, 3)
    if what == "log":
        wal_of(tmp_path / "spool.db").unlink()
    else:
        (tmp_path / "spool.db").rename(tmp_path / "moved")
    if what == "replaced":
        shutil.copy(tmp_path / "moved", tmp_path / "spool.db")
    with pytest.raises(SpoolGoneError, match=r"spool\.db.* while the agent runs"):
        fill(spool, 1)
    spool.close()


def test_the_reserve_takes_its_blocks(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "r")
    assert reserve.make()
    assert (tmp_path / "r").stat().st_blocks * 512 >= RESERVE_BYTES
    assert reserve.make()
    reserve.release()
    assert not reserve.held
    assert not Reserve(tmp_path / "r", 1 << 60).make()
    assert not (tmp_path / "r").exists()


# ---- the cap, on disk


def on_disk(path: Path) -> int:
    return path.stat().st_size + wal_of(path).stat().st_size


@pytest.mark.parametrize("size", [60, 700, 2_100, 4_200, 49_000, 0])
def test_file_and_log_stay_under_the_cap_and_one_segment(tmp_path: Path, size: int) -> None:
    """Bodies of 2,100 bytes fill a page each to a half; 0: of all sizes."""
    path, cap = tmp_path / "spool.db", 6 * MB
    spool = open_spool(path, cap)
    rng = random.Random(1)
    most = taken = 0
    while taken < 3 * cap:
        sizes = [size or rng.choice([40, 900, 5_000, 30_000]) for _ in range(100)]
        items = [(Lane.READINGS, body(n, s), 3) for n, s in enumerate(sizes)]
        while items and sum(len(raw) for _, raw, _ in items) > MB:
            items.pop()
        spool.append_many(items, NOW)
        taken += sum(len(raw) + 120 for _, raw, _ in items)
        most = max(most, on_disk(path))
        epoch = spool.current_epoch(Lane.READINGS)
        assert epoch is not None
        if rng.random() < 0.3:
            spool.mark_receipted(epoch, spool.epochs[epoch].last - rng.randrange(50))
    assert cap // 3 < most <= cap + SEGMENT_BYTES
    assert run_of(spool, epoch)[1] == spool.epochs[epoch].last
    spool.close()


def test_the_lost_counter_equals_the_holes_and_survives_restarts(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    for _ in range(3):
        spool = open_spool(path, 40_000)
        spool.append_many([(Lane.READINGS, body(n), 3) for n in range(150)], NOW)
        spool.append_many([(Lane.TESTS, body(n), 1) for n in range(30)], NOW)
        spool.close()
    spool = open_spool(path, 40_000)
    holes = dict.fromkeys(Lane, 0)
    for name, epoch in spool.epochs.items():
        for _, raw in held(spool, name):
            lost = wire.peek_lost(raw)
            holes[epoch.lane] += 0 if lost is None else lost.readings
    assert spool.lost_ever == {(Lane.READINGS, LossReason.CAP): holes[Lane.READINGS]}
    assert holes[Lane.READINGS] > 0
    assert holes[Lane.TESTS] == 0  # tests go last
    assert spool.dropped_records == 0  # none since this start
    agrees_with_disk(spool)
    spool.close()


def test_a_lowered_cap_gives_the_disk_back(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    spool = open_spool(path, 20 * MB)
    for _ in range(10):
        spool.append_many([(Lane.READINGS, body(n, 9_000), 3) for n in range(100)], NOW)
    epoch = spool.current_epoch(Lane.READINGS)
    assert epoch is not None
    spool.close()
    assert path.stat().st_size > 8 * MB
    spool = open_spool(path, 2 * MB)
    spool.append(Lane.READINGS, body(1), 3, NOW)
    spool.close()
    assert path.stat().st_size <= 2 * MB + SEGMENT_BYTES
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()
    spool = open_spool(path, 2 * MB)
    assert run_of(spool, epoch) == (1, 1000)
    spool.close()


def test_a_disk_that_has_space_again_costs_nothing_though_nobody_is_connected(tmp_path):
    """Receipts, and with them the looks for space, come only while there is a link."""
    spool = open_spool(tmp_path / "spool.db")
    try:
        spool.append(Lane.READINGS, body(1), 1, NOW)
        spool._room = 0  # the disk was full, and is no more
        spool.append(Lane.READINGS, body(2), 1, NOW + 10_000)
        assert spool.dropped_records == 0
        assert spool.queue_length() == 2
    finally:
        spool.close()
