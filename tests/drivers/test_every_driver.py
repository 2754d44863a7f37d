"""What every driver of the registry owes, whatever its protocol."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import drivers
from drivers.errors import ConfigError
from drivers.registry import DRIVERS

ROOT = Path(drivers.__file__).parent
HEADINGS = ("## Devices", "## Link", "## Configuration", "## Readings", "## Limits")


def sample_tables(name):
    sample = tomllib.loads((ROOT / name / "sample.toml").read_text(encoding="utf-8"))
    return (
        sample["station"]["device"]
        if isinstance(sample["station"], dict)
        else sample["station"][-1]["device"]
    )


@pytest.fixture(params=DRIVERS, ids=str)
def name(request):
    return request.param


def test_names_are_folders(name):
    assert DRIVERS[name].name == name
    assert (ROOT / name / "config.py").is_file()
    assert (ROOT / name / "session.py").is_file()


def test_it_polls_or_listens(name):
    assert (DRIVERS[name].polled is None) != (DRIVERS[name].listening is None)


def test_the_sample_parses_and_devices_have_what_the_agent_asks(name):
    devices = [DRIVERS[name].parse(table, "sample.toml") for table in sample_tables(name)]
    assert devices
    assert len({device.path for device in devices}) == len(devices)
    for device in devices:
        assert device.bus.split(":")[0] in {"tcp", "serial", "listen", "folder", "http"}
        assert device.poll_interval_s >= 0


def test_the_sample_has_every_key(name):
    module = __import__(f"drivers.{name}.config", fromlist=["DeviceTable"])
    known = set(module.DeviceTable.__struct_fields__) - {"station"}  # the agent adds it
    assert set().union(*sample_tables(name)) == known


def test_a_key_that_does_not_exist_is_a_fault_with_its_place(name):
    table = dict(sample_tables(name)[0])
    with pytest.raises(ConfigError) as refused:
        DRIVERS[name].parse(table | {"pathh": 1, "unknown": 2}, "e.toml: [s]")
    assert refused.value.faults[0] == "e.toml: [s]: pathh: unknown key; did you mean path?"
    assert refused.value.faults[1].startswith("e.toml: [s]: unknown: unknown key; ")


def test_an_empty_table_lists_what_is_missing(name):
    with pytest.raises(ConfigError) as refused:
        DRIVERS[name].parse({}, "e.toml")
    assert all(fault.endswith("is missing") for fault in refused.value.faults)
    assert len(refused.value.faults) >= 2


async def test_a_session_opens_nothing_before_it_is_used_and_closes_twice(name):
    driver = DRIVERS[name]
    device = driver.parse(sample_tables(name)[0], "sample.toml")
    session = (driver.polled or driver.listening)(device, lambda: 0)
    await session.close()
    await session.close()


def test_the_readme_is_complete(name):
    readme = (ROOT / name / "README.md").read_text(encoding="utf-8")
    assert [heading for heading in HEADINGS if heading not in readme] == []


def test_the_registry_loads_no_protocol_before_it_is_asked():
    code = (
        "import sys, drivers.registry as r\n"
        "assert 'pymodbus' not in sys.modules and 'serial' not in sys.modules\n"
        "r.DRIVERS['slip'].parse({'path': 'a', 'serial': '/dev/null'}, 'x')\n"
        "assert 'pymodbus' not in sys.modules and 'serial' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT.parent)
