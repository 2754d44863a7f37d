"""Reports on their way in: all of them are checked before one is taken."""

from typing import Literal

from sqlalchemy import Connection, select

from alerts.laboratory import entry, sheet, workbook
from alerts.laboratory.pairing import Expected, expected
from alerts.laboratory.reports import (
    Place,
    ReportConflict,
    check_alert,
    check_same,
    is_station,
    place_of,
    sample_of,
    write,
)
from alerts.laboratory.withdrawal import withdrawal_of
from dashboards.api.laboratory_shapes import (
    EntryReply,
    ExpectedReply,
    ImportReply,
    LimitShown,
    ResultReply,
)
from dashboards.api.problems import Problem
from dashboards.api.records import deliver
from dashboards.keys import ApiKey
from dashboards.sources import Health
from drivers.records import TestRecord
from ingest.door import Door
from ingest.judge.catalogue.catalogue import Catalogue
from ingest.tables import tests

MAX_FAULTS = 500  # shown


class Ready:
    """A report that can be taken: where it goes, what its correction withdraws, what it will say."""

    def __init__(
        self,
        place: Place,
        accepted: entry.Accepted,
        withdrawn: tuple[TestRecord, ...],
        suspects: list[Expected],
    ) -> None:
        self.place = place
        self.accepted = accepted
        self.withdrawn = withdrawn
        self.suspects = suspects


class Desk:
    """Where reports are checked, then taken; nothing is written before all of them are checked."""

    def __init__(self, health: Health, door: Door, catalogue: Catalogue, key: ApiKey) -> None:
        self._health = health
        self._door = door
        self._catalogue = catalogue
        self._key = key

    def sheet(
        self, content: bytes, defaults: dict[str, str], actor: str, *, dry_run: bool
    ) -> ImportReply:
        """Check a sheet and take it, unless it is only looked at."""
        try:
            cells = workbook.cells(content)
        except workbook.WorkbookError as exc:
            raise Problem(422, str(exc), faults=[]) from exc
        read = sheet.read(cells, self._catalogue.names, defaults, actor)
        ready = self.check(read.reports, read.faults)
        replies = [reply_of(one, "checked") for one in ready] if dry_run else self.take(ready)
        return ImportReply(
            dry_run=dry_run,
            layout=read.layout,
            taken=sum(one.state == "taken" for one in replies),
            known=sum(one.state == "known" for one in replies),
            results=sum(len(one.results) for one in replies),
            reports=replies,
        )

    def check(self, reports: list[entry.Report], faults: list[entry.Fault]) -> list[Ready]:
        """Return the reports ready to be taken; raise Problem 422 with every fault, 409 for what is there otherwise."""
        ready: list[Ready] = []
        faults = list(faults)
        reader = entry.Entry(self._catalogue, self._door.now_ms())
        with self._health.operational.read() as connection:
            for report in reports:
                one = self._one(connection, reader, report, faults)
                if one is not None:
                    ready.append(one)
            if faults:
                raise _refused(faults)
            for one in ready:
                _conflict_free(connection, one)
        return ready

    def _one(
        self,
        connection: Connection,
        reader: entry.Entry,
        report: entry.Report,
        faults: list[entry.Fault],
    ) -> Ready | None:
        def fault(column: str, what: str) -> None:
            faults.append(entry.Fault(report.row, column, report.sample_no, what))

        if report.station and not is_station(connection, report.station):
            fault("station", f"未登记的站点 | no station {report.station!r}")
            return None
        place = place_of(connection, report)
        if place is None:
            fault("supersedes", "没有该样品的此报告 | no such report of this sample")
            return None
        if why := check_alert(connection, report):
            fault("alert_id", why)
        sample = sample_of(connection, report.station, report.sample_no)
        read = reader.read(report, sample, place.parents)
        if isinstance(read, list):
            faults += read
            return None
        codes = {one.code for one in read.results}
        gone = [record_id for code, record_id in place.parents.items() if code not in codes]
        rows = connection.execute(select(tests).where(tests.c.record_id.in_(gone))).mappings()
        reason = f"{report.report_no}: {report.note}".strip(": ")
        withdrawn = tuple(withdrawal_of(dict(row), reason, report.entered_by) for row in rows)
        return Ready(place, read, withdrawn, expected(connection, self._catalogue, read))

    def take(self, ready: list[Ready]) -> list[EntryReply]:
        """Put the records into the inbox, then write the rows; done again, it comes to the same."""
        for one in ready:
            if not one.place.is_known:
                for body in entry.bodies_of(one.accepted, one.withdrawn):
                    deliver(self._door, one.accepted.report.station, body, self._key)
        entered = [(one.place, one.accepted) for one in ready]
        try:
            with self._health.operational.write() as connection:
                ids = write(connection, entered, self._door.now_ms())
        except ReportConflict as exc:
            raise Problem(409, str(exc), report_id=exc.report_id) from exc
        return [
            reply_of(one, "known" if one.place.is_known else "taken", report_id)
            for one, report_id in zip(ready, ids, strict=True)
        ]


def _conflict_free(connection: Connection, one: Ready) -> None:
    if one.place.is_early:
        raise Problem(409, "the report that it corrects is not judged yet: try again")
    try:
        check_same(connection, one.place, one.accepted)
    except ReportConflict as exc:
        raise Problem(409, str(exc), report_id=exc.report_id) from exc


def _refused(faults: list[entry.Fault]) -> Problem:
    first = faults[0]
    where = "" if first.row is None else f"row {first.row} "
    return Problem(
        422,
        f"{len(faults)} faults, nothing was stored; the first: {where}{first.column}: {first.what}",
        faults=[
            {
                "row": one.row,
                "column": one.column,
                "sample_no": one.sample_no,
                "what": one.what,
            }
            for one in faults[:MAX_FAULTS]
        ],
        more=max(len(faults) - MAX_FAULTS, 0),
    )


def reply_of(
    one: Ready, state: Literal["taken", "known", "checked"], report_id: str = ""
) -> EntryReply:
    """Return how a report was understood, and what became of it."""
    report = one.accepted.report
    return EntryReply(
        report_id=report_id or (one.place.report_id if one.place.is_known else ""),
        state=state,
        station=report.station,
        sample_no=report.sample_no,
        laboratory=report.laboratory,
        report_no=report.report_no,
        record_ids=one.accepted.record_ids,
        results=[_result(report, each) for each in one.accepted.results],
        suspects=[
            ExpectedReply(
                alert_id=each.alert_id,
                state=each.state,
                indicator=each.indicator,
                says=each.statement.says.value,
                missing=list(each.statement.missing),
            )
            for each in one.suspects
        ],
    )


def _result(report: entry.Report, one: entry.Understood) -> ResultReply:
    record, written = one.record, report.results[one.index]
    return ResultReply(
        index=one.index,
        row=written.row,
        column=written.columns.get("value", ""),
        record_id=record.record_id,
        indicator=one.code,
        indicator_zh=one.name_zh,
        value=None if record.value is None else str(record.value),
        qualifier=record.qualifier or "",
        unit=record.unit,
        mg_per_kg=None if one.mg_per_kg is None else f"{one.mg_per_kg:f}",
        conversion=one.conversion,
        method=record.method,
        verdict=one.judgement.verdict,
        reason=one.judgement.reason,
        limits=[
            LimitShown(
                standard=each.standard,
                clause=each.clause,
                limit=each.limit,
                unit=each.unit,
                exceeded=each.exceeded,
                verified=each.verified,
            )
            for each in one.judgement.citations
        ],
    )
