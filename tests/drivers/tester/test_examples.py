"""Every example of the survey (protocols/rapid_testers.md §2 and §5) decodes as it is written there."""

import base64
import datetime as dt
from decimal import Decimal

import pytest

from drivers.errors import FrameError
from drivers.records import Qualifier, ResultKind, ScreenResult
from drivers.tester.binary_record import BinaryReader
from drivers.tester.checks import crc8, xor
from drivers.tester.config import parse
from drivers.tester.dialogue import message
from drivers.tester.numbers import packed_time
from drivers.tester.points import record_of
from drivers.tester.profiles import load
from drivers.tester.times import BEIJING

NOW_MS = 1_793_580_300_000  # 2026-11-02 08:45 Asia/Shanghai
MOMENT = dt.datetime(2026, 11, 2, 8, 30, 12, tzinfo=BEIJING)
DAY = MOMENT.date()
ITEMS = {
    "0": {"name": "有机磷和氨基甲酸酯", "kind": "inhibition"},
    "5": {"name": "毒死蜱", "kind": "quantitative", "unit": "mg/kg"},
    "9": {"name": "克百威", "kind": "qualitative"},
}


def device(**more):
    return parse({"path": "t1", "transport": {"serial": "/dev/null"}} | more, "test")


def told(config, *chunks, silence=True):
    """Records and refusals of what the instrument sends."""
    reader = config.reader()
    found = []

    def take():
        while True:
            try:
                raw = reader.next()
            except FrameError as exc:
                found.append(exc)
                continue
            if raw is None:
                return
            found.append(record_of(raw, config, NOW_MS))

    for chunk in chunks:
        reader.feed(chunk)
        take()
    if silence:
        reader.silence()
        take()
    return found


# ------------------------------------------------------------ 2.1 LZ-4000T

LZ_RECORD = bytes.fromhex(
    "7E 11 14 00 01 00 00 00 11 00 D3 CD C2 F3 B2 CB 1A 0B 02 08 1E 0C B3 0E 62 AA"
)


def lz(**more):
    return device(profile="lz4000t", **more)


def lz_frame(data):
    body = b"\x11" + len(data).to_bytes(2, "little") + data
    return b"\x7e" + body + bytes((crc8(body), 0xAA))


def test_lz4000t_record():
    (got,) = told(lz(), LZ_RECORD, silence=False)
    assert (got.sample_no, got.product_name) == ("17", "油麦菜")
    assert got.tested_at == "2026-11-02T08:30:12+08:00"
    assert (got.value, got.unit, got.result_kind) == (Decimal("37.63"), "%", ResultKind.INHIBITION)
    assert got.method_standard == "GB/T 5009.199-2003"
    assert base64.b64decode(got.raw) == LZ_RECORD
    assert got.quality_flags == ()


@pytest.mark.parametrize(
    ("step", "frame"),
    [
        ("hello", "7E 00 02 00 00 00 07 AA"),
        ("count", "7E 12 03 00 1A 0B 02 6D AA"),
        ("read", "7E 10 03 00 1A 0B 02 C3 AA"),
    ],
)
def test_lz4000t_requests(step, frame):
    (table,) = [one for one in load("lz4000t").steps if one.name == step]
    assert message(table, (DAY, DAY)) == bytes.fromhex(frame)


def test_lz4000t_a_doubled_start_byte_is_nothing():
    (got,) = told(lz(), b"\x7e" + LZ_RECORD)
    assert got.sample_no == "17"


def test_lz4000t_start_and_end_bytes_inside_of_a_frame():
    data = bytearray(LZ_RECORD[4:-2])
    data[4:6] = b"\x7e\xaa"  # the sample number
    data[18:20] = b"\xaa\x7e"
    (got,) = told(lz(), lz_frame(bytes(data)))
    assert got.sample_no == str(0xAA7E)
    assert got.value == Decimal("324.26")
    assert got.quality_flags == ("out_of_range",)


