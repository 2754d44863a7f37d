import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.errors import DeviceError, FrameError
from drivers.modbus.frames import (
    Frame,
    crc16,
    mbap,
    mbap_frame,
    read_reply,
    read_request,
    rtu_frame,
)


@given(st.binary(max_size=300))
def test_garbage_raises_only_frame_errors(data):
    for reader in (rtu_frame, mbap_frame, read_request):
        try:
            reader(data)
        except FrameError as exc:
            assert exc.raw == data  # noqa: PT017 - either outcome is fine


@given(st.binary(max_size=260), st.sampled_from([3, 4]), st.integers(1, 125))
def test_a_reply_is_whole_or_refused(pdu, function, count):
    try:
        registers = read_reply(pdu, function, count)
    except (FrameError, DeviceError):
        return
    assert len(registers) == count
    assert pdu == bytes([function, 2 * count]) + b"".join(r.to_bytes(2, "big") for r in registers)


@given(st.integers(0, 65_535), st.integers(0, 255), st.binary(min_size=1, max_size=253))
def test_mbap_round_trip(transaction, unit, pdu):
    frame = Frame(unit, pdu, transaction)
    assert mbap_frame(mbap(frame)) == frame


@given(st.integers(0, 255), st.binary(min_size=1, max_size=253), st.integers(0, 2047))
def test_rtu_refuses_any_flipped_bit(unit, pdu, bit):
    body = bytes([unit]) + pdu
    adu = body + crc16(body).to_bytes(2, "little")
    assert rtu_frame(adu) == Frame(unit, pdu)
    bit %= 8 * len(adu)
    flipped = bytearray(adu)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(FrameError, match="CRC"):
        rtu_frame(bytes(flipped))


def test_an_exception_carries_its_code():
    with pytest.raises(DeviceError, match="illegal_address") as refused:
        read_reply(bytes([0x83, 2]), 3, 1)
    assert refused.value.code == 2


@pytest.mark.parametrize(
    ("pdu", "message"),
    [
        (b"", "not to function 3"),
        (bytes([4, 2, 0, 1]), "not to function 3"),
        (bytes([0x84, 2]), "not to function 3"),
        (bytes([3]), "byte count says no"),
        (bytes([3, 4, 0, 1]), "byte count says 4, 2 bytes follow"),
        (bytes([3, 4, 0, 1, 0, 2]), "4 data bytes answer a read of 1"),
    ],
)
def test_replies_that_do_not_fit(pdu, message):
    with pytest.raises(FrameError, match=message):
        read_reply(pdu, 3, 1)
