"""A site's own limits: a file beside the national tables, never looser than they are without a name that answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from ingest.judge.catalogue.catalogue import Catalogue, load
from ingest.judge.catalogue.limits import select
from ingest.judge.errors import CatalogueError
from ingest.judge.lines import judge_lines
from ingest.judge.readings.conditions import check, of_plot
from ingest.registry.context import PlotContext

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = (
    "site_standard,clause_zh,clause_en,level,indicator,conditions,plot,comparator,limit,unit,averaging,"
    "effective_from,effective_to,approved_by,note,source,confidence"
)
SOIL = (
    "HL-01,内控 镉,in-house cadmium,screening,soil_cd,land_use=paddy;ph>5.5;ph<=6.5,,>,0.3,mg/kg,,"
    "2026-01-01,,,,county,confirmed"
)
WATER = (
    "HL-02,进水 镉,inlet cadmium,basic,water_cd,water_use=irrigation,p1;p2,>,5,ug/L,,"
    "2026-01-01,2026-12-31,,,county,recalled"
)
MAY_2026 = 1_777_564_800_000


@pytest.fixture
def site(tmp_path: Path):
    def site(*rows: str, name: str = "site_limits.csv") -> Path:
        (tmp_path / name).write_text("\n".join([COLUMNS, *rows, ""]), encoding="utf-8")
        return tmp_path

    return site


def faults_of(directory: Path) -> list[str]:
    with pytest.raises(CatalogueError) as caught:
        load(directory)
    return caught.value.faults


def ours(catalogue: Catalogue):
    return [x for x in catalogue.limits() if x.rule_id.startswith("site:")]


def judged(catalogue: Catalogue, indicator: str, value: float, context: dict[str, object]):
    line = {
        "kind": "reading",
        "indicator": indicator,
        "value": value,
        "at": "2026-05-01",
        "context": context,
    }
    [reply] = judge_lines([msgspec.json.encode(line)], catalogue=catalogue)
    return msgspec.json.decode(reply)


def test_a_site_limit_is_judged_beside_the_national_one(site):
    catalogue = load(site(SOIL))
    [limit] = ours(catalogue)
    assert (limit.rule_id, limit.clause, limit.clause_en) == (
        "site:hl-01:soil_cd:screening",
        "内控 镉",
        "in-house cadmium",
    )
    reply = judged(catalogue, "soil_cd", 0.35, {"land_use": "paddy", "ph": 6.0})
    assert reply["verdict"] == "exceed"
    said = {f["standard"]: f["exceeded"] for f in reply["findings"]}
    assert said == {"GB 15618-2018": False, "HL-01": True}
    # Outside its conditions it says nothing.
    reply = judged(catalogue, "soil_cd", 0.35, {"land_use": "paddy", "ph": 7.0})
    assert reply["verdict"] == "pass"


def test_a_limit_of_some_plots_binds_those_only(site):
    catalogue = load(site(WATER))
    assert [x.rule_id for x in ours(catalogue)] == [
        "site:hl-02:water_cd:basic@p1",
        "site:hl-02:water_cd:basic@p2",
    ]
    irrigation = {"water_use": "irrigation"}
    for plot, verdict in (("p1", "exceed"), ("p2", "exceed"), ("p3", "pass"), (None, "pass")):
        reply = judged(catalogue, "water_cd", 0.006, irrigation | {"plot": plot})
        assert reply["verdict"] == verdict, plot
    [rule] = [r for r in catalogue.rules["water_cd"] if r[0].rule_id.endswith("@p1")]
    for plot, found in (("p1", True), ("p3", False), ("", False)):
        known = of_plot(PlotContext(plot_id=plot, water_use="irrigation")).known
        assert (select(rule, known, MAY_2026) is not None) is found


def test_a_unit_is_converted_and_a_period_ends(site):
    [first, _] = ours(load(site(WATER)))
    assert (float(first.limit), first.unit, first.threshold) == (5.0, "ug/L", 0.005)
    known = check({"water_use": "irrigation", "plot": "p1"}).known
    day = 86_400_000
    # 2027-01-01 00:00 in China
    assert select([first], known, 1_798_732_800_000 - 1) is not None
    assert select([first], known, 1_798_732_800_000) is None
    assert first.to_ms - first.from_ms == 365 * day


def test_several_files_are_several_sources(site):
    site(SOIL)
    assert len(ours(load(site(WATER, name="site_limits_canal.csv")))) == 3


def test_a_looser_limit_needs_a_name_that_answers(site):
    looser = SOIL.replace(",0.3,", ",0.41,")
    [fault] = faults_of(site(looser))
    assert fault == (
        "site_limits.csv:2: limit: > 0.41 mg/kg is looser than GB 15618-2018 表1 镉 水田 5.5<pH≤6.5"
        " (0.4 mg/kg); approved_by must name who answers for it"
    )
    assert len(ours(load(site(SOIL.replace(",0.3,", ",0.4,"))))) == 1
    approved = looser.replace("2026-01-01,,,", "2026-01-01,,li.hua,")
    [limit] = ours(load(site(approved)))
    assert (limit.approved_by, limit.note) == ("li.hua", "approved by li.hua")


def test_the_national_limit_stays_beside_an_approved_one(site):
    row = SOIL.replace(",0.3,", ",0.9,").replace("2026-01-01,,,", "2026-01-01,,li.hua,")
    reply = judged(load(site(row)), "soil_cd", 0.5, {"land_use": "paddy", "ph": 6.0})
    said = {f["standard"]: f["exceeded"] for f in reply["findings"] if f["level"] == "screening"}
    assert (reply["verdict"], said) == ("exceed", {"GB 15618-2018": True, "HL-01": False})


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        # Any plot where some sample would meet both counts, also when the row says less than the table.
        ("land_use=paddy;ph>5.5;ph<=6.5,,>,0.3,", ",,>,0.31,", "GB 15618-2018 表1 镉 水田 pH≤5.5"),
        ("land_use=paddy;ph>5.5;ph<=6.5,,>,0.3,", "land_use=paddy,,>,0.5,", "表1 镉 水田 pH≤5.5"),
        ("ph>5.5;ph<=6.5,,>,0.3,mg/kg", "ph>5.5;ph<=6.5,,>,500,ug/kg", "5.5<pH≤6.5 (0.4 mg/kg)"),
        (
            ",screening,soil_cd,land_use=paddy;ph>5.5;ph<=6.5,,>,0.3,",
            ",intervention,soil_cd,,,>,1.6,",
            "表3 镉 pH≤5.5",
        ),
        (
            ",screening,soil_cd,land_use=paddy;ph>5.5;ph<=6.5,,>,0.3,",
            ",optional,soil_cd,,,>,5,",
            "表1 镉 水田 pH≤5.5",
        ),
        (
            ",screening,soil_cd,land_use=paddy;ph>5.5;ph<=6.5,,>,0.3,mg/kg",
            ",basic,water_do,water_use=surface;water_class=III,,<,4.9,mg/L",
            "表1 溶解氧 Ⅲ类 (5 mg/L)",
        ),
    ],
)
def test_what_counts_as_looser(site, old, new, line):
    assert old in SOIL
    [fault] = faults_of(site(SOIL.replace(old, new)))
    assert "is looser than" in fault
    assert line in fault


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (",0.3,", ',"0,3",', "limit: '0,3' is not a plain decimal"),
        (",0.3,", ",0,3,", "decimal comma?"),
        (",0.3,", ",,", "limit: is needed"),
        ("mg/kg", "mg/L", "unit: soil_cd: "),
        ("mg/kg", "mg/hg", "unit: soil_cd: unit 'mg/hg' is not known"),
        ("soil_cd", "soil_kd", "indicator: indicator 'soil_kd' is not in the catalogue; did you"),
        ("screening", "alarm", "level: 'alarm' is not one of intervention, screening"),
        (",>,", ",>=,", "comparator: '>=' is not one of >, <"),
        ("2026-01-01", "2062-01-01", "more than 5 years ahead"),
        ("2026-01-01", "1926-01-01", "before 1950-01-01"),
        ("2026-01-01", "01.01.2026", "is not a date YYYY-MM-DD"),
        ("2026-01-01", "", "effective_from: is needed"),
        ("2026-01-01,,", "2026-01-01,2025-01-01,", "effective_to: 2025-01-01 is before"),
        ("land_use=paddy", "land_use=padi", "conditions: land_use: 'padi' is not one of paddy"),
        ("land_use=paddy", "landuse=paddy", "conditions: 'landuse=paddy': known: ph>x, ph<=x"),
        ("land_use=paddy", "paddy", "conditions: 'paddy' is not key=value, ph>x or ph<=x"),
        ("land_use=paddy", "land_use=paddy;land_use=other", "conditions: land_use stands twice"),
        ("ph>5.5", "ph>five", "conditions: 'five' is not a plain decimal"),
        ("ph>5.5", "ph>7.5", "conditions: the band 7.5<pH≤6.5 is empty"),
        ("ph>5.5", "ph>5.5;ph>5", "conditions: ph> stands twice"),
        ("ph>5.5", "ph=5.5", "conditions: 'ph=5.5': known"),
        ("in-house cadmium", "", "clause_en: is needed"),
        ("HL-01", "", "site_standard: is needed"),
        ("HL-01", "GB 15618-2018", "is a national standard's name"),
        (",county,", ",,", "source: is needed"),
        ("confirmed", "sure", "confidence: 'sure' is not one of confirmed, recalled"),
        (",mg/kg,,", ",mg/kg,weekly mean,", "averaging: no value of soil_cd is a weekly mean"),
        (",mg/kg,,", ",mg/kg,hourly,", "averaging: 'hourly' is not one of"),
        (",,>,", ",p1;p1,>,", "plot: 'p1' is named twice"),
        (",,>,", f",{'p' * 120},>,", "is too long"),
    ],
)
def test_a_fault_names_file_line_and_reason(site, old, new, said):
    assert old in SOIL
    found = faults_of(site(WATER, SOIL.replace(old, new, 1)))
    assert any(x.startswith("site_limits.csv:3: ") and said in x for x in found), found


def test_overlapping_rows_of_one_site_standard_are_refused(site):
    other = SOIL.replace("ph>5.5;ph<=6.5", "ph>6").replace(",0.3,", ",0.2,")
    [fault] = faults_of(site(SOIL, other))
    assert fault == "site_limits.csv:3: overlaps site_limits.csv:2 (HL-01 内控 镉)"
    later = other.replace("2026-01-01", "2027-01-01")
    ended = SOIL.replace("2026-01-01,,", "2026-01-01,2026-12-31,")
    assert len(ours(load(site(ended, later)))) == 2
    assert faults_of(site(SOIL, SOIL)) == ["site_limits.csv:3: repeats line 2"]


def test_a_plot_that_two_rows_name_is_refused(site):
    other = WATER.replace("p1;p2", "p2;p3").replace(",5,", ",4,")
    assert faults_of(site(WATER, other)) == [
        "site_limits.csv:3: duplicate of site_limits.csv:2 (HL-02 进水 镉)"
    ]
