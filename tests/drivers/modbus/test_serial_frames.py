"""Serial frames: built, found in noise and echo, never taken from another; whatever the cuts."""

import contextlib
import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.errors import FrameError
from drivers.modbus.frames import crc16, rtu_frame
from drivers.modbus.serial_frames import (
    AsciiReceiver,
    RtuReceiver,
    ascii_adu,
    ascii_frame,
    find_frames,
    lrc,
    reply_bytes,
    rtu,
)

UNIT, FUNCTION, COUNT = 7, 3, 4
DATA = bytes(range(0x10, 0x10 + 2 * COUNT))
PDU = bytes((FUNCTION, 2 * COUNT)) + DATA
REQUEST = bytes((FUNCTION, 0, 0x20, 0, COUNT))

units = st.integers(0, 255)
noise = st.binary(max_size=40)


def framing(name):
    return (RtuReceiver, rtu) if name == "rtu" else (AsciiReceiver, ascii_adu)


BOTH = pytest.mark.parametrize("name", ["rtu", "ascii"])


def waiting(name, *, unit=UNIT, function=FUNCTION, count=COUNT, echo=b""):
    receiver = framing(name)[0]()
    receiver.expect(unit, function, count, echo=echo)
    return receiver


def answers(receiver, chunks):
    """Every reply that ``chunks`` bring, and the one at the end."""
    replies = [receiver.feed(chunk) for chunk in chunks]
    replies.append(receiver.end())
    return [reply for reply in replies if reply is not None]


def cuts(data, places):
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def test_crc_and_lrc_of_the_standards_examples():
    assert crc16(b"123456789") == 0x4B37
    assert lrc(bytes.fromhex("0300000009")) == 0xF4
    assert ascii_adu(0xF7, bytes.fromhex("031389000A")) == b":F7031389000A60\r\n"


@given(units, st.binary(min_size=1, max_size=253))
def test_a_frame_opens_as_it_was_built(unit, pdu):
    assert (rtu_frame(rtu(unit, pdu)).unit, rtu_frame(rtu(unit, pdu)).pdu) == (unit, pdu)
    assert (ascii_frame(ascii_adu(unit, pdu)).unit, ascii_frame(ascii_adu(unit, pdu)).pdu) == (
        unit,
        pdu,
    )


@BOTH
@given(before=noise, after=noise, places=st.lists(st.integers(0, 400), max_size=20))
def test_any_split_gives_the_same_reply(name, before, after, places):
    build = framing(name)[1]
    stream = before + build(UNIT, PDU) + after
    whole, by_byte, cut = (
        answers(waiting(name), chunks)
        for chunks in (
            [stream],
            [stream[i : i + 1] for i in range(len(stream))],
            cuts(stream, places),
        )
    )
    assert whole == by_byte == cut
    assert len(whole) == 1
    assert (whole[0].unit, whole[0].pdu) == (UNIT, PDU)


OTHERS = {
    "another unit": lambda build: build(UNIT + 1, PDU),
    "another function": lambda build: build(UNIT, bytes((4, 2 * COUNT)) + DATA),
    "another count": lambda build: build(UNIT, bytes((3, 4, 1, 2, 3, 4))),
    "byte count too large": lambda build: build(UNIT, bytes((3, 2 * COUNT + 2)) + DATA),
    "the echo": lambda build: build(UNIT, REQUEST),
    "another's exception": lambda build: build(UNIT + 1, bytes((0x83, 2))),
    "cut short": lambda build: build(UNIT, PDU)[:-3],
    "two bytes clipped": lambda build: build(UNIT, PDU)[3:],
    "a wrong check": lambda build: build(UNIT, PDU)[:-4] + b"00\r\n",
    "zeros": lambda _build: bytes(300),
    "colons": lambda _build: b":" * 700,
}


@BOTH
@pytest.mark.parametrize("other", OTHERS)
def test_what_is_not_the_answer_is_passed_over_and_the_answer_behind_it_found(name, other):
    build = framing(name)[1]
    strange = OTHERS[other](build)
    alone = waiting(name)
    assert answers(alone, [strange]) == []
    followed = answers(waiting(name), [strange, build(UNIT, PDU)])
    assert [reply.pdu for reply in followed] == [PDU]


