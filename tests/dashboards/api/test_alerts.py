from __future__ import annotations

import hashlib

import pytest

from alerts.tables import alert_transitions, delivery_attempts, endpoints, outbox
from tests.conftest import databases  # noqa: F401 - on both engines

NOW_MS = 1_777_600_000_000
EPOCH = "01JDWZ0000000000000000000A"
NOBODY = "01JDWZ0000000000000000000Z"


def add_delivery(county, alert_id, **row):
    county.insert(
        outbox,
        **{
            "webhook_id": "evt_1_county",
            "event_id": "evt_1",
            "event_type": "alert.suspected",
            "alert_id": alert_id,
            "alert_seq": 1,
            "endpoint_id": "county",
            "body": b"{}",
            "state": "delivered",
            "attempts": 2,
            "next_ms": NOW_MS + 5000,
            "created_ms": NOW_MS,
            "delivered_ms": NOW_MS + 6000,
        }
        | row,
    )


async def test_row_has_names_and_citation(county, client):
    county.add_place()
    county.add_station()
    county.add_device()
    alert_id = county.add_alert(product_name="韭菜")
    reply = (await client.get("/api/v1/alerts")).json()
    assert reply == {
        "alerts": [
            {
                "alert_id": alert_id,
                "kind": "limit",
                "rule_id": "GB 15618-2018/1/screening/Cd",
                "state": "suspected",
                "seq": 1,
                "severity": "major",
                "certainty": "sensor",
                "station": "hl-001",
                "station_name": "站hl-001",
                "station_name_en": "Station hl-001",
                "region_code": "640122",
                "device": "plot3/soil1",
                "device_name": "土壤一号",
                "plot_id": "plot-3",
                "plot_name": "三号田",
                "indicator": "soil_cd",
                "indicator_zh": "土壤镉",
                "indicator_en": "Soil cadmium",
                "product_name": "韭菜",
                "product_name_en": "Chinese chives",
                "sample_no": "",
                "value": 0.45,
                "unit": "mg/kg",
                "citation": {
                    "standard": "GB 15618-2018",
                    "title_zh": None,
                    "clause": "表1",
                    "clause_en": None,
                    "level": None,
                    "comparator": None,
                    "limit": "0.4",
                    "unit": None,
                    "exceeded": None,
                    "ratio": 1.125,
                    "conditions": {},
                    "verified": True,
                    "limit_version": None,
                },
                "first_seen_ms": NOW_MS - 5000,
                "last_seen_ms": NOW_MS - 1000,
                "occurrence_count": 3,
                "acked_by": "",
                "acked_ms": None,
                "flags": [],
                "raised_ms": NOW_MS - 4000,
                "changed_ms": NOW_MS - 4000,
                "purpose": "",
                "sampling_stage": "",
                "due_ms": None,
                "silenced_until_ms": None,
                "inhibited_by": [],
                "retest": {},
                "handover": {},
                "outcome": "",
                "related": [],
            }
        ],
        "next": None,
    }


async def test_pages_follow_each_other(county, client):
    ids = sorted((county.add_alert() for _ in range(5)), reverse=True)
    first = (await client.get("/api/v1/alerts", params={"limit": 3})).json()
    second = (
        await client.get("/api/v1/alerts", params={"limit": 3, "before": first["next"]})
    ).json()
    assert [row["alert_id"] for row in first["alerts"] + second["alerts"]] == ids
    assert second["next"] is None


async def test_filters(county, client):
    ids = {
        state: county.add_alert(state=state)
        for state in ("suspected", "confirmed", "open", "cleared", "resolved")
    }
    critical = county.add_alert(severity="critical", station="pl-104", state="dismissed")

    async def found(**query):
        rows = (await client.get("/api/v1/alerts", params=query)).json()["alerts"]
        return {row["alert_id"] for row in rows}

    assert await found(state="open") == {ids["suspected"], ids["confirmed"], ids["open"]}
    assert await found(state="cleared") == {ids["cleared"]}
    assert await found(severity="critical") == {critical}
    assert await found(station="pl-104") == {critical}
    assert len(await found()) == 6


