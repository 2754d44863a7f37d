"""Which residue limit applies (commodity, group, exceptions, forms, editions, species, sums), and what is refused."""

import csv
import datetime as dt
import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from ingest.judge.catalogue.catalogue import STANDARDS, Catalogue, load, standard_catalogue
from ingest.judge.catalogue.names import Product
from ingest.judge.catalogue.residues import ResidueMatch
from ingest.judge.catalogue.tables import day_start_ms
from ingest.judge.errors import CatalogueError

CROPS, CROPS_2021 = "mrl_gb2763_2026.csv", "mrl_gb2763_2021.csv"
TISSUES = "mrl_gb31650_2019.csv"
RESIDUES = standard_catalogue().residues


def day(text: str) -> int:
    return day_start_ms(dt.date.fromisoformat(text))


def product(name: str, catalogue: Catalogue | None = None) -> Product:
    found = (catalogue or standard_catalogue()).names.product(name)
    assert found is not None, name
    return found


def find(
    substance: str, name: str, on: str = "2026-07-01", catalogue: Catalogue | None = None
) -> ResidueMatch | None:
    used = catalogue or standard_catalogue()
    known = used.names.substance(substance)
    assert known is not None, substance
    return used.residues.find(known.code, product(name, used), day(on))


def limit(substance: str, name: str, on: str = "2026-07-01") -> tuple[str, str, str] | None:
    """Return what was matched, the limit and its unit."""
    match = find(substance, name, on)
    return match and (match.matched_zh, str(match.limit.limit), match.limit.unit)


def raw(file: str) -> list[dict[str, str]]:
    with (STANDARDS / file).open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def test_every_row_of_the_tables_is_a_limit_once():
    rows = [*raw(CROPS_2021), *raw(CROPS), *raw(TISSUES)]
    limits = list(RESIDUES.limits())
    assert len(rows) == 679 + 1693 + 366
    assert len(limits) == len(rows)
    assert [str(x.limit) for x in limits] == [r.get("limit_mg_kg") or r["limit"] for r in rows]
    assert [x.verified for x in limits] == [r["confidence"] == "confirmed" for r in rows]
    assert [x.temporary for x in limits] == [r.get("temporary") == "true" for r in rows]
    assert len({x.place for x in limits}) == len(rows)
    assert sum(x.temporary for x in limits) == 44


def test_every_row_is_found_for_its_own_commodity():
    missed = []
    for row in RESIDUES.limits():
        at_ms = row.from_ms
        for subject in row.subjects:
            if len(subject) > 1 or (row.excepted and subject[0] != "食荚豌豆"):
                continue
            match = RESIDUES.find(row.substance, product(subject[0]), at_ms)
            if match is None or match.limit is not row or match.level != "commodity":
                missed.append((row.place, match and match.limit.place))
    assert missed == []


def test_the_exact_commodity_goes_before_its_group():
    # GB 2763-2026 chlorpyrifos: 叶菜类蔬菜(芹菜除外) 0.02, 芹菜 0.05.
    celery, spinach = find("毒死蜱", "芹菜"), find("毒死蜱", "菠菜")
    assert celery is not None
    assert spinach is not None
    assert (celery.matched_zh, celery.limit.limit, celery.level) == (
        "芹菜",
        Decimal("0.05"),
        "commodity",
    )
    assert (spinach.matched_zh, spinach.limit.limit, spinach.level) == (
        "叶菜类蔬菜(芹菜除外)",
        Decimal("0.02"),
        "group",
    )


def test_an_excepted_commodity_without_a_row_has_no_limit():
    # thiamethoxam 2026: 甜瓜类水果(香瓜除外) 0.5 and 香瓜 2; hami melon is beneath, oriental melon is not.
    assert limit("噻虫嗪", "哈密瓜") == ("甜瓜类水果(香瓜除外)", "0.5", "mg/kg")
    assert limit("噻虫嗪", "香瓜") == ("香瓜", "2", "mg/kg")
    excepted = next(
        x for x in RESIDUES.limits() if x.place.startswith(CROPS) and x.subject_zh.endswith("除外)")
    )
    for name in excepted.excepted:
        match = RESIDUES.find(excepted.substance, product(name), excepted.from_ms)
        assert match is None or match.limit is not excepted


