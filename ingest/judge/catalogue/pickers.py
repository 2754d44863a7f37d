"""What one row of each table of limits on readings asks for: the conditions under which it applies, and its words."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from ingest.judge.catalogue.limits import KEY_VALUES, PADDY_UPLAND, Alternative, Band, Duration
from ingest.judge.catalogue.tables import Row, decimal_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from decimal import Decimal

WEEKLY_MEAN = "weekly mean"

Where = dict[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Picked:
    """What one row of a limit table asks for.

    The row applies in any of ``cases``, words per condition and a pH band each, no two of which overlap. ``zh`` and
    ``en`` are its words for the clause.
    """

    cases: tuple[tuple[Where, Band | None], ...]
    zh: str
    en: str
    averaging: str = ""
    duration: Duration | None = None
    unless: Alternative | None = None


def _any_of(*words: str) -> frozenset[str]:
    return frozenset(words)


def spoken(words: Iterable[str]) -> str:
    """Return the words that are not blank, as a clause has them in Chinese."""
    return " ".join(filter(None, words))


_LAND = {
    "any": ("", ""),
    "paddy": ("水田", "paddy"),
    "orchard": ("果园", "orchard"),
    "other": ("其他", "other land"),
}
_LAND_WORDS = tuple(word for word in KEY_VALUES["land_use"] if word != PADDY_UPLAND)
_ROTATED = ("paddy", "other")
"""The land uses of which a rotation takes the stricter."""


def pick_soil(row: Row, rows: Sequence[Row]) -> Picked:
    """GB 15618: 其他 is every land use that the same item does not name (orchard counts for copper only)."""
    land_use = row.word("land_use", (*_LAND_WORDS, "any")) or "any"
    low, high = row.decimal("ph_min_exclusive"), row.decimal("ph_max_inclusive")
    band = _band(low, high)
    if low is not None and high is not None and low >= high:
        row.fault("ph_min_exclusive", f"the band {band} is empty")
        band = None
    item = [r for r in rows if _item(r) == _item(row)]
    named = {r["land_use"] for r in item}
    cases: list[tuple[Where, Band | None]] = []
    rotation: list[Band | None] = []
    if {*_ROTATED} <= named and land_use in _ROTATED:
        rivals = [r for r in item if r["land_use"] in _ROTATED]
        rotation = _stricter_bands(row, rivals)
        if any(r["unit"] != row["unit"] for r in rivals):
            row.fault("unit", "the rows for paddy and other must be in one unit to be compared")
    words = _any_of(land_use)
    if land_use == "other":
        words = frozenset(KEY_VALUES["land_use"]) - (named - {"other"})
        if "paddy" in named:
            words -= {PADDY_UPLAND}
    elif land_use == "paddy" and "other" not in named:
        words |= {PADDY_UPLAND}
    if rotation == [band]:
        words, rotation = words | {PADDY_UPLAND}, []
    cases.append(({} if land_use == "any" else {"land_use": words}, band))
    cases += [({"land_use": _any_of(PADDY_UPLAND)}, part) for part in rotation]
    zh, en = _LAND[land_use]
    return Picked(tuple(cases), spoken((zh, str(band or ""))), joined(en, _band_en(band)))


def _item(row: Row) -> tuple[str, str, str]:
    return row["standard"], row["level"], row["analyte"]


def _band(low: Decimal | None, high: Decimal | None) -> Band | None:
    if low is None and high is None:
        return None
    return Band(None if low is None else float(low), None if high is None else float(high))


def _band_en(band: Band | None) -> str:
    if band is None:
        return ""
    if band.low is None:
        return f"pH ≤ {band.high:g}"
    return f"pH > {band.low:g}" if band.high is None else f"{band.low:g} < pH ≤ {band.high:g}"


def joined(*words: str) -> str:
    """Return the words that are not blank, as a clause has them in English."""
    return ", ".join(filter(None, words))


def _stricter_bands(row: Row, rivals: Sequence[Row]) -> list[Band | None]:
    """Return where ``row`` is the strictest of ``rivals`` (itself among them); of equals the first row is taken."""
    spans = {r.line: (_bound(r, "ph_min_exclusive"), _bound(r, "ph_max_inclusive")) for r in rivals}
    edges = sorted({edge for span in spans.values() for edge in span if edge is not None})
    won: list[Band] = []
    for low, high in itertools.pairwise([None, *edges, None]):
        there = [r for r in rivals if _covers(spans[r.line], low, high)]
        if there and min(there, key=_strictness) is row:
            if won and won[-1].high == low is not None:
                low = won.pop().low  # noqa: PLW2901 - one band with the part before
            won.append(Band(low, high))
    return [None if band == Band() else band for band in won]


def _bound(row: Row, column: str) -> float | None:
    number = decimal_of(row[column])
    return None if number is None else float(number)


def _covers(span: tuple[float | None, float | None], low: float | None, high: float | None) -> bool:
    from_below = span[0] is None or (low is not None and span[0] <= low)
    return from_below and (span[1] is None or (high is not None and high <= span[1]))


def _strictness(row: Row) -> Fraction:
    """Return a number that is smaller for a stricter row; the rows of an item are in one unit."""
    least = row["direction"] == "min"
    number = decimal_of(row["limit_min" if least and "limit_min" in row.cells else "limit"])
    return Fraction(0) if number is None else Fraction(-number if least else number)


_CROPS_EN = {
    "all": "",
    "paddy": "paddy crops",
    "dry": "dryland crops",
    "vegetable_processed": "vegetables processed, cooked or peeled",
    "vegetable_raw": "vegetables eaten raw, melons and herbaceous fruit",
}
_CONDITIONS = {
    "non_saline_soil": ("soil_salinity", "非盐碱土地区", "non-saline soil"),
    "saline_alkali_soil": ("soil_salinity", "盐碱土地区", "saline-alkali soil"),
    "general_area": ("fluoride_area", "一般地区", "general areas"),
    "high_fluoride_area": ("fluoride_area", "高氟区", "high-fluoride areas"),
    "boron_sensitive_crop": ("boron_tolerance", "对硼敏感作物", "boron-sensitive crops"),
    "boron_tolerant_crop": ("boron_tolerance", "对硼耐受性较强的作物", "boron-tolerant crops"),
    "boron_strongly_tolerant_crop": (
        "boron_tolerance",
        "对硼耐受性强的作物",
        "strongly boron-tolerant crops",
    ),
}


def pick_irrigation(row: Row, _rows: Sequence[Row]) -> Picked:
    """GB 5084: the crop picks the column; salt, fluoride and boron depend on the place or the crop's tolerance."""
    where = {"water_use": _any_of("irrigation")}
    zh, en = [], []
    crop = row.word("crop", tuple(_CROPS_EN)) or "all"
    if crop != "all":
        where["crop"] = _any_of(crop)
        zh.append(row["crop_zh"])
        en.append(_CROPS_EN[crop])
    if row["condition"] and row.word("condition", tuple(_CONDITIONS)):
        key, condition_zh, condition_en = _CONDITIONS[row["condition"]]
        where[key] = _any_of(row["condition"])
        zh.append(condition_zh)
        en.append(condition_en)
    return Picked(((where, None),), " ".join(zh), joined(*en))


