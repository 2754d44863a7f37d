import csv
from fractions import Fraction
from pathlib import Path

import pytest

import drivers
from drivers import indicators, units

_FILE = Path(drivers.__file__).with_name("indicator_codes.csv")
ROWS = list(csv.DictReader(_FILE.read_text(encoding="utf-8").splitlines()))


def test_the_catalogue_has_every_row():
    assert list(indicators.catalogue()) == [row["code"] for row in ROWS]
    cd = indicators.lookup("soil_cd")
    assert (cd.zh, cd.unit, cd.decimals, cd.standards_analytes) == (
        "土壤镉",
        "mg/kg",
        3,
        ("soil:Cd",),
    )
    assert (cd.physical_min, cd.physical_max, cd.role) == (0.0, 1000.0, "quality")
    assert indicators.lookup("device_serial_number").physical_max is None
    assert indicators.catalogue() is indicators.catalogue()


@pytest.mark.parametrize("indicator", indicators.catalogue().values(), ids=lambda i: i.code)
def test_units_are_known_and_stated_factors_agree_with_them(indicator):
    assert units.canonical(indicator.unit) == indicator.unit
    for (_, _, unit), factor in indicators.stated_conversions(indicator).items():
        assert units.conversion(unit, indicator.unit).factor == factor


def test_every_stated_conversion_is_found():
    stated = sum(row["note"].count("*") for row in ROWS if "convert[" in row["note"])
    found = sum(len(indicators.stated_conversions(i)) for i in indicators.catalogue().values())
    assert found == stated > 20


def test_unknown_codes_get_the_nearest():
    with pytest.raises(indicators.UnknownIndicatorError) as refused:
        indicators.lookup("soil_cadmium")
    assert refused.value.near
    with pytest.raises(indicators.UnknownIndicatorError, match="did you mean water_ph"):
        indicators.lookup("water_pH")


@pytest.mark.parametrize(
    ("metric", "unit", "code", "factor"),
    [
        ("water_ec", "mS/cm", "water_ec", 1000),
        ("ec_compensated", "mS/cm", "water_ec", 1000),
        ("pressure_p1", "bar", "water_pressure", 100),
        ("air_pressure", "Pa", "air_pressure", Fraction(1, 100)),
        ("air_pressure", "kPa", "air_pressure", 10),
        ("water_tds", "mg/L", "water_tds_ec", 1),
        ("soil_nitrogen", "mg/kg", "soil_n", 1),
        ("uptime", "ms", "device_uptime", Fraction(1, 1000)),
    ],
)
def test_metrics_of_device_maps(metric, unit, code, factor):
    indicator, conversion = indicators.metric(metric, unit)
    assert (indicator.code, conversion) == (code, units.Conversion(Fraction(factor)))


def test_metric_faults():
    with pytest.raises(indicators.UnknownIndicatorError, match=r"metric 'wind_sped'.*wind_speed"):
        indicators.metric("wind_sped", "m/s")
    with pytest.raises(units.UnitError, match="air_wind_speed: unit 'mm' measures length"):
        indicators.metric("wind_speed", "mm")


@pytest.mark.parametrize(
    ("code", "unit", "factor"),
    [
        ("soil_moisture", "/100", 1),
        ("air_humidity", "%RH", 1),
        ("soil_ec", "S/m", 10_000),
        ("water_tl", "kg/m3", 10**9),
        ("water_flow_rate", "m3/s", 3600),  # the file's factor is a rounded decimal
        ("water_temperature_rise", "K", 1),  # a difference
        ("water_ph", "pH", 1),
    ],
)
def test_senml_units(code, unit, factor):
    conversion = indicators.lookup(code).conversion_from(unit)
    assert conversion == units.Conversion(Fraction(factor))


def test_kelvin_of_a_temperature_has_its_own_zero():
    assert (
        indicators.lookup("water_temperature").conversion_from("K").apply(Fraction("273.15")) == 0
    )
