from __future__ import annotations

import pytest

from ingest.registry.live import Registry
from tests.conftest import databases  # noqa: F401 - on both engines

NOW_MS = 1_777_600_000_000  # 2026-05-01 09:46:40 in Shanghai
HOUR_MS = 3_600_000
STATION = "hl-001"
URL = f"/api/v1/stations/{STATION}/windows"
BODY = {
    "device": "plot3/soil1",
    "kind": "calibration",
    "from": str(NOW_MS - HOUR_MS),
    "to": str(NOW_MS + HOUR_MS),
    "note": "标定 pH 电极",
    "actor": "马建国",
}


@pytest.fixture(autouse=True)
def station(county):
    county.add_place()
    county.add_station()
    county.add_device()


@pytest.fixture
def post(client, key):
    async def send(status=200, **changes):
        body = {name: value for name, value in (BODY | changes).items() if value is not None}
        reply = await client.post(URL, json=body, headers={"X-API-Key": key})
        assert reply.status_code == status, reply.text
        return reply.json()

    return send


async def listed(client):
    return (await client.get(URL)).json()["windows"]


async def test_a_window_is_set_and_shown_with_who_set_it(client, post):
    reply = await post()
    assert reply["windows"] == await listed(client)
    (window,) = reply["windows"]
    assert {name: window[name] for name in ("device", "kind", "note", "set_by", "state")} == {
        "device": "plot3/soil1",
        "kind": "calibration",
        "note": "标定 pH 电极",
        "set_by": "马建国",
        "state": "active",
    }
    assert (window["from_ms"], window["to_ms"]) == (NOW_MS - HOUR_MS, NOW_MS + HOUR_MS)
    assert (window["set_ms"], window["cancelled_ms"]) == (NOW_MS, None)
    assert window["device_name"] == "土壤一号"


async def test_without_a_name_the_key_says_who(post):
    (window,) = (await post(actor=None))["windows"]
    assert window["set_by"] == "county office"


async def test_active_come_first_then_upcoming_then_past(client, post):
    hours = {"past": (-3, -2), "upcoming": (2, 3), "active": (-1, 1)}
    for begin, end in hours.values():
        await post(
            **{"from": str(NOW_MS + begin * HOUR_MS)}, to=str(NOW_MS + end * HOUR_MS), note=None
        )
    assert [window["state"] for window in await listed(client)] == ["active", "upcoming", "past"]


async def test_ends_are_half_open(client, post):
    await post(to=str(NOW_MS))
    await post(**{"from": str(NOW_MS)})
    assert sorted(window["state"] for window in await listed(client)) == ["active", "past"]


async def test_cancelled_stays_and_says_when(client, post, key):
    (window,) = (await post())["windows"]
    url = f"{URL}/{window['id']}"
    reply = await client.delete(url, headers={"X-API-Key": key})
    assert [row["state"] for row in reply.json()["windows"]] == ["cancelled"]
    assert (await listed(client))[0]["cancelled_ms"] == NOW_MS
    again = await client.delete(url, headers={"X-API-Key": key})
    assert again.json() == reply.json()


async def test_the_judge_hears_of_each_change(county, connect, key):
    told = []
    async with connect(county.app(windows_changed=lambda: told.append(1))) as client:
        headers = {"X-API-Key": key}
        made = await client.post(URL, json=BODY, headers=headers)
        await client.delete(f"{URL}/{made.json()['windows'][0]['id']}", headers=headers)
        await client.post(URL, json=BODY | {"kind": "holiday"}, headers=headers)
    assert told == [1, 1]


async def test_a_window_that_is_set_is_what_quality_flags_read(county, connect, key):
    registry = Registry(county.operational)
    async with connect(county.app(windows_changed=registry.quality.refresh)) as client:
        headers = {"X-API-Key": key}
        made = await client.post(URL, json=BODY, headers=headers)
        (window,) = registry.quality.windows()
        assert (window.station, window.device, window.kind) == (
            STATION,
            "plot3/soil1",
            "calibration",
        )
        await client.delete(f"{URL}/{made.json()['windows'][0]['id']}", headers=headers)
        assert list(registry.quality.windows()) == []


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_writing_needs_the_key(client, method):
    url = URL if method == "POST" else f"{URL}/01JDWZ0000000000000000000A"
    for headers in ({}, {"X-API-Key": "agk_not_the_key"}):
        reply = await client.request(method, url, json=BODY, headers=headers)
        assert reply.status_code == 401
    assert await listed(client) == []


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"device": "plot3/soil2"}, 404, "nearest: plot3/soil1"),
        ({"kind": "holiday"}, 422, "kind"),
        ({"to": str(NOW_MS - HOUR_MS)}, 422, "to: must be after from"),
        ({"to": str(NOW_MS + 400 * 24 * HOUR_MS)}, 422, "to: must be after from, by 366 days"),
        ({"from": "2026-05-01 08:00"}, 422, "from"),
        ({"from": "0"}, 422, "from"),
        ({"from": None}, 422, "from"),
        ({"note": "x" * 501}, 422, "note"),
        ({"actor": "x" * 61}, 422, "actor"),
        ({"until": "1"}, 422, "until"),
    ],
)
async def test_what_is_wrong_is_named_and_nothing_is_set(client, post, changes, status, said):
    assert said in (await post(status, **changes))["detail"]
    assert await listed(client) == []


async def test_unknown_station_or_window_is_404(client, key):
    assert (
        "nearest: hl-001" in (await client.get("/api/v1/stations/hl-01/windows")).json()["detail"]
    )
    reply = await client.delete(f"{URL}/01JDWZ0000000000000000000A", headers={"X-API-Key": key})
    assert reply.status_code == 404
