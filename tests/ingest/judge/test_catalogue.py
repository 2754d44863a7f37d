"""The tables load as a whole or not at all, and every fault is named with its file and line."""

import csv
import shutil
from decimal import Decimal
from pathlib import Path

import pytest

from ingest.judge.catalogue import STANDARDS, load, standard_catalogue
from ingest.judge.errors import CatalogueError

SOIL = "soil_gb15618_2018.csv"
WATER = "irrigation_gb5084_2021.csv"
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


def test_every_row_of_the_two_standards_becomes_a_limit():
    with (STANDARDS / SOIL).open(encoding="utf-8", newline="") as file:
        soil = len(list(csv.DictReader(file)))
    with (STANDARDS / WATER).open(encoding="utf-8", newline="") as file:
        water = list(csv.DictReader(file))
    both_ends = sum(row["direction"] == "range" for row in water)
    limits = list(standard_catalogue().limits())
    assert (soil, len(water)) == (79, 70)
    assert len(limits) == soil + len(water) + both_ends


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


def test_a_missing_file_and_a_wrong_header_are_faults(tables: Path):
    (tables / SOIL).unlink()
    edit(tables / WATER, 1, "analyte", "analite")
    found = faults(tables)
    assert any(fault.startswith(f"{SOIL}: cannot be read") for fault in found)
    assert any(fault.startswith(f"{WATER}:1: the columns must be") for fault in found)


def test_a_file_in_another_encoding_is_a_fault(tables: Path):
    text = (tables / SOIL).read_text(encoding="utf-8")
    (tables / SOIL).write_bytes(text.encode("gbk"))
    assert any(fault.startswith(f"{SOIL}: cannot be read") for fault in faults(tables))
