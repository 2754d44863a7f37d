"""The steps of the profiles, against instruments that answer, answer late, or say nothing."""

import contextlib
import datetime as dt

import pytest

from drivers.errors import FrameError, LinkError
from drivers.tester import dialogue
from drivers.tester.checks import crc8, xor
from drivers.tester.config import parse, step_faults
from drivers.tester.dialogue import MAX_DAYS, Conversation, StepTable
from drivers.tester.profiles import load, names

NOW_MS = 1_793_580_300_000  # 2026-11-02 08:45 Asia/Shanghai
DAY_MS = 86_400_000
LZ = bytes.fromhex("7E 11 14 00 01 00 00 00 11 00 D3 CD C2 F3 B2 CB 1A 0B 02 08 1E 0C B3 0E 62 AA")


def device(profile, **more):
    items = {"items": {"0": {"name": "农药残留", "kind": "inhibition"}}}
    table = {"path": "t1", "profile": profile, "transport": {"serial": "/dev/null"}}
    return parse(table | (items if profile == "dy3000" else {}) | more, "test")


def lz(command, data):
    body = bytes((command,)) + len(data).to_bytes(2, "little") + data
    return b"\x7e" + body + bytes((crc8(body), 0xAA))


def dy(command, data, param=0):
    head = bytes((3, 0xFE, command, 0)) + param.to_bytes(4, "little")
    head += len(data).to_bytes(2, "little")
    return head + bytes((xor(head), xor(data))) + data


def walk(config, answers, *, limit=500, since_ms=None):
    """Walk a dialogue; ``answers(sent)`` is what the instrument says, b"" for silence. Returns (sent, records)."""
    reader = config.reader()
    talk = Conversation(config.dialogue, reader, NOW_MS, since_ms)
    sent, records, waiting = [], [], b""
    for _ in range(limit):
        if talk.done:
            return sent, records
        if out := talk.take():
            sent.append(out)
            waiting = answers(out)
        assert talk.wait_s > 0
        if waiting:
            talk.feed(waiting)
            waiting = b""
        else:
            talk.silence()
        while (raw := reader.next()) is not None:
            records.append(raw)
    raise AssertionError("no end")


def lz_device(days):
    """An LZ-4000T that has records on ``days``."""

    def answers(sent):
        if sent[1] == 0x00:
            return lz(0x01, bytes(3))
        count = days.get(tuple(sent[4:7]), 0)
        if sent[1] == 0x12:
            return lz(0x13, bytes(3) + count.to_bytes(2, "little"))
        return LZ * count

    return answers


def test_lz4000t_asks_each_day_and_reads_those_with_records():
    sent, records = walk(device("lz4000t"), lz_device({(26, 11, 2): 2}))
    assert [message[1] for message in sent] == [0x00, 0x12, 0x12, 0x10]
    assert [tuple(message[4:7]) for message in sent[1:]] == [
        (26, 11, 1),
        (26, 11, 2),
        (26, 11, 2),
    ]
    assert len(records) == 2


def test_what_is_stored_is_asked_again_with_a_day_of_overlap():
    sent, _ = walk(device("lz4000t"), lz_device({}), since_ms=NOW_MS - 3 * DAY_MS)
    assert [tuple(message[4:7]) for message in sent[1:]] == [
        (26, 10, day) for day in (29, 30, 31)
    ] + [(26, 11, 1), (26, 11, 2)]


def test_a_cursor_of_long_ago_or_of_the_future_asks_in_bounds():
    dialogue = device("lz4000t").dialogue
    assert len(dialogue.start(NOW_MS, 0)) == 1 + MAX_DAYS + 1
    assert len(dialogue.start(NOW_MS, NOW_MS + 400 * DAY_MS)) == 1 + 2


def test_a_silent_instrument_is_asked_twice_then_the_link_is_gone():
    asked = []

    def answers(sent):
        asked.append(sent)
        return b""

    with pytest.raises(LinkError, match="hello: no answer"):
        walk(device("lz4000t"), answers)
    assert asked == [bytes.fromhex("7E 00 02 00 00 00 07 AA")] * 2


def test_a_late_answer_is_not_the_answer():
    """The count of a day comes after the question for the next was sent: it is not taken for a greeting."""
    first = True

    def answers(sent):
        nonlocal first
        if sent[1] == 0x00 and first:
            first = False
            return lz(0x13, bytes(3) + b"\x09\x00")
        return lz_device({})(sent)

    sent, records = walk(device("lz4000t"), answers)
    assert [message[1] for message in sent] == [0x00, 0x00, 0x12, 0x12]
    assert records == []


def test_records_in_a_late_answer_are_kept():
    _, records = walk(
        device("lz4000t"),
        lambda sent: LZ + lz_device({})(sent) if sent[1] == 0 else lz_device({})(sent),
    )
    assert len(records) == 1


