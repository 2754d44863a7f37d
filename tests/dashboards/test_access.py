from __future__ import annotations

import pytest

from ingest.tables import gateway_keys

READS = ["overview", "stations", "tests", "alerts", "indicators", "events"]
WRITES = [
    "alerts/01JDWZ0000000000000000000Z/ack",
    "alerts/01JDWZ0000000000000000000Z/dismiss",
    "stations",
    "stations/hl-001/keys/approve",
    "stations/hl-001/keys/refuse",
    "stations/hl-001/keys/replace",
]


@pytest.mark.parametrize("path", READS)
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "192.168.1.5:8080",
        "127.0.0.1:x",
    ],
)
async def test_reading_under_another_name_is_refused(county, connect, path, host):
    async with connect(county.app()) as client:
        response = await client.get(f"/api/v1/{path}", headers={"Host": host})
    assert response.status_code == 403
    assert "Host" in response.json()["detail"]


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "127.0.0.1", "127.0.0.1:8080", "[::1]:8080", "[::1]"]
)
async def test_reading_on_this_machine_needs_no_key(county, connect, host):
    async with connect(county.app()) as client:
        assert (await client.get("/api/v1/overview", headers={"Host": host})).status_code == 200


async def test_reading_from_another_machine_is_refused(county, connect):
    async with connect(county.app(), address="192.168.1.5") as client:
        assert (await client.get("/api/v1/overview")).status_code == 403


async def test_reading_through_a_proxy_is_refused(county, connect):
    async with connect(county.app()) as client:
        response = await client.get("/api/v1/overview", headers={"X-Forwarded-For": "127.0.0.1"})
    assert response.status_code == 403


@pytest.mark.parametrize("path", READS)
async def test_public_server_is_read_with_a_key_only(county, connect, path):
    async with connect(county.app(loopback_only_reads=False)) as client:
        response = await client.get(f"/api/v1/{path}")
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"


async def test_key_reads_from_anywhere(county, connect, key):
    app = county.app(loopback_only_reads=False)
    async with connect(app, address="203.0.113.9", host="county.example") as client:
        for headers in ({"X-API-Key": key}, {"Authorization": f"Bearer {key}"}):
            assert (await client.get("/api/v1/overview", headers=headers)).status_code == 200


@pytest.mark.parametrize("path", WRITES)
async def test_writing_without_a_key_is_401(county, client, path):
    county.add_station()
    county.insert(gateway_keys, station="hl-001", key="k", state="pending", first_seen_ms=1)
    response = await client.post(f"/api/v1/{path}", json={"actor": "x", "reason": "y", "key": "k"})
    assert response.status_code == 401
    assert list(response.json()) == ["detail"]


@pytest.mark.parametrize("change", ["shorter", "longer", "other", "upper case", "foreign"])
async def test_wrong_key_is_401_even_for_reading(client, key, change):
    wrong = {
        "shorter": key[:-1],
        "longer": key + "x",
        "other": key[:-4] + "AAAA",
        "upper case": key.upper(),
        "foreign": "x",
    }[change]
    headers = {"X-API-Key": wrong}
    assert (await client.post(f"/api/v1/{WRITES[0]}", json={}, headers=headers)).status_code == 401
    assert (await client.get("/api/v1/overview", headers=headers)).status_code == 401


async def test_blank_key_does_not_write(client):
    response = await client.post(f"/api/v1/{WRITES[0]}", json={}, headers={"X-API-Key": ""})
    assert response.status_code == 401
