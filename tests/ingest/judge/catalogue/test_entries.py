"""Every row of every table, as it is listed and found."""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from decimal import Decimal

import pytest

from ingest.judge.catalogue.catalogue import STANDARDS, standard_catalogue
from ingest.judge.catalogue.entries import MEDIA, entries, matching, search
from ingest.judge.catalogue.limits import FOREVER_MS
from ingest.judge.records.rapid import time_ms

ROWS = {
    "soil_gb15618_2018.csv": 79,
    "irrigation_gb5084_2021.csv": 70,
    "fishery_gb11607_1989.csv": 36,
    "surface_water_gb3838_2002.csv": 130,
    "livestock_water_ny5027.csv": 27,
    "rapid_tests.csv": 53,
    "banned_substances.csv": 128,
    "mrl_gb2763_2021.csv": 679,
    "mrl_gb2763_2026.csv": 1693,
    "mrl_gb31650_2019.csv": 366,
}


@pytest.fixture(scope="module")
def rows():
    return entries(standard_catalogue())


def table(name):
    """Return the cells of a table by place, read anew."""
    with (STANDARDS / name).open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        return {f"{name}:{reader.line_num}": row for row in reader}


def test_there_is_one_for_each_row_of_each_table(rows):
    assert Counter(row.place.rpartition(":")[0] for row in rows) == ROWS
    assert len(rows) == 3261 == len({row.place for row in rows})
    places = set(itertools.chain.from_iterable(map(table, ROWS)))
    assert {row.place for row in rows} == places


def test_what_a_row_says_is_what_its_table_says(rows):
    for name in ROWS:
        cells = table(name)
        for row in (row for row in rows if row.place in cells):
            said = cells[row.place]
            assert row.verified == (said["confidence"] == "confirmed"), row
            assert row.source == said["source"], row
            assert row.standard == said.get("standard", said.get("notice")), row
            assert said.get("analyte_zh", said.get("substance_zh", "")) in row.folded or (
                said.get("analyte_zh", said.get("substance_zh")) in row.table_clause
            ), row
            numbers = [
                Decimal(said[column])
                for column in ("limit_min", "limit", "limit_mg_kg")
                if said.get(column)
            ]
            if row.kind == "presence":
                assert not row.limit, row
            else:
                assert [Decimal(part) for part in row.limit.split("–")] == numbers, row


def test_rows_are_of_three_kinds(rows):
    assert Counter(row.kind for row in rows) == {
        "numeric": 3261 - 128 - 8 - 12 - 25,
        "presence": 128 + 8 + 12,  # notices, zero tolerance, strips and the card
        "never_alone": 25,
    }
    for row in rows:
        never = "(detection limit)" in row.table_clause
        assert (row.kind == "never_alone") == never
        assert (row.comparator == "detected") == (row.kind == "presence")
    cut_offs = [row for row in rows if row.level == "cut_off"]
    assert [(row.comparator, row.limit) for row in cut_offs] == [(">=", "50"), (">=", "70")]


def test_they_stand_in_the_order_of_the_tables(rows):
    assert [row.medium for row in rows] == sorted((r.medium for r in rows), key=MEDIA.index)
    for _, some in itertools.groupby(rows, key=lambda row: row.place.rpartition(":")[0]):
        lines = [int(row.place.rpartition(":")[2]) for row in some]
        assert lines == sorted(lines)


def test_a_row_with_two_bounds_or_several_cases_is_one(rows):
    [ph] = [r for r in rows if r.medium == "irrigation" and r.subject == "water_ph"]
    assert (ph.comparator, ph.limit) == ("outside", "5.5–8.5")
    # The card of a rotation, the stricter of two rows, is no row of the table.
    cadmium = [r for r in rows if r.subject == "soil_cd" and r.level == "screening"]
    assert Counter(r.conditions_zh.partition(" ")[0] for r in cadmium) == {"水田": 4, "其他": 4}


def test_a_notice_ends_when_a_later_one_takes_its_place(rows):
    notices = [r for r in rows if r.medium == "notice" and r.subject == "carbofuran"]
    [animals] = [r for r in notices if "食品动物" in r.product_zh]
    assert animals.to_ms == FOREVER_MS  # of another category
    restricted, banned = (r for r in notices if r is not animals)
    assert (restricted.level, banned.level) == ("restricted", "banned")
    assert restricted.to_ms == banned.from_ms == time_ms("2026-06-01")
    assert banned.to_ms == FOREVER_MS


@pytest.mark.parametrize(
    ("text", "some"),
    [
        ("啶虫脒 番茄", "mrl_gb2763_2026.csv"),
        ("acetamiprid tomato", "mrl_gb2763_2026.csv"),
        ("GB 15618 cadmium paddy", "soil_gb15618_2018.csv"),
        ("gb15618-2018 镉 水田", "soil_gb15618_2018.csv"),
        ("ＧＢ１１６０７ 溶解氧", "fishery_gb11607_1989.csv"),
        ("surface class III 总磷", "surface_water_gb3838_2002.csv"),
        ("736 不得", ""),
        ("公告第736号", "banned_substances.csv"),
        ("克仑特罗", "rapid_tests.csv"),
        ("抑制率≥50", "rapid_tests.csv"),
        ("恩诺沙星 鱼", "mrl_gb31650_2019.csv"),
    ],
)
def test_words_in_chinese_or_english_find_rows(rows, text, some):
    text = text.replace("surface class III", "GB 3838 III")
    found = matching(rows, text)
    tables = {row.place.rpartition(":")[0] for row in found}
    assert (some in tables) if some else not found


def test_filters_narrow_what_is_found(rows):
    paddies = matching(rows, "水田", medium="soil", subject="soil_cd")
    assert {(r.medium, r.subject) for r in paddies} == {("soil", "soil_cd")}
    by_family = matching(rows, standard="gb 2763")
    assert {r.standard for r in by_family} == {"GB 2763-2021", "GB 2763-2026"}
    assert {r.standard for r in matching(rows, standard="GB 2763-2026")} == {"GB 2763-2026"}
    tomato = matching(rows, product="番茄", medium="product", subject="acetamiprid")
    assert all("番茄" in r.product_zh for r in tomato)
    then = matching(rows, standard="GB 2763", at_ms=time_ms("2026-02-28T23:59:59+08:00"))
    assert {r.standard for r in then} == {"GB 2763-2021"}
    now = matching(rows, standard="GB 2763", at_ms=time_ms("2026-03-01"))
    assert {r.standard for r in now} == {"GB 2763-2026"}
    assert matching(rows, "no such thing at all") == []
    assert matching(rows) == rows


def test_pages_put_together_are_the_whole(rows):
    whole = matching(rows, "克百威")
    assert len(whole) > 20
    pages = [search(rows, "克百威", offset=at, limit=7) for at in range(0, len(whole), 7)]
    assert {page.total for page in pages} == {len(whole)}
    assert [row for page in pages for row in page.entries] == whole
    assert search(rows, "克百威", offset=10_000).entries == []
