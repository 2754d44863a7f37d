"""A Hypothesis state machine over alerts: whatever happens, in whatever order, the books agree (invariants I3, I5)."""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import hypothesis.strategies as st
import pytest
import sqlalchemy as sa
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from alerts.actions import acknowledge, confirm, dismiss
from alerts.chain import LogRow, first_break
from alerts.delivery.config import WebhookEndpoint
from alerts.delivery.configured import sync_endpoints
from alerts.delivery.signing import new_secret
from alerts.errors import IllegalTransition
from alerts.raising import AlertRaiser
from alerts.states import TABLE
from alerts.tables import OPEN_STATES, alert_transitions, alerts, outbox
from ingest.batch import Series
from ingest.judge.findings import Finding, Observation
from ingest.operational import Operational
from ingest.tables import events, findings

START_MS = 1_763_870_400_000
MINUTE_MS = 60_000
ENDPOINTS = ("county", "town")
LEGAL = {(str(row.source), str(row.target), row.event) for row in TABLE}
COLUMNS = [column.name for column in findings.c if column.name != "alert_id"]

devices = st.sampled_from(["plot1/water", "plot2/water"])
samples = st.sampled_from(["S1", "S2"])
severities = st.sampled_from(["warning", "critical"])
verified = st.booleans()


@pytest.fixture(scope="module", autouse=True)
def template(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Migrate one database; each example starts from a copy."""
    path = tmp_path_factory.mktemp("template") / "operational.db"
    database = Operational(f"sqlite:///{path}")
    database.migrate()
    rows = [
        WebhookEndpoint(name, name, "http://127.0.0.1:1/", new_secret(), allow_http=True)
        for name in ENDPOINTS
    ]
    sync_endpoints(database, rows, 0)
    database.close()
    AlertMachine.template = path


class CrashError(Exception):
    pass


class AlertMachine(RuleBasedStateMachine):
    template: Path
    breached = frozenset({"suspected"})  # where a series may be that has just breached
    positive = frozenset({"suspected", "confirmed"})  # where a sample may be after a screening
    proven = frozenset({"confirmed"})  # after a laboratory's result over the limit

    @initialize()
    def start(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        path = Path(self.directory.name) / "operational.db"
        shutil.copy(self.template, path)
        self.database = Operational(f"sqlite:///{path}")
        self.raiser = AlertRaiser()
        self.now_ms = START_MS
        self.count = 0
        self.people = (
            False  # the watch may name an alert that a person closed, until its next value
        )

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.database.close()
            self.directory.cleanup()

    # ------------------------------------------------------------ what happens

    def finding(self, **changes: object) -> Finding:
        self.count += 1
        values: dict[str, object] = {
            "finding_id": f"{self.count:064d}",
            "station": "hl-001",
            "epoch": "E",
            "seq": self.count,
            "position": 0,
            "inbox_pos": self.count,
            "kind": "reading",
            "device": "plot1/water",
            "indicator": "water_ph",
            "t_ms": self.now_ms,
            "value": 9.0,
            "unit": "[pH]",
            "record_id": "",
            "rule_id": "gb5084:pH",
            "verdict": "exceed",
            "severity": "major",
            "late": False,
            "citation": {"comparator": ">", "limit": 8.5, "ratio": 1.06, "verified": True},
            "certainty": "sensor",
            "flags": (),
            "sample_no": "",
            "product_name": "",
            "plot_id": "",
            "region_code": "",
            "clearable": True,
        }
        return Finding(**{**values, **changes})

    def sample(self, sample_no: str, *, verified: bool, **changes: object) -> Finding:
        values: dict[str, object] = {
            "kind": "test",
            "indicator": "carbofuran",
            "rule_id": "inhibition:carbofuran",
            "record_id": f"r{self.count}",
            "sample_no": sample_no,
            "clearable": False,
            "citation": {"comparator": ">=", "limit": 50.0, "ratio": 1.1, "verified": verified},
        }
        return self.finding(**{**values, **changes})

    def judge(self, items: list[Finding], seen: list[Observation], *, commit: bool = True) -> None:
        try:
            with self.database.write() as connection:
                for item in items:
                    connection.execute(
                        sa.insert(findings).values({name: getattr(item, name) for name in COLUMNS})
                    )
                self.raiser.apply(connection, items, seen, self.now_ms)
                if not commit:
                    raise CrashError  # noqa: TRY301 - the point of it
        except CrashError:
            return
        self.raiser.wake()

    def good(self, device: str, minutes: range, *, recovered: bool = True) -> list[Observation]:
        series = Series("hl-001", device, "water_ph")
        return [
            Observation(series, self.now_ms + n * MINUTE_MS, 7.0, "gb5084:pH", recovered)
            for n in minutes
        ]

    def states(self, **where: str) -> list[str]:
        with self.database.read() as connection:
            query = sa.select(alerts.c.state).where(
                *(alerts.c[name] == value for name, value in where.items())
            )
            return list(connection.scalars(query))

    @rule(hours=st.integers(1, 30))
    def time_passes(self, hours: int) -> None:
        self.now_ms += hours * 60 * MINUTE_MS

    @rule(device=devices, severity=severities, count=st.integers(1, 3))
    def breach(self, device: str, severity: str, count: int) -> None:
        items = []
        for _ in range(count):
            self.now_ms += 1000
            items.append(self.finding(device=device, severity=severity))
        self.judge(items, [])
        assert self.breached.intersection(self.states(device=device, kind="limit"))

    @rule(device=devices, severity=severities, hours=st.integers(1, 50))
    def late_breach(self, device: str, severity: str, hours: int) -> None:
        t_ms = self.now_ms - hours * 60 * MINUTE_MS
        self.judge([self.finding(device=device, severity=severity, late=True, t_ms=t_ms)], [])
        assert self.states(device=device, kind="limit")

    @rule(device=devices)
    def eleven_good_minutes(self, device: str) -> None:
        self.now_ms += MINUTE_MS
        self.judge([], self.good(device, range(12)))
        self.now_ms += 12 * MINUTE_MS
        assert "suspected" not in self.states(device=device, kind="limit")

    @rule(device=devices)
    def few_good_minutes_then_a_value_between(self, device: str) -> None:
        before = self.states(device=device)
        self.judge([], self.good(device, range(1, 5)))
        self.now_ms += 5 * MINUTE_MS
        self.judge([], self.good(device, range(1), recovered=False))
        self.now_ms += MINUTE_MS
        # At most a run that was already under way ends well; nothing is raised.
        assert len(self.states(device=device)) == len(before)

    @rule(device=devices)
    def late_good_values(self, device: str) -> None:
        before = self.states(device=device)
        with self.database.read() as connection:
            newest = connection.scalar(
                sa.select(alerts.c.last_seen_ms).where(
                    alerts.c.device == device, alerts.c.state == "suspected", alerts.c.clearable
                )
            )
        if newest is None:
            return
        series = Series("hl-001", device, "water_ph")
        times = [newest - n * MINUTE_MS for n in range(60, -1, -1)]
        self.judge(
            [], [Observation(series, t_ms, 7.0, "gb5084:pH", recovered=True) for t_ms in times]
        )
        assert self.states(device=device) == before

    @rule(sample=samples, verified=verified)
    def screening_positive(self, sample: str, *, verified: bool) -> None:
        self.judge(
            [self.sample(sample, verified=verified, certainty="screening", verdict="suspect")], []
        )
        assert self.positive.intersection(self.states(sample_no=sample))

    @rule(sample=samples, verified=verified)
    def laboratory_exceeds(self, sample: str, *, verified: bool) -> None:
        self.judge([self.sample(sample, verified=verified, certainty="confirmatory")], [])
        if verified:
            assert self.proven.intersection(self.states(sample_no=sample))
            assert "suspected" not in self.states(sample_no=sample)

    @rule(sample=samples)
    def laboratory_passes(self, sample: str) -> None:
        self.judge(
            [self.sample(sample, verified=True, certainty="confirmatory", verdict="pass")], []
        )
        assert "suspected" not in self.states(sample_no=sample)

    @rule(data=st.data(), action=st.sampled_from([acknowledge, dismiss, confirm]))
    def person_acts(self, data: st.DataObject, action: object) -> None:
        with self.database.read() as connection:
            ids = sorted(connection.scalars(sa.select(alerts.c.alert_id)))
        if not ids:
            return
        alert_id = data.draw(st.sampled_from(range(len(ids))))
        before = self.states()
        try:
            if action is dismiss:
                dismiss(self.database, ids[alert_id], "li", "false alarm", at_ms=self.now_ms)
            elif action is confirm:
                confirm(self.database, ids[alert_id], "li", at_ms=self.now_ms)
            else:
                acknowledge(self.database, ids[alert_id], "li", at_ms=self.now_ms)
            self.people = True
        except IllegalTransition:
            assert self.states() == before

    @rule(device=devices)
    def transaction_fails(self, device: str) -> None:
        before = self.states()
        self.judge([self.finding(device=device)], self.good(device, range(1, 30)), commit=False)
        assert self.states() == before

    @rule()
    def restart(self) -> None:
        self.raiser = AlertRaiser()
        with self.database.read() as connection:
            self.raiser.load(connection)
        self.people = False

    # ------------------------------------------------------------ what must always hold

    @invariant()
    def the_books_agree(self) -> None:
        with self.database.read() as connection:
            held = {row.alert_id: row for row in connection.execute(sa.select(alerts))}
            moves = connection.execute(
                sa.select(alert_transitions).order_by(alert_transitions.c.id)
            ).all()
            sent = connection.execute(sa.select(outbox)).all()
            shown = list(
                connection.scalars(sa.select(events.c.data).where(events.c.type == "alert"))
            )
            counted = Counter(
                row.alert_id
                for row in connection.execute(
                    sa.select(findings.c.alert_id).where(findings.c.verdict != "pass")
                )
            )
        fields = list(LogRow.__dataclass_fields__)
        assert (
            first_break(LogRow(**{name: getattr(row, name) for name in fields}) for row in moves)
            is None
        )
        by_alert = defaultdict(list)
        for row in moves:
            by_alert[row.alert_id].append(row)
        assert by_alert.keys() == held.keys()
        webhooks = defaultdict(list)
        for row in sent:
            webhooks[row.alert_id, row.alert_seq].append(row)
        for alert_id, log in by_alert.items():
            assert [row.seq for row in log] == list(range(1, held[alert_id].seq + 1))
            assert log[0].from_state == ""
            assert all(a.to_state == b.from_state for a, b in itertools.pairwise(log))
            assert log[-1].to_state == held[alert_id].state
            for row in log:
                rows = webhooks.pop((alert_id, row.seq))
                assert {item.endpoint_id for item in rows} == set(ENDPOINTS)
                assert len({item.body for item in rows}) == 1
                assert (row.from_state, row.to_state, rows[0].event_type) in LEGAL
                data = json.loads(rows[0].body)["data"]
                assert (data["seq"], data["state"], data["previous_state"]) == (
                    row.seq,
                    row.to_state,
                    row.from_state,
                )
        assert not webhooks
        assert len(shown) == len(moves)
        open_keys = Counter(row.dedup_key for row in held.values() if row.state in OPEN_STATES)
        assert all(count == 1 for count in open_keys.values())
        assert None not in counted
        for alert_id, row in held.items():
            assert 0 < row.occurrence_count <= counted[alert_id] + 2 * self.count
            assert row.first_seen_ms <= row.last_seen_ms
        watched = {
            Series(row.station, row.device, row.indicator)
            for row in held.values()
            if row.state == "suspected" and row.clearable
        }
        assert self.raiser.watched() >= watched
        assert self.people or self.raiser.watched() == watched


TestAlerts = AlertMachine.TestCase
TestAlerts.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
