"""Line protocol: byte for byte the client's ``Point``, for whatever a name or a number may be."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from influxdb_client import Point, WritePrecision

from ingest.batch import Series, TakenPack
from ingest.decode import Decoder, SeriesIndex
from ingest.store.influx.influxql import literal, name
from ingest.store.influx.line_protocol import LineProtocol, Rows, float_field, string_field

names = st.one_of(
    st.text(st.sampled_from("a,= \"\\\n\t\r'#;中é𝄞"), max_size=8),
    st.text(st.characters(codec="utf-8"), max_size=12),
    st.sampled_from(["田东县/站点 1", "x'; DROP MEASUREMENT reading --", "a\\", "soil,ph=6"]),
)
values = st.one_of(
    st.floats(allow_nan=True, allow_infinity=False),
    st.floats(-1000, 1000).map(lambda v: round(v, 2)),
    st.integers(-(2**70), 2**70).map(float),
    st.sampled_from([0.0, -0.0, 5e-324, 2.2250738585072014e-308, 1e300, 1e16, 1e15, 1e-4, 1e-5]),
)
whole = st.integers(-(2**63), 2**63 - 1)
row = st.tuples(
    st.integers(0, 2),
    st.integers(-(2**47), 2**47),
    values,
    st.integers(0, 255),
    st.integers(0, 2**32 - 1),
    whole,
    whole,
    st.integers(0, 3),
)


def rows_of(given_rows: list[tuple]) -> Rows:
    types = (np.int32, np.int64, np.float64, np.uint8, np.uint32, np.int64, np.int64, np.int32)
    columns = list(zip(*given_rows, strict=True)) or [()] * 8
    return Rows(*(np.array(c, t) for c, t in zip(columns, types, strict=True)))


def point(series: Series, row: tuple) -> str:
    _, t_ms, v, q, flags, received_ms, inbox_pos, dup = row
    made = (
        Point("reading")
        .tag("station", series.station)
        .tag("device", series.device)
        .tag("indicator", series.indicator)
        .tag("dup", dup or None)
        .field("v", v)
        .field("q", q)
        .field("flags", flags)
        .field("received_ms", received_ms)
        .field("inbox_pos", inbox_pos)
        .time(t_ms, WritePrecision.MS)
    )
    return made.to_line_protocol()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.builds(Series, names, names, names), min_size=3, max_size=3), st.lists(row))
@example([Series("", "", "")] * 3, [(0, 0, math.nan, 9, 0, 0, 0, 1)])
def test_lines_are_those_of_the_clients_point(series, given_rows):
    encoder = LineProtocol()
    encoder.know(series)
    expected = "".join(point(series[r[0]], r) + "\n" for r in given_rows).encode()
    assert encoder.encode(rows_of(given_rows)) == expected
    assert b"".join(encoder.lines(rows_of(given_rows))) == expected


@given(st.floats(allow_nan=False, allow_infinity=False), names)
def test_single_fields_are_those_of_the_clients_point(value, text):
    line = f"m a={float_field(value)},b={string_field(text)}"
    assert line == Point("m").field("a", value).field("b", text).to_line_protocol()


def test_series_may_be_added_between_batches():
    encoder = LineProtocol()
    encoder.know([Series("a", "b", "c")])
    assert len(encoder) == 1
    encoder.know([Series("d", "e", "f")])
    line = encoder.encode(rows_of([(1, 5, 1.5, 1, 0, 7, 8, 0)]))
    assert line == (
        b"reading,device=e,indicator=f,station=d flags=0i,inbox_pos=8i,q=1i,received_ms=7i,v=1.5 5\n"
    )


def test_a_name_that_is_not_ours_is_refused():
    with pytest.raises(ValueError, match="'x' is not one of agrigate_check"):
        name("x")
    assert name("reading") == '"reading"'
    assert literal("it's \\ \n") == "'it\\'s \\\\ \\n'"


@pytest.mark.parametrize("char", ["\n", "\0", "\t", "\x1b", "\x7f", ",", " ", "=", "\\", '"', "'"])
@pytest.mark.parametrize("device", ["{}soil", "so{}il", "soil{}"])
def test_p4_ingest_takes_no_name_that_needs_escaping(device, char):
    """The encoder would escape it; control characters never come so far."""
    record = {"n": f"{device.format(char)}/soil_ph", "t": 1.7e9, "v": 6.5}
    body = json.dumps({"readings": [record]}).encode()
    batch = Decoder(SeriesIndex()).decode([TakenPack(1, "hl-001", "E", 1, 1_700_000_000_000, body)])
    assert len(batch.t_ms) == 0
    assert [fault.field for fault in batch.faults] == ["n"]
