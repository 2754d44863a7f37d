"""Limits in force: for a plot at a time, for a sample of a product."""

from __future__ import annotations

import dataclasses

import pytest

from ingest.judge.catalogue.catalogue import load, standard_catalogue
from ingest.judge.in_force import for_plot, for_sample
from ingest.judge.readings import conditions
from ingest.judge.readings.readings import judge_reading
from ingest.judge.records.rapid import time_ms
from ingest.registry.context import PlotContext

AT = time_ms("2026-07-01")
PADDY = PlotContext(
    plot_id="p", land_use="paddy", crop="paddy", water_use="irrigation", soil_ph=6.0
)


@pytest.fixture(scope="module")
def catalogue():
    return standard_catalogue()


def of(rules, indicator, level=None):
    return [r for r in rules if r.indicator == indicator and level in (None, r.level)]


def test_one_row_of_each_rule_applies_where_all_is_registered(catalogue):
    rules = for_plot(catalogue, PADDY, AT)
    [cadmium] = of(rules, "soil_cd", "screening")
    assert cadmium.is_known
    assert [(e.limit, e.conditions_zh) for e in cadmium.entries] == [("0.4", "水田 5.5<pH≤6.5")]
    assert {e.medium for r in rules for e in r.entries} == {"soil", "irrigation"}


def test_the_ph_of_a_probe_goes_before_the_registered_one(catalogue):
    [cadmium] = of(for_plot(catalogue, PADDY, AT, {"soil_ph": 5.2}), "soil_cd", "screening")
    assert [e.limit for e in cadmium.entries] == ["0.3"]
    nothing = for_plot(catalogue, PADDY, AT, {"soil_ph": float("nan")})
    [cadmium] = of(nothing, "soil_cd", "screening")
    assert [e.limit for e in cadmium.entries] == ["0.4"]


def test_a_missing_condition_is_named_with_the_rows_it_could_be(catalogue):
    [cadmium] = of(
        for_plot(catalogue, dataclasses.replace(PADDY, soil_ph=None), AT), "soil_cd", "screening"
    )
    assert cadmium.missing == ("ph",)
    assert not cadmium.is_known
    assert cadmium.complete
    assert [e.limit for e in cadmium.entries] == ["0.3", "0.4", "0.6", "0.8"]
    # What could not be told of the plot's water is said of each standard on water.
    unknown = for_plot(catalogue, PlotContext(plot_id="p"), AT)
    mercury = of(unknown, "water_hg")
    assert len(mercury) > 1
    assert all("water_use" in rule.missing and not rule.complete for rule in mercury)


def test_a_condition_with_a_wrong_value_is_named(catalogue):
    rules = for_plot(catalogue, dataclasses.replace(PADDY, land_use="forest"), AT)
    [cadmium] = of(rules, "soil_cd", "screening")
    assert set(cadmium.wrong) == {"land_use"}
    assert cadmium.missing == ()
    assert not cadmium.is_known


def test_two_bounds_and_two_rows_of_one_item_are_one_rule(catalogue):
    [ph] = of(for_plot(catalogue, PADDY, AT), "water_ph")
    assert [(e.comparator, e.limit) for e in ph.entries] == [("outside", "5.5–8.5")]
    pond = PlotContext(
        plot_id="p", water_use="fishery", water="freshwater", salmonid="no", ice_covered="no"
    )
    [oxygen] = of(for_plot(catalogue, pond, AT), "water_do")
    assert oxygen.is_known
    assert [(e.comparator, e.limit) for e in oxygen.entries] == [("<=", "5"), ("<", "3")]


def test_before_a_standard_came_into_force_it_has_no_limit(catalogue):
    assert of(for_plot(catalogue, PADDY, time_ms("2018-07-31")), "soil_cd") == []
    assert of(for_plot(catalogue, PADDY, time_ms("2018-08-01")), "soil_cd") != []


def test_a_site_s_own_limit_stands_beside_the_national_one(tmp_path):
    (tmp_path / "site_limits.csv").write_text(
        "site_standard,clause_zh,clause_en,level,indicator,conditions,plot,comparator,limit,unit,averaging,"
        "effective_from,effective_to,approved_by,note,source,confidence\n"
        "示范区 2026,镉 内控,cadmium,screening,soil_cd,,p,>,0.1,mg/kg,,2026-01-01,,,,the site,confirmed\n",
        "utf-8",
    )
    own = load(tmp_path)
    rules = of(for_plot(own, PADDY, AT), "soil_cd", "screening")
    assert sorted(e.limit for r in rules for e in r.entries) == ["0.1", "0.4"]
    elsewhere = for_plot(own, dataclasses.replace(PADDY, plot_id="q"), AT)
    assert [e.limit for r in of(elsewhere, "soil_cd", "screening") for e in r.entries] == ["0.4"]