def test_no_excepted_commodity_is_ever_covered():
    rows = [x for x in RESIDUES.limits() if "除外" in x.subject_zh]
    assert len(rows) > 100
    for row in rows:
        for name in row.excepted:
            match = RESIDUES.find(row.substance, product(name), row.from_ms)
            assert match is None or match.limit is not row, (row.place, name)


def test_brackets_in_brackets():
    # 浆果和其他小型类水果[枸杞(鲜)、葡萄除外]
    rows = [
        x for x in RESIDUES.limits() if x.subject_zh.startswith("浆果和其他小型类水果[枸杞(鲜)")
    ]
    assert rows
    for row in rows:
        assert "枸杞(鲜)" in row.excepted
        fresh = RESIDUES.find(row.substance, product("枸杞(鲜)"), row.from_ms)
        assert fresh is None or fresh.limit is not row
        strawberry = RESIDUES.find(row.substance, product("草莓"), row.from_ms)
        assert strawberry is not None


def test_a_product_that_names_a_whole_group_does_not_get_the_row_with_exceptions():
    assert find("毒死蜱", "叶菜类蔬菜") is None
    assert limit("毒死蜱", "芸薹属类蔬菜") == ("芸薹属类蔬菜", "0.02", "mg/kg")


def test_the_nearest_group_goes_first():
    for row in RESIDUES.limits():
        if not row.place.startswith(CROPS) or row.subjects != (("荚可食类豆类蔬菜",),):
            continue
        wider = [
            x
            for x in RESIDUES.limits()
            if x.substance == row.substance and x.subjects == (("豆类蔬菜",),)
        ]
        match = RESIDUES.find(row.substance, product("四棱豆"), row.from_ms)
        assert match is not None
        assert match.limit is row
        assert match.limit not in wider


def test_fresh_and_dried_are_two_commodities():
    # imidacloprid 2026: 蚕豆(干) 0.1, 蚕豆(鲜) 0.5.
    assert limit("吡虫啉", "蚕豆(干)") == ("蚕豆(干)", "0.1", "mg/kg")
    assert limit("吡虫啉", "鲜蚕豆") == ("蚕豆(鲜)", "0.5", "mg/kg")
    assert find("吡虫啉", "蚕豆") is None
    assert RESIDUES.forms(product("蚕豆")) == ("蚕豆(鲜)", "蚕豆(干)")
    # acetamiprid 2026: 0.5 for both, so that the form does not matter.
    assert limit("啶虫脒", "蚕豆") == ("蚕豆(鲜)", "0.5", "mg/kg")
    assert RESIDUES.forms(product("番茄")) == ()


def test_rice_of_the_translation_is_paddy_and_milled_and_not_brown():
    for name in ("稻谷", "大米"):
        assert limit("毒死蜱", name, "2025-01-01") == ("稻谷/大米", "0.5", "mg/kg")
    assert find("毒死蜱", "糙米", "2025-01-01") is None
    assert limit("噻虫嗪", "糙米", "2025-01-01") == ("糙米", "0.1", "mg/kg")


def test_fat_basis_is_said_of_the_commodity():
    pork, offal = find("毒死蜱", "猪肉"), find("联苯菊酯", "猪肝")
    assert pork is not None
    assert offal is not None
    assert (pork.matched_zh, pork.limit.fat_basis) == ("猪肉,以脂肪中的残留量计", True)
    assert (offal.matched_zh, offal.limit.fat_basis) == ("哺乳动物内脏(海洋哺乳动物除外)", False)
    beef = find("联苯菊酯", "牛肉")
    assert beef is not None
    assert (beef.limit.fat_basis, beef.level) == (True, "group")


