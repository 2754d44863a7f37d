"""What a row covers and what stands beneath what."""

import csv
from pathlib import Path

import pytest

from ingest.judge.catalogue.catalogue import STANDARDS, standard_catalogue
from ingest.judge.catalogue.commodities import (
    Commodities,
    Scope,
    load_commodities,
    split_exceptions,
)

TREE = standard_catalogue().residues.commodities


@pytest.mark.parametrize(
    ("text", "base", "excepted"),
    [
        ("叶菜类蔬菜(芹菜除外)", "叶菜类蔬菜", ("芹菜",)),
        ("柑橘类水果(柑、橘、橙除外)", "柑橘类水果", ("柑", "橘", "橙")),
        ("核果类水果[枣(鲜)除外]", "核果类水果", ("枣(鲜)",)),
        ("蘑菇类(鲜)[双孢蘑菇(鲜)除外]", "蘑菇类(鲜)", ("双孢蘑菇(鲜)",)),
        (
            "浆果和其他小型类水果[枸杞(鲜)、葡萄、猕猴桃除外]",
            "浆果和其他小型类水果",
            ("枸杞(鲜)", "葡萄", "猕猴桃"),
        ),
        ("豌豆(干)", "豌豆(干)", ()),
        ("蘑菇类(鲜)", "蘑菇类(鲜)", ()),
        ("除外)", "除外)", ()),
    ],
)
def test_exceptions_are_split_off(text: str, base: str, excepted: tuple[str, ...]):
    assert split_exceptions(text) == (base, excepted)


def test_full_width_brackets_are_read_alike():
    assert TREE.scope("叶菜类蔬菜（芹菜除外）") == TREE.scope("叶菜类蔬菜(芹菜除外)")


def test_fat_basis_is_not_part_of_the_name():
    scope = TREE.scope("哺乳动物肉类(海洋哺乳动物除外),以脂肪中的残留量计")
    assert scope == Scope(("哺乳动物肉类",), frozenset({"海洋哺乳动物"}), fat_basis=True)


def test_two_names_of_a_row():
    assert TREE.scope("稻谷/大米").bases == ("稻谷", "大米")


def test_an_exception_without_a_form_leaves_both_forms_out():
    excepted = TREE.scope("豆类蔬菜(菜豆、食荚豌豆、菜用大豆、蚕豆和豌豆除外)").excepted
    assert {"蚕豆(鲜)", "豌豆(鲜)", "菜豆", "食荚豌豆", "菜用大豆"} <= excepted
    assert {"蚕豆(干)", "豌豆(干)"} <= TREE.scope("杂粮类(绿豆、豌豆、蚕豆除外)").excepted


@pytest.mark.parametrize("text", ["蔬果(番茄除外)", "茄果类蔬菜(番茄、月茄除外)", "稻谷/面"])
def test_strangers_are_named(text: str):
    with pytest.raises(ValueError, match=r"'(蔬果|月茄|面)' is not a known commodity"):
        TREE.scope(text)


@pytest.mark.parametrize(
    ("name", "lineage"),
    [
        ("豇豆", ("豇豆", "荚可食类豆类蔬菜", "豆类蔬菜")),
        ("青花菜", ("青花菜", "头状花序芸薹属类蔬菜", "芸薹属类蔬菜")),
        ("哈密瓜", ("哈密瓜", "甜瓜类水果", "瓜果类水果")),
        ("萝卜", ("萝卜", "根茎类蔬菜", "根茎类和薯芋类蔬菜")),
        ("马铃薯", ("马铃薯", "根茎类和薯芋类蔬菜")),
        ("双孢蘑菇(鲜)", ("双孢蘑菇(鲜)", "蘑菇类(鲜)", "食用菌")),
        ("猪肝", ("猪肝", "猪内脏", "哺乳动物内脏")),
        ("茶叶", ("茶叶",)),
    ],
)
def test_lineage_climbs_to_the_nearest_group_first(name: str, lineage: tuple[str, ...]):
    assert TREE.lineage(name) == lineage


def test_what_a_table_excepts_from_a_group_stands_beneath_it():
    strangers = []
    for file in ("mrl_gb2763_2021.csv", "mrl_gb2763_2026.csv"):
        with (STANDARDS / file).open(encoding="utf-8", newline="") as handle:
            for row in csv.DictReader(handle):
                scope = TREE.scope(row["commodity_zh"])
                beneath = {x for x in scope.excepted if {*TREE.lineage(x)} & {*scope.bases}}
                _, said = split_exceptions(row["commodity_zh"].split(",以")[0])
                if len(beneath) < len({x for name in said for x in name.split("和")}):
                    strangers.append(row["commodity_zh"])
    # A pea is no edible-podded pea, and no product here comes from the sea's mammals.
    assert {x for x in strangers if "海洋哺乳动物" not in x} == {"食荚豌豆(豌豆除外)"}


def test_a_commodity_stands_under_a_group_of_its_own_class():
    groups = {p.name_zh: p.group for p in standard_catalogue().names.products.values()}
    apart = {(c, p) for c, p in TREE.parents.items() if groups[c] != groups[p]}
    assert apart == {("芫荽", "叶类调味料")}


def test_a_form_is_a_commodity_of_its_own():
    assert TREE.forms("枸杞") == ("枸杞(鲜)", "枸杞(干)")
    assert TREE.forms("番茄") == ()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("丙,丁", "parent_zh: '丁' is not a known commodity"),
        ("丁,甲", "child_zh: '丁' is not a known commodity"),
        ("甲,丙", "child_zh: '甲' stands under '乙' above"),
        ("丙,甲", "parent_zh: '丙' would stand above itself"),
    ],
)
def test_a_bad_line_of_the_tree_is_refused(tmp_path: Path, line: str, said: str):
    path = tmp_path / "tree.csv"
    head = "child_zh,parent_zh,source,confidence\n甲,乙,test,recalled\n乙,丙,test,recalled\n"
    path.write_text(f"{head}{line},test,recalled\n", encoding="utf-8")
    faults: list[str] = []
    load_commodities(path, {"甲", "乙", "丙"}, faults)
    assert faults == [f"tree.csv:4: {said}"]


def test_a_tree_climbs_and_ends():
    tree = Commodities({"a", "b", "c"}, {"a": "b", "b": "c"})
    assert tree.lineage("a") == ("a", "b", "c")
    assert tree.lineage("x") == ("x",)
