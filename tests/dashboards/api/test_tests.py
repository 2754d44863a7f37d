from __future__ import annotations

import pytest

from tests.conftest import databases  # noqa: F401 - on both engines

NOW_MS = 1_777_600_000_000


async def pages(client, **query):
    """Follow ``next`` to the end; return the ids of each page."""
    found, before = [], None
    while True:
        params = query if before is None else query | {"before": before}
        reply = (await client.get("/api/v1/tests", params=params)).json()
        found.append([row["record_id"] for row in reply["tests"]])
        before = reply["next"]
        if before is None:
            return found


async def test_row_has_names_verdict_and_alert(county, client):
    county.add_station()
    county.add_device("tester1", name="农残速测仪")
    record_id = county.add_test()
    alert_id = county.add_alert(kind="test")
    county.add_finding(record_id=record_id, alert_id=alert_id, kind="test", device="tester1")
    reply = (await client.get("/api/v1/tests")).json()
    assert reply["next"] is None
    assert reply["tests"] == [
        {
            "record_id": record_id,
            "station": "hl-001",
            "station_name": "站hl-001",
            "station_name_en": "Station hl-001",
            "device": "tester1",
            "device_name": "农残速测仪",
            "tested_ms": NOW_MS - 1000,
            "received_ms": NOW_MS,
            "sample_no": "s0",
            "product_name": "韭菜",
            "product_name_en": "Chinese chives",
            "parameter": "op_carbamate_inhibition",
            "parameter_zh": "op_carbamate_inhibition中",
            "parameter_en": "op_carbamate_inhibition en",
            "method": "enzyme_inhibition",
            "method_standard": "GB/T 5009.199-2003",
            "result_kind": "inhibition",
            "value": "61.20",
            "unit": "%",
            "value_text": "61.2%",
            "screen_result": "",
            "device_verdict": "不合格",
            "verdict": "suspect",
            "pass_scope": "op_carbamate",
            "severity": "major",
            "reason": "≥ 50 %",
            "findings": [{"standard": "GB/T 5009.199-2003", "limit": 50, "exceeded": True}],
            "flags": ["fp_prone"],
            "incomplete": False,
            "source": "device",
            "attempt": 0,
            "parent_record_id": None,
            "superseded_by": None,
            "subject": "s1",
            "alert_id": alert_id,
            "qualifier": "eq",
            "lod": None,
            "loq": None,
            "basis": "",
            "components": [],
        }
    ]


async def test_what_was_not_detected_says_down_to_where(county, client):
    parts = [{"parameter": "aldicarb", "qualifier": "not_detected", "loq": "0.010"}]
    sent = {"qualifier": "not_detected", "loq": "0.020", "basis": "fat", "components": parts}
    county.add_test(value=None, qualifier="not_detected", record=sent)
    (row,) = (await client.get("/api/v1/tests")).json()["tests"]
    assert (row["qualifier"], row["value"]) == ("not_detected", None)
    assert (row["loq"], row["lod"], row["basis"]) == ("0.020", None, "fat")
    assert row["components"] == [
        {
            "parameter": "aldicarb",
            "parameter_zh": "aldicarb中",
            "parameter_en": "aldicarb en",
            "value": None,
            "unit": "",
            "qualifier": "not_detected",
            "lod": None,
            "loq": "0.010",
        }
    ]


async def test_pages_lose_and_repeat_nothing_among_equal_times(county, client):
    ids = {county.add_test(tested_ms=NOW_MS - number // 4) for number in range(10)}
    found = await pages(client, limit=3)
    assert [len(page) for page in found] == [3, 3, 3, 1]
    flat = [record_id for page in found for record_id in page]
    assert len(flat) == 10
    assert set(flat) == ids


async def test_newest_first(county, client):
    first = county.add_test(tested_ms=1000)
    second = county.add_test(tested_ms=2000)
    assert await pages(client) == [[second, first]]
    reply = await client.get("/api/v1/tests", params={"before": "2000"})
    assert [row["record_id"] for row in reply.json()["tests"]] == [first]


async def test_filters(county, client):
    county.add_test(verdict="pass")
    suspect = county.add_test(verdict="suspect")
    elsewhere = county.add_test(verdict="pass", station="pl-104")
    assert await pages(client, verdict="suspect") == [[suspect]]
    assert await pages(client, station="pl-104") == [[elsewhere]]


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ({"verdict": "maybe"}, "verdict"),
        ({"limit": "0"}, "limit"),
        ({"limit": "501"}, "limit"),
        ({"before": "2026"}, None),
        ({"before": "1;DROP"}, "before"),
        ({"before": "NaN"}, "before"),
    ],
)
async def test_wrong_parameter_is_named(client, query, word):
    response = await client.get("/api/v1/tests", params=query)
    if word is None:
        assert response.status_code == 200
    else:
        assert response.status_code == 422
        assert response.json()["detail"].startswith(f"{word}: ")