def test_marks_of_a_row():
    assert find("狄氏剂", "番茄").limit.emrl  # type: ignore[union-attr]
    hch = find("六六六", "番茄")
    assert hch is not None
    assert (hch.limit.emrl, hch.limit.clause) == (True, "六六六 茄果类蔬菜 再残留限量")
    offal = find("吡虫啉", "猪肝")
    assert offal is not None
    assert (offal.limit.temporary, offal.limit.clause) == (
        True,
        "吡虫啉 哺乳动物内脏(海洋哺乳动物除外) 临时限量",
    )
    assert not find("毒死蜱", "芹菜").limit.emrl  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("on", "expected"),
    [
        ("2021-09-02", None),
        ("2021-09-03", ("GB 2763-2021", "0.1")),
        ("2026-02-28", ("GB 2763-2021", "0.1")),
        ("2026-03-01", ("GB 2763-2026", "0.5")),
    ],
)
def test_the_edition_at_sampling_counts(on: str, expected: tuple[str, str] | None):
    match = find("噻虫嗪", "糙米", on)
    assert (match and (match.limit.standard, str(match.limit.limit))) == expected
    assert match is None or not match.fallback


def test_a_supplement_counts_from_its_own_day():
    # chlorfenapyr stands in GB 2763.1-2022 only, in force from 2023-05-11.
    row = next(r for r in raw(CROPS_2021) if r["substance"] == "chlorfenapyr")
    name = row["commodity_zh"]
    assert find("虫螨腈", name, "2023-05-10") is None
    found = find("虫螨腈", name, "2023-05-11")
    assert found is not None
    assert (found.limit.standard, found.fallback) == ("GB 2763.1-2022", False)
    # imidacloprid stands in both: what the supplement does not name stays.
    main = next(
        r
        for r in raw(CROPS_2021)
        if r["substance"] == "imidacloprid" and r["standard"].endswith("2021")
    )
    stays = find("吡虫啉", main["commodity_zh"].split("/")[0], "2024-01-01")
    assert stays is not None
    assert stays.limit.standard == "GB 2763-2021"


def test_a_substance_that_the_new_table_lacks_falls_back_and_says_so():
    match = find("氟虫腈", "芹菜")
    assert match is not None
    assert (match.limit.standard, match.fallback) == ("GB 2763-2021", True)
    assert match.fallback_zh == "GB 2763-2026的录入表中没有氟虫腈,采用已被代替的GB 2763-2021的限量"
    assert match.fallback_en == (
        "the table held of GB 2763-2026 lacks fipronil: the limit of GB 2763-2021, which it replaced, is used"
    )
    before = find("氟虫腈", "芹菜", "2026-02-01")
    assert before is not None
    assert (before.fallback, before.fallback_zh) == (False, "")


def test_a_product_that_the_new_table_lacks_does_not_fall_back():
    # thiamethoxam is in both; a product the new table leaves out is no reason to use the old one.
    assert find("毒死蜱", "大米", "2026-02-28") is not None
    assert find("毒死蜱", "大米", "2026-03-01") is None


def test_no_row_is_no_limit_and_not_a_zero_limit():
    code = "chlorpyrifos"
    assert find("毒死蜱", "蜂蜜") is None
    assert RESIDUES.covers(code, day("2026-07-01"))
    assert not RESIDUES.covers(code, day("2020-01-01"))
    assert not RESIDUES.covers("aldicarb", day("2026-07-01"))
    assert RESIDUES.find("aldicarb", product("番茄"), day("2026-07-01")) is None


def test_tables_known_to_be_partial():
    now = day("2026-07-01")
    assert RESIDUES.incomplete("azoxystrobin", now)
    assert RESIDUES.incomplete("HCH")
    assert not RESIDUES.incomplete("thiamethoxam", now)
    assert RESIDUES.incomplete("thiamethoxam", day("2025-01-01"))
    assert not RESIDUES.incomplete("aldicarb", now)
    gap = RESIDUES.gap("carbendazim", now)
    assert gap is not None
    assert (gap.missing_zh, gap.missing_en) == ("缺两行", "two rows are missing")


