"""Findings become alerts: the judge's sink, working inside the judge's own transaction."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from alerts.alert import LATE, LIMIT_UNVERIFIED, SEVERITIES, Alert, Change
from alerts.errors import StaleAlert
from alerts.identity import alert_id_of
from alerts.states import CLEAR_FOR_MS, MINUTE_MS, REOPEN_WINDOW_MS, Facts, State, Trigger, allows
from alerts.tables import OPEN_STATES
from alerts.tables import alerts as alerts_table
from alerts.transitions import indicator_names, record
from drivers.indicators import catalogue
from ingest.batch import Series
from ingest.tables import findings as findings_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence, Set

    from alerts.transitions import Names
    from ingest.judge.findings import Finding, Observation

MAX_GAP_MS = 60 * MINUTE_MS  # good values further apart do not make one run of good values

_CERTAINTIES = ("sensor", "model", "screening", "confirmatory")
_CHUNK = 500  # rows per IN list


@dataclass(frozen=True, slots=True)
class Timing:
    """The clocks of clearing, all in event time (ms).

    ``clear_for_ms``: how long a process parameter must be past its recovery threshold; ``reopen_window_ms``: until when
    after that a new breach reopens the alert; ``max_gap_ms``: good values further apart than this do not make one run.
    """

    clear_for_ms: int = CLEAR_FOR_MS
    reopen_window_ms: int = REOPEN_WINDOW_MS
    max_gap_ms: int = MAX_GAP_MS


def rule_family(rule_id: str) -> str:
    """Return what the levels of one rule share.

    >>> rule_family("gb15618:Cd:screening"), rule_family("gb5084:pH")
    ('gb15618:Cd', 'gb5084:pH')
    """
    return ":".join(rule_id.split(":")[:2])


def dedup_key(rule_id: str, target: Sequence[str], indicator: str, matrix: str) -> str:
    """Return the SHA-256 (hex) of rule family, target, indicator and matrix: the identity of an open alert."""
    parts = [rule_family(rule_id), list(target), indicator, matrix]
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def series_key(station: str, device: str, indicator: str, rule_id: str) -> str:
    """Return the dedup key of a breach in a series."""
    known = catalogue().get(indicator)
    return dedup_key(rule_id, (station, device), indicator, known.medium if known else "")


def key_of(finding: Finding) -> str:
    """Return the dedup key of a finding: readings by station and device, tests by station and sample (else record)."""
    if finding.kind == "reading":
        return series_key(finding.station, finding.device, finding.indicator, finding.rule_id)
    target = (finding.station, finding.sample_no or finding.record_id)
    return dedup_key(finding.rule_id, target, finding.indicator, "product")


class AlertRaiser:
    """Turns findings and observations into alerts (the judge's ``FindingSink``).

    Used by one thread: ``load`` once, then for each of the judge's transactions ``apply`` inside it and ``wake`` after
    its commit. ``on_commit`` is called by ``wake``; it wakes the webhook sender.
    """

    def __init__(
        self,
        *,
        timing: Timing | None = None,
        names: Names = indicator_names,
        on_commit: Callable[[], None] = lambda: None,
    ) -> None:
        self._timing = timing or Timing()
        self._names = names
        self._on_commit = on_commit
        self._watched: dict[str, Series] = {}
        self._staged: dict[str, Series | None] | None = None

    def load(self, connection: sa.Connection) -> None:
        """Read which series have an alert that good values can clear."""
        self._staged = None
        rows = connection.execute(
            sa.select(alerts_table).where(
                alerts_table.c.state == State.SUSPECTED, alerts_table.c.clearable
            )
        )
        found = (Alert.from_row(row) for row in rows.mappings())
        self._watched = {alert.dedup_key: _series_of(alert) for alert in found}

    def watched(self) -> Set[Series]:
        """Return the series with an open alert that good values can clear; ``apply`` wants those as observations."""
        return frozenset(self._watched.values())

    def apply(
        self,
        connection: sa.Connection,
        findings: Sequence[Finding],
        observations: Sequence[Observation],
        received_ms: int,
    ) -> None:
        """Raise, update, clear and reopen alerts in the caller's transaction, with log, outbox and events.

        The findings are already in their table; those that have an alert are passed over. ``received_ms`` dates the
        transitions. Raises StaleAlert when another process changed one of the alerts meanwhile.
        """
        if self._staged is not None:  # the transaction of the last call was not committed
            self.load(connection)
        fresh = list(_unraised(connection, findings))
        if not fresh and not observations:
            return
        ledger = _Ledger(connection, self._timing, received_ms)
        ledger.read(fresh, observations)
        ledger.play(fresh, observations)
        ledger.write(self._names)
        self._staged = {
            key: None if alert is None else _series_of(alert)
            for key, alert in ledger.clearable_alerts().items()
        }

    def wake(self) -> None:
        """Take note that the transaction of the last ``apply`` was committed."""
        for key, watch in (self._staged or {}).items():
            if watch is None:
                self._watched.pop(key, None)
            else:
                self._watched[key] = watch
        self._staged = None
        self._on_commit()


@dataclass(slots=True)
class _Ledger:
    """The alerts that one ``apply`` touches: read once, changed in memory in event time, written once."""

    connection: sa.Connection
    timing: Timing
    at_ms: int
    by_key: dict[str, list[Alert]] = field(default_factory=lambda: defaultdict(list))
    seq_read: dict[str, int] = field(default_factory=dict)  # as in the table, new alerts absent
    touched: dict[str, Alert] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    raised_by: list[tuple[str, str]] = field(default_factory=list)  # finding id, alert id
    arrived: dict[str, list[Finding]] = field(default_factory=lambda: defaultdict(list))
    named_by: dict[str, str] = field(default_factory=dict)  # new alert id, finding id

    def read(self, findings: Sequence[Finding], observations: Sequence[Observation]) -> None:
        keys = {key_of(finding) for finding in findings}
        keys |= {_observed_key(observation) for observation in observations}
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
            for chunk in _chunks(sorted(values - {""})):
                query = sa.select(alerts_table).where(column.in_(chunk), extra)
                for row in self.connection.execute(query).mappings():
                    alert = Alert.from_row(row)
                    if alert.alert_id not in self.seq_read:
                        self.seq_read[alert.alert_id] = alert.seq
                        self.by_key[alert.dedup_key].append(alert)

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
        return [
            alert
            for alerts in self.by_key.values()
            for alert in alerts
            if alert.kind == "test"
            and alert.state in OPEN_STATES
            and alert.station == finding.station
            and alert.sample_no == finding.sample_no
            and alert.indicator == finding.indicator
        ]

    def _refute(self, alert: Alert, finding: Finding) -> None:
        facts = alert.facts(certainty=finding.certainty, reason=f"record {finding.record_id}")
        if allows(alert.state, Trigger.REFUTE, facts):
            self._touch(alert, finding)
            self.changes.append(
                alert.move(Trigger.REFUTE, facts, self.at_ms, cause=finding.finding_id)
            )

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
            clear_for_ms=self.timing.clear_for_ms,
            reopen_window_ms=self.timing.reopen_window_ms,
        )

    def _new(self, key: str, finding: Finding) -> Alert:
        namer = self._namer(key)
        alert_id = alert_id_of(namer)
        self.named_by[alert_id] = namer.finding_id
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
            evidence=_evidence(finding),
            first_seen_ms=finding.t_ms,
            last_seen_ms=finding.t_ms,
            occurrence_count=0,
            flags=_flags(finding, [LATE] if finding.late else []),
            clearable=finding.clearable,
            raised_ms=self.at_ms,
            changed_ms=self.at_ms,
        )
        self.by_key[key].append(alert)
        return alert

    def _namer(self, key: str) -> Finding:
        """Return the finding that names a new alert: of those at hand the first to arrive that names no other.

        Not the first in event time: a server that judges again after a restore has other findings at hand together
        than it had when they came one by one, but they arrive in the same order.
        """
        used = set(self.named_by.values())
        return next(f for f in self.arrived[key] if f.finding_id not in used)

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
            _take_snapshot(alert, finding, [LATE] if finding.late else [])
        elif _is_worse(finding, alert) or _is_sounder(finding, alert):
            _take_snapshot(alert, finding, alert.flags)
        if not reopens:
            alert.severity = SEVERITIES[max(before, rank)]
        alert.occurrence_count += 1
        alert.first_seen_ms = min(alert.first_seen_ms, finding.t_ms)
        alert.last_seen_ms = max(alert.last_seen_ms, finding.t_ms)
        since = alert.below_since_ms
        if since is not None and finding.t_ms >= since and (reopens or alert.state in OPEN_STATES):
            alert.below_since_ms = alert.recovered_ms = None
        if reopens:
            change = alert.move(Trigger.REOPEN, reopening, self.at_ms, cause=finding.finding_id)
            self.changes.append(change)
        else:
            self._move_on(alert, finding, graver=rank > before)

    def _move_on(self, alert: Alert, finding: Finding, *, graver: bool) -> None:
        reason = f"record {finding.record_id}" if finding.record_id else ""
        facts = alert.facts(certainty=finding.certainty, reason=reason)
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
            return
        self.changes.append(alert.move(trigger, facts, self.at_ms, cause=cause))

    def _on_value(self, observation: Observation) -> None:
        """Follow one good value of a series: begin, extend or break the run of values past the recovery threshold."""
        for alert in self.by_key[_observed_key(observation)]:
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
            facts = alert.facts(clear_for_ms=self.timing.clear_for_ms)
            if allows(alert.state, Trigger.CLEAR, facts):
                self.changes.append(alert.move(Trigger.CLEAR, facts, self.at_ms, cause=str(t_ms)))

    def _touch(self, alert: Alert, finding: Finding) -> None:
        self.touched[alert.alert_id] = alert
        self.raised_by.append((finding.finding_id, alert.alert_id))


def _series_of(alert: Alert) -> Series:
    return Series(alert.station, alert.device, alert.indicator)


def _observed_key(observation: Observation) -> str:
    series = observation.series
    return series_key(series.station, series.device, series.indicator, observation.rule_id)


def _evidence(finding: Finding) -> dict[str, object]:
    return {
        "finding_id": finding.finding_id,
        "station": finding.station,
        "epoch": finding.epoch,
        "seq": finding.seq,
        "position": finding.position,
        "inbox_pos": finding.inbox_pos,
        "record_id": finding.record_id,
    }


def _take_snapshot(alert: Alert, finding: Finding, flags: Iterable[str]) -> None:
    alert.value, alert.unit = finding.value, finding.unit
    alert.rule_id, alert.citation = finding.rule_id, dict(finding.citation)
    alert.evidence = _evidence(finding)
    alert.certainty = finding.certainty
    alert.flags = _flags(finding, flags)


def _flags(finding: Finding, before: Iterable[str]) -> list[str]:
    """Return the alert's flags: ``late`` is of the alert as a whole, ``limit_unverified`` of the limit now cited."""
    flags = {*before, *(flag for flag in finding.flags if flag != LATE)} - {LIMIT_UNVERIFIED}
    if finding.citation.get("verified") is not True:
        flags.add(LIMIT_UNVERIFIED)
    return sorted(flags)


def _is_worse(finding: Finding, alert: Alert) -> bool:
    """Tell whether the finding weighs more than the alert's snapshot: surer, graver, or further past the limit."""
    weight = (_CERTAINTIES.index(finding.certainty), SEVERITIES.index(str(finding.severity)))
    held = (_CERTAINTIES.index(alert.certainty), SEVERITIES.index(alert.severity))
    if weight != held:
        return weight > held
    return _excess(finding.value, finding.citation) > _excess(alert.value, alert.citation)


def _is_sounder(finding: Finding, alert: Alert) -> bool:
    """Tell whether a confirmatory result rests on a verified limit where the alert's does not."""
    verified = finding.citation.get("verified") is True
    return finding.certainty == "confirmatory" and verified and LIMIT_UNVERIFIED in alert.flags


def _excess(value: float | None, citation: dict[str, object]) -> float:
    """Return how many times the limit is exceeded; for a lower limit the reciprocal."""
    ratio = citation.get("ratio")
    if not isinstance(ratio, int | float):
        return value if value is not None else 0.0
    if citation.get("comparator") == "<":
        return 1 / ratio if ratio > 0 else float("inf")
    return float(ratio)


def _unraised(connection: sa.Connection, findings: Sequence[Finding]) -> Iterator[Finding]:
    """Yield each finding once, without those that already have an alert."""
    by_id = {finding.finding_id: finding for finding in findings}
    c = findings_table.c
    for chunk in _chunks(list(by_id)):
        query = sa.select(c.finding_id).where(c.finding_id.in_(chunk), c.alert_id.is_not(None))
        for row in connection.execute(query):
            del by_id[row.finding_id]
    yield from by_id.values()


def _chunks(items: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]
