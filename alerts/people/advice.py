"""What to do next, by state of the alert and by who reads it: a table of advice in Chinese and English. Pure.

The steps are those of the case (alerts/cases/steps.py); articles are of 农产品质量安全法 (2022) where no other law is
named. What an alert reports is a lead (线索); whether the law was broken is for the agency to find.
"""

from __future__ import annotations

from dataclasses import dataclass

from alerts.cases.clocks import MARKET, side_of

Words = tuple[str, str]  # Chinese, English
REGULATOR: Words = ("监管员", "Supervisor")
TESTER: Words = ("检测员", "Tester")
LABORATORY: Words = ("实验室", "Laboratory")
SUBJECT: Words = ("生产经营主体", "Producer")
AGENCY: Words = ("执法机构", "Agency")
OPERATOR: Words = ("运维", "Operator")


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What decides the advice; the words are those of the payload and of the record."""

    state: str
    kind: str = "limit"
    certainty: str = "sensor"
    purpose: str = ""
    sampling_stage: str = ""
    notice_served: bool = False  # the clock of its objection runs
    limit_unverified: bool = False


@dataclass(frozen=True, slots=True)
class Advice:
    """Who does what."""

    who: Words
    what: Words


_NOTICE = {
    "farm": "第五十一条",
    "market": "食品安全法第八十八条",
}
_UNVERIFIED = Advice(
    REGULATOR,
    (
        "限值待核：先核对标准原文，确证须由具名人员作出",
        "The limit is not verified: check the standard's text first; only a named person may confirm",
    ),
)
_KEEP = Advice(
    TESTER,
    ("封存备样，保留原始记录", "Seal the reserve sample and keep the raw record"),
)
_HOLD = Advice(
    SUBJECT,
    (
        "暂控该批次，不得销售（第三十四条）",
        "Hold the lot; it must not be sold (art. 34)",
    ),
)
_CONFIRM = Advice(
    REGULATOR,
    (
        "下达复检，送实验室作确证检测（不得用快速检测方法）",
        "Order a re-test: confirmatory, by a laboratory, not by a rapid method",
    ),
)
_WAIT = Advice(
    REGULATOR,
    (
        "已送达，等待异议期：有异议即委托复检（不得用快速检测方法），无异议到期后记录",
        "Served; the time for objections runs: on an objection order a re-inspection, not by a rapid method; "
        "without one record that when the time is over",
    ),
)
_SENSOR = Advice(
    REGULATOR,
    (
        "现场核查设备并采样送检；确属误报的，写明理由后排除",
        "Check the device on site and take a sample; if it is a false alarm, dismiss it with the reason",
    ),
)
_BY_STATE: dict[str, tuple[Advice, ...]] = {
    "retest_ordered": (
        Advice(TESTER, ("送样并办理交接", "Send the sample and record the handover")),
        Advice(
            LABORATORY,
            ("在期限前出具报告并录入结果", "Report before the due time and enter the result"),
        ),
    ),
    "confirmed": (
        _HOLD,
        Advice(
            REGULATOR,
            ("核对证据包，移交执法机构", "Check the evidence pack and hand it over to the agency"),
        ),
    ),
    "handed_over": (
        Advice(
            REGULATOR,
            (
                "等待业务回执，逾期未回的电话催办",
                "Wait for the agency's receipt; call when it is late",
            ),
        ),
    ),
    "in_enforcement": (
        Advice(
            AGENCY,
            ("按期作出决定，处置后回传结果", "Decide in time; report the disposal and the outcome"),
        ),
    ),
    "cleared": (
        Advice(
            REGULATOR,
            ("查明原因，确认后办结", "Find the cause, acknowledge and close"),
        ),
    ),
    "refuted": (
        Advice(
            REGULATOR,
            ("解除批次暂控并归档，通知被检单位", "Release the lot, archive, tell the tested party"),
        ),
    ),
    "dismissed": (Advice(OPERATOR, ("校准或更换误报设备", "Calibrate or replace the device")),),
    "closed": (
        Advice(
            REGULATOR,
            ("归档；应公开的按期公开", "Archive; disclose in time what must be disclosed"),
        ),
    ),
    "superseded": (
        Advice(
            REGULATOR,
            (
                "以更正后的记录为准，原通知不再作数",
                "The corrected record counts; the earlier notice does not",
            ),
        ),
    ),
    "open": (
        Advice(
            OPERATOR,
            (
                "检查设备供电、网络和探头；数据缺失不等于合格",
                "Check power, network and probe; no data is no pass",
            ),
        ),
    ),
    "resolved": (Advice(OPERATOR, ("已恢复，无需处理", "Back to normal, nothing to do")),),
}


def advice(now: Situation) -> tuple[Advice, ...]:
    """Return who does what next.

    >>> [one.who[0] for one in advice(Situation(state="confirmed", kind="test"))]
    ['生产经营主体', '监管员']
    """
    found = _suspected(now) if now.state == "suspected" else _BY_STATE.get(now.state, ())
    return (*found, _UNVERIFIED) if now.limit_unverified and _asks(now) else found


def _suspected(now: Situation) -> tuple[Advice, ...]:
    if now.kind == "cluster":
        return (_CONFIRM,)
    if now.kind != "test":
        return (_SENSOR,)
    if now.purpose == "supervision":
        return (_KEEP, _WAIT) if now.notice_served else (_serve(now.sampling_stage), _KEEP)
    if now.purpose in {"self", "commissioned"}:
        return (_HOLD, _CONFIRM)
    return (_CONFIRM, _KEEP)


def _serve(sampling_stage: str) -> Advice:
    side = side_of(sampling_stage)
    law = _NOTICE[side]
    english = "Food Safety Law art. 88" if side == MARKET else "art. 51"
    return Advice(
        REGULATOR,
        (
            f"送达快检结果告知书并登记送达时间；被检单位自收到起 4 小时内可提出异议（{law}）",
            "Serve the rapid-test result notice and record when; the tested party may object within 4 hours "
            f"of its receipt ({english})",
        ),
    )


def _asks(now: Situation) -> bool:
    return now.state in {"suspected", "retest_ordered", "confirmed"}
