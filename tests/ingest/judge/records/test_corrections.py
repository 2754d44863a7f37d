"""A record that was completed or corrected: the last counts once, those before it stay as evidence."""

import itertools

import msgspec
import pytest
import sqlalchemy as sa

from ingest import tables
from ingest.judge.catalogue.catalogue import standard_catalogue
from ingest.judge.records import pace, value_runs
from ingest.judge.records.records import RecordJudge
from tests.ingest.judge.records.test_rapid_samples import (  # noqa: F401 - a fixture among them
    CATALOGUE,
    Registry,
    connection,
    items,
    rate,
    record,
    stored,
)


def judge():
    return RecordJudge(standard_catalogue(), Registry())


def in_force(connection):  # noqa: F811 - the fixture's value
    table = tables.tests
    query = sa.select(table.c.record_id).where(table.c.superseded_by.is_(None))
    return set(connection.execute(query).scalars())


BARE = rate("a", "63.2", 0, sample_no="")
COMPLETED = msgspec.structs.replace(
    BARE,
    record_id="b",
    dedup_key="typed|b",
    sample_no="S9",
    parent_record_id="a",
    quality_flags=("manual",),
)
AGAIN = msgspec.structs.replace(
    COMPLETED,
    record_id="c",
    dedup_key="typed|c",
    product_name="菠菜",
    parent_record_id="b",
)


@pytest.mark.parametrize("order", list(itertools.permutations((BARE, COMPLETED, AGAIN))))
@pytest.mark.parametrize("at_once", [True, False])
def test_the_last_counts_in_whatever_order_they_come(connection, order, at_once):  # noqa: F811
    store = judge().store
    packs = [items(*order)] if at_once else [items(one, seq=n + 1) for n, one in enumerate(order)]
    for pack in packs:
        store(connection, pack)
    assert in_force(connection) == {"c"}
    assert [stored(connection, name)["superseded_by"] for name in "abc"] == ["c", "c", None]
    for pack in packs:  # the edge sends again
        store(connection, pack)
    judge().store(connection, packs[0])  # another life of the server
    assert in_force(connection) == {"c"}
    parent = stored(connection, "a")
    assert (parent["verdict"], parent["sample_no"]) == ("suspect", "")  # evidence, as it was
    assert (stored(connection, "c")["product_name"], stored(connection, "c")["verdict"]) == (
        "菠菜",
        "suspect",
    )


def test_a_repeat_that_names_the_first_test_takes_nobodys_place(connection):  # noqa: F811
    first = rate("r1", "63.2", 0)
    repeat = rate("r2", "12", 1, parent_record_id="r1")
    judge().store(connection, items(first, repeat))
    assert in_force(connection) == {"r1", "r2"}
    completed = rate("r3", "12", 1, parent_record_id="r2", subject_id="u1")
    judge().store(connection, items(completed, seq=2))
    assert in_force(connection) == {"r1", "r3"}


def test_a_record_of_another_station_is_not_taken_away(connection):  # noqa: F811
    judge().store(connection, items(BARE))
    judge().store(connection, items(COMPLETED, seq=2, station="hl-002"))
    assert in_force(connection) == {"a", "b"}


def test_of_two_corrections_of_one_record_the_later_counts(connection):  # noqa: F811
    other = msgspec.structs.replace(AGAIN, parent_record_id="a")
    for pack in (items(BARE), items(other, seq=3), items(COMPLETED, seq=2)):
        judge().store(connection, pack)
    assert in_force(connection) == {"c"}


def test_a_parent_that_never_comes_and_a_circle_harm_nobody(connection):  # noqa: F811
    lone = rate("x", "10", 0, parent_record_id="nowhere")
    itself = rate("y", "11", 0, sample_no="S2", parent_record_id="y")
    ring = [
        rate("p", "12", 0, sample_no="S3", parent_record_id="q"),
        rate("q", "12", 0, sample_no="S3", parent_record_id="p"),
    ]
    judge().store(connection, items(lone, itself, *ring))
    assert in_force(connection) == {"x", "y", "q"}


def test_a_completion_is_no_further_test_of_the_instrument(connection):  # noqa: F811
    # As many tests as a run may have, each without a number and then completed with one.
    count = pace.CHANNELS * pace.RUNS
    bare = [rate(f"a{n}", str(n), 0, sample_no="") for n in range(count)]
    done = [
        rate(f"b{n}", str(n), 0, sample_no=f"S{n}", parent_record_id=f"a{n}") for n in range(count)
    ]
    same = [
        rate(f"v{n}", "7.7", 0, sample_no="", tested_at=f"2026-07-01T0{n + 1}:00:00+08:00")
        for n in range(value_runs.RUN - 1)
    ]
    same += [rate(f"w{n}", "7.7", 0, sample_no=f"T{n}", parent_record_id=f"v{n}") for n in range(4)]
    for seq, some in enumerate((bare, done, same), 1):
        judge().store(connection, items(*some, seq=seq))
    flags = {
        flag
        for row in connection.execute(sa.select(tables.tests.c.flags)).scalars()
        for flag in row
    }
    assert pace.BURST not in flags
    assert value_runs.DUPLICATE_VALUE_RUN not in flags


def test_a_corrected_part_leaves_the_sum(connection):  # noqa: F811
    part = {"product_name": "猪肉", "loq": "1"}
    records = [
        record("e", value="70", **part),
        record("c", parameter="环丙沙星", value="50", **part),
        record("f", value="20", parent_record_id="e", **part),
    ]
    judge().store(connection, items(*records))
    # limit 100 µg/kg for the sum: 70 + 50 is over it, 20 + 50 is not
    assert stored(connection, "c")["verdict"] == "exceed"
    assert stored(connection, "f")["verdict"] == "pass"
