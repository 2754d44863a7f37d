"""What a message says: what happened, where, when, how sure it is, what to do next. Pure; Chinese, English or both."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from alerts.cases.clocks import BY_NAME as CLOCKS
from alerts.cases.steps import BY_NAME as STEPS
from alerts.people.advice import Situation, advice
from alerts.people.document import Block, Line
from alerts.people.escape import words
from alerts.people.operators import said_to_operators
from alerts.people.values import stamp, value_with_unit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SEVERITY = {
    "critical": ("危急", "Critical"),
    "major": ("严重", "Major"),
    "warning": ("预警", "Warning"),
    "info": ("提示", "Info"),
}
STATE = {
    "suspected": ("疑似超标", "suspected exceedance"),
    "retest_ordered": ("已下达复检", "re-test ordered"),
    "confirmed": ("超标已确证", "exceedance confirmed"),
    "handed_over": ("已移交执法", "handed over to enforcement"),
    "in_enforcement": ("执法处理中", "in enforcement"),
    "closed": ("已办结", "closed"),
    "superseded": ("记录已更正或撤回", "record corrected or withdrawn"),
    "cleared": ("已恢复", "back within limits"),
    "dismissed": ("已排除（误报）", "dismissed as a false alarm"),
    "refuted": ("确证检测未超标", "refuted by the confirmatory test"),
    "open": ("设备或数据异常", "technical condition"),
    "resolved": ("设备或数据已恢复正常", "technical condition ended"),
}
_SUSPECTED_TEST = ("疑似阳性", "suspected positive")
_EVENT = {  # events that leave the state as it is
    "alert.reopened": ("再次超标", "exceeded again"),
    "alert.handover_rejected": ("移交被退回", "handover rejected"),
    "alert.severity_raised": ("级别升高", "severity raised"),
    "alert.acknowledged": ("已确认收到", "acknowledged"),
    "alert.overdue": ("期限已过", "a deadline has passed"),
    "alert.updated": ("情况更新", "updated"),
}
_LEAD = ("性质：线索，不是违法认定", "A lead, not a finding that the law was broken")
_LEADS = frozenset({"suspected", "retest_ordered"})
_COMPLIES = {">": "≤", ">=": "<", "<": "≥", "<=": ">"}


@dataclass(frozen=True, slots=True)
class Clock:
    """A clock of the case that runs or has passed; ``due_ms`` is None when the year's calendar is missing."""

    name: str
    due_ms: int | None
    overdue: bool = False


@dataclass(frozen=True, slots=True)
class Beside:
    """What the snapshot does not hold: the plot's name, the clock that ends first."""

    plot: str = ""
    clock: Clock | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """One notice as a message tells it."""

    event_type: str
    severity: str
    at_ms: int
    snapshot: Mapping[str, object]
    beside: Beside = field(default_factory=Beside)


def block(told: Told, language: str, public_url: str) -> Block:
    """Return what is said of one notice, in ``zh``, ``en`` or ``both``."""
    lines: list[Line] = []
    for column in columns(language):
        lines += _Speaker(told, column).lines(public_url)
    return tuple(lines)


def columns(language: str) -> tuple[int, ...]:
    """Return which of two words are said."""
    return {"zh": (0,), "en": (1,)}.get(language, (0, 1))


def title(severities: Mapping[str, int], language: str, operator: int = 0) -> str:
    """Return the title of a message: how many alerts, how grave, and how many faults of the server (``operator``).

    >>> title({"critical": 2, "major": 1}, "zh")
    'Agrigate 告警 3 条：危急 2 · 严重 1'
    """
    total = sum(severities.values())
    said = []
    for column in columns(language):
        parts = " · ".join(
            f"{names[column]} {severities[severity]}"
            for severity, names in SEVERITY.items()
            if severities.get(severity)
        )
        heads = []
        if total:
            head = (f"告警 {total} 条：", f"{total} alert{'s' if total > 1 else ''}: ")[column]
            heads.append(f"{head}{parts}")
        if operator:
            heads.append((f"运维通知 {operator} 条", f"{operator} for operators")[column])
        said.append(("，", ", ")[column].join(heads))
    return f"Agrigate {' / '.join(said)}"


