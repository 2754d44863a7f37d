"""What is done to cases: steps are taken, deadlines pass, due dates are found once a year's table is there."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlalchemy as sa

from alerts.actions import act_within
from alerts.cases.clocks import BY_NAME as CLOCKS
from alerts.cases.errors import StepRefused, WrongStep
from alerts.cases.follow import OVERDUE
from alerts.cases.lengths import Length, due
from alerts.cases.reading import situation, taken_of
from alerts.cases.rules import rules_of
from alerts.cases.steps import BY_NAME, allowed, refusal
from alerts.errors import StaleAlert, UnknownAlert
from alerts.states import SYSTEM, Trigger
from alerts.tables import alerts, clocks
from alerts.transitions import indicator_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from alerts.alert import Alert
    from alerts.cases.steps import Need, Situation, Step
    from alerts.transitions import Names
    from ingest.operational import Operational

MAX_TYPE, MAX_NO, MAX_TEXT, MAX_NOTE = 60, 80, 120, 2000  # characters
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_BATCH = 500  # clocks of one look
_PASSED = ("已逾期", "overdue")
_PASSED_BY_PARTY = (
    "期限已过，未提出的可记为无异议",
    "the time is over; without one, record no_objection",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A document that stands behind a step: kind, number and, when its file is kept, the SHA-256 (hex) of it."""

    type: str = ""
    no: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewStep:
    """A step as somebody says it was taken; ``at_ms`` is when it happened (UTC ms)."""

    step: str
    at_ms: int
    note: str = ""
    document: Document = Document()
    data: Mapping[str, object] = field(default_factory=dict)


def take_step(
    operational: Operational,
    alert_id: str,
    new: NewStep,
    actor: str,
    *,
    seq: int,
    now_ms: int,
    names: Names = indicator_names,
) -> Alert:
    """Take one step of the alert's case, in one transaction with clocks, log, outbox and event.

    Raises WrongStep (a field), StepRefused (not now), UnknownAlert, StaleAlert, IllegalTransition; then nothing was
    changed. The caller wakes the sender.
    """
    step = BY_NAME.get(new.step)
    if step is None:
        raise WrongStep("step", f"{new.step!r} is no step; known: {', '.join(BY_NAME)}")
    with operational.write() as connection:
        query = sa.select(alerts).where(alerts.c.alert_id == alert_id)
        alert = connection.execute(query).mappings().one_or_none()
        if alert is None:
            raise UnknownAlert(alert_id)
        if alert["seq"] != seq:
            raise StaleAlert(alert_id, seq)
        now = situation(alert, taken_of(connection, alert_id))
        if reason := refusal(step, now):
            raise StepRefused(step.name, reason, tuple(s.name for s in allowed(now)))
        _check_time(new, step, now, first_ms=alert["first_seen_ms"], now_ms=now_ms)
        data = _said(new, step)
        if step.name == "notice_served":
            data["result"] = now.result
        document = {"type": new.document.type, "no": new.document.no, "sha256": new.document.sha256}
        return act_within(
            connection,
            alert_id,
            Trigger.STEP,
            actor,
            new.note,
            seq=seq,
            at_ms=now_ms,
            names=names,
            data={
                "step": step.name,
                "at_ms": new.at_ms,
                "document": {key: value for key, value in document.items() if value},
                "data": data,
            },
        )


def _check_time(new: NewStep, step: Step, now: Situation, *, first_ms: int, now_ms: int) -> None:
    if new.at_ms > now_ms:
        raise WrongStep("at", "is in the future; give when the step was taken")
    if new.at_ms < first_ms:
        raise WrongStep("at", "is before the alert was first seen")
    before = now.last((*step.after, *step.again))
    if before >= 0 and new.at_ms < now.taken[before].at_ms:
        raise WrongStep("at", f"is before the step {now.taken[before].step} that it follows")


def _said(new: NewStep, step: Step) -> dict[str, object]:
    """Return the data of the step, whole and of the right kinds; raise WrongStep."""
    document = new.document
    given: dict[str, object] = {
        "note": new.note.strip(),
        "document.type": document.type.strip(),
        "document.no": document.no.strip(),
        **{f"data.{key}": value for key, value in new.data.items()},
    }
    for name, limit in (("note", MAX_NOTE), ("document.type", MAX_TYPE), ("document.no", MAX_NO)):
        if len(str(given[name])) > limit:
            raise WrongStep(name, f"at most {limit} characters")
    if document.sha256 and not _SHA256.fullmatch(document.sha256):
        raise WrongStep("document.sha256", "is no SHA-256; give 64 of 0-9 and a-f")
    wanted = {need.field for need in step.needs}
    for key in given:
        if key.startswith("data.") and key not in wanted:
            raise WrongStep(key, f"is not asked for by {step.name}")
    data: dict[str, object] = {}
    for need in step.needs:
        value = _value(need, given.get(need.field))
        if need.field.startswith("data."):
            data[need.field.removeprefix("data.")] = value
    return data


