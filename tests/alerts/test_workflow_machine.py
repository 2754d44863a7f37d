"""A Hypothesis state machine over alerts, cases, silences and outbox (invariants I2 to I5 of the fault cases).

To what the machine of alerts does come: decisions of people, steps of cases, deadlines, silences, clusters, and a
sender that leases, answers and dies. At the end all silences are over and everything is delivered: then each
receiver and each person knows every alert as it is.
"""

from __future__ import annotations

import hypothesis.strategies as st
import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import settings
from hypothesis.stateful import initialize, invariant, rule

from alerts import clusters
from alerts.actions import act
from alerts.alert import Alert
from alerts.cases.errors import StepRefused
from alerts.cases.reading import situation, taken_of
from alerts.cases.steps import TABLE as STEPS
from alerts.cases.steps import allowed
from alerts.casework import Deadlines, Document, NewStep, take_step
from alerts.decisions import DECISIONS, OUTCOMES, decide, open_decisions
from alerts.delivery import outbox as sending
from alerts.delivery.booking import Settled
from alerts.delivery.config import WebhookEndpoint
from alerts.delivery.configured import sync_endpoints
from alerts.delivery.schedule import Answer
from alerts.delivery.schedule import decide as after_answer
from alerts.delivery.signing import new_secret
from alerts.errors import AlertError, IllegalTransition
from alerts.policies.policy import Policy
from alerts.policies.store import sync_policies
from alerts.policy_watch import Silences, cancel
from alerts.states import Trigger
from alerts.tables import (
    OPEN_STATES,
    alert_transitions,
    alerts,
    clocks,
    delivery_attempts,
    notices,
    outbox,
    silences,
    targets,
)
from alerts.transitions import indicator_names
from ingest.operational import Operational
from tests.alerts.test_alert_machine import ENDPOINTS, MINUTE_MS, AlertMachine

HOUR_MS = 60 * MINUTE_MS
TOWNSHIP = "440811003"
WORDS = {
    "reason": "the officer has looked at it",
    "agency": "county enforcement",
    "case_no": "县农罚〔2026〕3号",
    "outcome": OUTCOMES[0],
}
STATIONS = ({"station": ["hl-001"]}, {"kind": ["test", "cluster"]})


