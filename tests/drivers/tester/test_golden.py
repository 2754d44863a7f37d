"""Profiles by the bytes of their instruments; and README's "Add a tester", followed to the letter."""

import json
import re
import tomllib
from pathlib import Path

import msgspec
import pytest

import drivers.tester
from drivers.tester import profiles, transport
from drivers.tester.binary_record import (
    CheckTable,
    FieldTable,
    FrameTable,
    GroupTable,
    LengthTable,
)
from drivers.tester.config import parse
from drivers.tester.dialogue import StepTable
from drivers.tester.points import record_of

GOLDEN = Path(__file__).with_name("golden")
CASES = sorted(path for path in GOLDEN.iterdir() if path.is_dir())
README = Path(drivers.tester.__file__).with_name("README.md")
NOW_MS = 1_793_580_300_000


def decoded(device, data):
    reader = device.reader()
    reader.feed(data)
    reader.silence()
    records = []
    while (raw := reader.next()) is not None:
        records.append(json.loads(msgspec.json.encode(record_of(raw, device, NOW_MS))))
    return records


def check(device, data, expected):
    records = decoded(device, data)
    assert [
        {key: record.get(key, [] if key == "quality_flags" else None) for key in wanted}
        for record, wanted in zip(records, expected, strict=True)
    ] == expected


def table_of(case, name):
    more = case / "device.toml"
    extra = tomllib.loads(more.read_text(encoding="utf-8")) if more.is_file() else {}
    return {"path": "t1", "profile": name, "transport": {"serial": "/dev/null"}} | extra


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_frame_gives_its_records(case):
    assert (case / "source.md").read_text(encoding="utf-8").strip()
    device = parse(table_of(case, case.name.split("-")[0]), "golden")
    expected = json.loads((case / "expected.json").read_text(encoding="utf-8"))
    check(device, bytes.fromhex((case / "frame.hex").read_text(encoding="ascii")), expected)


def test_every_profile_has_a_golden_case_and_says_its_wire_and_quirks_in_the_readme():
    assert {case.name.split("-")[0] for case in CASES} == set(profiles.names())
    readme = README.read_text(encoding="utf-8")
    for table in ("| profile | instrument |", "| profile | wire |"):
        rows = readme.partition(table)[2].partition("\n\n")[0]
        assert [name for name in profiles.names() if f"| `{name}` |" not in rows] == []


def test_every_key_of_a_transport_is_in_the_readme():
    readme = README.read_text(encoding="utf-8").partition("Keys of `transport`")[2]
    tables = (
        transport._SerialTable,
        transport._TcpTable,
        transport._ListenTable,
        transport._FolderTable,
        transport._HttpTable,
    )
    keys = {key for table in tables for key in table.__struct_fields__}
    assert sorted(key for key in keys if f"`{key}`" not in readme) == []


def test_add_a_tester_as_the_readme_says(tmp_path):
    text = README.read_text(encoding="utf-8").partition("## Add a tester")[2]
    toml, frame, expected = re.findall(r"```\w+\n(.*?)```", text, re.DOTALL)
    profile = tmp_path / "my500.toml"
    profile.write_text(toml, encoding="utf-8")
    device = parse(table_of(tmp_path, str(profile)), "readme")
    check(device, bytes.fromhex(frame), json.loads(expected))
    assert device.device_model == "MY-500"


def test_every_key_of_frames_fields_and_steps_is_in_the_readme():
    readme = README.read_text(encoding="utf-8")
    tables = (CheckTable, FieldTable, FrameTable, GroupTable, LengthTable, StepTable)
    keys = {key for table in tables for key in table.__struct_fields__}
    assert sorted(key for key in keys if f"`{key}`" not in readme and f" {key}" not in readme) == []
