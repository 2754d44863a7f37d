import base64
import uuid
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.errors import FrameError
from drivers.records import Purpose, Qualifier, ResultKind, SamplingStage, ScreenResult, Source
from drivers.slip.config import parse
from drivers.tester.points import MAX_KEY_CHARS, RECORD_NAMESPACE, read_value, record_of
from drivers.tester.reader import RawRecord
from drivers.tester.text import split_line
from drivers.tester.times import read_time
from drivers.tester.words import FIELDS, built_in

NOW_MS = 1_793_580_300_000  # 2026-11-02 08:45 Asia/Shanghai
INHIBITION = {
    "样品编号": "NS20261102-001",
    "样品名称": "韭菜",
    "检测项目": "农药残留(酶抑制率)",
    "抑 制 率": "63.2 %",
    "检测结果": "不合格",
    "检测时间": "2026-11-02 08:41",
    "检 测 人": "张*",
    "被检单位": "某某合作社",
}
STRIP = {
    "样品编号": "31",
    "样品名称": "猪肉",
    "检测项目": "克伦特罗",
    "检测结果": "阳性",
    "检测时间": "2026-11-02 08:10:44",
}


def device(**more):
    return parse({"path": "tester1", "serial": "/dev/null"} | more, "test")


def slip(fields, *, raw=b"raw", damaged=False):
    lines = [f"{label}：{value}" for label, value in fields.items()]
    pairs = tuple(split_line(line) for line in lines)
    return RawRecord(pairs, raw, "\n".join(lines), damaged)


def record(fields, now_ms=NOW_MS, **more):
    return record_of(slip(fields), device(**more), now_ms)


def test_the_inhibition_slip():
    got = record(INHIBITION, station="hl-001", serial_no="TT-1", device_model="TT-24")
    assert got.device_id == "tester1"
    assert (got.sample_no, got.product_name, got.tester) == ("NS20261102-001", "韭菜", "张*")
    assert got.parameter == "op_carbamate_inhibition"
    assert got.result_kind is ResultKind.INHIBITION
    assert (got.value, got.unit, got.value_text) == (Decimal("63.2"), "%", "63.2 %")
    assert got.qualifier is Qualifier.EQ
    assert (got.screen_result, got.device_verdict) == (ScreenResult.POSITIVE, "不合格")
    assert got.tested_at == "2026-11-02T08:41:00+08:00"
    assert got.tested_subject_name == "某某合作社"
    assert (got.serial_no, got.device_model, got.source) == ("TT-1", "TT-24", Source.DEVICE)
    assert got.quality_flags == ()
    assert base64.b64decode(got.raw) == b"raw"
    assert got.dedup_key == (
        "hl-001/tester1|NS20261102-001|op_carbamate_inhibition|2026-11-02T08:41:00+08:00"
    )
    assert got.record_id == str(uuid.uuid5(RECORD_NAMESPACE, got.dedup_key))


def test_the_strip_slip():
    got = record(STRIP)
    assert got.parameter == "clenbuterol"
    assert got.result_kind is ResultKind.QUALITATIVE
    assert (got.value, got.unit, got.screen_result) == (None, "", ScreenResult.POSITIVE)
    assert got.tested_at == "2026-11-02T08:10:44+08:00"
    assert got.quality_flags == ()


def test_defaults_fill_what_the_slip_lacks_and_never_what_it_says():
    defaults = {
        "parameter": "clenbuterol",
        "method": "colloidal_gold",
        "method_standard": "KJ 201706",
        "purpose": "routine",
        "sampling_stage": "slaughter",
        "subject_id": "s-1",
        "tested_subject_name": "某屠宰场",
        "lod": "0.5",
        "product_name": "牛肉",
    }
    without = {k: v for k, v in STRIP.items() if k not in ("检测项目", "样品名称")}
    got = record(without, defaults=defaults)
    assert (got.parameter, got.product_name, got.method) == (
        "clenbuterol",
        "牛肉",
        "colloidal_gold",
    )
    assert (got.purpose, got.sampling_stage) == (Purpose.ROUTINE, SamplingStage.SLAUGHTER)
    assert (got.subject_id, got.tested_subject_name, got.lod) == ("s-1", "某屠宰场", Decimal("0.5"))
    said = record(INHIBITION, defaults=defaults)
    assert (said.parameter, said.product_name) == ("op_carbamate_inhibition", "韭菜")
    assert said.tested_subject_name == "某某合作社"


