"""A record was corrected or withdrawn: alerts that rest on it are superseded; what still stands is raised again."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import sqlalchemy as sa
from ulid import ULID

from alerts.alert import LIMIT_UNVERIFIED, Alert
from alerts.keys import dedup_key
from alerts.states import State, Trigger, allows
from alerts.tables import OPEN_STATES, laboratory_reports
from alerts.tables import alerts as alerts_table
from alerts.transitions import record as write_down
from ingest.judge.records.corrections import WITHDRAWN
from ingest.tables import findings, tests

if TYPE_CHECKING:
    from collections.abc import Mapping

    from alerts.alert import Change
    from alerts.transitions import Names

_SAYS = (
    "parameter",
    "product_name",
    "sample_no",
    "method",
    "result_kind",
    "value",
    "unit",
    "qualifier",
    "lod",
    "loq",
    "components",
    "basis",
    "screen_result",
    "c_line",
    "t_line",
    "sampled_at",
)
"""What a verdict rests on; a correction that leaves all of it only completes the record."""

_DECIDES = ("confirms", "refutes")


def follow_corrections(
    connection: sa.Connection, replaced: Mapping[str, str], at_ms: int, names: Names
) -> None:
    """Supersede the alerts that rest on ``replaced`` (record -> what counts instead), in the judge's transaction.

    An alert rests on the record that it shows, and on the laboratory's records that confirmed or refuted it. When other
    findings of the alert stand, it is raised again from the surest of them, as a new alert that points to the old one.
    """
    said = _records(connection, {*replaced, *replaced.values()})
    for old, new in sorted(replaced.items()):
        if old not in said or new not in said or not _says_otherwise(said[old], said[new]):
            continue
        zh, en = (
            ("已撤回", "withdrawn")
            if WITHDRAWN in said[new]["flags"]
            else ("已更正", f"corrected by {new}")
        )
        for alert in _resting_on(connection, old, said[old]):
            reason = f"记录 {old} {zh} | record {old} {en}"
            facts = alert.facts(reason=reason)
            if not allows(alert.state, Trigger.SUPERSEDE, facts):
                continue
            data: dict[str, object] = {"record_id": old, "replaced_by": new}
            change = alert.move(Trigger.SUPERSEDE, facts, at_ms, cause=new, data=data)
            again = _again(connection, alert, new, at_ms)
            _write(connection, change, again, names)


def _says_otherwise(old: sa.RowMapping, new: sa.RowMapping) -> bool:
    if WITHDRAWN in new["flags"]:
        return True
    before, after = old["record"], new["record"]
    return any(before.get(name) != after.get(name) for name in _SAYS)


def _records(connection: sa.Connection, ids: set[str]) -> dict[str, sa.RowMapping]:
    c = tests.c
    query = sa.select(c.record_id, c.station, c.sample_no, c.flags, c.record)
    rows = connection.execute(query.where(c.record_id.in_(sorted(ids)))).mappings()
    return {row["record_id"]: row for row in rows}


def _resting_on(connection: sa.Connection, record_id: str, row: sa.RowMapping) -> list[Alert]:
    """Return the alerts that show the record, or that a report with it has confirmed or refuted."""
    ids = set(
        connection.scalars(
            sa.select(findings.c.alert_id).where(
                findings.c.record_id == record_id, findings.c.alert_id.is_not(None)
            )
        )
    )
    decided: set[str] = set()
    c = laboratory_reports.c
    reports = connection.execute(
        sa.select(c.record_ids, c.pairing).where(
            c.station == row["station"], c.sample_no == row["sample_no"]
        )
    )
    for record_ids, pairing in reports:
        if record_id in record_ids:
            decided |= {
                one["alert_id"]
                for one in pairing
                if one["result"] in _DECIDES and record_id in one["record_ids"]
            }
    query = sa.select(alerts_table).where(alerts_table.c.alert_id.in_(sorted(ids | decided)))
    found = (Alert.from_row(one) for one in connection.execute(query).mappings().all())
    return [
        alert
        for alert in found
        if alert.kind == "test"
        and (alert.alert_id in decided or alert.evidence.get("record_id") == record_id)
    ]


def _again(connection: sa.Connection, old: Alert, cause: str, at_ms: int) -> Change | None:
    """Return the alert raised anew from what still stands of ``old``; None when nothing does, or it is open already."""
    standing = (
        connection.execute(
            sa.select(findings)
            .join(tests, tests.c.record_id == findings.c.record_id)
            .where(findings.c.alert_id == old.alert_id, tests.c.superseded_by.is_(None))
            # "exceed" is of a confirmatory method; a screening never says more than "suspect"
            .order_by((findings.c.verdict == "exceed").desc(), findings.c.inbox_pos)
        )
        .mappings()
        .first()
    )
    if standing is None:
        return None
    target = (standing["station"], old.sample_no or standing["record_id"])
    key = dedup_key(standing["rule_id"], target, standing["indicator"], "product")
    taken = sa.select(alerts_table.c.alert_id).where(
        alerts_table.c.dedup_key == key,
        alerts_table.c.state.in_(OPEN_STATES),
        alerts_table.c.alert_id != old.alert_id,
    )
    if connection.scalar(taken) is not None:
        return None
    alert = _anew(old, standing, key, _id_of(standing, cause), at_ms)
    facts = alert.facts(reason=f"alert {old.alert_id}")
    confirms = standing["verdict"] == "exceed" and allows(State.NONE, Trigger.CONFIRM, facts)
    trigger = Trigger.CONFIRM if confirms else Trigger.SUSPECT
    return alert.move(trigger, facts, at_ms, cause=standing["finding_id"])


def _anew(old: Alert, finding: sa.RowMapping, key: str, alert_id: str, at_ms: int) -> Alert:
    screened = {k: v for k, v in old.evidence.items() if k.startswith("screened_by_")}
    place = ("finding_id", "station", "epoch", "seq", "position", "inbox_pos", "record_id")
    confirmatory = finding["verdict"] == "exceed"
    verified = finding["citation"].get("verified") is True
    flags = {*old.flags} - {LIMIT_UNVERIFIED} | (set() if verified else {LIMIT_UNVERIFIED})
    return Alert(
        alert_id=alert_id,
        dedup_key=key,
        kind="test",
        rule_id=finding["rule_id"],
        severity=finding["severity"],
        certainty="confirmatory" if confirmatory else "screening",
        station=old.station,
        device=finding["device"],
        plot_id=old.plot_id,
        region_code=old.region_code,
        indicator=finding["indicator"],
        product_name=old.product_name,
        sample_no=old.sample_no,
        value=finding["value"],
        unit=finding["unit"],
        citation=dict(finding["citation"]),
        evidence={**screened, **{name: finding[name] for name in place}},
        first_seen_ms=finding["t_ms"],
        last_seen_ms=finding["t_ms"],
        occurrence_count=1,
        flags=sorted(flags),
        raised_ms=at_ms,
        changed_ms=at_ms,
        purpose=old.purpose,
        sampling_stage=old.sampling_stage,
        related=[{"relation": "supersedes", "alert_id": old.alert_id}],
    )


def _id_of(finding: sa.RowMapping, cause: str) -> str:
    """Return an id that follows from what happened, as ``identity.alert_id_of``: a restored server finds it again."""
    digest = hashlib.sha256(f"again\0{finding['finding_id']}\0{cause}".encode()).digest()
    t_ms = min(max(int(finding["t_ms"]), 0), 2**48 - 1)
    return str(ULID(t_ms.to_bytes(6, "big") + digest[:10]))


def _in_force() -> sa.Select[tuple[str]]:
    return sa.select(tests.c.record_id).where(tests.c.superseded_by.is_(None))


def _write(connection: sa.Connection, change: Change, again: Change | None, names: Names) -> None:
    old = change.alert
    if again is not None:
        old.related = [
            *old.related,
            {"relation": "superseded_by", "alert_id": again.alert.alert_id},
        ]
    connection.execute(
        sa.update(alerts_table).where(alerts_table.c.alert_id == old.alert_id).values(old.to_row())
    )
    changes = [change]
    if again is not None:
        connection.execute(sa.insert(alerts_table).values(again.alert.to_row()))
        connection.execute(
            sa.update(findings)
            .where(findings.c.alert_id == old.alert_id, findings.c.record_id.in_(_in_force()))
            .values(alert_id=again.alert.alert_id)
        )
        changes.append(again)
    write_down(connection, changes, names)
