"""A laboratory's report meets the suspects of its sample: it confirms, refutes, or says why it does neither.

A duty, not a part of the judge's transaction: a result within the limit is no finding. One transaction for each report
marks it as paired and moves the alerts, so it happens once, whenever the process is killed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import sqlalchemy as sa

from alerts.actions import act_within
from alerts.alert import Alert
from alerts.bilingual import joined
from alerts.errors import IllegalTransition
from alerts.laboratory.groups import Wanted, wanted
from alerts.states import UNVERIFIED, State, Trigger
from alerts.tables import alerts, laboratory_reports
from drivers.records import Qualifier, Verdict
from ingest.judge.records.corrections import IN_FORCE
from ingest.tables import findings, stations, tests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from alerts.laboratory.entry import Accepted, Understood
    from alerts.states import Facts
    from alerts.transitions import Names
    from ingest.judge.catalogue.catalogue import Catalogue
    from ingest.operational import Operational

_R = laboratory_reports
_OPEN = (State.SUSPECTED, State.RETEST_ORDERED)
_SHOWN = 40  # codes in a list of what is missing


class Says(StrEnum):
    """What results say of one suspect."""

    CONFIRMS = "confirms"
    REFUTES = "refutes"
    INCOMPLETE = (
        "incomplete"  # nothing over, but not all that the screening stands for was looked at
    )
    NOTHING = "nothing"  # of other substances


@dataclass(frozen=True, slots=True)
class Outcome:
    """One judged result; ``compared``: there was a limit to compare with; ``verified``: that limit is."""

    record_id: str
    code: str
    verdict: str
    not_detected: bool
    compared: bool
    verified: bool

    @property
    def is_within(self) -> bool:
        """Whether it is good: a pass, or not detected where the product has no limit for it."""
        if self.verdict == Verdict.PASS:
            return True
        return self.verdict == Verdict.UNDETERMINED and self.not_detected and not self.compared


@dataclass(frozen=True, slots=True)
class Statement:
    """What the results say, those that do, and which substances are missing or open."""

    says: Says
    by: tuple[Outcome, ...] = ()
    missing: tuple[str, ...] = ()


def decide(want: Wanted, outcomes: Iterable[Outcome], *, complete: bool) -> Statement:
    """Return what results say of a suspect that stands for ``want``; only a ``complete`` report refutes.

    >>> want = Wanted(frozenset({"phorate"}), frozenset({"phorate"}))
    >>> good = Outcome("r", "phorate", "pass", True, True, True)
    >>> (
    ...     str(decide(want, [good], complete=True).says),
    ...     str(decide(want, [good], complete=False).says),
    ... )
    ('refutes', 'incomplete')
    """
    of_it = [one for one in outcomes if one.code in want.members]
    if not of_it:
        return Statement(Says.NOTHING)
    over = tuple(one for one in of_it if one.verdict == Verdict.EXCEED)
    if over:
        return Statement(Says.CONFIRMS, over)
    within = {one.code for one in of_it if one.is_within}
    open_ = {one.code for one in of_it} - within
    if len(want.required) == 1 and not open_:
        # A residue defined as a sum passes only when all its parts were measured: the judge saw to that.
        missing: set[str] = set()
    else:
        missing = (set(want.required) - within) | open_
    if complete and not missing:
        return Statement(Says.REFUTES, tuple(of_it))
    return Statement(Says.INCOMPLETE, tuple(of_it), tuple(sorted(missing)))


@dataclass(frozen=True, slots=True)
class Expected:
    """What a report is going to say of a suspect once it is judged."""

    alert_id: str
    state: str
    indicator: str
    statement: Statement


def expected(connection: sa.Connection, catalogue: Catalogue, accepted: Accepted) -> list[Expected]:
    """Return what the report by itself would say of the suspects of its sample; nothing is written."""
    outcomes = [_foreseen(one) for one in accepted.results]
    report = accepted.report
    return [
        Expected(
            alert.alert_id,
            alert.state,
            alert.indicator,
            decide(
                wanted(
                    catalogue, alert.indicator, str(alert.evidence.get("screened_by_method", ""))
                ),
                outcomes,
                complete=report.complete,
            ),
        )
        for alert in _suspects(connection, report.station, report.sample_no)
    ]


def _foreseen(one: Understood) -> Outcome:
    citations = one.judgement.citations
    return Outcome(
        record_id=one.record.record_id,
        code=one.code,
        verdict=one.judgement.verdict,
        not_detected=one.record.qualifier is Qualifier.NOT_DETECTED,
        compared=bool(citations),
        verified=any(each.verified for each in citations if each.exceeded),
    )


class Pairing:
    """Looks for reports whose records are judged, and settles each once."""

    def __init__(self, operational: Operational, catalogue: Catalogue, names: Names) -> None:
        self._operational = operational
        self._catalogue = catalogue
        self._names = names

    def look(self, now_ms: int) -> bool:
        """Settle every report that can be; return whether an alert was touched."""
        wrote = False
        for report in self._ready():
            with self._operational.write() as connection:
                wrote |= self._settle(connection, report, now_ms)
        return wrote

    def _ready(self) -> list[sa.RowMapping]:
        """Return the reports whose records are judged: those not settled yet, and those that a suspect came after."""
        with self._operational.read() as connection:
            waiting = connection.execute(
                sa.select(_R).where(_R.c.paired_ms.is_(None)).order_by(_R.c.entered_ms)
            ).mappings()
            ready = [row for row in waiting.all() if _judged(connection, row["record_ids"])]
            # A station that was offline may deliver its screening after the laboratory has reported.
            met = connection.execute(
                sa.select(_R, alerts.c.alert_id.label("suspect"))
                .join(
                    alerts,
                    (alerts.c.station == _R.c.station) & (alerts.c.sample_no == _R.c.sample_no),
                )
                .where(
                    alerts.c.state.in_(_OPEN),
                    alerts.c.kind == "test",
                    _R.c.paired_ms.is_not(None),
                    _R.c.superseded_by.is_(None),
                )
                .order_by(_R.c.entered_ms)
            ).mappings()
            late = {row["report_id"]: row for row in met if row["suspect"] not in _met(row)}
            return [*ready, *late.values()]

    def _settle(self, connection: sa.Connection, report: sa.RowMapping, now_ms: int) -> bool:
        mine = connection.execute(
            sa.update(_R)
            .where(
                _R.c.report_id == report["report_id"],
                _R.c.paired_ms.is_(None)
                if report["paired_ms"] is None
                else _R.c.paired_ms == report["paired_ms"],
            )
            .values(paired_ms=now_ms)
        )
        if mine.rowcount != 1:
            return False
        results = self._results(connection, report)
        suspects = _suspects(connection, report["station"], report["sample_no"])
        said = [
            self._meet(connection, alert, report, results, now_ms)
            for alert in suspects
            if alert.alert_id not in _met(report)
        ]
        connection.execute(
            sa.update(_R)
            .where(_R.c.report_id == report["report_id"])
            .values(pairing=[*report["pairing"], *said])
        )
        return any(one["says"] != Says.NOTHING for one in said)

    def _results(self, connection: sa.Connection, report: sa.RowMapping) -> list[Outcome]:
        """Return the results of all reports on the sample that count: two may complete each other."""
        kept = connection.scalars(
            sa.select(_R.c.record_ids).where(
                _R.c.station == report["station"],
                _R.c.sample_no == report["sample_no"],
                _R.c.superseded_by.is_(None),
            )
        )
        ids = sorted({record_id for record_ids in kept for record_id in record_ids})
        rows = connection.execute(
            sa.select(tests).where(tests.c.record_id.in_(ids), IN_FORCE)
        ).mappings()
        return [_outcome(row) for row in rows]

    def _meet(
        self,
        connection: sa.Connection,
        alert: Alert,
        report: sa.RowMapping,
        results: Sequence[Outcome],
        now_ms: int,
    ) -> dict[str, object]:
        method = str(alert.evidence.get("screened_by_method", ""))
        want = wanted(self._catalogue, alert.indicator, method)
        # A report of which a result was withdrawn covers less than it said.
        kept = {one.record_id for one in results}
        complete = report["complete"] and kept.issuperset(report["record_ids"])
        said = decide(want, results, complete=complete)
        row: dict[str, object] = {
            "alert_id": alert.alert_id,
            "says": said.says.value,
            "result": said.says.value,
            "record_ids": [one.record_id for one in said.by],
            "missing": list(said.missing[:_SHOWN]),
            "reason": "",
        }
        if said.says is Says.NOTHING:
            return row
        trigger = {Says.CONFIRMS: Trigger.CONFIRM, Says.REFUTES: Trigger.REFUTE}.get(said.says)
        meeting = _Meeting(connection, alert, report, said, self._names, now_ms)
        # What is not open was confirmed in the judge's transaction already.
        if trigger is None or alert.state not in _OPEN:
            meeting.note(said.says.value)
            return row
        try:
            meeting.move(trigger)
        except IllegalTransition as exc:
            row["result"] = "waits" if exc.reason == UNVERIFIED else "refused"
            row["reason"] = exc.reason
            meeting.note(str(row["result"]), exc.reason)
        return row


@dataclass(frozen=True, slots=True)
class _Meeting:
    """One report and one suspect, in one transaction."""

    connection: sa.Connection
    alert: Alert
    report: sa.RowMapping
    said: Statement
    names: Names
    now_ms: int

    def move(self, trigger: Trigger) -> None:
        """Confirm or refute; raise IllegalTransition, which leaves everything as it was."""
        beside = self._beside() if trigger is Trigger.CONFIRM else []

        def edit(alert: Alert) -> None:
            alert.retest = self._retest(self.said.says.value)
            if trigger is Trigger.CONFIRM:
                alert.certainty = "confirmatory"
            alert.related = [*alert.related, *(one for one in beside if one not in alert.related)]

        self._act(trigger, edit)

    def note(self, result: str, refusal: str = "") -> None:
        """Say on the alert what the report did not change, and why."""

        def edit(alert: Alert) -> None:
            alert.retest = self._retest(result) | ({"reason": refusal} if refusal else {})

        self._act(Trigger.UPDATE, edit, refusal)

    def _act(self, trigger: Trigger, edit: Callable[[Alert], None], more: str = "") -> None:
        report = self.report
        reason = (
            f"检验报告 {report['report_no']}（{report['laboratory']}）"
            f" | laboratory report {report['report_no']} ({report['laboratory']})"
        )
        act_within(
            self.connection,
            self.alert.alert_id,
            trigger,
            "system",
            joined(reason, more),
            at_ms=self.now_ms,
            names=self.names,
            data={
                "report_id": report["report_id"],
                "record_ids": [one.record_id for one in self.said.by][:_SHOWN],
                "missing": list(self.said.missing[:_SHOWN]),
            },
            edit=edit,
            know=self._know,
        )

    def _retest(self, result: str) -> dict[str, object]:
        return {
            "order_id": str(self.alert.retest.get("order_id", "")),
            "laboratory": self.report["laboratory"],
            "result": result,
            "report_no": self.report["report_no"],
            "report_id": self.report["report_id"],
        }

    def _know(self, facts: Facts) -> Facts:
        evidence = self.alert.evidence
        own = {self.alert.station, str(evidence.get("screened_by_laboratory", ""))}
        named = self.connection.execute(
            sa.select(stations.c.name, stations.c.name_en).where(
                stations.c.code == self.alert.station
            )
        ).first()
        own |= set(named or ())
        screened_by = str(evidence.get("screened_by_method", ""))
        unverified = facts.limit_unverified
        if self.said.says is Says.CONFIRMS:
            unverified = not any(one.verified for one in self.said.by)
        return replace(
            facts,
            certainty="confirmatory",
            same_method=bool(screened_by) and screened_by == self.report["method"],
            same_laboratory=_folded(self.report["laboratory"]) in {_folded(n) for n in own if n},
            limit_unverified=unverified,
        )

    def _beside(self) -> list[dict[str, str]]:
        """Return the alerts of the results themselves: what confirms a group has an alert of its own."""
        shown = {one.record_id for one in self.said.by}
        rows = self.connection.execute(
            sa.select(alerts.c.alert_id, alerts.c.evidence).where(
                alerts.c.station == self.alert.station,
                alerts.c.sample_no == self.alert.sample_no,
                alerts.c.kind == "test",
                alerts.c.alert_id != self.alert.alert_id,
            )
        )
        return [
            {"relation": "confirmed_by", "alert_id": alert_id}
            for alert_id, evidence in rows
            if evidence.get("record_id") in shown
        ]


def _met(report: sa.RowMapping) -> set[str]:
    return {one["alert_id"] for one in report["pairing"]}


def _judged(connection: sa.Connection, record_ids: Sequence[str]) -> bool:
    count = sa.select(sa.func.count()).where(tests.c.record_id.in_(record_ids))
    return connection.scalar(count) == len(record_ids)


def _suspects(connection: sa.Connection, station: str, sample_no: str) -> list[Alert]:
    """Return the open alerts of the sample that a report may speak about, screened ones only."""
    c = alerts.c
    rows = connection.execute(
        sa.select(alerts)
        .where(
            c.station == station,
            c.sample_no == sample_no,
            c.kind == "test",
            c.state.in_([*_OPEN, State.CONFIRMED]),
        )
        .order_by(c.alert_id)
    ).mappings()
    found = [Alert.from_row(row) for row in rows.all()]
    return [one for one in found if one.state in _OPEN or _is_unpaired(connection, one)]


def _is_unpaired(connection: sa.Connection, alert: Alert) -> bool:
    """Whether a screening was confirmed in the judge's transaction, and by which report is not on the alert yet."""
    if alert.retest.get("report_no"):
        return False
    screened = sa.select(findings.c.finding_id).where(
        findings.c.alert_id == alert.alert_id, findings.c.verdict == Verdict.SUSPECT
    )
    return connection.execute(screened.limit(1)).first() is not None


def _outcome(row: sa.RowMapping) -> Outcome:
    over = [one for one in row["findings"] if one.get("exceeded")]
    return Outcome(
        record_id=row["record_id"],
        code=row["parameter"],
        verdict=row["verdict"],
        not_detected=row["qualifier"] == Qualifier.NOT_DETECTED,
        compared=bool(row["findings"]),
        verified=any(one.get("verified") is True for one in over),
    )


def _folded(name: str) -> str:
    return "".join(name.split()).casefold()
