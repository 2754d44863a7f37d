"""Metrics of what the operational database says: of the county for the pages' role, of webhooks for that of alerts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily

from alerts.tables import outbox
from dashboards.api.stations import state_of
from ingest.operational import TRANSIENT
from ingest.tables import gateway_keys, station_state, stations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.core import Metric
    from prometheus_client.registry import Collector

    from ingest.operational import Operational

STATES = ("online", "stale", "offline", "never")


def text_of(*collectors: Collector) -> str:
    """Return all metrics in Prometheus' text format."""
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return generate_latest(registry).decode()


def unreachable(operational: Operational) -> list[str]:
    """Return why the operational database cannot be asked; empty when it can."""
    try:
        with operational.read() as connection:
            connection.execute(sa.select(1))
    except TRANSIENT as exc:
        return [f"operational database: {str(exc).splitlines()[0]}"]
    return []


class OutboxMetrics:
    """How many webhooks wait."""

    def __init__(self, operational: Operational) -> None:
        self._operational = operational

    def collect(self) -> Iterator[Metric]:
        """Yield metric families (the interface of prometheus_client's collectors)."""
        with self._operational.read() as db:
            pending = db.scalar(
                sa.select(sa.func.count()).select_from(outbox).where(outbox.c.state == "pending")
            )
        yield GaugeMetricFamily(
            "alerts_outbox_pending", "Webhooks not delivered yet", value=pending or 0
        )


class CountyMetrics:
    """Stations and their gateways."""

    def __init__(self, operational: Operational, now_ms: Callable[[], int]) -> None:
        self._operational = operational
        self._now_ms = now_ms

    def collect(self) -> Iterator[Metric]:
        """Yield metric families (the interface of prometheus_client's collectors)."""
        s, k = station_state, gateway_keys
        with self._operational.read() as db:
            beats = db.execute(
                sa.select(s.c.seen_ms, s.c.online, s.c.alarms, s.c.queue).select_from(
                    stations.outerjoin(s, s.c.station == stations.c.code)
                )
            ).all()
            waiting = db.scalar(
                sa.select(sa.func.count()).select_from(k).where(k.c.state == "pending")
            )
        now_ms = self._now_ms()
        states = dict.fromkeys(STATES, 0)
        alarms: dict[str, int] = {}
        for seen_ms, online, alarmed, _ in beats:
            states[state_of(seen_ms, now_ms, online=online)] += 1
            for alarm in alarmed or ():
                alarms[alarm] = alarms.get(alarm, 0) + 1
        by_state = GaugeMetricFamily("stations", "Registered stations by state", labels=["state"])
        for state, count in states.items():
            by_state.add_metric([state], count)
        yield by_state
        by_alarm = GaugeMetricFamily(
            "stations_alarmed", "Stations on which an alarm stands", labels=["alarm"]
        )
        for alarm, count in sorted(alarms.items()):
            by_alarm.add_metric([alarm], count)
        yield by_alarm
        yield GaugeMetricFamily(
            "stations_queue_packs",
            "Packs waiting at the edges, as they last said",
            value=sum(queue or 0 for *_, queue in beats),
        )
        yield GaugeMetricFamily(
            "gateway_keys_pending", "Gateway keys that wait for a decision", value=waiting or 0
        )
