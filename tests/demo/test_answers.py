"""Everything the server has is fetched: page by page, and in halves where it would come thinned."""

from __future__ import annotations

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from demo import answers
from demo.answers import Api
from demo.balance import Delivery

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = ("hl-001", "canal/ph", "water_ph")
POINTS = [[1000 + 10 * i, i / 10, 1, 0] for i in range(100)]
TESTS = [
    {
        "record_id": f"r{i}",
        "station": "hl-003",
        "device": "tester1",
        "sample_no": f"N{i}",
        "product_name": "油麦菜",
        "value": "1.5",
        "more": "ignored",
    }
    for i in range(5)
]
ALERT = {
    "alert_id": "A1",
    "kind": "limit",
    "severity": "major",
    "station": "hl-001",
    "device": "canal/ph",
    "indicator": "water_ph",
    "sample_no": "",
}
STATION = {
    "code": "hl-001",
    "devices": [{"path": "canal/ph", "series": [{"indicator": "water_ph"}]}],
}


def reply(path: str, asked: dict[str, str]) -> object:
    match path.removeprefix("/api/v1"):
        case "/stations":
            return {"stations": [{"code": "hl-001"}]}
        case "/stations/hl-001":
            return STATION
        case "/readings" if asked["indicator"] == "water_ph":
            found = [p for p in POINTS if int(asked["start"]) <= p[0] < int(asked["end"])]
            thinned = len(found) > int(asked["max_points"])
            return {
                "total": len(found),
                "downsampling": "min_max" if thinned else "none",
                "points": found[: int(asked["max_points"])],
            }
        case "/tests":
            first = int(asked.get("before", 0))
            return {
                "tests": TESTS[first : first + 2],
                "next": str(first + 2) if first + 2 < 5 else None,
            }
        case "/alerts":
            return {"alerts": [ALERT], "next": None}
        case "/alerts/A1/deliveries":
            row = {"webhook_id": "evt_1", "event_type": "alert.suspected", "state": "delivered"}
            return {"deliveries": [row]}
    return None


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        url = urlsplit(self.path)
        found = reply(url.path, {name: values[0] for name, values in parse_qs(url.query).items()})
        body = json.dumps(found).encode()
        self.send_response(404 if found is None else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def api() -> Iterator[Api]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        with contextlib.closing(Api(f"http://127.0.0.1:{server.server_port}")) as client:
            yield client
        server.shutdown()


def test_a_thinned_series_is_fetched_in_halves(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MAX_POINTS", 7)
    assert api.readings(KEY, 0, 10_000) == [(t_ms, value) for t_ms, value, _, _ in POINTS]


def test_one_crowded_millisecond_is_an_error(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MAX_POINTS", 0)
    with pytest.raises(ValueError, match="one millisecond"):
        api.readings(KEY, 0, 10_000)


def test_all_pages_are_fetched(api: Api) -> None:
    found = api.answers(0, [("hl-001", "canal/ph", "never_stored")])
    assert len(found.readings[KEY]) == 100
    assert found.readings["hl-001", "canal/ph", "never_stored"] == []
    assert [test.sample_no for test in found.tests] == ["N0", "N1", "N2", "N3", "N4"]
    assert found.alerts[0].deliveries == (Delivery("evt_1", "alert.suspected", "delivered"),)


def test_a_fault_of_the_server_is_not_an_empty_answer(api: Api) -> None:
    with pytest.raises(httpx.HTTPStatusError):
        api.overview()
