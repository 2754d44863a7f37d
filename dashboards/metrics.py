"""``/metrics`` and readiness: the balances of ingest, each counter at its own event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from ingest.service import IngestService
    from ingest.store.reading_store import ReadingStore
    from ingest.subscriber import Subscriber


class Metrics:
    """Reads the running parts when asked; keeps nothing."""

    def __init__(self, ingest: IngestService, store: ReadingStore, subscriber: Subscriber) -> None:
        self._ingest = ingest
        self._store = store
        self._subscriber = subscriber
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self) -> str:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry).decode()

    def not_ready(self) -> list[str]:
        """Return why the server cannot do its work now; empty when it can."""
        reasons = [f"{c.name}: stalled" for c in self._ingest.consumers if c.failing]
        if self._subscriber.connected_since_ms is None:
            reasons.append("broker: not connected")
        if self._ingest.intake.hold:
            reasons.append("inbox: not written, disk full?")
        return reasons

    def collect(self) -> Iterator[Metric]:
        """Yield metric families (the interface of prometheus_client's collectors)."""
        packs = CounterMetricFamily(
            "ingest_packs",
            "Messages on up topics since the start, by what became of them",
            labels=["outcome"],
        )
        for outcome, count in self._ingest.intake.counts.items():
            packs.add_metric([outcome.value], count)
        yield packs
        behind = GaugeMetricFamily(
            "ingest_consumer_behind_packs",
            "Packs taken that a consumer has not had",
            labels=["consumer"],
        )
        for consumer in self._ingest.consumers:
            behind.add_metric([consumer.name], self._ingest.last_pos - consumer.position)
        yield behind
        yield GaugeMetricFamily(
            "ingest_inbox_packs", "Packs ever taken into the inbox", value=self._ingest.last_pos
        )
        yield GaugeMetricFamily("store_readings", "Readings stored", value=self._store.count())
        yield GaugeMetricFamily(
            "ingest_broker_connected",
            "1 while connected to the broker",
            value=self._subscriber.connected_since_ms is not None,
        )
