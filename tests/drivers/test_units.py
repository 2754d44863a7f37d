from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers import units

KNOWN = sorted(units._CONVERSIONS)


@pytest.mark.parametrize(
    ("unit", "to", "factor"),
    [
        ("ppm", "mg/kg", "1"),
        ("ppb", "mg/kg", "0.001"),
        ("ug/kg", "ppb", "1"),
        ("ng/mL", "ug/L", "1"),
        ("ug/L", "mg/L", "0.001"),
        ("mS/cm", "uS/cm", "1000"),
        ("S/m", "uS/cm", "10000"),
        ("bar", "kPa", "100"),
        ("{MPN}/(100.mL)", "{count}/L", "10"),
        ("{MPN}/L", "{count}/L", "1"),
        ("L/s", "m3/h", "3.6"),
        ("ms", "s", "0.001"),
        ("km/h", "m/s", "5/18"),
        ("mg/(100.g)", "mg/kg", "10"),
    ],
)
def test_factors_are_exact(unit, to, factor):
    assert units.conversion(unit, to) == units.Conversion(Fraction(factor))


def test_temperatures_have_different_zeros():
    assert units.conversion("K", "Cel").apply(Fraction("273.15")) == 0
    assert units.conversion("[degF]", "Cel").apply(212) == 100
    assert units.conversion("Cel", "[degF]").apply(0) == 32


@given(st.sampled_from(KNOWN), st.sampled_from(KNOWN), st.fractions())
def test_there_and_back_is_the_same(unit, to, value):
    if units.quantity(unit) != units.quantity(to):
        with pytest.raises(units.UnitError):
            units.conversion(unit, to)
        return
    assert units.conversion(to, unit).apply(units.conversion(unit, to).apply(value)) == value


@pytest.mark.parametrize(
    ("spelling", "code"),
    [
        ("μg/kg", "ug/kg"),
        ("µg/L", "ug/L"),
        ("mg/Kg", "mg/kg"),
        ("mg/l", "mg/L"),
        ("㎎/㎏", "mg/kg"),
        ("％", "%"),
        ("℃", "Cel"),
        ("mg/100g", "mg/(100.g)"),
        ("mg / kg", "mg/kg"),
        ("RLU", "{RLU}"),
    ],
)
def test_spellings_of_the_field(spelling, code):
    assert units.canonical(spelling) == code
    assert units.is_known(spelling)


def test_case_is_not_folded_where_it_tells_units_apart():
    assert units.canonical("mS/cm") == "mS/cm"
    assert units.canonical("MPa") == "MPa"
    assert not units.is_known("mPa")
    assert units.canonical("l/s") == "L/s"
    assert units.canonical("MG/KG") == "mg/kg"


def test_an_unknown_unit_names_near_ones_and_a_wrong_one_the_fitting_ones():
    with pytest.raises(
        units.UnitError, match=r"'mg/kgg' is not known; near it: .*mg/kg"
    ) as refused:
        units.canonical("mg/kgg")
    assert refused.value.unit == "mg/kgg"
    with pytest.raises(units.UnitError, match="measures mass fraction, not mass concentration"):
        units.conversion("mg/kg", "mg/L")
    with pytest.raises(units.UnitError):
        units.canonical("")