_WATERS = {
    "any": ({}, "", ""),
    "freshwater": ({"water": "freshwater"}, "淡水", "fresh water"),
    "seawater": ({"water": "seawater"}, "海水", "sea water"),
    "salmonid waters": ({"salmonid": "yes"}, "鲑科鱼类栖息水域", "salmonid waters"),
    "shellfish culture": ({"shellfish": "yes"}, "贝类养殖水域", "shellfish culture"),
}
_ICE_EXCEPTED = "any other time, ice-covered period excepted"
_WHEN = {
    "": ("", ""),
    "ice-covered period": ("冰封期", "ice-covered period"),
    "any other time": ("其余任何时候", "at any other time"),
    _ICE_EXCEPTED: ("其余任何时候，冰封期除外", "at any other time, ice-covered period excepted"),
}
_HOURS = re.compile(r"at least ([0-9]+) h of any continuous ([0-9]+) h")
_HOUR_MS = 3_600_000


def pick_fishery(row: Row, rows: Sequence[Row]) -> Picked:
    """GB 11607: a row for special waters or for the ice-covered period takes its place from the row for all."""
    water = row.word("water", tuple(_WATERS)) or "any"
    words, water_zh, water_en = _WATERS[water]
    when, duration = row["condition"], None
    hours = _HOURS.fullmatch(when)
    if hours is not None:
        least, window = int(hours[1]), int(hours[2])
        duration = Duration(window * _HOUR_MS, least * _HOUR_MS)
        when_zh = f"连续{window}h中，{least}h以上"
        when_en = f"at least {least} h of any continuous {window} h"
    else:
        when_zh, when_en = _WHEN[row.word("condition", tuple(_WHEN)) or ""]
    where: Where = {"water_use": _any_of("fishery")} | {k: _any_of(v) for k, v in words.items()}
    if when == _ICE_EXCEPTED:
        where["ice_covered"] = _any_of("no")
    elif when == "ice-covered period":
        where["ice_covered"] = _any_of("yes")
    cases = [where]
    if duration is None and water == "any":
        rivals = [r for r in rows if _same_item(r, row)]
        cases = _left_over(where, when, {(r["water"], r["condition"]) for r in rivals})
    return Picked(
        tuple((case, None) for case in cases),
        spoken((water_zh, when_zh)),
        joined(water_en, when_en),
        duration=duration,
    )


