"""The tables load as a whole or not at all, and every fault is named with its file and line."""

import csv
import datetime as dt
import itertools
import re
import shutil
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from ingest.judge.catalogue.catalogue import STANDARDS, load, standard_catalogue
from ingest.judge.catalogue.limit_tables import LIMIT_TABLES
from ingest.judge.catalogue.limits import Alternative, Comparator, Duration, select
from ingest.judge.catalogue.tables import day_start_ms
from ingest.judge.errors import CatalogueError
from ingest.judge.lines import judge_lines

MAY_2026 = day_start_ms(dt.date(2026, 5, 1))
SOIL = "soil_gb15618_2018.csv"
WATER = "irrigation_gb5084_2021.csv"
FISHERY = "fishery_gb11607_1989.csv"
SURFACE = "surface_water_gb3838_2002.csv"
LIVESTOCK = "livestock_water_ny5027.csv"
EDITIONS = "editions.csv"
BANNED = "banned_substances.csv"


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    copy = tmp_path / "standards"
    shutil.copytree(STANDARDS, copy)
    return copy


def edit(path: Path, line: int, old: str, new: str) -> None:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new, 1)
    path.write_text("".join(lines), encoding="utf-8")


def append(path: Path, line: str) -> int:
    text = path.read_text(encoding="utf-8")
    path.write_text(f"{text}{line}\n", encoding="utf-8")
    return text.count("\n") + 1


def faults(tables: Path) -> list[str]:
    with pytest.raises(CatalogueError) as caught:
        load(tables)
    return caught.value.faults


def rows_of(file: str) -> list[dict[str, str]]:
    with (STANDARDS / file).open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.mark.parametrize(
    ("file", "rows"), [(SOIL, 79), (WATER, 70), (FISHERY, 36), (SURFACE, 130), (LIVESTOCK, 27)]
)
def test_every_row_becomes_a_limit(file: str, rows: int):
    wanted = rows_of(file)
    assert len(wanted) == rows
    found: dict[int, set[Comparator]] = {}
    for limit in standard_catalogue().limits():
        name, _, line = limit.place.partition(":")
        if name == file:
            found.setdefault(int(line), set()).add(limit.comparator)
            row = wanted[int(line) - 2]
            assert limit.source == row["source"]
            assert limit.note == row.get("note", "")
            assert limit.verified == (row["confidence"] == "confirmed")
    # No cell of these files spans lines, so that row n stands on line n + 2.
    assert [len(found.get(n, ())) for n in range(2, rows + 2)] == [
        2 if row["direction"] == "range" else 1 for row in wanted
    ]


def test_the_bound_for_most_of_a_day_must_be_passed():
    [limit] = [x for x in standard_catalogue().limits() if x.duration is not None]
    assert (limit.indicator, limit.comparator) == ("water_do", Comparator.AT_MOST)
    assert limit.duration == Duration(24 * 3_600_000, 16 * 3_600_000)
    assert [limit.broken_by(x) for x in (4.99, 5.0, 5.0 + 1e-13, 5.01)] == [True, True, True, False]


def test_only_class_one_oxygen_has_an_alternative():
    [limit] = [x for x in standard_catalogue().limits() if x.unless is not None]
    assert limit.unless == Alternative("water_do_saturation", 90.0)
    assert (limit.clause, limit.threshold) == ("表1 溶解氧 Ⅰ类 或饱和率90%", 7.5)


def test_the_man_made_change_of_temperature_is_a_weekly_mean():
    means = {x.indicator for x in standard_catalogue().limits() if x.averaging == "weekly mean"}
    assert means == {"water_temperature_rise", "water_temperature_drop"}
    assert {x.averaging for x in standard_catalogue().limits()} == {"", "weekly mean"}


def test_a_clause_is_said_in_both_languages():
    said = {x.place: (x.clause, x.clause_en) for x in standard_catalogue().limits()}
    assert said[f"{SOIL}:4"] == (
        "表1 镉 水田 6.5<pH≤7.5",
        "Table 1 soil cadmium (total), paddy, 6.5 < pH ≤ 7.5",
    )
    assert said[f"{LIVESTOCK}:10"] == (
        "表1 总大肠菌群 成年畜",
        "Table 1 total coliforms, adult livestock",
    )
    assert all(zh and en.isprintable() for zh, en in said.values())


