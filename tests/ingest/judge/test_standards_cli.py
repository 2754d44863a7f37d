"""``agrigate standards`` as a person meets it: list, show, check, diff."""

from __future__ import annotations

import hashlib
import json
import time
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

import agrigate
from ingest.judge.catalogue.catalogue import STANDARDS, load, standard_catalogue
from ingest.judge.catalogue.differences import differences
from ingest.judge.catalogue.entries import entries
from tests.ingest.judge.test_rejudge import NOON, readings, server  # noqa: F401 - fixture

if TYPE_CHECKING:
    from pathlib import Path

SOIL = "soil_gb15618_2018.csv"
ROW = ",Cd,镉,paddy,,5.5,0.3,"
SITE = (
    "site_standard,clause_zh,clause_en,level,indicator,conditions,plot,comparator,limit,unit,averaging,"
    "effective_from,effective_to,approved_by,note,source,confidence\n"
    "示范区 2026,镉 内控,cadmium,screening,soil_cd,land_use=paddy,,>,0.1,mg/kg,,2026-01-01,,,,the site,confirmed\n"
)


def run(*argv: str):
    return CliRunner().invoke(agrigate.main, ["standards", *argv])


def overlay(directory: Path, *pairs: tuple[str, str], file: str = SOIL) -> Path:
    """Write ``file`` with parts of it replaced into the new ``directory``."""
    directory.mkdir(exist_ok=True)
    text = (STANDARDS / file).read_text("utf-8")
    for old, new in pairs:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (directory / file).write_text(text, "utf-8")
    return directory


# ---- list


def test_list_names_every_standard_with_its_rows():
    done = run("list")
    assert done.exit_code == 0
    lines = done.output.splitlines()
    [soil] = [line for line in lines if line.startswith("GB 15618-2018 ")]
    assert " 2018-08-01 – " in soil
    assert " 79 rows " in soil
    assert " 3 待核 " in soil
    [pesticides] = [line for line in lines if line.startswith("GB 2763-2021 ")]
    assert "2021-09-03 – 2026-02-28" in pesticides
    assert "→ GB 2763-2026" in pesticides
    assert lines[-1].startswith("3261 rows of ")


def test_list_as_json_adds_up_and_knows_days():
    every = json.loads(run("list", "--json").output)
    assert sum(one["rows"] for one in every["standards"]) == 3261
    assert every["version"] == standard_catalogue().version
    for day, there, gone in (
        ("2026-02-28", "GB 2763-2021", "GB 2763-2026"),
        ("2026-03-01", "GB 2763-2026", "GB 2763-2021"),
    ):
        names = {
            one["standard"]
            for one in json.loads(run("list", "--json", "--at", day).output)["standards"]
        }
        assert there in names
        assert gone not in names
    assert run("list", "--at", "1 May").exit_code == 2


# ---- show


def test_show_says_limit_force_place_and_what_is_to_be_verified():
    done = run("show", "镉", "水田", "GB15618", "screening")
    assert done.exit_code == 1  # levels are no words of the text
    done = run("show", "镉", "水田", "GB15618")
    assert done.exit_code == 0
    first = done.output.splitlines()[0]
    assert "≤ 0.3 mg/kg" in first
    assert "2018-08-01 –" in first
    assert f"{SOIL}:2" in first
    assert "待核" not in first
    assert "待核" in run("show", "非离子氨").output
    oxygen = run("show", "GB11607", "溶解氧", "连续24h中").output
    assert "> 5 mg/L" in oxygen


def test_show_pages_and_speaks_json():
    whole = json.loads(run("show", "克百威", "--json", "--limit", "1000").output)
    assert whole["total"] == len(whole["rows"]) > 10
    assert whole["rows"][0]["limit_version"]
    assert {row["to_ms"] for row in whole["rows"]} >= {None}
    second = json.loads(run("show", "克百威", "--json", "--limit", "3", "--offset", "3").output)
    assert second["rows"] == whole["rows"][3:6]
    assert f"3 of {whole['total']} rows" in run("show", "克百威", "--limit", "3").output
    then = json.loads(
        run("show", "克百威", "--json", "--at", "2026-05-31", "--limit", "1000").output
    )
    assert {row["level"] for row in then["rows"] if row["medium"] == "notice"} >= {"restricted"}


