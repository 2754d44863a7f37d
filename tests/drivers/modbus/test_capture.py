"""Recordings: golden frames in one stream, any cut, any bytes, bounded memory."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.modbus.captured import MAX_ADU_BYTES, MAX_BAD_BYTES, Captured
from drivers.modbus.frames import crc16
from drivers.modbus.rtu_capture import RtuCapture
from drivers.modbus.tcp_capture import TcpCapture

GOLDEN = Path(__file__).with_name("golden")
KINDS = [RtuCapture, TcpCapture]
REQUEST = bytes.fromhex("01030000000305CB")
REPLY = bytes.fromhex("01030601EF01440004B559")
TCP_REQUEST = bytes.fromhex("000100000006010300000003")
TCP_REPLY = bytes.fromhex("00010000000901030601EF01440004")


def captured(kind: type, data: bytes, cuts: tuple[int, ...] = ()) -> list[Captured]:
    capture = kind()
    edges = [0, *sorted(cuts), len(data)]
    found = []
    for start, end in itertools.pairwise(edges):
        found += capture.feed(data[start:end])
    return found + list(capture.end())


def bad(kind: type, data: bytes) -> Captured:
    (line,) = [line for line in captured(kind, data) if not line.good]
    return line


CASES = sorted(path for path in GOLDEN.iterdir() if (path / "frame.hex").is_file())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_golden_exchange_is_good_or_wrong_for_the_stated_reason(case: Path) -> None:
    error = json.loads((case / "expected.json").read_text()).get("error", "")
    lines = captured(RtuCapture, bytes.fromhex((case / "frame.hex").read_text()))
    errors = [line.error for line in lines if not line.good]
    if error.startswith(("CRC", "byte count")):
        assert error in errors[0]
    elif error:  # no Modbus at all, a refusal, or the answer to a write
        assert errors or {line.kind for line in lines} & {"exception", "echo"}
    else:
        assert errors == []


def test_a_reply_knows_its_request() -> None:
    for kind, data in ((RtuCapture, REQUEST + REPLY), (TcpCapture, TCP_REQUEST + TCP_REPLY)):
        asked, answer = captured(kind, data)
        assert (asked.kind, asked.unit, asked.function, asked.address, asked.count) == (
            "request",
            1,
            3,
            0,
            3,
        )
        assert (answer.kind, answer.address, answer.request_at) == ("reply", 0, 0)
        assert answer.registers == (0x1EF, 0x144, 4)
        assert bytes.fromhex(answer.bytes) == data[answer.offset :]


@pytest.mark.parametrize(
    ("data", "error", "fault_at"),
    [
        ("01030602 92FF9B03E83875", "CRC is 7538, the bytes give 0FD8", 9),
        (
            "90031006E7000D0296003C0000000000960000271A19DA",
            "byte count says 16, 18 bytes follow; the CRC fits",
            2,
        ),
        ("FDFDFD0000E988", "function FD is not known; the CRC fits", 1),
        ("01030602 92FF", "the recording ends inside a frame of 11 bytes", 6),
        ("55 010300000003 05CB", "a byte that belongs to no frame", 0),
    ],
)
def test_what_is_wrong_in_an_rtu_recording_and_where(data: str, error: str, fault_at: int) -> None:
    line = bad(RtuCapture, bytes.fromhex(data))
    assert (line.error, line.fault_at) == (error, fault_at)


@pytest.mark.parametrize(
    ("data", "error", "fault_at"),
    [
        ("000100010006010300000003", "protocol id 1 is not 0", 2),
        ("0001000003E8010300000003", "length 1000 is not 2 to 254", 4),
        ("00010000000901030601EF0144", "the recording ends inside a frame of 15 bytes", 13),
        ("00010000000701030601EF0144", "byte count says 6, 4 bytes follow", 8),
        ("0001000000020163", "function 63 is not known", 7),
    ],
)
def test_what_is_wrong_in_a_tcp_recording_and_where(data: str, error: str, fault_at: int) -> None:
    line = bad(TcpCapture, bytes.fromhex(data))
    assert (line.error, line.fault_at) == (error, fault_at)


def test_frames_are_found_again_behind_noise_clipped_bytes_and_echo() -> None:
    data = b"\x00\xff" + REQUEST + REQUEST + REPLY[1:] + b"\x7f" + REPLY
    good = [line for line in captured(RtuCapture, data) if line.good]
    assert [line.kind for line in good] == ["request", "request", "reply"]
    data = TCP_REPLY[3:] + TCP_REQUEST + TCP_REPLY
    good = [line for line in captured(TcpCapture, data) if line.good]
    assert [line.kind for line in good] == ["request", "reply"]


def test_replies_that_other_masters_drop_are_told_apart() -> None:
    exception = bytes.fromhex("90830 8111B".replace(" ", ""))
    ecowitt = bytes.fromhex("90060200018495")
    count_0 = bytes.fromhex("FE030050000051D4")
    refused, written, asked = captured(RtuCapture, exception + ecowitt + count_0)
    assert (refused.exception, refused.refusal) == (8, "memory_parity")
    assert (written.good, written.kind) == (True, "echo")
    assert (asked.address, asked.count) == (80, 0)


def pieces() -> st.SearchStrategy[bytes]:
    known = [REQUEST, REPLY, TCP_REQUEST, TCP_REPLY, b"\x01\x03\xfa", b"\0\0\0\0", b"\x03\x03"]
    return st.lists(st.sampled_from(known) | st.binary(max_size=12), max_size=8).map(b"".join)


@pytest.mark.parametrize("kind", KINDS)
@given(data=pieces(), cuts=st.lists(st.integers(0, 60), max_size=6))
@settings(max_examples=300, deadline=None)
def test_any_cut_says_the_same_and_every_byte_is_accounted_for(
    kind: type, data: bytes, cuts: list[int]
) -> None:
    whole = captured(kind, data)
    inside = tuple(cut for cut in cuts if cut <= len(data))
    assert captured(kind, data, inside) == whole
    assert captured(kind, data, tuple(range(len(data)))) == whole
    assert b"".join(bytes.fromhex(line.bytes) for line in whole) == data
    offset = 0
    for line in whole:
        assert line.offset == offset
        offset += len(bytes.fromhex(line.bytes))
        assert line.good is (line.error == "")
        assert line.good or line.offset <= (line.fault_at or 0) <= offset


def any_inputs(count: int) -> None:
    rng = random.Random(7)
    frames = [REQUEST, REPLY, TCP_REQUEST, TCP_REPLY]
    for _ in range(count):
        data = bytearray(rng.choice(frames) * rng.randint(1, 2))
        for _ in range(rng.randint(0, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        for kind in KINDS:
            assert sum(len(bytes.fromhex(x.bytes)) for x in captured(kind, bytes(data))) == len(
                data
            )


def test_any_input_is_said_to_be_something() -> None:
    any_inputs(3_000)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_million_mutated_inputs_are_said_to_be_something() -> None:
    any_inputs(1_000_000)


def feed_much(kind: type, unit: bytes, kilobytes: int) -> None:
    """Feed ``unit`` over and over; what is held between two feeds never exceeds two frames and a bad stretch."""
    capture = kind()
    block = unit * (16 * 1024 // len(unit))
    for _ in range(kilobytes // 16):
        for line in capture.feed(block):
            assert len(line.bytes) <= 3 * 300
        assert len(capture._buffer) <= 2 * MAX_ADU_BYTES
        assert len(capture._bad) <= MAX_BAD_BYTES
        assert len(capture._asked._open) <= 256
        assert len(getattr(capture, "_crc", b"")) <= 2 * MAX_ADU_BYTES


HOSTILE = [
    pytest.param(REPLY, id="good"),
    pytest.param(b"\x03\x03\xfa", id="long byte counts"),
    pytest.param(b"\0" * 64, id="zeros"),
    pytest.param(b"\0\1\0\0\0\xfe\1\3", id="long headers"),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("unit", HOSTILE)
def test_a_long_recording_needs_little_memory(kind: type, unit: bytes) -> None:
    feed_much(kind, unit, 512)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("unit", HOSTILE)
def test_100_mb_need_little_memory(kind: type, unit: bytes) -> None:
    feed_much(kind, unit, 100 * 1024)


def test_bad_bytes_come_in_pieces() -> None:
    lines = captured(RtuCapture, b"\x63" * 1000)
    assert max(len(bytes.fromhex(line.bytes)) for line in lines) == MAX_BAD_BYTES
    assert not any(line.good for line in lines)


def test_the_crc_of_any_stretch_equals_the_plain_one() -> None:
    rng = random.Random(3)
    for _ in range(200):
        unit, count = rng.randrange(256), rng.randrange(1, 126)
        body = bytes((unit, 3, 2 * count)) + rng.randbytes(2 * count)
        frame = body + crc16(body).to_bytes(2, "little")
        noise = rng.randbytes(rng.randrange(5)).replace(b"\x03", b"\x63")
        (line,) = [x for x in captured(RtuCapture, noise + frame) if x.good][-1:]
        assert bytes.fromhex(line.bytes) == frame
