"""Windows of work on a device: what is set is heard, what is wrong is refused."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from ingest import tables
from ingest.operational import Operational
from ingest.registry import windows
from ingest.registry.live import Registry
from ingest.registry.windows import UnknownWindowError, WindowError

NOW = 1_763_900_000_000
HOUR = 3_600_000
GOOD = {
    "station": "hl-001",
    "device": "pond/ph",
    "kind": "maintenance",
    "from_ms": NOW,
    "to_ms": NOW + HOUR,
    "set_by": "王工",
    "now_ms": NOW,
    "note": "换电极",
}


@pytest.fixture
def operational(tmp_path, databases):
    operational = Operational(databases.url(tmp_path / "operational.db"))
    operational.migrate()
    with operational.write() as db:
        db.execute(sa.insert(tables.stations).values(code="hl-001", name="s", region_code="640122"))
        for path in ("pond/ph", "pond/do"):
            db.execute(sa.insert(tables.devices).values(station="hl-001", path=path, name=path))
    yield operational
    operational.close()


def test_a_window_is_listed_and_heard_by_the_running_server(operational):
    registry = Registry(operational)
    version = registry.quality.version
    with operational.write() as db:
        held = windows.add(db, **GOOD)
    with operational.read() as db:
        assert windows.listed(db, station="hl-001", device="pond/ph") == [held]
        assert windows.listed(db, device="pond/do") == windows.listed(db, station="hl-002") == []
    registry.quality.refresh()
    assert registry.quality.version == version + 1
    [one] = registry.quality.windows()
    assert (one.station, one.device, one.kind, one.from_ms, one.to_ms) == (
        "hl-001",
        "pond/ph",
        "maintenance",
        NOW,
        NOW + HOUR,
    )


def test_a_window_that_is_cancelled_is_kept_and_heard_no_more(operational):
    registry = Registry(operational)
    with operational.write() as db:
        held = windows.add(db, **GOOD)
        gone = windows.cancel(db, held.id, station="hl-001", now_ms=NOW + 5)
        assert gone.cancelled_ms == NOW + 5
        assert windows.cancel(db, held.id, station="hl-001", now_ms=NOW + 9) == gone
    registry.quality.refresh()
    assert list(registry.quality.windows()) == []
    with operational.read() as db:
        assert windows.listed(db) == []
        assert windows.listed(db, with_cancelled=True) == [gone]


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("kind", {"kind": "holiday"}),
        ("from_ms", {"from_ms": 0}),
        ("to_ms", {"to_ms": NOW}),
        ("to_ms", {"to_ms": NOW + windows.LONGEST_MS + 1}),
        ("set_by", {"set_by": " "}),
        ("note", {"note": "x" * 501}),
        ("device", {"device": "pond/ec"}),
        ("device", {"station": "hl-002"}),
    ],
)
def test_a_window_that_is_wrong_is_refused_with_its_field(operational, field, wrong):
    with operational.write() as db, pytest.raises(WindowError) as caught:
        windows.add(db, **{**GOOD, **wrong})
    assert caught.value.field == field
    with operational.read() as db:
        assert windows.listed(db) == []


def test_a_window_of_another_station_cannot_be_cancelled(operational):
    with operational.write() as db:
        held = windows.add(db, **GOOD)
        with pytest.raises(UnknownWindowError):
            windows.cancel(db, held.id, station="hl-002", now_ms=NOW)
    with operational.read() as db:
        assert windows.listed(db) == [held]
