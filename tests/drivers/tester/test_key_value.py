import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from drivers.errors import FrameError
from drivers.slip.config import parse
from drivers.tester.key_value import KeyValueReader, KeyValueTable
from drivers.tester.points import record_of
from drivers.tester.printer import MAX_LINE_BYTES, MAX_SLIP_BYTES, BlockEnd

# protocols/rapid_testers.md §5, example 2 (constructed)
EXAMPLE = """样品编号：NS20261102-001
样品名称：韭菜
检测项目：农药残留(酶抑制率)
抑 制 率：63.2 %
检测结果：不合格
检测时间：2026-11-02 08:41
检 测 人：张*
被检单位：某某合作社
"""
CUT = b"\x1dV\x00"
PAIRS = (
    ("样品编号", "NS20261102-001"),
    ("样品名称", "韭菜"),
    ("检测项目", "农药残留(酶抑制率)"),
    ("抑制率", "63.2 %"),
    ("检测结果", "不合格"),
    ("检测时间", "2026-11-02 08:41"),
    ("检测人", "张*"),
    ("被检单位", "某某合作社"),
)


def reader(**options):
    charset = options.pop("charset", "auto")
    return KeyValueReader(KeyValueTable(**options), charset=charset)


def taken(slips):
    """Everything ``slips`` has: slips, and the text of what it refused."""
    found = []
    while True:
        try:
            slip = slips.next()
        except FrameError as exc:
            found.append(str(exc))
            continue
        if slip is None:
            return found
        found.append(slip)


def read(*chunks, **options):
    slips = reader(**options)
    for chunk in chunks:
        slips.feed(chunk)
    return taken(slips)


@pytest.mark.parametrize("charset", ["gbk", "utf-8"])
@pytest.mark.parametrize(
    "end", [b"\n" + CUT, b"\n", CUT, b"\x0c", b"\r\n\r\n", b"\x1bi", b"\x1dVB\x30"]
)
def test_the_example_in_either_charset_and_with_any_end(charset, end):
    (slip,) = read(EXAMPLE.encode(charset) + end)
    assert slip.pairs == PAIRS
    assert slip.raw.startswith(EXAMPLE.encode(charset)[:-1])
    assert not slip.damaged


@pytest.mark.parametrize("newline", ["\r", "\n", "\r\n", "\n\r"])
def test_every_newline(newline):
    text = (EXAMPLE + "\n").replace("\n", newline)
    assert [s.pairs for s in read((text * 2).encode("gbk"))] == [PAIRS, PAIRS]


def test_the_charset_is_judged_by_the_whole_slip():
    text = "样品编号：1\n样品名称：联通\n\n"  # the GBK bytes of 联通 are valid utf-8
    (slip,) = read(text.encode("gbk"))
    assert slip.pairs[1] == ("样品名称", "联通")


def test_bytes_that_are_no_text_are_marked_and_kept():
    (slip,) = read("样品编号：1\n样品名称：".encode("gbk") + b"\xff\xff\n\n")
    assert slip.damaged
    assert slip.pairs[0] == ("样品编号", "1")
    assert b"\xff\xff" in slip.raw


def test_printer_commands_bitmaps_and_status_are_stripped():
    bitmap = b"\x1dv0\x00\x02\x00\x03\x00" + "检测结果：阴性".encode("gbk")[:6]
    columns = b"\x1b*\x21\x02\x00" + b"\n\n\n\n\n\n"
    barcode = b"\x1dk\x04NS001\x00" + b"\x1dkI\x05{B123"
    lines = [line.encode("gbk") for line in EXAMPLE.splitlines()]
    dressed = (
        b"\x1b@\x1b!\x10\x1ba\x01\x1c&"
        + bitmap
        + lines[0]
        + b"\x1b!\x00\n\x10\x04\x01\x16\x12"
        + columns
        + barcode
        + b"\n".join(lines[1:])
        + b"\x1bd\x01\x1dVA\x10"
    )
    (slip,) = read(dressed)
    assert slip.pairs == PAIRS


def test_a_line_of_commands_alone_is_blank():
    assert len(read("样品编号：1\n".encode() + b"\x1bE\x00\n")) == 1


def test_full_width_labels_blanks_and_signs():
    (slip,) = read("样品编号： １\n抑　制　率（％）＝６３．２\n\n".encode("gbk"))
    assert slip.pairs == (("样品编号", "１"), ("抑制率(%)", "６３．２"))


def test_two_slips_glued():
    assert [s.pairs for s in read((EXAMPLE * 2 + "\n").encode("gbk"))] == [PAIRS, PAIRS]
    first, second = read((EXAMPLE * 2 + "\n").encode("gbk"))
    assert first.raw == EXAMPLE.encode("gbk")
    assert second.raw == (EXAMPLE + "\n").encode("gbk")


def test_a_slip_cut_short_stands_for_itself():
    text = EXAMPLE.encode("gbk")
    cut_short, whole = read(text[: text.index("检测项目".encode("gbk"))] + text + b"\n")
    assert cut_short.pairs == PAIRS[:2]
    assert whole.pairs == PAIRS


def test_a_header_above_the_start_label_belongs_to_the_slip():
    (slip,) = read(("某县检测站\n检测单位：某站\n" + EXAMPLE + "\n").encode("gbk"))
    assert slip.pairs == (("检测单位", "某站"), *PAIRS)