@pytest.mark.parametrize(
    ("text", "number", "unit", "qualifier"),
    [
        ("63.2 %", "63.2", "%", "eq"),
        ("６３．２％", "63.2", "%", "eq"),
        ("-5.3%", "-5.3", "%", "eq"),
        ("−5.3", "-5.3", "", "eq"),
        ("<0.05mg/kg", "0.05", "mg/kg", "lt"),
        ("＜ 0.05 mg/kg", "0.05", "mg/kg", "lt"),
        ("小于0.05", "0.05", "", "lt"),
        (">100 μg/kg", "100", "μg/kg", "gt"),
        ("1.2E-3", "1.2E-3", "", "eq"),
        ("0.10", "0.10", "", "eq"),
        ("未检出", None, "", "not_detected"),
        ("ND", None, "", "not_detected"),
        ("---.-", None, "", None),
        ("-.---", None, "", None),
        ("NA", None, "", None),
        ("无效", None, "", None),
        ("", None, "", None),
    ],
)
def test_printed_values(text, number, unit, qualifier):
    value = read_value(text, built_in())
    assert value.readable
    assert value.number == (None if number is None else Decimal(number))
    assert number is None or str(value.number) == str(Decimal(number))  # no digit lost
    assert value.unit == unit
    assert value.qualifier == qualifier


@pytest.mark.parametrize(
    "text",
    [
        *("约63", "63.2.1", "abc", "6 3 . 2 . .", "٣", "三", "0x12", "2:1", "12 345"),
        *(
            "1,234.5",
            "37,6",
            "12-15",
            "1/2",
            "½",
            "10²",
            "①②",
            "1.2×10-3",
            "1.2*10^-3",
            "3?.2",
            "63.2�",
        ),
    ],
)
def test_text_in_the_place_of_a_value_is_no_number(text):
    value = read_value(text, built_in())
    assert (value.number, value.readable) == (None, False)


def test_an_inhibition_that_cannot_be_read_is_no_qualitative_pass():
    printed = {label: text for label, text in INHIBITION.items() if not label.startswith("抑")}
    got = record(printed | {"检测值": "3?.2", "检测结果": "合格"})
    assert (got.result_kind, got.value, got.value_text) == (ResultKind.INHIBITION, None, "3?.2")
    assert "value_unreadable" in got.quality_flags


@given(st.text(max_size=60))
def test_no_text_breaks_the_value_or_the_time(text):
    read_value(text, built_in())
    read_time(text, text)


def test_a_sentinel_is_no_number():
    got = record(INHIBITION | {"抑 制 率": "---.-", "检测结果": "无效"})
    assert (got.value, got.unit, got.value_text) == (None, "", "---.-")
    assert (got.result_kind, got.screen_result) == (ResultKind.INHIBITION, ScreenResult.INVALID)
    only = {k: v for k, v in INHIBITION.items() if k != "检测结果"} | {"抑 制 率": "无效"}
    assert record(only).screen_result is ScreenResult.INVALID


def test_a_quantitative_value_keeps_the_word_uninterpreted():
    fields = STRIP | {"检测项目": "毒死蜱", "检测结果": "<0.05mg/kg", "判定": "合格"}
    got = record(fields)
    assert got.result_kind is ResultKind.QUANTITATIVE
    assert (got.value, got.unit, got.qualifier) == (Decimal("0.05"), "mg/kg", Qualifier.LT)
    assert (got.screen_result, got.device_verdict) == (None, "合格")
    assert got.parameter == "chlorpyrifos"


