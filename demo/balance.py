"""Three journals that must agree: what the simulators served, the store answers and the receiver verified (pure).

The simulators know the staged breaches from their own script: our judge is compared with what it did not write.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import TYPE_CHECKING

from demo.alignment import Sample, align

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from demo.journal import Reply, Slip, Staged

# A reply that left the simulator is on the agent's disk 100 ms after its poll ended; a kill may take what came between.
CUT_BEFORE_MS = 2_000
CUT_AFTER_MS = 1_000
NOTES_SHOWN = 20
FIRST_EVENTS = frozenset({"alert.suspected", "alert.confirmed"})
JUDGED_KINDS = frozenset({"limit", "test"})

SeriesKey = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Kill:
    """An agent was killed at ``at_ms``; it carried ``stations``."""

    at_ms: int
    stations: frozenset[str]

    def cuts(self, station: str, ms: int) -> bool:
        """Tell whether what ``station`` was served at ``ms`` may have died with the agent."""
        return station in self.stations and -CUT_BEFORE_MS <= ms - self.at_ms <= CUT_AFTER_MS


@dataclass(frozen=True, slots=True)
class StoredTest:
    """A test as the API shows it."""

    station: str
    device: str
    sample_no: str
    product_name: str
    value: str | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One outbox row as the API shows it."""

    webhook_id: str
    event_type: str
    state: str


@dataclass(frozen=True, slots=True)
class StoredAlert:
    """An alert as the API shows it."""

    alert_id: str
    kind: str
    severity: str
    station: str
    device: str
    indicator: str
    sample_no: str
    deliveries: tuple[Delivery, ...] = ()


@dataclass(frozen=True, slots=True)
class Received:
    """One request whose signature the receiver verified."""

    webhook_id: str
    event_type: str
    alert_id: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Answers:
    """All that the server answers to queries; ``readings`` holds (t_ms, value or None) in order of time."""

    readings: Mapping[SeriesKey, Sequence[tuple[int, float | None]]]
    tests: Sequence[StoredTest]
    alerts: Sequence[StoredAlert]


@dataclass(slots=True)
class Line:
    """One row of the table; ``what`` is a device or an indicator."""

    station: str
    device: str
    what: str
    served: int = 0
    stored: int = 0
    missing: int = 0
    doubled: int = 0
    differing: int = 0
    cut: int = 0
    failed: int = 0
    """Readings stored without a value: the agent reported the failure of a poll. Nothing was served for them."""
    notes: list[str] = field(default_factory=list)

    @property
    def balanced(self) -> bool:
        """Nothing missing, doubled or different (what a kill cut is allowed for)."""
        return not (self.missing or self.doubled or self.differing)


@dataclass(slots=True)
class Webhooks:
    """The third journal against the script and the server's own account."""

    expected: int = 0
    verified: int = 0
    differing: int = 0
    notes: list[str] = field(default_factory=list)

    def differ(self, note: str) -> None:
        """Count one difference."""
        self.differing += 1
        self.notes.append(note)


@dataclass(slots=True)
class Balance:
    """The three comparisons."""

    readings: list[Line]
    tests: list[Line]
    webhooks: Webhooks

    @property
    def balanced(self) -> bool:
        """Whether everything agrees."""
        return not self.webhooks.differing and all(
            line.balanced for line in (*self.readings, *self.tests)
        )


def compare(
    replies: Iterable[Reply],
    slips: Sequence[Slip],
    staged: Iterable[Staged],
    answers: Answers,
    received: Sequence[Received],
    kills: Sequence[Kill] = (),
) -> Balance:
    """Compare the three journals."""
    tests = compare_tests(slips, answers.tests, kills)
    stored_samples = {(t.station, t.device, t.sample_no) for t in answers.tests}
    printed = {(s.station, s.device, s.sample_no): s for s in slips}
    expected = []
    for breach in staged:
        slip = printed.get((breach.station, breach.device, breach.sample_no))
        cut = (
            slip is not None
            and (breach.station, breach.device, breach.sample_no) not in stored_samples
            and any(kill.cuts(slip.station, slip.ms) for kill in kills)
        )
        if breach.phase == "breached" and not cut:
            expected.append(breach)
    return Balance(
        compare_readings(replies, answers.readings, kills),
        tests,
        compare_webhooks(expected, answers.alerts, received),
    )


