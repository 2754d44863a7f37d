"""Every row of every table, by class: read here from the files themselves, judged through ``agrigate judge``'s lines.

A numeric row fires just beyond its limit and is silent at it; a cut-off fires at its value; a presence row fires on any
valid detection, ``exceed`` by a confirmatory method and ``suspect`` by a screening one; a row that stands for something
else (the X standards may be cited for one result, so what is looked at is the citation of the row.
"""

import csv
import datetime as dt
import json
import re
import shutil
from collections import Counter, defaultdict
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

import ingest.judge
from drivers import indicators
from ingest.batch import Batch, Series, TakenPack
from ingest.judge.catalogue.catalogue import standard_catalogue
from ingest.judge.consumer import Judge
from ingest.judge.lines import judge_lines
from ingest.operational import Operational
from ingest.registry.context import PlotContext

STANDARDS = Path(ingest.judge.__file__).parent / "standards"
ROWS = {
    "soil_gb15618_2018": 79,
    "irrigation_gb5084_2021": 70,
    "fishery_gb11607_1989": 36,
    "surface_water_gb3838_2002": 130,
    "livestock_water_ny5027": 27,
    "rapid_tests": 53,
    "banned_substances": 128,
    "mrl_gb2763_2021": 679,
    "mrl_gb2763_2026": 1693,
    "mrl_gb31650_2019": 366,
}
NOW = "2026-05-15"
JUST = Decimal("0.001")
"""Part of the limit by which a value is beyond it."""