def test_show_names_what_comes_near_when_nothing_is_found():
    done = run("show", "carbofuron")
    assert done.exit_code == 1
    assert "carbofuran" in done.stderr
    assert done.stdout == ""


# ---- check


def test_check_says_what_a_good_directory_holds_and_changes_nothing(tmp_path):
    directory = overlay(tmp_path / "county", (ROW, ",Cd,镉,paddy,,5.5,0.2,"))
    (directory / "site_limits.csv").write_text(SITE, "utf-8")

    def state():
        return {p.name: hashlib.sha256(p.read_bytes()).digest() for p in directory.iterdir()}

    before = state()
    done = run("check", str(directory))
    assert done.exit_code == 0, done.output
    assert f"{SOIL} replaces the shipped table: 79 rows" in done.output
    assert "site_limits.csv is added: 1 rows" in done.output
    assert "good: 3262 rows" in done.output
    assert state() == before
    shipped = run("check")
    assert shipped.exit_code == 0
    assert shipped.output.startswith("shipped: good: 3261 rows of ")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (ROW, ',Cd,镉,paddy,,5.5,"0,3",', f"{SOIL}:2: limit: '0,3' is not a plain decimal"),
        (ROW, ",Cd,镉,paddy,,5.5,0,3,", f"{SOIL}:2: has 14 cells, not 13 (a decimal comma?)"),
        (ROW, ",Cd,镉,paddy,,5.7,0.3,", f"{SOIL}:3: overlaps {SOIL}:2"),
        (ROW, ",Xx,镉,paddy,,5.5,0.3,", f"{SOIL}:2: analyte: no indicator measures soil:Xx"),
        (ROW, ",Cd,镉,paddi,,5.5,0.3,", f"{SOIL}:2: land_use: 'paddi' is not one of"),
    ],
)
def test_check_says_file_line_and_reason_of_each_fault(tmp_path, old, new, said):
    done = run("check", str(overlay(tmp_path / "bad", (old, new))))
    assert done.exit_code == 2
    assert said in done.stderr
    assert "nothing was loaded" in done.stderr
    assert done.stdout == ""


def test_check_says_all_faults_at_once(tmp_path):
    directory = overlay(
        tmp_path / "bad",
        (ROW, ',Cd,镉,paddy,,5.5,"0,3",'),
        (",Cd,镉,paddy,5.5,6.5,0.4,", ",Cd,镉,paddi,5.5,6.5,0.4,"),
    )
    (directory / "sol_gb.csv").write_text("a\n", "utf-8")
    done = run("check", str(directory))
    assert done.exit_code == 2
    for place in (f"{SOIL}:2: limit", f"{SOIL}:3: land_use", "sol_gb.csv: nothing reads it"):
        assert place in done.stderr
    gone = run("check", str(tmp_path / "none"))
    assert gone.exit_code == 2
    assert "is no directory" in gone.stderr


# ---- diff


def test_diff_of_the_same_says_that_nothing_differs():
    done = run("diff", "shipped", "shipped")
    assert (done.exit_code, done.output) == (0, "no row differs\n")


