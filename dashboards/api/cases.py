"""The case of an alert: steps taken, clocks with the days that make their due dates, steps that may be taken now."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from sqlalchemy import Connection, RowMapping, select

from alerts.cases.calendar import Calendar, Day
from alerts.cases.clocks import BY_NAME as CLOCKS
from alerts.cases.errors import StepRefused, WrongStep
from alerts.cases.lengths import Length, explain
from alerts.cases.reading import (
    NO_DATE,
    Stand,
    clocks_of,
    going_clocks,
    situation,
    state_of,
    steps_of,
    taken_of,
)
from alerts.cases.rules import rules_of
from alerts.cases.steps import BY_NAME as STEPS
from alerts.cases.steps import Step, allowed, due_first
from alerts.casework import Document, NewStep, take_step
from alerts.errors import IllegalTransition, StaleAlert, UnknownAlert
from alerts.tables import alerts, cases
from dashboards.access import SourcesOf, Writer
from dashboards.api.case_models import (
    CaseReply,
    ClockList,
    ClockRow,
    DayRow,
    DocumentShape,
    GoingClock,
    NeedRow,
    NextStep,
    StepRow,
    TakeStep,
)
from dashboards.api.errors import READING, WRITING, documented
from dashboards.api.problems import STALE, Problem
from dashboards.api.strict import StrictRoute
from dashboards.api.times import local_time, parse_time

ULID = r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$"
CURSOR = r"^\d{1,15}-\d{1,18}$"
MAX_LIMIT = 500

AlertId = Annotated[str, Path(pattern=ULID, description="Alert id, a ULID")]

_OF_ALERT = ("station", "severity", "indicator", "product_name", "sample_no")

router = APIRouter(tags=["cases"])
writing = APIRouter(tags=["cases"], route_class=StrictRoute)


@router.get(
    "/alerts/{alert_id}/case",
    summary="The case of an alert: steps, clocks, what may be done now",
    responses=READING | documented(404),
)
def case_of(alert_id: AlertId, sources: SourcesOf) -> CaseReply:
    """Return the case of an alert."""
    with sources.operational.read() as connection:
        return case_reply(connection, alert_id, sources.now_ms())


@writing.post(
    "/alerts/{alert_id}/case/steps", summary="Record a step of the case", responses=WRITING
)
def step_taken(alert_id: AlertId, body: TakeStep, sources: SourcesOf, key: Writer) -> CaseReply:
    """Record a step that the law asks for; clocks start and end with it."""
    now_ms = sources.now_ms()
    try:
        at_ms = now_ms if body.at is None else parse_time("at", body.at)
        new = NewStep(
            step=body.step,
            at_ms=at_ms,
            note=body.note,
            document=Document(**body.document.model_dump()),
            data=body.data,
        )
        actor = f"{body.actor or key.name} ({key.id})"
        take_step(
            sources.operational,
            alert_id,
            new,
            actor,
            seq=body.seq,
            now_ms=now_ms,
            names=sources.names,
        )
    except WrongStep as exc:
        raise Problem(422, str(exc), field=exc.field) from exc
    except ValueError as exc:
        raise Problem(422, str(exc), field="at") from exc
    except UnknownAlert as exc:
        raise Problem(404, str(exc)) from exc
    except StepRefused as exc:
        raise Problem(409, str(exc), legal=list(exc.legal), reason=exc.reason) from exc
    except IllegalTransition as exc:
        raise Problem(409, str(exc), legal=list(exc.legal), reason=exc.reason) from exc
    except StaleAlert as exc:
        raise Problem(409, str(exc), code=STALE) from exc
    sources.wake.notify()
    sources.wake_sender()
    with sources.operational.read() as connection:
        return case_reply(connection, alert_id, now_ms)


@router.get("/clocks", summary="Clocks that run or are overdue", responses=READING)
def clock_list(
    sources: SourcesOf,
    state: Annotated[Literal["running", "overdue"], Query(description="Which of them")] = "running",
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Rows of a page")] = 50,
    after: Annotated[
        str | None, Query(pattern=CURSOR, description="`next` of the page before")
    ] = None,
) -> ClockList:
    """Return a page of clocks, the one due first at first; those whose calendar is missing come last."""
    now_ms = sources.now_ms()
    place = None if after is None else _place(after)
    query = going_clocks(state, now_ms, limit=limit + 1, after=place).add_columns(
        *(alerts.c[name] for name in _OF_ALERT), alerts.c.state.label("alert_state")
    )
    with sources.operational.read() as connection:
        calendar = rules_of(connection).calendar
        rows = connection.execute(query).mappings().all()
    page = rows[:limit]
    last = page[-1] if len(rows) > limit else None
    return ClockList(
        clocks=[
            GoingClock(
                alert_id=row["alert_id"],
                case_id=row["case_id"],
                alert_state=row["alert_state"],
                **{name: row[name] for name in _OF_ALERT},
                clock=_clock_row(row, calendar, now_ms),
            )
            for row in page
        ],
        next=None if last is None else f"{last['due_key']}-{last['id']}",
        calendar_to_year=calendar.last_year,
    )


def case_reply(connection: Connection, alert_id: str, now_ms: int) -> CaseReply:
    """Return the case of an alert; raise Problem 404 without the alert."""
    alert = (
        connection.execute(select(alerts).where(alerts.c.alert_id == alert_id))
        .mappings()
        .one_or_none()
    )
    if alert is None:
        raise Problem(404, f"no alert {alert_id!r}")
    case = (
        connection.execute(select(cases).where(cases.c.alert_id == alert_id))
        .mappings()
        .one_or_none()
    )
    now = situation(alert, taken_of(connection, alert_id))
    first = due_first(now)
    calendar = rules_of(connection).calendar
    return CaseReply(
        alert_id=alert_id,
        alert_seq=alert["seq"],
        alert_state=alert["state"],
        case_id=case["case_id"] if case else None,
        side=case["side"] if case else "",
        opened_at=_time(case["opened_ms"]) if case else None,
        closed_at=_time(case["closed_ms"]) if case else None,
        steps=[_step_row(row) for row in steps_of(connection, alert_id)],
        clocks=[_clock_row(row, calendar, now_ms) for row in clocks_of(connection, alert_id)],
        next=[_next_row(step, first=step.name == first) for step in allowed(now)],
    )


def _step_row(row: RowMapping) -> StepRow:
    kind = STEPS[row["step"]]
    return StepRow(
        step=kind.name,
        title_zh=kind.zh,
        title_en=kind.en,
        at=_said(row["at_ms"]),
        recorded_at=_said(row["recorded_ms"]),
        actor=row["actor"],
        note=row["note"],
        document=DocumentShape(
            type=row["document_type"], no=row["document_no"], sha256=row["document_sha256"]
        ),
        data=row["data"],
        alert_seq=row["alert_seq"],
    )


def _clock_row(row: RowMapping, calendar: Calendar, now_ms: int) -> ClockRow:
    kind = CLOCKS[row["name"]]
    state = state_of(
        Stand(*(row[n] for n in ("due_ms", "ended_ms", "overdue_ms", "voided"))), now_ms
    )
    due_ms, year = row["due_ms"], row["missing_year"]
    zh, en = _missing(year, known=due_ms is not None) if state == "running" and year else ("", "")
    goes_on = due_ms is not None and row["ended_ms"] is None
    return ClockRow(
        id=row["id"],
        name=kind.name,
        title_zh=kind.zh,
        title_en=kind.en,
        basis=row["basis"],
        who=kind.who,
        length=row["length"],
        started_at=_said(row["started_ms"]),
        due_at=_time(due_ms),
        missing_year=year,
        message_zh=zh,
        message_en=en,
        remaining_s=(due_ms - now_ms) // 1000 if goes_on else None,
        state=state,
        ended_at=_time(row["ended_ms"]),
        ended_by=row["ended_by"],
        overdue_at=_time(row["overdue_ms"]),
        days=_day_rows(explain(row["started_ms"], Length.parse(row["length"]), calendar)),
    )


def _missing(year: int, *, known: bool) -> tuple[str, str]:
    zh = f"{year} 年节假日表未发布/缺失"
    en = f"no table of holidays and make-up workdays for {year}"
    if known:
        return f"{zh}：末日如遇放假将顺延", f"{en}: moves when its last day is a day off"
    return f"{zh}：期限待定", f"{en}: due date not known yet"


def _day_rows(days: list[Day]) -> list[DayRow]:
    rows, number = [], 0
    for day in days:
        number += day.works
        rows.append(
            DayRow(
                date=day.day.isoformat(),
                counted=day.works,
                number=number if day.works else None,
                reason_zh=day.zh,
                reason_en=day.en,
            )
        )
    return rows


def _next_row(step: Step, *, first: bool) -> NextStep:
    return NextStep(
        step=step.name,
        title_zh=step.zh,
        title_en=step.en,
        first=first,
        needs=[
            NeedRow(
                field=need.field,
                title_zh=need.zh,
                title_en=need.en,
                kind=need.kind,
                choices=list(need.choices),
                required=need.default is None,
            )
            for need in step.needs
        ],
    )


def _place(cursor: str) -> tuple[int, int]:
    due_key, _, number = cursor.partition("-")
    if int(due_key) > NO_DATE:
        raise Problem(422, f"after: {cursor!r} is no `next` of a page", field="after")
    return int(due_key), int(number)


def _time(ms: int | None) -> str | None:
    return None if ms is None else _said(ms)


def _said(ms: int) -> str:
    return local_time(ms).isoformat(timespec="milliseconds" if ms % 1000 else "seconds")
