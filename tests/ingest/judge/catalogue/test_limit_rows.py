"""Every row of the tables of readings is the one that is picked under its conditions, read straight from the files.

Those of soil and irrigation water also go through the judge: they fire just above the limit and are silent at it.
"""

import csv
import math

import pytest

from drivers.indicators import catalogue as indicators
from drivers.records import Verdict
from ingest.judge.catalogue.catalogue import STANDARDS, standard_catalogue
from ingest.judge.catalogue.limits import select
from ingest.judge.readings.conditions import check
from ingest.judge.readings.readings import judge_reading

KEY_OF_CONDITION = {
    "non_saline_soil": "soil_salinity",
    "saline_alkali_soil": "soil_salinity",
    "general_area": "fluoride_area",
    "high_fluoride_area": "fluoride_area",
    "boron_sensitive_crop": "boron_tolerance",
    "boron_tolerant_crop": "boron_tolerance",
    "boron_strongly_tolerant_crop": "boron_tolerance",
}
MAY_2026 = 1_777_564_800_000


def rows(file):
    with (STANDARDS / file).open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def indicator_of(medium, analyte):
    key = f"{medium}:{analyte}"
    return next(i.code for i in indicators().values() if key in i.standards_analytes)


def soil_cases():
    for row in rows("soil_gb15618_2018.csv"):
        low, high = row["ph_min_exclusive"], row["ph_max_inclusive"]
        # Bounds: exclusive below, inclusive above.
        phs = [float(high)] if high else [9.0]
        phs += [math.nextafter(float(low), 14) + 1e-9] if low else [3.0]
        lands = [row["land_use"]] if row["land_use"] != "any" else ["paddy", "orchard", "other"]
        for ph in phs if low or high else [None]:
            for land in lands:
                yield row, indicator_of("soil", row["analyte"]), {"ph": ph, "land_use": land}


def water_cases():
    for row in rows("irrigation_gb5084_2021.csv"):
        crops = [row["crop"]]
        if row["crop"] == "all":
            crops = ["paddy", "dry", "vegetable_processed", "vegetable_raw"]
        for crop in crops:
            context = {"water_use": "irrigation", "crop": crop}
            if row["condition"]:
                context[KEY_OF_CONDITION[row["condition"]]] = row["condition"]
            yield row, indicator_of("irrigation", row["analyte"]), context


def judged(indicator, value, context, level):
    judgement = judge_reading(standard_catalogue(), indicator, value, check(context), MAY_2026)
    ours = [c for c in judgement.citations if c.level == level]
    return judgement, ours


@pytest.mark.parametrize(
    ("row", "indicator", "context"),
    [pytest.param(*c, id=f"{c[1]}-{i}") for i, c in enumerate([*soil_cases(), *water_cases()])],
)
def test_fires_just_above_and_is_silent_at_the_limit(row, indicator, context):
    level = row.get("level") or row["item_class"]
    limit = float(row["limit"])
    above = limit * (1 + 1e-9)
    judgement, at = judged(indicator, limit, context, level)
    assert [c.limit for c in at if c.comparator == ">"] == [limit]
    assert not any(c.exceeded for c in at)
    assert at[0].verified == (row["confidence"] == "confirmed")
    assert row["analyte_zh"] in at[0].clause
    judgement, over = judged(indicator, above, context, level)
    assert [c.exceeded for c in over if c.comparator == ">"] == [True]
    assert judgement.verdict is Verdict.EXCEED
    if row["direction"] == "range":
        least = float(row["limit_min"])
        _, at = judged(indicator, least, context, level)
        assert not any(c.exceeded for c in at)
        judgement, under = judged(indicator, least * (1 - 1e-9), context, level)
        assert [c.exceeded for c in under if c.comparator == "<"] == [True]
        assert judgement.verdict is Verdict.EXCEED


