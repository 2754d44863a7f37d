"""The agent's ``/metrics``: one moment of the whole agent per scrape, on 127.0.0.1 (loaded only when a port is set)."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import structlog
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from gateway.errors import MetricsPortError
from gateway.link import STATE_EVENTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from prometheus_client.metrics_core import Metric

    from gateway.agent_status import AgentStatus, StationStatus

HOST = "127.0.0.1"
ANSWER_WITHIN_S = 5.0

log = structlog.get_logger()


@asynccontextmanager
async def served(port: int, snapshot: Callable[[], Awaitable[AgentStatus]]) -> AsyncIterator[None]:
    """Answer ``GET /metrics`` on 127.0.0.1:``port``; raise MetricsPortError when the port is taken.

    ``snapshot`` runs on the loop that this is called on.
    """
    collector = EdgeCollector(asyncio.get_running_loop(), snapshot)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    try:
        server, thread = start_http_server(port, addr=HOST, registry=registry)
    except OSError as exc:
        raise MetricsPortError(
            f"[agent] metrics_port: {HOST}:{port} cannot be used: {exc.strerror}; take another, or 0 for none"
        ) from exc
    log.info("metrics_served", address=f"http://{HOST}:{port}/metrics")
    try:
        yield
    finally:
        collector.close()
        await asyncio.to_thread(_stop, server, thread)


def _stop(server: Any, thread: threading.Thread) -> None:  # noqa: ANN401 - a private class of prometheus_client
    server.shutdown()
    server.server_close()
    thread.join()


class EdgeCollector(Collector):
    """Families of one snapshot; asked by the threads of the HTTP server."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, snapshot: Callable[[], Awaitable[AgentStatus]]
    ) -> None:
        self._loop = loop
        self._snapshot = snapshot
        self._closed = threading.Event()

    def close(self) -> None:
        """Answer no more scrape with numbers."""
        self._closed.set()

    def describe(self) -> Iterator[Metric]:
        """Nothing: what is registered need not be asked for."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield the families; only ``agrigate_edge_answered`` when the agent does not answer in 5 s."""
        status = self._ask()
        answered = GaugeMetricFamily(
            "agrigate_edge_answered",
            "1 when the agent's loop answered this scrape; 0: nothing else is given",
        )
        answered.add_metric([], float(status is not None))
        yield answered
        if status is not None:
            yield from families(status)

    def _ask(self) -> AgentStatus | None:
        if self._closed.is_set():
            return None

        async def ask() -> AgentStatus:
            return await self._snapshot()

        asked = asyncio.run_coroutine_threadsafe(ask(), self._loop)
        try:
            return asked.result(ANSWER_WITHIN_S)
        except (TimeoutError, concurrent.futures.CancelledError):
            asked.cancel()
            return None


def families(status: AgentStatus) -> Iterator[Metric]:
    """Return every family of one moment."""
    info = GaugeMetricFamily(
        "agrigate_edge_info", "Always 1; the version is in the label", labels=["version"]
    )
    info.add_metric([status.version], 1)
    yield info
    yield from _lanes(status.stations)
    yield from _link(status)
    yield from _devices(status.stations)
    crashes = CounterMetricFamily(
        "agrigate_edge_crashes", "Times a task crashed and was started again", labels=["task"]
    )
    for task, count in status.crashes.items():
        crashes.add_metric([task], count)
    yield crashes


def _lanes(stations: list[StationStatus]) -> Iterator[Metric]:
    """Return the balance: taken + queued at start = receipted - reopened + lost + queued + packing."""
    labels = ["station", "lane"]
    taken = CounterMetricFamily(
        "agrigate_edge_records_taken", "Records that came from the instruments", labels=labels
    )
    at_start = GaugeMetricFamily(
        "agrigate_edge_records_queued_at_start",
        "Records that lay in the spool without a receipt when the agent started",
        labels=labels,
    )
    receipted = CounterMetricFamily(
        "agrigate_edge_records_receipted", "Records that the server confirmed", labels=labels
    )
    reopened = CounterMetricFamily(
        "agrigate_edge_records_reopened",
        "Records whose receipt a new life of the server took back; they go again",
        labels=labels,
    )
    lost = CounterMetricFamily(
        "agrigate_edge_records_lost",
        "Records dropped before they were confirmed",
        labels=[*labels, "reason"],
    )
    queued = GaugeMetricFamily(
        "agrigate_edge_records_queued", "Records in the spool without a receipt", labels=labels
    )
    packing = GaugeMetricFamily(
        "agrigate_edge_records_packing", "Records on their way into the spool", labels=labels
    )
    for station in stations:
        for lane, balance in station.lanes.items():
            place = [station.code, lane]
            taken.add_metric(place, balance.taken)
            at_start.add_metric(place, balance.queued_at_start)
            receipted.add_metric(place, balance.receipted)
            reopened.add_metric(place, balance.reopened)
            queued.add_metric(place, balance.queued)
            packing.add_metric(place, balance.packing)
            for reason, count in balance.lost.items():
                lost.add_metric([*place, reason], count)
    yield from (taken, at_start, receipted, reopened, lost, queued, packing)


