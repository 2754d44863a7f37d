from __future__ import annotations

import pytest

from ingest.batch import Series

DAY_MS = 86_400_000
NOW_MS = 1_777_600_000_000  # 2026-05-01 09:46:40 in Shanghai
EVERY = 3261
"""Rows of the tables that ship with the project."""


@pytest.fixture
def get(client):
    async def ask(path="limits", status=200, **query):
        reply = await client.get(f"/api/v1/{path}", params=query)
        assert reply.status_code == status, reply.text
        return reply.json()

    return ask


async def test_every_row_is_listed_page_by_page_and_only_once(get):
    first = await get(at="any", limit=200)
    assert first["total"] == EVERY
    assert sum(first["media"].values()) == sum(s["rows"] for s in first["standards"]) == EVERY
    places = [row["place"] for row in first["limits"]]
    for offset in range(200, EVERY, 200):
        page = await get(at="any", limit=200, offset=offset)
        assert page["offset"] == offset
        places += [row["place"] for row in page["limits"]]
    assert len(places) == len(set(places)) == EVERY


async def test_words_in_chinese_or_english_find_the_same_rows(get):
    zh = await get(q="土壤镉 水田")
    en = await get(q="SOIL cadmium paddy")
    assert zh["total"] == en["total"] > 0
    assert {row["subject"] for row in zh["limits"]} == {"soil_cd"}
    row = zh["limits"][0]
    assert (row["standard"], row["medium"], row["verified"]) == ("GB 15618-2018", "soil", True)
    assert (row["comparator"], row["limit"], row["unit"]) == (">", "0.3", "mg/kg")
    assert "pH≤5.5" in row["conditions_zh"]
    assert row["to_ms"] is None
    assert not row["place"].startswith("/")


async def test_filters_narrow_and_the_counts_say_what_else_there_is(get):
    everything = await get(q="chlorpyrifos")
    narrow = await get(q="chlorpyrifos", medium="product")
    assert {row["medium"] for row in narrow["limits"]} == {"product"}
    assert narrow["media"] == everything["media"]
    assert narrow["total"] == everything["media"]["product"] < everything["total"]
    standard = narrow["standards"][0]
    of_one = await get(q="chlorpyrifos", medium="product", standard=standard["standard"])
    assert of_one["total"] == standard["rows"]
    assert of_one["standards"] == narrow["standards"]


async def test_subject_and_product_are_filters_of_their_own(get):
    found = await get(subject="chlorpyrifos", product="celery", at="any")
    assert found["total"] > 0
    assert all(
        row["subject"] == "chlorpyrifos" and "celery" in row["product_en"].lower()
        for row in found["limits"]
    )


async def test_only_rows_in_force_at_the_time_are_found(get):
    before = await get(q="GB 2763", medium="product", at="2026-02-28T23:59:59+08:00")
    after = await get(q="GB 2763", medium="product", at="2026-03-01T00:00:00+08:00")
    assert {row["standard"] for row in before["limits"]} == {"GB 2763-2021"}
    assert {row["standard"] for row in after["limits"]} == {"GB 2763-2026"}
    both = await get(q="GB 2763", medium="product", at="any", limit=200)
    assert both["total"] == before["total"] + after["total"]
    assert {row["in_force"] for row in both["limits"]} <= {True, False}
    assert [s["standard"] for s in both["standards"]] == [
        "GB 2763-2021",
        "GB 2763.1-2022",
        "GB 2763-2026",
    ]


async def test_default_is_now(get):
    assert (await get(q="镉"))["at_ms"] == NOW_MS


async def test_unverified_rows_are_counted_and_marked(get):
    page = await get(standard="GB 11607-1989")
    assert not any(row["verified"] for row in page["limits"])
    assert page["standards"][0]["rows"] >= page["standards"][0]["unverified"] > 0


async def test_nothing_found_names_what_comes_nearest(get):
    page = await get(q="毒死婢")
    assert (page["total"], page["limits"]) == (0, [])
    assert page["nearest"][0] == {"code": "chlorpyrifos", "zh": "毒死蜱", "en": "Chlorpyrifos"}
    assert (await get(q="cadmum"))["nearest"][0]["code"].endswith("_cd")
    assert (await get(q="镉"))["nearest"] == []


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"at": "yesterday"}, "at"),
        ({"medium": "air"}, "medium"),
        ({"limit": 0}, "limit"),
        ({"limit": 201}, "limit"),
        ({"offset": -1}, "offset"),
        ({"q": "x" * 101}, "q"),
    ],
)
async def test_a_wrong_parameter_is_named(get, query, named):
    assert (await get(status=422, **query))["detail"].startswith(named)


async def test_names_as_typed(get):
    typed = await get("limits/names", kind="substance", text="毒死")
    assert typed["names"][0]["zh"] == "毒死蜱"
    english = await get("limits/names", kind="product", text="chinese chive")
    assert english["names"][0]["zh"] == "韭菜"
    assert (await get("limits/names", kind="product", text="韮菜"))["names"] != []
    assert (await get("limits/names", kind="product", text=" "))["names"] == []


# ---------------------------------------------------------------- plots


@pytest.fixture
def plot(county):
    county.add_place()
    county.add_station()
    county.add_device(plot_id="plot-3")


def rule(reply, subject, level=None):
    (found,) = [
        one
        for one in reply["plots"][0]["rules"]
        if one["subject"] == subject and level in (None, one["level"])
    ]
    return found


