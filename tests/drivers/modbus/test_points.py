import math
import struct
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus.points import (
    ORDERS,
    Check,
    Point,
    PointType,
    ScaleFrom,
    read_raw,
    read_text,
    value_of,
    write_raw,
)
from drivers.units import Conversion

STRUCTS = {
    PointType.U16: "H",
    PointType.I16: "h",
    PointType.U32: "I",
    PointType.I32: "i",
    PointType.U64: "Q",
    PointType.I64: "q",
    PointType.F32: "f",
    PointType.F64: "d",
}
INTS = [kind for kind in STRUCTS if not kind.is_float]
FLOATS = [PointType.F32, PointType.F64]
CASES = [(kind, order) for kind in STRUCTS for order in ORDERS[kind.words]]


def values(kind):
    if kind.is_float:
        width = 32 if kind is PointType.F32 else 64
        return st.floats(width=width, allow_subnormal=True)
    signed = kind.value.startswith("i")
    bits = 16 * kind.words
    low = -(1 << (bits - 1)) if signed else 0
    return st.integers(low, low + (1 << bits) - 1)


@given(st.data())
@pytest.mark.parametrize(("kind", "order"), CASES)
def test_every_type_survives_every_order(kind, order, data):
    raw = data.draw(values(kind))
    back = read_raw(kind, order, write_raw(kind, order, raw))
    assert struct.pack(">" + STRUCTS[kind], back) == struct.pack(">" + STRUCTS[kind], raw)


@pytest.mark.parametrize(
    ("order", "wire"),
    [("ABCD", "0A0B0C0D"), ("CDAB", "0C0D0A0B"), ("BADC", "0B0A0D0C"), ("DCBA", "0D0C0B0A")],
)
def test_the_letters_are_the_bytes_on_the_wire(order, wire):
    words = struct.unpack(">2H", bytes.fromhex(wire))
    assert read_raw(PointType.U32, order, words) == 0x0A0B0C0D


@pytest.mark.parametrize(
    ("order", "wire"),
    [
        ("ABCDEFGH", "0102030405060708"),
        ("GHEFCDAB", "0708050603040102"),
        ("BADCFEHG", "0201040306050807"),
        ("HGFEDCBA", "0807060504030201"),
        ("CDAB", "0708050603040102"),
        ("DCBA", "0807060504030201"),
    ],
)
def test_64_bits_in_the_usual_orders(order, wire):
    words = struct.unpack(">4H", bytes.fromhex(wire))
    assert read_raw(PointType.U64, order, words) == 0x0102030405060708


def test_bytes_of_one_register():
    assert read_raw(PointType.U16, "BA", [0x1234]) == 0x3412
    assert read_raw(PointType.U8_HIGH_BYTE, "AB", [0x1234]) == 0x12
    assert read_raw(PointType.U8_LOW_BYTE, "AB", [0x1234]) == 0x34


@given(
    raw=st.integers(-32768, 32767),
    scale=st.decimals(-1000, 1000, places=4).filter(bool),
    offset=st.decimals(-1000, 1000, places=3),
)
def test_value_is_the_double_nearest_to_the_exact_decimal(raw, scale, offset):
    point = Point("x", 0, PointType.I16, scale=Fraction(scale), offset=Fraction(offset))
    value, quality = value_of(point, write_raw(PointType.I16, "AB", raw))
    assert quality is None
    assert value == float(Decimal(raw) * scale + offset)


def test_three_tenths_is_three_tenths():
    assert value_of(Point("x", 0, PointType.U16, scale=Fraction("0.1")), [3]) == (0.3, None)
    assert 3 * 0.1 != 0.3  # what a float product gives


@pytest.mark.parametrize(
    "number", [4.2e-7, 5e-324, 2.2250738585072011e-308, -0.0, 1.7976931348623157e308, 229.01]
)
@pytest.mark.parametrize("order", ORDERS[4])
def test_f64_arrives_to_the_last_bit(number, order):
    value, _ = value_of(
        Point("x", 0, PointType.F64, order=order), write_raw(PointType.F64, order, number)
    )
    assert struct.pack(">d", value) == struct.pack(">d", number)


@pytest.mark.parametrize("number", [4.2e-7, 1e-45, -1e-40, 3.4028234e38])
@pytest.mark.parametrize("order", ORDERS[2])
def test_f32_keeps_its_own_value(number, order):
    (stored,) = struct.unpack(">f", struct.pack(">f", number))
    value, _ = value_of(
        Point("x", 0, PointType.F32, order=order), write_raw(PointType.F32, order, number)
    )
    assert value == stored


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", FLOATS)
def test_nan_and_infinity_are_no_values(kind, number):
    order = ORDERS[kind.words][0]
    point = Point("x", 0, kind, order=order)
    assert value_of(point, write_raw(kind, order, number)) == (None, "bad:nan")


