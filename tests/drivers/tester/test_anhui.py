import base64
import json
import urllib.parse
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.errors import FrameError
from drivers.records import ResultKind, ScreenResult, TestRecord
from drivers.tester.anhui import MAX_BODY_BYTES, Refusal, parse
from drivers.tester.config import parse as parse_device
from drivers.tester.points import record_of

NOW_MS = 1_793_580_300_000
DETAIL = {
    "rwbh": "",
    "bjdw": "某某合作社",
    "jcxm": "农药残留",
    "jcdt": "2026-11-02 08:30:12",
    "jcz": "63.2",
    "szdw": "%",
    "jgpd": "不合格",
    "ybbh": "26110201",
    "ybmc": "韭菜",
    "ybcd": "本地",
    "xlbz": "GB/T 5009.199-2003",
    "sbbh": "TT-24",
    "xlz": "50",
}
DEVICE = parse_device(
    {"path": "inbox", "profile": "anhui", "transport": {"http": "/upload"}}, "test"
)


def envelope(*details, **more):
    return {"count": len(details), "jczbh": "340100", "jcdw": "某站", "details": details} | more


def parsed(body, content_type="application/json"):
    data = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    return parse(data, content_type, lambda raw: record_of(raw, DEVICE, NOW_MS))


def test_the_envelope_of_the_notice():
    first, second = parsed(envelope(DETAIL, DETAIL | {"ybbh": "26110202", "jcz": 12.50}))
    assert isinstance(first, TestRecord)
    assert (first.sample_no, first.product_name, first.origin_text) == ("26110201", "韭菜", "本地")
    assert (first.parameter, first.value, first.unit) == (
        "op_carbamate_inhibition",
        Decimal("63.2"),
        "%",
    )
    assert (first.result_kind, first.screen_result) == (
        ResultKind.INHIBITION,
        ScreenResult.POSITIVE,
    )
    assert (first.device_verdict, first.device_model) == ("不合格", "TT-24")
    assert (first.tested_at, first.tested_subject_name) == (
        "2026-11-02T08:30:12+08:00",
        "某某合作社",
    )
    assert json.loads(base64.b64decode(first.raw))["xlz"] == "50"
    assert second.value == Decimal("12.5")
    assert first.record_id != second.record_id


def test_gbk_is_read_too():
    (got,) = parsed(json.dumps(envelope(DETAIL), ensure_ascii=False).encode("gbk"))
    assert got.product_name == "韭菜"


def test_without_a_unit_an_inhibition_is_in_percent_and_nothing_else_is():
    (got,) = parsed(envelope(DETAIL | {"szdw": None}))
    assert got.unit == "%"
    (got,) = parsed(envelope(DETAIL | {"szdw": "", "jcxm": "毒死蜱", "jcz": "0.05"}))
    assert (got.unit, got.quality_flags) == ("", ("unit_unknown",))


@pytest.mark.parametrize("charset", ["utf-8", "gbk"])
@pytest.mark.parametrize("percent", ["%25", "%"])
def test_flat_fields_of_shandong_and_henan(charset, percent):
    fields = DETAIL | {"jcz": "63.2", "szdw": "", "jcy": "张*", "did": "D-7", "type": "1"}
    form = urllib.parse.urlencode(fields, encoding=charset).replace(
        "jcz=63.2", f"jcz=63.2{percent}"
    )
    (got,) = parsed(form.encode(), "application/x-www-form-urlencoded")
    assert (got.product_name, got.value, got.unit) == ("韭菜", Decimal("63.2"), "%")
    assert (got.tester, got.serial_no) == ("张*", "D-7")


def test_one_flat_json_object_is_a_record():
    (got,) = parsed(DETAIL)
    assert got.sample_no == "26110201"


def test_one_wrong_record_never_spoils_its_neighbours():
    body = envelope(DETAIL, 5, DETAIL | {"jcz": {"a": 1}}, {"x": "y"}, {"jcy": "张*"}, DETAIL)
    first, *refused, last = parsed(body)
    assert isinstance(first, TestRecord)
    assert isinstance(last, TestRecord)
    assert [one.index for one in refused] == [1, 2, 3, 4]
    assert all(isinstance(one, Refusal) and one.reason and one.raw for one in refused)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (envelope(DETAIL, count=2), "count says 2, details has 1"),
        (envelope(DETAIL, details="x"), "not an upload"),
        (b'{"count":1,"details":[', "not an upload"),
        (b"[" * 5000, "nested too deep"),
        (b'{"a":"\xff\xff"}', "neither utf-8 nor GBK"),
        (b" " * (MAX_BODY_BYTES + 1), "an upload of"),
    ],
)
def test_an_envelope_that_is_none_is_refused_whole(body, reason):
    with pytest.raises(FrameError, match=reason):
        parsed(body)


@given(st.one_of(st.binary(max_size=200), st.text(max_size=100).map(str.encode)))
def test_garbage_raises_only_frame_errors(body):
    for content_type in ("", "application/json", "application/x-www-form-urlencoded"):
        try:
            parsed(body, content_type)
        except FrameError:
            continue


def test_the_reader_gives_the_same_as_the_parser():
    body = json.dumps(envelope(DETAIL), ensure_ascii=False).encode()
    reader = DEVICE.reader()
    for byte in body:
        reader.feed(bytes((byte,)))
    assert reader.next() is None
    reader.silence()
    raw = reader.next()
    assert raw is not None
    assert dict(raw.pairs)["sample_no"] == "26110201"
