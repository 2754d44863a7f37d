"""Policies and silences over HTTP, on both engines."""

from __future__ import annotations

import pytest

from alerts.tables import administration_log, endpoints
from tests.conftest import databases  # noqa: F401 - on both engines
from tests.dashboards.conftest import NOW_MS

HOUR_MS = 3_600_000
POLICY = {"id": "county", "endpoints": ["e1"], "match": {"severity": "major"}}


@pytest.fixture
def endpoint(county):
    county.insert(endpoints, id="e1", name="县", url="https://e.example", active=True)


@pytest.fixture
def write(client, key):
    async def send(method, path, **body):
        headers = {"X-API-Key": key}
        return await client.request(method, f"/api/v1{path}", headers=headers, json=body or None)

    return send


@pytest.mark.usefixtures("endpoint")
async def test_a_policy_is_made_changed_and_removed_under_its_version(county, write):
    made = await write("PUT", "/policies/county", policy=POLICY, actor="li")
    assert made.status_code == 200
    assert (made.json()["version"], made.json()["warnings"]) == (1, [])
    changed = POLICY | {"repeat_h": 4}
    again = await write("PUT", "/policies/county", policy=changed, version=1)
    assert again.json()["version"] == 2
    stale = await write("PUT", "/policies/county", policy=changed, version=1)
    assert (stale.status_code, stale.json()["version"]) == (409, 2)
    taken = await write("PUT", "/policies/county", policy=POLICY)
    assert taken.status_code == 409
    gone = await write("DELETE", "/policies/county?version=2")
    assert gone.json() == {"policies": []}
    with county.operational.read() as connection:
        log = connection.execute(administration_log.select()).all()
    assert [row.action for row in log] == ["policy.kept", "policy.kept", "policy.removed"]
    assert log[0].actor.startswith("li (")


async def test_what_does_not_exist_is_refused_and_nothing_is_kept(client, write):
    reply = await write("PUT", "/policies/county", policy=POLICY)
    assert reply.status_code == 422
    assert "there is no endpoint 'e1'" in reply.json()["detail"]
    bad = await write("PUT", "/policies/county", policy=POLICY | {"endpoint": ["e1"]})
    assert "endpoint" in bad.json()["detail"]
    assert (await client.get("/api/v1/policies")).json() == {"policies": []}


@pytest.mark.usefixtures("endpoint")
async def test_a_policy_that_would_route_nothing_is_said_when_it_is_saved(write):
    reply = await write("PUT", "/policies/county", policy=POLICY | {"match": {"region": ["51"]}})
    assert reply.status_code == 200
    assert "no station or base is in 51" in reply.json()["warnings"][0]
    tried = await write("POST", "/policies/check", policy={"id": "x"})
    assert tried.json()["warnings"][0].startswith("routes nothing")


async def test_a_silence_is_made_listed_and_ended(client, write):
    body = {"match": {"station": ["hl-001"]}, "ends": str(NOW_MS + HOUR_MS), "reason": "清淤"}
    made = await write("POST", "/silences", **body, actor="li")
    assert made.status_code == 200
    (row,) = made.json()["silences"]
    assert (row["holds"], row["scope"], row["ends_ms"]) == (True, "people", NOW_MS + HOUR_MS)
    ended = await write("DELETE", f"/silences/{row['id']}")
    assert ended.json() == {"silences": []}
    (past,) = (await client.get("/api/v1/silences?past=true")).json()["silences"]
    assert past["ended_ms"] == NOW_MS
    assert (await write("DELETE", f"/silences/{row['id']}")).status_code == 404


@pytest.mark.parametrize(
    "change",
    [
        {"match": {}},
        {"match": {"kind": ["fire"]}},
        {"match": {"statoin": ["x"]}},
        {"ends": str(NOW_MS)},
        {"ends": str(NOW_MS + 31 * 24 * HOUR_MS)},
        {"ends": "soon"},
        {"reason": " "},
    ],
)
async def test_a_silence_for_everything_for_ever_or_for_nothing_is_refused(client, write, change):
    body = {"match": {"station": ["x"]}, "ends": str(NOW_MS + HOUR_MS), "reason": "x"} | change
    assert (await write("POST", "/silences", **body)).status_code == 422
    assert (await client.get("/api/v1/silences?past=true")).json() == {"silences": []}