async def sample_of(client, record_id):
    response = await client.get(f"/api/v1/tests/{record_id}/sample")
    assert response.status_code == 200, response.text
    return response.json()


async def test_a_sample_has_its_first_test_and_its_repeats(county, client):
    ids = [
        county.add_test(sample_no="a", attempt=attempt, verdict=verdict)
        for attempt, verdict in ((2, "pass"), (0, "suspect"), (1, "pass"))
    ]
    county.add_test(sample_no="b")
    county.add_test(sample_no="a", station="pl-104")
    county.add_test(sample_no="a", tested_ms=NOW_MS - 86_400_000)  # the number again, another day
    for record_id in ids:
        reply = await sample_of(client, record_id)
        assert [row["record_id"] for row in reply["tests"]] == [ids[1], ids[2], ids[0]]
        assert (reply["station"], reply["sample_no"], reply["verdict"]) == ("hl-001", "a", "pass")
        (item,) = reply["items"]
        assert item["parameter_zh"] == "op_carbamate_inhibition中"
        assert (item["first"], item["repeats"]) == ("suspect", ["pass", "pass"])
        assert (item["repeats_due"], item["confirmed"]) == (0, False)


async def test_a_positive_waits_for_its_repeats(county, client):
    first = county.add_test(sample_no="a")
    assert (await sample_of(client, first))["items"][0]["repeats_due"] == 2
    county.add_test(sample_no="a", attempt=1, verdict="pass")
    reply = await sample_of(client, first)
    assert (reply["verdict"], reply["items"][0]["repeats_due"]) == ("suspect", 1)


async def test_a_test_without_a_sample_number_is_a_sample_of_its_own(county, client):
    first = county.add_test(sample_no="")
    county.add_test(sample_no="")
    reply = await sample_of(client, first)
    assert [row["record_id"] for row in reply["tests"]] == [first]


async def test_a_sample_of_no_test_is_not_found(client):
    response = await client.get("/api/v1/tests/none/sample")
    assert response.status_code == 404
    assert "none" in response.json()["detail"]


@pytest.mark.parametrize(
    ("row", "scope"),
    [
        ({"result_kind": "inhibition"}, "op_carbamate"),
        ({"parameter": "clenbuterol", "method": "胶体金", "result_kind": "qualitative"}, "strip"),
        ({"parameter": "毒死蜱", "method": "gc_ms", "result_kind": "quantitative"}, "limit"),
    ],
)
async def test_a_pass_says_what_it_is_about(county, client, row, scope):
    county.add_test(verdict="pass", **row)
    (test,) = (await client.get("/api/v1/tests")).json()["tests"]
    assert test["pass_scope"] == scope


async def test_a_completion_counts_once_and_its_parent_is_evidence(county, client):
    done = county.add_test(sample_no="S1", parent_record_id="r00009", verdict="pass", value="12.0")
    bare = county.add_test(sample_no="", verdict="suspect", superseded_by=done)
    assert await pages(client) == [[done]]
    for asked in (done, bare):
        reply = (await client.get(f"/api/v1/tests/{asked}/sample")).json()
        assert (reply["sample_no"], reply["verdict"]) == ("S1", "pass")
        assert [item["verdict"] for item in reply["items"]] == ["pass"]
        told = {row["record_id"]: row["superseded_by"] for row in reply["tests"]}
        assert told == {done: None, bare: done}
    overview = (await client.get("/api/v1/overview")).json()
    assert (overview["tests_today"], overview["samples_rapid"]) == (1, 1)
    assert overview["pass_rate_rapid"] == 1.0


async def test_a_corrected_sample_number_leaves_the_wrong_sample(county, client):
    first = county.add_test(sample_no="S1", verdict="pass")
    right = county.add_test(sample_no="S2", verdict="suspect")
    wrong = county.add_test(sample_no="S1", verdict="suspect", superseded_by=right)
    of_first = (await client.get(f"/api/v1/tests/{first}/sample")).json()
    assert (of_first["verdict"], [row["record_id"] for row in of_first["tests"]]) == (
        "pass",
        [first],
    )
    of_right = (await client.get(f"/api/v1/tests/{right}/sample")).json()
    assert {row["record_id"] for row in of_right["tests"]} == {right, wrong}
