"""How indicators and test parameters are called on screens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from drivers import indicators

if TYPE_CHECKING:
    from collections.abc import Callable

    from ingest.judge.names import Names


@dataclass(frozen=True, slots=True)
class IndicatorName:
    """Chinese and English name, UCUM unit and digits after the point."""

    zh: str
    en: str
    unit: str
    decimals: int


def indicator_name(code: str) -> IndicatorName:
    """Return how an indicator is shown; one outside the catalogue is shown by its code.

    >>> indicator_name("soil_ph")
    IndicatorName(zh='土壤pH值', en='Soil pH', unit='[pH]', decimals=2)
    """
    found = indicators.catalogue().get(code)
    if found is None:
        return IndicatorName(code, code, "", 2)
    return IndicatorName(found.zh, found.en, found.unit, found.decimals)


def names_of(known: Names) -> Callable[[str], tuple[str, str]]:
    """Return what names a code in Chinese and English: an indicator's, else a substance's, else the code itself."""

    def name(code: str) -> tuple[str, str]:
        if code in indicators.catalogue():
            found = indicator_name(code)
            return found.zh, found.en
        substance = known.substance(code)
        if substance is None:
            return code, code
        return substance.name_zh or code, substance.code.replace("_", " ")

    return name