def _value(need: Need, value: object) -> object:
    if value is None or value == "":
        if need.default is not None:
            return need.default
        raise WrongStep(need.field, f"is missing ({need.zh} | {need.en})")
    if need.kind == "yes_no":
        if not isinstance(value, bool):
            raise WrongStep(need.field, "is true or false")
        return value
    if not isinstance(value, str):
        raise WrongStep(need.field, "is a text")
    if need.kind == "choice" and value not in need.choices:
        raise WrongStep(need.field, f"is one of {', '.join(need.choices)}")
    if need.field.startswith("data.") and len(value) > MAX_TEXT:
        raise WrongStep(need.field, f"at most {MAX_TEXT} characters")
    return value


class Deadlines:
    """The duty that notices passed deadlines, each once, and works out due dates whose calendar was missing."""

    def __init__(self, operational: Operational, names: Names = indicator_names) -> None:
        self._operational = operational
        self._names = names

    def look(self, now_ms: int) -> bool:
        """Tell whether anything was written; each alert has a transaction of its own."""
        found = [self._find_due(row, now_ms) for row in self._without_year()]
        passed = [self._fall_overdue(row, now_ms) for row in self._passed(now_ms)]
        return any(found) or any(passed)

    def _passed(self, now_ms: int) -> Iterator[sa.RowMapping]:
        query = sa.select(clocks).where(
            clocks.c.due_ms < now_ms, clocks.c.ended_ms.is_(None), clocks.c.overdue_ms.is_(None)
        )
        yield from self._rows(query.order_by(clocks.c.due_ms, clocks.c.id))

    def _without_year(self) -> Iterator[sa.RowMapping]:
        query = sa.select(clocks).where(
            clocks.c.missing_year.is_not(None),
            clocks.c.ended_ms.is_(None),
            clocks.c.overdue_ms.is_(None),
        )
        with self._operational.read() as connection:
            rules = rules_of(connection)
            years = connection.scalars(query.with_only_columns(clocks.c.missing_year).distinct())
            known = [year for year in years if year is not None and rules.calendar.has(year)]
        if known:
            yield from self._rows(query.where(clocks.c.missing_year.in_(known)))

    def _rows(self, query: sa.Select[tuple[object, ...]]) -> Iterator[sa.RowMapping]:
        with self._operational.read() as connection:
            rows = connection.execute(query.limit(_BATCH)).mappings().all()
        yield from rows

    def _fall_overdue(self, clock: sa.RowMapping, now_ms: int) -> bool:
        kind = CLOCKS[clock["name"]]
        zh, en = _PASSED_BY_PARTY if kind.who == "party" else _PASSED
        reason = f"{kind.zh}{zh}（{clock['basis']}） | {kind.en}: {en} ({clock['basis']})"
        data = {"clock": kind.name, "basis": clock["basis"], "due_ms": clock["due_ms"]}
        return self._tell(clock, Trigger.FALL_OVERDUE, reason, data, now_ms)

    def _find_due(self, clock: sa.RowMapping, now_ms: int) -> bool:
        kind, year = CLOCKS[clock["name"]], clock["missing_year"]
        reason = (
            f"{year} 年节假日表已有，{kind.zh}期限已算出"
            f" | the table of {year} is there, {kind.en}: due date known"
        )
        return self._tell(clock, Trigger.UPDATE, reason, {"clock": kind.name}, now_ms)

    def _tell(
        self,
        clock: sa.RowMapping,
        trigger: Trigger,
        reason: str,
        data: dict[str, object],
        now_ms: int,
    ) -> bool:
        """Make the transition, unless somebody has ended or noticed the clock since it was read."""
        with self._operational.write() as connection:
            seq = _seq_while_going(connection, clock)
            if seq is None:
                return False
            if trigger is Trigger.UPDATE:
                data["due_ms"] = _work_out(connection, clock)
            act_within(
                connection,
                clock["alert_id"],
                trigger,
                SYSTEM,
                reason,
                seq=seq,
                at_ms=now_ms,
                names=self._names,
                edit=_flag_overdue if trigger is Trigger.FALL_OVERDUE else _as_it_is,
                data={"clock_id": clock["id"], **data},
            )
        return True


def _seq_while_going(connection: sa.Connection, clock: sa.RowMapping) -> int | None:
    """Return the ``seq`` of the clock's alert; None when somebody has ended or noticed the clock since it was read."""
    query = (
        sa.select(alerts.c.seq)
        .join(clocks, clocks.c.alert_id == alerts.c.alert_id)
        .where(
            clocks.c.id == clock["id"], clocks.c.ended_ms.is_(None), clocks.c.overdue_ms.is_(None)
        )
    )
    return connection.scalar(query)


def _work_out(connection: sa.Connection, clock: sa.RowMapping) -> int | None:
    calendar = rules_of(connection).calendar
    ends = due(clock["started_ms"], Length.parse(clock["length"]), calendar)
    connection.execute(
        sa.update(clocks)
        .where(clocks.c.id == clock["id"])
        .values(due_ms=ends.due_ms, missing_year=ends.missing_year)
    )
    return ends.due_ms


def _flag_overdue(alert: Alert) -> None:
    alert.flags = sorted({*alert.flags, OVERDUE})


def _as_it_is(_alert: Alert) -> None:
    """Change nothing."""