WATERS = {
    "any": {"water": "freshwater", "salmonid": "no", "shellfish": "no"},
    "freshwater": {"water": "freshwater"},
    "seawater": {"water": "seawater"},
    "salmonid waters": {"salmonid": "yes"},
    "shellfish culture": {"water": "seawater", "shellfish": "yes"},
}
SEASONS = {
    "ice-covered period": "yes",
    "any other time, ice-covered period excepted": "no",
}
ANIMALS = {
    "livestock": {"animal": "livestock"},
    "poultry": {"animal": "poultry"},
    "adult_livestock": {"animal": "livestock", "animal_age": "adult"},
    "young_livestock": {"animal": "livestock", "animal_age": "young"},
}


def water_table_cases():
    for row in rows("fishery_gb11607_1989.csv"):
        ice = {"ice_covered": SEASONS.get(row["condition"], "no")}
        yield "fishery", row, {"water_use": "fishery"} | ice | WATERS[row["water"]]
    for row in rows("surface_water_gb3838_2002.csv"):
        bodies = {"river": ["river"], "lake_reservoir": ["lake"], "any": ["river", "lake"]}
        for body in bodies[row["water_body"]]:
            context = {"water_use": "surface", "water_class": row["class"], "water_body": body}
            yield "surface", row, context
    for row in rows("livestock_water_ny5027.csv"):
        yield "livestock", row, {"water_use": "livestock"} | ANIMALS[row["animal"]]


def picked(medium, row, context):
    """Return the rows that apply, one of each bound, with those of its own standard only."""
    found = []
    for rule in standard_catalogue().rules[indicator_of(medium, row["analyte"])]:
        if rule[0].standard == row["standard"]:
            selection = select(rule, context, MAY_2026)
            found += [] if selection is None else selection.rows
    return found


@pytest.mark.parametrize(
    ("medium", "row", "context"),
    [
        pytest.param(*case, id=f"{case[0]}-{case[1]['analyte']}-{i}")
        for i, case in enumerate(water_table_cases())
    ],
)
def test_a_row_of_the_water_tables_is_picked_under_its_conditions(medium, row, context):
    window = row["condition"].startswith("at least") if medium == "fishery" else False
    wanted = {">": row["limit"]} if row["limit"] else {}
    if row["limit_min"]:
        wanted["<=" if window else "<"] = row["limit_min"]
    found = {x.comparator.value: x for x in picked(medium, row, context)}
    assert {sign: float(found[sign].limit) for sign in wanted} == {
        sign: float(text) for sign, text in wanted.items()
    }
    for sign, text in wanted.items():
        # The units of these tables are the catalogue's, but for a count per 100 mL.
        factor = 10 if row["unit"] == "{MPN}/(100.mL)" else 1
        limit = float(text) * factor
        assert found[sign].broken_by(limit) == (sign == "<=")
        assert found[sign].broken_by(limit * (1 + 1e-9)) == (sign == ">")
        assert found[sign].broken_by(limit * (1 - 1e-9)) == (sign != ">")


def picked_do(**context):
    row = {"standard": "GB 11607-1989", "analyte": "DO"}
    found = picked("fishery", row, {"water_use": "fishery"} | context)
    return sorted({(x.comparator.value, float(x.limit)) for x in found})


def test_oxygen_of_fish_water_depends_on_salmonids_and_ice():
    most_of_a_day = ("<=", 5.0)
    assert picked_do(salmonid="no") == [("<", 3.0), most_of_a_day]
    assert picked_do(salmonid="no", ice_covered="yes") == [("<", 3.0), most_of_a_day]
    assert picked_do(salmonid="yes", ice_covered="no") == [("<", 4.0), most_of_a_day]
    assert picked_do(salmonid="yes", ice_covered="yes") == [("<", 3.0), most_of_a_day]
    # Not known: both that it could be, and what all have in common.
    assert picked_do(salmonid="yes") == [("<", 3.0), ("<", 4.0), most_of_a_day]
    assert picked_do() == [("<", 3.0), ("<", 4.0), most_of_a_day]


def test_lake_limits_do_not_apply_to_rivers():
    row = {"standard": "GB 3838-2002", "analyte": "TN"}
    context = {"water_use": "surface", "water_class": "III"}
    assert picked("surface", row, context | {"water_body": "river"}) == []
    [limit] = picked("surface", row, context | {"water_body": "lake"})
    assert float(limit.limit) == 1.0