def test_diff_says_what_was_added_removed_and_changed(tmp_path):
    removed = next(
        line
        for line in (STANDARDS / SOIL).read_text("utf-8").splitlines(keepends=True)
        if "六六六" in line
    )
    directory = overlay(tmp_path / "new", (ROW, ",Cd,镉,paddy,,5.5,0.2,"), (removed, ""))
    (directory / "site_limits.csv").write_text(SITE, "utf-8")
    done = run("diff", "shipped", str(directory))
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert [line for line in lines if not line.startswith("  ")] == [
        "removed: 1",
        "added: 1",
        "changed: 1",
    ]
    [change] = [line for line in lines if line.startswith("  ~")]
    assert "[≤ 0.3 mg/kg → ≤ 0.2 mg/kg]" in change
    back = json.loads(run("diff", str(directory), "shipped", "--json").output)
    assert [len(back[k]) for k in ("added", "removed", "changed", "moved")] == [1, 1, 1, 0]
    assert back["changed"][0]["fields"] == ["limit"]


def test_a_new_edition_is_set_beside_the_one_before(tmp_path):
    directory = tmp_path / "new"
    directory.mkdir()
    soil = (STANDARDS / SOIL).read_text("utf-8").replace("GB 15618-2018,", "GB 15618-2027,")
    soil = soil.replace(ROW, ",Cd,镉,paddy,,5.5,0.25,")
    (directory / "soil_gb15618_2027.csv").write_text(soil, "utf-8")
    (directory / "editions.csv").write_text(
        "standard,title_zh,effective_from,effective_to,replaced_by,files,confidence\n"
        "GB 15618-2018,旧,2018-08-01,2027-12-31,GB 15618-2027,soil_gb15618_2018,confirmed\n"
        "GB 15618-2027,新,2028-01-01,,,soil_gb15618_2027,confirmed\n",
        "utf-8",
    )
    found = differences(entries(standard_catalogue()), entries(load(directory)))
    assert (len(found.added), found.removed, found.changed) == (79, [], [])
    [moved] = found.moved
    assert (moved.standard, moved.rows) == ("GB 15618-2018", 79)
    tighter = [one for one in found.added if one.before and one.before.limit != one.entry.limit]
    assert [(one.before.limit, one.entry.limit) for one in tighter] == [("0.3", "0.25")]
    output = run("diff", "shipped", str(directory)).output
    assert "[≤ 0.3 mg/kg in GB 15618-2018]" in output
    assert "GB 15618-2018: 2018-08-01 – → 2018-08-01 – 2027-12-31, 79 rows" in output


def test_diff_says_which_stored_results_would_change(tmp_path, monkeypatch, server):  # noqa: F811
    server.take(readings(("lab/soil_cd", 0.25, 0), ("lab/soil_cd", 0.5, 1)))
    monkeypatch.setattr(time, "time_ns", lambda: (NOON + 3_600_000) * 1_000_000)
    directory = overlay(tmp_path / "new", (ROW, ",Cd,镉,paddy,,5.5,0.2,"))
    argv = ("diff", "shipped", str(directory), "--data-dir", str(server.data))
    done = run(*argv, "--days", "2")
    assert done.exit_code == 0, done.output
    assert "stored results of the last 2 days that would change: 1 of 2 records" in done.output
    [line] = [line for line in done.output.splitlines() if "no_finding → exceed" in line]
    assert "soil_cd 0.25 mg/kg" in line
    assert "GB 15618-2018 > 0.2 mg/kg" in line
    assert run(*argv).exit_code == 2
    nothing = run("diff", "shipped", "shipped", "--data-dir", str(server.data), "--days", "2")
    assert "that would change: 0 of 2 records" in nothing.output
    empty = tmp_path / "empty"
    empty.mkdir()
    failed = run("diff", "shipped", "shipped", "--data-dir", str(empty), "--days", "2")
    assert failed.exit_code == 1
    assert "is not there" in failed.stderr


def test_a_faulty_side_of_a_difference_ends_with_2(tmp_path):
    bad = overlay(tmp_path / "bad", (ROW, ',Cd,镉,paddy,,5.5,"0,3",'))
    for pair in ((str(bad), "shipped"), ("shipped", str(bad))):
        done = run("diff", *pair)
        assert done.exit_code == 2
        assert f"{SOIL}:2: limit" in done.stderr