@pytest.mark.parametrize(
    ("drug", "name", "expected"),
    [
        # 鸡 muscle 150, 火鸡 100: chicken is not turkey, duck has neither.
        ("替米考星", "鸡肉", ("鸡 肌肉", "150")),
        ("替米考星", "火鸡肉", ("火鸡 肌肉", "100")),
        ("替米考星", "鸭肉", None),
        # only 家禽: chicken and duck belong to it.
        ("恩诺沙星", "鸡肉", ("家禽 肌肉", "100")),
        ("恩诺沙星", "鸭肉", ("家禽 肌肉", "100")),
        ("恩诺沙星", "鸭蛋", ("家禽 蛋", "10")),
        ("泰乐菌素", "鸭蛋", None),
        ("泰乐菌素", "鸡蛋", ("鸡 蛋", "300")),
        # 所有食品动物.
        ("阿莫西林", "猪肝", ("所有食品动物 肝", "50")),
        ("阿莫西林", "牛奶", ("所有食品动物 奶", "4")),
        ("磺胺二甲嘧啶", "牛奶", ("牛 奶", "25")),
        ("磺胺二甲嘧啶", "牛肉", ("所有食品动物 肌肉", "100")),
        # fish are judged on skin and muscle; a kind of fish is a fish.
        ("恩诺沙星", "草鱼", ("鱼 皮+肉", "100")),
        ("磺胺二甲嘧啶", "草鱼", None),
        ("土霉素", "对虾", ("虾 肌肉", "200")),
        ("恩诺沙星", "羊肉", ("羊 肌肉", "100")),
        ("恩诺沙星", "山羊肝", ("羊 肝", "300")),
        # raw milk of any species: 100 for cattle and for sheep; ceftiofur has a row for cattle only.
        ("恩诺沙星", "生乳", ("牛 奶", "100")),
        ("头孢噻呋", "生乳", None),
        # pig: 皮+脂 is not fat.
        ("氟苯尼考", "猪皮", ("猪 皮+脂", "500")),
        ("氟苯尼考", "猪脂肪", None),
        ("恩诺沙星", "番茄", None),
    ],
)
def test_the_narrowest_species_goes_first(drug: str, name: str, expected: tuple[str, str] | None):
    found = limit(drug, name)
    assert found == (expected and (*expected, "ug/kg"))


@pytest.mark.parametrize(
    ("drug", "name"),
    [
        ("甲硝唑", "鸡蛋"),
        ("氯丙嗪", "猪肉"),
        ("地西泮", "鲫鱼"),
        ("甲硝唑", "蜂蜜"),
        ("塞拉嗪", "牛奶"),
    ],
)
def test_must_not_be_detected_is_a_limit_of_zero(drug: str, name: str):
    match = find(drug, name)
    assert match is not None
    assert (match.limit.zero_tolerance, match.limit.limit) == (True, Decimal(0))
    assert match.limit.clause.endswith("不得检出")


def test_zero_tolerance_in_milk_is_not_one_in_meat():
    assert find("塞拉嗪", "牛肉") is None
    assert not any(x.zero_tolerance for x in RESIDUES.limits() if x.limit > 0)


def test_egg_limits_of_the_supplement_count_from_its_own_day():
    assert find("氧氟沙星", "鸡蛋", "2023-01-31") is None
    found = find("氧氟沙星", "鸡蛋", "2023-02-01")
    assert found is not None
    assert (found.limit.standard, found.limit.limit, found.limit.verified) == (
        "GB 31650.1-2022",
        Decimal(2),
        False,
    )


@pytest.mark.parametrize(
    ("substance", "components"),
    [
        ("克百威", ("carbofuran", "3-hydroxycarbofuran")),
        ("甲拌磷", ("phorate", "phorate sulfoxide", "phorate sulfone")),
        ("特丁硫磷", ("terbufos", "terbufos sulfoxide", "terbufos sulfone")),
        (
            "氟虫腈",
            ("fipronil", "fipronil-desulfinyl", "fipronil sulfone", "fipronil sulfide"),
        ),
        ("三唑酮", ("triadimefon", "triadimenol")),
        ("杀线威", ("oxamyl", "oxamyl oxime")),
        ("六六六", ("alpha-HCH", "beta-HCH", "lindane", "delta-HCH")),
        ("恩诺沙星", ("enrofloxacin", "ciprofloxacin")),
        ("氟苯尼考", ("florfenicol", "florfenicol amine")),
        ("链霉素/双氢链霉素", ("streptomycin", "dihydrostreptomycin")),
        ("毒死蜱", ("chlorpyrifos",)),
        ("联苯菊酯", ("bifenthrin",)),
    ],
)
def test_what_a_limit_is_compared_with(substance: str, components: tuple[str, ...]):
    code = standard_catalogue().names.substance(substance)
    assert code is not None
    found = RESIDUES.definition(code.code, day("2026-07-01"))
    assert found is not None
    assert (found.components, found.is_sum) == (components, len(components) > 1)
    for component in components:
        assert (code.code in RESIDUES.sums_with(component)) == found.is_sum


