"""What every reader owes: any split gives the same, no input raises anything but FrameError, memory is bounded."""

import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.errors import FrameError
from drivers.tester.config import parse
from drivers.tester.points import record_of
from drivers.tester.profiles import names
from drivers.tester.reader import MAX_RAW_BYTES

NOW_MS = 1_793_580_300_000
SLIP = """样品编号：NS20261102-001
样品名称：韭菜
检测项目：农药残留(酶抑制率)
抑 制 率：63.2 %
检测结果：不合格
检测时间：2026-11-02 08:41

"""
TICKET = """检测时间：2026-11-02 08:30
通道  样品      抑制率  结果
01    油麦菜      37.6  阴性
02    韭菜        63.2  阳性
"""
CSV = '样品编号;样品名称;检测结果;检测时间\n17;"韭菜";POS;2026-11-02 08:30\n18;葱;NEG;2026-11-02 08:31\n'
LINES = (
    "R,0017,3,有机磷和氨基甲酸酯,0.5702,37.6,%,合格,2026-11-02 08:30:12,5A\r\n"
    "R,0018,4,有机磷和氨基甲酸酯,0.3111,NA,%,无效,2026-11-02 08:30:12,5C\r\nFINISH\r\n"
)
JSON = (
    '{"detail":[{"检测结果":"阳性","检测项目":"克百威","样品编号":"31","样品名称":"豇\\'
    '"豆{","检测时间":"2026-11-03 09:10:44"}]}'
)
LZ = bytes.fromhex("7E 11 14 00 01 00 00 00 11 00 D3 CD C2 F3 B2 CB 1A 0B 02 08 1E 0C B3 0E 62 AA")
TL = bytes.fromhex("7E 02 04 00 FF 02 10 10 F8 AA")
DY = bytes.fromhex(
    "03 FE 45 00 00 00 00 00 10 00 A8 EC 01 00 00 00 06 44 62 35 01 80 00 00 78 01 00 00"
)
TY = (
    bytes.fromhex("1B C1 0C 1E 08 02 0B 00 1A A0 05 3F 18 92 8B 42 0B 32 FB")
    + bytes(8)
    + bytes.fromhex("3F 80 00 00 C0 A0 00 00")
    + bytes(40)
)
ANHUI = (
    '{"count":1,"jczbh":"1","jcdw":"站","details":[{"ybbh":"7","ybmc":"韭菜","'
    'jcxm":"农药残留","jcz":"63.2","jgpd":"不合格","jcdt":"2026-11-02 08:30:12"}]}'
)
COLUMNS = [
    {"name": "channel", "at": 0, "width": 6},
    {"name": "product_name", "at": 6, "width": 10},
    {"name": "inhibition", "at": 16, "width": 8},
    {"name": "verdict", "at": 24, "width": 8},
]

# name -> (device, streams that it reads, how many records the first holds)
CASES = {
    "key_value": ({"reader": "key_value"}, [SLIP.encode("gbk"), SLIP.encode()], 1),
    "fixed_width": (
        {"reader": "fixed_width", "fixed_width": {"columns": COLUMNS}},
        [b"\x1b@" + TICKET.encode("gbk") + b"\n", TICKET.encode() + b"\x1dVB\x10"],
        2,
    ),
    "csv": (
        {"reader": "delimited", "delimited": {"delimiter": ";", "header": True}},
        [CSV.encode("gbk"), b"\xef\xbb\xbf" + CSV.encode()],
        2,
    ),
    "lz4000t": ({"profile": "lz4000t"}, [LZ, b"\x7e" + LZ + LZ[:13]], 1),
    "tl310": ({"profile": "tl310"}, [TL], 0),
    "dy3000": (
        {"profile": "dy3000", "items": {"0": {"name": "农药残留", "kind": "inhibition"}}},
        [DY],
        1,
    ),
    "ty16": ({"profile": "ty16"}, [TY, TY + TY[2:] + b"\x1b\xfe"], 2),
    "dy723pc": (
        {"profile": "dy723pc", "charset": "auto"},
        [LINES.encode("gbk"), LINES.encode()],
        2,
    ),
    "dy6260": ({"profile": "dy6260", "charset": "auto"}, [JSON.encode(), JSON.encode("gbk")], 1),
    "anhui": ({"profile": "anhui"}, [ANHUI.encode(), b"ybbh=7&ybmc=a&jcz=63.2%25&jcxm=%c5%a9"], 1),
}


def device(name):
    table = {"path": "t1", "transport": {"serial": "/dev/null"}}
    return parse(table | CASES[name][0], "test")


DEVICES = {name: device(name) for name in CASES}


def drained(config, reader):
    """All that the reader found; a record that is no test is a refusal."""
    found = []
    while True:
        try:
            raw = reader.next()
            if raw is None:
                return found
            assert len(raw.raw) <= MAX_RAW_BYTES
            found.append(record_of(raw, config, NOW_MS))
        except FrameError as exc:
            found.append((str(exc), exc.raw[: MAX_RAW_BYTES + 1]))