@pytest.fixture(scope="module", autouse=True)
def template(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Migrate one database with two endpoints, one person to be told, and a policy that tells all of them."""
    path = tmp_path_factory.mktemp("workflow") / "operational.db"
    database = Operational(f"sqlite:///{path}")
    database.migrate()
    rows = [
        WebhookEndpoint(name, name, "http://127.0.0.1:1/", new_secret(), allow_http=True)
        for name in ENDPOINTS
    ]
    sync_endpoints(database, rows, 0)
    with database.write() as connection:
        connection.execute(
            sa.insert(targets).values(
                id="desk", kind="wecom", name="desk", settings="", active=True
            )
        )
        clusters.keep(connection, clusters.ClusterRules(cluster_count=2))
    sync_policies(database, [Policy(id="all", endpoints=list(ENDPOINTS), targets=["desk"])], 0)
    database.close()
    WorkflowMachine.template = path


class WorkflowMachine(AlertMachine):
    breached = positive = frozenset(OPEN_STATES)
    proven = frozenset(OPEN_STATES) - {"suspected", "retest_ordered"}

    @initialize()
    def start(self) -> None:
        super().start()
        self.held: list[sending.Job] = []  # leased, not yet booked
        self.bodies: dict[str, bytes] = {}
        self.booked: dict[int, int] = {}  # outbox id -> attempts
        self.delivered: set[int] = set()

    def teardown(self) -> None:
        if not hasattr(self, "database"):
            return
        try:
            self.everybody_knows_at_the_end()
        finally:
            super().teardown()

    # ------------------------------------------------------------ what happens

    def sample(self, sample_no: str, *, verified: bool, **changes: object) -> object:
        more = {"region_code": TOWNSHIP, "purpose": "supervision"}
        return super().sample(sample_no, verified=verified, **more, **changes)

    def some_alert(self, data: st.DataObject) -> Alert | None:
        with self.database.read() as connection:
            rows = connection.execute(sa.select(alerts).order_by(alerts.c.alert_id)).mappings()
            found = [Alert.from_row(row) for row in rows]
        return data.draw(st.sampled_from(found)) if found else None

    @rule(data=st.data())
    def person_decides_what_is_offered(self, data: st.DataObject) -> None:
        alert = self.some_alert(data)
        if alert is None:
            return
        offered = self.offered(alert)
        if not offered:
            return
        decision = data.draw(st.sampled_from(offered))
        words = {need.field: WORDS[need.field] for need in decision.needs}
        moved = decide(
            self.database, alert.alert_id, decision.trigger, "li", words,
            seq=alert.seq, at_ms=self.now_ms,
        )  # fmt: skip
        assert moved.seq == alert.seq + 1
        self.people = True

    @rule(data=st.data(), decision=st.sampled_from(DECISIONS))
    def person_decides_what_is_not_offered(self, data: st.DataObject, decision: object) -> None:
        alert = self.some_alert(data)
        if alert is None:
            return
        if any(d.trigger is decision.trigger for d in self.offered(alert)):
            return
        words = {need.field: WORDS[need.field] for need in decision.needs}
        with pytest.raises(IllegalTransition):
            decide(
                self.database, alert.alert_id, decision.trigger, "li", words,
                seq=alert.seq, at_ms=self.now_ms,
            )  # fmt: skip
        assert self.seq_of(alert.alert_id) == alert.seq

    def offered(self, alert: Alert) -> list:
        with self.database.read() as connection:
            return open_decisions(connection, alert)

    def seq_of(self, alert_id: str) -> int:
        with self.database.read() as connection:
            query = sa.select(alerts.c.seq).where(alerts.c.alert_id == alert_id)
            return connection.execute(query).scalar_one()

    @rule(data=st.data(), anyhow=st.booleans())
    def step_of_a_case(self, data: st.DataObject, *, anyhow: bool) -> None:
        alert = self.some_alert(data)
        if alert is None:
            return
        with self.database.read() as connection:
            query = sa.select(alerts).where(alerts.c.alert_id == alert.alert_id)
            row = connection.execute(query).mappings().one()
            taken = taken_of(connection, alert.alert_id)
        may = allowed(situation(row, taken))
        choice = STEPS if anyhow else may
        if not choice or self.now_ms < alert.first_seen_ms:
            return
        step = data.draw(st.sampled_from(choice))
        said = {
            need.field.removeprefix("data."): True
            if need.kind == "yes_no"
            else "pass"
            if "pass" in need.choices
            else (need.choices or ("somebody",))[0]
            for need in step.needs
            if need.field.startswith("data.")
        }
        new = NewStep(
            step=step.name, at_ms=self.now_ms, note="seen", document=Document(type="t", no="1"), data=said
        )  # fmt: skip
        try:
            take_step(self.database, alert.alert_id, new, "li", seq=alert.seq, now_ms=self.now_ms)
        except StepRefused:
            assert step not in may
            assert self.seq_of(alert.alert_id) == alert.seq
        else:
            assert step in may
            assert self.seq_of(alert.alert_id) == alert.seq + 1

    @rule(data=st.data())
    def record_is_withdrawn(self, data: st.DataObject) -> None:
        alert = self.some_alert(data)
        if alert is None:
            return
        try:
            act(
                self.database, alert.alert_id, Trigger.SUPERSEDE, "system", "the record was withdrawn",
                at_ms=self.now_ms,
            )  # fmt: skip
            self.people = True
        except AlertError:
            assert alert.state == "superseded"

    @rule()
    def deadlines_are_looked_at(self) -> None:
        before = self.states()
        Deadlines(self.database).look(self.now_ms)
        assert self.states() == before  # a passed deadline closes nothing
        assert not Deadlines(self.database).look(self.now_ms)

    @rule(match=st.sampled_from(STATIONS), hours=st.integers(1, 400))
    def silence(self, match: dict[str, list[str]], hours: int) -> None:
        self.count += 1
        with self.database.write() as connection:
            connection.execute(
                sa.insert(silences).values(
                    id=f"s{self.count}",
                    matchers={"match": match, "scope": "people"},
                    starts_ms=self.now_ms,
                    ends_ms=self.now_ms + hours * HOUR_MS,
                    reason="work on the canal",
                    actor="li",
                    created_ms=self.now_ms,
                )
            )

    @rule()
    def silence_is_cancelled(self) -> None:
        with self.database.write() as connection:
            going = sa.select(silences.c.id).where(
                silences.c.ended_ms.is_(None), silences.c.ends_ms > self.now_ms
            )
            for id_ in list(connection.scalars(going))[:1]:
                assert cancel(connection, id_, self.now_ms)

    @rule()
    def silences_are_looked_at(self) -> None:
        Silences(self.database, indicator_names).look(self.now_ms)

    @rule(slots=st.integers(1, 4))
    def sender_takes(self, slots: int) -> None:
        self.turn([], dict.fromkeys(ENDPOINTS, slots))

    def turn(self, settled: list[Settled], asks: dict[str, int]) -> None:
        turn = sending.take_turn(self.database, settled, [], asks, lambda: self.now_ms)
        for jobs in turn.jobs.values():
            for job in jobs:
                assert job.outbox_id not in self.delivered
                assert self.bodies.setdefault(job.webhook_id, job.body) == job.body
                assert job.attempt == self.booked.get(job.outbox_id, 0) + 1
                self.held.append(job)

    @rule(status=st.sampled_from([200, 200, 202, 429, 500, None]))
    def receivers_answer(self, status: int | None) -> None:
        settled = []
        for job in self.held:
            answer = Answer(self.now_ms, self.now_ms, status, "" if status else "refused")
            decision = after_answer(answer, job.attempt, critical=job.critical, jitter=0.0)
            settled.append(Settled(job, answer, decision))
            if job.leased_until_ms > self.now_ms and job.outbox_id not in self.delivered:
                self.booked[job.outbox_id] = job.attempt
            if decision.state == "delivered":
                self.delivered.add(job.outbox_id)
        self.held = []
        self.turn(settled, dict.fromkeys(ENDPOINTS, 1))

    @rule()
    def sender_dies(self) -> None:
        """What it held is leased again once the lease is over; the same bytes."""
        self.held = []
        self.now_ms += sending.LEASE_MS

    # ------------------------------------------------------------ what must always hold

    @invariant()
    def clocks_and_flags_agree(self) -> None:
        with self.database.read() as connection:
            running: dict[str, list[int]] = {}
            for row in connection.execute(sa.select(clocks).where(clocks.c.ended_ms.is_(None))):
                if row.due_ms is not None:
                    running.setdefault(row.alert_id, []).append(row.due_ms)
            for row in connection.execute(sa.select(alerts.c.alert_id, alerts.c.due_ms)):
                if row.due_ms is not None:
                    assert row.due_ms in running[row.alert_id]
            told = connection.execute(
                sa.select(alert_transitions.c.data).where(
                    alert_transitions.c.event == "alert.overdue"
                )
            )
            numbers = [row.data["clock_id"] for row in told]
        assert len(numbers) == len(set(numbers))  # each clock falls overdue once

    @invariant()
    def what_is_delivered_stays_so(self) -> None:
        with self.database.read() as connection:
            done = set(
                connection.scalars(sa.select(outbox.c.id).where(outbox.c.state == "delivered"))
            )
            once = connection.execute(
                sa.select(
                    sa.func.count(), sa.func.count(outbox.c.webhook_id.distinct())
                ).select_from(outbox)
            ).one()
        assert done == self.delivered
        assert once[0] == once[1]

    def everybody_knows_at_the_end(self) -> None:
        self.held = []
        self.now_ms += 1000 * HOUR_MS
        while Silences(self.database, indicator_names).look(self.now_ms):
            pass
        while True:
            self.now_ms += sending.LEASE_MS
            self.sender_takes(500)
            if not self.held:
                break
            self.receivers_answer(200)
        with self.database.read() as connection:
            states = {row.alert_id: row for row in connection.execute(sa.select(alerts))}
            rows = connection.execute(sa.select(outbox).order_by(outbox.c.alert_seq)).all()
            news = connection.execute(sa.select(notices).order_by(notices.c.id)).all()
            attempts = connection.scalar(sa.select(sa.func.count()).select_from(delivery_attempts))
        assert {row.state for row in rows} <= {"delivered"}
        assert attempts >= len(rows)
        newest = {
            (row.endpoint_id, row.alert_id): msgspec.json.decode(row.body)["data"] for row in rows
        }
        for alert_id, alert in states.items():
            assert alert.silenced_until_ms is None
            for endpoint in ENDPOINTS:
                assert newest[endpoint, alert_id]["state"] == alert.state
                assert newest[endpoint, alert_id]["seq"] == alert.seq
        told = {row.alert_id: row.snapshot for row in news}
        for alert_id, alert in states.items():
            assert told[alert_id]["state"] == alert.state, "the silence swallowed the end"
            assert told[alert_id]["seq"] == alert.seq


TestWorkflow = WorkflowMachine.TestCase
TestWorkflow.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