def _same_item(row: Row, other: Row) -> bool:
    return (row["standard"], row["analyte"]) == (other["standard"], other["analyte"])


def _left_over(where: Where, when: str, rows: set[tuple[str, str]]) -> list[Where]:
    """Return the cases in which a row for any water stands, beside the more special rows of its item."""
    if ("salmonid waters", _ICE_EXCEPTED) in rows and when == "any other time":
        salmonid = {"salmonid": _any_of("yes"), "ice_covered": _any_of("yes")}
        return [where | {"salmonid": _any_of("no")}, where | salmonid]
    if ("shellfish culture", when) in rows:
        where = where | {"shellfish": _any_of("no")}
    if ("salmonid waters", when) in rows:
        where = where | {"salmonid": _any_of("no")}
    if not when and ("any", "ice-covered period") in rows:
        where = where | {"ice_covered": _any_of("no")}
    return [where]


_BODIES = {
    "any": ("", "", ""),
    "river": ("river", "河流", "rivers"),
    "lake_reservoir": ("lake", "湖、库", "lakes and reservoirs"),
}
_CLASSES_ZH = dict(zip(KEY_VALUES["water_class"], "ⅠⅡⅢⅣⅤ", strict=True))
_SATURATION = re.compile(r"class (\w+): ([0-9]+) % saturation or [0-9.]+ mg/L")


def pick_surface(row: Row, _rows: Sequence[Row]) -> Picked:
    """GB 3838: the class of the water, and whether it flows; oxygen of class I may be 90 % of saturation instead."""
    where = {"water_use": _any_of("surface")}
    water_class = row.word("class", KEY_VALUES["water_class"])
    if water_class is not None:
        where["water_class"] = _any_of(water_class)
    body, body_zh, body_en = _BODIES[row.word("water_body", tuple(_BODIES)) or "any"]
    if body:
        where["water_body"] = _any_of(body)
    saturation = _SATURATION.search(row["note"])
    unless = None
    zh, en = [f"{_CLASSES_ZH.get(row['class'], '')}类", body_zh], [f"class {row['class']}", body_en]
    if saturation is not None and saturation[1] == water_class:
        unless = Alternative("water_do_saturation", float(saturation[2]))
        zh.append(f"或饱和率{saturation[2]}%")
        en.append(f"or {saturation[2]} % saturation")
    return Picked(
        ((where, None),),
        spoken(zh),
        joined(*en),
        averaging=WEEKLY_MEAN if WEEKLY_MEAN in row["note"] else "",
        unless=unless,
    )


_ANIMALS = {
    "livestock": ({"animal": "livestock"}, "livestock"),
    "poultry": ({"animal": "poultry"}, "poultry"),
    "adult_livestock": ({"animal": "livestock", "animal_age": "adult"}, "adult livestock"),
    "young_livestock": ({"animal": "livestock", "animal_age": "young"}, "young livestock"),
}


def pick_livestock(row: Row, _rows: Sequence[Row]) -> Picked:
    """NY 5027: the animal that drinks picks the column, for coliforms also whether it is grown."""
    where = {"water_use": _any_of("livestock")}
    animal = row.word("animal", tuple(_ANIMALS))
    words, en = _ANIMALS.get(animal or "", ({}, ""))
    where |= {key: _any_of(word) for key, word in words.items()}
    return Picked(((where, None),), row["animal_zh"], en)
