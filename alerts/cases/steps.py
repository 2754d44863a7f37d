"""The steps of a case: which may follow which, and what each must say (specs/alerting.md §8)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from alerts.bilingual import both
from alerts.states import LEGAL_KINDS, State

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SUSPECT = frozenset({State.SUSPECTED, State.RETEST_ORDERED})
PROVEN = frozenset({State.CONFIRMED, State.HANDED_OVER, State.IN_ENFORCEMENT})
LIVE = SUSPECT | PROVEN
OWN = frozenset({"self", "commissioned"})
SUPERVISION = "supervision"
RAPID, LABORATORY = "rapid", "laboratory"


@dataclass(frozen=True, slots=True)
class Need:
    """One thing that a step must say, besides who and when; ``choices`` of a choice.

    An optional one has a ``default``.
    """

    field: str
    zh: str
    en: str
    kind: Literal["text", "choice", "yes_no"] = "text"
    choices: tuple[str, ...] = ()
    default: bool | None = None


NOTE = Need("note", "说明", "note")
TYPE = Need("document.type", "文书种类", "type of the document")
NUMBER = Need("document.no", "文书编号", "number of the document")
DOCUMENT = (TYPE, NUMBER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One kind of step.

    It may be taken in ``states``, when one of ``after`` was taken (if any is named), and once (or one of ``instead``)
    until ``again`` or ``after`` is taken anew. ``after_said``: what the step before must have said.
    """

    name: str
    zh: str
    en: str
    states: frozenset[State]
    needs: tuple[Need, ...] = ()
    after: tuple[str, ...] = ()
    after_said: tuple[str, object] | None = None
    instead: tuple[str, ...] = ()
    again: tuple[str, ...] = ()
    repeats: bool = False


TABLE: tuple[Step, ...] = (
    Step(
        name="notice_served", zh="结果告知书送达", en="Notice served", states=LIVE, needs=DOCUMENT
    ),
    Step(
        name="objection",
        zh="提出异议",
        en="Objection",
        states=LIVE,
        needs=(NOTE,),
        after=("notice_served",),
        instead=("no_objection",),
    ),
    Step(
        name="no_objection",
        zh="无异议",
        en="No objection",
        states=LIVE,
        needs=(NOTE,),
        after=("notice_served",),
        instead=("objection",),
    ),
    Step(
        name="re_inspection_ordered",
        zh="委托复检",
        en="Re-inspection ordered",
        states=LIVE,
        needs=(Need("data.laboratory", "复检机构", "laboratory of the re-inspection"),),
        after=("objection",),
    ),
    Step(
        name="re_inspection_received",
        zh="复检机构收样",
        en="Sample received for re-inspection",
        states=LIVE,
        after=("re_inspection_ordered",),
    ),
    Step(
        name="re_inspection_result",
        zh="复检结论",
        en="Result of the re-inspection",
        states=LIVE | {State.REFUTED},
        needs=(*DOCUMENT, Need("data.result", "结论", "result", "choice", ("pass", "exceed"))),
        after=("re_inspection_received",),
    ),
    Step(
        name="hold",
        zh="暂控批次",
        en="Lot on hold",
        states=LIVE,
        needs=(NOTE,),
        again=("release",),
    ),
    Step(
        name="release",
        zh="解除暂控",
        en="Lot released",
        states=LIVE | {State.REFUTED, State.CLOSED},
        needs=(NOTE,),
        after=("hold",),
    ),
    Step(
        name="evidence_preserved",
        zh="先行登记保存",
        en="Evidence registered and preserved",
        states=LIVE,
        needs=DOCUMENT,
        again=("preservation_decided",),
    ),
    Step(
        name="preservation_decided",
        zh="登记保存处理决定",
        en="Decision on preserved evidence",
        states=LIVE,
        needs=DOCUMENT,
        after=("evidence_preserved",),
    ),
    Step(
        name="filed",
        zh="立案",
        en="Case filed",
        states=PROVEN,
        needs=(NUMBER,),
        instead=("not_filed",),
    ),
    Step(
        name="not_filed",
        zh="不予立案",
        en="Not filed",
        states=PROVEN,
        needs=(NOTE,),
        instead=("filed",),
    ),
    Step(
        name="decision",
        zh="处罚决定",
        en="Penalty decision",
        states=PROVEN,
        needs=(
            *DOCUMENT,
            Need("data.disclose", "须主动公开", "must be disclosed", "yes_no", default=True),
        ),
        after=("filed",),
    ),
    Step(
        name="harm_found",
        zh="认定有危害后果",
        en="Harm to life or health found",
        states=PROVEN,
        needs=(NOTE,),
        instead=("filed", "not_filed"),
    ),
    Step(
        name="transfer_proposed",
        zh="提出移送报告",
        en="Transfer to the police proposed",
        states=PROVEN,
        needs=(NUMBER,),
        again=("transfer_refused",),
    ),
    Step(
        name="transfer_approved",
        zh="批准移送",
        en="Transfer approved",
        states=PROVEN,
        after=("transfer_proposed",),
        instead=("transfer_refused",),
    ),
    Step(
        name="transfer_refused",
        zh="不批准移送",
        en="Transfer refused",
        states=PROVEN,
        needs=(NOTE,),
        after=("transfer_proposed",),
        instead=("transfer_approved",),
    ),
    Step(
        name="transferred",
        zh="移送公安",
        en="Transferred to the police",
        states=PROVEN,
        needs=DOCUMENT,
        after=("transfer_approved",),
    ),
    Step(
        name="police_reply",
        zh="公安答复",
        en="Reply of the police",
        states=PROVEN,
        needs=(Need("data.opened", "已立案", "a case was opened", "yes_no"),),
        after=("transferred",),
    ),
    Step(
        name="goods_handed_over",
        zh="移交物品和材料",
        en="Goods and files handed over",
        states=PROVEN,
        needs=DOCUMENT,
        after=("police_reply",),
        after_said=("opened", True),
    ),
    Step(
        name="disposal",
        zh="处置",
        en="Disposal",
        states=PROVEN | {State.CLOSED},
        needs=(
            NOTE,
            Need(
                "data.measure",
                "处置方式",
                "measure",
                "choice",
                ("recall", "destruction", "harmless_treatment", "other"),
            ),
        ),
        repeats=True,
    ),
    Step(
        name="disclosed",
        zh="公开",
        en="Disclosed",
        states=PROVEN | {State.CLOSED},
        after=("decision",),
    ),
    Step(
        name="penalty_changed",
        zh="处罚决定变更",
        en="Published penalty changed",
        states=PROVEN | {State.CLOSED},
        needs=DOCUMENT,
        after=("disclosed",),
        again=("withdrawn",),
    ),
    Step(
        name="withdrawn",
        zh="撤回公开信息",
        en="Disclosure withdrawn",
        states=PROVEN | {State.CLOSED},
        after=("penalty_changed",),
    ),
)
BY_NAME = {step.name: step for step in TABLE}


