"""Slips by their bytes, to the records they must give."""

import json
from pathlib import Path

import msgspec
import pytest

from drivers.slip.config import parse
from drivers.tester.points import record_of

CASES = sorted(path for path in Path(__file__).with_name("golden").iterdir() if path.is_dir())
NOW_MS = 1_793_580_300_000


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_slip_gives_its_records(case):
    expected = json.loads((case / "expected.json").read_text(encoding="utf-8"))
    assert (case / "source.md").read_text(encoding="utf-8").strip()
    device = parse({"path": "tester1", "serial": "/dev/null"}, "golden")
    reader = device.reader()
    reader.feed(bytes.fromhex((case / "slip.hex").read_text()))
    records = []
    while (slip := reader.next()) is not None:
        records.append(json.loads(msgspec.json.encode(record_of(slip, device, NOW_MS))))
    assert [
        {key: record.get(key, [] if key == "quality_flags" else None) for key in wanted}
        for record, wanted in zip(records, expected, strict=True)
    ] == expected