@BOTH
def test_a_refusal_is_an_answer(name):
    build = framing(name)[1]
    (reply,) = answers(waiting(name), [build(UNIT, bytes((0x83, 2)))])
    assert reply.pdu == bytes((0x83, 2))
    assert reply.raw == build(UNIT, bytes((0x83, 2)))


@BOTH
def test_one_reply_for_one_question(name):
    build = framing(name)[1]
    receiver = waiting(name)
    assert len(answers(receiver, [build(UNIT, PDU) * 3, build(UNIT, PDU)])) == 1
    receiver.expect(UNIT, FUNCTION, COUNT)
    assert answers(receiver, [build(UNIT, PDU)[:4]]) == []


@BOTH
def test_reads_of_nothing_and_answers_of_any_unit(name):
    build = framing(name)[1]
    (started,) = answers(waiting(name, count=0), [build(UNIT, bytes((3, 0)))])
    assert started.pdu == bytes((3, 0))
    (found,) = answers(waiting(name, unit=None), [build(0x2A, PDU)])
    assert found.unit == 0x2A


@BOTH
@pytest.mark.parametrize("function", [5, 6])
def test_an_echo_is_not_taken_for_the_answer_to_a_write(name, function):
    build = framing(name)[1]
    write = build(UNIT, bytes((function, 0, 1, 0xFF, 0)))
    for chunks in (
        [write + write],
        [write, write],
        [write[i : i + 1] for i in range(len(write))] * 2,
    ):
        receiver = waiting(name, function=function, echo=write)
        assert len(answers(receiver, chunks)) == 1
    assert answers(waiting(name, function=function, echo=write), [write]) == []


def test_the_answer_to_a_write_in_the_shape_of_a_read():
    """Ecowitt WN90LP answers function 6 so."""
    (reply,) = answers(waiting("rtu", unit=0x90, function=6), [bytes.fromhex("90060200018495")])
    assert reply.pdu == bytes.fromhex("06020001")


def test_a_clipped_first_byte_is_proved_by_the_crc():
    frame = rtu(UNIT, PDU)
    (reply,) = answers(waiting("rtu"), [frame[1:]])
    assert (reply.unit, reply.pdu, reply.raw) == (UNIT, PDU, frame[1:])
    for other in set(range(256)) - {UNIT}:
        assert answers(waiting("rtu"), [rtu(other, PDU)[1:]]) == []


def test_an_exception_behind_the_head_of_a_longer_answer_is_found_at_the_end():
    receiver = waiting("rtu")
    refusal = rtu(UNIT, bytes((0x83, 2)))
    assert receiver.feed(rtu(UNIT, PDU)[:3] + refusal) is None
    reply = receiver.end()
    assert reply is not None
    assert reply.raw == refusal


def test_a_frame_inside_an_answer_is_data():
    inner = rtu(UNIT, bytes((0x83, 2)))
    pdu = bytes((3, 2 * COUNT)) + inner + b"\0\0\0"
    stream = rtu(UNIT, pdu)
    for chunks in ([stream], [stream[i : i + 1] for i in range(len(stream))]):
        (reply,) = answers(waiting("rtu"), chunks)
        assert reply.pdu == pdu


@BOTH
def test_a_broken_answer_is_told_from_silence(name):
    build = framing(name)[1]
    good = build(UNIT, PDU)
    for stream, broken in (
        (good[:-3] + bytes((good[-3] ^ 1,)) + good[-2:], True),
        (build(UNIT + 1, PDU), False),
        (b"", False),
    ):
        receiver = waiting(name)
        assert answers(receiver, [stream]) == []
        assert receiver.broken is broken


def test_a_broken_refusal_is_told_from_noise_that_begins_like_one():
    for code, broken in ((2, True), (11, True), (0x55, False)):
        receiver = waiting("rtu")
        assert answers(receiver, [bytes((UNIT, 0x83, code, 0, 0))]) == []
        assert receiver.broken is broken


