from __future__ import annotations

import pytest

from ingest.batch import Series
from ingest.tables import gateway_keys
from tests.conftest import databases  # noqa: F401 - on both engines

NOW_MS = 1_777_600_000_000
HOUR_MS = 3_600_000
STATION = "hl-001"
KEY = "a" * 43 + "="


async def test_row_has_registry_state_and_counts(county, client):
    county.add_place()
    county.add_station(base_id="b1", lon=106.35, lat=38.55, station_type="base")
    county.add_device()
    county.add_device("plot3/water1")
    county.set_state(
        queue=3,
        oldest_unreceipted_ms=1500,
        clock_offset_ms=-20,
        version="0.1.0",
        devices=[
            {"path": "plot3/soil1", "seen_ms": NOW_MS, "ok": True},
            {"path": "x", "seen_ms": None, "ok": False},
        ],
        alarms=["spool_restored"],
    )
    county.insert(gateway_keys, station=STATION, key=KEY, state="approved", first_seen_ms=NOW_MS)
    county.add_alert()
    county.add_alert(state="dismissed")
    county.add_loss("gap", 0)
    county.add_loss("cap", 120)
    county.add_loss("corrupt", -1)
    response = await client.get("/api/v1/stations")
    assert response.json() == {
        "stations": [
            {
                "code": STATION,
                "name": "站hl-001",
                "name_en": "Station hl-001",
                "station_type": "base",
                "region_code": "640122",
                "region_name": "贺兰县",
                "region_name_en": "Helan",
                "lon": 106.35,
                "lat": 38.55,
                "base_name": "一号基地",
                "state": "online",
                "seen_ms": NOW_MS,
                "key_state": "approved",
                "queue": 3,
                "oldest_unreceipted_ms": 1500,
                "clock_offset_ms": -20,
                "version": "0.1.0",
                "devices_ok": 1,
                "devices_total": 2,
                "open_alerts": 1,
                "lost": 120,
                "gaps": 1,
                "alarms": ["spool_restored"],
            }
        ]
    }


@pytest.mark.parametrize(
    ("age_ms", "online", "state"),
    [
        (0, True, "online"),
        (180_000, True, "online"),
        (180_001, True, "stale"),
        (0, False, "stale"),
        (24 * HOUR_MS, True, "stale"),
        (24 * HOUR_MS + 1, True, "offline"),
    ],
)
async def test_state_by_the_age_of_the_last_beat(county, client, age_ms, online, state):
    county.add_station()
    county.set_state(age_ms=age_ms, online=online)
    response = await client.get("/api/v1/stations")
    assert response.json()["stations"][0]["state"] == state


async def test_station_never_heard_of(county, client):
    county.add_station()
    row = (await client.get("/api/v1/stations")).json()["stations"][0]
    assert (row["state"], row["seen_ms"], row["key_state"], row["alarms"]) == (
        "never",
        None,
        "none",
        [],
    )


async def test_detail_lists_devices_with_their_series(county, client):
    county.add_place()
    county.add_station()
    county.add_device(model="renke_soil_7in1", serial_no="7", plot_id="plot-3")
    county.set_state(devices=[{"path": "plot3/soil1", "seen_ms": NOW_MS - 5, "ok": True}])
    county.add_readings(
        [6.5, float("nan")], q=[1, 9], series=Series(STATION, "plot3/soil1", "soil_ph")
    )
    county.add_readings([1.0], series=Series(STATION, "unregistered", "soil_ec"))
    county.add_loss("cap", 40)
    county.insert(gateway_keys, station=STATION, key=KEY, state="pending", first_seen_ms=5)
    detail = (await client.get(f"/api/v1/stations/{STATION}")).json()
    assert detail["devices"][0] == {
        "path": "plot3/soil1",
        "name": "土壤一号",
        "model": "renke_soil_7in1",
        "serial_no": "7",
        "plot_id": "plot-3",
        "plot_name": "三号田",
        "seen_ms": NOW_MS - 5,
        "ok": True,
        "series": [
            {
                "indicator": "soil_ph",
                "name_zh": "土壤pH值",
                "name_en": "Soil pH",
                "unit": "[pH]",
                "decimals": 2,
                "t_ms": NOW_MS - 1000,
                "v": None,
                "q": 9,
                "count": 2,
            }
        ],
    }
    assert [device["path"] for device in detail["devices"]] == ["plot3/soil1", "unregistered"]
    assert detail["losses"] == [
        {
            "epoch": "01JDWZ0000000000000000000A",
            "from_seq": 5,
            "through_seq": 9,
            "readings": 40,
            "reason": "cap",
            "at_ms": NOW_MS,
        }
    ]
    assert detail["keys"] == [
        {"key": KEY, "state": "pending", "first_seen_ms": 5, "replaced_ms": None}
    ]
    assert detail["key_state"] == "pending"


async def test_unknown_station_names_the_nearest(county, client):
    county.add_station()
    response = await client.get("/api/v1/stations/hl-01")
    assert response.status_code == 404
    assert response.json() == {"detail": "no station 'hl-01'; nearest: hl-001"}