def compare_readings(
    replies: Iterable[Reply],
    stored: Mapping[SeriesKey, Sequence[tuple[int, float | None]]],
    kills: Sequence[Kill] = (),
) -> list[Line]:
    """Return one line per series: the ordered values served against those stored, to the last bit."""
    served: dict[SeriesKey, list[Sample]] = defaultdict(list)
    for reply in replies:
        for indicator, text in reply.values.items():
            served[reply.station, reply.device, indicator].append(Sample(reply.ms, Fraction(text)))
    lines = []
    for key in sorted(served.keys() | stored.keys()):
        rows = stored.get(key, ())
        values = [Sample(t_ms, Fraction(v)) for t_ms, v in rows if v is not None]
        line = Line(
            *key, served=len(served[key]), stored=len(values), failed=len(rows) - len(values)
        )
        found = align(served[key], values)
        for sample in found.missing:
            if any(kill.cuts(line.station, sample.ms) for kill in kills):
                line.cut += 1
            else:
                line.missing += 1
                line.notes.append(f"missing: {_show(sample)}")
        line.doubled = len(found.doubled)
        line.notes += [f"doubled: {_show(sample)}" for sample in found.doubled]
        line.differing = len(found.differing)
        line.notes += [f"served {_show(was)}, stored {_show(now)}" for was, now in found.differing]
        lines.append(line)
    return lines


def compare_tests(
    slips: Sequence[Slip], stored: Sequence[StoredTest], kills: Sequence[Kill] = ()
) -> list[Line]:
    """Return one line per tester: the slips printed against the tests stored, by sample number."""
    lines: dict[tuple[str, str], Line] = {}

    def line_of(station: str, device: str) -> Line:
        return lines.setdefault((station, device), Line(station, device, "tests"))

    by_sample: dict[tuple[str, str, str], list[StoredTest]] = defaultdict(list)
    for test in stored:
        by_sample[test.station, test.device, test.sample_no].append(test)
        line_of(test.station, test.device).stored += 1
    for slip in slips:
        line = line_of(slip.station, slip.device)
        line.served += 1
        rows = by_sample.pop((slip.station, slip.device, slip.sample_no), [])
        if not rows:
            if any(kill.cuts(slip.station, slip.ms) for kill in kills):
                line.cut += 1
            else:
                line.missing += 1
                line.notes.append(f"missing: {slip.sample_no} {slip.product_name}")
            continue
        if len(rows) > 1:
            line.doubled += len(rows) - 1
            line.notes.append(f"doubled: {slip.sample_no} is there {len(rows)} times")
        if not _same_test(slip, rows[0]):
            line.differing += 1
            line.notes.append(
                f"{slip.sample_no}: printed {slip.product_name} {slip.value!r},"
                f" stored {rows[0].product_name} {rows[0].value!r}"
            )
    for (station, device, sample_no), rows in by_sample.items():
        line = line_of(station, device)
        line.doubled += len(rows)
        line.notes.append(f"stored {sample_no!r}, never printed")
    return [lines[key] for key in sorted(lines)]


