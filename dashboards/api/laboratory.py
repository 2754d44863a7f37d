"""Laboratory reports: entered one by one or as a sheet, listed with what they said of the suspects of their sample."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import ColumnElement, Connection, RowMapping, select

from alerts.laboratory import entry, template
from alerts.tables import alerts, laboratory_reports
from dashboards.access import HealthOf, SourcesOf, Writer
from dashboards.api.errors import READING, WRITING, documented
from dashboards.api.laboratory_desk import Desk
from dashboards.api.laboratory_shapes import (
    ULID,
    EntryReply,
    ImportReply,
    Name,
    PairingRow,
    ReportEntry,
    ReportList,
    ReportRow,
    Text,
)
from dashboards.api.problems import Problem
from dashboards.api.records import door_of
from dashboards.api.strict import StrictRoute
from dashboards.keys import ApiKey
from dashboards.sources import Sources
from ingest.door import Door
from ingest.judge.catalogue.catalogue import Catalogue, standard_catalogue

MAX_LIMIT = 500
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

DoorOf = Annotated[Door, Depends(door_of)]

router = APIRouter(tags=["laboratory"])
writing = APIRouter(tags=["laboratory"], route_class=StrictRoute)


def catalogue_of(health: HealthOf) -> Catalogue:
    """Return the names and limits; those that ship with the project in a process without pages."""
    return health.standards.catalogue if isinstance(health, Sources) else standard_catalogue()


CatalogueOf = Annotated[Catalogue, Depends(catalogue_of)]


@writing.post(
    "/laboratory/reports",
    summary="Enter a laboratory's report",
    responses=WRITING | documented(503),
)
def enter(
    body: ReportEntry, health: HealthOf, door: DoorOf, catalogue: CatalogueOf, key: Writer
) -> EntryReply:
    """Take a report whole, or refuse it whole and say everything that is wrong with it."""
    values = body.model_dump(exclude={"results", "entered_by"})
    report = entry.Report(
        **values,
        entered_by=_actor(body.entered_by, key),
        results=tuple(entry.Result(**one.model_dump()) for one in body.results),
    )
    desk = Desk(health, door, catalogue, key)
    ready = desk.check([report], [])
    return desk.take(ready)[0]


@writing.post(
    "/laboratory/import",
    summary="Enter a sheet of results (XLSX)",
    responses=WRITING | documented(503),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {XLSX: {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def import_sheet(
    request: Request,
    health: HealthOf,
    door: DoorOf,
    catalogue: CatalogueOf,
    key: Writer,
    *,
    dry_run: Annotated[
        bool, Query(description="Only check, and show how it is understood")
    ] = False,
    station: Annotated[Text, Query(description="Where the sheet has no such column or cell")] = "",
    laboratory: Annotated[
        Name, Query(description="Who made the results, where the sheet does not say")
    ] = "",
    report_no: Annotated[
        Text, Query(description="Number of the report, where the sheet does not say")
    ] = "",
    method: Annotated[
        Name, Query(description="Confirmatory method or its standard, where the sheet does not say")
    ] = "",
    reported_at: Annotated[
        Text, Query(description="Time or date of the report, where the sheet does not say")
    ] = "",
    unit: Annotated[
        Text, Query(description="Of every value, where neither header nor cell says")
    ] = "",
    complete: Annotated[
        bool, Query(description="The results cover all that the screenings stand for")
    ] = False,
    entered_by: Annotated[
        Text, Query(description="Name of the person; the key's name when empty")
    ] = "",
) -> ImportReply:
    """Take a sheet whole, or refuse it whole and name every cell that is wrong; long and wide layout."""
    defaults = {
        "station": station,
        "laboratory": laboratory,
        "report_no": report_no,
        "method": method,
        "reported_at": reported_at,
        "unit": unit,
        "complete": "true" if complete else "",
    }
    desk = Desk(health, door, catalogue, key)
    content = await request.body()
    actor = _actor(entered_by, key)
    return await run_in_threadpool(desk.sheet, content, defaults, actor, dry_run=dry_run)


@router.get(
    "/laboratory/reports",
    summary="Laboratory reports, newest first",
    responses=READING | documented(404),
)
def report_list(
    sources: SourcesOf,
    alert_id: Annotated[str | None, Query(pattern=ULID, description="Of this suspect")] = None,
    sample_no: Annotated[str | None, Query(max_length=60, description="Of this sample")] = None,
    station: Annotated[str | None, Query(max_length=40, description="Station code")] = None,
    state: Annotated[
        Literal["awaiting", "paired", "superseded"] | None, Query(description="Exactly this")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Rows of a page")] = 50,
    before: Annotated[
        str | None, Query(pattern=ULID, description="`next` of the page before")
    ] = None,
) -> ReportList:
    """Return a page of reports with what they said of the suspects of their sample."""
    c = laboratory_reports.c
    query = select(laboratory_reports).order_by(c.report_id.desc())
    for column, wanted in ((c.sample_no, sample_no), (c.station, station)):
        if wanted is not None:
            query = query.where(column == wanted)
    if before is not None:
        query = query.where(c.report_id < before)
    match state:
        case "superseded":
            query = query.where(c.superseded_by.is_not(None))
        case "awaiting":
            query = query.where(c.superseded_by.is_(None), c.paired_ms.is_(None))
        case "paired":
            query = query.where(c.superseded_by.is_(None), c.paired_ms.is_not(None))
        case None:
            pass
    with sources.operational.read() as connection:
        if alert_id is not None:
            query = query.where(_of_alert(connection, alert_id))
        rows = connection.execute(query.limit(limit + 1)).mappings().all()
    page = rows[:limit]
    return ReportList(
        reports=[_report_row(row) for row in page],
        next=page[-1]["report_id"] if len(rows) > limit else None,
    )


@router.get(
    "/laboratory/template.xlsx",
    summary="An empty sheet to fill in",
    responses=READING
    | {200: {"content": {XLSX: {"schema": {"type": "string", "format": "binary"}}}}},
    response_class=Response,
)
def template_sheet(
    layout: Annotated[
        Literal["long", "wide"], Query(description="One result a row, or one sample a row")
    ] = "long",
) -> Response:
    """Return the template; further pesticides are further columns of the wide one."""
    name = f'attachment; filename="laboratory-{layout}.xlsx"'
    return Response(
        template.workbook(layout), media_type=XLSX, headers={"Content-Disposition": name}
    )


def _actor(name: str, key: ApiKey) -> str:
    return f"{name or key.name} ({key.id})"


def _of_alert(connection: Connection, alert_id: str) -> ColumnElement[bool]:
    """Reports of the alert's sample: those entered for it, and those found by the sample."""
    c = laboratory_reports.c
    found = connection.execute(
        select(alerts.c.station, alerts.c.sample_no).where(alerts.c.alert_id == alert_id)
    ).first()
    if found is None:
        raise Problem(404, f"no alert {alert_id!r}")
    of_sample = (c.station == found.station) & (c.sample_no == found.sample_no)
    return (c.alert_id == alert_id) | of_sample if found.sample_no else c.alert_id == alert_id


def _report_row(row: RowMapping) -> ReportRow:
    state: Literal["awaiting", "paired", "superseded"] = (
        "awaiting" if row["paired_ms"] is None else "paired"
    )
    computed = {"state", "pairing"}
    return ReportRow(
        **{name: row[name] for name in ReportRow.model_fields if name not in computed},
        state="superseded" if row["superseded_by"] else state,
        pairing=[PairingRow.model_validate(one) for one in row["pairing"]],
    )
