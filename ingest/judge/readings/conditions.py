"""The context of a reading or a plot, checked: conditions that are known, and what is wrong with the others."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from drivers import indicators
from ingest.judge.catalogue.limits import COMPANION_KEYS, KEY_VALUES, PH, PLOT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ingest.registry.context import PlotContext

_KNOWN = (PH, PLOT, *KEY_VALUES, *COMPANION_KEYS)
_MAX_PH = 14.0
_YES_NO = ("no", "yes")
_ANIMALS = {
    "adult_livestock": ("livestock", "adult"),
    "young_livestock": ("livestock", "young"),
}
"""Words for an animal that say its age, too."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """``known`` conditions; ``wrong`` maps a key to what is wrong with its value; ``ignored`` keys mean nothing.

    ``companions`` are readings taken with the one that is judged, by indicator, in the catalogue's unit.
    """

    known: dict[str, str | float] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    companions: dict[str, float] = field(default_factory=dict)


def check(context: Mapping[str, str | float | bool | None]) -> Conditions:
    """Check the context of ``agrigate judge``; None and blank are missing.

    >>> check({"ph": 6.8, "land_use": "forest", "landuse": "paddy"}).wrong
    {'land_use': "'forest' is not one of paddy, orchard, other, paddy_upland_rotation"}
    >>> check({"animal": "young_livestock", "salmonid": True}).known
    {'animal': 'livestock', 'animal_age': 'young', 'salmonid': 'yes'}
    """
    known: dict[str, str | float] = {}
    wrong: dict[str, str] = {}
    companions: dict[str, float] = {}
    ignored = []
    for key, value in _spread(context, wrong):
        if value is None or value == "":
            continue
        if key == PH:
            if isinstance(value, bool | str) or not 0 <= value <= _MAX_PH:
                wrong[key] = f"{value!r} is not a number from 0 to 14"
            else:
                known[key] = float(value)
        elif key == PLOT:
            if isinstance(value, str):
                known[key] = value
            else:
                wrong[key] = f"{value!r} is not the id of a plot"
        elif key in KEY_VALUES:
            words = KEY_VALUES[key]
            word = _YES_NO[value] if isinstance(value, bool) else value
            if isinstance(word, str) and word in words:
                known[key] = word
            else:
                wrong[key] = f"{value!r} is not one of {', '.join(words)}"
        elif key in COMPANION_KEYS:
            fault = _companion_fault(key, value)
            if fault or isinstance(value, str):
                wrong[key] = fault
            else:
                companions[key] = float(value)
        else:
            near = difflib.get_close_matches(key[:40], _KNOWN, n=1)
            ignored.append(f"{key[:40]} ({near[0]}?)" if near else key[:40])
    return Conditions(known, wrong, tuple(ignored), companions)


def _spread(
    context: Mapping[str, str | float | bool | None], wrong: dict[str, str]
) -> list[tuple[str, str | float | bool | None]]:
    """Return the items of ``context``, an animal with its age as two of them."""
    items: list[tuple[str, str | float | bool | None]] = []
    for key, value in context.items():
        if key != "animal" or not isinstance(value, str) or value not in _ANIMALS:
            items.append((key, value))
            continue
        animal, age = _ANIMALS[value]
        items += [("animal", animal), ("animal_age", age)]
        if context.get("animal_age") not in {None, "", age}:
            wrong["animal_age"] = f"{context['animal_age']!r} contradicts animal {value!r}"
    if "animal_age" in wrong:
        items = [item for item in items if item[0] != "animal_age"]
    return items


def _companion_fault(indicator: str, value: str | float) -> str:
    """Return what is wrong with the value of a companion reading, blank for nothing."""
    about = indicators.lookup(indicator)
    low = -math.inf if about.physical_min is None else about.physical_min
    high = math.inf if about.physical_max is None else about.physical_max
    if isinstance(value, bool | str) or not math.isfinite(value) or not low <= value <= high:
        return f"{value!r} is not a number from {low:g} to {high:g} {about.unit}"
    return ""


def of_plot(plot: PlotContext | None) -> Conditions:
    """Return the conditions that a plot's registration gives; without a plot none is known."""
    if plot is None:
        return Conditions()
    context: dict[str, str | float | bool | None] = {
        key: getattr(plot, key) for key in KEY_VALUES if key in plot.__slots__
    }
    context[PLOT] = plot.plot_id
    ph = plot.soil_ph
    context[PH] = None if ph is None or math.isnan(ph) else ph
    return check(context)
