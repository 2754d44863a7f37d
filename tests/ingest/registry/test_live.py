"""The registry as the running server asks it."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from ulid import ULID

from ingest import tables
from ingest.operational import Operational
from ingest.registry.context import PlotContext
from ingest.registry.live import Registry

NOW = 1_777_600_000_000


def epoch_of(at_ms):
    return str(ULID.from_timestamp(at_ms / 1000))


@pytest.fixture
def operational(tmp_path, databases):
    operational = Operational(databases.url(tmp_path / "operational.db"))
    operational.migrate()
    with operational.write() as db:
        db.execute(
            sa.insert(tables.subjects).values(
                id="s1", name="s", subject_type="coop", region_code="640122"
            )
        )
        db.execute(
            sa.insert(tables.bases).values(id="b1", subject_id="s1", name="b", region_code="640122")
        )
        db.execute(
            sa.insert(tables.plots).values(
                id="p1", base_id="b1", name="p", land_use="paddy", soil_ph=6.5
            )
        )
        for code in ("hl-001", "hl-002"):
            db.execute(
                sa.insert(tables.stations).values(code=code, name=code, region_code="640122100")
            )
        for path, plot in (("soil1", "p1"), ("t1", None)):
            db.execute(
                sa.insert(tables.devices).values(
                    station="hl-001", path=path, name=path, plot_id=plot
                )
            )
    yield operational
    operational.close()


def set_key(operational, station, key, state, replaced_ms=None):
    k = tables.gateway_keys
    row = {"station": station, "key": key, "state": state, "replaced_ms": replaced_ms}
    with operational.write() as db:
        db.execute(sa.delete(k).where(k.c.station == station, k.c.key == key))
        db.execute(sa.insert(k).values(first_seen_ms=1, **row))


def test_the_context_of_a_device_is_its_plots(operational):
    registry = Registry(operational)
    assert registry.context("hl-001", "soil1") == PlotContext(
        plot_id="p1", region_code="640122100", land_use="paddy", soil_ph=6.5
    )
    assert registry.context("hl-001", "t1") == PlotContext(region_code="640122100")
    assert registry.context("hl-001", "none") is None
    assert registry.context("hl-002", "soil1") is None


def test_reload_takes_a_new_picture_and_counts_it(operational):
    registry = Registry(operational)
    version = registry.version
    with operational.write() as db:
        db.execute(sa.update(tables.plots).values(crop="paddy"))
    before = registry.context("hl-001", "soil1")
    assert before is not None
    assert before.crop == ""
    registry.reload()
    after = registry.context("hl-001", "soil1")
    assert after is not None
    assert (after.crop, registry.version) == ("paddy", version + 1)


def test_only_approved_keys_of_registered_stations_count(operational):
    for station, key, state in (
        ("hl-001", "k1", "approved"),
        ("hl-001", "k2", "pending"),
        ("hl-001", "k3", "refused"),
        ("hl-009", "k1", "approved"),
    ):
        set_key(operational, station, key, state)
    registry = Registry(operational)
    assert registry.is_approved("hl-001", "k1")
    for station, key in (("hl-001", "k2"), ("hl-001", "k3"), ("hl-002", "k1"), ("hl-009", "k1")):
        assert not registry.is_approved(station, key)


def test_refresh_names_the_stations_whose_keys_changed(operational):
    registry = Registry(operational)
    assert registry.refresh_keys() == set()
    set_key(operational, "hl-001", "k1", "approved")
    set_key(operational, "hl-002", "k2", "pending")
    assert not registry.is_approved("hl-001", "k1")
    assert registry.refresh_keys() == {"hl-001"}
    assert registry.is_approved("hl-001", "k1")
    set_key(operational, "hl-001", "k1", "refused")
    set_key(operational, "hl-002", "k2", "approved")
    assert registry.refresh_keys() == {"hl-001", "hl-002"}
    assert not registry.is_approved("hl-001", "k1")


def test_a_replaced_key_may_deliver_what_it_began_until_then(operational):
    set_key(operational, "hl-001", "new", "approved")
    set_key(operational, "hl-001", "old", "replaced", NOW)
    registry = Registry(operational)
    assert not registry.is_approved("hl-001", "old")
    for at_ms, may in ((NOW - 86_400_000, True), (NOW, True), (NOW + 1, False)):
        assert registry.may_deliver("hl-001", "old", epoch_of(at_ms)) is may
        assert registry.may_deliver("hl-001", "new", epoch_of(at_ms))
    assert not registry.may_deliver("hl-002", "old", epoch_of(NOW - 1))


@pytest.mark.parametrize("state", ["pending", "refused"])
def test_any_other_key_may_deliver_nothing(operational, state):
    set_key(operational, "hl-001", "k", state, NOW if state == "refused" else None)
    registry = Registry(operational)
    assert not registry.may_deliver("hl-001", "k", epoch_of(NOW - 1))
    assert not registry.may_deliver("hl-001", "stranger", epoch_of(NOW - 1))
    assert not registry.may_deliver("hl-009", "k", epoch_of(NOW - 1))


def test_refresh_names_a_station_whose_key_was_replaced(operational):
    set_key(operational, "hl-001", "old", "approved")
    registry = Registry(operational)
    set_key(operational, "hl-001", "old", "replaced", NOW)
    set_key(operational, "hl-001", "new", "approved")
    assert registry.refresh_keys() == {"hl-001"}
    set_key(operational, "hl-001", "old", "refused")
    assert registry.refresh_keys() == {"hl-001"}
    assert registry.refresh_keys() == set()