async def test_detail_walks_back_to_the_bytes(county, client):
    body = '{"tests":[{"sample_no":"韭菜"}]}'.encode()
    county.add_pack(body)
    county.add_station()
    record_id = county.add_test()
    alert_id = county.add_alert(
        kind="test",
        evidence={
            "finding_id": "f1",
            "station": "hl-001",
            "epoch": EPOCH,
            "seq": 1,
            "position": 0,
            "inbox_pos": 1,
            "record_id": record_id,
        },
    )
    county.insert(
        alert_transitions,
        alert_id=alert_id,
        seq=1,
        from_state="",
        to_state="suspected",
        actor="system",
        reason="",
        at_ms=NOW_MS,
        prev_hash="0" * 64,
        hash="1" * 64,
    )
    for _ in range(60):
        county.add_finding(alert_id=alert_id)
    detail = (await client.get(f"/api/v1/alerts/{alert_id}")).json()
    assert detail["transitions"] == [
        {
            "seq": 1,
            "from_state": "",
            "to_state": "suspected",
            "actor": "system",
            "reason": "",
            "at_ms": NOW_MS,
            "event": "",
            "data": {},
            "hash": "1" * 64,
        }
    ]
    assert detail["evidence"]["pack"] == {
        "received_ms": NOW_MS,
        "sha256": hashlib.sha256(body).hexdigest(),
        "topic": "agri/v1/hl-001/up",
        "body": body.decode(),
    }
    assert detail["evidence"]["test"]["record_id"] == record_id
    times = [finding["t_ms"] for finding in detail["findings"]]
    assert len(times) == 50
    assert times == sorted(times, reverse=True)
    assert set(detail["findings"][0]) == {
        "finding_id",
        "t_ms",
        "value",
        "unit",
        "device",
        "indicator",
        "citation",
    }


async def test_detail_without_pack_or_test(county, client):
    alert_id = county.add_alert(kind="data_gap", state="open", citation={}, evidence={}, value=None)
    detail = (await client.get(f"/api/v1/alerts/{alert_id}")).json()
    assert detail["evidence"]["pack"] is None
    assert detail["evidence"]["test"] is None
    assert detail["station_name"] == "hl-001"


async def test_deliveries_with_their_attempts_and_no_secret(county, client):
    county.insert(
        endpoints, id="county", name="县局", url="http://127.0.0.1/", bearer="whsec_x", active=True
    )
    alert_id = county.add_alert()
    add_delivery(county, alert_id)
    add_delivery(
        county, alert_id, webhook_id="evt_2_county", state="pending", delivered_ms=None, attempts=0
    )
    for attempt, status in ((1, 500), (2, 204)):
        county.insert(
            delivery_attempts,
            outbox_id=1,
            attempt=attempt,
            at_ms=NOW_MS + attempt,
            duration_ms=12,
            status_code=status,
            error="",
            response="<b>no</b>",
        )
    response = await client.get(f"/api/v1/alerts/{alert_id}/deliveries")
    assert "whsec" not in response.text
    delivered, pending = response.json()["deliveries"]
    assert delivered == {
        "webhook_id": "evt_1_county",
        "endpoint_id": "county",
        "endpoint_name": "县局",
        "event_type": "alert.suspected",
        "alert_seq": 1,
        "state": "delivered",
        "created_ms": NOW_MS,
        "delivered_ms": NOW_MS + 6000,
        "next_ms": None,
        "attempts": [
            {
                "attempt": attempt,
                "at_ms": NOW_MS + attempt,
                "duration_ms": 12,
                "status_code": status,
                "error": "",
                "response": "<b>no</b>",
                "key_ids": [],
                "replay": False,
            }
            for attempt, status in ((1, 500), (2, 204))
        ],
    }
    assert pending["next_ms"] == NOW_MS + 5000
    assert pending["attempts"] == []


@pytest.mark.parametrize("path", ["", "/deliveries"])
async def test_unknown_alert_is_404(client, path):
    response = await client.get(f"/api/v1/alerts/{NOBODY}{path}")
    assert response.status_code == 404
    assert NOBODY in response.json()["detail"]


async def test_malformed_id_is_named(client):
    response = await client.get("/api/v1/alerts/1' OR '1'='1")
    assert response.status_code == 422
    assert "alert_id" in response.json()["detail"]


async def test_ack_records_who_and_wakes_page_and_sender(county, client, key):
    alert_id = county.add_alert()
    seen = county.sources.wake.generation
    response = await client.post(
        f"/api/v1/alerts/{alert_id}/ack", json={"actor": " 李四 "}, headers={"X-API-Key": key}
    )
    assert response.status_code == 200
    key_id = key.split("_")[1]
    assert response.json()["acked_by"] == f"李四 ({key_id})"
    assert response.json()["state"] == "suspected"
    assert county.sources.wake.generation != seen
    assert county.sender_wakes == [1]


