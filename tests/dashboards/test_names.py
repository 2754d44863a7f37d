from __future__ import annotations

from dashboards.names import indicator_name, names_of, product_names_of
from ingest.judge.catalogue.names import OP_CARBAMATE, Names, Product, Substance, fold

NAMES = Names(
    products={fold("韭菜"): Product("韭菜", "Chinese chives", "leafy", fp_prone=True)},
    substances={
        fold(OP_CARBAMATE): Substance(OP_CARBAMATE, "有机磷和氨基甲酸酯类农药"),
        fold("clenbuterol"): Substance("clenbuterol", "克仑特罗"),
    },
    methods={},
)


def test_indicators_then_substances_then_the_code():
    name = names_of(NAMES)
    assert name("soil_ph") == ("土壤pH值", "Soil pH")
    assert name("clenbuterol") == ("克仑特罗", "Clenbuterol")
    assert name("op_carbamate_inhibition") == (
        "有机磷和氨基甲酸酯类农药",
        "Organophosphates and carbamates",
    )
    assert name("nobody knows") == ("nobody knows", "nobody knows")


def test_product_in_english():
    english = product_names_of(NAMES)
    assert english("韭菜") == "Chinese chives"
    assert english("没有的菜") == english("") == ""


def test_code_outside_the_catalogue_is_shown_as_it_is():
    shown = indicator_name("x_y")
    assert (shown.zh, shown.en, shown.unit) == ("x_y", "x_y", "")