def test_titles_alone_are_no_slips():
    assert read("某县检测站\n--------\n\n".encode("gbk"), CUT, b"\n\n\n") == []


def test_silence_ends_a_slip():
    slips = reader()
    slips.feed(EXAMPLE.encode("gbk")[:-1])
    assert taken(slips) == []
    assert slips.is_open
    slips.silence()
    assert [s.pairs for s in taken(slips)] == [PAIRS]
    assert not slips.is_open


def test_silence_heals_a_command_that_noise_made():
    slips = reader()
    slips.feed(b"\x1dv0\x00\xff\x00\xff\x00")  # a bitmap that never comes
    assert slips.is_open
    slips.silence()
    slips.feed((EXAMPLE + "\n").encode("gbk"))
    assert [s.pairs for s in taken(slips)] == [PAIRS]


def test_only_the_chosen_ends_end_a_slip():
    text = EXAMPLE.replace("检测项目", "\n检测项目").encode("gbk")
    (slip,) = read(text + CUT, block_end=[BlockEnd.CUT])
    assert slip.pairs == PAIRS
    (slip,) = read(EXAMPLE.encode("gbk"), block_end=[], end_label="被 检 单 位")
    assert slip.pairs == PAIRS


@pytest.mark.parametrize(
    ("noise", "reason"),
    [
        (b"x" * (MAX_LINE_BYTES + 1), "a line of more than"),
        (b"a:b\n" * (MAX_SLIP_BYTES // 4 + 1), "a slip of more than"),
        (b"a:b\n\x1dv0\x00\xff\xff\xff\xff", "a bitmap of"),
    ],
)
def test_what_breaks_a_cap_is_refused_once_and_the_next_slip_is_good(noise, reason):
    refused, slip = read(noise + b" tail\n" + EXAMPLE.encode("gbk") + CUT)
    assert reason in refused
    assert slip.pairs == PAIRS
    assert slip.raw.startswith("样品编号".encode("gbk"))
    refused, slip = read(noise + b" tail\n\n" + EXAMPLE.encode("gbk") + CUT, start_label="")
    assert slip.pairs == PAIRS


def test_printer_status_alone_never_grows():
    slips = reader()
    for _ in range(100):
        slips.feed(b"\x16\x12\x00" * 1000)
    assert taken(slips) == []
    assert not slips.is_open


TOKENS = st.lists(
    st.one_of(
        st.sampled_from(
            [
                EXAMPLE.encode("gbk"),
                EXAMPLE.encode(),
                EXAMPLE.encode("gbk")[:50],
                "样品编号：7\n".encode("gbk"),
                "抑 制 率：63.2 %".encode("gbk"),
                CUT,
                b"\x1dVB\x10",
                b"\x1b@",
                b"\x1b",
                b"\x1d",
                b"\x1bd\x02",
                b"\x1b*\x00\x05\x00",
                b"\x1dv0\x00\x02\x00\x02\x00",
                b"\x1dk\x04123\x00",
                b"\x1bD\x08\x10\x00",
                b"\x10\x04\x01",
                b"\x0c",
                b"\r",
                b"\n",
                b"\n\n",
                b"x" * 600,
                b"k:v\n" * 2100,
            ]
        ),
        st.binary(max_size=20),
    ),
    max_size=8,
)


@given(TOKENS, st.data())
@example([EXAMPLE.encode("gbk"), b"\x1dV\x42", b"\x30", b"\n"], None)
def test_any_split_gives_the_same(tokens, data):
    stream = b"".join(tokens)
    whole = reader()
    whole.feed(stream)
    split = reader()
    if data is None:
        cuts = list(range(len(stream) + 1))
    else:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        split.feed(stream[start:end])
    assert taken(whole) == taken(split)
    whole.silence()
    split.silence()
    assert taken(whole) == taken(split)


def test_byte_by_byte_gives_the_same():
    stream = b"\x1b@" + EXAMPLE.encode("gbk") + b"\r\n\x1dVB\x30" + EXAMPLE.encode("gbk") + CUT
    assert read(*(stream[i : i + 1] for i in range(len(stream)))) == read(stream)


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_garbage_raises_only_frame_errors(chunks):
    slips = reader()
    for chunk in chunks:
        slips.feed(chunk)
        taken(slips)
    slips.silence()
    taken(slips)
    assert not slips.is_open
    slips.feed((EXAMPLE + "\n").encode("gbk"))
    assert [s.pairs for s in taken(slips)] == [PAIRS]


def test_a_slip_cut_in_two_by_silence_is_never_joined_by_guess():
    device = parse({"path": "t1", "serial": "/dev/null"}, "test")
    slips = device.reader()
    text = EXAMPLE.encode("gbk")
    cut = text.index("检测项目".encode("gbk"))
    for part in (text[:cut], text[cut:]):
        slips.feed(part)
        slips.silence()
    first, rest = (record_of(slips.next(), device, 1_793_580_300_000) for _ in range(2))
    assert (first.sample_no, first.value) == ("NS20261102-001", None)
    assert first.quality_flags == ("result_missing", "time_missing")
    assert (rest.sample_no, rest.quality_flags) == ("", ("sample_missing",))