async def test_ack_without_a_name_is_by_the_key(county, client, key):
    alert_id = county.add_alert()
    response = await client.post(
        f"/api/v1/alerts/{alert_id}/ack", json={}, headers={"Authorization": f"Bearer {key}"}
    )
    assert response.json()["acked_by"] == f"county office ({key.split('_')[1]})"


async def test_dismissal_is_logged_with_its_reason(county, client, key):
    alert_id = county.add_alert()
    response = await client.post(
        f"/api/v1/alerts/{alert_id}/dismiss",
        json={"actor": "李四", "reason": "探头离土"},
        headers={"X-API-Key": key},
    )
    assert response.status_code == 200
    assert response.json()["state"] == "dismissed"
    transition = (await client.get(f"/api/v1/alerts/{alert_id}")).json()["transitions"][-1]
    assert (transition["to_state"], transition["reason"]) == ("dismissed", "探头离土")
    assert transition["actor"] == f"李四 ({key.split('_')[1]})"


async def test_illegal_dismissal_names_the_legal_steps(county, client, key):
    alert_id = county.add_alert(kind="test", certainty="screening")
    response = await client.post(
        f"/api/v1/alerts/{alert_id}/dismiss",
        json={"actor": "x", "reason": "y"},
        headers={"X-API-Key": key},
    )
    assert response.status_code == 409
    assert "confirm" in response.json()["detail"]
    assert "acknowledge" in response.json()["detail"]
    assert county.sender_wakes == []


@pytest.mark.parametrize("action", ["ack", "dismiss"])
async def test_acting_on_an_unknown_alert_is_404(client, key, action):
    response = await client.post(
        f"/api/v1/alerts/{NOBODY}/{action}",
        json={"actor": "x"} | ({"reason": "y"} if action == "dismiss" else {}),
        headers={"X-API-Key": key},
    )
    assert response.status_code == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"actor":"a","reason":""}', 422),
        (b'{"actor":"a","reason":"  "}', 422),
        (b'{"actor":"a"}', 422),
        (b'{"actor":1,"reason":"r"}', 422),
        (b'{"actor":true,"reason":"r"}', 422),
        (b'{"actor":"a","reason":"r","state":"confirmed"}', 422),
        (b'{"actor":"a","reason":"r","reason":"s"}', 422),
        (b'{"actor":NaN,"reason":"r"}', 422),
        (b'{"actor":1e400,"reason":"r"}', 422),
        (b'{"actor":' + b"9" * 5000 + b',"reason":"r"}', 400),
        (b"[" * 20_000, 400),
        (b'{"actor":"\xff","reason":"r"}', 400),
        (b"not json", 422),
        (b"", 422),
        (b"[]", 422),
        (b'{"actor":"a","reason":"' + b"r" * 70_000 + b'"}', 413),
    ],
)
async def test_bad_bodies_change_nothing(county, client, key, body, status):
    alert_id = county.add_alert()
    response = await client.post(
        f"/api/v1/alerts/{alert_id}/dismiss",
        content=body,
        headers={"X-API-Key": key, "content-type": "application/json"},
    )
    assert response.status_code == status
    assert list(response.json()) == ["detail"]
    assert isinstance(response.json()["detail"], str)
    assert len(response.text) < 600
    assert (await client.get(f"/api/v1/alerts/{alert_id}")).json()["state"] == "suspected"


async def test_chunked_body_without_length_is_limited(county, client, key):
    async def chunks():
        for _ in range(100):
            yield b"x" * 1024

    response = await client.post(
        f"/api/v1/alerts/{county.add_alert()}/ack",
        content=chunks(),
        headers={"X-API-Key": key, "content-type": "application/json"},
    )
    assert response.status_code == 413
    assert list(response.json()) == ["detail"]


async def test_a_computed_value_is_shown_with_what_it_was_computed_from(county, client):
    conditions = {
        "water_use": "fishery",
        "computed_from": "water_ammonia_n, water_ph, water_temperature",
        "water_ammonia_n": 1.2,
        "water_ph": 8.4,
        "water_temperature": 28.0,
    }
    citation = {"standard": "GB 11607-1989", "limit": 0.02, "conditions": conditions}
    alert_id = county.add_alert(indicator="water_ammonia_unionised", citation=citation)
    (listed,) = (await client.get("/api/v1/alerts")).json()["alerts"]
    shown = (await client.get(f"/api/v1/alerts/{alert_id}")).json()
    assert listed["citation"]["conditions"] == conditions
    assert shown["citation"]["conditions"] == conditions