def test_a_definition_from_memory_is_not_verified():
    now = day("2026-07-01")
    phorate, carbofuran = (
        RESIDUES.definition("phorate", now),
        RESIDUES.definition("carbofuran", now),
    )
    assert phorate is not None
    assert carbofuran is not None
    assert (phorate.verified, carbofuran.verified) == (False, True)
    assert phorate.text_zh == "甲拌磷及其氧类似物(亚砜、砜)之和,以甲拌磷表示"
    match = find("甲拌磷", "番茄")
    assert match is not None
    assert match.limit.verified


def test_imidacloprid_is_defined_apart_for_plants_and_animals():
    now = day("2026-07-01")
    plant = RESIDUES.definition("imidacloprid", now, product("番茄"))
    animal = RESIDUES.definition("imidacloprid", now, product("猪肉"))
    assert plant is not None
    assert animal is not None
    assert (plant.is_sum, animal.is_sum) == (False, True)
    assert RESIDUES.definition("imidacloprid", now) == plant
    before = RESIDUES.definition("imidacloprid", day("2025-01-01"), product("猪肉"))
    assert before is not None
    assert (before.standard, before.is_sum) == ("GB 2763.1-2022", False)


def test_tetracyclines_are_limited_each_and_together():
    group = "oxytetracycline/chlortetracycline/tetracycline"
    for name in ("土霉素", "金霉素", "四环素", "四环素类"):
        match = find(name, "猪肉")
        assert match is not None
        assert (match.limit.substance, match.limit.limit) == (group, Decimal(200))
        code = standard_catalogue().names.substance(name)
        assert code is not None
        found = RESIDUES.definition(code.code, day("2026-07-01"))
        assert found is not None
        assert (found.single_too, found.is_sum) == (True, True)


def test_a_metabolite_has_no_limit_of_its_own():
    for name, parent in (
        ("3-羟基克百威", "carbofuran"),
        ("环丙沙星", "enrofloxacin"),
        ("氟甲腈", "fipronil"),
        ("磺胺嘧啶", "sulfonamides"),
    ):
        code = standard_catalogue().names.substance(name)
        assert code is not None
        assert RESIDUES.sums_with(code.code) == (parent,)
        assert find(name, "猪肉") is None
        assert RESIDUES.definition(code.code, day("2026-07-01")) is None


def test_sulfadimidine_has_its_own_limit_and_belongs_to_the_sum():
    code = standard_catalogue().names.substance("磺胺二甲嘧啶")
    assert code is not None
    assert RESIDUES.sums_with(code.code) == ("sulfonamides",)
    assert limit("磺胺二甲嘧啶", "牛奶") == ("牛 奶", "25", "ug/kg")
    assert limit("磺胺类", "牛奶") == ("牛 奶", "100", "ug/kg")


def test_every_residue_name_of_the_tables_is_a_known_substance():
    names = standard_catalogue().names
    for row in (*raw(CROPS_2021), *raw(CROPS), *raw(TISSUES)):
        english, chinese = names.substance(row["substance"]), names.substance(row["substance_zh"])
        assert english is not None
        assert english == chinese, (row["substance"], row["substance_zh"])


def test_applying_lists_what_find_finds():
    egg, at_ms = product("鸡蛋"), day("2026-07-01")
    listed = {match.limit.substance: match for match in RESIDUES.applying(egg, at_ms)}
    assert {"enrofloxacin", "metronidazole", "ofloxacin"} <= set(listed)
    assert all(RESIDUES.find(code, egg, at_ms) == match for code, match in listed.items())


# What is refused.


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    copy = tmp_path / "standards"
    shutil.copytree(STANDARDS, copy)
    return copy


def refused(directory: Path) -> list[str]:
    with pytest.raises(CatalogueError) as caught:
        load(directory)
    return caught.value.faults


