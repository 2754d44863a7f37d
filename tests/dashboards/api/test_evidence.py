"""Evidence packs over HTTP, and what the command says of a pack that was changed."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from agrigate import main as commands
from alerts.actions import acknowledge
from alerts.evidence.keys import EvidenceKeys
from alerts.evidence.verify import public_key, verify
from tests.conftest import databases  # noqa: F401 - on both engines
from tests.dashboards.conftest import EPOCH, NOW_MS, STATION

BODY = b'{"readings":[{"d":"plot3/soil1","i":"soil_cd","t":1,"v":0.45}]}'
PLAIN = """
import base64, hashlib, json, sys, zipfile
from cryptography.hazmat.primitives.serialization import load_pem_public_key
archive = zipfile.ZipFile(sys.argv[1])
signed = archive.read("manifest.json")
load_pem_public_key(open(sys.argv[2], "rb").read()).verify(base64.b64decode(archive.read("manifest.sig")), signed)
for part in json.loads(signed)["parts"]:
    assert hashlib.sha256(archive.read(part["name"])).hexdigest() == part["sha256"]
assert not [name for name in sys.modules if name.split(".")[0] in {"alerts", "ingest", "dashboards", "drivers"}]
print("good")
"""


@pytest.fixture
async def client(county, connect, tmp_path):
    async with connect(county.app(evidence_keys=EvidenceKeys(tmp_path))) as client:
        yield client


@pytest.fixture
async def pack(county, client, tmp_path):
    """Return the file of an alert's pack, with a reading, its bytes, a log row; and the public key's file."""
    county.add_place()
    county.add_station()
    county.add_pack(BODY)
    times = county.add_readings([0.2, 0.3, 0.45, 0.2])
    alert_id = county.add_alert(seq=0, first_seen_ms=times[2], last_seen_ms=times[2])
    county.add_finding(alert_id=alert_id, t_ms=times[2], position=0)
    acknowledge(county.operational, alert_id, "li", at_ms=NOW_MS)
    reply = await client.get(f"/api/v1/alerts/{alert_id}/evidence.zip")
    assert reply.headers["content-type"] == "application/zip"
    keys = (await client.get("/api/v1/evidence-keys")).json()["keys"]
    file, key = tmp_path / "evidence.zip", tmp_path / "key.pem"
    file.write_bytes(reply.content)
    key.write_text(keys[0]["public_pem"])
    return file, key


def check(file, key):
    return verify(file, public_key(key.read_text()))


def rewritten(file, change):
    """Write the pack again with ``change(name, content)``; None leaves a part out."""
    source = zipfile.ZipFile(io.BytesIO(file.read_bytes()))
    target = file.with_name("changed.zip")
    with zipfile.ZipFile(target, "w") as archive:
        for name in source.namelist():
            content = change(name, source.read(name))
            if content is not None:
                archive.writestr(name, content)
    return target


async def test_a_pack_holds_the_way_from_the_bytes_to_the_alert(pack):
    file, key = pack
    outcome = check(file, key)
    assert outcome.faults == []
    assert outcome.checked == len(outcome.manifest.parts)
    archive = zipfile.ZipFile(file)
    (raw,) = json.loads(archive.read("raw.json"))
    assert archive.read(raw["part"]) == BODY
    assert (raw["station"], raw["epoch"], raw["seq"], raw["positions"]) == (STATION, EPOCH, 1, [0])
    assert [row["v"] for row in json.loads(archive.read("readings.json"))["readings"]] == [
        0.2,
        0.3,
        0.45,
        0.2,
    ]
    chart = archive.read("chart.svg").decode()
    assert "limit 0.4 mg/kg" in chart
    assert chart.count("<circle") == 1
    (row,) = json.loads(archive.read("transitions.json"))
    assert row["event"] == "alert.acknowledged"
    assert json.loads(archive.read("limit.json"))["citation"]["clause"] == "表1"


async def test_one_byte_changed_in_any_part_names_the_part(pack):
    file, key = pack
    for name in zipfile.ZipFile(file).namelist():

        def flip(part, content, name=name):
            return bytes([content[0] ^ 1]) + content[1:] if part == name else content

        outcome = check(rewritten(file, flip), key)
        assert any(name in fault for fault in outcome.faults), name


async def test_a_byte_changed_in_the_file_itself_is_found(pack):
    file, key = pack
    whole = file.read_bytes()
    with zipfile.ZipFile(file) as archive:
        info = archive.getinfo("raw/0001.bin")
    place = info.header_offset + 30 + len(info.filename) + info.compress_size // 2
    broken = file.with_name("broken.zip")
    broken.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
    outcome = check(broken, key)
    assert any(fault.startswith("raw/0001.bin") for fault in outcome.faults)


async def test_parts_missing_beside_and_doubled_are_faults(pack):
    file, key = pack
    outcome = check(rewritten(file, lambda n, c: None if n == "raw.json" else c), key)
    assert outcome.faults == ["raw.json: missing"]
    beside = rewritten(file, lambda _, c: c)
    with zipfile.ZipFile(beside, "a") as archive:
        archive.writestr("../evil.txt", b"x")
    assert check(beside, key).faults == ["../evil.txt: not in the manifest"]
    with zipfile.ZipFile(beside, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("raw.json", b"[]")
    assert "two of one name" in check(beside, key).faults[0]


async def test_a_bomb_is_refused_before_it_fills_the_memory(pack, monkeypatch):
    file, key = pack
    monkeypatch.setattr("alerts.evidence.verify.MAX_PART", 100_000)

    def blow(name, content):
        return b"\0" * 5_000_000 if name == "raw/0001.bin" else content

    assert any("larger than" in fault for fault in check(rewritten(file, blow), key).faults)


async def test_another_key_does_not_vouch_for_it(pack, tmp_path):
    file, _ = pack
    other = EvidenceKeys(tmp_path / "other").current()
    (fault,) = verify(file, public_key(other.public_pem())).faults
    assert "another key" in fault
    raw = base64.b64encode(other.private.public_key().public_bytes_raw()).decode()
    assert verify(file, public_key(raw)).faults == [fault]


async def test_a_rotated_key_leaves_old_packs_valid_and_is_listed(pack, client, tmp_path):
    file, key = pack
    EvidenceKeys(tmp_path).rotate()
    rows = (await client.get("/api/v1/evidence-keys")).json()["keys"]
    assert [row["current"] for row in rows] == [False, True]
    assert check(file, key).faults == []
    assert rows[0]["public_pem"] == key.read_text()


async def test_what_retention_dropped_is_said(county, client):
    alert_id = county.add_alert()
    reply = await client.get(f"/api/v1/alerts/{alert_id}/evidence.zip")
    manifest = json.loads(zipfile.ZipFile(io.BytesIO(reply.content)).read("manifest.json"))
    (note,) = manifest["notes"]
    assert note["part"] == "raw.json"
    assert "past retention" in note["en"]


async def test_an_alert_that_is_not_there_has_no_pack(client):
    reply = await client.get("/api/v1/alerts/01JDWZ0000000000000000000Z/evidence.zip")
    assert reply.status_code == 404


async def test_the_command_needs_the_file_and_the_key_only(pack):
    file, key = pack
    runner = CliRunner()
    good = runner.invoke(commands, ["evidence", "verify", str(file), "--key", str(key)])
    assert (good.exit_code, "完好" in good.output) == (0, True)
    changed = rewritten(file, lambda n, c: c + b" " if n == "limit.json" else c)
    bad = runner.invoke(commands, ["evidence", "verify", str(changed), "--key", str(key)])
    assert bad.exit_code == 1
    assert "limit.json: changed" in bad.output
    assert "Traceback" not in bad.output


async def test_it_verifies_without_anything_of_ours(pack, tmp_path):
    file, key = pack
    script = tmp_path / "plain.py"
    script.write_text(PLAIN)
    done = subprocess.run(  # noqa: ASYNC221 - a second
        [sys.executable, "-I", str(script), str(file), str(key)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path("/"),
    )
    assert done.stdout == "good\n", done.stderr
