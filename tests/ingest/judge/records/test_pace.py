"""§3.16: more tests than the channels allow, and a day's list in one minute: flagged, never judged."""

import datetime as dt
import random
from decimal import Decimal

import pytest
import sqlalchemy as sa

from drivers.records import TestRecord
from ingest import tables
from ingest.batch import TakenPack, TestItem
from ingest.judge.catalogue.catalogue import standard_catalogue
from ingest.judge.records.pace import CHANNELS, DATE_ONLY_SAMPLES, RUN_MS, RUNS
from ingest.judge.records.rapid import time_ms
from ingest.judge.records.records import RecordJudge

CATALOGUE = standard_catalogue()
NINE = time_ms("2026-07-01T09:00:00+08:00")


class Registry:
    version = 1

    def context(self, station, device):  # noqa: ARG002 - the Protocol's
        return None


@pytest.fixture
def connection():
    engine = sa.create_engine("sqlite://")
    tables.metadata.create_all(engine)
    with engine.connect() as opened:
        yield opened
    engine.dispose()


def made(number, at_ms, **fields):
    given = {
        "record_id": f"r{number:03}",
        "dedup_key": f"r{number:03}",
        "tested_at": f"{stamp(at_ms)}",
        "device_id": "tester1",
        "sample_no": f"S{number}",
        "product_name": "油麦菜",
        "parameter": "op_carbamate_inhibition",
        "method": "enzyme_inhibition",
        "method_standard": "GB/T 5009.199-2003",
        "result_kind": "inhibition",
        "value": Decimal(number % 40),
        "unit": "%",
        **fields,
    }
    return TestRecord(**given)


def stamp(at_ms):
    return dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC).isoformat()


def keep(connection, *records, station="hl-001", seq=1):
    pack = TakenPack(seq, station, "E" * 26, seq, NINE, b"")
    items = [TestItem(pack, at, one) for at, one in enumerate(records)]
    RecordJudge(CATALOGUE, Registry()).store(connection, items)


def flagged(connection, flag):
    rows = connection.execute(sa.select(tables.tests.c.record_id, tables.tests.c.flags))
    return sorted(name for name, flags in rows if flag in flags)


def names(first, last):
    return [f"r{number:03}" for number in range(first, last)]


def spread(n, over_ms, start_ms=NINE, **fields):
    return [made(i, start_ms + i * over_ms // n, **fields) for i in range(n)]


def on_channels(n, over_ms, channels):
    return [made(i, NINE + i * over_ms // n, channel=str(1 + i % channels)) for i in range(n)]


def test_forty_tests_in_three_minutes_on_eight_channels(connection):
    keep(connection, *on_channels(40, RUN_MS, 8))
    assert flagged(connection, "burst") == names(16, 40)  # two runs of eight are possible
    row = connection.execute(sa.select(tables.tests).limit(1)).mappings().one()
    assert row["verdict"] == "pass"  # shown, no accusation


def test_the_same_forty_of_an_instrument_that_names_no_channel(connection):
    keep(connection, *spread(40, RUN_MS))
    assert flagged(connection, "burst") == names(RUNS * CHANNELS, 40)


@pytest.mark.parametrize("channels", [8, 12, 24])
def test_a_run_every_three_minutes_is_an_ordinary_morning(connection, channels):
    records = [
        made(run * channels + channel, NINE + run * RUN_MS, channel=str(channel + 1))
        for run in range(5)
        for channel in range(channels)
    ]
    keep(connection, *records)
    assert flagged(connection, "burst") == flagged(connection, "same_minute") == []


def test_a_sample_number_in_the_place_of_a_channel_is_no_channel(connection):
    keep(connection, *(made(i, NINE + i * 4000, channel=str(1000 + i % 2)) for i in range(40)))
    assert flagged(connection, "burst") == names(4, 40)  # two of them, however they are called


def test_repeats_are_tests_and_items_of_one_test_are_not(connection):
    keep(connection, *spread(40, RUN_MS, sample_no="S1", attempt=0))
    assert flagged(connection, "burst") == []
    keep(
        connection,
        *(made(100 + i, NINE + i * 4000, sample_no="S1", attempt=i) for i in range(40)),
        station="hl-002",
    )
    assert flagged(connection, "burst") == names(100 + RUNS * CHANNELS, 140)


def test_each_device_is_on_its_own(connection):
    keep(connection, *(made(i, NINE + i * 4000, device_id=f"tester{i % 2}") for i in range(40)))
    keep(connection, *(made(50 + i, NINE + i * 4000) for i in range(20)), station="hl-002")
    assert flagged(connection, "burst") == []


def test_a_laboratory_reports_a_whole_series_at_one_time(connection):
    keep(
        connection,
        *(
            made(
                i,
                NINE,
                method="gc_ms",
                parameter="毒死蜱",
                result_kind="quantitative",
                unit="mg/kg",
            )
            for i in range(60)
        ),
    )
    assert flagged(connection, "burst") == flagged(connection, "same_minute") == []


def test_strips_are_read_in_seconds_whatever_channel_they_name(connection):
    strip = {
        "parameter": "克伦特罗",
        "method": "colloidal_gold",
        "result_kind": "qualitative",
        "screen_result": "negative",
        "value": None,
        "unit": "",
        "channel": "1",
    }
    keep(connection, *spread(20, RUN_MS, **strip))
    assert flagged(connection, "burst") == []


@pytest.mark.parametrize("minute", ["23:59", "00:00"])
def test_a_list_of_the_whole_day_in_one_minute(connection, minute):
    start = time_ms(f"2026-07-01T{minute}:00+08:00")
    keep(connection, *spread(8, 60_000, start))
    assert flagged(connection, "same_minute") == names(DATE_ONLY_SAMPLES - 1, 8)
    assert flagged(connection, "burst") == []


def test_one_late_test_with_its_repeats_is_none(connection):
    start = time_ms("2026-07-01T23:59:00+08:00")
    keep(connection, *(made(i, start + i * 10_000, sample_no="S1", attempt=i) for i in range(3)))
    keep(connection, *spread(8, 60_000, start - 60_000), station="hl-002")
    assert flagged(connection, "same_minute") == []


def test_by_day_more_in_one_minute_than_there_are_channels(connection):
    keep(connection, *(made(i, NINE + i * 1000, channel=str(1 + i % 8)) for i in range(12)))
    assert flagged(connection, "same_minute") == names(8, 12)
    assert flagged(connection, "burst") == []


@pytest.mark.parametrize("seed", range(6))
def test_neither_the_order_nor_the_batches_matter(connection, seed):
    records = on_channels(40, RUN_MS, 8)
    source = random.Random(seed)
    if seed % 2:
        source.shuffle(records)
        keep(connection, *records)
    else:
        for at in range(0, 40, 1 + seed):
            keep(connection, *records[at : at + 1 + seed], seq=at + 1)
    assert flagged(connection, "burst") == names(16, 40)


def test_what_is_delivered_again_is_counted_once(connection):
    records = on_channels(16, RUN_MS, 8)
    for seq in range(1, 4):
        keep(connection, *records, *records, seq=seq)
    keep(connection, made(17, NINE + RUN_MS - 1), seq=9)
    assert flagged(connection, "burst") == ["r017"]


def test_a_test_without_a_time_is_left_out(connection):
    keep(connection, *(made(i, NINE, tested_at="gestern") for i in range(40)))
    assert flagged(connection, "burst") == flagged(connection, "same_minute") == []