@pytest.mark.parametrize(
    ("word", "screen"),
    [
        ("阴性", "negative"),
        ("阴 性", "negative"),
        ("合格", "negative"),
        ("-", "negative"),
        ("阳性", "positive"),
        ("不合格", "positive"),
        ("超标", "positive"),
        ("检出", "positive"),
        ("＋", "positive"),
        ("±", "doubtful"),
        ("可疑", "doubtful"),
        ("无效", "invalid"),
        ("POS", "positive"),
        ("INV", "invalid"),
    ],
)
def test_verdict_words(word, screen):
    got = record(STRIP | {"检测结果": word})
    assert (got.screen_result, got.device_verdict) == (screen, word)
    assert got.quality_flags == ()


def test_not_detected_is_never_zero():
    got = record(STRIP | {"检测结果": "未检出"})
    assert (got.value, got.qualifier) == (None, Qualifier.NOT_DETECTED)
    assert got.screen_result is ScreenResult.NEGATIVE


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        ({"检测结果": "不太好"}, "verdict_unknown"),
        ({"检测项目": "新农药"}, "parameter_unknown"),
        ({"检测结果": "----"}, "result_missing"),
        ({"检测时间": "2011-01-01 00:00"}, "clock_suspect"),
        ({"检测时间": "2026-11-02 08:51"}, "clock_suspect"),
        ({"检测时间": "2026-13-02 08:51"}, "time_missing"),
        ({"检测时间": ""}, "time_missing"),
        ({"检测值": "0.2 bananas"}, "unit_unknown"),
        ({"检测值": "0.2"}, "unit_unknown"),
        ({"检测值": "很多"}, "value_unreadable"),
        ({"抑制率": "101 %"}, "out_of_range"),
        ({"抑制率": "-20.1 %"}, "out_of_range"),
    ],
)
def test_doubts_are_flagged_and_the_record_is_kept(change, flag):
    assert flag in record(STRIP | change).quality_flags


def test_what_is_flagged_is_kept_as_printed():
    assert record(STRIP | {"检测结果": "不太好"}).device_verdict == "不太好"
    assert record(STRIP | {"检测项目": "新农药"}).parameter == "新农药"
    assert record(STRIP | {"检测值": "0.2 bananas"}).unit == "bananas"
    assert record(STRIP | {"检测时间": "2011-01-01 00:00"}).tested_at == "2011-01-01T00:00:00+08:00"
    assert record(STRIP | {"检测时间": "x"}).tested_at == "2026-11-02T08:45:00+08:00"
    assert record_of(slip(STRIP, damaged=True), device(), NOW_MS).quality_flags == ("text_damaged",)


def test_ordinary_noise_of_the_blank_is_no_fault():
    assert record(INHIBITION | {"抑 制 率": "-12.5 %"}).quality_flags == ()


def test_units_come_from_the_value_the_unit_label_or_the_defaults():
    fields = STRIP | {"检测值": "0.2"}
    assert record(fields | {"单位": "ppb"}).unit == "ug/kg"
    assert record(fields | {"单位": "某某合作社"}, defaults={"unit": "mg/kg"}).unit == "mg/kg"
    assert record(fields | {"检测值": "0.2 μg/kg", "单位": "mg/kg"}).unit == "ug/kg"
    assert record(INHIBITION | {"抑 制 率": "63.2"}).unit == "%"


@pytest.mark.parametrize(
    ("text", "date", "iso"),
    [
        ("2026-11-02 08:41", "", "2026-11-02T08:41:00+08:00"),
        ("2026-11-02 08:41:12", "", "2026-11-02T08:41:12+08:00"),
        ("2026/11/2 8:41", "", "2026-11-02T08:41:00+08:00"),
        ("26.11.02 08:41", "", "2026-11-02T08:41:00+08:00"),
        ("2026年11月02日08时41分12秒", "", "2026-11-02T08:41:12+08:00"),
        ("２０２６－１１－０２　０８：４１", "", "2026-11-02T08:41:00+08:00"),
        ("2026-11-02T08:41:12", "", "2026-11-02T08:41:12+08:00"),
        ("2026-11-02T00:41:12Z", "", "2026-11-02T08:41:12+08:00"),
        ("08:41", "2026-11-02", "2026-11-02T08:41:00+08:00"),
        ("2026-02-30 08:41", "", None),
        ("2026-11-02 24:41", "", None),
        ("2026-11-02", "", None),
        ("08:41", "", None),
        ("", "2026-11-02", None),
    ],
)
def test_printed_times(text, date, iso):
    when = read_time(text, date)
    assert (None if when is None else when.isoformat(timespec="seconds")) == iso