def test_an_instrument_without_end_is_cut_off(monkeypatch):
    monkeypatch.setattr(dialogue, "MAX_STEP_BYTES", 64 * 1024)
    config = device("lz4000t")
    talk = Conversation(config.dialogue, config.reader(), NOW_MS)
    talk.take()
    for _ in range(64):
        talk.feed(bytes(1024))
        refused(talk._reader)
    with pytest.raises(LinkError, match="no end"):
        talk.feed(b"x")


def refused(reader):
    """Take what the reader found, which are refusals."""
    with contextlib.suppress(FrameError):
        while reader.next() is not None:
            raise AssertionError("a record of zeros")


def test_dy3000_reads_each_index_of_the_range():
    stamp = bytes.fromhex("06 44 62 35")
    record = bytes((1, 0, 0, 0)) + stamp + bytes((1, 128, 0, 0)) + bytes.fromhex("78 01 00 00")

    def answers(sent):
        command = sent[2]
        if command in (0x43, 0x63):
            return dy(command, sent[12:20] + b"\x05\x00\x07\x00")
        if command == 0x73:
            return b""  # has no dry chemistry
        if command == 0x20:
            return dy(0x20, b"PRN 23XX")
        return dy(command, record if command == 0x45 else bytes(20))

    sent, records = walk(device("dy3000"), answers)
    read = [int.from_bytes(one[4:8], "little") for one in sent if one[2] == 0x45]
    assert read == [5, 6, 7]
    assert [one[2] for one in sent].count(0x65) == 3
    assert len(records) == 3


def test_dy3000_a_range_that_cannot_be_is_refused():
    def answers(sent):
        if sent[2] == 0x20:
            return dy(0x20, b"PRN 23XX")
        return dy(sent[2], bytes(8) + b"\x00\x00\xff\xff")

    with pytest.raises(LinkError, match="cannot be"):
        walk(device("dy3000"), answers)


def test_ty16_asks_for_groups_until_the_end():
    body = bytes((12, 30, 8, 2, 11, 0, 26, 0x80, 5)) + bytes(64)
    answers = iter([b"\x1b\xcf", b"\x1b\xc1" + body, body, body, b"\x1b\xfe"])
    sent, records = walk(device("ty16"), lambda _: next(answers))
    assert sent == [b"\x1b\xbf", b"\x1b\xb1", b"\x24", b"\x24", b"\x24"]
    assert len(records) == 3


def test_ty16_nothing_more_is_an_end_too():
    body = bytes((12, 30, 8, 2, 11, 0, 26, 0x80, 5)) + bytes(64)
    answers = iter([b"\x1b\xcf", b"\x1b\xc1" + body, b"", b""])
    _, records = walk(device("ty16"), lambda _: next(answers))
    assert len(records) == 1


def test_dy723pc_waits_for_its_last_word():
    def answers(sent):
        assert sent == b"D 2026-11-01 D 2026-11-02"
        return "R,0017,3,农残,0.5,37.6,%,合格,2026-11-02 08:30:12,5A\r\nFINISH\r\n".encode("gbk")

    _, records = walk(device("dy723pc"), answers)
    assert len(records) == 1


def test_dy6260_one_object_is_the_answer():
    _, records = walk(
        device("dy6260"), lambda sent: b'{"detail":[{"a":"1"}]}' if sent == b"READ" else b""
    )
    assert len(records) == 1


@pytest.mark.parametrize("name", names())
def test_the_steps_of_every_profile_are_sound_and_only_read(name):
    assert step_faults(load(name).steps) == []
    if name == "ty16":
        assert not {"1B FE", "1B FF"} & {step.send for step in load(name).steps}


@pytest.mark.parametrize(
    ("step", "fault"),
    [
        ({"send": "7E ZZ"}, "is neither a byte nor a token"),
        ({"send": "7E {year}"}, "is no token"),
        ({}, "needs either send or send_text"),
        ({"send": "7E", "after": "b"}, "no step before it is called 'b'"),
        ({"send": "7E", "each": "index"}, "an index comes after"),
        ({"send": "7E", "expect": "7"}, "non-hexadecimal"),
    ],
)
def test_a_faulty_step_says_what_is_wrong(step, fault):
    (wrong,) = step_faults([StepTable(name="a", **step)])
    assert wrong.startswith("steps: a: ")
    assert fault in wrong


def test_the_day_is_the_one_in_beijing():
    now = dt.datetime(2026, 11, 2, 1, 0, tzinfo=dt.timezone(dt.timedelta(hours=8)))
    steps = device("lz4000t").dialogue.start(int(now.timestamp() * 1000))
    assert tuple(steps[-1].send[4:7]) == (26, 11, 2)
