"""What a person decides about a gateway key."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from ingest import tables
from ingest.operational import Operational
from ingest.registry import decisions
from ingest.registry.decisions import KeyConflictError, UnknownKeyError

STATION = "hl-001"


@pytest.fixture
def db(tmp_path, databases):
    operational = Operational(databases.url(tmp_path / "operational.db"))
    operational.migrate()
    with operational.write() as db:
        for key in ("old", "new"):
            show(db, key)
        yield db
    operational.close()


def show(db, key, station=STATION):
    db.execute(
        sa.insert(tables.gateway_keys).values(
            station=station, key=key, state="pending", first_seen_ms=1
        )
    )


def replaced_ms(db):
    k = tables.gateway_keys
    return {key: at for key, at in db.execute(sa.select(k.c.key, k.c.replaced_ms)) if at}


def test_the_first_key_is_approved_and_approving_it_again_changes_nothing(db):
    decisions.approve(db, STATION, "old")
    decisions.approve(db, STATION, "old")
    assert decisions.states(db, STATION) == {"old": "approved", "new": "pending"}


def test_a_second_key_is_not_approved_and_the_named_act_is_said(db):
    decisions.approve(db, STATION, "old")
    with pytest.raises(KeyConflictError, match="agrigate station replace hl-001 new"):
        decisions.approve(db, STATION, "new")
    assert decisions.states(db, STATION) == {"old": "approved", "new": "pending"}


def test_a_replaced_key_keeps_the_time_and_doing_it_twice_keeps_the_first(db):
    decisions.approve(db, STATION, "old")
    assert decisions.replace(db, STATION, "new", 5) == ["old"]
    assert decisions.replace(db, STATION, "new", 9) == []
    assert decisions.states(db, STATION) == {"old": "replaced", "new": "approved"}
    assert replaced_ms(db) == {"old": 5}


def test_a_replacement_can_be_taken_back(db):
    decisions.approve(db, STATION, "old")
    decisions.replace(db, STATION, "new", 5)
    decisions.replace(db, STATION, "old", 9)
    assert decisions.states(db, STATION) == {"old": "approved", "new": "replaced"}
    assert replaced_ms(db) == {"new": 9}


def test_without_an_approved_key_there_is_nothing_to_replace(db):
    with pytest.raises(KeyConflictError, match="agrigate station approve hl-001 new"):
        decisions.replace(db, STATION, "new", 5)
    assert decisions.states(db, STATION) == {"old": "pending", "new": "pending"}


def test_a_key_is_refused_whatever_it_was(db):
    decisions.approve(db, STATION, "old")
    decisions.replace(db, STATION, "new", 5)
    decisions.refuse(db, STATION, "old")
    decisions.refuse(db, STATION, "new")
    assert decisions.states(db, STATION) == {"old": "refused", "new": "refused"}
    assert replaced_ms(db) == {}


def test_another_stations_keys_are_left_alone(db):
    show(db, "old", "hl-002")
    decisions.approve(db, "hl-002", "old")
    decisions.approve(db, STATION, "old")
    decisions.replace(db, STATION, "new", 5)
    assert decisions.states(db, "hl-002") == {"old": "approved"}


@pytest.mark.parametrize("act", ["approve", "replace", "refuse"])
def test_a_key_that_was_never_shown_is_nobodys(db, act):
    decisions.approve(db, STATION, "old")
    rest = (5,) if act == "replace" else ()
    with pytest.raises(UnknownKeyError, match="has shown no gateway key 'foreign'"):
        getattr(decisions, act)(db, STATION, "foreign", *rest)
    assert decisions.states(db, STATION) == {"old": "approved", "new": "pending"}
