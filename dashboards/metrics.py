"""``/metrics`` and readiness: what ingest counted, in one picture that balances, and the state of what surrounds it."""

from __future__ import annotations

import shutil
from itertools import accumulate
from typing import TYPE_CHECKING

from cryptography import x509
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)

from ingest.intake import Hold
from ingest.tally import COMMIT_BOUNDS_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from prometheus_client.core import Metric
    from prometheus_client.registry import Collector

    from gateway.broker import BrokerLogin
    from ingest.inbox import Inbox
    from ingest.operational import Operational
    from ingest.service import IngestService
    from ingest.store.reading_store import ReadingStore
    from ingest.subscriber import Subscriber
    from ingest.tally import Counts

REASONS = ("gap", "cap", "corrupt")


class Metrics:
    """Reads the running parts when asked; keeps nothing.

    What must balance comes from one ``Tally.counts()``; the rest is as it was found a moment later. ``beside`` are
    collectors of other roles in the same process.
    """

    def __init__(
        self,
        ingest: IngestService,
        store: ReadingStore,
        subscriber: Subscriber,
        *,
        inbox: Inbox,
        operational: Operational,
        data_dir: Path,
        login: BrokerLogin,
        life: str,
        now_ms: Callable[[], int],
        beside: Sequence[Collector] = (),
        publishers: Subscriber | None = None,
    ) -> None:
        self._ingest = ingest
        self._publishers = publishers
        self._store = store
        self._subscriber = subscriber
        self._inbox = inbox
        self._operational = operational
        self._data_dir = data_dir
        self._life = life
        self._now_ms = now_ms
        self._expiries = list(_expiries(login, data_dir / "pki" / "ca.crt"))
        self._registry = CollectorRegistry()
        for collector in (self, *beside):
            self._registry.register(collector)

    def text(self) -> str:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry).decode()

    def not_ready(self) -> list[str]:
        """Return why the server cannot do its work now; empty when it can."""
        reasons = [f"{c.name}: stalled" for c in self._ingest.consumers if c.failing]
        if self._subscriber.connected_since_ms is None:
            reasons.append(f"broker: {self._subscriber.refusal or 'not connected'}")
        holding = self._ingest.holding()
        if self._publishers is not None and self._publishers.connected_since_ms is None:
            # While ingest holds, or may not use the broker, there is no such connection: that is said already.
            refusal = self._publishers.refusal or "not connected"
            if refusal not in (holding, self._subscriber.refusal):
                reasons.append(f"publishers: {refusal}")
        return [*reasons, holding] if holding else reasons

    def collect(self) -> Iterator[Metric]:
        """Yield metric families (the interface of prometheus_client's collectors)."""
        counts = self._ingest.tally.counts()
        yield from _messages(counts)
        yield from _consumers(counts)
        yield from self._lags()
        yield from self._inbox_state()
        yield from self._losses()
        yield from self._link()

    def _lags(self) -> Iterator[Metric]:
        lag = GaugeMetricFamily(
            "ingest_consumer_lag_seconds",
            "Age of the oldest pack that a consumer has not had",
            labels=["consumer"],
        )
        stalled = GaugeMetricFamily(
            "ingest_consumer_stalled",
            "1 while a consumer tries the same packs again",
            labels=["consumer"],
        )
        now_ms = self._now_ms()
        for consumer in self._ingest.consumers:
            oldest_ms = self._inbox.received_after(consumer.position)
            age_ms = 0 if oldest_ms is None else max(now_ms - oldest_ms, 0)
            lag.add_metric([consumer.name], age_ms / 1000)
            stalled.add_metric([consumer.name], consumer.failing)
        yield lag
        yield stalled

    def _inbox_state(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "ingest_inbox_packs", "Packs ever taken into the inbox", value=self._ingest.last_pos
        )
        yield GaugeMetricFamily(
            "ingest_inbox_bytes",
            "Size of the inbox on disk",
            value=sum(_size(self._data_dir / f"inbox.db{tail}") for tail in ("", "-wal", "-shm")),
        )
        yield GaugeMetricFamily(
            "ingest_disk_free_bytes",
            "Free space where the server keeps its data",
            value=shutil.disk_usage(self._data_dir).free,
        )
        hold = GaugeMetricFamily(
            "ingest_hold", "1 while packs of readings, or all packs, are refused", labels=["what"]
        )
        for kind in (Hold.READINGS, Hold.ALL):
            hold.add_metric([kind.value], self._ingest.intake.hold is kind)
        yield hold
        life = GaugeMetricFamily(
            "ingest_store_life", "1; the label is the id of this life of the server", labels=["id"]
        )
        life.add_metric([self._life], 1)
        yield life
        yield GaugeMetricFamily("store_readings", "Readings stored", value=self._store.count())

    def _losses(self) -> Iterator[Metric]:
        ranges = CounterMetricFamily(
            "ingest_losses", "Ranges booked as lost or gone, ever", labels=["reason"]
        )
        packs = CounterMetricFamily("ingest_lost_packs", "Packs in those ranges", labels=["reason"])
        readings = CounterMetricFamily(
            "ingest_lost_readings", "Readings in those ranges, an upper bound", labels=["reason"]
        )
        totals = {reason: numbers for reason, *numbers in self._inbox.loss_totals()}
        for reason in dict.fromkeys((*REASONS, *totals)):
            for family, number in zip(
                (ranges, packs, readings), totals.get(reason, (0, 0, 0)), strict=True
            ):
                family.add_metric([reason], number)
        yield from (ranges, packs, readings)

    def _link(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "ingest_broker_connected",
            "1 while connected to the broker",
            value=self._subscriber.connected_since_ms is not None,
        )
        if self._publishers is not None:
            yield GaugeMetricFamily(
                "ingest_publishers_connected",
                "1 while the connection for devices without an agent stands",
                value=self._publishers.connected_since_ms is not None,
            )
        ends = GaugeMetricFamily(
            "ingest_certificate_not_after_timestamp_seconds",
            "When a certificate ends, seconds since 1970",
            labels=["certificate"],
        )
        for name, end_s in self._expiries:
            ends.add_metric([name], end_s)
        yield ends