def test_a_rotation_takes_the_stricter_of_paddy_and_other():
    seen = 0
    for rule in itertools.chain.from_iterable(standard_catalogue().rules.values()):
        if not any("land_use" in row.where for row in rule):
            continue
        for ph in (4.0, 5.5, 6.0, 6.5, 7.0, 7.5, 8.0):
            of = {
                land: select(rule, {"land_use": land, "ph": ph}, MAY_2026)
                for land in ("paddy", "other", "paddy_upland_rotation")
            }
            rows = {land: found.rows for land, found in of.items() if found is not None}
            assert all(len(found) == 1 for found in rows.values())
            limits = {land: found[0].limit for land, found in rows.items()}
            assert limits["paddy_upland_rotation"] == min(limits["paddy"], limits["other"])
            seen += 1
    assert seen == 7 * 6  # Cd, Hg, As, Pb, Cr, Cu


def test_limits_keep_the_digits_of_the_file():
    limits = [x for x in standard_catalogue().limits() if x.indicator == "soil_benzo_a_pyrene"]
    assert [(x.limit, x.threshold, x.unit) for x in limits] == [(Decimal("0.55"), 0.55, "mg/kg")]


def test_the_cut_off_belongs_to_the_method_standard():
    cut_offs = {c.standard: (c.limit, c.verified) for c in standard_catalogue().cut_offs}
    assert cut_offs == {
        "GB/T 5009.199-2003": (Decimal(50), True),
        "NY/T 448-2001": (Decimal(70), False),
    }


def test_provenance_names_every_table():
    text = (STANDARDS / "PROVENANCE.md").read_text(encoding="utf-8")
    files = {path.name for path in STANDARDS.glob("*.csv")}
    assert files
    assert [name for name in files if f"| {name} |" not in text] == []


def test_limit_version_follows_the_limit_and_not_its_source(tables: Path):
    before = {x.place: x.limit_version for x in load(tables).limits()}
    edit(tables / SOIL, 2, "GitHub", "Gitlab")
    edit(tables / SOIL, 3, ",0.4,", ",0.41,")
    after = {x.place: x.limit_version for x in load(tables).limits()}
    assert [place for place in before if before[place] != after[place]] == [f"{SOIL}:3"]