def rest(more: int, language: str, public_url: str) -> Block:
    """Return the last lines of a message that does not name all."""
    said = (f"…另有 {more} 条", f"…and {more} more")
    text = " / ".join(said[column] for column in columns(language))
    return (Line(text), *_link(public_url, "/alerts", language))


def trial(name: str, language: str) -> tuple[str, Block]:
    """Return the title and the words of a test message."""
    shown = words(name)
    said = (
        (
            f"Agrigate 测试消息：{shown}",
            "收到即说明通知渠道可用。这不是告警，无需处理。",
        ),
        (f"Agrigate test message: {shown}", "This target can be told of alerts. Nothing to do."),
    )
    chosen = [said[column] for column in columns(language)]
    return " / ".join(head for head, _ in chosen), tuple(Line(text) for _, text in chosen)


class _Speaker:
    """Says one notice in one language."""

    def __init__(self, told: Told, column: int) -> None:
        self._told = told
        self._column = column
        self._data = told.snapshot
        self._finding = _table(self._data, "finding")
        self._citation = _table(self._data, "citation")
        self._site = _table(self._data, "site")

    def lines(self, public_url: str) -> list[Line]:
        if "operator" in self._data:
            severity = SEVERITY.get(self._told.severity, ("", ""))[self._column]
            when = stamp(self._told.at_ms)
            return [
                Line(f"【{severity}】{said_to_operators(self._data)[self._column]}"),
                Line(when),
            ]
        texts = [
            self._head(),
            self._what(),
            self._where_when(),
            self._so_far(),
            self._reason(),
        ]
        if self._data.get("state") in _LEADS and self._data.get("kind") != "cluster":
            texts.append(_LEAD[self._column])
        texts += [self._due(), *self._next()]
        found = [Line(text) for text in texts if text]
        language = ("zh", "en")[self._column]
        return [*found, *_link(public_url, f"/alerts/{self._data.get('alert_id', '')}", language)]

    def _say(self, zh: str, en: str) -> str:
        return (zh, en)[self._column]

    def _head(self) -> str:
        severity = SEVERITY.get(self._told.severity, ("", ""))[self._column]
        state = str(self._data.get("state", ""))
        said = STATE.get(state, (state, state))
        if state == "suspected" and self._data.get("kind") == "test":
            said = _SUSPECTED_TEST
        happened = _EVENT.get(self._told.event_type) or self._step()
        text = said[self._column]
        if happened is not None:
            text = self._say(f"{happened[0]}（{text}）", f"{happened[1]} ({text})")
        reminder = self._say("再次提醒·", "Reminder: ") if self._data.get("reminder") else ""
        return f"【{severity}】{reminder}{text}"

    def _step(self) -> tuple[str, str] | None:
        if self._told.event_type != "alert.case_step":
            return None
        step = STEPS.get(str(self._data.get("step", "")))
        return (step.zh, step.en) if step else ("办案进展", "case step")

    def _what(self) -> str:
        names = _table(_table(self._finding, "analyte"), "name")
        name = words(
            names.get(("zh", "en")[self._column])
            or _table(self._finding, "analyte").get("code", "")
        )
        product = words(self._site.get("product_name") or "")
        head = f"{product} · {name}" if product else name
        if self._finding.get("value") is None:
            return f"{head}{self._limit()}"
        value = value_with_unit(self._finding["value"], self._finding.get("unit", ""), self._column)
        return f"{head}{self._say('：', ': ')}{value}{self._limit()}"

    def _limit(self) -> str:
        standard = words(self._citation.get("standard_no") or "")
        clause = (
            self._citation.get("clause")
            if self._column == 0
            else self._citation.get("clause_en") or self._citation.get("clause")
        )
        source = " ".join(part for part in (standard, words(clause or "")) if part)
        limit = self._finding.get("limit")
        comparator = str(self._finding.get("comparator") or "")
        if comparator == "detected":
            text = self._say("不得检出", "must not be detected")
        elif limit is None or limit == "":
            return ""
        else:
            unit = self._finding.get("limit_unit") or ""
            shown = value_with_unit(limit, unit, self._column)
            text = f"{self._say('限值', 'limit')} {_COMPLIES.get(comparator, '')} {shown}"
        unverified = self._say("【待核】", " 【not verified】") if self._unverified() else ""
        text = " ".join(text.split())
        cited = self._say(f"（{source}）", f" ({source})") if source else ""
        return f"{self._say('，', ', ')}{text}{cited}{unverified}"

    def _unverified(self) -> bool:
        flags = self._data.get("flags")
        flagged = isinstance(flags, list) and "limit_unverified" in flags
        return flagged or self._citation.get("verified") is False

    def _where_when(self) -> str:
        names = _table(self._site, "site_name")
        language = ("zh", "en")[self._column]
        where = [
            words(names.get(language) or names.get("zh") or self._site.get("site_id") or ""),
            words(
                self._told.beside.plot
                or self._site.get("plot_id")
                or self._site.get("device")
                or ""
            ),
        ]
        sample = words(self._site.get("sample_no") or "")
        if sample:
            where.append(self._say(f"样品 {sample}", f"sample {sample}"))
        place = " · ".join(part for part in where if part)
        return f"{place}{self._say('，', ', ')}{stamp(self._told.at_ms)}"

    def _so_far(self) -> str:
        workflow = _table(self._data, "workflow")
        handover, retest = _table(workflow, "handover"), _table(workflow, "retest")
        known = (
            (("执法机构", "agency"), handover.get("agency")),
            (("案号", "case no."), handover.get("case_no")),
            (("实验室", "laboratory"), retest.get("laboratory")),
            (("报告", "report"), retest.get("report_no")),
        )
        colon = self._say("：", ": ")
        return self._say("；", "; ").join(
            f"{name[self._column]}{colon}{words(value)}" for name, value in known if value
        )

    def _reason(self) -> str:
        reason = words(self._data.get("reason") or "", 120)
        return f"{self._say('说明：', 'Note: ')}{reason}" if reason else ""

    def _due(self) -> str:
        clock = self._told.beside.clock
        if clock is None:
            return ""
        known = CLOCKS.get(clock.name)
        name = (known.zh, known.en)[self._column] if known else words(clock.name)
        if clock.due_ms is None:
            return self._say(
                f"期限：{name}，缺该年节假日表，无法算出",
                f"Due: {name}, unknown: no calendar of that year",
            )
        passed = self._say("（已逾期）", " (overdue)") if clock.overdue else ""
        return (
            f"{self._say('截止', 'Due')} {stamp(clock.due_ms)}{self._say('：', ': ')}{name}{passed}"
        )

    def _next(self) -> list[str]:
        clock = self._told.beside.clock
        now = Situation(
            state=str(self._data.get("state", "")),
            kind=str(self._data.get("kind", "")),
            certainty=str(self._data.get("certainty", "")),
            purpose=str(self._data.get("purpose", "")),
            sampling_stage=str(self._data.get("sampling_stage", "")),
            notice_served=clock is not None and clock.name.startswith("objection"),
            limit_unverified=self._unverified(),
        )
        found = advice(now)
        head = self._say("下一步", "Next")
        colon = self._say("：", ": ")
        return [f"{head} · {one.who[self._column]}{colon}{one.what[self._column]}" for one in found]


def _table(data: Mapping[str, object], name: str) -> Mapping[str, object]:
    found = data.get(name)
    return found if isinstance(found, dict) else {}


def _link(public_url: str, path: str, language: str) -> Sequence[Line]:
    if not public_url:
        return ()
    said = ("查看告警", "Open the alert") if path != "/alerts" else ("查看全部", "See all")
    text = " / ".join(said[column] for column in columns(language))
    return (Line(text, f"{public_url.rstrip('/')}{path}"),)
