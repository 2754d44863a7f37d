from __future__ import annotations

from dataclasses import replace

import pytest

from ingest import batch
from ingest.batch import Series
from tests.dashboards.conftest import SPAN

NOW_MS = 1_777_600_000_000
DAY_MS = 86_400_000
STATION = "hl-001"
SERIES = {"station": STATION, "device": "plot3/soil1", "indicator": "soil_cd"}


async def get(client, **query):
    return await client.get("/api/v1/readings", params=SERIES | query)


async def test_points_are_the_same_doubles_as_in_the_store(county, client):
    values = [0.1 + 0.2, 4.2e-7, float("nan"), -0.0, 1.7976931348623157e308]
    times = county.add_readings(values, q=[1, 3, 9, 1, 4])
    reply = (await get(client)).json()
    assert [row[1] for row in reply["points"]] == [
        0.1 + 0.2,
        4.2e-7,
        None,
        -0.0,
        1.7976931348623157e308,
    ]
    assert [row[0] for row in reply["points"]] == times
    assert [row[2] for row in reply["points"]] == [1, 3, 9, 1, 4]
    assert (reply["total"], reply["returned"], reply["downsampling"]) == (5, 5, "none")
    assert (reply["name_zh"], reply["unit"], reply["decimals"]) == ("土壤镉", "mg/kg", 3)


async def test_default_range_is_the_last_day(county, client):
    county.add_readings([1.0, 2.0, 3.0], t_ms=[NOW_MS - DAY_MS, NOW_MS - DAY_MS + 1, NOW_MS])
    reply = (await get(client)).json()
    assert (reply["start_ms"], reply["end_ms"]) == (NOW_MS + 1 - DAY_MS, NOW_MS + 1)
    assert [row[1] for row in reply["points"]] == [2.0, 3.0]


async def test_end_is_exclusive_and_all_forms_of_time_agree(county, client):
    county.add_readings(
        [1.0, 2.0, 3.0], t_ms=[1_777_593_600_000, 1_777_593_600_500, 1_777_593_601_000]
    )
    forms = [
        ("1777593600000", "1777593601000"),
        ("2026-05-01T08:00:00+08:00", "2026-05-01T08:00:01+08:00"),
        ("2026-05-01T00:00:00Z", "2026-05-01T00:00:01.000Z"),
        ("2026-04-30t20:00:00-04:00", "2026-05-01 00:00:01z"),
    ]
    replies = [(await get(client, start=start, end=end)).json() for start, end in forms]
    assert [row[1] for row in replies[0]["points"]] == [1.0, 2.0]
    assert all(reply == replies[0] for reply in replies)


async def test_plus_that_became_a_blank_is_understood(county, client):
    county.add_readings([1.0], t_ms=[1_777_593_600_000])
    url = "/api/v1/readings?station=hl-001&device=plot3/soil1&indicator=soil_cd"
    reply = await client.get(url + "&start=2026-05-01T08:00:00+08:00&end=2026-05-01T08:00:01+08:00")
    assert reply.json()["returned"] == 1


async def test_downsampling_keeps_the_peak_and_says_so(county, client):
    values = [1.0] * 5000
    values[3217] = 99.0
    values[1234] = -7.0
    times = [NOW_MS - 5000 + i for i in range(5000)]
    county.add_readings(values, t_ms=times)
    reply = (await get(client, max_points=100)).json()
    assert (reply["total"], reply["downsampling"]) == (5000, "min_max")
    assert reply["returned"] == len(reply["points"]) <= 100
    points = {row[0]: row[1] for row in reply["points"]}
    assert points[times[3217]] == 99.0
    assert points[times[1234]] == -7.0


async def test_limits_come_with_the_series(county, client):
    county.add_readings([0.45])
    county.add_limit()
    reply = (await get(client)).json()
    assert reply["limits"] == [
        {
            "standard": "GB 15618-2018",
            "clause": "表1",
            "level": "screening",
            "comparator": ">",
            "limit": 0.4,
            "unit": "mg/kg",
            "verified": True,
            "conditions": {"land_use": "paddy", "ph": 6.2},
            "from_ms": 0,
            "to_ms": NOW_MS,
            "note": "",
            "clause_en": "Table 1",
        }
    ]


async def test_a_limit_says_what_else_it_asks_for(county, client):
    county.add_readings([0.45])
    said = "连续 24 h 中至少 16 h 高于此值 | above this for at least 16 h of any 24 h"
    county.spans.append(replace(SPAN, note=said))
    (limit,) = (await get(client)).json()["limits"]
    assert limit["note"] == said