def _link(status: AgentStatus) -> Iterator[Metric]:
    one = ["station"]
    packs = GaugeMetricFamily(
        "agrigate_edge_queue_packs", "Packs in the spool without a receipt", labels=one
    )
    oldest = GaugeMetricFamily(
        "agrigate_edge_oldest_unreceipted_seconds",
        "Age of the oldest pack without a receipt; 0 when there is none",
        labels=one,
    )
    connected = GaugeMetricFamily(
        "agrigate_edge_connected", "1 while connected to the broker", labels=one
    )
    connections = CounterMetricFamily(
        "agrigate_edge_connections", "Connections to the broker that came about", labels=one
    )
    receipts = CounterMetricFamily(
        "agrigate_edge_receipts", "Receipts of the server that counted", labels=one
    )
    garbage = CounterMetricFamily(
        "agrigate_edge_garbage_receipts", "Messages on the ack topic that were none", labels=one
    )
    says = GaugeMetricFamily(
        "agrigate_edge_server_says",
        "1 for what the server last said of our packs; no state before it said anything",
        labels=["station", "state"],
    )
    offset = GaugeMetricFamily(
        "agrigate_edge_clock_offset_seconds",
        "The server's clock minus ours; absent before the first receipt",
        labels=one,
    )
    alarms = GaugeMetricFamily(
        "agrigate_edge_alarm", "1 for every alarm that stands", labels=["station", "alarm"]
    )
    expiry = GaugeMetricFamily(
        "agrigate_edge_certificate_expiry_timestamp_seconds",
        "When a certificate of the broker's connection ends, seconds since 1970",
        labels=["station", "certificate"],
    )
    for station in status.stations:
        code = [station.code]
        since = station.oldest_unreceipted_ms
        age_ms = 0 if since is None else max(0, status.at_ms - since)
        packs.add_metric(code, station.queue)
        oldest.add_metric(code, age_ms / 1000)
        connected.add_metric(code, float(station.connected))
        connections.add_metric(code, station.connections)
        receipts.add_metric(code, station.receipts)
        garbage.add_metric(code, station.garbage_receipts)
        if station.server_says is not None:
            for event in STATE_EVENTS.values():
                says.add_metric([station.code, event], float(event == station.server_says))
        if station.clock_offset_ms is not None:
            offset.add_metric(code, station.clock_offset_ms / 1000)
        for alarm in station.alarms:
            alarms.add_metric([station.code, alarm], 1)
        for certificate, end_ms in station.certificates.items():
            expiry.add_metric([station.code, certificate], end_ms / 1000)
    yield from (packs, oldest, connected, connections, receipts, garbage, says)
    yield from (offset, alarms, expiry)


def _devices(stations: list[StationStatus]) -> Iterator[Metric]:
    labels = ["station", "device"]
    up = GaugeMetricFamily("agrigate_edge_device_up", "1 while the device answers", labels=labels)
    seen = GaugeMetricFamily(
        "agrigate_edge_device_last_seen_timestamp_seconds",
        "When the device last answered, seconds since 1970; absent when never",
        labels=labels,
    )
    polls = CounterMetricFamily(
        "agrigate_edge_polls", "Polls by what became of them", labels=[*labels, "outcome"]
    )
    refused = CounterMetricFamily(
        "agrigate_edge_refused",
        "What an instrument sent and nobody could read; the bytes are kept",
        labels=labels,
    )
    for station in stations:
        for path, count in station.refused.items():
            refused.add_metric([station.code, path], count)
        for device in station.devices:
            place = [station.code, device.path]
            up.add_metric(place, float(device.ok))
            if device.seen_ms is not None:
                seen.add_metric(place, device.seen_ms / 1000)
        for path, counts in station.polls.items():
            place = [station.code, path]
            polls.add_metric([*place, "answered"], counts.answered)
            polls.add_metric([*place, "failed"], counts.failed)
            polls.add_metric([*place, "missed"], counts.missed)
    yield from (up, seen, polls, refused)
