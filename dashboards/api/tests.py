"""Rapid tests, newest first."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Query
from sqlalchemy import Connection, RowMapping, Select, select, tuple_

from dashboards.access import SourcesOf
from dashboards.api.errors import READING, documented
from dashboards.api.models import (
    ComponentRow,
    SampleDetail,
    SampleItem,
    TestList,
    TestRow,
    VerdictName,
)
from dashboards.api.samples import Samples, of_sample, taken_ms
from dashboards.sources import Sources
from ingest.judge.records.corrections import IN_FORCE
from ingest.judge.records.pass_scope import pass_scope
from ingest.judge.records.sample_verdict import substance_of
from ingest.tables import devices, findings, stations, tests

MAX_LIMIT = 500

_CURSOR = re.compile(r"(\d{1,15})(?::(.{1,64}))?", re.ASCII)
_OLDEST_FIRST = (tests.c.attempt, tests.c.tested_ms, tests.c.inbox_pos, tests.c.record_id)
_COLUMNS = tuple(tests.c[name] for name in TestRow.model_fields if name in tests.c)

router = APIRouter(tags=["tests"])


@router.get("/tests", summary="Rapid tests, newest first", responses=READING)
def rapid_tests(
    sources: SourcesOf,
    station: Annotated[str | None, Query(max_length=40, description="Station code")] = None,
    verdict: Annotated[VerdictName | None, Query(description="Our verdict")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Rows of a page")] = 50,
    before: Annotated[
        str | None,
        Query(max_length=80, description="`next` of the page before, or a test time in UTC ms"),
    ] = None,
) -> TestList:
    """Return a page of tests with our verdicts; one that was completed or corrected is with its sample only."""
    query = _select().where(IN_FORCE)
    query = query.order_by(tests.c.tested_ms.desc(), tests.c.record_id.desc()).limit(limit + 1)
    if station is not None:
        query = query.where(tests.c.station == station)
    if verdict is not None:
        query = query.where(tests.c.verdict == verdict)
    if before is not None:
        tested_ms, record_id = _cursor(before)
        # Tests of one millisecond are told apart by their id, so that none falls between two pages.
        query = query.where(tuple_(tests.c.tested_ms, tests.c.record_id) < (tested_ms, record_id))
    with sources.operational.read() as connection:
        rows = connection.execute(query).mappings().all()
        page = rows[:limit]
        alert_ids = _alert_ids(connection, page)
    more = len(rows) > limit
    return TestList(
        tests=[_test_row(row, alert_ids, sources) for row in page],
        next=f"{page[-1]['tested_ms']}:{page[-1]['record_id']}" if more else None,
    )


@router.get(
    "/tests/{record_id}/sample",
    summary="All tests of the sample of one test",
    responses=READING | documented(404),
)
def sample_of_test(
    sources: SourcesOf,
    record_id: Annotated[str, Path(max_length=64, description="Any test of the sample")],
) -> SampleDetail:
    """Return the first test and the repeats of a sample, what they say together, and what was completed since."""
    with sources.operational.read() as connection:
        asked = (
            connection.execute(_select().where(tests.c.record_id == record_id)).mappings().first()
        )
        if asked is None:
            raise HTTPException(404, f"test {record_id} is not known")
        if asked["superseded_by"]:
            last = _select().where(tests.c.record_id == asked["superseded_by"])
            asked = connection.execute(last).mappings().first() or asked
        of_it = (of_sample(asked), IN_FORCE | (tests.c.record_id == asked["record_id"]))
        query = _select().where(*of_it).order_by(*_OLDEST_FIRST).limit(MAX_LIMIT)
        counted = connection.execute(query).mappings().all()
        ids = [row["record_id"] for row in counted]
        evidence = _select().where(tests.c.superseded_by.in_(ids)).limit(MAX_LIMIT)
        rows = sorted([*counted, *connection.execute(evidence).mappings()], key=_oldest_first)
        alert_ids = _alert_ids(connection, rows)
    names = sources.standards.catalogue.names
    (verdict,) = Samples(names, counted).verdicts()
    parameters = {
        substance_of(names, row["parameter"]): row["parameter"] for row in reversed(counted)
    }
    items = []
    for substance, said in verdict.by_substance.items():
        zh, en = sources.names(parameters[substance])
        items.append(
            SampleItem(
                parameter=parameters[substance],
                parameter_zh=zh,
                parameter_en=en,
                verdict=said.verdict.value,
                first=said.first.value,
                repeats=[one.value for one in said.repeats],
                repeats_due=said.repeats_due,
                confirmed=said.confirmed,
            )
        )
    return SampleDetail(
        station=asked["station"],
        sample_no=asked["sample_no"],
        verdict=verdict.verdict.value,
        items=items,
        tests=[_test_row(row, alert_ids, sources) for row in rows],
    )


def _oldest_first(row: RowMapping) -> tuple[object, ...]:
    return tuple(row[column.name] for column in _OLDEST_FIRST)


def test_by_id(sources: Sources, connection: Connection, record_id: str) -> TestRow | None:
    """Return one test, None when there is none."""
    row = connection.execute(_select().where(tests.c.record_id == record_id)).mappings().first()
    if row is None:
        return None
    return _test_row(row, _alert_ids(connection, [row]), sources)


def _select() -> Select[tuple[object, ...]]:
    return select(
        *_COLUMNS,
        tests.c.record,
        tests.c.inbox_pos,
        taken_ms.label("taken_ms"),
        stations.c.name.label("station_name"),
        stations.c.name_en.label("station_name_en"),
        devices.c.name.label("device_name"),
    ).select_from(
        tests.outerjoin(stations, stations.c.code == tests.c.station).outerjoin(
            devices, (devices.c.station == tests.c.station) & (devices.c.path == tests.c.device)
        )
    )


def _cursor(text: str) -> tuple[int, str]:
    match = _CURSOR.fullmatch(text)
    if match is None:
        raise HTTPException(
            422, f"before: {text!r} is neither `next` of a page nor UTC milliseconds"
        )
    return int(match[1]), match[2] or ""


def _alert_ids(connection: Connection, rows: Sequence[RowMapping]) -> dict[str, str]:
    """Return the alert of each test that has one, by record id."""
    query = (
        select(findings.c.record_id, findings.c.alert_id)
        .where(
            # Station and device lead an index: only the findings of these testers are looked at.
            findings.c.station.in_({row["station"] for row in rows}),
            findings.c.device.in_({row["device"] for row in rows}),
            findings.c.record_id.in_([row["record_id"] for row in rows]),
            findings.c.alert_id.is_not(None),
        )
        .order_by(findings.c.alert_id)
    )
    return dict(connection.execute(query).all())


def _test_row(row: RowMapping, alert_ids: dict[str, str], sources: Sources) -> TestRow:
    zh, en = sources.names(row["parameter"])
    sent: Mapping[str, object] = row["record"]
    return TestRow(
        **{column.name: row[column.name] for column in _COLUMNS if column is not tests.c.findings},
        findings=row["findings"],
        station_name=row["station_name"] or row["station"],
        station_name_en=row["station_name_en"] or "",
        device_name=row["device_name"] or "",
        product_name_en=sources.products(row["product_name"]),
        parameter_zh=zh,
        parameter_en=en,
        pass_scope=pass_scope(
            sources.standards.catalogue.names, row["parameter"], row["method"], row["result_kind"]
        ).value,
        alert_id=alert_ids.get(row["record_id"]),
        lod=_decimal(sent.get("lod")),
        loq=_decimal(sent.get("loq")),
        basis=str(sent.get("basis") or ""),
        components=_components(sent.get("components"), sources),
    )


def _components(sent: object, sources: Sources) -> list[ComponentRow]:
    """Return the members of a sum as they were sent."""
    rows = []
    for part in sent if isinstance(sent, list) else ():
        parameter = str(part.get("parameter", ""))
        zh, en = sources.names(parameter)
        rows.append(
            ComponentRow(
                parameter=parameter,
                parameter_zh=zh,
                parameter_en=en,
                value=_decimal(part.get("value")),
                unit=str(part.get("unit", "")),
                qualifier=str(part.get("qualifier") or ""),
                lod=_decimal(part.get("lod")),
                loq=_decimal(part.get("loq")),
            )
        )
    return rows


def _decimal(sent: object) -> str | None:
    """Return a decimal as it was sent, as text."""
    return None if sent is None else str(sent)