def test_sentinels_are_bit_patterns():
    point = Point("x", 0, PointType.I16, sentinels=frozenset({0x7FFF, -32768}))
    assert value_of(point, [0x7FFF]) == (None, "bad:sentinel")
    assert value_of(point, [0x8000]) == (None, "bad:sentinel")
    assert value_of(point, [0x7FFE]) == (32766.0, None)


def test_range_is_in_the_instruments_unit_and_includes_its_ends():
    point = Point(
        "x",
        0,
        PointType.I16,
        scale=Fraction("0.1"),
        conversion=Conversion(Fraction(1000)),
        valid_min=Fraction(-40),
        valid_max=Fraction("0.3"),
    )
    assert value_of(point, [3]) == (300.0, None)
    assert value_of(point, [4]) == (None, "bad:range")
    assert value_of(point, write_raw(PointType.I16, "", -400)) == (-40_000.0, None)
    assert value_of(point, write_raw(PointType.I16, "", -401)) == (None, "bad:range")


def test_a_value_beyond_doubles_is_out_of_range():
    point = Point("x", 0, PointType.F64, order="ABCDEFGH", scale=Fraction(1000))
    assert value_of(point, write_raw(PointType.F64, "ABCDEFGH", 1e308)) == (None, "bad:range")


@pytest.mark.parametrize("kind", [kind for kind in STRUCTS if kind.words > 1])
def test_more_than_one_register_needs_an_order(kind):
    with pytest.raises(ValueError, match="needs an order"):
        Point("x", 0, kind)


@pytest.mark.parametrize(
    ("faulty", "message"),
    [
        ({"type": PointType.U16, "order": "ABCD"}, None),
        ({"type": PointType.U32, "order": "ABDC"}, "none of"),
        ({"type": PointType.U32, "order": "ABCD", "address": 0xFFFF}, "room"),
        ({"type": PointType.U16, "scale": Fraction(0)}, "scale 0"),
        ({"type": PointType.U16, "sentinels": frozenset({0x10000})}, "16 bits"),
    ],
)
def test_points_that_cannot_be_read_are_refused(faulty, message):
    arguments = {"indicator": "x", "address": 0} | faulty
    if message is None:
        assert Point(**arguments).order == "AB"
    else:
        with pytest.raises(ValueError, match=message):
            Point(**arguments)


def test_a_raw_value_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        write_raw(PointType.U16, "", 65_536)
    with pytest.raises(ValueError, match="does not fit"):
        write_raw(PointType.F32, "ABCD", 1e39)


EDGES = {
    PointType.F32: [
        math.nan,
        math.inf,
        -math.inf,
        -0.0,
        4.2e-7,
        1e-45,
        -1e-40,
        229.01,
        3.4028234e38,
    ],
    PointType.F64: [math.nan, math.inf, -math.inf, -0.0, 4.2e-7, 5e-324, 229.01, 1.797e308],
}


def on_the_wire(plain, order):
    """Lay out big-endian bytes by the letters of ``order``; knows nothing of the code under test."""
    wire = bytes(plain["ABCDEFGH".index(letter)] for letter in order)
    return struct.unpack(f">{len(wire) // 2}H", wire)


@given(data=st.data())
@pytest.mark.parametrize(("kind", "order"), CASES)
def test_behaviour_9_a_value_is_the_double_nearest_to_the_exact_decimal(kind, order, data):
    raw = data.draw(values(kind) | st.sampled_from(EDGES.get(kind, [0])))
    scale = data.draw(st.decimals("0.000001", 1000, places=6).filter(bool) | st.just(Decimal(1)))
    offset = data.draw(st.decimals(-1000, 1000, places=3) | st.just(Decimal(0)))
    plain = struct.pack(">" + STRUCTS[kind], raw)
    point = Point("x", 0, kind, order=order, scale=Fraction(scale), offset=Fraction(offset))
    value, quality = value_of(point, on_the_wire(plain, order))
    (held,) = struct.unpack(">" + STRUCTS[kind], plain)
    if not math.isfinite(held):
        assert (value, quality) == (None, "bad:nan")
        return
    try:
        nearest = float(Fraction(held) * Fraction(scale) + Fraction(offset))
    except OverflowError:
        assert (value, quality) == (None, "bad:range")
        return
    assert quality is None
    assert value == nearest
    if scale == 1 and offset == 0:
        assert struct.pack(">d", value) == struct.pack(">d", held)


@pytest.mark.parametrize("order", ORDERS[2])
@pytest.mark.parametrize("number", [0, 1, 9, 10, 12_345_678, 99_999_999])
def test_bcd_is_read_by_its_digits(order, number):
    plain = bytes.fromhex(f"{number:08d}")
    point = Point("x", 0, PointType.BCD32, order=order, scale=Fraction("0.01"))
    assert value_of(point, on_the_wire(plain, order)) == (float(Fraction(number, 100)), None)
    assert write_raw(PointType.BCD32, order, number) == on_the_wire(plain, order)