@pytest.mark.parametrize(
    ("file", "line", "old", "new", "said"),
    [
        (SOIL, 2, "mg/kg", "mg/kgg", "unit: soil_cd: unit 'mg/kgg' is not known"),
        (SOIL, 2, "mg/kg", "mg/L", "mass concentration"),
        (SOIL, 2, ",0.3,", ',"0,3",', "limit: '0,3' is not a plain decimal"),
        (SOIL, 2, ",0.3,", ",0,3,", "decimal comma?"),
        (SOIL, 2, ",0.3,", ",,", "limit: is needed for direction max"),
        (SOIL, 3, ",5.5,6.5,", ",5.0,6.5,", f"overlaps {SOIL}:2"),
        (SOIL, 3, ",5.5,6.5,", ",6.5,5.5,", "is empty"),
        (SOIL, 2, "paddy", "padi", "land_use: 'padi' is not one of paddy"),
        (SOIL, 2, "screening", "screaming", "level: 'screaming'"),
        (SOIL, 2, ",max,", ",up,", "direction: 'up'"),
        (SOIL, 2, "GB 15618-2018", "GB 15618-1995", "is not in editions.csv"),
        (SOIL, 2, ",Cd,", ",Xx,", "no indicator measures soil:Xx"),
        (SOIL, 2, "confirmed", "sure", "confidence: 'sure'"),
        (WATER, 22, "non_saline_soil", "salty", "condition: 'salty'"),
        (WATER, 23, "saline_alkali_soil", "non_saline_soil", f"duplicate of {WATER}:22"),
        ("editions.csv", 2, "2018-08-01", "2018-8-1", "is not a date YYYY-MM-DD"),
        ("editions.csv", 2, "2018-08-01", "2018-02-30", "is not a date YYYY-MM-DD"),
        ("editions.csv", 7, "2026-02-28", "2020-02-28", "is before 2021-09-03"),
        ("editions.csv", 2, "2018-08-01", "2062-08-01", "more than 5 years ahead"),
        ("editions.csv", 2, "2018-08-01", "1918-08-01", "before 1950-01-01"),
        ("editions.csv", 2, "2018-08-01", "", "effective_from: is needed"),
        ("editions.csv", 2, "soil_gb15618_2018", "soil_gb15618", "soil_gb15618.csv is not there"),
        ("editions.csv", 3, "GB 5084-2021", "GB 15618-2018", "duplicate: 'GB 15618-2018'"),
        (SOIL, 2, "GB 15618-2018", "GB 5084-2021", "does not give 'GB 5084-2021' this file"),
        (FISHERY, 3, "freshwater", "fresh", "water: 'fresh' is not one of any, freshwater"),
        (FISHERY, 3, "6.5,8.5", "8.5,6.5", "limit_min: 8.5 is not below 6.5"),
        (FISHERY, 4, ",seawater,", ",freshwater,", f"duplicate of {FISHERY}:3"),
        (FISHERY, 5, "at least 16 h of", "most of", "condition: 'most of any continuous 24 h'"),
        (FISHERY, 12, "Hg,汞", "Hb,汞", "no indicator measures fishery:Hb"),
        (SURFACE, 12, ",I,", ",VI,", "class: 'VI' is not one of I, II"),
        (SURFACE, 12, ",any,", ",pond,", "water_body: 'pond'"),
        (SURFACE, 18, ",II,", ",I,", f"duplicate of {SURFACE}:17"),
        (LIVESTOCK, 2, ",livestock,", ",cattle,", "animal: 'cattle'"),
        (LIVESTOCK, 2, "mg/L", "mg/kg", "mass fraction"),
        (BANNED, 2, "2002-06-05", "2062-06-05", "more than 5 years ahead"),
        (BANNED, 2, "2002-06-05", "05.06.2002", "effective: '05.06.2002' is not a date"),
        (BANNED, 2, ",banned,", ",forbidden,", "status: 'forbidden'"),
        ("rapid_tests.csv", 2, ",50,%,", ",50,mg/kg,", "a cut-off is in %"),
        ("rapid_tests.csv", 2, ",50,%,", ",,%,", "a cut-off is needed"),
        ("methods.csv", 2, "screening", "guessing", "method_class: 'guessing'"),
    ],
)
def test_a_fault_names_file_line_and_reason(
    tables: Path, file: str, line: int, old: str, new: str, said: str
):
    edit(tables / file, line, old, new)
    found = faults(tables)
    assert any(fault.startswith(f"{file}:{line}:") and said in fault for fault in found), found


def test_a_repeated_row_is_refused(tables: Path):
    first = (tables / SOIL).read_text(encoding="utf-8").splitlines()[1]
    line = append(tables / SOIL, first)
    assert faults(tables) == [f"{SOIL}:{line}: repeats line 2"]


def test_a_repeated_notice_is_refused(tables: Path):
    line = append(
        tables / BANNED, "HCH,六六六,,pesticide,restricted,not on tea,X,2002-06-05,s,recalled"
    )
    assert faults(tables) == [f"{BANNED}:{line}: duplicate of {BANNED}:2 (HCH, 2002-06-05)"]


def test_an_alias_cannot_mean_two_products(tables: Path):
    line = append(tables / "product_aliases.csv", "生菜,番茄,x,recalled")
    found = faults(tables)
    assert len(found) == 1
    assert found[0].startswith(f"product_aliases.csv:{line}: '生菜' already means")


def test_all_faults_are_listed_at_once(tables: Path):
    edit(tables / SOIL, 2, "mg/kg", "mg/kgg")
    edit(tables / WATER, 22, "non_saline_soil", "salty")
    edit(tables / BANNED, 2, "2002-06-05", "2002")
    assert {fault.split(":")[0] for fault in faults(tables)} == {SOIL, WATER, BANNED}


def test_a_wrong_header_is_a_fault(tables: Path):
    edit(tables / WATER, 1, "analyte", "analite")
    assert [fault[: fault.index(" must")] for fault in faults(tables)] == [
        f"{WATER}:1: the columns"
    ]