def append(path: Path, cells: list[str]) -> str:
    """Add a row; return its place."""
    with path.open("a", encoding="utf-8", newline="") as handle:
        csv.writer(handle, lineterminator="\n").writerow(cells)
    with path.open(encoding="utf-8") as handle:
        return f"{path.name}:{sum(1 for _ in handle)}"


def crop(**cells: str) -> list[str]:
    row = {
        "standard": "GB 2763-2026",
        "substance": "chlorpyrifos",
        "substance_zh": "毒死蜱",
        "cas": "2921-88-2",
        "commodity": "honey",
        "commodity_zh": "蜂蜜",
        "commodity_group": "animal",
        "limit_mg_kg": "0.01",
        "temporary": "false",
        "residue_definition": "毒死蜱",
        "source": "test",
        "confidence": "confirmed",
    }
    return list((row | cells).values())


def tissue(**cells: str) -> list[str]:
    row = {
        "standard": "GB 31650-2019",
        "substance": "amoxicillin",
        "substance_zh": "阿莫西林",
        "cas": "26787-78-0",
        "species": "bee",
        "species_zh": "蜜蜂",
        "tissue": "honey",
        "tissue_zh": "蜂蜜",
        "limit": "10",
        "unit": "ug/kg",
        "zero_tolerance": "false",
        "source": "test",
        "confidence": "recalled",
    }
    return list((row | cells).values())


def test_the_rows_the_refusals_start_from_are_good(tables: Path):
    append(tables / CROPS, crop())
    append(tables / TISSUES, tissue())
    loaded = load(tables)
    assert find("毒死蜱", "蜂蜜", catalogue=loaded) is not None
    assert find("阿莫西林", "蜂蜜", catalogue=loaded) is not None


@pytest.mark.parametrize(
    ("file", "row", "cells", "said"),
    [
        (CROPS, crop, {"limit_mg_kg": "0,01"}, "limit_mg_kg: '0,01' is not a plain decimal"),
        (CROPS, crop, {"limit_mg_kg": ""}, "limit_mg_kg: a limit is needed"),
        (CROPS, crop, {"limit_mg_kg": "0"}, "limit_mg_kg: 0 is no limit"),
        (CROPS, crop, {"standard": "GB 2763-2031"}, "standard: 'GB 2763-2031' is not in editions"),
        (CROPS, crop, {"standard": "GB 2763-2021"}, "editions.csv does not name"),
        (
            CROPS,
            crop,
            {"commodity_zh": "龙舌兰"},
            "commodity_zh: '龙舌兰' is not a known commodity",
        ),
        (
            CROPS,
            crop,
            {"commodity_zh": "水产品(龙虾舌除外)"},
            "commodity_zh: '龙虾舌' is not a known commodity",
        ),
        (CROPS, crop, {"commodity_group": "nut"}, "commodity_group: 蜂蜜 belongs to 'animal'"),
        (CROPS, crop, {"temporary": "maybe"}, "temporary: 'maybe' is not one of"),
        (CROPS, crop, {"confidence": "sure"}, "confidence: 'sure' is not one of"),
        (CROPS, crop, {"residue_definition": "毒死蜱(新)"}, "residue_definition: differs from"),
        (
            CROPS,
            crop,
            {
                "substance": "novel",
                "substance_zh": "新农药",
                "cas": "",
                "residue_definition": "甲和乙之和",
            },
            "name its parts in residue_components.csv",
        ),
        (TISSUES, tissue, {"unit": "ug/L"}, "unit: 'ug/L' is no unit of a residue"),
        (TISSUES, tissue, {"unit": "mgg"}, "unit: unit 'mgg' is not known"),
        (TISSUES, tissue, {"species": "whale"}, "species: 'whale' is not one of"),
        (TISSUES, tissue, {"tissue": "tail"}, "tissue: 'tail' is not one of"),
        (TISSUES, tissue, {"limit": "0"}, "limit: 0: a limit is above 0"),
        (TISSUES, tissue, {"zero_tolerance": "true"}, "limit: 10: a limit is above 0"),
    ],
)
def test_a_bad_row_is_refused_with_its_place(
    tables: Path, file: str, row: Callable[..., list[str]], cells: dict[str, str], said: str
):
    place = append(tables / file, row(**cells))
    assert [fault for fault in refused(tables) if fault.startswith(f"{place}: ") and said in fault]


