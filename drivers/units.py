"""UCUM codes that instruments send and exact conversion between units of one quantity."""

from __future__ import annotations

import difflib
import unicodedata
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import TYPE_CHECKING

from drivers.errors import DriverError

if TYPE_CHECKING:
    from collections.abc import Mapping


class UnitError(DriverError, ValueError):
    """A unit that is unknown, or of another quantity than the one asked for."""

    def __init__(self, message: str, *, unit: str) -> None:
        super().__init__(message)
        self.unit = unit


@dataclass(frozen=True, slots=True)
class Conversion:
    """``value * factor + offset``, exact."""

    factor: Fraction = Fraction(1)
    offset: Fraction = Fraction(0)

    @property
    def is_identity(self) -> bool:
        """Whether the value stays as it is."""
        return self.factor == 1 and self.offset == 0

    def apply(self, value: Fraction | int) -> Fraction:
        """Return the converted value."""
        return value * self.factor + self.offset

    def after(self, first: Conversion) -> Conversion:
        """Return the conversion that does ``first``, then this one."""
        return Conversion(self.factor * first.factor, self.apply(first.offset))


IDENTITY = Conversion()

# Per quantity: unit -> factor to the quantity's first unit. A unit stands in one quantity only.
_QUANTITIES: dict[str, dict[str, str]] = {
    "mass fraction": {
        "mg/kg": "1",
        "ug/kg": "1/1000",
        "ng/kg": "1/1000000",
        "g/kg": "1000",
        "ug/g": "1",
        "mg/(100.g)": "10",
    },
    "mass concentration": {
        "mg/L": "1",
        "ug/L": "1/1000",
        "ng/L": "1/1000000",
        "g/L": "1000",
        "kg/m3": "1000",
        "g/m3": "1",
        "mg/m3": "1/1000",
        "ug/m3": "1/1000000",
        "ng/mL": "1/1000",
        "ug/mL": "1",
        "mg/mL": "1000",
    },
    "ratio": {"%": "1", "1": "100"},
    "acidity": {"[pH]": "1"},
    "conductivity": {
        "uS/cm": "1",
        "mS/cm": "1000",
        "S/cm": "1000000",
        "dS/m": "1000",
        "mS/m": "10",
        "S/m": "10000",
    },
    "salinity": {"[ppth]": "1"},
    "turbidity": {"{NTU}": "1"},
    "colour": {"{deg_colour}": "1"},
    "count concentration": {
        "{count}/L": "1",
        "{MPN}/L": "1",
        "{CFU}/L": "1",
        "{count}/mL": "1000",
        "{CFU}/mL": "1000",
        "{count}/(100.mL)": "10",
        "{MPN}/(100.mL)": "10",
    },
    "egg concentration": {"{eggs}/(10.L)": "1", "{eggs}/L": "10"},
    "activity concentration": {"Bq/L": "1"},
    "absorption": {"m-1": "1"},
    "electric potential": {"mV": "1", "V": "1000"},
    "length": {"m": "1", "cm": "1/100", "mm": "1/1000", "km": "1000"},
    "pressure": {
        "kPa": "1",
        "Pa": "1/1000",
        "hPa": "1/10",
        "MPa": "1000",
        "bar": "100",
        "mbar": "1/10",
        "m[H2O]": "980665/100000",
    },
    "volume flow": {
        "m3/h": "1",
        "m3/s": "3600",
        "m3/d": "1/24",
        "L/s": "36/10",
        "L/min": "6/100",
        "L/h": "1/1000",
    },
    "speed": {"m/s": "1", "km/h": "10/36"},
    "volume": {"m3": "1", "L": "1/1000", "mL": "1/1000000"},
    "power": {"GJ/h": "1", "W": "36/10000000", "kW": "36/10000"},
    "angle": {"deg": "1"},
    "illuminance": {"lx": "1", "klx": "1000"},
    "irradiance": {"W/m2": "1", "kW/m2": "1000"},
    "sound level": {"dB": "1"},
    "time": {"s": "1", "ms": "1/1000", "min": "60", "h": "3600", "d": "86400"},
    "temperature": {"Cel": "1", "K": "1", "[degF]": "5/9"},
    "relative light units": {"{RLU}": "1"},
}
# Zero points differ from Cel's: value in Cel = value * factor + offset.
_OFFSETS = {"K": Fraction(-27315, 100), "[degF]": Fraction(-160, 9)}