def test_faults_leave_nothing_loaded(tables: Path):
    before = load(STANDARDS)
    edit(tables / LIVESTOCK, 2, "mg/L", "mg/hL")
    assert len(faults(tables)) == 1
    assert load(STANDARDS).version == before.version


def test_a_file_in_another_encoding_is_a_fault(tables: Path):
    text = (tables / SOIL).read_text(encoding="utf-8")
    (tables / SOIL).write_bytes(text.encode("gbk"))
    assert any(fault.startswith(f"{SOIL}: cannot be read") for fault in faults(tables))


# ---- a directory over the shipped tables


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    (tmp_path / "county").mkdir()
    return tmp_path / "county"


EDITION_COLUMNS = "standard,title_zh,effective_from,effective_to,replaced_by,files,confidence"


def next_soil_edition(overlay: Path, *, ends: str = "2026-12-31", factor: str = "0.5") -> None:
    """Lay a made-up GB 15618-2027 over the shipped tables: every limit is half of today's, or another part."""
    (overlay / EDITIONS).write_text(
        f"{EDITION_COLUMNS}\n"
        f"GB 15618-2018,土壤标准,2018-08-01,{ends},GB 15618-2027,soil_gb15618_2018,recalled\n"
        "GB 15618-2027,土壤标准(新),2027-01-01,,,soil_gb15618_2027,confirmed\n",
        encoding="utf-8",
    )
    rows = rows_of(SOIL)
    with (overlay / "soil_gb15618_2027.csv").open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, rows[0], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            limit = Decimal(row["limit"]) * Decimal(factor)
            writer.writerow(row | {"standard": "GB 15618-2027", "limit": f"{limit:f}"})


def test_a_later_edition_is_a_file_and_a_line(overlay: Path):
    next_soil_edition(overlay)
    catalogue = load(overlay)
    known = {"land_use": "paddy", "ph": 7.0}
    days = [dt.date(2018, 7, 31), dt.date(2018, 8, 1), dt.date(2026, 12, 31), dt.date(2027, 1, 1)]
    found = []
    for rule in catalogue.rules["soil_cd"]:
        for day in days:
            selection = select(rule, known, day_start_ms(day))
            found.append(None if selection is None else selection.rows)
    said = [
        None if rows is None else [(x.standard, x.limit, x.rule_id) for x in rows] for rows in found
    ]
    old, new = "GB 15618-2018", "GB 15618-2027"
    assert said == [
        None,
        [(old, Decimal("0.6"), "gb15618:Cd:screening")],
        [(old, Decimal("0.6"), "gb15618:Cd:screening")],
        [(new, Decimal("0.3"), "gb15618:Cd:screening")],
        None,
        [(old, Decimal(3), "gb15618:Cd:intervention")],
        [(old, Decimal(3), "gb15618:Cd:intervention")],
        [(new, Decimal("1.5"), "gb15618:Cd:intervention")],
    ]
    assert catalogue.version != standard_catalogue().version
    # What the directory does not have comes from the shipped tables.
    assert set(catalogue.rules) == set(standard_catalogue().rules)
    assert set(catalogue.editions) == {*standard_catalogue().editions, new}


def test_the_judge_takes_the_edition_of_the_sample(overlay: Path):
    next_soil_edition(overlay)
    line = b'{"kind":"reading","indicator":"soil_cd","value":0.5,"at":"%s","context":%s}'
    context = b'{"land_use":"paddy","ph":7.0}'
    asked = [line % (at, context) for at in (b"2026-12-31", b"2027-01-01")]
    replies = [msgspec.json.decode(x) for x in judge_lines(asked, catalogue=load(overlay))]
    assert [reply["verdict"] for reply in replies] == ["pass", "exceed"]
    assert {f["standard"] for f in replies[1]["findings"]} == {"GB 15618-2027"}


def soil_rows(overlay: Path, *rows: str) -> None:
    next_soil_edition(overlay)
    columns = ",".join(rows_of(SOIL)[0])
    text = "\n".join(
        [columns, *(f"GB 15618-2027,Table 1,screening,Cd,镉,{row}" for row in rows), ""]
    )
    (overlay / "soil_gb15618_2027.csv").write_text(text, encoding="utf-8")


