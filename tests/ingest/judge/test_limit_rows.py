"""Every row of the two standards fires just above its limit and is silent at it, read straight from the files."""

import csv
import math

import pytest

from drivers.indicators import catalogue as indicators
from drivers.records import Verdict
from ingest.judge.catalogue import STANDARDS, standard_catalogue
from ingest.judge.conditions import check
from ingest.judge.readings import judge_reading

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