@BOTH
def test_memory_is_bounded_on_an_endless_line(name):
    receiver = waiting(name)
    rng = random.Random(5)
    endless = [b":" + b"1" * 4095, rng.randbytes(4096), bytes((UNIT, FUNCTION)) * 2048]
    for n in range(600):
        assert receiver.feed(endless[n % 3]) is None
        held = len(receiver._buffer if name == "rtu" else receiver._line)
        assert held <= 600
        assert len(receiver.passed_over) <= 600


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"010300000009F3\r\n", "colon"),
        (b":0103000009F3Z\r\n", "hexadecimal"),
        (b":010300000009F3F\r\n", "pairs"),
        (b":010300000009F4\r\n", "LRC is F4, the bytes give F3"),
        (b":01FF\r\n", "no ASCII frame"),
        (b":" + b"00" * 300, "colon"),
    ],
)
def test_a_bad_ascii_frame_says_why(text, reason):
    with pytest.raises(FrameError, match=reason) as refused:
        ascii_frame(text)
    assert refused.value.raw == text


def test_lengths_are_those_of_the_protocol():
    assert reply_bytes(b"\x01", 3, 1) == 0
    assert reply_bytes(b"\x01\x03", 3, 1) == 0
    assert reply_bytes(b"\x01\x03\x02", 3, 1) == 7
    assert reply_bytes(b"\x01\x01\x02", 1, 9) == 7
    assert reply_bytes(b"\x01\x83", 3, 1) == 5
    assert reply_bytes(b"\x01\x10", 16, 1) == 8
    assert reply_bytes(b"\x01\x03\x04", 3, 1) is None
    assert reply_bytes(b"\x01\x11", 17, 1) is None


def test_frames_are_found_in_a_recording():
    frames = [
        rtu(1, bytes.fromhex("0300000009")),
        rtu(1, bytes((3, 18)) + bytes(18)),
        rtu(2, bytes((0x84, 2))),
        rtu(3, bytes.fromhex("060020000A")),
        rtu(3, bytes.fromhex("100001000102001F")),
    ]
    recording = b"\xff\x00".join(frames) + b"\x01\x03"
    found = list(find_frames(recording))
    assert [rtu(frame.unit, frame.pdu) for _, frame in found] == frames
    assert all(recording.startswith(raw, at) for (at, _), raw in zip(found, frames, strict=True))


def hostile(rng, build):
    """A random or mutated input."""
    kind = rng.randrange(6)
    good = build(UNIT, PDU)
    if kind == 0:
        return rng.randbytes(rng.randrange(1, 80))
    if kind == 1:
        spoilt = bytearray(good)
        for _ in range(rng.randrange(1, 4)):
            spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
        return bytes(spoilt)
    if kind == 2:
        return good[: rng.randrange(len(good))] + rng.randbytes(rng.randrange(20))
    if kind == 3:
        return build(rng.randrange(256), rng.randbytes(rng.randrange(1, 30)))
    if kind == 4:
        return build(UNIT, bytes((FUNCTION, rng.randrange(256))) + rng.randbytes(rng.randrange(30)))
    at = rng.randrange(len(good))
    return good[:at] + rng.randbytes(rng.randrange(4)) + good[at:]


def run_hostile(name, inputs, seed):
    """Feed hostile inputs cut anywhere; nothing is raised, and what is taken is a true frame of the right shape."""
    rng = random.Random(seed)
    build = framing(name)[1]
    receiver = framing(name)[0]()
    taken = 0
    for _ in range(inputs):
        data = hostile(rng, build)
        receiver.expect(UNIT, FUNCTION, COUNT)
        at = rng.randrange(len(data) + 1)
        reply = receiver.feed(data[:at]) or receiver.feed(data[at:]) or receiver.end()
        for open_frame in (rtu_frame, ascii_frame):
            with contextlib.suppress(FrameError):
                open_frame(data)
        for _ in find_frames(data):
            pass
        if reply is not None:
            taken += 1
            assert reply.unit == UNIT
            assert reply.raw in data
            assert (reply.pdu[0] == 0x83 and len(reply.pdu) == 2) or (
                reply.pdu[:2] == PDU[:2] and len(reply.pdu) == len(PDU)
            )
    return taken


@BOTH
def test_hostile_inputs(name):
    assert run_hostile(name, 5_000, seed=1) < 500


@pytest.mark.slow
@pytest.mark.timeout(3600)
@BOTH
def test_hostile_inputs_a_million(name):
    assert run_hostile(name, 1_000_000, seed=2) < 100_000