@pytest.mark.usefixtures("plot")
async def test_plot_says_which_condition_is_missing_and_which_rows_it_could_be(get):
    reply = await get("limits/in-force", plot="plot-3")
    cadmium = rule(reply, "soil_cd", "screening")
    assert cadmium["missing"] == ["ph"]
    assert not cadmium["known"]
    assert [row["limit"] for row in cadmium["rows"]] == ["0.3", "0.4", "0.6", "0.8"]
    missing = {one["key"]: one["rules"] for one in reply["plots"][0]["missing"]}
    open_rules = [one for one in reply["plots"][0]["rules"] if "ph" in one["missing"]]
    assert missing["ph"] == len(open_rules) > 0
    assert reply["plots"][0]["plot"]["conditions"] == {"land_use": "paddy"}
    assert reply["plots"][0]["plot"]["devices"] == ["hl-001/plot3/soil1"]


@pytest.mark.usefixtures("plot")
async def test_a_measured_ph_picks_the_row_while_it_counts(county, get):
    series = Series("hl-001", "plot3/soil1", "soil_ph")
    county.add_readings([6.2], series=series, t_ms=[NOW_MS - DAY_MS + 1])
    reply = await get("limits/in-force", plot="plot-3")
    assert reply["plots"][0]["measured"] == {"soil_ph": 6.2}
    cadmium = rule(reply, "soil_cd", "screening")
    assert cadmium["known"]
    assert [row["limit"] for row in cadmium["rows"]] == ["0.4"]
    later = await get("limits/in-force", plot="plot-3", at=str(NOW_MS + 1))
    assert later["plots"][0]["measured"] == {}
    assert rule(later, "soil_cd", "screening")["missing"] == ["ph"]


@pytest.mark.usefixtures("plot")
async def test_a_failed_reading_is_no_condition(county, get):
    series = Series("hl-001", "plot3/soil1", "soil_ph")
    county.add_readings([6.2], series=series, q=[4])
    reply = await get("limits/in-force", plot="plot-3")
    assert reply["plots"][0]["measured"] == {}


@pytest.mark.usefixtures("plot")
async def test_station_device_and_indicator_ask_for_the_same_plot(county, get):
    by_plot = await get("limits/in-force", plot="plot-3")
    assert await get("limits/in-force", station="hl-001") == by_plot
    assert await get("limits/in-force", station="hl-001", device="plot3/soil1") == by_plot
    one = await get("limits/in-force", station="hl-001", indicator="soil_cd")
    assert {rule["subject"] for rule in one["plots"][0]["rules"]} == {"soil_cd"}
    county.add_device(path="gate1")
    assert (await get("limits/in-force", station="hl-001", device="gate1"))["plots"] == []


@pytest.mark.usefixtures("plot")
async def test_what_is_not_there_comes_with_the_nearest(get):
    plot = await get("limits/in-force", plot="plot-4", status=404)
    assert plot["detail"] == "no plot 'plot-4'; nearest: plot-3"
    station = await get("limits/in-force", station="hl-01", status=404)
    assert "nearest: hl-001" in station["detail"]
    device = await get("limits/in-force", station="hl-001", device="plot3/soil", status=404)
    assert "nearest: plot3/soil1" in device["detail"]


@pytest.mark.parametrize(
    "query", [{}, {"plot": "plot-3", "product": "韭菜"}, {"substance": "chlorpyrifos"}]
)
async def test_one_thing_is_asked_for_at_a_time(get, query):
    assert "one of plot" in (await get("limits/in-force", status=422, **query))["detail"]


@pytest.mark.usefixtures("plot")
async def test_plots_are_listed_with_what_is_registered(get):
    (row,) = (await get("plots"))["plots"]
    assert (row["id"], row["name"], row["base_name"]) == ("plot-3", "三号田", "一号基地")
    assert row["conditions"] == {"land_use": "paddy"}


# ---------------------------------------------------------------- samples


async def test_sample_tells_limit_ban_and_the_level_it_was_matched_by(get):
    sample = (await get("limits/in-force", product="韭菜", substance="毒死蜱"))["sample"]
    (residue,) = sample["residues"]
    assert sample["substance"]["code"] == "chlorpyrifos"
    assert (residue["limit"]["limit"], residue["limit"]["unit"]) == ("0.02", "mg/kg")
    assert residue["limit"]["standard"] == "GB 2763-2026"
    assert (residue["matched_level"], residue["matched_zh"]) == ("group", "鳞茎类蔬菜")
    (ban,) = sample["bans"]
    assert (ban["entry"]["standard"], ban["entry"]["level"]) == ("MOA notice 2032", "restricted")


async def test_sample_without_a_substance_lists_every_limit_of_the_product(get):
    sample = (await get("limits/in-force", product="leek"))["sample"]
    codes = [row["substance"]["code"] for row in sample["residues"]]
    assert len(codes) == len(set(codes)) > 10
    assert sample["methods"] != []


async def test_no_limit_is_said_with_its_reason(get):
    sample = (await get("limits/in-force", product="韭菜", substance="clenbuterol"))["sample"]
    assert sample["residues"] == []
    assert sample["reason_zh"]
    assert sample["reason_en"]


async def test_unknown_names_come_with_the_nearest_and_no_limit(get):
    unknown = (await get("limits/in-force", product="韭莱", substance="毒死婢"))["sample"]
    assert (unknown["product"], unknown["substance"]) == (None, None)
    assert "韭菜" in [name["zh"] for name in unknown["near_products"]]
    assert "毒死蜱" in [name["zh"] for name in unknown["near_substances"]]
    assert unknown["residues"] == unknown["bans"] == unknown["methods"] == []


async def test_edition_follows_the_day_of_the_sample(get):
    then = await get(
        "limits/in-force",
        product="韭菜",
        substance="毒死蜱",
        at="2025-06-01T12:00:00+08:00",
    )
    assert {row["limit"]["standard"] for row in then["sample"]["residues"]} == {"GB 2763-2021"}