def table(name):
    with (STANDARDS / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return [{**row, "line": n} for n, row in enumerate(csv.DictReader(file), 2)]


def judge(lines):
    raw = [json.dumps({"id": n, **line}).encode() for n, line in enumerate(lines)]
    return [json.loads(answer) for answer in judge_lines(raw)]


def cited(reply, standard, limit=None, **also):
    """Citations of a limit; numbers are compared as the decimals that the file has."""
    return [
        c
        for c in reply["findings"]
        if c["standard"] == standard
        and (limit is None or (c["limit"] is not None and Decimal(repr(c["limit"])) == limit))
        and all(c[key] == value for key, value in also.items())
    ]


def check(probes):
    """Judge every (row, line, fault) and report all rows that are wrong; ``fault`` returns what is wrong, or None."""
    replies = judge([line for _, line, _ in probes])
    wrong = []
    for (row, line, fault), reply in zip(probes, replies, strict=True):
        found = fault(reply)
        if found:
            shown = {k: v for k, v in line.items() if v}
            told = [f"{c['standard']} {c['limit']} {c['exceeded']}" for c in reply["findings"]]
            wrong.append(
                f"line {row['line']}: {found}: {shown} -> {reply['verdict']} {told} {reply['reason']}"
            )
    assert not wrong, f"{len(wrong)} of {len(probes)}:\n" + "\n".join(wrong[:25])


def fires(standard, limit, **also):
    def fault(reply):
        hits = cited(reply, standard, limit, **also)
        if not hits:
            return "the row is not cited"
        if not any(c["exceeded"] for c in hits):
            return "does not fire beyond its limit"
        return None if reply["verdict"] == "exceed" else "fires, and the verdict is no exceed"

    return fault


def silent(standard, limit, *, alone=False, **also):
    """At the limit the row says nothing; ``alone``: no other row is compared, so the verdict is pass."""

    def fault(reply):
        hits = cited(reply, standard, limit, **also)
        if not hits:
            return "the row is not cited at its limit"
        if any(c["exceeded"] for c in hits):
            return "fires at its limit"
        return "is no pass at its limit" if alone and reply["verdict"] != "pass" else None

    return fault


def test_no_row_of_any_table_is_left_out():
    assert {name: len(table(name)) for name in ROWS} == ROWS
    assert sum(ROWS.values()) == 3261
    # Whatever else lies there with the prefix of a table would not be tested.
    for prefix in ("soil_", "irrigation_", "fishery_", "surface_", "livestock_", "mrl_"):
        shipped = {path.stem for path in STANDARDS.glob(f"{prefix}*.csv")}
        assert shipped == {name for name in ROWS if name.startswith(prefix)}


# ---------------------------------------------------------------- soil and water


def indicator_of():
    path = Path(indicators.__file__).with_name("indicator_codes.csv")
    with path.open(encoding="utf-8", newline="") as file:
        return {
            analyte: row["code"]
            for row in csv.DictReader(file)
            for analyte in row["standards_analytes"].split(";")
            if analyte
        }


def reading_probes(row, medium, contexts, *, alone=True, at=NOW, **also):
    """Beyond and at each bound of the row, under each of ``contexts``."""
    code = indicator_of()[f"{medium}:{row['analyte']}"]
    probes = []
    for context in contexts:
        for column, away in (("limit_min", -JUST), ("limit", JUST)):
            if not row.get(column):
                continue
            limit = Decimal(row[column])
            line = {
                "kind": "reading", "indicator": code, "unit": row["unit"], "at": at,
                "context": context,
            }  # fmt: skip
            beyond = limit + limit * away
            said = (row["standard"], limit)
            probes.append((row, {**line, "value": float(beyond)}, fires(*said, **also)))
            probes.append(
                (row, {**line, "value": float(limit)}, silent(*said, alone=alone, **also))
            )
    return probes


def ph_inside(row):
    low, high = row["ph_min_exclusive"], row["ph_max_inclusive"]
    if not low and not high:
        return [None]
    return [float(low) + 1e-5 if low else 4.0, float(high) if high else 9.0]


def test_soil():
    probes = []
    for row in table("soil_gb15618_2018"):
        land_use = None if row["land_use"] == "any" else row["land_use"]
        contexts = [{"ph": ph, "land_use": land_use} for ph in ph_inside(row)]
        # Metals of table 3 stand in table 1 as well, and their intervention value is above the screening value.
        alone = row["level"] == "screening"
        probes += reading_probes(row, "soil", contexts, alone=alone, level=row["level"])
    check(probes)


def test_soil_of_a_paddy_upland_rotation_takes_the_stricter_value():
    pairs = defaultdict(dict)
    for row in table("soil_gb15618_2018"):
        if row["level"] == "screening":
            key = (row["analyte"], row["ph_min_exclusive"])
            pairs[key][row["land_use"]] = row
    probes = []
    for uses in pairs.values():
        stricter = min(
            (uses[name] for name in ("paddy", "other", "any") if name in uses),
            key=lambda row: Decimal(row["limit"]),
        )
        context = {"ph": ph_inside(stricter)[0], "land_use": "paddy_upland_rotation"}
        probes += reading_probes(stricter, "soil", [context], level="screening")
    assert len(pairs) == 35
    check(probes)


def test_irrigation_water():
    key_of = {
        "non_saline_soil": "soil_salinity", "saline_alkali_soil": "soil_salinity",
        "general_area": "fluoride_area", "high_fluoride_area": "fluoride_area",
        "boron_sensitive_crop": "boron_tolerance", "boron_tolerant_crop": "boron_tolerance",
        "boron_strongly_tolerant_crop": "boron_tolerance",
    }  # fmt: skip
    probes = []
    for row in table("irrigation_gb5084_2021"):
        context = {"water_use": "irrigation", "crop": None if row["crop"] == "all" else row["crop"]}
        if row["condition"]:
            context[key_of[row["condition"]]] = row["condition"]
        probes += reading_probes(row, "irrigation", [context])
    check(probes)


WINDOW = "at least 16 h of any continuous 24 h"


def fishery_context(row):
    context = {"water_use": "fishery"}
    if row["water"] in ("freshwater", "seawater"):
        context["water"] = row["water"]
    if row["analyte"] == "DO":
        context |= {"salmonid": row["water"] == "salmonid waters", "ice_covered": False}
    if row["analyte"] == "BOD5":
        context["ice_covered"] = row["condition"] == "ice-covered period"
    if row["analyte"] == "total_coliform":
        context["shellfish"] = row["water"] == "shellfish culture"
    return context


def test_fishery_water():
    probes = []
    for row in table("fishery_gb11607_1989"):
        if row["condition"] != WINDOW:
            # A single value of oxygen leaves the rule on 24 h open: no pass at 3 or 4.
            alone = row["analyte"] != "DO"
            probes += reading_probes(row, "fishery", [fishery_context(row)], alone=alone)
    check(probes)


def test_a_single_value_never_decides_the_fishery_rule_on_24_hours():
    """That rule fires over a window of readings only (the next test)."""
    (row,) = [r for r in table("fishery_gb11607_1989") if r["condition"] == WINDOW]
    line = {"kind": "reading", "indicator": "water_do", "unit": row["unit"], "at": NOW}
    context = {"water_use": "fishery", "salmonid": False, "ice_covered": False}
    for value in (3.5, 4.99, 5.0):
        (reply,) = judge([{**line, "value": value, "context": context}])
        assert reply["verdict"] == "undetermined"
        assert "24" in reply["reason"]


class Pond:
    """A registry with one plot, a fish pond, and what the judge found there."""

    version = 1

    def __init__(self):
        self.found = []

    def context(self, *_device):
        return PlotContext(plot_id="pond", water_use="fishery", salmonid="no", ice_covered="no")

    def watched(self):
        return set()

    def replaced(self, *_records):
        pass

    def apply(self, _connection, findings, *_more):
        self.found += findings


def oxygen(values, step_ms):
    """Return a batch of readings of oxygen, one each ``step_ms``."""
    n = len(values)
    t_ms = 1_778_774_400_000 + np.arange(n, dtype=np.int64) * step_ms
    return Batch(
        packs=[TakenPack(1, "hl-001", "0" * 26, 1, int(t_ms[-1]), b"{}")],
        series=[Series("hl-001", "do1", "water_do")],
        series_id=np.zeros(n, np.int32),
        t_ms=t_ms,
        v=np.array(values, np.float64),
        q=np.full(n, 1, np.uint8),
        flags=np.zeros(n, np.uint32),
        received_ms=t_ms,
        inbox_pos=np.ones(n, np.int64),
        pack_index=np.zeros(n, np.int32),
        position=np.arange(n, dtype=np.int32),
        tests=[],
        faults=[],
    )


@pytest.fixture(scope="module")
def migrated(tmp_path_factory):
    path = tmp_path_factory.mktemp("template") / "op.db"
    operational = Operational(f"sqlite:///{path}")
    operational.migrate()
    operational.close()
    return path


@pytest.mark.parametrize(
    ("parts", "fires"),
    [
        # (mg/L, hours): 16 of any continuous 24 hours must be above 5, so 8 at or below it are the most.
        ([(6, 15), (4, 9)], True),
        ([(6, 17), (4, 7)], False),
        ([(6, 15), (5, 9)], True),  # 5 is not above 5
        ([(5.01, 24)], False),
        ([(4, 5), (6, 14), (4, 5)], True),  # together, not in one piece
        ([(4, 4), (6, 22), (4, 4)], False),  # no 24 hours hold both
        ([(4, 9)], True),  # the other 15 cannot mend it
        ([(4, 7)], False),
    ],
)
@pytest.mark.parametrize("minutes", [10, 60])
def test_the_fishery_rule_on_24_hours_fires_over_a_window(
    tmp_path, migrated, parts, fires, minutes
):
    values = [value for value, hours in parts for _ in range(hours * 60 // minutes)]
    pond = Pond()
    shutil.copy(migrated, tmp_path / "op.db")
    operational = Operational(f"sqlite:///{tmp_path / 'op.db'}")
    try:
        consumer = Judge(standard_catalogue(), pond, operational, pond)
        consumer.handle(oxygen([*values, values[-1]], minutes * 60_000))
    finally:
        operational.close()
    limits = {finding.citation["limit"] for finding in pond.found}
    assert limits == ({5.0} if fires else set())


def test_surface_water():
    bodies = {"any": None, "river": "river", "lake_reservoir": "lake"}
    probes = []
    for row in table("surface_water_gb3838_2002"):
        context = {
            "water_use": "surface", "water_class": row["class"], "water_body": bodies[row["water_body"]],
        }  # fmt: skip
        if row["analyte"] == "DO" and row["class"] == "I":
            context["water_do_saturation"] = 80  # else 90 % would do as well
        probes += reading_probes(row, "surface", [context])
    check(probes)


def test_livestock_water():
    probes = []
    for row in table("livestock_water_ny5027"):
        context = {"water_use": "livestock", "animal": row["animal"]}
        probes += reading_probes(row, "livestock", [context])
    check(probes)


# ---------------------------------------------------------------- bans

SCOPES = {
    # scope: (a product inside it, one outside it)
    "not on vegetables, fruit trees, tea, Chinese medicinal herbs": ("菠菜", "小麦"),
    "not on vegetables, melons and fruit, tea, edible fungi, Chinese medicinal herbs": ("苹果", "小麦"),
    "not on vegetables": ("菠菜", "苹果"),
    "not on tea": ("茶叶", "小麦"),
    "not on rice": ("稻谷", "小麦"),
    "not on peanut": ("花生仁", "小麦"),
    "banned on all crops except seed coating of maize and some dryland crops (and hygiene use)":
        ("菠菜", "玉米"),
}  # fmt: skip


def record_line(parameter, product, /, **more):
    return {
        "kind": "test", "parameter": parameter, "product_name": product, "method": "lc_ms_ms",
        "result_kind": "quantitative", "unit": "mg/kg", "sampled_at": NOW, **more,
    }  # fmt: skip


def present(notice, verdict):
    def fault(reply):
        hits = cited(reply, notice)
        if not any(c["exceeded"] for c in hits):
            return "the notice does not fire on a detection"
        return None if reply["verdict"] == verdict else f"the verdict is not {verdict}"

    return fault


def absent(notice):
    def fault(reply):
        return "the notice fires" if any(c["exceeded"] for c in cited(reply, notice)) else None

    return fault


def test_banned_substances():
    """A notice is tested on its first day: a later one on the same substance may have replaced it since."""
    probes = []
    rows = table("banned_substances")
    for row in rows:
        name, notice, restricted = row["substance_zh"], row["notice"], row["scope"] in SCOPES
        assert restricted == (row["status"] == "restricted")
        first = dt.date.fromisoformat(row["effective"])
        inside, outside = SCOPES.get(row["scope"], ("菠菜", ""))
        if row["category"] == "veterinary":
            inside = "猪肉"
        detected = {"value": "0.02", "lod": "0.005", "sampled_at": row["effective"]}
        not_detected = {**detected, "value": None, "qualifier": "not_detected"}
        earlier = {**detected, "sampled_at": str(first - dt.timedelta(days=1))}
        by_screening = {**detected, "method": "elisa"}
        probes += [
            (row, record_line(name, inside, **detected), present(notice, "exceed")),
            (row, record_line(name, inside, **by_screening), present(notice, "suspect")),
            (row, record_line(name, inside, **not_detected), absent(notice)),
            (row, record_line(name, inside, **earlier), absent(notice)),
        ]
        if outside:
            probes.append((row, record_line(name, outside, **detected), absent(notice)))
    check(probes)


def test_a_replaced_notice_is_not_cited():
    latest = {}
    replaced = []
    for row in sorted(table("banned_substances"), key=lambda row: row["effective"]):
        key = (row["substance"], row["category"])
        if key in latest:
            replaced.append((latest[key], row))
        latest[key] = row
    assert len(replaced) == 17
    probes = []
    for old, new in replaced:
        line = record_line(
            old["substance_zh"], "菠菜", value="0.02", lod="0.005", sampled_at=new["effective"]
        )
        probes.append((old, line, absent(old["notice"])))
        probes.append((new, line, present(new["notice"], "exceed")))
    check(probes)


# ---------------------------------------------------------------- rapid methods

IN_URINE = "colloidal gold urine card"
MATRIX = {
    # matrix: products of it
    "vegetables": ["菠菜", "黄瓜"],
    "fish and other aquatic products": ["草鱼"],
    "aquatic products": ["草鱼", "虾"],
    "pork, beef, mutton and offal": ["猪肉", "牛肉", "羊肉", "猪肝"],
    "animal urine": ["猪尿", "牛尿"],
    "fish (muscle+skin)": ["草鱼"],
    "pork": ["猪肉"],
    "poultry meat": ["鸡肉"],
    "all food animals, muscle": ["猪肉", "牛肉"],
    "milk": ["牛奶"],
    "milk and milk products": ["牛奶"],
    "maize and maize products, peanut and peanut products": ["玉米", "花生仁"],
    "rice (paddy, brown rice, rice)": ["稻谷", "糙米", "大米"],
    "wheat, barley, other cereals, flour": ["小麦", "大麦", "小麦粉"],
    "infant formula": ["婴儿配方食品"],
    "milk and other foods": ["牛奶"],
}


def kind_of(row):
    if row["method"].endswith("(detection limit)"):
        return "never alone"
    if row["result_kind"] == "inhibition_percent":
        return "cut-off"
    if row["zero_tolerance"] == "true":
        return "presence"
    return "numeric" if row["limit"] else "card"


def test_the_classes_of_the_rapid_methods():
    kinds = Counter(kind_of(row) for row in table("rapid_tests"))
    # 2 cut-offs and one card of enzyme inhibition, 25 detection limits, 11 strips, 14 decision limits.
    assert kinds == {"cut-off": 2, "card": 1, "never alone": 25, "presence": 11, "numeric": 14}


def rapid_rows(kind):
    return [row for row in table("rapid_tests") if kind_of(row) == kind]


def strip_is(verdict, row):
    """The row fires when the strip is positive, beside the notice that bans the substance; a negative says how low."""

    def fault(reply):
        if reply["verdict"] != verdict:
            return f"the verdict is not {verdict}"
        hits = cited(reply, row["standard"], level="zero_tolerance")
        if verdict == "suspect" and not any(c["exceeded"] for c in hits):
            return "the row of the strip does not fire"
        if verdict != "suspect" and any(c["exceeded"] for c in reply["findings"]):
            return "something fires"
        if verdict == "pass" and f" {row['limit']} {row['unit']}" not in reply["reason"]:
            return "what the strip can see is not said"
        return None

    return fault


def verdict_is(verdict):
    return lambda reply: None if reply["verdict"] == verdict else f"the verdict is not {verdict}"


def test_cut_offs_fire_at_their_value():
    probes = []
    for row in rapid_rows("cut-off"):
        limit, standard = Decimal(row["limit"]), row["standard"]
        base = {
            "method": "enzyme_inhibition", "method_standard": standard, "unit": row["unit"],
            "result_kind": "inhibition",
        }  # fmt: skip

        def at(reply, standard=standard, limit=limit):
            hits = cited(reply, standard, limit, comparator=">=", exceeded=True)
            return None if hits and reply["verdict"] == "suspect" else "does not fire at its value"

        def below(reply, standard=standard, limit=limit):
            hits = cited(reply, standard, limit, comparator=">=", exceeded=False)
            return None if hits and reply["verdict"] == "pass" else "is not silent below its value"

        for product in MATRIX[row["matrix"]]:
            for value, fault in ((limit, at), (limit - limit * JUST, below)):
                line = record_line(row["analyte_zh"], product, **base, value=str(value))
                probes.append((row, line, fault))
    check(probes)


def test_a_card_of_enzyme_inhibition_is_suspect_when_positive():
    (row,) = rapid_rows("card")
    base = {
        "method": "enzyme_inhibition_card", "method_standard": row["standard"], "unit": "",
        "result_kind": "qualitative",
    }  # fmt: skip
    check([
        (row, record_line(row["analyte_zh"], "菠菜", **base, screen_result=result), verdict_is(verdict))
        for result, verdict in (("positive", "suspect"), ("negative", "pass"), ("invalid", "invalid"))
    ])  # fmt: skip


def test_detection_limits_never_fire():
    """A number far above the detection limit of a method is judged by bans and residue limits, never by that row."""
    probes = []
    for row in rapid_rows("never alone"):
        limit = Decimal(row["limit"])

        def fault(reply, standard=row["standard"], limit=limit):
            return "a detection limit is cited" if cited(reply, standard, limit) else None

        base = {"method_standard": row["standard"], "unit": row["unit"]}
        for method in ("enzyme_inhibition", "gc_ms"):
            for value in (limit, limit * 10):
                line = record_line(
                    row["analyte_zh"], "菠菜", **base, method=method, value=str(value)
                )
                probes.append((row, line, fault))
        strip = {"unit": "", "method": "enzyme_inhibition", "result_kind": "qualitative"}
        line = record_line(row["analyte_zh"], "菠菜", **strip, screen_result="negative")
        probes.append((row, line, fault))
        probes.append((row, line, verdict_is("pass")))
    check(probes)


def test_strips_for_substances_that_must_not_be_there():
    probes = []
    for row in rapid_rows("presence"):
        base = {
            "method": "colloidal_gold", "method_standard": row["standard"], "unit": "",
            "result_kind": "qualitative",
        }  # fmt: skip
        if row["method"] == IN_URINE:
            base["method_standard"] = ""
        for product in MATRIX[row["matrix"]]:
            for result, verdict in (
                ("positive", "suspect"), ("negative", "pass"), ("doubtful", "undetermined"),
                ("invalid", "invalid"),
            ):  # fmt: skip
                line = record_line(row["analyte_zh"], product, **base, screen_result=result)
                probes.append((row, line, strip_is(verdict, row)))
        # Any valid detection, however little: suspected by the card, violated by a confirmatory method.
        if row["method"] != IN_URINE:
            for method, verdict in (("elisa", "suspect"), ("lc_ms_ms", "exceed")):
                line = record_line(
                    row["analyte_zh"], MATRIX[row["matrix"]][0], method=method, unit="ug/kg",
                    value="0.05", lod="0.01",
                )  # fmt: skip
                probes.append((row, line, verdict_is(verdict)))
    check(probes)


def test_decision_limits_of_quantitative_screens():
    """Above the limit is suspected, to be confirmed; at it is not."""
    probes = []
    for row in rapid_rows("numeric"):
        limit, standard = Decimal(row["limit"]), row["standard"]

        def above(reply, standard=standard, limit=limit):
            hits = cited(reply, standard, limit, level="decision", exceeded=True)
            return (
                None if hits and reply["verdict"] == "suspect" else "does not fire above its limit"
            )

        def at(reply, standard=standard, limit=limit):
            hits = cited(reply, standard, limit, level="decision", exceeded=False)
            return None if hits and reply["verdict"] == "pass" else "is not silent at its limit"

        base = {"method": "fluorescence_strip", "unit": row["unit"]}
        for product in MATRIX[row["matrix"]]:
            for value, fault in ((limit + limit * JUST, above), (limit, at)):
                line = record_line(row["analyte_zh"], product, **base, value=str(value))
                probes.append((row, line, fault))
    check(probes)


# ---------------------------------------------------------------- residues of pesticides

IN_FAT = "以脂肪中的残留量计"
# Groups of GB 2763 appendix A that are narrower than the groups of the helper table, and what belongs to them.
SUBGROUPS = {
    "麦类": ["小麦", "大麦", "燕麦", "黑麦", "小黑麦"],
    "旱粮类": ["粟", "稷", "高粱", "玉米", "鲜食玉米"],
    "杂粮类": ["小扁豆", "绿豆", "豌豆(干)", "蚕豆(干)"],
    "成品粮": ["全麦粉", "小麦粉", "大米", "糙米"],
    "植物油": ["花生油", "大豆油", "玉米油", "棉籽油", "食用菜籽油"],
    "油籽类": ["芝麻", "葵花籽", "油茶籽", "棉籽", "大豆", "花生仁", "油菜籽"],
    "头状花序芸薹属类蔬菜": ["花椰菜", "青花菜"],
    "荚可食类豆类蔬菜": ["扁豆", "豇豆", "菜豆", "食荚豌豆"],
    "荚不可食豆类蔬菜": ["菜用大豆", "蚕豆(鲜)", "豌豆(鲜)"],
    "根茎类蔬菜": ["根芹菜", "芜菁", "胡萝卜", "萝卜"],
    "甜瓜类水果": ["哈密瓜", "香瓜", "甜瓜"],
    "蘑菇类(鲜)": ["香菇(鲜)", "双孢蘑菇(鲜)"],
    "芽菜类蔬菜": ["绿豆芽", "黄豆芽"],
    "叶类调味料": ["薄荷", "留兰香", "罗勒"],
    "果类调味料": ["豆蔻", "胡椒", "干辣椒"],
    "种子类调味料": ["芫荽籽"],
    "根茎类调味料": [],
    "调味料": [],
    "药用植物": [],
    "哺乳动物肉类": ["马肉", "山羊肉", "羊肉", "牛肉", "猪肉"],
    "哺乳动物内脏": ["猪肾", "牛肾", "牛肝", "猪肝", "山羊内脏", "绵羊内脏", "牛内脏", "猪内脏"],
    "哺乳动物脂肪": ["猪脂肪", "牛脂肪", "羊脂肪"],
    "禽肉类": ["鸡肉"],
    "禽类内脏": [],
    "禽类脂肪": [],
    "蛋类": ["鸡蛋"],
    "生乳": ["牛奶"],
    "水产品": ["草鱼"],
}
NARROWER = {
    "芸薹属类蔬菜": ["头状花序芸薹属类蔬菜"],
    "豆类蔬菜": ["荚可食类豆类蔬菜", "荚不可食豆类蔬菜"],
    "根茎类和薯芋类蔬菜": ["根茎类蔬菜"],
    "瓜果类水果": ["甜瓜类水果"],
    "食用菌": ["蘑菇类(鲜)"],
}


def parsed(text):
    """Return a commodity's plain name and the names excepted from it."""
    text = text.partition(f",{IN_FAT}")[0]
    found = re.fullmatch(r"(.+?)(?:\[(.+)除外\]|\(([^()]+)除外\))", text)
    if not found:
        return text, frozenset()
    return found[1], frozenset(re.split("[、和]", found[2] or found[3]))


def covered_by(names, commodity):
    return any(commodity == name or commodity.startswith(f"{name}(") for name in names)


class Editions:
    """Which rows stand beside each other, and which commodity reaches a given row."""

    def __init__(self, rows):
        self.rows = rows
        self.named = defaultdict(set)
        for row in rows:
            self.named[row["substance"]].add(parsed(row["commodity_zh"])[0])
        groups = table("commodity_groups")
        self.groups = {row["commodity_zh"] for row in groups if row["is_group"] == "true"}
        codes = defaultdict(list)
        for row in groups:
            if row["is_group"] == "false":
                codes[row["commodity_group"]].append(row["commodity_zh"])
        self.members = {
            row["commodity_zh"]: SUBGROUPS.get(row["commodity_zh"], codes[row["commodity_group"]])
            for row in groups
            if row["is_group"] == "true"
        }

    def product(self, row):
        """Return what to test: the commodity, or for a group one of its members whose limit it is.

        A group all of whose members have rows of their own is reached under its own name; None when it excepts all.
        """
        name, excepted = parsed(row["commodity_zh"])
        if name == "稻谷/大米":
            return "稻谷"
        if name not in self.groups:
            return name
        held = self.named[row["substance"]]
        nearer = [
            n for group in NARROWER.get(name, ()) if group in held for n in self.members[group]
        ]
        for member in self.members[name]:
            own = member in held or member in nearer or covered_by(excepted, member)
            if not own and not (member == "大米" and "稻谷/大米" in held):
                return member
        members = self.members[name]
        return None if members and all(covered_by(excepted, one) for one in members) else name


def residue_probes(rows, editions, at, *, flag=None):
    probes = []
    for row in rows:
        if editions.product(row) is None:
            continue  # test_a_group_that_excepts_all_its_members_has_no_product
        limit = Decimal(row["limit_mg_kg"])
        basis = {"basis": "fat"} if IN_FAT in row["commodity_zh"] else {}
        line = record_line(row["substance_zh"], editions.product(row), sampled_at=at, **basis)
        for value, fault in (
            (limit + limit * JUST, fires(row["standard"], limit)),
            (limit, silent(row["standard"], limit)),
        ):

            def both(reply, fault=fault):
                missing = flag is not None and flag not in reply["flags"]
                return fault(reply) or (f"{flag} is not said" if missing else None)

            probes.append((row, {**line, "value": str(value), "loq": "0.0001"}, both))
    return probes


def test_residues_of_pesticides_2021():
    rows = table("mrl_gb2763_2021")
    assert Counter(row["standard"] for row in rows) == {"GB 2763-2021": 608, "GB 2763.1-2022": 71}
    check(residue_probes(rows, Editions(rows), "2024-05-15"))


def test_residues_of_pesticides_2026():
    rows = table("mrl_gb2763_2026")
    check(residue_probes(rows, Editions(rows), NOW))


def test_rows_of_2021_after_their_time_are_the_fallback_for_what_2026_lacks():
    rows = table("mrl_gb2763_2021")
    newer = {row["substance"] for row in table("mrl_gb2763_2026")}
    lacking = [row for row in rows if row["substance"] not in newer]
    assert lacking
    check(residue_probes(lacking, Editions(rows), NOW, flag="limit_fallback"))

    replaced = [row for row in rows if row["substance"] in newer]
    editions = Editions(rows)
    probes = []
    for row in replaced:

        def fault(reply, standard=row["standard"]):
            return "a replaced row is cited" if cited(reply, standard) else None

        line = record_line(row["substance_zh"], editions.product(row), value="100")
        probes.append((row, line, fault))
    check(probes)


def test_a_group_that_excepts_all_its_members_has_no_product():
    """Acetamiprid: flowerhead brassicas but cauliflower and broccoli. The group's name alone may mean one of them."""
    rows = table("mrl_gb2763_2026")
    editions = Editions(rows)
    (row,) = [row for row in rows if editions.product(row) is None]
    assert row["commodity_zh"] == "头状花序芸薹属类蔬菜(花椰菜、青花菜除外)"
    for product, limit in (("花椰菜", "0.5"), ("青花菜", "0.1")):
        (reply,) = judge([record_line("啶虫脒", product, value="0.45")])
        assert cited(reply, "GB 2763-2026", Decimal(limit))
        assert not cited(reply, "GB 2763-2026", Decimal(row["limit_mg_kg"]))
    (reply,) = judge([record_line("啶虫脒", parsed(row["commodity_zh"])[0], value="0.45")])
    assert reply["verdict"] in ("undetermined", "exceed")


def test_an_exception_is_not_covered_by_its_group():
    rows = [*table("mrl_gb2763_2021"), *table("mrl_gb2763_2026")]
    probes, skipped = [], 0
    own = {(r["standard"][:12], r["substance"], r["commodity_zh"]): r for r in rows}
    for row in rows:
        name, excepted = parsed(row["commodity_zh"])
        if not excepted or name not in Editions([]).groups:
            continue
        for commodity in excepted:
            mine = own.get((row["standard"][:12], row["substance"], commodity))
            if mine is None or mine["limit_mg_kg"] == row["limit_mg_kg"]:
                skipped += 1  # seals, milk fat, or a limit that cannot be told from the group's
                continue

            def fault(reply, row=row):
                hits = cited(reply, row["standard"], Decimal(row["limit_mg_kg"]))
                return "the group's limit is used" if hits else None

            at = NOW if row["standard"] == "GB 2763-2026" else "2024-05-15"
            line = record_line(row["substance_zh"], commodity, value="0.001", sampled_at=at)
            probes.append((row, line, fault))
    assert len(probes) > 100 > skipped
    check(probes)


# ---------------------------------------------------------------- veterinary residues

ANIMAL_PARTS = {
    ("牛", "肌肉"): "牛肉", ("猪", "肌肉"): "猪肉", ("羊", "肌肉"): "羊肉", ("鸡", "肌肉"): "鸡肉",
    ("火鸡", "肌肉"): "火鸡肉", ("兔", "肌肉"): "兔肉", ("家禽", "肌肉"): "鸡肉",
    ("虾", "肌肉"): "虾", ("鱼", "皮+肉"): "草鱼", ("家禽", "蛋"): "鸡蛋", ("鸡", "蛋"): "鸡蛋",
    ("牛", "奶"): "牛奶", ("羊", "奶"): "羊奶", ("产奶动物", "奶"): "牛奶", ("家禽", "肝"): "鸡肝",
    ("家禽", "肾"): "鸡肾", ("家禽", "皮+脂"): "鸡皮", ("家禽", "脂肪"): "鸡脂肪",
    ("猪", "皮+脂"): "猪皮", ("鸡", "皮+脂"): "鸡皮", ("火鸡", "皮+脂"): "火鸡皮",
}  # fmt: skip
TISSUES = {"肌肉": "肉"}
EVERY = "所有食品动物"


def animal_product(row):
    species, tissue = row["species_zh"], row["tissue_zh"]
    if species != EVERY:
        return ANIMAL_PARTS.get((species, tissue), f"{species}{tissue}")
    if tissue == "所有可食组织":
        return "猪肉"
    if tissue == "蛋":
        return "鸡蛋"
    if tissue == "奶":
        return "牛奶"
    return f"猪{TISSUES.get(tissue, tissue)}"


def test_residues_of_veterinary_drugs():
    rows = table("mrl_gb31650_2019")
    numeric = [row for row in rows if row["zero_tolerance"] == "false"]
    assert (len(numeric), len(rows) - len(numeric)) == (358, 8)
    probes = []
    for row in numeric:
        limit, standard = Decimal(row["limit"]), row["standard"]
        line = record_line(row["substance_zh"], animal_product(row), unit=row["unit"])
        beyond = {**line, "value": str(limit + limit * JUST), "loq": "0.0001"}
        probes.append((row, beyond, fires(standard, limit)))
        probes.append(
            (row, {**line, "value": str(limit), "loq": "0.0001"}, silent(standard, limit))
        )
    check(probes)


def test_veterinary_drugs_that_must_not_be_detected():
    probes = []
    rows = table("mrl_gb31650_2019")
    for row in rows:
        if row["zero_tolerance"] == "false":
            continue
        assert Decimal(row["limit"]) == 0
        product = animal_product(row)
        detected = {"unit": row["unit"], "value": "0.2", "lod": "0.05"}
        not_detected = {**detected, "value": None, "qualifier": "not_detected"}
        name, standard = row["substance_zh"], row["standard"]
        before = {**detected, "sampled_at": "2020-03-31"}
        probes += [
            (row, record_line(name, product, **detected), present(standard, "exceed")),
            (
                row,
                record_line(name, product, **detected, method="elisa"),
                present(standard, "suspect"),
            ),
            (row, record_line(name, product, **not_detected), verdict_is("pass")),
            (row, record_line(name, product, **before), absent(standard)),
        ]
    assert len(probes) == 32
    check(probes)


@pytest.mark.parametrize("name", ROWS)
def test_our_copy_is_complete_row_by_row(name):
    """No two rows of a table are the same, so that none is tested in place of another."""
    rows = table(name)
    keys = [tuple(v for k, v in row.items() if k not in ("line", "source")) for row in rows]
    assert len(set(keys)) == len(rows)
