"""The context of a reading or a plot, checked: conditions that are known, and what is wrong with the others."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ingest.judge.limits import FREE_KEYS, KEY_VALUES, PH

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ingest.registry.context import PlotContext

_KNOWN = (PH, *KEY_VALUES, *FREE_KEYS)
_MAX_PH = 14.0


@dataclass(frozen=True, slots=True)
class Conditions:
    """``known`` conditions; ``wrong`` maps a key to what is wrong with its value; ``ignored`` keys mean nothing."""

    known: dict[str, str | float] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()


def check(context: Mapping[str, str | float | bool | None]) -> Conditions:
    """Check the context of ``agrigate judge``; None and blank are missing.

    >>> check({"ph": 6.8, "land_use": "forest", "landuse": "paddy"}).wrong
    {'land_use': "'forest' is not one of paddy, orchard, other"}
    """
    known: dict[str, str | float] = {}
    wrong: dict[str, str] = {}
    ignored = []
    for key, value in context.items():
        if value is None or value == "":
            continue
        if key == PH:
            if isinstance(value, bool | str) or not 0 <= value <= _MAX_PH:
                wrong[key] = f"{value!r} is not a number from 0 to 14"
            else:
                known[key] = float(value)
        elif key in KEY_VALUES:
            if isinstance(value, str) and value in KEY_VALUES[key]:
                known[key] = value
            else:
                wrong[key] = f"{value!r} is not one of {', '.join(KEY_VALUES[key])}"
        elif key not in FREE_KEYS:
            near = difflib.get_close_matches(key[:40], _KNOWN, n=1)
            ignored.append(f"{key[:40]} ({near[0]}?)" if near else key[:40])
    return Conditions(known, wrong, tuple(ignored))


def of_plot(plot: PlotContext | None) -> Conditions:
    """Return the conditions that a plot's registration gives; without a plot none is known."""
    if plot is None:
        return Conditions()
    context: dict[str, str | float | bool | None] = {
        key: getattr(plot, key) for key in KEY_VALUES if key in plot.__slots__
    }
    ph = plot.soil_ph
    context[PH] = None if ph is None or math.isnan(ph) else ph
    return check(context)
