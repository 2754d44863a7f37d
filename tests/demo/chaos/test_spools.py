"""What was accepted is read from living spools, without touching them."""

from __future__ import annotations

import math
import shutil
from typing import TYPE_CHECKING

from ulid import ULID

from demo.chaos import spools
from demo.chaos.spools import Accepted
from drivers.records import Reading
from gateway import wire
from gateway.spool import Spool
from gateway.wire import Lane

if TYPE_CHECKING:
    from pathlib import Path

T = 1_795_483_800_000


def body(*values: float | None) -> bytes:
    return wire.encode_readings(
        Reading("load/1", "water_hg", T + n, v, None if v is not None else "bad:no_answer")
        for n, v in enumerate(values)
    )


def opened(path: Path, cap_bytes: int = 10**8) -> Spool:
    return Spool.open(path, cap_bytes=cap_bytes, new_id=lambda: str(ULID()))


def test_each_pack_is_taken_once_while_the_spool_lives(tmp_path: Path) -> None:
    path, accepted = tmp_path / "spool.db", Accepted()
    spool = opened(path)
    try:
        for n in range(3):
            spool.append(Lane.READINGS, body(float(n), None), 2, T)
            assert spools.watch(path, "ch-001", accepted)
            assert spools.watch(path, "ch-001", accepted)
    finally:
        spool.close()
    column = accepted.series["ch-001", "load/1", "water_hg"]
    assert [v for v in column.v if not math.isnan(v)] == [0.0, 1.0, 2.0]
    assert list(column.t_ms) == [T, T + 1] * 3
    assert accepted.records == [2, 2, 2]
    assert list(accepted.last.values()) == [3]
    assert not accepted.unseen


def test_packs_that_were_dropped_before_a_look_are_named(tmp_path: Path) -> None:
    path, accepted = tmp_path / "spool.db", Accepted()
    spool = opened(path, cap_bytes=2_000)
    try:
        for n in range(40):
            spool.append(Lane.READINGS, body(float(n)), 1, T)
        assert spools.watch(path, "ch-001", accepted)
    finally:
        spool.close()
    seqs = {seq for _, _, seq in accepted.packs}
    assert {seq for _, _, seq in accepted.unseen} == set(range(1, 41)) - seqs
    assert accepted.unseen


def test_a_file_that_is_no_spool_yet_is_left_for_later(tmp_path: Path) -> None:
    assert not spools.watch(tmp_path / "spool.db", "ch-001", Accepted())


def test_a_copy_is_whole_and_older(tmp_path: Path) -> None:
    path, copy = tmp_path / "spool.db", tmp_path / "copy.db"
    spool = opened(path)
    try:
        spool.append(Lane.READINGS, body(1.0), 1, T)
        spools.copy_live(path, copy)
        spool.append(Lane.READINGS, body(2.0), 1, T)
        (now,), (then,) = spools.epochs(path), spools.epochs(copy)
    finally:
        spool.close()
    assert (then.epoch, then.last, now.last) == (now.epoch, 1, 2)
    shutil.copy2(copy, tmp_path / "again.db")
    restored = opened(tmp_path / "again.db")
    assert restored.queue_length() == 1
    restored.close()