def test_lz4000t_a_value_slightly_below_zero_is_signed():
    data = LZ_RECORD[4:22] + (0x10000 - 512).to_bytes(2, "little")
    (got,) = told(lz(), lz_frame(data))
    assert (got.value, got.quality_flags) == (Decimal("-5.12"), ())


def test_lz4000t_a_name_cut_inside_a_character_is_kept_and_flagged():
    data = bytearray(LZ_RECORD[4:-2])
    data[6:12] = b"x" + "油麦菜".encode("gbk")[:5]
    (got,) = told(lz(), lz_frame(bytes(data)))
    assert got.product_name == "x油麦�"
    assert got.quality_flags == ("text_damaged",)


def test_lz4000t_a_name_padded_with_nul():
    data = bytearray(LZ_RECORD[4:-2])
    data[6:12] = "韭菜".encode("gbk") + b"\0\0"
    (got,) = told(lz(), lz_frame(bytes(data)))
    assert got.product_name == "韭菜"


@pytest.mark.parametrize(
    ("clock", "tested_at", "flags"),
    [
        ((11, 1, 1, 0, 0, 0), "2011-01-01T00:00:00+08:00", ("clock_suspect",)),
        ((26, 11, 1, 0, 0, 0), "2026-11-01T00:00:00+08:00", ("clock_suspect",)),
        ((98, 11, 2, 8, 30, 12), "2098-11-02T08:30:12+08:00", ("clock_suspect",)),
        ((26, 11, 3, 8, 30, 12), "2026-11-03T08:30:12+08:00", ("clock_suspect",)),
        ((26, 13, 1, 8, 30, 12), "2026-11-02T08:45:00+08:00", ("time_missing",)),
        ((255, 255, 255, 255, 255, 255), "2026-11-02T08:45:00+08:00", ("time_missing",)),
        ((26, 11, 2, 8, 30, 12), "2026-11-02T08:30:12+08:00", ()),
    ],
)
def test_lz4000t_a_clock_that_cannot_be_right_is_flagged_never_corrected(clock, tested_at, flags):
    data = bytearray(LZ_RECORD[4:-2])
    data[12:18] = bytes(clock)
    (got,) = told(lz(), lz_frame(bytes(data)))
    assert (got.tested_at, got.quality_flags) == (tested_at, flags)


def test_lz4000t_a_day_read_again_gives_the_same_keys_on_any_day():
    config = lz(station="hl-001")
    again = lz_frame(
        b"\x09\x00" + LZ_RECORD[6:-2]
    )  # more records that day: another frame, the same test
    raws = []
    for data in (LZ_RECORD, again):
        reader = config.reader()
        reader.feed(data)
        raws.append(reader.next())
    first = record_of(raws[0], config, NOW_MS)
    # the instrument's clock ran ten minutes ahead as it was read first
    ahead = record_of(raws[0], config, NOW_MS - 1_500_000)
    later = record_of(raws[1], config, NOW_MS + 86_400_000)
    assert ahead.quality_flags == ("clock_suspect",)
    assert first.dedup_key == later.dedup_key == ahead.dedup_key
    assert first.record_id == later.record_id == ahead.record_id
    assert first.dedup_key.startswith("hl-001/t1|17|")


def test_a_wrong_check_value_is_refused_with_its_bytes_and_the_next_frame_is_good():
    bad = LZ_RECORD[:-3] + b"\x00" + LZ_RECORD[-2:]
    refused, got = told(lz(), bad + LZ_RECORD)
    assert str(refused) == "record: wrong crc8"
    assert refused.raw == bad
    assert got.sample_no == "17"


def test_a_frame_cut_short_is_refused_and_a_good_one_inside_is_found():
    refused, got = told(lz(), LZ_RECORD[:9] + LZ_RECORD)
    assert refused.raw == LZ_RECORD[:9]
    assert got.sample_no == "17"