def test_a_digit_above_nine_is_no_value():
    assert value_of(Point("x", 0, PointType.BCD16), [0x12A4]) == (None, "bad:encoding")
    with pytest.raises(ValueError, match="is no bcd16"):
        read_raw(PointType.BCD16, "", [0x12A4])
    with pytest.raises(ValueError, match="does not fit"):
        write_raw(PointType.BCD16, "", 10_000)


@given(raw=st.integers(0, 0xFFFF))
@pytest.mark.parametrize(
    ("mask", "shift", "width"), [(0x000F, 0, 4), (0x0FF0, 4, 8), (1 << 15, 15, 1)]
)
def test_a_mask_picks_bits(mask, shift, width, raw):
    value, _ = value_of(Point("x", 0, PointType.U16, mask=mask), [raw])
    assert value == (raw >> shift) % (1 << width)


@pytest.mark.parametrize("kind", [PointType.I16, PointType.F32, PointType.BCD16])
def test_bits_are_picked_out_of_unsigned_values_only(kind):
    with pytest.raises(ValueError, match="does not pick bits"):
        Point("x", 0, kind, order="ABCD" if kind.words == 2 else "", mask=1)


@given(whole=st.integers(-(2**31), 2**31 - 1), part=st.floats(0, 1, width=32))
@pytest.mark.parametrize("order", ORDERS[2])
def test_a_counter_is_its_whole_part_and_its_fraction(order, whole, part):
    words = (
        *on_the_wire(struct.pack(">i", whole), order),
        *on_the_wire(struct.pack(">f", part), order),
    )
    point = Point("x", 8, PointType.I32_F32, order=order, scale=Fraction("0.001"))
    exact = (Fraction(whole) + Fraction(part)) / 1000
    assert value_of(point, words) == (float(exact), None)


def test_a_counter_without_a_fraction_is_no_value():
    point = Point("x", 8, PointType.I32_F32, order="CDAB")
    assert value_of(point, [1, 0, 0, 0x7FC0]) == (None, "bad:nan")


@pytest.mark.parametrize(("kind", "code"), [(PointType.CLOCK_U16, "H"), (PointType.CLOCK_F32, "f")])
def test_a_clock_is_beijing_time(kind, code):
    order = ORDERS[kind.element_words][-1]
    fields = [2026, 11, 24, 8, 30, 15]
    words = [
        word for field in fields for word in on_the_wire(struct.pack(f">{code}", field), order)
    ]
    point = Point("x", 0, kind, order=order)
    assert value_of(point, words) == (1795480215.0, None)
    assert write_raw(kind, order, 1795480215) == tuple(words)


@pytest.mark.parametrize(
    "fields", [[26, 11, 24, 8, 30, 15], [2026, 2, 30, 0, 0, 0], [0] * 6, [0xFFFF] * 6]
)
def test_a_date_that_does_not_exist_is_no_value(fields):
    assert value_of(Point("x", 0, PointType.CLOCK_U16), fields) == (None, "bad:encoding")


def test_a_clock_of_half_days_is_no_value():
    words = [w for f in (2026, 11, 24.5, 8, 30, 15) for w in write_raw(PointType.F32, "ABCD", f)]
    assert value_of(Point("x", 0, PointType.CLOCK_F32, order="ABCD"), words) == (
        None,
        "bad:encoding",
    )


def test_the_factor_may_stand_in_another_register():
    factors = tuple((n, Fraction(1, 10**n)) for n in range(4))
    point = Point(
        "x",
        4,
        PointType.I16,
        scale_from=ScaleFrom(2, factors),
        conversion=Conversion(Fraction(1, 1000)),
        valid_max=Fraction("1.5"),
    )
    assert (point.start, point.end) == (2, 5)
    assert value_of(point, [3, 0, 3]) == (0.000003, None)  # 0.003 mm in m, rounded once
    assert value_of(point, [1, 0, 15]) == (0.0015, None)
    assert value_of(point, [1, 0, 16]) == (None, "bad:range")
    assert value_of(point, [9, 0, 15]) == (None, "bad:scale")


def test_other_registers_decide_whether_a_value_is_one():
    checks = (
        Check(6, frozenset({0}), "bad:device", PointType.U8_HIGH_BYTE),
        Check(3, frozenset({17, 18}), "bad:identity"),
    )
    point = Point("x", 4, PointType.F32, order="ABCD", checks=checks)
    assert (point.start, point.end) == (3, 7)
    assert value_of(point, [17, 0x41C8, 0, 0x00FF]) == (25.0, None)
    assert value_of(point, [17, 0x41C8, 0, 0x0100]) == (None, "bad:device")
    assert value_of(point, [16, 0x41C8, 0, 0]) == (None, "bad:identity")


def test_a_serial_number_in_ascii():
    words = struct.unpack(">7H", b"YL0114010022\0\0")
    assert read_text(words) == "YL0114010022"
    assert read_text([0xFFFF, 0xFFFF]) == ""
    assert read_text([0x41C8]) == ""
