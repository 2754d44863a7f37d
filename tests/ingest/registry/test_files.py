"""The registry as a file: everything that is wrong is said at once, with where it stands."""

from __future__ import annotations

import base64

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from drivers.errors import ConfigError
from ingest import tables
from ingest.batch import Series
from ingest.detect.thresholds import SeriesLimits
from ingest.judge.catalogue.limits import KEY_VALUES
from ingest.judge.readings.conditions import Conditions, check
from ingest.operational import Operational
from ingest.registry import files
from ingest.registry.context import PlotContext
from ingest.registry.live import Registry

KEY = base64.b64encode(bytes(32)).decode()
GOOD = f"""
[[region]]
code = "640122"
name = "贺兰县"
[[subject]]
id = "s1"
name = "丰收合作社"
type = "coop"
region = "640122"
[[base]]
id = "b1"
subject = "s1"
name = "一号基地"
region = "640122"
[[plot]]
id = "p1"
base = "b1"
name = "三号田"
land_use = "paddy"
soil_ph = 7
[[station]]
code = "hl-001"
name = "站"
region = "640122"
base = "b1"
lon = 106.3
lat = 38.5
key = "{KEY}"
[[station]]
code = "hl-002"
name = "站二"
region = "640122"
[[device]]
station = "hl-001"
path = "plot3/soil1"
name = "土壤一号"
plot = "p1"
[[device]]
station = "hl-002"
path = "t1"
name = "速测仪"
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str):
        (tmp_path / "registry.toml").write_text(text, "utf-8")
        return tmp_path / "registry.toml"

    return write


def faults_of(path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        files.load(path)
    assert all(fault.startswith(str(path)) for fault in caught.value.faults)
    return [fault.removeprefix(f"{path}: ") for fault in caught.value.faults]


def test_a_good_file_is_read(write):
    registry = files.load(write(GOOD))
    assert [s.code for s in registry.stations] == ["hl-001", "hl-002"]
    assert registry.plots[0].soil_ph == 7.0
    assert registry.devices[0].plot == "p1"


def test_all_faults_are_said_at_once_with_table_and_field(write):
    bad = (
        GOOD.replace('land_use = "paddy"', 'land_use = "padi"\ncolour = "red"')
        .replace('code = "hl-001"', 'code = "hl/001"')
        .replace("lon = 106.3", "lon = 406.3")
        .replace('name = "站二"', "")
        .replace('subject = "s1"', 'subject = "s9"')
        .replace('path = "t1"', 'path = "t 1"')
    )
    faults = faults_of(write(bad + '\n[[stations]]\ncode = "x"\n'))
    text = "\n".join(faults)
    for said in (
        "[stations]: unknown; write [[region]]",
        "[[plot]] #1: colour: unknown key; known: id",
        "[[station]] #1: code: ",
        "[[station]] #1: lon: ",
        "[[station]] #2: name: is missing",
        "[[device]] #2: path: ",
        "[[base]] b1: subject: 's9' is not in [[subject]]",
    ):
        assert said in text, faults


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            'land_use = "paddy"',
            'land_use = "padi"',
            "[[plot]] p1: land_use: 'padi'; known: orchard",
        ),
        ('plot = "p1"', 'plot = "p9"', "[[device]] plot3/soil1: plot: 'p9' is not in [[plot]]"),
        ('station = "hl-002"', 'station = "hl-009"', "[[device]] t1: station: 'hl-009' is not in"),
        ('code = "hl-002"', 'code = "hl-001"', "[[station]] hl-001: stands 2 times"),
        (KEY, "c2hvcnQ=", "[[station]] hl-001: key: not base64 of 32 bytes"),
        (KEY, "no base64", "[[station]] hl-001: key: not base64 of 32 bytes"),
        (
            'base = "b1"\nlon',
            'base = "b7"\nlon',
            "[[station]] hl-001: base: 'b7' is not in [[base]]",
        ),
        ("soil_ph = 7", "soil_ph = 15", "[[plot]] #1: soil_ph: "),
        ('code = "640122"', 'code = "6401"', "[[region]] #1: code: "),
    ],
)
def test_each_fault_names_its_row_and_field(write, old, new, said):
    assert any(said in fault for fault in faults_of(write(GOOD.replace(old, new, 1))))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("station = 5", "[station]: unknown"),
        ("station = [1, 2]", "station: must be a list of tables; write [[station]]"),
        ("[station]\ncode = 1", "[station]: unknown"),
        ("[[station]", "cannot be read"),
    ],
)
def test_shapes_that_are_no_registry(write, text, said):
    assert said in faults_of(write(text))[0]


def test_a_file_that_is_not_there_is_named(tmp_path):
    assert "cannot be read" in faults_of(tmp_path / "none.toml")[0]


# ---- a folder of CSV files


@pytest.fixture
def folder(tmp_path):
    def write(name: str, text: str, encoding="utf-8"):
        (tmp_path / name).write_bytes(text.encode(encoding))
        return tmp_path

    return write


def test_a_folder_of_csv_files_says_the_same(folder):
    folder("region.csv", "code,name\n640122,贺兰县\n", "utf-8-sig")
    folder("subject.csv", "id,name,type,region\ns1,社,coop,640122\n")
    folder("base.csv", "id,subject,name,region\nb1,s1,基地,640122\n")
    folder("plot.csv", "id,base,name,land_use,soil_ph\np1,b1,田,paddy,6.5\n")
    folder("station.csv", "code,name,region,lon,key\nhl-001,站,640122,106.5,\n")
    path = folder("device.csv", "station,path,name,plot\nhl-001,soil1,土,p1\n")
    registry = files.load(path)
    assert registry.plots[0].soil_ph == 6.5
    assert (registry.stations[0].lon, registry.stations[0].key) == (106.5, "")


WATER = """
water_use = "fishery"
water = "freshwater"
salmonid = true
shellfish = "no"
ice_covered = false
animal = "livestock"
animal_age = "adult"
"""


def test_what_picks_the_limits_of_water_is_registered(operational, write):
    file = files.load(write(GOOD.replace('land_use = "paddy"', WATER)))
    files.sync(operational, file, 1)
    assert Registry(operational).context("hl-001", "plot3/soil1") == PlotContext(
        plot_id="p1",
        region_code="640122",
        water_use="fishery",
        soil_ph=7.0,
        water="freshwater",
        salmonid="yes",
        shellfish="no",
        ice_covered="no",
        animal="livestock",
        animal_age="adult",
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"freshwater"', '"brackish"', "water: 'brackish'; known: freshwater, seawater"),
        ("salmonid = true", 'salmonid = "trout"', "salmonid: 'trout'; known: no, yes"),
        ("salmonid = true", "salmonid = 1", "[[plot]] #1: salmonid: "),
        ('"livestock"', '"cow"', "animal: 'cow'; known: livestock, poultry"),
        ('"adult"', '"old"', "animal_age: 'old'; known: adult, young"),
    ],
)
def test_a_wrong_word_about_water_is_a_fault(write, old, new, said):
    text = GOOD.replace('land_use = "paddy"', WATER)
    assert any(said in fault for fault in faults_of(write(text.replace(old, new, 1))))


def test_every_word_that_picks_a_limit_can_be_registered(operational, write):
    for key, words in KEY_VALUES.items():
        for word in words:
            text = GOOD.replace('land_use = "paddy"', f'{key} = "{word}"')
            files.sync(operational, files.load(write(text)), 1)
            context = Registry(operational).context("hl-001", "plot3/soil1")
            assert context is not None
            assert getattr(context, key) == word
            assert check({key: word}) == Conditions({key: word})


def test_csv_faults_name_file_and_line(folder):
    folder("region.csv", "code,name\n640122,贺兰县\n6401,x\n")
    path = folder("station.csv", "code,nam,region,lon\nhl-001,站,640122,east\nhl-002,站\n")
    with pytest.raises(ConfigError) as caught:
        files.load(path)
    text = "\n".join(caught.value.faults)
    for said in (
        "region.csv: line 3: code: ",
        "station.csv: line 2: nam: unknown key; did you mean name?",
        "station.csv: line 2: lon: ",
        "station.csv: line 2: name: is missing",
        "station.csv: line 3: region: is missing",
    ):
        assert said in text


def test_a_row_with_more_cells_than_columns_is_a_fault(folder):
    path = folder("region.csv", "code,name\n640122,贺兰县,Helan,x\n")
    with pytest.raises(ConfigError, match=r"region\.csv: line 2: \(beyond the last column\)"):
        files.load(path)


def test_a_folder_that_holds_no_registry_is_a_fault(tmp_path):
    assert "holds none of region.csv" in faults_of(tmp_path)[0]


def test_csv_that_is_not_utf_8_is_named(folder):
    path = folder("region.csv", "code,name\n640122,贺兰县\n", "gbk")
    with pytest.raises(ConfigError, match=r"region\.csv: cannot be read"):
        files.load(path)


# ---- into the database


@pytest.fixture
def operational(tmp_path, databases):
    operational = Operational(databases.url(tmp_path / "operational.db"))
    operational.migrate()
    yield operational
    operational.close()


def rows(operational, *columns):
    with operational.read() as db:
        return db.execute(sa.select(*columns).order_by(columns[0])).fetchall()


def test_sync_inserts_then_updates_and_keeps_what_the_file_does_not_name(operational, write):
    files.sync(operational, files.load(write(GOOD)), 5)
    s, d, p, k = tables.stations, tables.devices, tables.plots, tables.gateway_keys
    assert rows(operational, s.c.code, s.c.base_id) == [("hl-001", "b1"), ("hl-002", None)]
    assert rows(operational, d.c.path, d.c.plot_id) == [("plot3/soil1", "p1"), ("t1", None)]
    assert rows(operational, k.c.station, k.c.key, k.c.state, k.c.first_seen_ms) == [
        ("hl-001", KEY, "approved", 5)
    ]
    fewer = GOOD.replace('name = "三号田"', 'name = "四号田"')
    fewer = fewer[: fewer.index('[[device]]\nstation = "hl-002"')]
    files.sync(operational, files.load(write(fewer)), 9)
    assert rows(operational, p.c.id, p.c.name, p.c.soil_ph) == [("p1", "四号田", 7.0)]
    assert len(rows(operational, d.c.path)) == 2
    assert rows(operational, k.c.station, k.c.first_seen_ms) == [("hl-001", 5)]


def test_a_key_that_waited_is_approved_by_the_file(operational, write):
    without = GOOD.replace(f'key = "{KEY}"', "")
    files.sync(operational, files.load(write(without)), 1)
    k = tables.gateway_keys
    with operational.write() as db:
        db.execute(sa.insert(k).values(station="hl-001", key=KEY, state="pending", first_seen_ms=2))
    files.sync(operational, files.load(write(without)), 3)
    assert rows(operational, k.c.station, k.c.state) == [("hl-001", "pending")]
    files.sync(operational, files.load(write(GOOD)), 4)
    assert rows(operational, k.c.station, k.c.state, k.c.first_seen_ms) == [
        ("hl-001", "approved", 2)
    ]


def key_states(operational):
    k = tables.gateway_keys
    return dict(rows(operational, k.c.key, k.c.state))


@pytest.mark.parametrize("shown", [False, True])
def test_the_files_key_does_not_displace_the_approved_one(operational, write, shown):
    k = tables.gateway_keys
    files.sync(operational, files.load(write(GOOD.replace(f'key = "{KEY}"', ""))), 1)
    with operational.write() as db:
        db.execute(
            sa.insert(k).values(station="hl-001", key="own", state="approved", first_seen_ms=2)
        )
        if shown:
            db.execute(
                sa.insert(k).values(station="hl-001", key=KEY, state="pending", first_seen_ms=2)
            )
    with capture_logs() as logs:
        files.sync(operational, files.load(write(GOOD)), 4)
    assert key_states(operational) == {KEY: "pending", "own": "approved"}
    [line] = logs
    assert (line["event"], line["log_level"]) == ("registry_key_not_adopted", "warning")
    assert (line["station"], line["key"], line["approved"]) == ("hl-001", KEY, "own")
    assert f"agrigate station replace hl-001 {KEY}" in line["todo"]


@pytest.mark.parametrize("state", ["replaced", "refused"])
@pytest.mark.parametrize("successor", [False, True])
def test_a_start_does_not_bring_back_a_key_that_was_replaced_or_refused(
    operational, write, state, successor
):
    k = tables.gateway_keys
    files.sync(operational, files.load(write(GOOD)), 1)
    with operational.write() as db:
        db.execute(sa.update(k).values(state=state, replaced_ms=3))
        if successor:
            db.execute(
                sa.insert(k).values(station="hl-001", key="new", state="approved", first_seen_ms=2)
            )
    with capture_logs() as logs:
        files.sync(operational, files.load(write(GOOD)), 4)
    assert key_states(operational) == {KEY: state} | ({"new": "approved"} if successor else {})
    assert [line["event"] for line in logs] == ["registry_key_not_adopted"]


def test_a_key_that_is_approved_already_is_no_news(operational, write):
    files.sync(operational, files.load(write(GOOD)), 1)
    with capture_logs() as logs:
        files.sync(operational, files.load(write(GOOD)), 4)
    assert logs == []


QUALITY = """
[[quality_limit]]
station = "hl-001"
device = "plot3/soil1"
indicator = "soil_temperature"
min = -20
max = 45
rate_per_s = 0.01
"""


def test_quality_limits_reach_what_flags_are_set_by(write, operational):
    files.sync(operational, files.load(write(GOOD + QUALITY)), 1)
    registry = Registry(operational)
    limits = registry.quality.quality_limits(Series("hl-001", "plot3/soil1", "soil_temperature"))
    assert limits == SeriesLimits(site_min=-20.0, site_max=45.0, rate_per_s=0.01)
    assert registry.quality.quality_limits(Series("hl-001", "x", "soil_ph")) == SeriesLimits()
    version = registry.quality.version
    registry.reload()
    assert registry.quality.version == version
    changed = QUALITY.replace("max = 45", "max = 40")
    files.sync(operational, files.load(write(GOOD + changed)), 1)
    registry.reload()
    assert registry.quality.version == version + 1


def test_the_range_of_an_instrument_comes_from_its_register_map(write, operational):
    model = GOOD.replace('name = "土壤一号"', 'name = "土壤一号"\nmodel = "renke_soil_7in1"')
    files.sync(operational, files.load(write(model)), 1)
    limits = Registry(operational).quality.quality_limits(
        Series("hl-001", "plot3/soil1", "soil_temperature")
    )
    assert (limits.model_min, limits.model_max) == (-40.0, 85.0)


def test_faults_of_quality_limits_name_table_and_field(write):
    bad = (
        QUALITY.replace("soil_temperature", "soil_temprature")
        .replace("min = -20", "min = 50")
        .replace("rate_per_s = 0.01", "rate_per_s = 0")
    )
    missing = QUALITY.replace("plot3/soil1", "plot9/soil1")
    assert any("rate_per_s" in fault for fault in faults_of(write(GOOD + bad)))
    bad = bad.replace("rate_per_s = 0", "")
    faults = faults_of(write(GOOD + bad + missing))
    assert len(faults) == 3
    assert "soil_temperature" in faults[0]  # the nearest
    assert "min" in faults[1]
    assert "no such [[device]]" in faults[2]
