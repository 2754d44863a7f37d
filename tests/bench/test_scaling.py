"""The scaling benchmark, small: its path is the server's, and its floors are floors of the same thing."""

from __future__ import annotations

import shutil
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from bench import floors, scaling
from bench.server_path import ServerPath, packs_of
from gateway import wire
from ingest.batch import TakenPack
from ingest.decode import Decoder, SeriesIndex
from ingest.inbox import verify

if TYPE_CHECKING:
    from pathlib import Path


def test_the_path_stores_and_judges_what_it_took(tmp_path: Path) -> None:
    stations = ["bench-000", "bench-001"]
    bodies = packs_of(10, 6, 1_763_900_000_000)
    with closing(ServerPath(tmp_path, stations)) as path:
        path.take(bodies[:2], stations, 10)
        path.take(bodies[2:], stations, 10)
        assert path.count() == 120
        assert path.judge.cursor() == path.store.cursor() == 12
        assert min(path.intake_s, path.decoder.cpu_s, path.judge.cpu_s, path.store.cpu_s) > 0
    assert verify(tmp_path / "inbox.db").is_good


@pytest.mark.parametrize("size", scaling.PACKS)
def test_packs_of_every_size_are_such_as_the_server_takes(size: int) -> None:
    bodies = packs_of(size, 2, 1_763_900_000_000)
    assert len(bodies) == 2
    assert max(len(body) for body in bodies) <= wire.MAX_BODY_BYTES
    packs = [TakenPack(n, "s-001", "E", n, 1_763_900_000_000, b) for n, b in enumerate(bodies, 1)]
    batch = Decoder(SeriesIndex()).decode(packs)
    assert len(batch.t_ms) == 2 * size
    assert not batch.faults


def test_a_point_has_spread_memory_and_stages() -> None:
    runs = [scaling._run(40, 100, 1000) for _ in range(2)]
    point = scaling._point(40, 100, runs)
    for rate in ("readings_per_cpu_s", "readings_per_s", "first_us_per_series", "rss_mb"):
        middle, least, most = point[rate]
        assert 0 < least <= middle <= most
    assert point["readings"] == 1000
    assert {"decode", "judge"} <= set(point["us_per_reading"])


def test_floors_without_influxd_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    found = floors.measure(6_400, 2)
    assert "influxd is not installed" in found["influxdb_skipped"]
    for name in ("decode_only", "duckdb_by_commits", "duckdb_at_once"):
        middle, least, most = found[f"{name}_per_cpu_s"]
        assert 0 < least <= middle <= most