# ------------------------------------------------------------ 2.2 TL-310


def tl_frame(channel=3, standard=0, inhibition=376, verdict=2, absorbance=5702):
    data = (
        b"\xff"
        + (12).to_bytes(2, "little")
        + (4).to_bytes(2, "little")
        + bytes((channel, standard, 26, 11, 2, 8, 30, 12))
        + b"\0\0"
        + absorbance.to_bytes(2, "little")
        + (inhibition & 0xFFFF).to_bytes(2, "little")
        + bytes((verdict, 0))
    )
    body = b"\x16" + len(data).to_bytes(2, "little") + data
    frame = b"\x7e" + body + bytes((crc8(body), 0xAA))
    assert len(frame) == 27
    return frame


def test_tl310_hello_both_ways():
    (hello, read) = load("tl310").steps
    assert message(hello, (DAY, DAY)) == bytes.fromhex("7E 01 01 00 FF 71 AA")
    assert message(read, (DAY, DAY))[-2] == 0x4D
    reader = device(profile="tl310").reader()
    answer = bytes.fromhex("7E 02 04 00 FF 02 10 10 F8 AA")
    reader.feed(answer)
    assert (reader.next(), reader.next_reply()) == (None, answer)


def test_tl310_record():
    (got,) = told(device(profile="tl310"), tl_frame())
    assert (got.channel, got.sample_no, got.value) == ("3", "", Decimal("37.6"))
    assert (got.method_standard, got.device_verdict) == ("GB/T 5009.199-2003", "合格")
    assert got.tested_at == "2026-11-02T08:30:12+08:00"
    assert got.absorbance is None  # its scale is not public
    (got,) = told(device(profile="tl310"), tl_frame(standard=1, verdict=1, inhibition=712))
    assert (got.method_standard, got.screen_result) == ("NY/T 448-2001", ScreenResult.POSITIVE)


def test_tl310_a_negative_value_keeps_its_sign():
    (got,) = told(device(profile="tl310"), tl_frame(inhibition=-53))
    assert got.value == Decimal("-5.3")


def test_tl310_not_available_is_no_number():
    (got,) = told(device(profile="tl310"), tl_frame(inhibition=0x7FFE))
    assert (got.value, got.value_text) == (None, "NA")


def test_tl310_channels_of_one_moment_are_records_of_their_own():
    one, other, again = told(device(profile="tl310"), tl_frame(3), tl_frame(4), tl_frame(3))
    assert one.record_id != other.record_id
    assert one.record_id == again.record_id


# ------------------------------------------------------------ 2.3 DY-3000


def dy_frame(command, data, param=0):
    head = (
        bytes((3, 0xFE, command, 0)) + param.to_bytes(4, "little") + len(data).to_bytes(2, "little")
    )
    return head + bytes((xor(head), xor(data))) + data


def dy_record(item, groups):
    head = bytes((1, item, 0, 0)) + packed_time(MOMENT)
    return dy_frame(0x45, head + b"".join(groups))


def dy(**more):
    return device(profile="dy3000", items=ITEMS, **more)


@pytest.mark.parametrize(
    ("step", "index", "frame"),
    [
        ("hello", 0, "03 FF 20 00 00 00 00 00 08 00 D4 18 44 45 56 49 43 45 3F 3F"),
        (
            "photometer range",
            0,
            "03 FF 43 00 00 00 00 00 08 00 B7 00 00 00 62 35 FF FF 62 35",
        ),
        ("photometer record", 7, "03 FF 45 00 07 00 00 00 00 00 BE 00"),
    ],
)
def test_dy3000_requests(step, index, frame):
    (table,) = [one for one in load("dy3000").steps if one.name == step]
    assert message(table, (DAY, DAY), index) == bytes.fromhex(frame)


