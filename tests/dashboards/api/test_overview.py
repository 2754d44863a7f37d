from __future__ import annotations

import sqlalchemy as sa

from ingest.tables import tests

DAY_MS = 86_400_000
NOW_MS = 1_777_600_000_000
MIDNIGHT_MS = 1_777_564_800_000  # 2026-05-01 00:00 in Shanghai


async def overview(client):
    response = await client.get("/api/v1/overview")
    assert response.status_code == 200, response.text
    return response.json()


async def test_empty_county_has_no_rates(client):
    assert await overview(client) == {
        "tests_today": 0,
        "suspects_open": 0,
        "exceedances_open": 0,
        "stations_online": 0,
        "stations_total": 0,
        "pass_rate_rapid": None,
        "pass_rate_quantitative": None,
        "readings_total": 0,
        "generated_at": "2026-05-01T09:46:40.000+08:00",
    }


async def test_today_is_the_day_in_shanghai(county, client):
    county.add_station()
    for tested_ms in (MIDNIGHT_MS - 1, MIDNIGHT_MS, MIDNIGHT_MS + DAY_MS - 1, MIDNIGHT_MS + DAY_MS):
        county.add_test(tested_ms=tested_ms)
    assert (await overview(client))["tests_today"] == 2


async def test_rates_keep_rapid_and_quantitative_apart(county, client):
    for verdict in ("pass", "pass", "pass", "suspect"):
        county.add_test(verdict=verdict)
    county.add_test(verdict="exceed", result_kind="qualitative")
    county.add_test(verdict="pass", result_kind="quantitative")
    county.add_test(verdict="undetermined", result_kind="quantitative")
    county.add_test(verdict="invalid")
    result = await overview(client)
    assert result["pass_rate_rapid"] == 3 / 5
    assert result["pass_rate_quantitative"] == 1.0
    assert result["tests_today"] == 8


async def test_repeats_count_the_sample_once_by_its_last_valid_attempt(county, client):
    county.add_test(sample_no="a", attempt=0, verdict="suspect")
    county.add_test(sample_no="a", attempt=1, verdict="pass")
    county.add_test(sample_no="a", attempt=2, verdict="invalid")
    county.add_test(sample_no="b", attempt=0, verdict="suspect")
    result = await overview(client)
    assert result["pass_rate_rapid"] == 0.5
    assert result["tests_today"] == 4


async def test_tests_without_sample_number_are_no_repeats(county, client):
    county.add_test(sample_no="", attempt=0, verdict="suspect")
    county.add_test(sample_no="", attempt=1, verdict="pass")
    assert (await overview(client))["pass_rate_rapid"] == 0.5


async def test_alerts_are_counted_by_state(county, client):
    for state in (
        "suspected",
        "suspected",
        "retest_ordered",
        "confirmed",
        "handed_over",
        "in_enforcement",
    ):
        county.add_alert(state=state)
    for state in ("cleared", "dismissed", "refuted", "open", "resolved"):
        county.add_alert(state=state)
    result = await overview(client)
    assert (result["suspects_open"], result["exceedances_open"]) == (3, 3)


async def test_online_is_a_beat_within_three_minutes(county, client):
    for code, age_ms, online in (
        ("st-1", 180_000, True),
        ("st-2", 180_001, True),
        ("st-3", 0, False),
    ):
        county.add_station(code)
        county.set_state(code, age_ms=age_ms, online=online)
    county.add_station("st-4")
    result = await overview(client)
    assert (result["stations_online"], result["stations_total"]) == (1, 4)


async def test_readings_are_those_of_the_store(county, client):
    county.add_readings([0.1, 0.2, float("nan")])
    assert (await overview(client))["readings_total"] == 3


async def test_few_statements_for_many_stations(county, client):
    for number in range(500):
        county.add_station(f"st-{number:03}")
        county.set_state(f"st-{number:03}")
    statements = []
    engine = county.operational._read_engine
    sa.event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    assert (await overview(client))["stations_online"] == 500
    assert len(statements) <= 4
    statements.clear()
    response = await client.get("/api/v1/stations")
    assert len(response.json()["stations"]) == 500
    assert len(statements) <= 5


async def test_verdicts_of_yesterday_do_not_count(county, client):
    county.add_test(verdict="suspect", tested_ms=MIDNIGHT_MS - 1, sample_no="a", attempt=1)
    county.add_test(verdict="pass", tested_ms=MIDNIGHT_MS, sample_no="a", attempt=0)
    assert (await overview(client))["pass_rate_rapid"] == 1.0
    county.execute(sa.delete(tests))
    assert (await overview(client))["pass_rate_rapid"] is None
