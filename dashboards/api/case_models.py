"""Shapes of cases, steps and clocks under ``/api/v1``."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from alerts.casework import MAX_NO, MAX_NOTE, MAX_TYPE
from dashboards.api.models import MAX_NAME, Json, Shape

Time = Annotated[str, Field(description="RFC 3339, Asia/Shanghai")]


class DocumentShape(Shape):
    """A document behind a step; its file is kept elsewhere and known by its hash."""

    type: Annotated[str, Field(max_length=MAX_TYPE, description="Such as 快检结果告知书")] = ""
    no: Annotated[str, Field(max_length=MAX_NO, description="Its number")] = ""
    sha256: Annotated[str, Field(description="Of its file, hex; blank without one")] = ""


class TakeStep(Shape):
    """A step that was taken."""

    step: Annotated[str, Field(max_length=32, description="Name of the step")]
    at: Annotated[
        str | None, Field(description="When, RFC 3339 with an offset or UTC ms; now without it")
    ] = None
    seq: Annotated[int, Field(ge=0, description="`alert_seq` of the case that was looked at")]
    actor: Annotated[
        str,
        StringConstraints(strip_whitespace=True, max_length=MAX_NAME),
        Field(description="Name of the person; the key's name when empty"),
    ] = ""
    note: Annotated[str, StringConstraints(strip_whitespace=True, max_length=MAX_NOTE)] = ""
    document: DocumentShape = DocumentShape()
    data: Json = Field(default_factory=dict, description="What `needs` names as data.*")


class StepRow(Shape):
    """A step that was taken."""

    step: str
    title_zh: str
    title_en: str
    at: Time
    recorded_at: Time
    actor: str
    note: str
    document: DocumentShape
    data: Json
    alert_seq: int = Field(description="The row of the alert's log that records it")


class DayRow(Shape):
    """One day of a clock."""

    date: str
    counted: bool = Field(description="Whether it is worked, and so counts")
    number: int | None = Field(description="Of the days counted, the how manieth")
    reason_zh: str
    reason_en: str


class ClockRow(Shape):
    """A clock of the law."""

    id: int
    name: str
    title_zh: str
    title_en: str
    basis: str = Field(description="Law and article")
    who: Literal["party", "agency", "laboratory", "police"] = Field(
        description="Who must act in time"
    )
    length: str = Field(description="4 h, 5 wd (working days), 90 d, 2 y")
    started_at: Time
    due_at: Time | None = Field(description="Null: the calendar of `missing_year` is not there")
    missing_year: int | None = Field(
        description="No table of holidays for this year; `due_at`, if any, may still move"
    )
    message_zh: str = Field(description="Says so; blank when nothing is missing")
    message_en: str
    remaining_s: int | None = Field(description="Negative when overdue; null unless it goes on")
    state: Literal["running", "overdue", "met", "met_late", "void"]
    ended_at: Time | None
    ended_by: str = Field(description="Step or trigger; blank while it goes on")
    overdue_at: Time | None = Field(description="When its passing was noticed and escalated")
    days: list[DayRow] = Field(
        description="Working days: each day after the start. Days: those that moved the end"
    )


class NeedRow(Shape):
    """Something that a step must say."""

    field: str
    title_zh: str
    title_en: str
    kind: Literal["text", "choice", "yes_no"]
    choices: list[str]
    required: bool


class NextStep(Shape):
    """A step that may be taken now."""

    step: str
    title_zh: str
    title_en: str
    first: bool = Field(description="The purpose of the test asks for it before all others")
    needs: list[NeedRow]


class CaseReply(Shape):
    """The case of an alert; without one yet, ``case_id`` is null and the first step opens it."""

    alert_id: str
    alert_seq: int
    alert_state: str
    case_id: str | None
    side: Literal["farm", "market", ""] = Field(description="Whose law sets the clocks")
    opened_at: Time | None
    closed_at: Time | None
    steps: list[StepRow]
    clocks: list[ClockRow]
    next: list[NextStep]


class GoingClock(Shape):
    """A clock that goes on, with its alert."""

    alert_id: str
    case_id: str
    station: str
    alert_state: str
    severity: str
    indicator: str
    product_name: str
    sample_no: str
    clock: ClockRow


class ClockList(Shape):
    """A page of clocks, the one due first at first."""

    clocks: list[GoingClock]
    next: str | None = Field(description="`after` of the next page; null at the end")
    calendar_to_year: int = Field(description="The last year whose table of holidays is there")
