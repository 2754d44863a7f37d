"""The table of clocks: complete, and of one piece with the table of steps."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from alerts.cases.clocks import BY_NAME, TABLE
from alerts.cases.rules import Rules, parse_lengths, parse_supplement
from alerts.cases.steps import TABLE as STEPS
from alerts.states import Trigger

LAW = {  # domain record §9
    "objection_rapid": ("4 h", "4 h", "第五十一条"),
    "objection_laboratory": ("5 wd", "7 wd", "第五十一条"),
    "re_inspection": ("7 wd", "7 wd", "第五十一条"),
    "preservation": ("7 wd", "7 wd", "第五十六条"),
    "penalty": ("90 d", "90 d", "第六十条"),
    "transfer_decision": ("3 d", "3 d", "第五条"),
    "transfer": ("24 h", "24 h", "第五条"),
    "police_decision": ("3 d", "3 d", "第八条"),
    "goods_handover": ("3 d", "3 d", "第十二条"),
    "limitation": ("2 y", "2 y", "第三十六条"),
    "limitation_harm": ("5 y", "5 y", "第三十六条"),
    "disclosure": ("20 wd", "20 wd", "第二十六条"),
    "withdrawal": ("3 wd", "3 wd", "第四十八条"),
    "retest": ("7 wd", "7 wd", "内部期限"),
    "receipt": ("2 wd", "2 wd", "内部期限"),
}


@pytest.mark.parametrize("name", LAW)
def test_length_and_article(name: str) -> None:
    clock = BY_NAME[name]
    farm, market, article = LAW[name]
    rules = Rules()
    assert (str(rules.length(name, "farm")), str(rules.length(name, "market"))) == (farm, market)
    assert article in clock.basis_for("farm")


def test_the_table_has_these_and_no_others() -> None:
    assert {clock.name for clock in TABLE} == set(LAW)
    assert BY_NAME["objection_laboratory"].basis_for("market") == "食品安全法 第八十八条"


def test_every_clock_is_started_and_ended_by_something_that_can_be_done() -> None:
    known = {step.name for step in STEPS} | {str(trigger) for trigger in Trigger}
    for clock in TABLE:
        assert {clock.starts, *clock.ends} <= known
        assert clock.ends


def test_deadlines_are_configuration() -> None:
    faults: list[str] = []
    lengths = parse_lengths(
        {"retest": "3 wd", "objection_laboratory.market": "9 wd"}, "server.toml", faults
    )
    rules = Rules(lengths)
    assert faults == []
    assert str(rules.length("retest", "market")) == "3 wd"
    assert str(rules.length("objection_laboratory", "farm")) == "5 wd"
    assert str(rules.length("objection_laboratory", "market")) == "9 wd"


def test_wrong_deadlines_are_all_named() -> None:
    faults: list[str] = []
    parse_lengths({"lunch": "1 h", "retest": "soon"}, "server.toml: [deadlines]", faults)
    assert len(faults) == 2
    assert "lunch: no such clock" in faults[0]
    assert "retest: 'soon' is no length" in faults[1]


def test_the_documentation_has_every_clock_step_and_a_supplement_that_loads() -> None:
    page = (Path(__file__).parents[3] / "docs" / "cases.md").read_text("utf-8")
    for clock in TABLE:
        assert f"| `{clock.name}` | {clock.length}" in page
    for step in STEPS:
        assert f"`{step.name}`" in page
    [example] = re.findall(r"^```toml calendar\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    faults: list[str] = []
    assert len(parse_supplement(example, "cases.md", faults).holidays) == 2
    assert faults == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[calendar]\nholidays = [2199-01-01]\n", "2199: the table is not whole"),
        ("[calendar]\nfree = []\n", "unknown field"),
        ("[calendar]\nholidays = ['soon']\n", "Expected `date`"),
        ("[calendar\n", "l2.toml"),
    ],
)
def test_a_supplement_that_is_wrong(text: str, said: str) -> None:
    faults: list[str] = []
    parse_supplement(text, "l2.toml", faults)
    assert any(said in fault for fault in faults), faults
