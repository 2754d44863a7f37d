"""What the running server answers to queries, fetched over its HTTP API, page by page."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

import httpx
import msgspec

from demo.balance import Answers, Delivery, StoredAlert, StoredTest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from demo.balance import SeriesKey

PAGE = 200
MAX_POINTS = 2000
T = TypeVar("T")


class _Series(msgspec.Struct):
    indicator: str


class _Device(msgspec.Struct):
    path: str
    series: list[_Series]


class _Station(msgspec.Struct):
    code: str
    devices: list[_Device] = []


class _Stations(msgspec.Struct):
    stations: list[_Station]


class _Readings(msgspec.Struct):
    total: int
    downsampling: str
    points: list[tuple[int, float | None, int, int]]


class _Test(msgspec.Struct):
    record_id: str
    station: str
    device: str
    sample_no: str
    product_name: str
    value: str | None


class _Tests(msgspec.Struct):
    tests: list[_Test]
    next: str | None = None


class _Alert(msgspec.Struct):
    alert_id: str
    kind: str
    severity: str
    station: str
    device: str
    indicator: str
    sample_no: str


class _Alerts(msgspec.Struct):
    alerts: list[_Alert]
    next: str | None = None


class _Delivery(msgspec.Struct):
    webhook_id: str
    event_type: str
    state: str


class _Deliveries(msgspec.Struct):
    deliveries: list[_Delivery]


class Overview(msgspec.Struct, frozen=True):
    """The numbers of the first page."""

    tests_today: int
    suspects_open: int
    exceedances_open: int
    stations_online: int
    stations_total: int
    readings_total: int
    pass_rate_rapid: float | None = None


class _Event(msgspec.Struct):
    type: str
    subject: str


class Api:
    """Reads of ``/api/v1``; every method raises httpx.HTTPError when the server does not answer as it should."""

    def __init__(self, base_url: str) -> None:
        # trust_env: a proxy of the machine has no business with a loopback address.
        self._client = httpx.Client(base_url=f"{base_url}/api/v1", timeout=20, trust_env=False)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def overview(self) -> Overview:
        """Return the numbers of the first page."""
        return self._get("/overview", Overview)

    def answers(self, start_ms: int, served: Iterable[SeriesKey] = ()) -> Answers:
        """Return everything measured since ``start_ms``, in the series that the server or ``served`` names."""
        end_ms = time.time_ns() // 1_000_000 + 60_000
        keys = set(served)
        for station in self._get("/stations", _Stations).stations:
            for device in self._get(f"/stations/{station.code}", _Station).devices:
                keys |= {(station.code, device.path, series.indicator) for series in device.series}
        return Answers(
            readings={key: self.readings(key, start_ms, end_ms) for key in sorted(keys)},
            tests=self.tests(),
            alerts=self.alerts(),
        )

    def readings(
        self, key: SeriesKey, start_ms: int, end_ms: int
    ) -> list[tuple[int, float | None]]:
        """Return every (t_ms, value) of a series with start ≤ t < end; what comes thinned is asked in halves."""
        station, device, indicator = key
        asked = {
            "station": station,
            "device": device,
            "indicator": indicator,
            "start": str(start_ms),
            "end": str(end_ms),
            "max_points": str(MAX_POINTS),
        }
        reply = self._client.get("/readings", params=asked)
        if reply.status_code == httpx.codes.NOT_FOUND:
            return []
        reply.raise_for_status()
        page = msgspec.json.decode(reply.content, type=_Readings)
        if page.downsampling == "none":
            return [(t_ms, value) for t_ms, value, _, _ in page.points]
        middle_ms = (start_ms + end_ms) // 2
        if middle_ms == start_ms:
            raise ValueError(f"{page.total} readings of {key} in one millisecond cannot be listed")
        return self.readings(key, start_ms, middle_ms) + self.readings(key, middle_ms, end_ms)

    def tests(self) -> list[StoredTest]:
        """Return every test."""
        found: dict[str, StoredTest] = {}
        before: str | None = ""
        while before is not None:
            page = self._get("/tests", _Tests, _page(before))
            for row in page.tests:
                found[row.record_id] = StoredTest(
                    row.station, row.device, row.sample_no, row.product_name, row.value
                )
            before = page.next
        return list(found.values())

    def alerts(self) -> list[StoredAlert]:
        """Return every alert with its deliveries."""
        found: dict[str, StoredAlert] = {}
        before: str | None = ""
        while before is not None:
            page = self._get("/alerts", _Alerts, _page(before))
            for row in page.alerts:
                deliveries = self._get(f"/alerts/{row.alert_id}/deliveries", _Deliveries).deliveries
                found[row.alert_id] = StoredAlert(
                    alert_id=row.alert_id,
                    kind=row.kind,
                    severity=row.severity,
                    station=row.station,
                    device=row.device,
                    indicator=row.indicator,
                    sample_no=row.sample_no,
                    deliveries=tuple(
                        Delivery(d.webhook_id, d.event_type, d.state) for d in deliveries
                    ),
                )
            before = page.next
        return list(found.values())

    def _get(self, path: str, kind: type[T], params: Mapping[str, str] | None = None) -> T:
        reply = self._client.get(path, params=params)
        reply.raise_for_status()
        return msgspec.json.decode(reply.content, type=kind)


def _page(before: str) -> dict[str, str]:
    return {"limit": str(PAGE), **({"before": before} if before else {})}
