"""What is sent and answered about laboratory reports."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from alerts.laboratory import entry
from dashboards.api.models import MAX_NAME, Ms, Shape

ULID = r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$"

Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=40)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, max_length=120)]
OptionalId = Annotated[str, StringConstraints(pattern=rf"{ULID}|^$")]


class ResultEntry(Shape):
    """One result, as the report says it."""

    indicator: Name = Field(description="Code, Chinese or English name, or CAS number")
    value: Text = Field(description="A number, `<0.01`, `>5` or 未检出 (ND)")
    unit: Text = Field(description="mg/kg, ug/kg, …; blank is refused, nothing is guessed")
    lod: Text = ""
    loq: Text = ""
    method: Name = Field("", description="Of this result; blank: the report's")


class ReportEntry(Shape):
    """What a laboratory says of one sample."""

    station: Text = Field(description="Station that took the sample")
    sample_no: Annotated[str, StringConstraints(strip_whitespace=True, max_length=60)]
    laboratory: Name
    report_no: Annotated[str, StringConstraints(strip_whitespace=True, max_length=80)]
    report_sha256: str = Field("", description="Of the report's file, 64 hex digits")
    method: Name = Field(description="Confirmatory method, code or name, or its standard")
    complete: bool = Field(description="It covers all that the screening stands for")
    reported_at: Text = Field(description="RFC 3339 time or date")
    received_at: Text = Field("", description="When the laboratory got the sample")
    alert_id: OptionalId = Field(
        "", description="The suspect it is for; found by the sample without"
    )
    product_name: Name = Field("", description="Needed for a sample that the station did not test")
    supersedes: OptionalId = Field("", description="Id of the report that this one corrects")
    results: Annotated[list[ResultEntry], Field(min_length=1, max_length=entry.MAX_RESULTS)]
    entered_by: Annotated[str, StringConstraints(strip_whitespace=True, max_length=MAX_NAME)] = ""
    source: Literal["api", "page"] = "api"
    note: Annotated[str, StringConstraints(strip_whitespace=True, max_length=2000)] = ""


class LimitShown(Shape):
    """A limit that the result is compared with."""

    standard: str
    clause: str
    limit: float | None
    unit: str
    exceeded: bool
    verified: bool = Field(description="False: 待核")


class ResultReply(Shape):
    """How a result was understood."""

    index: int
    row: int | None = Field(description="Of the sheet, from 1")
    column: str = Field(description="Of the sheet")
    record_id: str
    indicator: str = Field(description="Code")
    indicator_zh: str
    value: str | None
    qualifier: str
    unit: str = Field(description="UCUM code")
    mg_per_kg: str | None = Field(description="The same amount in mg/kg")
    conversion: str = Field(description="Blank when there was none")
    method: str
    verdict: str = Field(description="As it will be judged; the judge has the last word")
    reason: str
    limits: list[LimitShown]


class ExpectedReply(Shape):
    """What the report by itself says of a suspect."""

    alert_id: str
    state: str
    indicator: str
    says: Literal["confirms", "refutes", "incomplete", "nothing"]
    missing: list[str] = Field(description="Codes that must be looked at before it refutes")


class EntryReply(Shape):
    """What became of a report."""

    report_id: str
    state: Literal["taken", "known", "checked"] = Field(
        description="known: entered before, the same; checked: only looked at (dry_run)"
    )
    station: str
    sample_no: str
    laboratory: str
    report_no: str
    record_ids: list[str]
    results: list[ResultReply]
    suspects: list[ExpectedReply]


class ImportReply(Shape):
    """What became of a sheet."""

    dry_run: bool
    layout: Literal["long", "wide"]
    taken: int
    known: int
    results: int
    reports: list[EntryReply]


class PairingRow(Shape):
    """What a report said of one suspect, and whether it was followed."""

    alert_id: str
    says: Literal["confirms", "refutes", "incomplete", "nothing"]
    result: Literal["confirms", "refutes", "incomplete", "nothing", "refused", "waits"]
    record_ids: list[str]
    missing: list[str]
    reason: str = Field(description="Of a refusal")


class ReportRow(Shape):
    """A report that was entered."""

    report_id: str
    station: str
    sample_no: str
    laboratory: str
    report_no: str
    report_sha256: str
    method: str
    complete: bool
    alert_id: str | None
    source: str
    entered_by: str
    entered_ms: Ms
    reported_ms: Ms
    received_ms: Ms | None
    record_ids: list[str]
    note: str
    superseded_by: str | None
    state: Literal["awaiting", "paired", "superseded"] = Field(
        description="awaiting: its records are not all judged yet"
    )
    paired_ms: Ms | None
    pairing: list[PairingRow]


class ReportList(Shape):
    """A page of reports, newest first."""

    reports: list[ReportRow]
    next: str | None
