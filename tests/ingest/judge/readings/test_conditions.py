"""The context of a reading: words that are known, companions, and what is wrong with the rest."""

import math

import pytest

from ingest.judge.readings.conditions import Conditions, check, of_plot
from ingest.registry.context import PlotContext


def test_yes_and_no_may_be_json_booleans():
    assert check({"salmonid": True, "shellfish": False}) == check(
        {"salmonid": "yes", "shellfish": "no"}
    )
    assert check({"land_use": True}).wrong == {
        "land_use": "True is not one of paddy, orchard, other, paddy_upland_rotation"
    }


@pytest.mark.parametrize("age", ["adult", "young"])
def test_an_animal_may_be_named_with_its_age(age):
    known = {"animal": "livestock", "animal_age": age}
    assert check({"animal": f"{age}_livestock"}) == Conditions(known)
    assert check({"animal": f"{age}_livestock", "animal_age": age}) == Conditions(known)


def test_an_age_that_contradicts_is_wrong_in_either_order():
    said = {"animal_age": "'young' contradicts animal 'adult_livestock'"}
    for context in (
        {"animal": "adult_livestock", "animal_age": "young"},
        {"animal_age": "young", "animal": "adult_livestock"},
    ):
        assert check(context) == Conditions({"animal": "livestock"}, said)


def test_companions_are_numbers_beside_the_conditions():
    checked = check({"water_ph": 8, "water_temperature": 25.5, "ph": 6.5})
    assert checked.companions == {"water_ph": 8.0, "water_temperature": 25.5}
    assert checked.known == {"ph": 6.5}


@pytest.mark.parametrize("value", ["8.1", True, 14.5, -1, math.nan, math.inf])
def test_a_companion_outside_what_can_exist_is_wrong(value):
    checked = check({"water_ph": value})
    assert checked.companions == {}
    assert checked.wrong == {"water_ph": f"{value!r} is not a number from 0 to 14 [pH]"}


def test_unknown_keys_are_told_with_the_nearest_known():
    assert check({"ice_coverd": "yes", "xyz": 1}).ignored == ("ice_coverd (ice_covered?)", "xyz")


def test_a_plot_gives_all_that_is_registered_of_it():
    plot = PlotContext(plot_id="p1", water_use="fishery", salmonid="yes", soil_ph=math.nan)
    assert of_plot(plot) == Conditions({"plot": "p1", "water_use": "fishery", "salmonid": "yes"})
    assert of_plot(PlotContext()) == Conditions()
    assert of_plot(None) == Conditions()
