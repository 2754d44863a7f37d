"""sim.toml: every fault at once, the sample is whole, and ``agrigate simulate`` says where each instrument listens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from demo.simulate_cli import simulate
from demo.simulators import config
from demo.simulators.config import load, parse
from demo.simulators.misbehaviour import Control, Misbehaviour
from drivers.errors import ConfigError
from tests.conftest import free_port, until

SAMPLE = Path(config.__file__).with_name("sim.sample.toml")
DOCS = Path(__file__).parents[3] / "docs" / "simulators.md"


def faults_of(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "sim.toml")
    return caught.value.faults


def test_the_sample_has_every_key() -> None:
    load(SAMPLE)
    text = SAMPLE.read_text("utf-8")
    for table in (
        config.SimConfig,
        config.GatewayTable,
        config.BusTable,
        config.DeviceTable,
        config.FaultTable,
        config.TesterTable,
        config.PrinterTable,
        config.ExcursionTable,
        config.StagedSlipTable,
    ):
        for field in msgspec.structs.fields(table):
            known = {"serial", "folder", "fault", "device"}  # told in a comment or as a table
            assert field.encode_name in text or field.encode_name in known, field.encode_name


def test_the_document_names_every_misbehaviour_and_profile() -> None:
    text = DOCS.read_text("utf-8")
    for kind in Misbehaviour:
        assert f"`{kind}`" in text
    for name in config.PROFILES:
        assert f"`{name}`" in text


WRONG = """
journal_dir = "j"
sead = 2

[[gateway]]
port = 70000
[[gateway.device]]
station = "s"
path = "a"
model = "renke_soil_7in2"
[[gateway.device.fault]]
kind = "crc_error"
[[gateway.device.fault]]
kind = "laet"

[[bus]]
baud = 9601
[[bus.device]]
station = "s"
path = "b"
model = "boqu_bh485_nh"
unit_id = 3
[[bus.device]]
station = "s"
path = "c"
model = "boqu_phg2091"
unit_id = 3
centre = { soil_ph = 7 }

[[tester]]
station = "s"
path = "d"
profile = "lz4000t"
connect = "127.0.0.1"
[[tester]]
station = "s"
path = "e"
profile = "ty17"
[[tester]]
station = "s"
path = "f"
profile = "ty16"
link = "x"
[[tester.fault]]
kind = "crc_error"
"""


@pytest.mark.parametrize(
    "fault",
    [
        "sim.toml: sead: unknown key; did you mean seed?",
        "sim.toml: [[gateway]] 1: port: Expected `int` <= 65535",
        "sim.toml: [[gateway]] 1: [[device]] 1: model 'renke_soil_7in2' is not known",
        "sim.toml: [[gateway]] 1: [[device]] 1: [[fault]] 2: kind: Invalid enum value 'laet'",
        "sim.toml: [[bus]] 1: link: give either link (a pty) or serial (a port)",
        "sim.toml: [[bus]] 1: baud: 9601 is none of",
        "sim.toml: [[bus]] 1: [[device]] 1: settings.water_ph.order: is missing",
        "sim.toml: [[bus]] 1: [[device]] 2: unit_id: 3 is taken by device 1",
        "sim.toml: [[bus]] 1: [[device]] 2: centre: boqu_phg2091 has no soil_ph",
        "sim.toml: [[tester]] 1: connect: '127.0.0.1' is not host:port",
        "sim.toml: [[tester]] 1: connect: lz4000t waits to be asked",
        "sim.toml: [[tester]] 2: profile: 'ty17' is not known",
        "sim.toml: [[tester]] 2: link: give one of",
        "sim.toml: [[tester]] 3: fault: crc_error cannot happen with ty16",
    ],
)
def test_every_fault_is_said_at_once(fault: str) -> None:
    assert any(said.startswith(fault) for said in faults_of(WRONG)), faults_of(WRONG)


def test_what_a_framing_cannot_do_is_refused() -> None:
    text = WRONG.replace("port = 70000", "port = 1502").replace("7in2", "7in1")
    assert (
        "sim.toml: [[gateway]] 1: [[device]] 1: fault: crc_error cannot happen with framing tcp"
        in faults_of(text)
    )


def test_two_instruments_with_one_name_or_one_place_are_refused() -> None:
    table = '[[tester]]\nstation = "s"\npath = "a"\nprofile = "slip"\nlink = "x"\n'
    faults = faults_of(f'journal_dir = "j"\n{table}{table}')
    assert faults == ["sim.toml: path: s/a is there twice", "sim.toml: x: two lines are there"]


def test_two_devices_of_a_model_need_ids() -> None:
    table = '[[bus.device]]\nstation = "s"\nmodel = "boqu_phg2091"\npath = '
    (fault,) = faults_of(f'journal_dir = "j"\n[[bus]]\nlink = "x"\n{table}"a"\n{table}"b"\n')
    assert fault == "sim.toml: unit_id: s/a and s/b are both 1 on one line"


def test_check_ends_with_2_and_all_faults(tmp_path: Path) -> None:
    file = tmp_path / "sim.toml"
    file.write_text(WRONG, "utf-8")
    result = CliRunner().invoke(simulate, ["-c", str(file), "--check"])
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) >= 14
    assert CliRunner().invoke(simulate, ["-c", str(SAMPLE), "--check"]).exit_code == 0


def test_the_command_lists_where_each_listens_and_ends_on_a_signal(tmp_path: Path) -> None:
    port = free_port()
    file = tmp_path / "sim.toml"
    file.write_text(
        f"""
journal_dir = "journal"
[[gateway]]
port = {port}
[[gateway.device]]
station = "s"
path = "ph"
model = "boqu_phg2091"
unit_id = 7
[[tester]]
station = "s"
path = "t"
profile = "ty16"
link = "ports/t"
""",
        "utf-8",
    )
    out = tmp_path / "out"
    root = Path(__file__).parents[3]
    with out.open("wb") as sink:
        running = subprocess.Popen(
            [sys.executable, root / "agrigate.py", "simulate", "-c", file],
            cwd=tmp_path,
            stdout=sink,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        try:
            until(lambda: "simulators ready" in out.read_text("utf-8"))
            assert (tmp_path / "ports" / "t").is_symlink()
            running.send_signal(signal.SIGINT)
            assert running.wait(20) == 0
        finally:
            running.kill()
            running.wait()
    lines = out.read_text("utf-8").splitlines()
    assert f"127.0.0.1:{port}  modbus tcp  unit 7  s/ph" in lines
    assert "ports/t  ty16  s/t" in lines
    assert not (tmp_path / "ports" / "t").exists()


def test_a_script_goes_before_the_faults_and_the_seed_repeats() -> None:
    kinds = []
    for _ in range(2):
        control = Control()
        control.misbehave(Misbehaviour.LATE, probability=0.3)
        control.script.extend([None, Misbehaviour.ECHO])
        kinds.append([control.next() for _ in range(50)])
    assert kinds[0] == kinds[1]
    assert kinds[0][:2] == [None, Misbehaviour.ECHO]
    assert 5 < kinds[0].count(Misbehaviour.LATE) < 30