def _messages(counts: Counts) -> Iterator[Metric]:
    yield CounterMetricFamily(
        "ingest_received", "Messages of agents and publishers that arrived", value=counts.received
    )
    packs = CounterMetricFamily(
        "ingest_packs",
        "Messages since the start, by what became of them",
        labels=["outcome"],
    )
    for outcome, count in counts.outcomes.items():
        packs.add_metric([outcome.value], count)
    yield packs
    yield GaugeMetricFamily(
        "ingest_waiting_packs",
        "Messages received that are not yet judged and committed",
        value=counts.waiting,
    )
    buckets = zip((*map(str, COMMIT_BOUNDS_S), "+Inf"), accumulate(counts.commits), strict=True)
    commit = HistogramMetricFamily(
        "ingest_commit_seconds", "Time that a commit of the inbox with packs took"
    )
    commit.add_metric([], list(buckets), counts.commit_s)
    yield commit


def _consumers(counts: Counts) -> Iterator[Metric]:
    handled = CounterMetricFamily(
        "ingest_consumer_packs",
        "Packs that a consumer has had since the start",
        labels=["consumer", "outcome"],
    )
    behind = GaugeMetricFamily(
        "ingest_consumer_behind_packs",
        "Packs taken that a consumer has not had",
        labels=["consumer"],
    )
    at_start = GaugeMetricFamily(
        "ingest_consumer_behind_at_start_packs",
        "Packs in the inbox that a consumer had not had when the server started",
        labels=["consumer"],
    )
    for name, c in counts.consumers.items():
        handled.add_metric([name, "stored"], c.done)
        handled.add_metric([name, "quarantined"], c.quarantined)
        behind.add_metric([name], c.behind)
        at_start.add_metric([name], c.behind_at_start)
    yield from (handled, behind, at_start)


def _expiries(login: BrokerLogin, own_ca: Path) -> Iterator[tuple[str, float]]:
    """Yield each certificate that ingest or the county lives on, and when it ends (s)."""
    pems = {"broker_ca": "", "client": "", "own_ca": ""}
    if login.tls is not None:
        pems |= {"broker_ca": login.tls.ca_pem, "client": login.tls.certificate_pem}
    if own_ca.exists():
        pems["own_ca"] = own_ca.read_text(encoding="ascii")
    for name, pem in pems.items():
        if pem:
            found = x509.load_pem_x509_certificates(pem.encode())
            yield name, min(one.not_valid_after_utc.timestamp() for one in found)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
