"""The clocks of the law: how long each runs, what starts it, what ends it, and the article that says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from alerts.cases.lengths import Length

FARM, MARKET = "farm", "market"
_MARKET_STAGES = frozenset({"wholesale", "retail", "canteen"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """One kind of clock.

    ``starts`` and ``ends`` name steps of the case and triggers of the alert. ``when`` must stand in what the
    step said, and ``voided_by`` makes the clock count no more. ``who`` must act in time: party, agency, laboratory,
    police. ``outlives`` the alert's end; ``from_breach``: runs from the breach, not from what starts it.
    """

    name: str
    zh: str
    en: str
    length: Length
    market: Length | None = None  # where the market side's law says otherwise
    basis: str
    basis_market: str = ""
    who: Literal["party", "agency", "laboratory", "police"]
    starts: str
    when: tuple[str, object] | None = None
    ends: frozenset[str]
    voided_by: str = ""
    outlives: bool = False
    from_breach: bool = False

    def length_for(self, side: str) -> Length:
        """Return the length that the law of ``side`` sets."""
        return self.market if side == MARKET and self.market else self.length

    def basis_for(self, side: str) -> str:
        """Return law and article."""
        return self.basis_market if side == MARKET and self.basis_market else self.basis


def side_of(sampling_stage: str) -> str:
    """Return whose law holds: the market side's from the wholesale market on, else the farm side's.

    >>> side_of("retail"), side_of("base"), side_of("")
    ('market', 'farm', 'farm')
    """
    return MARKET if sampling_stage in _MARKET_STAGES else FARM


_LAW = "农产品质量安全法"
_FSL = "食品安全法"
_PENALTY = "行政处罚法"
_TRANSFER = "行政执法机关移送涉嫌犯罪案件的规定(2020)"
_OBJECTED = frozenset({"objection", "no_objection"})

# 行政处罚法 art. 85: its two, three, five and seven days are working days.
TABLE: tuple[Clock, ...] = (
    Clock(
        name="objection_rapid",
        zh="快检结果异议",
        en="Objection to the rapid result",
        length=Length.parse("4 h"),
        basis=f"{_LAW} 第五十一条",
        starts="notice_served",
        when=("result", "rapid"),
        ends=_OBJECTED,
        who="party",
        basis_market=f"{_FSL} 第八十八条",
    ),
    Clock(
        name="objection_laboratory",
        zh="检验结果异议",
        en="Objection to the laboratory result",
        length=Length.parse("5 wd"),
        basis=f"{_LAW} 第五十一条",
        starts="notice_served",
        when=("result", "laboratory"),
        ends=_OBJECTED,
        who="party",
        market=Length.parse("7 wd"),
        basis_market=f"{_FSL} 第八十八条",
    ),
    Clock(
        name="re_inspection",
        zh="复检报告",
        en="Report of the re-inspection",
        length=Length.parse("7 wd"),
        basis=f"{_LAW} 第五十一条",
        starts="re_inspection_received",
        ends=frozenset({"re_inspection_result", "confirm", "refute"}),
        who="laboratory",
    ),
    Clock(
        name="preservation",
        zh="先行登记保存处理",
        en="Decision on preserved evidence",
        length=Length.parse("7 wd"),
        basis=f"{_PENALTY} 第五十六条、第八十五条",
        starts="evidence_preserved",
        ends=frozenset({"preservation_decided"}),
        who="agency",
    ),
    Clock(
        name="penalty",
        zh="行政处罚决定",
        en="Penalty decision",
        length=Length.parse("90 d"),
        basis=f"{_PENALTY} 第六十条",
        starts="filed",
        ends=frozenset({"decision"}),
        who="agency",
    ),
    Clock(
        name="transfer_decision",
        zh="是否移送公安的决定",
        en="Decision to transfer to the police",
        length=Length.parse("3 d"),
        basis=f"{_TRANSFER} 第五条",
        starts="transfer_proposed",
        ends=frozenset({"transfer_approved", "transfer_refused"}),
        who="agency",
    ),
    Clock(
        name="transfer",
        zh="批准后移送",
        en="Transfer after the approval",
        length=Length.parse("24 h"),
        basis=f"{_TRANSFER} 第五条",
        starts="transfer_approved",
        ends=frozenset({"transferred"}),
        who="agency",
    ),
    Clock(
        name="police_decision",
        zh="公安立案审查",
        en="Police decide whether to open a case",
        length=Length.parse("3 d"),
        basis=f"{_TRANSFER} 第八条",
        starts="transferred",
        ends=frozenset({"police_reply"}),
        who="police",
    ),
    Clock(
        name="goods_handover",
        zh="移交涉案物品和材料",
        en="Hand over goods and files",
        length=Length.parse("3 d"),
        basis=f"{_TRANSFER} 第十二条",
        starts="police_reply",
        when=("opened", True),
        ends=frozenset({"goods_handed_over"}),
        who="agency",
    ),
    Clock(
        name="limitation",
        zh="处罚追责时效",
        en="Limitation of punishment",
        length=Length.parse("2 y"),
        basis=f"{_PENALTY} 第三十六条",
        starts="confirm",
        ends=frozenset({"filed", "not_filed"}),
        voided_by="harm_found",
        who="agency",
        from_breach=True,
    ),
    Clock(
        name="limitation_harm",
        zh="处罚追责时效（危害生命健康）",
        en="Limitation of punishment (harm to life and health)",
        length=Length.parse("5 y"),
        basis=f"{_PENALTY} 第三十六条",
        starts="harm_found",
        ends=frozenset({"filed", "not_filed"}),
        who="agency",
        from_breach=True,
    ),
    Clock(
        name="disclosure",
        zh="主动公开",
        en="Proactive disclosure",
        length=Length.parse("20 wd"),
        basis="政府信息公开条例 第二十六条",
        starts="decision",
        when=("disclose", True),
        ends=frozenset({"disclosed"}),
        who="agency",
        outlives=True,
    ),
    Clock(
        name="withdrawal",
        zh="撤回已公开的处罚信息",
        en="Withdraw a published penalty that was changed",
        length=Length.parse("3 wd"),
        basis=f"{_PENALTY} 第四十八条、第八十五条",
        starts="penalty_changed",
        ends=frozenset({"withdrawn"}),
        who="agency",
        outlives=True,
    ),
    Clock(
        name="retest",
        zh="复测",
        en="Re-test",
        length=Length.parse("7 wd"),
        basis="内部期限（可配置）",
        starts="order_retest",
        ends=frozenset({"confirm", "refute"}),
        who="laboratory",
    ),
    Clock(
        name="receipt",
        zh="执法机构业务回执",
        en="Business receipt of the agency",
        length=Length.parse("2 wd"),
        basis="内部期限（可配置）",
        starts="hand_over",
        ends=frozenset({"accept", "reject_handover"}),
        who="agency",
    ),
)
BY_NAME = {clock.name: clock for clock in TABLE}