@dataclass(frozen=True, slots=True)
class Taken:
    """A step that was taken: what, when (UTC ms), and what it said."""

    step: str
    at_ms: int
    data: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What decides which steps may be taken."""

    kind: str
    state: State
    purpose: str
    certainty: str
    taken: Sequence[Taken] = ()

    @property
    def result(self) -> str:
        """What a notice would tell of: a rapid result or a laboratory's."""
        return LABORATORY if self.certainty == "confirmatory" else RAPID

    def last(self, names: Sequence[str]) -> int:
        """Return the index of the newest step taken of ``names``, -1 without one."""
        found = [index for index, taken in enumerate(self.taken) if taken.step in names]
        return max(found, default=-1)


def refusal(step: Step, now: Situation) -> str:
    """Return why ``step`` may not be taken now, in both languages; blank when it may."""
    if now.kind not in LEGAL_KINDS:
        return both("技术类告警没有案件", "a technical condition has no case")
    if now.state not in step.states:
        return both(f"告警处于 {now.state} 时不可", f"not while the alert is {now.state}")
    if by_purpose := _purpose(step, now):
        return by_purpose
    before = now.last(step.after)
    if step.after and before < 0:
        return both(
            f"须在{'或'.join(_named(step.after))}之后", f"only after {' or '.join(step.after)}"
        )
    if step.after_said and now.taken[before].data.get(step.after_said[0]) != step.after_said[1]:
        return both(
            f"须{_named(step.after)[0]}载明 {step.after_said[0]}",
            f"only when {step.after[0]} said {step.after_said[0]}",
        )
    if step.repeats or step.name == "notice_served":
        return ""
    since = max(before, now.last(step.again))
    done = now.last((step.name, *step.instead))
    if done <= since:
        return ""
    taken = now.taken[done].step
    return both(f"{_named((taken,))[0]}已记录", f"{taken} was already taken")


def _named(steps: Sequence[str]) -> list[str]:
    return [BY_NAME[step].zh for step in steps]


def _purpose(step: Step, now: Situation) -> str:
    if step.name == "hold":
        return (
            both(
                "监督抽检的产品以先行登记保存控制",
                "goods of a supervision check are kept by evidence_preserved",
            )
            if now.purpose == SUPERVISION
            else ""
        )
    if step.name != "notice_served":
        return ""
    if now.purpose != SUPERVISION:
        return both(
            "只有监督抽检的结果需要送达（农产品质量安全法第五十一条）",
            "only the result of a supervision check is served (农产品质量安全法 art. 51)",
        )
    told = any(t.step == step.name and t.data.get("result") == now.result for t in now.taken)
    if not told:
        return ""
    return both("该结果已送达", f"the {now.result} result was already served")


def allowed(now: Situation) -> list[Step]:
    """Return the steps that may be taken now, in the order of the table."""
    return [step for step in TABLE if not refusal(step, now)]


def due_first(now: Situation) -> str:
    """Return the step that the purpose asks for first: hold after one's own test, notice after a supervision's."""
    want = "hold" if now.purpose in OWN else "notice_served" if now.purpose == SUPERVISION else ""
    return want if want and now.kind == "test" and not refusal(BY_NAME[want], now) else ""