def test_dy3000_photometer_record_per_channel():
    groups = [
        bytes((0, 128, 0, 0)) + (500).to_bytes(4, "little"),  # the control
        bytes((1, 128, 0, 0)) + (376).to_bytes(2, "little") + b"\0\0",
        bytes((2, 192, 0, 0)) + (632).to_bytes(2, "little") + b"\0\0",
        bytes((3, 128, 0, 0)) + b"\xff\x7f\0\0",
        bytes((4, 128, 0, 0)) + b"\xfe\x7f\0\0",
        bytes((5, 12, 0, 0)) + (376).to_bytes(2, "little") + b"\0\0",  # no valid state
        bytes((6, 128, 0, 0)) + (-53 & 0xFFFF).to_bytes(2, "little") + b"\0\0",
    ]
    got = told(dy(), dy_record(0, groups))
    assert [(r.channel, r.value) for r in got] == [
        ("1", Decimal("37.6")),
        ("2", Decimal("63.2")),
        ("3", None),
        ("4", None),
        ("6", Decimal("-5.3")),
    ]
    assert {r.parameter for r in got} == {"op_carbamate_inhibition"}
    assert {r.tested_at for r in got} == {"2026-11-02T08:30:12+08:00"}
    assert [r.screen_result for r in got] == [
        None,
        ScreenResult.DOUBTFUL,
        ScreenResult.INVALID,
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("stored", "value", "screen"),
    [
        ("7B 00 00 00", Decimal("0.123"), None),
        ("FF FF FF 7F", None, ScreenResult.INVALID),
        ("FE FF FF 7F", None, ScreenResult.INVALID),
        ("FF 7F 00 00", None, ScreenResult.INVALID),
        ("2C 42 0F 00", None, ScreenResult.INVALID),
        ("FD FF FF 7F", None, None),
        ("FE 7F 00 00", None, None),
    ],
)
def test_dy3000_quantitative_values_and_their_sentinels(stored, value, screen):
    (got,) = told(dy(), dy_record(5, [bytes((1, 128, 0, 0)) + bytes.fromhex(stored)]))
    assert (got.parameter, got.value, got.screen_result) == ("chlorpyrifos", value, screen)
    assert got.unit == ("mg/kg" if value else "")


def test_dy3000_an_item_that_nobody_described_gives_no_number():
    (got,) = told(dy(), dy_record(77, [bytes((1, 128, 0, 0)) + b"\x7b\0\0\0"]))
    assert (got.value, got.parameter) == (None, "item 77")
    assert set(got.quality_flags) >= {"parameter_unknown", "value_unreadable"}


@pytest.mark.parametrize(
    ("state", "word", "screen"),
    [
        (1, "阳性", ScreenResult.POSITIVE),
        (2, "阴性", ScreenResult.NEGATIVE),
        (0x42, "阴性", ScreenResult.NEGATIVE),
    ],
)
def test_dy3000_strip(state, word, screen):
    stamp = packed_time(MOMENT)
    (got,) = told(
        dy(), dy_frame(0x65, bytes((1, 9)) + stamp + b"\x1f\x00" + bytes((state,)) + bytes(4))
    )
    assert (got.sample_no, got.parameter) == ("31", "carbofuran")
    assert (got.device_verdict, got.screen_result) == (word, screen)


def test_dy3000_a_strip_result_that_is_not_available_or_not_public():
    stamp = packed_time(MOMENT)
    frames = [
        dy_frame(0x65, bytes((1, 9)) + stamp + b"\x1f\x00" + bytes((s,)) + bytes(4))
        for s in (3, 0x81)
    ]
    missing, unreadable = told(dy(), *frames)
    assert missing.quality_flags == ("result_missing",)
    assert "value_unreadable" in unreadable.quality_flags
    assert (missing.value, unreadable.value) == (None, None)


def test_dy3000_records_that_are_not_valid_are_answers_only():
    reader = dy().reader()
    empty = dy_frame(0x45, bytes(20))
    reader.feed(empty)
    assert (reader.next(), reader.next_reply()) == (None, empty)


