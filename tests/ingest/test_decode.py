"""Packs to columns."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.records import Reading, TestRecord
from gateway import wire
from gateway.wire import ClockTrust, Lost, LostReason
from ingest.batch import (
    BAD_READING,
    CLOCK_FREE,
    CLOCK_SUSPECT,
    FAIL,
    GROSS_RANGE,
    LATE,
    MISSING,
    OUT_OF_ORDER,
    PASS,
    SENTINEL,
    Series,
    TakenPack,
)
from ingest.decode import ArrivalOrder, Decoder, SeriesIndex

NOW = 1_777_600_000_000
EPOCH = "01KAAAAAAAAAAAAAAAAAAAAAAA"
STATION = "hl-001"


def pack(body: bytes | dict, pos: int = 1, received_ms: int = NOW) -> TakenPack:
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return TakenPack(pos, STATION, EPOCH, pos, received_ms, body)


def decode(*packs: TakenPack):
    return Decoder(SeriesIndex()).decode(list(packs))


def rows(batch) -> list[tuple[str, int, float | None]]:
    """(device/indicator, t_ms, v) of each reading, None for NaN."""
    return [
        (
            f"{batch.series[s].device}/{batch.series[s].indicator}",
            int(t),
            None if math.isnan(v) else float(v),
        )
        for s, t, v in zip(batch.series_id, batch.t_ms, batch.v, strict=True)
    ]


def faults(batch) -> list[tuple[int, str]]:
    return [(fault.position, fault.field) for fault in batch.faults]


def reading(value, indicator="soil_ph", at_ms=NOW, **more) -> dict:
    return {"n": f"a/{indicator}", "t": at_ms / 1000, "v": value, **more}


# ---- golden bodies


def test_the_body_that_the_design_prints():
    body = (
        b'{"readings":[{"bn":"plot3/soil1/","bt":1763900000.0,"n":"soil_ph","v":6.52},'
        b'{"n":"soil_moisture","v":23.1},{"n":"soil_ph","t":60,"v":6.53}],"clk":"sync"}'
    )
    batch = decode(pack(body, received_ms=1_763_900_060_000))
    assert rows(batch) == [
        ("plot3/soil1/soil_ph", 1_763_900_000_000, 6.52),
        ("plot3/soil1/soil_moisture", 1_763_900_000_000, 23.1),
        ("plot3/soil1/soil_ph", 1_763_900_060_000, 6.53),
    ]
    assert batch.series[0] == Series(STATION, "plot3/soil1", "soil_ph")
    assert batch.q.tolist() == [PASS] * 3
    assert batch.flags.tolist() == [0] * 3
    assert (batch.faults, batch.tests) == ([], [])
    assert batch.position.tolist() == [0, 1, 2]
    assert [a.dtype for a in (batch.series_id, batch.t_ms, batch.v, batch.q, batch.flags)] == [
        np.int32,
        np.int64,
        np.float64,
        np.uint8,
        np.uint32,
    ]


def test_places_lead_back_to_the_packs():
    first = pack({"readings": [reading(6.0), reading(6.1, "soil_ec")]}, 7)
    second = pack({"readings": []}, 8)
    third = pack({"readings": [reading(6.2)]}, 9, NOW + 5)
    batch = decode(first, second, third)
    assert batch.packs == [first, second, third]
    assert batch.pack_index.tolist() == [0, 0, 2]
    assert batch.inbox_pos.tolist() == [7, 7, 9]
    assert batch.received_ms.tolist() == [NOW, NOW, NOW + 5]
    assert batch.series_id.tolist() == [0, 1, 0]
    assert batch.cursor == 9


def test_tests_keep_their_place():
    record = TestRecord(record_id="r", dedup_key="d", tested_at="2026-05-01", device_id="t")
    batch = decode(pack(wire.encode_tests([record, record])))
    assert [(item.position, item.record.record_id) for item in batch.tests] == [(0, "r"), (1, "r")]
    assert rows(batch) == []


def test_no_packs_and_empty_packs_make_an_empty_batch():
    assert rows(decode()) == []
    assert rows(decode(pack({"readings": []}))) == []


# ---- base name and base time


def rfc8428(records: list[dict]) -> list[tuple[str, int, float | None]]:
    """Resolve names and times by the letter of RFC 8428 §4.6, record by record."""
    name, at, resolved = "", 0.0, []
    for record in records:
        name, at = record.get("bn", name), record.get("bt", at)
        resolved.append(
            (name + record["n"], round((at + record.get("t", 0.0)) * 1000), record["v"])
        )
    return resolved


seconds = st.integers(1_577_836_800_000, 1_999_999_999_999).map(lambda ms: ms / 1000)
senml = st.fixed_dictionaries(
    {"n": st.sampled_from(["soil_ph", "water_ph", "soil_ec"]), "v": st.floats(3, 11)},
    optional={
        "bn": st.sampled_from(["a/", "plot3/soil1/", "w-1/x.y/"]),
        "bt": seconds,
        "t": st.integers(-60_000, 60_000).map(lambda ms: ms / 1000),
    },
)


@given(st.lists(senml, min_size=1, max_size=20))
def test_base_name_and_base_time_resolve_as_rfc_8428_says(records):
    records[0] = {"bn": "a/", **records[0]}
    assert rows(decode(pack({"readings": records}))) == rfc8428(records)


@given(
    st.lists(
        st.builds(
            Reading,
            st.sampled_from(["a", "b/c"]),
            st.sampled_from(["soil_ph", "water_ph"]),
            st.integers(0, 4_102_444_800_000),
            st.floats(allow_nan=False, allow_infinity=False),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_what_the_edge_encodes_is_decoded_to_the_last_bit(readings):
    batch = decode(pack(wire.encode_readings(readings)))
    assert rows(batch) == [(f"{r.device}/{r.indicator}", r.t_ms, r.value) for r in readings]
    given_bits = np.array([r.value for r in readings]).view(np.uint64)
    assert batch.v.view(np.uint64).tolist() == given_bits.tolist()


def test_a_base_does_not_outlive_its_pack():
    batch = decode(
        pack({"readings": [{"bn": "a/", "bt": NOW / 1000, "n": "soil_ph", "v": 6.0}]}, 1),
        pack({"readings": [{"n": "soil_ph", "v": 6.0}]}, 2),
    )
    assert len(rows(batch)) == 1
    assert [(f.pack.pos, f.field) for f in batch.faults] == [(2, "n")]


# ---- records that cannot be used


@pytest.mark.parametrize(
    ("bad", "field", "said"),
    [
        (
            reading(6.0, u="Cel"),
            "u",
            "unit 'Cel' is not the catalogue's '[pH]': convert at the edge",
        ),
        (reading(6.0, "soil_phh"), "n", "did you mean soil_ph"),
        ({"n": "soil_ph", "t": 1.7e9, "v": 6.0}, "n", "<device path>/<indicator code>"),
        ({"n": "a b/soil_ph", "t": 1.7e9, "v": 6.0}, "n", "a b/soil_ph"),
        ({"n": "a/soil_ph", "t": 1.7e9}, "v", "needs v"),
        ({"n": "a/soil_ph", "t": 1e300, "v": 6.0}, "t", "no time"),
        ({"n": "a/soil_ph", "t": 1.7e9, "v": "6"}, "readings", "Expected `float"),
        ({"n": 5, "t": 1.7e9, "v": 6.0}, "readings", "$.n"),
    ],
)
def test_one_bad_record_leaves_the_others(bad, field, said):
    good = reading(6.0)
    batch = decode(pack({"readings": [good, bad, good]}))
    assert faults(batch) == [(1, field)]
    assert said in batch.faults[0].reason
    assert batch.position.tolist() == [0, 2]
    assert rows(batch) == [("a/soil_ph", NOW, 6.0)] * 2


def test_the_catalogues_own_unit_is_taken():
    batch = decode(pack({"readings": [reading(6.0, u="[pH]")]}))
    assert rows(batch) == [("a/soil_ph", NOW, 6.0)]


@pytest.mark.parametrize("base", [{"bn": "b/"}, {"bt": 5}, {"bn": None, "bt": 1.0}, None])
def test_a_bad_record_with_a_base_takes_the_rest_with_it(base):
    bad = {"n": "a/soil_ph", "v": "six", **base} if base else 7
    batch = decode(pack({"readings": [reading(6.0), bad, reading(6.1), reading(6.2)]}))
    assert faults(batch) == [(1, "readings"), (2, "bn"), (3, "bn")]
    assert batch.position.tolist() == [0]


def test_a_bad_test_leaves_the_others():
    good = {"record_id": "r", "dedup_key": "d", "tested_at": "x", "device_id": "t"}
    batch = decode(pack({"tests": [good, {"record_id": 5}, good]}))
    assert [item.position for item in batch.tests] == [0, 2]
    assert faults(batch) == [(1, "tests")]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b'{"readings":[{"n":"a/soil_ph","v":NaN}]}',
        b'{"readings":[{"n":"a/soil_ph","v":Infinity}]}',
        b'{"readings":[],"tests":[]}',
        b'{"readings":5}',
        b"\xff\xfe{}",
        b'{"readings":[],"deep":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"lost":{"from":1}}',
    ],
)
def test_a_body_that_is_none_is_one_fault_and_its_neighbours_go_on(body):
    good = {"readings": [reading(6.0)]}
    batch = decode(pack(good, 1), pack(body, 2), pack(good, 3))
    assert [(f.pack.pos, f.position) for f in batch.faults] == [(2, -1)]
    assert batch.faults[0].reason
    assert batch.inbox_pos.tolist() == [1, 3]


def test_bytes_that_are_no_utf8_cost_one_record_only():
    body = b'{"readings":[{"n":"a/soil_ph","t":1.7e9,"v":6},{"n":"a/\xff","v":6}]}'
    batch = decode(pack(body))
    assert faults(batch) == [(1, "readings")]
    assert batch.position.tolist() == [0]


def test_a_record_nested_too_deeply_costs_one_record_only():
    deep = '{"x":' + "[" * 50_000 + "]" * 50_000 + "}"
    good = json.dumps(reading(6.0))
    batch = decode(pack(f'{{"readings":[{good},{good}],"y":1}}'.encode()))
    assert len(rows(batch)) == 2
    batch = decode(pack(f'{{"readings":[{good},{deep}]}}'.encode()))
    assert batch.faults


def test_a_lost_range_yields_nothing_and_no_fault():
    batch = decode(pack(wire.encode_lost(Lost(1, 5, 9, LostReason.CAP)), 5))
    assert (rows(batch), batch.faults) == ([], [])


def test_a_lost_range_that_contradicts_its_header_is_a_fault():
    batch = decode(pack(wire.encode_lost(Lost(1, 9, 9, LostReason.CAP)), 5))
    assert faults(batch) == [(-1, "lost.through")]


@settings(max_examples=300)
@given(st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(["readings", "tests", "lost", "clk", "n", "bn", "bt", "t", "v", "q", "u"]),
            inner,
            max_size=5,
        ),
    ),
    max_leaves=20,
))  # fmt: skip
def test_nothing_in_a_body_raises(value):
    batch = decode(pack(json.dumps(value).encode()), pack(json.dumps({"readings": value}).encode()))
    assert len(batch.series_id) == len(batch.t_ms) == len(batch.v) == len(batch.q)


# ---- flags


def flags_of(*records, clk="sync", received_ms=NOW) -> list[int]:
    batch = decode(pack({"readings": list(records), "clk": clk}, received_ms=received_ms))
    assert batch.faults == []
    return ArrivalOrder().flag(batch).flags.tolist()


def test_a_reading_of_1970_or_next_year_is_kept_and_flagged():
    year = 365 * 24 * 3_600_000
    batch = decode(pack({"readings": [reading(6.0, at_ms=5_000), reading(6.1, at_ms=NOW + year)]}))
    assert rows(batch) == [("a/soil_ph", 5_000, 6.0), ("a/soil_ph", NOW + year, 6.1)]
    assert (batch.flags & CLOCK_SUSPECT).tolist() == [CLOCK_SUSPECT] * 2
    assert batch.q.tolist() == [PASS] * 2


@pytest.mark.parametrize(
    ("at_ms", "flags"),
    [
        (NOW, 0),
        (NOW - 600_000, 0),
        (NOW - 600_001, LATE),
        (NOW + 300_000, 0),
        (NOW + 300_001, CLOCK_SUSPECT),
        (1_577_836_800_000, LATE),
        (1_577_836_799_999, LATE | CLOCK_SUSPECT),
    ],
)
def test_late_and_clock_suspect_begin_where_they_should(at_ms, flags):
    assert flags_of(reading(6.0, at_ms=at_ms)) == [flags]


@pytest.mark.parametrize(
    ("clk", "flags"),
    [("sync", 0), ("free", CLOCK_FREE), ("unset", CLOCK_SUSPECT), ("atomic", CLOCK_SUSPECT)],
)
def test_what_the_edge_says_of_its_clock_is_kept_with_the_reading(clk, flags):
    assert flags_of(reading(6.0), clk=clk) == [flags]


def test_clock_trust_has_no_other_words():
    assert {trust.value for trust in ClockTrust} == {"sync", "free", "unset"}


@pytest.mark.parametrize(
    ("record", "q", "flags"),
    [
        (reading(6.0), PASS, 0),
        (reading(2.0), PASS, 0),
        (reading(12.0), PASS, 0),
        (reading(1.99), FAIL, GROSS_RANGE),
        (reading(12.01), FAIL, GROSS_RANGE),
        ({"n": "a/soil_ph", "t": NOW / 1000, "q": "bad:nan"}, MISSING, BAD_READING),
        ({"n": "a/soil_ph", "t": NOW / 1000, "q": "bad:range"}, FAIL, BAD_READING),
        (reading(6.0, q="bad:sentinel"), FAIL, BAD_READING | SENTINEL),
    ],
)
def test_quality_of_a_value(record, q, flags):
    batch = decode(pack({"readings": [record]}))
    assert (batch.q.tolist(), batch.flags.tolist()) == ([q], [flags])
    assert math.isnan(batch.v[0]) == bool(flags & BAD_READING)


def test_an_indicator_without_bounds_has_no_gross_range():
    index = SeriesIndex()
    number = index.number(STATION, "a/soil_ph")
    assert index.physical_ranges().tolist() == [[2.0, 12.0]]
    assert (number, index.unit(number)) == (0, "[pH]")
    assert index.number(STATION, "a/soil_ph") == 0
    assert index.number(STATION, "b/soil_ph") == 1
    assert len(index.physical_ranges()) == 2


# ---- order


names = st.sampled_from(["a/soil_ph", "b/soil_ph", "a/water_ph"])
offsets = st.one_of(st.integers(-5, 5), st.sampled_from([400_000, -(10**12)]))


@given(st.lists(st.lists(st.tuples(names, offsets), max_size=6), max_size=8))
def test_out_of_order_equals_the_loop(packs):
    taken = [
        pack({"readings": [{"n": n, "t": (NOW + o) / 1000, "v": 6.0} for n, o in records]}, pos)
        for pos, records in enumerate(packs, 1)
    ]
    last: dict[str, int] = {}
    expected = []
    for name, offset in itertools.chain.from_iterable(packs):
        expected.append(OUT_OF_ORDER if offset <= last.get(name, -(10**15)) else 0)
        if -(10**11) < offset <= 300_000:  # a clock that is wrong moves nothing
            last[name] = max(last.get(name, -(10**15)), offset)
    flags = ArrivalOrder().flag(decode(*taken)).flags & OUT_OF_ORDER
    assert flags.tolist() == expected


@settings(deadline=None)
@given(
    st.lists(st.lists(st.tuples(names, offsets), max_size=6), min_size=1, max_size=8),
    st.data(),
)
def test_how_packs_are_split_into_batches_changes_nothing(packs, data):
    taken = [
        pack({"readings": [{"n": n, "t": (NOW + o) / 1000, "v": 6.0} for n, o in records]}, pos)
        for pos, records in enumerate(packs, 1)
    ]
    cuts = sorted(data.draw(st.sets(st.integers(1, len(taken)))) | {0, len(taken)})
    parts = [taken[a:b] for a, b in itertools.pairwise(cuts)]

    def columns(parts):
        decoder, order = Decoder(SeriesIndex()), ArrivalOrder()
        batches = [order.flag(decoder.decode(part)) for part in parts]
        return [
            (*row, int(q), int(f), int(pos))
            for b in batches
            for row, q, f, pos in zip(rows(b), b.q, b.flags, b.inbox_pos, strict=True)
        ]

    assert columns(parts) == columns([[p] for p in taken])


def test_flagging_leaves_the_batch_for_others():
    batch = decode(pack({"readings": [reading(6.0), reading(6.1)]}))
    flagged = ArrivalOrder().flag(batch)
    assert flagged.flags.tolist() == [0, OUT_OF_ORDER]
    assert batch.flags.tolist() == [0, 0]
