"""``agrigate map test``: what a message gives, what is wrong where, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import agrigate
from ingest import publishers

HERE = Path(__file__).with_name("captured")
EXAMPLES = Path(publishers.__file__).with_name("examples")
UP = "agri/v1/hl-001/raw/a84041ce5182f3e1/event/up"


def run(*arguments: str, given: bytes | None = None):
    return CliRunner().invoke(agrigate.main, ["map", "test", *arguments], input=given)


def test_all_good_is_0():
    file = str(HERE / "chirpstack_up.json")
    done = run(file, "-c", str(EXAMPLES / "chirpstack_v4.toml"), "--topic", UP)
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[0] == {
        "index": 0,
        "device": "a84041ce5182f3e1",
        "indicator": "soil_moisture",
        "value": 27.0,
        "time": "2026-05-01T09:02:03.512+08:00",
    }
    assert "mapping 'chirpstack-up'" in done.stderr


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (b'[{"n":"soil_ph","v":7},{"n":"soil_ph","v":"7"}]', '"field": "v"'),
        (b"[1, 2", '"index": "message"'),
        (b"[]", ""),
    ],
)
def test_what_is_wrong_is_1(body, line):
    done = run("-", given=body)
    assert done.exit_code == 1
    assert line in done.stdout


def test_usage_is_2(tmp_path):
    message = tmp_path / "m.json"
    message.write_text("[]")
    bad = tmp_path / "bad.toml"
    bad.write_text('[[mapping]]\nname = "m"\ndevice = "*"\nvalues = { soil_phh = "a" }\n')
    assert run(str(message), "--topic", "elsewhere/x").exit_code == 2
    assert run(str(tmp_path / "none.json")).exit_code == 2
    assert run(str(message), "-c", str(tmp_path / "none.toml")).exit_code == 2
    done = run(str(message), "-c", str(bad))
    assert done.exit_code == 2
    assert "[[mapping]] 'm': values.soil_phh" in done.stderr