def test_the_same_slip_again_is_the_same_record():
    first = record(INHIBITION)
    later = record_of(slip(INHIBITION, raw=b"\x1b@raw"), device(), NOW_MS + 86_400_000)
    assert (later.dedup_key, later.record_id) == (first.dedup_key, first.record_id)


@pytest.mark.parametrize(
    "change",
    [
        {"样品编号": "NS20261102-002"},
        {"检测时间": "2026-11-02 08:42"},
        {"检测项目": "毒死蜱"},
    ],
)
def test_another_test_is_another_record(change):
    assert record(INHIBITION | change).record_id != record(INHIBITION).record_id


def test_another_station_or_device_is_another_record():
    ids = {
        record(INHIBITION).record_id,
        record(INHIBITION, station="hl-001").record_id,
        record(INHIBITION, station="hl-002").record_id,
        record(INHIBITION, path="tester2").record_id,
    }
    assert len(ids) == 4


@pytest.mark.parametrize(
    "lost", [{"检测时间": "2011-01-01 00:00"}, {"检测时间": ""}, {"样品编号": ""}]
)
def test_by_a_lost_clock_or_number_what_is_printed_tells_tests_apart(lost):
    one, other = INHIBITION | lost, INHIBITION | lost | {"抑 制 率": "12.0 %"}
    assert record(one).record_id != record(other).record_id
    assert record(one).record_id == record(one, now_ms=NOW_MS + 60_000).record_id


def test_a_key_never_outgrows_its_column():
    got = record(INHIBITION | {"样品编号": "9" * 300})
    assert len(got.dedup_key) <= MAX_KEY_CHARS


def test_two_slips_that_ran_together_are_refused():
    both = slip(STRIP)
    both = RawRecord((*both.pairs, ("检测结果", "阴性")), both.raw)
    with pytest.raises(FrameError, match="two slips ran together"):
        record_of(both, device(), NOW_MS)
    again = slip(STRIP)
    again = RawRecord((*again.pairs, ("检测结果", "阳 性")), again.raw)
    assert record_of(again, device(), NOW_MS).screen_result is ScreenResult.POSITIVE


def test_a_block_without_a_test_is_refused():
    with pytest.raises(FrameError, match="not a test"):
        record({"电话": "12345", "检测时间": "2026-11-02 08:41"})


def test_a_slip_cut_short_is_a_record_without_a_result():
    got = record({"样品编号": "31", "样品名称": "猪肉"})
    assert got.quality_flags == ("result_missing", "time_missing")


def test_own_words_of_an_instrument():
    got = record(
        {
            "菜名": "白菜",
            "检测项目": "农残快检",
            "抑制率": "12",
            "检测结果": "通过",
            "样品编号": "1",
        },
        labels={"菜 名": "product_name"},
        verdicts={"通过": "negative"},
        parameters={"农残快检": "op_carbamate_inhibition"},
    )
    assert (got.product_name, got.parameter) == ("白菜", "op_carbamate_inhibition")
    assert (got.screen_result, got.result_kind) == (ScreenResult.NEGATIVE, ResultKind.INHIBITION)


def test_the_words_file_names_only_fields():
    words = built_in()
    assert set(words.labels.values()) <= FIELDS
    assert words.parameters["克仑特罗"].code == "clenbuterol"
    assert not set(words.sentinels) & (set(words.verdicts) - {"无效"})
