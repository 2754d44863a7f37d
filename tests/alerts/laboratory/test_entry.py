"""What a report's words become, without a server."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.laboratory.entry import Entry, Report, Result, Sample, bodies_of
from alerts.laboratory.words import read_value
from drivers.records import Qualifier
from gateway import wire
from ingest.judge.catalogue.catalogue import standard_catalogue
from ingest.publishers.reader import MessageReader

NOW = 1_777_600_000_000
SAMPLE = Sample({"product_name": "普通白菜", "tested_at": "2026-04-30T09:00:00+08:00"}, ("湖光站",))
REPORT = Report(
    station="hl-001",
    sample_no="s1",
    laboratory="省中心",
    report_no="1",
    method="gc_ms",
    complete=True,
    reported_at="2026-05-01",
    results=(Result(indicator="毒死蜱", value="0.05", unit="mg/kg"),),
    entered_by="li",
)


def read(report=REPORT, sample=SAMPLE, **more):
    return Entry(standard_catalogue(), NOW).read(report, sample, **more)


@pytest.mark.parametrize(
    ("text", "value", "qualifier"),
    [
        ("0.05", "0.05", Qualifier.EQ),
        (" ０．０５ ", "0.05", Qualifier.EQ),
        ("1e-05", "0.00001", Qualifier.EQ),
        ("<0.01", "0.01", Qualifier.LT),
        ("＜ 0.01", "0.01", Qualifier.LT),
        (">5", "5", Qualifier.GT),
        ("未检出", None, Qualifier.NOT_DETECTED),
        ("N.D.", None, Qualifier.NOT_DETECTED),
        ("<LOD", "0.001", Qualifier.LT),
        ("＜定量限", "0.01", Qualifier.LT),
    ],
)
def test_values_as_laboratories_write_them(text, value, qualifier):
    number, said = read_value(text, Decimal("0.001"), Decimal("0.01"))
    assert (number, said) == (None if value is None else Decimal(value), qualifier)


@pytest.mark.parametrize(
    "text",
    ["", "-0.1", "少量", "1,000", "≤0.01", "0.05±0.01", "nan", "inf", "0x1", "合格", "1e999"],
)
def test_anything_else_is_no_result(text):
    with pytest.raises(ValueError, match=r" \| "):
        read_value(text)


@given(st.text(max_size=60))
def test_no_text_does_more_than_be_refused(text):
    try:
        number, _ = read_value(text)
    except ValueError:
        return
    assert number is None or (number.is_finite() and number >= 0)


def test_the_records_are_what_the_inbox_takes():
    accepted = read(
        replace(REPORT, results=(*REPORT.results, Result(indicator="乐果", value="ND", unit="ppb")))
    )
    [body] = bodies_of(accepted)
    parsed = MessageReader().read("agri/v1/hl-001/records", body, NOW)
    assert parsed.is_whole
    assert [record for _, record in parsed.tests] == [one.record for one in accepted.results]
    record = accepted.results[0].record
    assert (record.sampled_at, record.laboratory) == ("2026-04-30T09:00:00+08:00", "省中心")
    assert record.product_name == "普通白菜"


def test_many_results_go_in_messages_that_the_inbox_holds():
    one = read().results[0]
    many = replace(read(), results=(one,) * 500)
    bodies = bodies_of(many)
    assert len(bodies) == 5
    assert max(map(len, bodies)) < wire.MAX_BODY_BYTES


def test_the_same_words_are_the_same_report_whoever_enters_them():
    first, again = read(), read(replace(REPORT, entered_by="wang", source="page", note="x"))
    assert first.content_sha256 == again.content_sha256
    assert first.record_ids == again.record_ids
    other = read(replace(REPORT, complete=False))
    assert other.content_sha256 != first.content_sha256


def test_a_method_may_be_named_by_its_standard():
    record = read(replace(REPORT, method="GB 23200.113-2018")).results[0].record
    assert (record.method, record.method_standard) == ("lab", "GB 23200.113-2018")


def test_the_station_by_its_name_is_the_station():
    assert read(replace(REPORT, laboratory="湖光站")).results[0].record.laboratory == "hl-001"


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"station": ""}, "station"),
        ({"sample_no": " "}, "sample_no"),
        ({"report_no": ""}, "report_no"),
        ({"reported_at": "yesterday"}, "reported_at"),
        ({"reported_at": "2026-06-01"}, "reported_at"),
        ({"received_at": "2026-05-01T08:00:00+08:00"}, "received_at"),
        ({"report_sha256": "abc"}, "report_sha256"),
        ({"product_name": "白采"}, "product_name"),
        ({"product_name": "苹果"}, "product_name"),
        ({"results": ()}, "results"),
        ({"method": "酶抑制率法"}, "method"),
        ({"method": ""}, "method"),
        ({"results": REPORT.results * 2}, "indicator"),
    ],
)
def test_each_fault_is_named(change, column):
    assert column in {fault.column for fault in read(replace(REPORT, **change))}


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"unit": "%"}, "unit"),
        ({"unit": "mg"}, "unit"),
        ({"unit": ""}, "unit"),
        ({"unit": "mg/L"}, "unit"),
        ({"value": "2000000"}, "value"),
        ({"indicator": "毒死俾"}, "indicator"),
        ({"lod": "-1"}, "lod"),
        ({"loq": "abc"}, "loq"),
        ({"value": "<LOQ"}, "value"),
        ({"method": "elisa"}, "method"),
    ],
)
def test_each_fault_of_a_result_is_named(change, column):
    report = replace(REPORT, results=(replace(REPORT.results[0], **change),))
    [fault] = read(report)
    assert (fault.row, fault.column) == (0, column)
    assert " | " in fault.what