@pytest.mark.parametrize(
    "words",
    ["芹菜", "叶菜类蔬菜", "叶菜类蔬菜(菠菜除外)", "芹菜,以脂肪中的残留量计"],
    ids=["commodity", "group", "exceptions", "fat"],
)
def test_rows_on_one_subject_are_refused(tables: Path, words: str):
    row = crop(
        commodity="?", commodity_zh=words, commodity_group="vegetable_leafy", limit_mg_kg="7"
    )
    place = append(tables / CROPS, row)
    assert [f for f in refused(tables) if f.startswith(f"{place}: overlaps {CROPS}:")]


def test_milled_rice_beside_rice_is_refused(tables: Path):
    row = crop(
        standard="GB 2763-2021",
        commodity="milled rice",
        commodity_zh="大米",
        commodity_group="cereal",
        limit_mg_kg="7",
    )
    place = append(tables / CROPS_2021, row)
    assert refused(tables) == [
        f"{place}: overlaps {CROPS_2021}:68 (chlorpyrifos, 大米, GB 2763-2021)"
    ]


def test_a_repeated_row_is_refused(tables: Path):
    text = (tables / CROPS).read_text(encoding="utf-8")
    last = text.splitlines()[-1]
    (tables / CROPS).write_text(f"{text}{last}\n", encoding="utf-8")
    assert any("repeats line 1694" in fault for fault in refused(tables))


OVERLAY_EDITIONS = """\
standard,title_zh,effective_from,effective_to,replaced_by,files,confidence
GB 2763-2026,食品安全国家标准 食品中农药最大残留限量,2026-03-01,{end},,mrl_gb2763_2026,confirmed
GB 2763-2028,食品安全国家标准 食品中农药最大残留限量,2028-01-01,,,mrl_gb2763_2028,recalled
"""


def overlay(directory: Path, end: str) -> Path:
    directory.mkdir()
    (directory / "editions.csv").write_text(OVERLAY_EDITIONS.format(end=end), encoding="utf-8")
    with (STANDARDS / CROPS).open(encoding="utf-8") as handle:
        header = handle.readline()
    path = directory / "mrl_gb2763_2028.csv"
    path.write_text(header, encoding="utf-8")
    celery = {"commodity": "celery", "commodity_zh": "芹菜", "commodity_group": "vegetable_leafy"}
    append(path, crop(standard="GB 2763-2028", limit_mg_kg="0.03", **celery))
    return directory


def test_a_later_edition_is_a_file_and_a_line(tmp_path: Path):
    loaded = load(overlay(tmp_path / "county", "2027-12-31"))
    found = {on: find("毒死蜱", "芹菜", on, loaded) for on in ("2027-12-31", "2028-01-01")}
    assert [m and (m.limit.standard, str(m.limit.limit)) for m in found.values()] == [
        ("GB 2763-2026", "0.05"),
        ("GB 2763-2028", "0.03"),
    ]
    older = find("啶虫脒", "番茄", "2028-02-01", loaded)
    assert older is not None
    assert (older.limit.standard, older.fallback) == ("GB 2763-2026", True)
    assert older.fallback_zh.startswith("GB 2763-2028的录入表中没有啶虫脒")


def test_two_editions_in_force_together_are_refused_in_one_line(tmp_path: Path):
    faults = refused(overlay(tmp_path / "county", ""))
    assert faults == [
        "mrl_gb2763_2028.csv:2: overlaps mrl_gb2763_2026.csv:403"
        " (chlorpyrifos, 芹菜, GB 2763-2026 and GB 2763-2028)"
    ]


def test_cas_numbers_of_components_have_their_check_digit():
    numbers = [
        n for r in raw("residue_components.csv") for n in r["aliases"].split(";") if "-" in n
    ]
    found = [n.replace("-", "") for n in numbers if n.replace("-", "").isdigit()]
    assert len(found) > 20
    for digits in found:
        total = sum(at * int(digit) for at, digit in enumerate(reversed(digits)))
        assert total % 10 == int(digits[-1]), digits
