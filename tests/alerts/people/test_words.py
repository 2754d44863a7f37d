"""What messages say: facts, the clause, what to do next; and nothing that others have slipped into a name."""

from __future__ import annotations

import json
import re

import pytest

from alerts.people import notices, words
from alerts.people.document import Document
from alerts.people.escape import words as plain
from alerts.people.words import Beside, Clock, Told, block
from alerts.states import TABLE, State
from tests.alerts.people.conftest import NOON_MS, People, snapshot

URL = "https://nj.example"
EVIL = [
    "@all",
    "@所有人",
    "<@all>",
    '<at user_id="all">everyone</at>',
    "[领奖](http://evil.example/x)",
    "![x](https://evil.example/p.png)",
    "a\nb\r\n# 标题",
    "a\u2028b\u0085c",
    "\u202egnp.exe",
    "**粗** `码` ~~删~~ | 表 |",
    "https://evil.example/login",
    "www.evil.example",
    '<font color="warning">x</font>',
    "&lt;b&gt;",
    "\\[a\\](b)",
    "x" * 5000,
]


@pytest.fixture
def alert():
    return People(None).alert


def kept(alert, event="alert.suspected", **made):
    """Return what a notice keeps of the event."""
    [row] = notices._rows(
        notices.News([notices.RoutedTarget("t")], alert, event, snapshot(alert, event, **made)), 0
    )
    return json.loads(json.dumps(row["snapshot"]))


def said(alert, language="zh", event="alert.suspected", beside=None, **made):
    told = Told(event, alert.severity, NOON_MS, kept(alert, event, **made), beside or Beside())
    return Document("t", (block(told, language, URL),)).plain()


def test_a_supervision_suspect_says_what_where_when_and_what_to_do(alert):
    suspect = alert(severity="critical", sample_no="S-1")
    text = said(suspect, beside=Beside(plot="三号棚"))
    assert text.splitlines()[2:] == [
        "【危急】疑似阳性",
        "豇豆 · 克百威：0.35 mg/kg，限值 ≤ 0.02 mg/kg（GB 2763-2021 4.66）",
        "湖光站 · 三号棚 · 样品 S-1，2026-05-01 12:00",
        "性质：线索，不是违法认定",
        "下一步 · 监管员：送达快检结果告知书并登记送达时间；被检单位自收到起 4 小时内可提出异议（第五十一条）",
        "下一步 · 检测员：封存备样，保留原始记录",
        f"查看告警 {URL}/alerts/{suspect.alert_id}",
    ]
    assert "违法" not in text.replace("不是违法认定", "")


def test_english_and_both(alert):
    suspect = alert()
    english = said(suspect, "en")
    assert "【Major】suspected positive" in english
    assert "carbofuran: 0.35 mg/kg, limit ≤ 0.02 mg/kg" in english
    assert "object within 4 hours" in english
    both = said(suspect, "both")
    assert both.index("疑似阳性") < both.index("suspected positive")


def test_a_running_clock_is_told_with_its_due_time(alert):
    clock = Clock("objection_rapid", NOON_MS + 4 * 3_600_000)
    text = said(alert(), beside=Beside(clock=clock), event="alert.case_step", step="notice_served")
    assert "结果告知书送达（疑似阳性）" in text
    assert "截止 2026-05-01 16:00：快检结果异议" in text
    assert "等待异议期" in text
    late = said(
        alert(), event="alert.overdue", beside=Beside(clock=Clock("receipt", NOON_MS, overdue=True))
    )
    assert "期限已过" in late
    assert "（已逾期）" in late
    assert "缺该年节假日表" in said(alert(), beside=Beside(clock=Clock("retest", None)))


def test_the_market_side_has_its_own_law(alert):
    assert "食品安全法第八十八条" in said(alert(sampling_stage="retail"))


def test_a_producer_is_told_to_hold_the_lot(alert):
    assert "暂控该批次，不得销售（第三十四条）" in said(alert(purpose="self"))


def test_an_unverified_limit_is_marked(alert):
    suspect = alert(flags=["limit_unverified"])
    assert "【待核】" in said(suspect)
    assert "not verified" in said(suspect, "en")
    assert "确证须由具名人员作出" in said(suspect)
    unflagged = alert()
    unflagged.citation["verified"] = False
    assert "【待核】" in said(unflagged)
    assert "待核" not in said(alert())


def test_agency_case_number_and_laboratory_are_told(alert):
    made = alert(
        state=State.IN_ENFORCEMENT,
        handover={"agency": "执法大队", "case_no": "农罚〔2026〕7号"},
        retest={"laboratory": "市检测中心", "report_no": "R-1"},
    )
    text = said(made, event="alert.accepted")
    assert "执法机构：执法大队；案号：农罚〔2026〕7号；实验室：市检测中心；报告：R-1" in text


def test_repeats_are_called_so(alert):
    suspect = alert()
    told = Told("alert.suspected", "major", NOON_MS, {**kept(suspect), "reminder": True})
    assert "再次提醒" in block(told, "zh", URL)[0].text


@pytest.mark.parametrize(
    "state", [state for state in State if state not in {"", "pending", "gone"}]
)
def test_every_state_has_words_and_advice(alert, state):
    kind = "device_offline" if state in {State.OPEN, State.RESOLVED} else "test"
    made = alert(state=state, kind=kind, value=None, citation={})
    for language, mark in (("zh", "下一步"), ("en", "Next")):
        text = said(made, language)
        assert mark in text
        assert words.STATE[state][language == "en"] in text or state == State.SUSPECTED


def test_every_event_that_leaves_the_state_has_words():
    same = {row.event for row in TABLE if row.event and row.source == row.target}
    assert same - set(words._EVENT) == {"alert.case_step"}


@pytest.mark.parametrize("evil", EVIL)
def test_names_carry_no_markup_no_mention_and_no_new_line(alert, evil):
    harmless = said(alert(), "both").splitlines()
    made = alert(
        product_name=evil, sample_no=evil[:60], unit=evil[:24], plot_id=evil[:40], device=evil
    )
    made.citation["standard"] = evil
    made.citation["clause"] = evil
    text = said(made, "both", reason=evil)
    lines = text.splitlines()
    assert len(lines) == len(harmless) + 2  # a note in each language
    for line in lines:
        shown = line.replace(f"{URL}/alerts/{made.alert_id}", "")
        assert not re.search(r"[@<>\[\]`*|\\~]|://|www\.", shown), shown
        assert all(ch.isprintable() for ch in shown)
        assert len(shown) < 600


def test_words_are_cut_before_they_are_looked_at():
    assert plain("長" * 10_000_000, 5) == "長長長長…"