async def test_every_flag_of_a_reading_has_its_words(county, client):
    county.add_readings([0.45])
    bits = (await get(client)).json()["flag_bits"]
    known = {
        name.lower(): value
        for name, value in vars(batch).items()
        if name.isupper() and type(value) is int
    }
    for quality in ("pass", "not_evaluated", "suspect", "fail", "missing"):
        del known[quality]
    assert {row["name"]: row["bit"] for row in bits} == known
    assert all(row["zh"] and row["en"] for row in bits)


async def test_empty_range_of_a_known_series_is_no_error(county, client):
    county.add_readings([0.45])
    response = await get(client, start="0", end="1")
    assert response.status_code == 200
    assert response.json()["points"] == []


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"start": "2026-05-01T08:00:00"}, ["start", "no offset"]),
        ({"end": "yesterday"}, ["end", "RFC 3339"]),
        ({"start": "2026-02-30T00:00:00Z"}, ["start", "no time"]),
        ({"start": "9" * 15}, ["start", "9999"]),
        ({"start": "9" * 5000}, ["start"]),
        ({"start": "NaN"}, ["start"]),
        ({"start": "１７７７５９３６０００００"}, ["start"]),
        ({"start": "-1"}, ["start"]),
        ({"start": "1e3"}, ["start"]),
        ({"start": "5", "end": "5"}, ["start", "before end"]),
        ({"max_points": "0"}, ["max_points", "greater than or equal to 2"]),
        ({"max_points": "1e400"}, ["max_points"]),
        ({"max_points": "NaN"}, ["max_points"]),
        ({"max_points": "9" * 5000}, ["max_points"]),
        ({"max_points": "true"}, ["max_points"]),
        ({"device": "x" * 81}, ["device", "80"]),
        ({"station": ""}, ["station"]),
    ],
)
async def test_wrong_parameter_is_named(county, client, query, words):
    county.add_readings([0.45])
    response = await get(client, **query)
    assert response.status_code == 422
    assert list(response.json()) == ["detail"]
    assert all(word in response.json()["detail"] for word in words)
    assert len(response.text) < 500


async def test_missing_parameters_are_all_named(client):
    detail = (await client.get("/api/v1/readings")).json()["detail"]
    assert all(name in detail for name in ("station", "device", "indicator"))


async def test_unknown_names_are_answered_with_the_nearest(county, client):
    county.add_station()
    county.add_station("wanghong")
    county.add_readings([6.5], series=Series(STATION, "plot3/soil1", "soil_ph"))
    wrong_indicator = await get(client, indicator="soil_hp")
    assert wrong_indicator.status_code == 404
    assert "nearest: plot3/soil1/soil_ph" in wrong_indicator.json()["detail"]
    wrong_station = await get(client, station="hl-01")
    assert wrong_station.status_code == 404
    assert wrong_station.json()["detail"] == "no station 'hl-01'; nearest: hl-001"
    silent_station = await get(client, station="wanghong")
    assert silent_station.json()["detail"] == "station wanghong has no readings yet"


async def test_sql_in_a_name_is_only_a_name(county, client):
    county.add_readings([0.45])
    response = await get(client, device="x'; DROP TABLE readings; --")
    assert response.status_code == 404
    assert (await get(client)).json()["total"] == 1


HOUR_MS = 3_600_000


async def test_few_readings_of_a_long_range_come_as_they_are(client, county):
    county.add_readings([1.0] * 50, t_ms=[NOW_MS - n * DAY_MS for n in range(50, 0, -1)])
    body = (await get(client, start=NOW_MS - 365 * DAY_MS)).json()
    assert (body["downsampling"], body["total"], body["buckets"]) == ("none", 50, [])
    assert len(body["points"]) == 50


@pytest.mark.parametrize(
    ("max_points", "level", "ms"), [(200, "day", DAY_MS), (2000, "hour", HOUR_MS)]
)
async def test_many_readings_of_a_long_range_come_as_roll_ups_of_the_finest_grid_that_fits(
    client, county, max_points, level, ms
):
    first = NOW_MS - 30 * DAY_MS
    times = list(range(first, NOW_MS, 120_000))
    county.add_readings([float(n % 7) for n in range(len(times))], t_ms=times)
    body = (await get(client, start=first, end=NOW_MS, max_points=max_points)).json()
    assert (body["downsampling"], body["total"], body["points"]) == (level, len(times), [])
    assert len(body["buckets"]) == body["returned"] <= max_points
    start, low, mean, high, count, good = body["buckets"][3]
    assert (low, high, count, good) == (0.0, 6.0, ms // 120_000, 1.0)
    assert mean == pytest.approx(3.0, abs=0.3)
    assert sum(bucket[4] for bucket in body["buckets"]) == len(times)
    assert start % HOUR_MS == 0
