"""The class of a surface water under GB 3838: that of its worst item."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ingest.judge.catalogue.limits import KEY_VALUES, select
from ingest.judge.readings.conditions import Conditions
from ingest.judge.readings.derived import SATURATION, TEMPERATURE
from ingest.judge.readings.readings import judge_row

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ingest.judge.catalogue.catalogue import Catalogue

CLASSES = KEY_VALUES["water_class"]
WORSE = "worse_than_V"
_STANDARD = "GB 3838"


def surface_class(
    catalogue: Catalogue, values: Mapping[str, float], water_body: str, at_ms: int | None
) -> tuple[str, tuple[str, ...]] | None:
    """Return the class (``I`` … ``V``, ``worse_than_V``) and the indicators that are no better; None: nothing to class.

    ``values`` are in the catalogue's units, ``water_body`` is ``river`` or ``lake``. An item that meets several classes
    alike is in the best of them; a class that cannot be told for want of a companion is not given.
    """
    if water_body not in KEY_VALUES["water_body"]:
        raise ValueError(f"water_body {water_body!r} is not one of river, lake")
    beside = {k: values[k] for k in (SATURATION, TEMPERATURE) if k in values}
    beside = {k: v for k, v in beside.items() if math.isfinite(v)}
    places = {
        indicator: place
        for indicator, value in values.items()
        if math.isfinite(value)
        and (place := _place(catalogue, indicator, value, water_body, beside, at_ms)) is not None
    }
    if not places:
        return None
    worst = max(places.values())
    names = tuple(indicator for indicator, place in places.items() if place == worst)
    return (*CLASSES, WORSE)[worst], names


def _place(
    catalogue: Catalogue,
    indicator: str,
    value: float,
    water_body: str,
    beside: dict[str, float],
    at_ms: int | None,
) -> int | None:
    """Return the best class that ``value`` keeps as a place in CLASSES, None when none has a limit on it."""
    limited = False
    for place, water_class in enumerate(CLASSES):
        known: dict[str, str | float] = {
            "water_use": "surface",
            "water_class": water_class,
            "water_body": water_body,
        }
        conditions = Conditions(known, companions=beside)
        selections = [
            selection
            for rule in catalogue.rules.get(indicator, ())
            if rule[0].standard.startswith(_STANDARD)
            and (selection := select(rule, known, at_ms)) is not None
        ]
        limited = limited or bool(selections)
        rows = [row for selection in selections for row in selection.rows]
        if rows and all(judge_row(row, value, conditions, at_ms) is False for row in rows):
            return place
    return len(CLASSES) if limited else None