def told(config, chunks):
    reader = config.reader()
    found = []
    for chunk in chunks:
        reader.feed(chunk)
        found += drained(config, reader)
    reader.silence()
    found += drained(config, reader)
    assert all(len(one[1]) <= MAX_RAW_BYTES for one in found if isinstance(one, tuple))
    return found


def replies(reader):
    found = []
    while (reply := reader.next_reply()) is not None:
        found.append(reply)
    return found


@pytest.fixture(params=CASES)
def name(request):
    return request.param


def test_every_profile_is_here():
    assert set(names()) <= set(CASES)


def test_the_streams_are_read(name):
    _, streams, count = CASES[name]
    for stream in streams:
        found = told(DEVICES[name], [stream])
        assert sum(not isinstance(one, tuple) for one in found) >= count
    assert not any(isinstance(one, tuple) for one in told(DEVICES[name], [streams[0]]))


def test_byte_by_byte_gives_the_same(name):
    for stream in CASES[name][1]:
        whole = told(DEVICES[name], [stream])
        assert told(DEVICES[name], [stream[i : i + 1] for i in range(len(stream))]) == whole


@pytest.mark.parametrize("case", CASES)
@given(st.data())
def test_any_split_gives_the_same(case, data):
    streams = CASES[case][1]
    parts = data.draw(
        st.lists(
            st.one_of(st.sampled_from(streams), st.binary(max_size=12)), min_size=1, max_size=4
        )
    )
    stream = mutated(b"".join(parts), random.Random(data.draw(st.integers(0, 2**32))))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    config = DEVICES[case]
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert told(config, chunks) == told(config, [stream])


def mutated(stream, rng):
    """Flip, cut, double, shuffle or garnish a stream."""
    data = bytearray(stream)
    for _ in range(rng.choice((0, 1, 1, 2, 5))):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(6):
            case 0 if data:
                data[at % len(data)] = rng.randrange(256)
            case 1:
                del data[at : at + rng.randrange(1, 9)]
            case 2:
                data[at:at] = data[at : at + rng.randrange(1, 30)]
            case 3:
                data[at:at] = rng.randbytes(rng.randrange(1, 9))
            case 4 if data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            case _:
                del data[at:]
    return bytes(data)


def bombard(rounds, seed, cases):
    rng = random.Random(seed)
    readers = {case: DEVICES[case].reader() for case in cases}
    for number in range(rounds):
        case = cases[number % len(cases)]
        config, reader = DEVICES[case], readers[case]
        known = rng.random() < 0.7
        stream = mutated(rng.choice(CASES[case][1]), rng) if known else rng.randbytes(60)
        cut = rng.randrange(len(stream) + 1)
        reader.feed(stream[:cut])
        reader.feed(stream[cut:])
        drained(config, reader)
        replies(reader)
        if rng.random() < 0.5:
            reader.silence()
            drained(config, reader)
            assert not reader.is_open
    for case, reader in readers.items():
        reader.silence()
        drained(DEVICES[case], reader)
        stream = CASES[case][1][0]
        reader.feed(stream)
        reader.silence()
        good = [one for one in drained(DEVICES[case], reader) if not isinstance(one, tuple)]
        assert len(good) >= CASES[case][2]  # whatever came, the next test is read


def test_random_and_mutated_input_raises_only_frame_errors():
    bombard(5000, 1, list(CASES))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_million_random_and_mutated_inputs(name):
    bombard(1_000_000, 2, [name])


ENDLESS = {
    "key_value": [b"x", b"a:b\n", b"\x1b", b"\x1dv0\x00\xff\x00\xff\x00"],
    "fixed_width": [b"x", b"01 a b c\n", "检测时间：1\n".encode("gbk")],
    "csv": [b"x", b'"', b";", b"a;b\n"],
    "lz4000t": [b"\x7e", LZ[:6], b"\x7e\x11\x14\x00"],
    "tl310": [b"\x7e", b"\x7e\x16\x15\x00"],
    "dy3000": [b"\x03", b"\x03\xfe\x45\x00\x00\x00\x00\x00\xff\x03"],
    "ty16": [b"\x1b", b"\x1b\xc1", TY[2:]],
    "dy723pc": [b"R,", b"\xff", b"R\n"],
    "dy6260": [b"{", b"[", b'"', b'{"a":"', b'{"a":[', b"\xe4", b"x"],
    "anhui": [b"{", b"a=b&", b'{"details":['],
}


def test_an_endless_stream_stays_in_bounds(name):
    """What is held is at most about 1 MiB: a JSON document, an upload's body."""
    config = DEVICES[name]
    for unit in ENDLESS[name]:
        reader = config.reader()
        chunk = unit * (4096 // len(unit))
        tracemalloc.start()
        try:
            for _ in range(300 if name in ("dy6260", "anhui") else 8):
                reader.feed(chunk)
                drained(config, reader)
            held, _peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert held < (2_500_000 if name in ("dy6260", "anhui") else 200_000), unit
        reader.silence()
        drained(config, reader)
        assert not reader.is_open