def test_a_rotation_takes_the_stricter_also_where_the_bands_differ(overlay: Path):
    soil_rows(
        overlay,
        "paddy,,6.5,0.2,mg/kg,max,made up,confirmed",
        "paddy,6.5,,0.6,mg/kg,max,made up,confirmed",
        "other,,,0.3,mg/kg,max,made up,confirmed",
    )
    [rule, *_] = load(overlay).rules["soil_cd"]
    at_ms = day_start_ms(dt.date(2027, 1, 1))
    found = {}
    for land in ("paddy", "other", "orchard", "paddy_upland_rotation"):
        for ph in (6.5, 6.6):
            selection = select(rule, {"land_use": land, "ph": ph}, at_ms)
            assert selection is not None
            [row] = selection.rows
            found[land, ph] = (str(row.limit), row.place[-1])
    assert found == {
        ("paddy", 6.5): ("0.2", "2"),
        ("paddy", 6.6): ("0.6", "3"),
        ("other", 6.5): ("0.3", "4"),
        ("other", 6.6): ("0.3", "4"),
        ("orchard", 6.5): ("0.3", "4"),
        ("orchard", 6.6): ("0.3", "4"),
        ("paddy_upland_rotation", 6.5): ("0.2", "2"),
        ("paddy_upland_rotation", 6.6): ("0.3", "4"),
    }


def test_a_rotation_cannot_be_decided_across_units(overlay: Path):
    soil_rows(
        overlay,
        "paddy,,,0.2,mg/kg,max,made up,confirmed",
        "other,,,300,ug/kg,max,made up,confirmed",
    )
    said = "unit: the rows for paddy and other must be in one unit to be compared"
    assert faults(overlay) == [f"soil_gb15618_2027.csv:{line}: {said}" for line in (2, 3)]


def test_the_examples_of_the_page_load(overlay: Path):
    text = (Path(__file__).parents[4] / "docs" / "standards.md").read_text(encoding="utf-8")
    editions, site = re.findall(r"^```csv\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    next_soil_edition(overlay, factor="1")
    (overlay / EDITIONS).write_text(editions, encoding="utf-8")
    (overlay / "site_limits.csv").write_text(site, encoding="utf-8")
    catalogue = load(overlay)
    assert catalogue.editions["GB 15618-2027"].from_ms == day_start_ms(dt.date(2027, 7, 1))
    assert any(limit.standard == "HL-01" for limit in catalogue.limits())
    prefixes = re.findall(r"`(\w+_|rapid_tests)`[,| ]", text)
    assert {name for name in prefixes if name.endswith("_")} | {"rapid_tests"} == {
        *(table.prefix for table in LIMIT_TABLES),
        "mrl_gb2763_",
        "mrl_gb31650_",
        "rapid_tests",
    }


def test_two_editions_in_force_at_once_are_refused_once(overlay: Path):
    next_soil_edition(overlay, ends="")
    assert faults(overlay) == [
        f"soil_gb15618_2027.csv:2: overlaps {SOIL}:2 (GB 15618-2027 表1 镉 水田 pH≤5.5)"
    ]


def test_a_table_that_no_edition_names_is_refused(overlay: Path):
    next_soil_edition(overlay)
    (overlay / EDITIONS).unlink()
    found = faults(overlay)
    assert "soil_gb15618_2027.csv: no line of editions.csv names it in files" in found


def test_a_file_that_nothing_reads_is_refused(overlay: Path):
    (overlay / "soils_2027.csv").write_text("standard\n")
    [fault] = faults(overlay)
    assert fault.startswith("soils_2027.csv: nothing reads it; a table's name begins with soil_")


def test_a_directory_without_tables_is_refused(overlay: Path):
    assert faults(overlay) == [f"{overlay}: holds no table (*.csv)"]
    assert faults(overlay / "none") == [f"{overlay / 'none'}: is no directory"]


def test_a_file_replaces_the_shipped_one_of_its_name(overlay: Path):
    shutil.copy(STANDARDS / LIVESTOCK, overlay)
    edit(overlay / LIVESTOCK, 2, ",1500,", ",1400,")
    limits = {x.place: x.limit for x in load(overlay).limits()}
    shipped = {x.place: x.limit for x in standard_catalogue().limits()}
    assert limits == shipped | {f"{LIVESTOCK}:2": Decimal(1400)}