def compare_webhooks(
    expected: Sequence[Staged], alerts: Sequence[StoredAlert], received: Sequence[Received]
) -> Webhooks:
    """Compare staged breaches, the server's alerts with their deliveries, and what the receiver verified."""
    result = Webhooks(expected=len(expected))
    unmatched = {alert.alert_id: alert for alert in alerts if alert.kind in JUDGED_KINDS}
    firsts = Counter(r.alert_id for r in _unique(received) if r.event_type in FIRST_EVENTS)
    for breach in expected:
        what = f"{breach.name}: {breach.station}/{breach.device} {breach.indicator or breach.sample_no}"
        mine = [alert for alert in unmatched.values() if _is_of(alert, breach)]
        if len(mine) != 1:
            result.differ(f"{what}: {len(mine)} alerts, not 1")
        for alert in mine:
            del unmatched[alert.alert_id]
            if breach.severity and alert.severity != breach.severity:
                result.differ(f"{what}: severity {alert.severity}, not {breach.severity}")
            if firsts[alert.alert_id] == 1:
                result.verified += 1
            else:
                result.differ(f"{what}: {firsts[alert.alert_id]} first webhooks verified, not 1")
    for alert in unmatched.values():
        result.differ(
            f"alert {alert.alert_id} on {alert.station}/{alert.device} {alert.indicator} was not staged"
        )
    delivered: set[str] = set()
    for alert in alerts:
        for delivery in alert.deliveries:
            if delivery.state == "delivered":
                delivered.add(delivery.webhook_id)
            else:
                result.differ(
                    f"webhook {delivery.webhook_id} ({delivery.event_type}) is {delivery.state}"
                )
    verified = {r.webhook_id for r in received}
    for webhook_id in sorted(delivered - verified):
        result.differ(
            f"webhook {webhook_id}: the server says delivered, the receiver did not verify it"
        )
    for webhook_id in sorted(verified - delivered):
        result.differ(
            f"webhook {webhook_id}: verified by the receiver, not delivered by the server"
        )
    return result


def table(balance: Balance) -> list[str]:
    """Return the balance as lines of text: one row per device, then every difference."""
    head = (
        "station",
        "device",
        "served",
        "stored",
        "missing",
        "doubled",
        "differing",
        "cut by kill",
    )
    rows = [
        (line.station, line.device, *map(str, _numbers(line)))
        for line in (*_by_device(balance.readings), *balance.tests)
    ]
    totals = [
        sum(column)
        for column in zip(*map(_numbers, (*balance.readings, *balance.tests)), strict=True)
    ]
    rows.append(("all", "", *map(str, totals or [0] * 6)))
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(w) if i < 2 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in (head, *rows)
    ]
    hooks = balance.webhooks
    lines.append(
        f"webhooks  expected {hooks.expected}  verified {hooks.verified}  differing {hooks.differing}"
    )
    failed = sum(line.failed for line in balance.readings)
    if failed:
        lines.append(f"failed polls stored without a value: {failed}")
    notes = [
        f"  {line.station}/{line.device} {line.what}: {note}"
        for line in (*balance.readings, *balance.tests)
        for note in line.notes
    ]
    lines += notes[:NOTES_SHOWN]
    if len(notes) > NOTES_SHOWN:
        lines.append(f"  … and {len(notes) - NOTES_SHOWN} more differences")
    lines += [f"  {note}" for note in hooks.notes]
    return lines


def _by_device(lines: Iterable[Line]) -> list[Line]:
    devices: dict[tuple[str, str], Line] = {}
    for line in lines:
        total = devices.setdefault(
            (line.station, line.device), Line(line.station, line.device, "readings")
        )
        total.served += line.served
        total.stored += line.stored
        total.missing += line.missing
        total.doubled += line.doubled
        total.differing += line.differing
        total.cut += line.cut
    return list(devices.values())


def _numbers(line: Line) -> tuple[int, ...]:
    return line.served, line.stored, line.missing, line.doubled, line.differing, line.cut


def _show(sample: Sample) -> str:
    return f"{float(sample.exact)!r} at {sample.ms}"


def _same_test(slip: Slip, test: StoredTest) -> bool:
    if slip.product_name != test.product_name:
        return False
    if not slip.value or test.value is None:
        return not slip.value and test.value is None
    try:
        return Decimal(slip.value) == Decimal(test.value)
    except InvalidOperation:
        return False


def _is_of(alert: StoredAlert, breach: Staged) -> bool:
    if (alert.station, alert.device) != (breach.station, breach.device):
        return False
    if breach.kind == "test":
        return alert.kind == "test" and alert.sample_no == breach.sample_no
    return alert.kind == "limit" and alert.indicator == breach.indicator


def _unique(received: Iterable[Received]) -> Iterable[Received]:
    return {r.webhook_id: r for r in received}.values()
