"""What people decide about alerts over HTTP, the filters of the list, and how often alerts were wrong."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from alerts.tables import alert_transitions, alerts
from tests.conftest import databases  # noqa: F401 - on both engines
from tests.dashboards.conftest import NOW_MS

NOBODY = "01JDWZ0000000000000000000Z"


@pytest.fixture
def decide(client, key):
    async def send(alert_id, trigger, seq, **words):
        body = {"trigger": trigger, "seq": seq, "actor": "li", **words}
        path = f"/api/v1/alerts/{alert_id}/transitions"
        return await client.post(path, headers={"X-API-Key": key}, json=body)

    return send


async def may(client, alert_id):
    reply = (await client.get(f"/api/v1/alerts/{alert_id}/decisions")).json()
    return {
        d["trigger"]: [n["field"] for n in d["needs"] if n["required"]] for d in reply["decisions"]
    }


async def test_a_suspect_test_goes_its_way_to_closed(county, client, decide):
    alert_id = county.add_alert(kind="test", certainty="screening", sample_no="s1")
    assert await may(client, alert_id) == {"acknowledge": [], "order_retest": []}
    done = await decide(alert_id, "order_retest", 1, laboratory="lab", order_id="o1")
    assert (done.status_code, done.json()["state"]) == (200, "retest_ordered")
    assert done.json()["retest"] == {"laboratory": "lab", "order_id": "o1"}
    county.execute(sa.update(alerts).values(certainty="confirmatory"))
    assert (await decide(alert_id, "confirm", 2, reason="checked")).json()["state"] == "confirmed"
    assert (await may(client, alert_id))["hand_over"] == ["agency"]
    assert (await decide(alert_id, "hand_over", 3, agency="队")).json()["state"] == "handed_over"
    assert await may(client, alert_id) == {
        "acknowledge": [],
        "accept": ["case_no"],
        "reject_handover": ["reason"],
    }
    taken = await decide(alert_id, "accept", 4, case_no="2026-1")
    assert taken.json()["handover"]["case_no"] == "2026-1"
    assert (await may(client, alert_id))["close"] == [
        "outcome",
        "reason",
    ]  # nothing was disposed of
    closed = await decide(alert_id, "close", 5, outcome="penalised", reason="fine of 5000")
    assert (closed.json()["state"], closed.json()["outcome"]) == ("closed", "penalised")
    assert await may(client, alert_id) == {}
    with county.operational.read() as connection:
        log = connection.execute(alert_transitions.select().order_by(alert_transitions.c.seq)).all()
    assert [row.data for row in log[2:5]] == [
        {"agency": "队"},
        {"case_no": "2026-1"},
        {"outcome": "penalised"},
    ]
    assert all(row.actor.startswith("li (") for row in log)


@pytest.mark.parametrize(
    ("trigger", "words", "status", "said"),
    [
        ("hand_over", {"agency": "x"}, 409, "'hand_over' is not legal"),
        ("dismiss", {"reason": "x"}, 409, "never tests"),
        ("order_retest", {"agency": "x"}, 422, "order_retest takes no agency"),
        ("close", {"outcome": "sunk"}, 422, "outcome: one of"),
        ("close", {}, 422, "close needs outcome"),
        ("refute", {}, 422, "trigger"),
    ],
)
async def test_what_is_not_legal_or_not_said_changes_nothing(
    county, client, decide, trigger, words, status, said
):
    alert_id = county.add_alert(kind="test", certainty="screening")
    reply = await decide(alert_id, trigger, 1, **words)
    assert reply.status_code == status
    assert said in reply.json()["detail"]
    if status == 409:
        assert reply.headers["content-type"] == "application/problem+json"
        assert reply.json()["legal"] == ["acknowledge", "order_retest"]
    assert (await client.get(f"/api/v1/alerts/{alert_id}")).json()["seq"] == 1


async def test_a_stale_seq_is_refused_with_the_present_one(county, decide):
    alert_id = county.add_alert(kind="test", certainty="screening", seq=4)
    reply = await decide(alert_id, "acknowledge", 3)
    assert (reply.status_code, reply.json()["seq"]) == (409, 4)
    assert (await decide(NOBODY, "acknowledge", 3)).status_code == 404


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("kind=test", ["b"]),
        ("region=6401", ["a", "b"]),
        ("region=51", ["c"]),
        ("purpose=supervision", ["b"]),
        ("stage=base", ["b"]),
        ("flag=overdue", ["c"]),
        ("q=韭", ["b"]),
        ("q=SOIL", ["a", "c"]),
        ("q=%25", []),
        ("state=handed_over", ["c"]),
        ("state=open&kind=limit", ["a", "c"]),
    ],
)
async def test_the_list_is_filtered(county, client, query, found):
    ids = {
        "a": county.add_alert(),
        "b": county.add_alert(
            kind="test",
            indicator="chlorpyrifos",
            device="tester1",
            purpose="supervision",
            sampling_stage="base",
            product_name="韭菜",
        ),
        "c": county.add_alert(region_code="510100", flags=["overdue"], state="handed_over"),
    }
    rows = (await client.get(f"/api/v1/alerts?{query}")).json()["alerts"]
    assert sorted(row["alert_id"] for row in rows) == sorted(ids[name] for name in found)


async def test_a_dismissed_alarm_shows_in_the_statistics(county, client, decide):
    wrong = county.add_alert(raised_ms=NOW_MS)
    county.add_alert(raised_ms=NOW_MS)
    county.add_alert(raised_ms=NOW_MS, state="confirmed")
    county.add_alert(raised_ms=NOW_MS - 100 * 86_400_000, state="dismissed")
    address = "/api/v1/statistics/false-alarms?by=indicator"
    before = (await client.get(address)).json()["rows"]
    assert (before[0]["dismissed"], before[0]["false_rate"]) == (0, 0)
    assert (await decide(wrong, "dismiss", 1, reason="probe in the air")).status_code == 200
    (row,) = (await client.get(address)).json()["rows"]
    assert (row["key"], row["name_zh"]) == ("soil_cd", "土壤镉")
    assert (row["raised"], row["dismissed"], row["refuted"], row["confirmed"]) == (3, 1, 0, 1)
    assert row["false_rate"] == 0.5
    for by in ("device", "rule", "station"):
        rows = (await client.get(f"/api/v1/statistics/false-alarms?by={by}")).json()["rows"]
        assert [r["dismissed"] for r in rows] == [1]
