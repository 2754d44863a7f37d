from __future__ import annotations

import sqlalchemy as sa

from ingest.tables import tests
from tests.conftest import databases  # noqa: F401 - on both engines

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
        "samples_rapid": 0,
        "undetermined_rapid": 0,
        "pass_rate_quantitative": None,
        "samples_quantitative": 0,
        "undetermined_quantitative": 0,
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
    assert (result["samples_rapid"], result["undetermined_rapid"]) == (5, 0)
    # No limit, or one below the LOQ: not failed, and said beside the rate.
    assert (result["samples_quantitative"], result["undetermined_quantitative"]) == (2, 1)


def add_series(county, sample_no, *verdicts, **row):
    for attempt, verdict in enumerate(verdicts):
        county.add_test(sample_no=sample_no, attempt=attempt, verdict=verdict, **row)


async def test_first_test_and_repeats_count_the_sample_once(county, client):
    add_series(county, "a", "suspect", "pass", "invalid", "pass")  # falls after two good repeats
    add_series(county, "b", "suspect", "pass")  # stands until the second
    add_series(county, "c", "suspect", "suspect", "suspect")
    add_series(county, "d", "pass")
    add_series(county, "e", "invalid", "invalid")  # not counted
    result = await overview(client)
    assert (result["samples_rapid"], result["pass_rate_rapid"]) == (4, 0.5)
    assert result["tests_today"] == 12


async def test_a_sample_of_several_items_is_one_and_fails_by_its_worst(county, client):
    lab = {"method": "lc_ms", "result_kind": "quantitative", "sample_no": "a"}
    county.add_test(parameter="enrofloxacin", verdict="pass", **lab)
    county.add_test(parameter="clenbuterol", verdict="undetermined", **lab)
    county.add_test(parameter="ractopamine", verdict="exceed", **lab)
    county.add_test(parameter="enrofloxacin", verdict="pass", **(lab | {"sample_no": "b"}))
    result = await overview(client)
    assert (result["samples_quantitative"], result["pass_rate_quantitative"]) == (2, 0.5)
    assert result["undetermined_quantitative"] == 0
    assert (result["samples_rapid"], result["pass_rate_rapid"]) == (0, None)


async def test_a_confirmatory_result_decides_on_its_item(county, client):
    strip = {"parameter": "克伦特罗", "method": "colloidal_gold", "result_kind": "qualitative"}
    lab = {"parameter": "clenbuterol", "method": "lc_ms", "result_kind": "quantitative"}
    county.add_test(sample_no="a", verdict="suspect", **strip)
    county.add_test(sample_no="a", verdict="pass", **lab)
    result = await overview(client)
    assert (result["pass_rate_rapid"], result["pass_rate_quantitative"]) == (1.0, 1.0)
    # A strip beside it does not count in the quantitative rate.
    county.add_test(sample_no="b", verdict="suspect", **strip)
    county.add_test(sample_no="b", verdict="undetermined", **lab)
    result = await overview(client)
    assert (result["pass_rate_rapid"], result["pass_rate_quantitative"]) == (0.5, 1.0)


async def test_a_sample_counts_on_the_day_it_was_taken(county, client):
    county.add_test(sampled_ms=MIDNIGHT_MS - 1, verdict="suspect")
    county.add_test(sampled_ms=MIDNIGHT_MS, verdict="pass")
    result = await overview(client)
    assert (result["samples_rapid"], result["pass_rate_rapid"]) == (1, 1.0)
    assert result["tests_today"] == 2


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
