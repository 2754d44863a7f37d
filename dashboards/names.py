"""How indicators and test parameters are called on screens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from drivers import indicators
from ingest.judge.catalogue.names import OP_CARBAMATE

if TYPE_CHECKING:
    from collections.abc import Callable

    from ingest.judge.catalogue.names import Names

_ENGLISH = {OP_CARBAMATE: "Organophosphates and carbamates"}
"""Parameters whose code is no name."""


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
        return substance.name_zh or code, _ENGLISH.get(substance.code) or as_words(substance.code)

    return name


def product_names_of(known: Names) -> Callable[[str], str]:
    """Return what gives a product's English name, empty for one that we do not know."""

    def english(name: str) -> str:
        product = known.product(name) if name else None
        return as_words(product.name_en) if product else ""

    return english


def as_words(text: str) -> str:
    """Return a code or a name as words with a capital; AOZ and 2,4-D stay as they are."""
    words = text.replace("_", " ")
    return words[:1].upper() + words[1:]
