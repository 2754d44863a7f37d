"""A suspect of a rapid test in the database, and what happens to it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from alerts.actions import act
from alerts.alert import Alert
from alerts.cases.reading import Stand, clocks_of, state_of
from alerts.casework import Deadlines, Document, NewStep, take_step
from alerts.states import State, Trigger
from alerts.tables import alert_transitions, alerts

if TYPE_CHECKING:
    from collections.abc import Callable

    from ingest.operational import Operational

ALERT_ID = "01KARZ0000000000000000CASE"
PAPER = Document(type="快检结果告知书", no="湖光告〔2026〕1号", sha256="a" * 64)


def at(text: str) -> int:
    """Return UTC ms of a local time such as ``2026-09-30 10:00``."""
    return int(datetime.fromisoformat(f"{text}+08:00").timestamp() * 1000)


@dataclass
class Affair:
    """One alert with its case."""

    operational: Operational
    alert_id: str

    def row(self) -> sa.RowMapping:
        with self.operational.read() as connection:
            query = sa.select(alerts).where(alerts.c.alert_id == self.alert_id)
            return connection.execute(query).mappings().one()

    def log(self) -> list[sa.RowMapping]:
        with self.operational.read() as connection:
            query = sa.select(alert_transitions).order_by(alert_transitions.c.id)
            return list(connection.execute(query).mappings())

    def clocks(self) -> dict[str, sa.RowMapping]:
        with self.operational.read() as connection:
            return {row["name"]: row for row in clocks_of(connection, self.alert_id)}

    def states(self, now: str) -> dict[str, str]:
        keys = ("due_ms", "ended_ms", "overdue_ms", "voided")
        return {
            name: state_of(Stand(*(row[key] for key in keys)), at(now))
            for name, row in self.clocks().items()
        }

    def step(self, name: str, when: str, *, note: str = "说明", **data: object) -> Alert:
        new = NewStep(step=name, at_ms=at(when), note=note, document=PAPER, data=data)
        seq = self.row()["seq"]
        return take_step(
            self.operational, self.alert_id, new, "li", seq=seq, now_ms=max(at(when), self.now)
        )

    def do(self, trigger: Trigger, when: str, reason: str = "", **fields: object) -> Alert:
        def edit(alert: Alert) -> None:
            for name, value in fields.items():
                setattr(alert, name, value)

        return act(
            self.operational, self.alert_id, trigger, "li", reason, at_ms=at(when), edit=edit
        )

    def look(self, when: str) -> bool:
        return Deadlines(self.operational).look(at(when))

    now: int = 0


@pytest.fixture
def affair(operational: Operational) -> Callable[..., Affair]:
    """Put an alert into the database, a supervision check's unless changed."""

    def make(**changes: object) -> Affair:
        values: dict[str, object] = {
            "alert_id": ALERT_ID,
            "dedup_key": "k",
            "kind": "test",
            "rule_id": "r",
            "state": State.SUSPECTED,
            "seq": 1,
            "severity": "major",
            "certainty": "screening",
            "station": "hl-001",
            "device": "tester1",
            "indicator": "carbofuran",
            "value": 60.0,
            "unit": "%",
            "citation": {"verified": True},
            "evidence": {},
            "first_seen_ms": at("2025-01-02 09:00"),
            "last_seen_ms": at("2025-01-02 09:00"),
            "occurrence_count": 1,
            "flags": [],
            "raised_ms": at("2025-01-02 09:00"),
            "changed_ms": at("2025-01-02 09:00"),
            "purpose": "supervision",
            "sampling_stage": "base",
        }
        alert = Alert(**{**values, **changes})
        with operational.write() as connection:
            connection.execute(sa.insert(alerts).values(alert.to_row()))
        return Affair(operational, alert.alert_id)

    return make