# Spellings of instruments, slips and SenML -> UCUM code; only where the meaning is the same to the last digit.
_SPELLINGS: dict[str, str] = {
    "ppm": "mg/kg",
    "[ppm]": "mg/kg",
    "ppb": "ug/kg",
    "[ppb]": "ug/kg",
    "mg/100g": "mg/(100.g)",
    "℃": "Cel",
    "°C": "Cel",
    "degC": "Cel",
    "°F": "[degF]",
    "pH": "[pH]",
    "NTU": "{NTU}",
    "RLU": "{RLU}",
    "MPN/L": "{MPN}/L",
    "MPN/100mL": "{MPN}/(100.mL)",
    "CFU/mL": "{CFU}/mL",
    "{deg colour}": "{deg_colour}",
    "m³": "m3",
    "m³/h": "m3/h",
    "m³/s": "m3/s",
    "W/m²": "W/m2",
    "°": "deg",
}

_CONVERSIONS: Mapping[str, tuple[str, Conversion]] = MappingProxyType(
    {
        unit: (quantity, Conversion(Fraction(factor), _OFFSETS.get(unit, Fraction(0))))
        for quantity, units in _QUANTITIES.items()
        for unit, factor in units.items()
    }
)


def _folded(text: str) -> str:
    """Fold compatibility forms (％, ㎎, μ of two code points) and blanks; not case, which tells mPa from MPa."""
    return "".join(unicodedata.normalize("NFKC", text).replace("μ", "u").split())


_FOLDED = {
    variant: code
    for spelling, code in [*((unit, unit) for unit in _CONVERSIONS), *_SPELLINGS.items()]
    for variant in (_folded(spelling), _folded(spelling).replace("L", "l"))
}
# Slips print mg/Kg and MG/L; nobody measures residues in megagrams.
_CASELESS = {
    spelling.casefold(): code
    for spelling, code in _FOLDED.items()
    if _CONVERSIONS[code][0] in ("mass fraction", "mass concentration")
}


def _code(text: str) -> str | None:
    if text in _CONVERSIONS:
        return text
    folded = _folded(text)
    return _FOLDED.get(folded) or _CASELESS.get(folded.casefold())


def canonical(text: str) -> str:
    """Return the UCUM code for a spelling met in the field; raise UnitError for an unknown one.

    >>> canonical("μg/Kg"), canonical("ppb"), canonical("％")
    ('ug/kg', 'ug/kg', '%')
    """
    code = _code(text)
    if code is None:
        close = difflib.get_close_matches(_folded(text), _FOLDED, n=3, cutoff=0.5)
        near = ", ".join(sorted({_FOLDED[spelling] for spelling in close}))
        hint = f"; near it: {near}" if near else f"; known: {', '.join(_CONVERSIONS)}"
        raise UnitError(f"unit {text!r} is not known{hint}", unit=text)
    return code


def is_known(text: str) -> bool:
    """Whether ``canonical`` has a code for ``text``."""
    return _code(text) is not None


def quantity(unit: str) -> str:
    """Return the quantity that ``unit`` measures; raise UnitError for an unknown unit."""
    return _CONVERSIONS[canonical(unit)][0]


def conversion(unit: str, to: str) -> Conversion:
    """Return the exact conversion between two units of one quantity; raise UnitError for any other pair.

    >>> float(conversion("mS/cm", "uS/cm").apply(Fraction("1.5")))
    1500.0
    """
    source, target = canonical(unit), canonical(to)
    if source == target:
        return IDENTITY
    kind, first = _CONVERSIONS[source]
    other, second = _CONVERSIONS[target]
    if kind != other:
        fitting = ", ".join(_QUANTITIES[other])
        raise UnitError(
            f"unit {unit!r} measures {kind}, not {other} as {to!r} does; use one of {fitting}",
            unit=unit,
        )
    back = Conversion(1 / second.factor, -second.offset / second.factor)
    return back.after(first)