@pytest.mark.parametrize("land_use", ["paddy", "orchard", "other", "paddy_upland_rotation", ""])
@pytest.mark.parametrize("ph", [5.5, 6.2, 7.9, None])
def test_it_names_the_rows_that_the_judge_compares(catalogue, land_use, ph):
    plot = dataclasses.replace(PADDY, land_use=land_use, soil_ph=ph)
    rules = for_plot(catalogue, plot, AT)
    for indicator in ("soil_cd", "soil_cu", "soil_ni", "water_ph", "water_cd"):
        judged = judge_reading(catalogue, indicator, 0.05, conditions.of_plot(plot), AT)
        cited = {(c.standard, c.limit_version) for c in judged.citations}
        said = {(e.standard, e.limit_version) for r in of(rules, indicator) for e in r.entries}
        assert said == cited, indicator


# ---- samples


def sample(catalogue, product, substance=None, at="2026-07-01"):
    known = catalogue.names.product(product)
    assert known is not None
    named = catalogue.names.substance(substance) if substance else None
    assert named is not None or not substance
    return for_sample(catalogue, known, named, time_ms(at))


def test_the_commodity_goes_before_its_group(catalogue):
    [tomato] = sample(catalogue, "番茄", "啶虫脒").residues
    assert (tomato.level, tomato.entry.limit, tomato.matched_zh) == ("commodity", "1", "番茄")
    assert tomato.entry.standard == "GB 2763-2026"
    assert tomato.definition is not None
    [pepper] = sample(catalogue, "辣椒", "啶虫脒").residues
    assert pepper.level == "group"


def test_the_edition_goes_by_the_day_of_sampling_and_a_fallback_is_said(catalogue):
    before = sample(catalogue, "糙米", "阿维菌素", at="2026-02-28")
    assert [(r.entry.standard, r.fallback_zh) for r in before.residues] == [("GB 2763-2021", "")]
    [after] = sample(catalogue, "糙米", "阿维菌素").residues
    assert after.entry.standard == "GB 2763-2021"
    assert "GB 2763-2026" in after.fallback_zh
    assert "GB 2763-2026" in after.fallback_en


def test_why_there_is_no_limit_is_said(catalogue):
    none = sample(catalogue, "番茄", "啶虫脒", at="2001-01-01")
    assert none.residues == ()
    assert "尚无啶虫脒" in none.reason_zh
    clenbuterol = sample(catalogue, "猪肉", "克仑特罗")
    assert clenbuterol.residues == ()
    assert "没有" in clenbuterol.reason_zh
    assert clenbuterol.reason_en


def test_a_ban_counts_from_its_day_and_for_its_products(catalogue):
    [ban] = sample(catalogue, "番茄", "克百威").bans
    assert (ban.entry.standard, ban.reach) == ("MARA notice 736", "inside")
    [ban] = sample(catalogue, "番茄", "克百威", at="2026-05-31").bans
    assert (ban.entry.level, ban.reach) == ("restricted", "inside")
    assert sample(catalogue, "小麦", "克百威", at="2026-05-31").bans == ()
    [pork] = sample(catalogue, "猪肉", "克仑特罗").bans
    assert pork.entry.standard == "MARA notice 250"


def test_the_methods_for_a_product_are_named_and_detection_limits_are_not(catalogue):
    limits = sample(catalogue, "番茄", "有机磷和氨基甲酸酯类农药")
    assert {(e.standard, e.limit) for e in limits.methods if e.level == "cut_off"} == {
        ("GB/T 5009.199-2003", "50"),
        ("NY/T 448-2001", "70"),
    }
    fish = sample(catalogue, "草鱼")
    assert {e.subject for e in fish.methods} >= {"chloramphenicol"}
    assert not any(e.kind == "never_alone" for e in fish.methods)
    assert not any(e.level == "cut_off" for e in fish.methods)


def test_without_a_substance_all_that_a_product_is_judged_by_is_named(catalogue):
    tomato = sample(catalogue, "番茄")
    substances = {r.substance for r in tomato.residues}
    assert "acetamiprid" in substances
    assert len(substances) > 30
    assert {b.entry.subject for b in tomato.bans} >= {"carbofuran", "parathion"}
    assert (tomato.reason_zh, tomato.reason_en) == ("", "")
