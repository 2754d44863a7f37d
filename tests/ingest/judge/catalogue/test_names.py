"""Names as people and instruments write them."""

import random

import pytest

from ingest.judge.catalogue.catalogue import standard_catalogue
from ingest.judge.catalogue.names import Names, Product, Substance, cut, fold

NAMES = standard_catalogue().names


def product(name: str) -> str | None:
    found = NAMES.product(name)
    return found and found.name_zh


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("番茄\0\0", "番茄"),
        ("生  菜", "叶用莴苣"),
        ("生菜\0 \0", "叶用莴苣"),
        (" 韭 菜 ", "韭菜"),
        ("\ufeff韭菜\u200b", "韭菜"),
        ("蚕豆（鲜）", "蚕豆(鲜)"),
        ("Tomato", "番茄"),
        ("土豆", "马铃薯"),
        ("生姜", "姜"),
        ("红枣", "枣(干)"),
        ("武昌鱼", "鳊鱼"),
    ],
)
def test_blanks_nul_width_and_aliases(written: str, meant: str):
    assert product(written) == meant


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("结球甘", "结球甘蓝"),
        ("樱桃番", "樱桃番茄"),
        ("螺丝椒", "辣椒"),  # fits and is no cut
        ("有机花", "花椰菜"),  # 有机花菜
        ("散叶生\0", "叶用莴苣"),
        ("双孢蘑", "双孢蘑菇(鲜)"),
    ],
)
def test_a_name_cut_to_six_bytes_is_found_when_one_product_fits(written: str, meant: str):
    assert product(written) == meant


def test_a_cut_that_fits_several_names_them_all():
    assert product("茎用莴") is None
    assert set(NAMES.near_product("茎用莴")) == {"茎用莴苣", "茎用莴苣叶"}
    assert product("哺乳动") is None
    assert set(NAMES.near_product("哺乳动")) == {"哺乳动物肉类", "哺乳动物内脏", "哺乳动物脂肪"}


def test_two_characters_are_not_a_cut():
    assert product("结球") is None
    assert product("双孢") is None


def test_half_a_character_at_the_end_of_a_cut():
    # "D小麦粉" in GBK is D + 3 × 2 bytes: 6 bytes keep half of 粉, which decodes to a mark.
    assert cut("d小麦粉") == "d小麦"
    names = Names({"d小麦粉": Product("D小麦粉", "flour", "cereal", fp_prone=False)}, {}, {})
    found = names.product("D小麦\ufffd")
    assert found is not None
    assert found.name_zh == "D小麦粉"


def test_every_cut_of_a_known_name_is_resolved_or_its_meanings_are_named():
    for folded, meant in NAMES.products.items():
        kept = folded.encode("gbk", "replace")[:6].decode("gbk", "ignore")
        found = NAMES.product(kept)
        if found is None:
            assert meant.name_zh in NAMES.near_product(kept), folded
        elif kept not in NAMES.products:
            assert found == meant, folded


def test_a_name_that_leaves_the_form_open_is_not_taken_for_one_form():
    for name in ("枸杞", "蚕豆", "百合", "黄花菜", "茉莉花", "人参"):
        assert product(name) == name


def test_unknown_names_get_the_nearest():
    assert "番茄" in NAMES.near_product("番茄茄")
    assert any("chlorpyrifos" in near for near in NAMES.near_substance("chlorpyrifoss"))
    assert any("毒死蜱" in near for near in NAMES.near_substance("毒死碑"))
    assert "gc 气相色谱法" in NAMES.near_method("gcc")
    assert NAMES.near_product("波菜")[0] == "菠菜"
    assert NAMES.near_product("洋勾")[0] == "洋葱"
    assert NAMES.near_substance("克百微")[0] == "carbofuran 克百威"
    assert NAMES.near_product("\0") == ()
    assert NAMES.near_product("zzzzqqqq") == ()
    assert NAMES.near_product("x" * 100_000) == ()


def test_what_was_asked_is_remembered_within_bounds():
    names = Names(
        {fold(name): Product(name, name, "cereal", fp_prone=False) for name in ("小麦", "大麦")},
        {},
        {},
    )
    dice = random.Random(4)
    for _ in range(10_000):
        names.near_product(f"麦{dice.random()}")
    assert len(names._products._answers) <= 4096
    assert names.near_product("小麦麦") == names.near_product("小麦麦") == ("小麦", "大麦")


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("克百威", "carbofuran"),
        ("呋喃丹", "carbofuran"),
        ("克百威(含3-羟基克百威)", "carbofuran"),
        ("3-羟基克百威", "3-hydroxycarbofuran"),
        ("三羟基克百威", "3-hydroxycarbofuran"),
        ("恩诺沙星(与环丙沙星之和)", "enrofloxacin"),
        ("enrofloxacin+ciprofloxacin", "enrofloxacin"),
        ("环丙沙星", "ciprofloxacin"),
        ("土霉素", "oxytetracycline"),
        ("79-57-2", "oxytetracycline"),
        ("四环素类", "oxytetracycline/chlortetracycline/tetracycline"),
        ("青霉素G", "benzylpenicillin/procaine benzylpenicillin"),
        ("γ-六六六", "lindane"),
        ("HCH (BHC)", "HCH"),
        ("S-氰戊菊酯", "fenvalerate"),
        ("51630-58-1", "fenvalerate"),
        ("高效氯氰菊酯", "cypermethrin and beta-cypermethrin"),
        ("甲维盐", "emamectin benzoate"),
        ("咪鲜胺锰盐", "prochloraz"),
        ("MQCA", "olaquindox"),
        ("AOZ", "furazolidone"),
        ("黄曲霉毒素B1", "aflatoxin_B1"),
    ],
)
def test_substances_by_their_names(written: str, code: str):
    found = NAMES.substance(written)
    assert found is not None
    assert found.code == code


def test_a_remark_in_brackets_is_no_name():
    for remark in ("单个或组合", "与环丙沙星之和", "兽药原型之和"):
        assert NAMES.substance(remark) is None


def test_a_substance_has_one_code_under_all_its_names():
    codes: dict[str, set[Substance]] = {}
    for substance in NAMES.substances.values():
        codes.setdefault(substance.code, set()).add(substance)
    assert [code for code, found in codes.items() if len(found) > 1] == []
