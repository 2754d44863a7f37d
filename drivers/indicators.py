"""The indicator catalogue: what each code means, its unit, range and the metric strings that map to it."""

from __future__ import annotations

import csv
import difflib
import functools
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from drivers import units
from drivers.errors import DriverError

if TYPE_CHECKING:
    from collections.abc import Mapping

_FILE = Path(__file__).with_name("indicator_codes.csv")
_CONVERT = re.compile(r"convert\[([^\]]*)\]")
_CONVERT_ITEM = re.compile(
    r"(?P<source>\w+):(?P<name>[^=,\s]+)=(?P<unit>.+?)\*(?P<factor>[0-9.e-]+)"
)


class UnknownIndicatorError(DriverError, LookupError):
    """A code or metric string that the catalogue does not have; ``near`` holds the closest ones."""

    def __init__(self, message: str, *, near: tuple[str, ...]) -> None:
        super().__init__(message)
        self.near = near


@dataclass(frozen=True, slots=True)
class Indicator:
    """One row of the catalogue.

    ``unit`` is a UCUM code; ``senml_unit`` the unit of RFC 8428/8798 (blank: none), ``factor_to_senml`` the factor
    to it. ``physical_min`` and ``physical_max`` bound what can exist (None: no bound). ``role`` is ``quality``,
    ``context`` or ``diagnostic``. ``standards_analytes`` are ``standard:analyte`` keys of the limit tables.
    """

    code: str
    zh: str
    en: str
    medium: str
    unit: str
    senml_unit: str
    factor_to_senml: Fraction | None
    physical_min: float | None
    physical_max: float | None
    decimals: int
    role: str
    standards_analytes: tuple[str, ...]
    device_metrics: tuple[str, ...]
    hj212_codes: tuple[str, ...]
    note: str
    confidence: str

    def conversion_from(self, unit: str) -> units.Conversion:
        """Return the conversion of ``unit`` (UCUM, or this row's SenML unit) to the catalogue's; raise UnitError."""
        if unit == self.unit:
            return units.IDENTITY
        try:
            exact = units.conversion(unit, self.unit)
        except units.UnitError as exc:
            if unit == self.senml_unit and self.factor_to_senml is not None:
                return units.Conversion(1 / self.factor_to_senml)
            raise units.UnitError(f"{self.code}: {exc}", unit=unit) from exc
        if unit == self.senml_unit and exact.offset and self.factor_to_senml is not None:
            return units.Conversion(
                1 / self.factor_to_senml
            )  # K of a difference, not of a temperature
        return exact


def _number(text: str) -> float | None:
    return float(text) if text else None


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(";")) if text else ()


def _indicator(row: Mapping[str, str]) -> Indicator:
    factor = row["unit_factor_to_senml"]
    return Indicator(
        code=row["code"],
        zh=row["zh"],
        en=row["en"],
        medium=row["medium"],
        unit=row["unit"],
        senml_unit=row["senml_unit"],
        factor_to_senml=Fraction(factor) if factor else None,
        physical_min=_number(row["physical_min"]),
        physical_max=_number(row["physical_max"]),
        decimals=int(row["decimals"]),
        role=row["role"],
        standards_analytes=_names(row["standards_analytes"]),
        device_metrics=_names(row["device_metrics"]),
        hj212_codes=_names(row["hj212_codes"]),
        note=row["note"],
        confidence=row["confidence"],
    )


@functools.cache
def catalogue() -> Mapping[str, Indicator]:
    """Return every indicator by code, in the file's order; read at the first call."""
    with _FILE.open(encoding="utf-8", newline="") as file:
        return MappingProxyType({row["code"]: _indicator(row) for row in csv.DictReader(file)})


def lookup(code: str) -> Indicator:
    """Return the indicator of ``code``; raise UnknownIndicatorError naming the closest codes."""
    found = catalogue().get(code)
    if found is None:
        raise _unknown("indicator", code, catalogue())
    return found


def _unknown(what: str, name: str, known: Mapping[str, object]) -> UnknownIndicatorError:
    near = tuple(difflib.get_close_matches(name.casefold(), known, n=3))
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return UnknownIndicatorError(f"{what} {name!r} is not in the catalogue{hint}", near=near)


def stated_conversions(indicator: Indicator) -> dict[tuple[str, str, str], Fraction]:
    """Return the factors that the row's note states: (source, name, unit) -> factor to the catalogue's unit.

    >>> stated_conversions(lookup("device_uptime"))
    {('device', 'uptime', 'ms'): Fraction(1, 1000)}
    """
    return {
        (item["source"], item["name"], item["unit"]): Fraction(item["factor"])
        for group in _CONVERT.findall(indicator.note)
        for item in _CONVERT_ITEM.finditer(group)
    }


@functools.cache
def _metrics() -> Mapping[str, Indicator]:
    return MappingProxyType(
        {
            metric: indicator
            for indicator in catalogue().values()
            for metric in indicator.device_metrics
        }
    )


def metric(name: str, unit: str) -> tuple[Indicator, units.Conversion]:
    """Return the indicator of a device map's metric string and the conversion of ``unit`` to the catalogue's.

    Raises UnknownIndicatorError for an unknown metric, UnitError for a unit of another quantity.

    >>> indicator, conversion = metric("water_ec", "mS/cm")
    >>> indicator.code, int(conversion.factor)
    ('water_ec', 1000)
    """
    indicator = _metrics().get(name)
    if indicator is None:
        raise _unknown("metric", name, _metrics())
    stated = stated_conversions(indicator).get(("device", name, unit))
    if stated is not None:
        return indicator, units.Conversion(stated)
    return indicator, indicator.conversion_from(unit)
