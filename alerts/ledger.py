"""The alerts that one batch of findings touches: read once, changed in memory in event time, written once."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import sqlalchemy as sa

from alerts.alert import FLAPPING, LATE, SEVERITIES, Alert, Change
from alerts.bilingual import both, joined
from alerts.errors import StaleAlert
from alerts.identity import alert_id_of
from alerts.keys import key_of, observed_key
from alerts.snapshot import evidence_of, flags_of, is_sounder, is_worse, take_snapshot
from alerts.states import (
    CLEAR_FOR_MS,
    MINUTE_MS,
    REOPEN_WINDOW_MS,
    Facts,
    State,
    Trigger,
    allows,
    refusal,
)
from alerts.tables import OPEN_STATES, alert_transitions
from alerts.tables import alerts as alerts_table
from alerts.transitions import record
from ingest.tables import findings as findings_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from alerts.transitions import Names
    from ingest.judge.findings import Finding, Observation

MAX_GAP_MS = 60 * MINUTE_MS  # good values further apart do not make one run of good values
FLAPS = 3
FLAP_WINDOW_MS = 6 * 60 * MINUTE_MS
CALM_MS = 2 * 60 * MINUTE_MS
_CHUNK = 500  # rows per IN list


@dataclass(frozen=True, slots=True)
class Timing:
    """The clocks of clearing, all in event time (ms).

    ``clear_for_ms``: how long a process parameter must be past its recovery threshold; ``reopen_window_ms``: until when
    after that a new breach reopens the alert; ``max_gap_ms``: good values further apart than this do not make one run.
    An alert that was reopened ``flaps`` times within ``flap_window_ms`` is flapping, and clears after ``calm_ms`` only.
    """

    clear_for_ms: int = CLEAR_FOR_MS
    reopen_window_ms: int = REOPEN_WINDOW_MS
    max_gap_ms: int = MAX_GAP_MS
    flaps: int = FLAPS
    flap_window_ms: int = FLAP_WINDOW_MS
    calm_ms: int = CALM_MS

    def clears_after(self, alert: Alert) -> int:
        """Return for how long (ms) the values of ``alert`` must be good."""
        return (
            max(self.calm_ms, self.clear_for_ms) if FLAPPING in alert.flags else self.clear_for_ms
        )


@dataclass(slots=True)
class Ledger:
    """The alerts that one ``apply`` touches: read once, changed in memory in event time, written once."""

    connection: sa.Connection
    timing: Timing
    at_ms: int
    by_key: dict[str, list[Alert]] = field(default_factory=lambda: defaultdict(list))
    by_sample: dict[tuple[str, str, str], list[Alert]] = field(
        default_factory=lambda: defaultdict(list)
    )
    seq_read: dict[str, int] = field(default_factory=dict)  # as in the table, new alerts absent
    touched: dict[str, Alert] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    raised_by: list[tuple[str, str]] = field(default_factory=list)  # finding id, alert id
    arrived: dict[str, list[Finding]] = field(default_factory=lambda: defaultdict(list))
    named_by: dict[str, str] = field(default_factory=dict)  # new alert id, finding id
    namers: set[str] = field(default_factory=set)
    reopened: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))  # event time

    def read(self, findings: Sequence[Finding], observations: Sequence[Observation]) -> None:
        """Read the alerts of the same things, and when those that can clear were reopened."""
        keys = {key_of(finding) for finding in findings}
        keys |= {observed_key(observation) for observation in observations}
        self.by_key.update({key: [] for key in keys})
        samples = {
            f.sample_no for f in findings if f.kind == "test" and f.certainty == "confirmatory"
        }
        of_open_tests = sa.and_(
            alerts_table.c.state.in_(OPEN_STATES), alerts_table.c.kind == "test"
        )
        for column, values, extra in (
            (alerts_table.c.dedup_key, keys, sa.true()),
            (alerts_table.c.sample_no, samples, of_open_tests),
        ):
            for chunk in chunks(sorted(values - {""})):
                query = sa.select(alerts_table).where(column.in_(chunk), extra)
                for row in self.connection.execute(query).mappings():
                    alert = Alert.from_row(row)
                    if alert.alert_id not in self.seq_read:
                        self.seq_read[alert.alert_id] = alert.seq
                        self._hold(alert)
        self._read_reopenings()

    def _read_reopenings(self) -> None:
        ids = [
            alert.alert_id
            for alerts in self.by_key.values()
            for alert in alerts
            if alert.clearable and alert.state in {State.SUSPECTED, State.CLEARED} and alert.seq > 1
        ]
        log = alert_transitions.c
        for chunk in chunks(ids):
            query = sa.select(log.alert_id, log.data).where(
                log.alert_id.in_(chunk), log.event == "alert.reopened"
            )
            for row in self.connection.execute(query):
                self.reopened[row.alert_id].append(int(row.data.get("breach_ms", 0)))

    def play(self, findings: Sequence[Finding], observations: Sequence[Observation]) -> None:
        """Go through everything in event time, a breach before a value of the same time."""
        for finding in sorted(findings, key=lambda f: (f.inbox_pos, f.position)):
            if finding.verdict != "pass":
                self.arrived[key_of(finding)].append(finding)
        steps: list[tuple[tuple[int, int, int, int], Finding | Observation]] = []
        steps += [((f.t_ms, 0, f.inbox_pos, f.position), f) for f in findings]
        steps += [((o.t_ms, 1, n, 0), o) for n, o in enumerate(observations)]
        steps.sort(key=lambda item: item[0])
        for (_, is_observation, _, _), item in steps:
            if is_observation:
                self._on_value(item)  # type: ignore[arg-type]
            else:
                self._on_finding(item)  # type: ignore[arg-type]

    def clearable_alerts(self) -> dict[str, Alert | None]:
        """Return for each key that was looked at the alert that good values can clear."""
        return {
            key: next((a for a in alerts if a.state is State.SUSPECTED and a.clearable), None)
            for key, alerts in self.by_key.items()
        }

    def write(self, names: Names) -> None:
        """Write alerts, log, outbox, events and the findings' links; alerts that close go first (one open per key)."""
        new = [alert for alert in self.touched.values() if alert.alert_id not in self.seq_read]
        known = [alert for alert in self.touched.values() if alert.alert_id in self.seq_read]
        for alert in sorted(known, key=lambda alert: alert.state in OPEN_STATES):
            self._update(alert)
        if new:
            self.connection.execute(sa.insert(alerts_table), [alert.to_row() for alert in new])
        record(self.connection, self.changes, names)
        if self.raised_by:
            self.connection.execute(
                sa.update(findings_table)
                .where(findings_table.c.finding_id == sa.bindparam("of_finding"))
                .values(alert_id=sa.bindparam("to_alert")),
                [{"of_finding": f, "to_alert": a} for f, a in self.raised_by],
            )

    def _update(self, alert: Alert) -> None:
        seq = self.seq_read[alert.alert_id]
        done = self.connection.execute(
            sa.update(alerts_table)
            .where(alerts_table.c.alert_id == alert.alert_id, alerts_table.c.seq == seq)
            .values(alert.to_row())
        )
        if done.rowcount != 1:
            raise StaleAlert(alert.alert_id, seq)

    def _on_finding(self, finding: Finding) -> None:
        same_sample = self._same_sample(finding)
        if finding.verdict == "pass":
            for alert in same_sample:
                self._refute(alert, finding)
            return
        key = key_of(finding)
        current = [alert for alert in self.by_key[key] if alert.state in OPEN_STATES]
        if finding.certainty == "confirmatory":
            current += [alert for alert in same_sample if alert not in current]
        if not current:
            current = [self._closed(key, finding) or self._new(key, finding)]
        for alert in current:
            self._count(alert, finding)

    def _same_sample(self, finding: Finding) -> list[Alert]:
        """Return the open alerts that a confirmatory result speaks about."""
        if finding.kind != "test" or finding.certainty != "confirmatory" or not finding.sample_no:
            return []
        sample = (finding.station, finding.sample_no, finding.indicator)
        return [alert for alert in self.by_sample[sample] if alert.state in OPEN_STATES]

    def _refute(self, alert: Alert, finding: Finding) -> None:
        facts = alert.facts(
            certainty=finding.certainty,
            reason=_of_record(finding),
            method=finding.method,
            laboratory=finding.laboratory,
        )
        if allows(alert.state, Trigger.REFUTE, facts):
            self._touch(alert, finding)
            self.changes.append(
                alert.move(Trigger.REFUTE, facts, self.at_ms, cause=finding.finding_id)
            )
        elif refusal(alert.state, Trigger.REFUTE, facts):
            self._touch(alert, finding)
            self._note_refusal(alert, finding, Trigger.REFUTE, facts)

    def _closed(self, key: str, finding: Finding) -> Alert | None:
        """Return the closed alert that the breach belongs to: one that it reopens, or one whose time it falls into."""
        closed = sorted(self.by_key[key], key=lambda alert: alert.last_seen_ms, reverse=True)
        if finding.kind != "reading" or not closed:
            return None
        newest, t_ms = closed[0], finding.t_ms
        if t_ms > newest.last_seen_ms:
            reopens = allows(newest.state, Trigger.REOPEN, self._facts(newest, finding))
            return newest if reopens else None
        rank = SEVERITIES.index(str(finding.severity))
        for alert in closed:
            known = alert.first_seen_ms <= t_ms <= alert.last_seen_ms
            if known and rank <= SEVERITIES.index(alert.severity):
                return alert
        return None

    def _facts(self, alert: Alert, finding: Finding) -> Facts:
        return alert.facts(
            certainty=finding.certainty,
            breach_ms=finding.t_ms if finding.t_ms > alert.last_seen_ms else None,
            clear_for_ms=self.timing.clears_after(alert),
            reopen_window_ms=self.timing.reopen_window_ms,
        )

    def _new(self, key: str, finding: Finding) -> Alert:
        namer = self._namer(key)
        alert_id = alert_id_of(namer)
        self.named_by[alert_id] = namer.finding_id
        self.namers.add(namer.finding_id)
        alert = Alert(
            alert_id=alert_id,
            dedup_key=key,
            kind="limit" if finding.kind == "reading" else "test",
            rule_id=finding.rule_id,
            severity=str(finding.severity),
            certainty=finding.certainty,
            station=finding.station,
            device=finding.device,
            plot_id=finding.plot_id,
            region_code=finding.region_code,
            indicator=finding.indicator,
            product_name=finding.product_name,
            sample_no=finding.sample_no,
            value=finding.value,
            unit=finding.unit,
            citation=dict(finding.citation),
            evidence=evidence_of(finding),
            first_seen_ms=finding.t_ms,
            last_seen_ms=finding.t_ms,
            occurrence_count=0,
            flags=flags_of(finding, [LATE] if finding.late else []),
            clearable=finding.clearable,
            raised_ms=self.at_ms,
            changed_ms=self.at_ms,
            purpose=finding.purpose,
            sampling_stage=finding.sampling_stage,
        )
        self._hold(alert)
        return alert

    def _hold(self, alert: Alert) -> None:
        self.by_key[alert.dedup_key].append(alert)
        if alert.kind == "test":
            self.by_sample[alert.station, alert.sample_no, alert.indicator].append(alert)

    def _namer(self, key: str) -> Finding:
        """Return the finding that names a new alert: of those at hand the first to arrive that names no other.

        Not the first in event time: a server that judges again after a restore has other findings at hand together
        than it had when they came one by one, but they arrive in the same order.
        """
        return next(f for f in self.arrived[key] if f.finding_id not in self.namers)

    def _count(self, alert: Alert, finding: Finding) -> None:
        """Add one occurrence, keep the worst as the alert's snapshot, and make the transition that follows, if any."""
        self._touch(alert, finding)
        reopening = self._facts(alert, finding)
        reopens = allows(alert.state, Trigger.REOPEN, reopening)
        before = SEVERITIES.index(alert.severity)
        rank = SEVERITIES.index(str(finding.severity))
        if reopens:
            alert.severity = str(finding.severity)
            alert.acked_by, alert.acked_ms = "", None  # nobody has seen this breach yet
            take_snapshot(alert, finding, [LATE] if finding.late else [])
        elif is_worse(finding, alert) or is_sounder(finding, alert):
            take_snapshot(alert, finding, alert.flags)
        if not reopens:
            alert.severity = SEVERITIES[max(before, rank)]
        alert.occurrence_count += 1
        alert.first_seen_ms = min(alert.first_seen_ms, finding.t_ms)
        alert.last_seen_ms = max(alert.last_seen_ms, finding.t_ms)
        since = alert.below_since_ms
        if since is not None and finding.t_ms >= since and (reopens or alert.state in OPEN_STATES):
            alert.below_since_ms = alert.recovered_ms = None
        if reopens:
            self._note_reopening(alert, finding.t_ms)
            change = alert.move(
                Trigger.REOPEN,
                reopening,
                self.at_ms,
                cause=finding.finding_id,
                data={"breach_ms": finding.t_ms},
            )
            self.changes.append(change)
        else:
            self._move_on(alert, finding, graver=rank > before)

    def _note_reopening(self, alert: Alert, t_ms: int) -> None:
        times = self.reopened[alert.alert_id]
        times.append(t_ms)
        if sum(time > t_ms - self.timing.flap_window_ms for time in times) >= self.timing.flaps:
            alert.flags = sorted({*alert.flags, FLAPPING})

    def _move_on(self, alert: Alert, finding: Finding, *, graver: bool) -> None:
        reason = _of_record(finding) if finding.record_id else ""
        facts = alert.facts(
            certainty=finding.certainty,
            reason=reason,
            method=finding.method,
            laboratory=finding.laboratory,
        )
        confirms = finding.verdict == "exceed" and allows(alert.state, Trigger.CONFIRM, facts)
        cause = finding.finding_id
        if alert.state is State.NONE:
            trigger = Trigger.CONFIRM if confirms else Trigger.SUSPECT
            cause = self.named_by[alert.alert_id]
        elif confirms:
            trigger = Trigger.CONFIRM
        elif graver and allows(alert.state, Trigger.RAISE_SEVERITY, facts):
            trigger = Trigger.RAISE_SEVERITY
        else:
            if finding.verdict == "exceed":
                self._note_refusal(alert, finding, Trigger.CONFIRM, facts)
            return
        self.changes.append(alert.move(trigger, facts, self.at_ms, cause=cause))

    def _note_refusal(self, alert: Alert, finding: Finding, trigger: Trigger, facts: Facts) -> None:
        """Say on the alert why a confirmatory result did not move it: the next step is a person's."""
        why = refusal(alert.state, trigger, facts)
        if finding.certainty != "confirmatory" or not why:
            return
        told = replace(facts, reason=joined(facts.reason, why))
        data: dict[str, object] = {"record_id": finding.record_id, "refused": str(trigger)}
        self.changes.append(
            alert.move(Trigger.UPDATE, told, self.at_ms, cause=finding.finding_id, data=data)
        )

    def _on_value(self, observation: Observation) -> None:
        """Follow one good value of a series: begin, extend or break the run of values past the recovery threshold."""
        for alert in self.by_key[observed_key(observation)]:
            if alert.state is not State.SUSPECTED or not alert.clearable:
                continue
            t_ms = observation.t_ms
            if observation.rule_id != alert.rule_id or t_ms <= alert.last_seen_ms:
                continue  # a late good value does not clear a newer breach
            newest = alert.recovered_ms
            if newest is not None and t_ms <= newest and observation.recovered:
                continue
            self.touched[alert.alert_id] = alert
            if not observation.recovered:
                alert.below_since_ms = alert.recovered_ms = None
                continue
            if newest is None or t_ms - newest > self.timing.max_gap_ms:
                alert.below_since_ms = t_ms
            alert.recovered_ms = t_ms
            facts = alert.facts(clear_for_ms=self.timing.clears_after(alert))
            if allows(alert.state, Trigger.CLEAR, facts):
                self.changes.append(alert.move(Trigger.CLEAR, facts, self.at_ms, cause=str(t_ms)))

    def _touch(self, alert: Alert, finding: Finding) -> None:
        self.touched[alert.alert_id] = alert
        self.raised_by.append((finding.finding_id, alert.alert_id))


def _of_record(finding: Finding) -> str:
    return both(f"检测记录 {finding.record_id}", f"record {finding.record_id}")


def chunks(items: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield ``items`` in parts that fit an IN list."""
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]
