"""Laboratory reports in the operational database: what is known of a sample, entered once, found again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa
from ulid import ULID

from alerts.errors import AlertError
from alerts.laboratory.entry import LABORATORY, Sample
from alerts.tables import alerts, laboratory_reports
from ingest.judge.records.corrections import IN_FORCE
from ingest.tables import stations, tests

if TYPE_CHECKING:
    from alerts.laboratory.entry import Accepted, Report

_R = laboratory_reports


class ReportConflict(AlertError):  # noqa: N818 - named after what happened
    """A report of this laboratory, number and sample is there already and says something else."""

    def __init__(self, report_id: str, what: str) -> None:
        super().__init__(what)
        self.report_id = report_id


@dataclass(frozen=True, slots=True)
class Place:
    """Where a report goes: the id it has or gets, whether it is there already, and the records it corrects, by code."""

    report_id: str
    is_known: bool
    parents: dict[str, str]
    is_early: bool = False  # the report that it corrects is not judged yet


def is_station(connection: sa.Connection, code: str) -> bool:
    """Whether there is such a station."""
    return connection.scalar(sa.select(stations.c.code).where(stations.c.code == code)) is not None


def sample_of(connection: sa.Connection, station: str, sample_no: str) -> Sample | None:
    """Return what the station's first test of the sample says, None when it tested no such sample."""
    c = tests.c
    first = (
        connection.execute(
            sa.select(c.record)
            .where(
                c.station == station,
                c.sample_no == sample_no,
                c.device != LABORATORY,
                IN_FORCE,
            )
            .order_by(c.inbox_pos, c.position)
            .limit(1)
        )
        .scalars()
        .first()
    )
    if first is None:
        return None
    named = connection.execute(
        sa.select(stations.c.name, stations.c.name_en).where(stations.c.code == station)
    ).first()
    return Sample(first, tuple(name for name in (named or ()) if name))


def place_of(connection: sa.Connection, report: Report) -> Place | None:
    """Return where the report goes; None when ``supersedes`` names no report of the sample. Nothing is written."""
    known = (
        connection.execute(
            sa.select(_R).where(
                _R.c.laboratory == report.laboratory,
                _R.c.report_no == report.report_no,
                _R.c.station == report.station,
                _R.c.sample_no == report.sample_no,
                _R.c.superseded_by.is_(None),
            )
        )
        .mappings()
        .first()
    )
    if report.supersedes:
        if known is not None and known["report_id"] != report.supersedes:
            return Place(known["report_id"], is_known=True, parents={})
        old = connection.execute(
            sa.select(_R.c.record_ids).where(
                _R.c.report_id == report.supersedes,
                _R.c.station == report.station,
                _R.c.sample_no == report.sample_no,
            )
        ).scalar()
        if old is None:
            return None
        rows = connection.execute(
            sa.select(tests.c.parameter, tests.c.record_id).where(tests.c.record_id.in_(old))
        )
        parents = {str(p): str(r) for p, r in rows}
        return Place(str(ULID()), is_known=False, parents=parents, is_early=len(parents) < len(old))
    if known is not None:
        return Place(known["report_id"], is_known=True, parents={})
    return Place(str(ULID()), is_known=False, parents={})


def check_same(connection: sa.Connection, place: Place, accepted: Accepted) -> None:
    """Raise ReportConflict when the report is there already with other content."""
    if not place.is_known:
        return
    row = (
        connection.execute(sa.select(_R).where(_R.c.report_id == place.report_id)).mappings().one()
    )
    if row["content_sha256"] == accepted.content_sha256:
        return
    raise ReportConflict(
        place.report_id,
        f"report {accepted.report.report_no!r} of {accepted.report.laboratory!r} on sample"
        f" {accepted.report.sample_no!r} is entered already and says otherwise: correct it with"
        f" supersedes = {place.report_id!r}",
    )


def check_alert(connection: sa.Connection, report: Report) -> str:
    """Return why the suspect named in the report is not one of its sample; blank when it is, or none is named."""
    if not report.alert_id:
        return ""
    row = connection.execute(
        sa.select(alerts.c.station, alerts.c.sample_no, alerts.c.kind).where(
            alerts.c.alert_id == report.alert_id
        )
    ).first()
    if row is None:
        return f"没有此预警 | no alert {report.alert_id!r}"
    if row.kind != "test" or (row.station, row.sample_no) != (report.station, report.sample_no):
        return (
            f"该预警的样品是 {row.station} {row.sample_no}"
            f" | that alert is of sample {row.sample_no!r} of station {row.station!r}"
        )
    return ""


def write(
    connection: sa.Connection, entered: list[tuple[Place, Accepted]], now_ms: int
) -> list[str]:
    """Write the rows of reports whose records the inbox has; one that is there already stays. Returns their ids."""
    ids: list[str] = []
    for place, accepted in entered:
        report = accepted.report
        again = place_of(connection, report) if not place.is_known else place
        if again is not None and again.is_known:  # entered twice at the same moment
            check_same(connection, again, accepted)
            ids.append(again.report_id)
            continue
        connection.execute(
            sa.insert(_R).values(
                report_id=place.report_id,
                station=report.station,
                sample_no=report.sample_no,
                laboratory=report.laboratory,
                report_no=report.report_no,
                report_sha256=report.report_sha256,
                complete=report.complete,
                alert_id=report.alert_id or None,
                source=report.source,
                entered_by=report.entered_by,
                entered_ms=now_ms,
                record_ids=accepted.record_ids,
                content_sha256=accepted.content_sha256,
                method=accepted.results[0].record.method,
                reported_ms=accepted.reported_ms,
                received_ms=accepted.received_ms,
                note=report.note,
            )
        )
        if report.supersedes:
            connection.execute(
                sa.update(_R)
                .where(_R.c.report_id == report.supersedes)
                .values(superseded_by=place.report_id)
            )
        ids.append(place.report_id)
    return ids