# ------------------------------------------------------------ 2.4 TY-16, DY-723PC, DY-6260

TY_BODY = (
    bytes((12, 30, 8, 2, 11, 0, 26, 0b10100000, 5))
    + bytes.fromhex("3F18928B 420B32FB")
    + bytes(8)
    + bytes.fromhex("3F800000 C0A00000")
    + bytes(40)
)


def test_ty16_group():
    one, third = told(device(profile="ty16"), b"\x1b\xcf", b"\x1b\xc1" + TY_BODY)
    assert (one.channel, third.channel) == ("1", "3")
    assert round(one.absorbance, 6) == Decimal("0.595986")
    assert round(one.value, 4) == Decimal("34.7998")
    assert (third.absorbance, third.value) == (Decimal(1), Decimal(-5))
    assert one.tested_at == "2026-11-02T08:30:12+08:00"


def test_ty16_further_groups_have_no_head():
    assert len(TY_BODY) == 73
    got = told(device(profile="ty16"), b"\x1b\xc1" + TY_BODY + TY_BODY, TY_BODY, b"\x1b\xfe")
    assert len(got) == 6


def test_ty16_without_a_check_noise_is_never_a_record():
    assert all(isinstance(one, FrameError) for one in told(device(profile="ty16"), bytes(500)))
    assert all(isinstance(one, FrameError) for one in told(device(profile="ty16"), TY_BODY * 3))


def test_ty16_what_is_no_number_has_no_value():
    body = TY_BODY[:13] + bytes.fromhex("7FC00000") + TY_BODY[17:]
    one, _ = told(device(profile="ty16"), b"\x1b\xc1" + body)
    assert (one.value, one.quality_flags) == (None, ("result_missing",))


DY723 = (
    "R,0017,3,有机磷和氨基甲酸酯,0.5702,37.6,%,合格,2026-11-02 08:30:12,5A\r\n"
    "R,0018,4,有机磷和氨基甲酸酯,0.3111,NA,%,无效,2026-11-02 08:30:12,5C\r\n"
    "FINISH\r\n"
)


@pytest.mark.parametrize("charset", ["gbk", "utf-8"])
def test_example_1_delimited(charset):
    config = device(profile="dy723pc", charset="auto")
    first, second = told(config, DY723.encode(charset))
    assert (first.sample_no, first.channel, first.parameter) == (
        "0017",
        "3",
        "op_carbamate_inhibition",
    )
    assert (first.absorbance, first.value, first.unit) == (Decimal("0.5702"), Decimal("37.6"), "%")
    assert (first.device_verdict, first.tested_at) == ("合格", "2026-11-02T08:30:12+08:00")
    assert b",5A" in base64.b64decode(first.raw)
    assert (second.value, second.value_text) == (None, "NA")
    assert second.screen_result is ScreenResult.INVALID


def test_example_1_the_end_word_ends_the_asking():
    reader = device(profile="dy723pc").reader()
    reader.feed(DY723.encode("gbk"))
    replies = []
    while (reply := reader.next_reply()) is not None:
        replies.append(reply)
    assert replies[-1] == b"FINISH"


KEY_VALUE = """样品编号：NS20261102-001
样品名称：韭菜
检测项目：农药残留(酶抑制率)
抑 制 率：63.2 %
检测结果：不合格
检测时间：2026-11-02 08:41
检 测 人：张*
被检单位：某某合作社

"""


@pytest.mark.parametrize("charset", ["gbk", "utf-8"])
def test_example_2_key_value(charset):
    (got,) = told(device(reader="key_value"), KEY_VALUE.encode(charset) + b"\x1d\x56\x00")
    assert (got.sample_no, got.product_name, got.value) == (
        "NS20261102-001",
        "韭菜",
        Decimal("63.2"),
    )
    assert (got.device_verdict, got.tester) == ("不合格", "张*")
    assert got.tested_subject_name == "某某合作社"
    assert got.tested_at == "2026-11-02T08:41:00+08:00"


