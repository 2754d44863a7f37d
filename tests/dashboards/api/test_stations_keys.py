"""Deciding about gateway keys over HTTP."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from ingest.tables import gateway_keys
from tests.conftest import databases  # noqa: F401 - on both engines

NOW_MS = 1_777_600_000_000
STATION = "hl-001"
KEY = "a" * 43 + "="
OTHER_KEY = "b" * 43 + "="


@pytest.fixture
def swapped(county):
    """A station with an approved key, and a second one that waits."""
    county.add_station()
    county.insert(gateway_keys, station=STATION, key=OTHER_KEY, state="approved", first_seen_ms=1)
    county.insert(gateway_keys, station=STATION, key=KEY, state="pending", first_seen_ms=2)
    county.insert(gateway_keys, station="hl-002", key=OTHER_KEY, state="approved", first_seen_ms=1)
    return county


@pytest.fixture
def decide(client, key):
    async def post(act, gateway_key, station=STATION):
        return await client.post(
            f"/api/v1/stations/{station}/keys/{act}",
            json={"key": gateway_key},
            headers={"X-API-Key": key},
        )

    return post


def states(county):
    columns = (gateway_keys.c.station, gateway_keys.c.key, gateway_keys.c.state)
    with county.operational.read() as connection:
        return {
            (station, key): state for station, key, state in connection.execute(sa.select(*columns))
        }


async def test_the_first_key_is_approved(county, decide):
    county.add_station()
    county.insert(gateway_keys, station=STATION, key=KEY, state="pending", first_seen_ms=2)
    seen = county.sources.wake.generation
    response = await decide("approve", KEY)
    assert response.status_code == 200
    assert response.json()["key_state"] == "approved"
    assert county.sources.wake.generation != seen


async def test_a_second_key_is_not_approved_and_the_named_act_is_said(swapped, decide):
    before = states(swapped)
    response = await decide("approve", KEY)
    assert response.status_code == 409
    assert f"agrigate station replace {STATION} {KEY}" in response.json()["detail"]
    assert states(swapped) == before


async def test_a_replacement_approves_one_and_dates_the_other(swapped, decide):
    seen = swapped.sources.wake.generation
    response = await decide("replace", KEY)
    assert response.status_code == 200
    assert response.json()["keys"] == [
        {"key": OTHER_KEY, "state": "replaced", "first_seen_ms": 1, "replaced_ms": NOW_MS},
        {"key": KEY, "state": "approved", "first_seen_ms": 2, "replaced_ms": None},
    ]
    assert states(swapped)["hl-002", OTHER_KEY] == "approved"
    assert swapped.sources.wake.generation != seen


async def test_a_replacement_of_nothing_is_409(county, decide):
    county.add_station()
    county.insert(gateway_keys, station=STATION, key=KEY, state="pending", first_seen_ms=2)
    response = await decide("replace", KEY)
    assert response.status_code == 409
    assert f"agrigate station approve {STATION} {KEY}" in response.json()["detail"]
    assert states(county) == {(STATION, KEY): "pending"}


async def test_a_stolen_key_is_refused(swapped, decide):
    response = await decide("refuse", OTHER_KEY)
    assert response.status_code == 200
    assert (response.json()["key_state"], states(swapped)[STATION, OTHER_KEY]) == (
        "pending",
        "refused",
    )


@pytest.mark.parametrize("act", ["approve", "replace", "refuse"])
async def test_a_key_that_was_never_shown_is_404(swapped, decide, act):
    before = states(swapped)
    response = await decide(act, "c" * 43 + "=")
    assert response.status_code == 404
    assert "has shown no gateway key" in response.json()["detail"]
    assert states(swapped) == before


@pytest.mark.parametrize("act", ["approve", "replace", "refuse"])
async def test_a_key_of_an_unregistered_station_is_404(county, decide, act):
    county.add_station("hl-008")
    county.insert(gateway_keys, station="hl-009", key=KEY, state="pending", first_seen_ms=1)
    response = await decide(act, KEY, "hl-009")
    assert response.status_code == 404
    assert response.json()["detail"] == "no station 'hl-009'; nearest: hl-008"
    assert states(county) == {("hl-009", KEY): "pending"}


@pytest.mark.parametrize("act", ["approve", "replace", "refuse"])
async def test_without_an_api_key_nothing_is_decided(swapped, client, act):
    before = states(swapped)
    response = await client.post(f"/api/v1/stations/{STATION}/keys/{act}", json={"key": KEY})
    assert response.status_code == 401
    assert states(swapped) == before
