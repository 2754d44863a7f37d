"""The pages about register maps: the table of models, and "Add a device" followed to the letter."""

import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

import drivers
from drivers.modbus import config, models
from drivers.modbus.points import PointType
from gateway.cli import edge
from tests.drivers.modbus.test_golden import check_case
from tests.gateway.conftest import edge_toml

ROOT = Path(drivers.__file__).parent
PAGE = (ROOT / "modbus" / "README.md").read_text(encoding="utf-8")
TABLE = (ROOT / "models" / "README.md").read_text(encoding="utf-8")
ADD = PAGE.split("## Add a device")[1].split("\n## ")[0]
FILES = dict(re.findall(r"\*\*([\w/.]+)\*\*:\n\n```\w+\n(.*?)```", ADD, re.DOTALL))


@pytest.fixture
def own_maps(tmp_path, monkeypatch):
    """A copy of the repository's places, with what the page says written into them."""
    for name, text in FILES.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    monkeypatch.setattr(models, "FOLDER", tmp_path / "drivers" / "models")
    for cached in (models.names, models.load):
        cached.cache_clear()
    yield tmp_path
    monkeypatch.undo()
    for cached in (models.names, models.load):
        cached.cache_clear()


def test_the_page_has_one_map_and_one_golden_case():
    assert [Path(name).suffix for name in FILES] == [".toml", ".hex", ".json", ".md"]


def test_add_a_device_followed_to_the_letter(own_maps):
    assert models.names() == ("acme_th1",)
    check_case(own_maps / "tests/drivers/modbus/golden/acme_th1")
    (station,) = re.findall(r"```device\n(.*?)```", ADD, re.DOTALL)
    (table,) = tomllib.loads(station)["station"]["device"]
    device = config.parse(table, "page")
    assert [point.indicator for point in device.points] == ["air_temperature", "air_humidity"]
    assert (device.line.baud, device.line.format) == (9600, "8N1")


def test_a_golden_case_that_does_not_fit_its_map_fails(own_maps):
    file = own_maps / "drivers/models/acme_th1.toml"
    file.write_text(file.read_text().replace("address = 1\n", "address = 2\n", 1))
    with pytest.raises(AssertionError):
        check_case(own_maps / "tests/drivers/modbus/golden/acme_th1")


def test_the_table_has_every_model_its_variants_and_what_it_leaves_open():
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| .*? \| (.*?) \|$", TABLE, re.MULTILINE)
    assert [name for name, _, _ in rows] == sorted(models.load_all())
    for name, variants, open_fields in rows:
        model = models.load(name)
        named = [v for v in variants.split(", ") if not v.startswith(("none", "–"))]
        assert named == sorted(model.variants, key=named.index)
        assert variants.startswith("none") == bool(model.points and model.variants)
        fields = {
            field
            for one in (model, *model.variants.values())
            for said in one.open_settings().values()
            for field in said
        }
        assert fields == set(re.findall(r"order|scale|unit|indicator", open_fields))


def test_the_page_names_every_type_and_every_key_of_a_map():
    for kind in PointType:
        assert f"`{kind.value}`" in PAGE
    said = set(re.findall(r"`\[*([a-z_]+)\]*`", ADD)) | set(
        re.findall(r"^(?:\[+)?([a-z_]+)", FILES["drivers/models/acme_th1.toml"], re.MULTILINE)
    )
    written = {
        key
        for file in models.FOLDER.glob("*.toml")
        for table in [tomllib.loads(file.read_text(encoding="utf-8"))]
        for key in (*table, *(k for point in table.get("points", []) for k in point))
    }
    assert written - said <= {"gap_ms", "unit_id_register", "quirks", "offset"}


@pytest.mark.parametrize("kind", [kind for kind in PointType if kind.element_words > 1], ids=str)
def test_edge_check_refuses_a_point_of_several_registers_without_an_order(tmp_path, kind):
    file = edge_toml(tmp_path, broker=1883, meter=502)
    device = tomllib.loads(file.read_text())["station"][0]["device"][0]
    assert device["driver"] == "modbus"
    unit = "s" if kind.value.startswith("clock") else "1"
    code = "device_clock" if unit == "s" else "device_status"
    text = f"""
[[station.device]]
driver = "modbus"
path = "pump/meter"
host = "127.0.0.1"
unit_id = 7
points = [{{ indicator = "{code}", address = 0, type = "{kind.value}", unit = "{unit}" ORDER }}]
"""
    good = file.read_text() + text.replace(" ORDER", ', order = "ABCD"')
    bad = file.read_text() + text.replace(" ORDER", "")
    file.write_text(good)
    assert CliRunner().invoke(edge, ["-c", str(file), "--check"]).exit_code == 0
    file.write_text(bad)
    refused = CliRunner().invoke(edge, ["-c", str(file), "--check"])
    assert refused.exit_code == 2
    assert (
        f"points[0]: {kind.value} spans {kind.words} registers and needs an order" in refused.stderr
    )