FIXED = """通道  样品      抑制率  结果
01    油麦菜      37.6  阴性
02    韭菜        63.2  阳性
03    空白        --.-  ----
"""
COLUMNS = [
    {"name": "channel", "at": 0, "width": 6},
    {"name": "product_name", "at": 6, "width": 10},
    {"name": "inhibition", "at": 16, "width": 8},
    {"name": "verdict", "at": 24, "width": 8},
]


@pytest.mark.parametrize("charset", ["gbk", "utf-8"])
@pytest.mark.parametrize(
    "options",
    [
        {"columns": COLUMNS},
        {
            "pattern": r"^(?P<channel>\d\d)\s+(?P<product_name>\S+)\s+(?P<inhibition>[-\d.]+)\s+(?P<verdict>\S+)$"
        },
    ],
)
def test_example_3_fixed_width(charset, options):
    config = device(reader="fixed_width", fixed_width=options)
    ticket = "检测时间：2026-11-02 08:30\n" + FIXED
    first, second, blank = told(config, b"\x1b@" + ticket.encode(charset) + b"\n\x1dV\x00")
    assert (first.channel, first.product_name, first.value) == ("01", "油麦菜", Decimal("37.6"))
    assert (first.screen_result, second.screen_result) == (
        ScreenResult.NEGATIVE,
        ScreenResult.POSITIVE,
    )
    assert (second.product_name, second.value) == ("韭菜", Decimal("63.2"))
    assert (blank.product_name, blank.value, blank.device_verdict) == ("空白", None, "")
    assert blank.quality_flags == ("result_missing",)
    assert {r.tested_at for r in (first, second, blank)} == {"2026-11-02T08:30:00+08:00"}


JSON = (
    '{"detail":[{"检测结果":"阳性","检测项目":"克百威","样品编号":"31","样品名称":"豇豆"'
    ',"检测时间":"2026-11-03 09:10:44"}]}'
)


@pytest.mark.parametrize("charset", ["gbk", "utf-8"])
def test_example_4_json(charset):
    config = device(profile="dy6260", charset="auto")
    data = JSON.encode(charset)
    (got,) = told(config, data[:50], data[50:], silence=False)
    assert (got.sample_no, got.product_name, got.parameter) == ("31", "豇豆", "carbofuran")
    assert (got.screen_result, got.tested_at) == (
        ScreenResult.POSITIVE,
        "2026-11-03T09:10:44+08:00",
    )
    assert "豇豆".encode(charset) in base64.b64decode(got.raw)


# ------------------------------------------------------------ §5, traps


@pytest.mark.parametrize(
    ("printed", "number", "unit", "qualifier"),
    [
        ("63.2%", "63.2", "%", Qualifier.EQ),
        ("６３．２％", "63.2", "%", Qualifier.EQ),
        ("<0.05mg/kg", "0.05", "mg/kg", Qualifier.LT),
        ("＜０．０５ｍｇ／ｋｇ", "0.05", "mg/kg", Qualifier.LT),
    ],
)
def test_a_value_with_its_unit_inside(printed, number, unit, qualifier):
    config = device(reader="delimited", delimited={"columns": ["sample_no", "value", "tested_at"]})
    (got,) = told(config, f"1,{printed},2026-11-02 08:30\n".encode("gbk"))
    assert (got.value, got.unit, got.qualifier) == (Decimal(number), unit, qualifier)


@pytest.mark.parametrize("word", ["---.-", "-.---", "NA", "无效"])
def test_sentinels_are_no_numbers(word):
    config = device(reader="delimited", delimited={"columns": ["sample_no", "value"]})
    (got,) = told(config, f"1,{word}\n".encode("gbk"))
    assert (got.value, got.value_text) == (None, word)


def test_readers_are_those_of_the_profiles():
    assert isinstance(lz().reader(), BinaryReader)
