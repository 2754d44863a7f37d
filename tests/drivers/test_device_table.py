from fractions import Fraction
from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.device_table import DevicePath, fraction, read_table


class Table(msgspec.Struct, frozen=True, kw_only=True):
    path: DevicePath
    unit_id: Annotated[int, msgspec.Meta(ge=0, le=247)]
    interval_s: float = 60.0


def test_a_good_table_is_read():
    faults = []
    assert read_table(Table, {"path": "a/b", "unit_id": 1}, "f", faults) == Table(
        path="a/b", unit_id=1
    )
    assert not faults


def test_every_fault_at_once():
    faults = []
    assert (
        read_table(Table, {"unit_id": 900, "interval": 1, "zzz": 0}, "e.toml: [x]", faults) is None
    )
    assert faults == [
        "e.toml: [x]: unit_id: Expected `int` <= 247",
        "e.toml: [x]: interval: unknown key; did you mean interval_s?",
        "e.toml: [x]: zzz: unknown key; known: path, unit_id, interval_s",
        "e.toml: [x]: path: is missing",
    ]


@pytest.mark.parametrize("path", ["", "/a", "a/", "a//b", "a b", "棚1", "-a", "a/.b", "x" * 81])
def test_paths_that_are_no_senml_names(path):
    faults = []
    read_table(Table, {"path": path, "unit_id": 1}, "f", faults)
    assert len(faults) == 1
    assert faults[0].startswith("f: path: ")


@given(
    st.decimals(
        allow_nan=False, allow_infinity=False, places=6, min_value=-(10**6), max_value=10**6
    )
)
def test_a_written_decimal_stays_that_decimal(number):
    assert fraction(float(number)) == Fraction(number)
    assert fraction(str(number)) == Fraction(number)


@pytest.mark.parametrize("bad", ["", "x", "1/0", float("nan"), float("inf"), "1e"])
def test_what_is_no_number_is_refused(bad):
    with pytest.raises(ValueError):  # noqa: PT011 - the caller words the fault
        fraction(bad)
