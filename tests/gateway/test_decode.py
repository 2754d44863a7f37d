from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from agrigate import main
from drivers.errors import ConfigError
from drivers.tester import profiles
from gateway import decode
from gateway.decode_input import HexInput, LogInput, NotBytes

ROOT = Path(__file__).parents[2]
RTU = "01 03 00 00 00 03 05 CB\n01 03 06 01 EF 01 44 00 04 B5 59\n"
GOLDEN = ROOT / "tests/drivers/tester/golden"
PROTOCOLS = [*decode.MODBUS, decode.SLIP, *profiles.names()]
NOW_MS = 1_793_580_300_000


def run(*arguments: str, data: bytes = b"") -> Result:
    return CliRunner().invoke(main, ["decode", *arguments], input=data)


def lines_of(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_good_bytes_end_with_0_in_every_format(tmp_path: Path) -> None:
    raw = tmp_path / "wire.bin"
    raw.write_bytes(bytes.fromhex(RTU))
    log = (
        "08:30:01 [01][03][00][00][00][03][05][CB]\n"
        "Waiting for 11 bytes\n"
        "<01><03><06><01><EF><01><44><00><04><B5><59>\n"
    )
    expected = lines_of(run("modbus-rtu", str(raw)))
    assert [line["good"] for line in expected] == [True, True]
    assert expected[1]["registers"] == [495, 324, 4]
    for form, data in (("hex", RTU.encode()), ("text", log.encode())):
        result = run("modbus-rtu", "--format", form, data=data)
        assert result.exit_code == 0
        assert lines_of(result) == expected


def test_bad_bytes_end_with_1_and_say_what_where_and_which() -> None:
    result = run("modbus-rtu", "--format", "hex", data=b"01 03 06 02 92 FF 9B 03 E8 38 75")
    assert result.exit_code == 1
    (line,) = lines_of(result)
    assert line == {
        "good": False,
        "offset": 0,
        "bytes": "01 03 06 02 92 ff 9b 03 e8 38 75",
        "error": "CRC is 7538, the bytes give 0FD8",
        "fault_at": 9,
    }


def test_good_frames_among_bad_ones_still_end_with_1() -> None:
    result = run("modbus-tcp", "--format", "hex", data=b"00010000000301 8302 63")
    assert result.exit_code == 1
    assert [line["good"] for line in lines_of(result)] == [True, False]


@pytest.mark.parametrize(
    "arguments",
    [
        ["modbus"],
        ["lz4000"],
        ["modbus-rtu", "/no/such/file"],
        ["modbus-rtu", "--format", "octal"],
        ["modbus-rtu", "--model", "no_such_model"],
        ["modbus-rtu", "--model", "dragino_dr_water"],
        ["lz4000t", "--model", "renke_soil_7in1"],
        ["no_such_profile.toml"],
        [],
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_to_do(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr
    assert "Traceback" not in result.stderr


def test_digits_taken_for_bytes_are_pointed_out() -> None:
    digits = b"01 03 00 00 00 03 05 CB\n"
    said = CliRunner().invoke(main, ["decode", "modbus-rtu"], input=digits)
    assert (said.exit_code, said.stderr.strip()) == (
        1,
        "these look like hexadecimal digits: try --format hex",
    )
    assert not CliRunner().invoke(main, ["decode", "modbus-rtu"], input=b"\x01\x63").stderr


def test_an_unknown_protocol_names_the_nearest() -> None:
    assert "modbus-rtu" in run("modbusrtu").stderr


def test_a_register_map_gives_values_beside_registers(tmp_path: Path) -> None:
    result = run("modbus-rtu", "--format", "hex", "--model", "renke_soil_7in1", data=RTU.encode())
    _, reply = lines_of(result)
    assert reply["values"] == {"soil_moisture": 49.5, "soil_temperature": 32.4, "soil_ec": 4.0}
    own = tmp_path / "mine.toml"
    own.write_text((ROOT / "drivers/models/renke_soil_7in1.toml").read_text("utf-8"), "utf-8")
    again = run("modbus-rtu", "--format", "hex", "--model", str(own), data=RTU.encode())
    assert lines_of(again)[1]["values"] == reply["values"]


@pytest.mark.parametrize("case", sorted(GOLDEN.iterdir()), ids=lambda case: case.name)
def test_every_tester_profile_decodes_its_golden_frame(case: Path) -> None:
    more = ["--settings", str(case / "device.toml")] if (case / "device.toml").is_file() else []
    result = run(case.name, str(case / "frame.hex"), "--format", "hex", *more)
    assert result.exit_code == 0, result.output
    expected = json.loads((case / "expected.json").read_text("utf-8"))
    found = lines_of(result)
    assert len(found) == len(expected)
    for line, wanted in zip(found, expected, strict=True):
        record = line["record"]
        assert isinstance(record, dict)
        for key in ("sample_no", "product_name", "parameter", "tested_at"):
            if wanted.get(key):
                assert record[key] == wanted[key]


def test_a_family_with_numbered_items_decodes_without_settings() -> None:
    result = run("dy3000", str(GOLDEN / "dy3000/frame.hex"), "--format", "hex")
    assert result.exit_code == 0
    (line,) = lines_of(result)[:1]
    assert "item" in str(line["record"])


def test_text_is_put_into_the_instruments_character_set() -> None:
    slip = "样品编号：0017\n样品名称：韭菜\n检测项目：农药残留\n抑制率：63.2 %\n结论：阳性\n\n"
    typed = run("slip", "--format", "text", data=slip.encode())
    printed = run("slip", data=slip.encode("gbk"))
    assert typed.exit_code == printed.exit_code == 0
    (line,) = lines_of(typed)
    record = line["record"]
    assert isinstance(record, dict)
    assert (record["sample_no"], record["product_name"]) == ("0017", "韭菜")
    (other,) = lines_of(printed)
    assert isinstance(other["record"], dict)
    assert other["record"]["value"] == record["value"]


def test_a_broken_tester_frame_is_bad_with_its_place() -> None:
    frame = bytearray.fromhex((GOLDEN / "lz4000t/frame.hex").read_text())
    good = bytes(frame)
    frame[-2] ^= 1
    result = run("lz4000t", data=good + bytes(frame) + good)
    assert result.exit_code == 1
    found = lines_of(result)
    assert [line["good"] for line in found] == [True, False, True]
    assert [line["offset"] for line in found] == [0, len(good), 2 * len(good)]
    assert found[1]["error"]


def test_bytes_without_any_record_are_bad() -> None:
    result = run("slip", data=b"\x00\x01 nothing of ours \n")
    assert result.exit_code == 1
    (line,) = lines_of(result)
    assert line["bytes"]


def test_nothing_is_all_good() -> None:
    result = run("modbus-rtu")
    assert (result.exit_code, result.output) == (0, "")


def test_hex_says_which_word_is_no_bytes_and_takes_the_rest() -> None:
    result = run("modbus-rtu", "--format", "hex", data=b"0x01 03 00 00 zz 00 03 05 CB # 44\n7")
    assert result.exit_code == 1
    faults = [line for line in lines_of(result) if "fault_at" in line and "offset" not in line]
    assert [(line["text"], line["fault_at"]) for line in faults] == [("zz", 14), ("7", 34)]
    assert any(line.get("kind") == "request" for line in lines_of(result))


def joined(source: HexInput | LogInput, data: bytes, cuts: list[int]) -> tuple[bytes, list[str]]:
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    parts = []
    for start, end in itertools.pairwise(edges):
        parts += source.feed(data[start:end])
    parts += source.end()
    said = b"".join(part for part in parts if isinstance(part, bytes))
    return said, [f"{part.at} {part.text}" for part in parts if isinstance(part, NotBytes)]


@given(
    data=st.lists(
        st.sampled_from([b"01", b" ", b"\n", b"#", b"0x3F", b"zz", b"7", b"[05]", b","]),
        max_size=20,
    ).map(b"".join),
    cuts=st.lists(st.integers(0, 40), max_size=4),
)
@settings(deadline=None)
def test_hex_says_the_same_however_the_file_is_cut(data: bytes, cuts: list[int]) -> None:
    assert joined(HexInput(), data, cuts) == joined(HexInput(), data, [])
    assert joined(LogInput(), data, cuts) == joined(LogInput(), data, [])


def test_a_line_without_an_end_is_cut_between_pairs() -> None:
    said, faults = joined(HexInput(), b"ab" * 50_000, list(range(0, 100_000, 777)))
    assert (said, faults) == (b"\xab" * 50_000, [])


def test_times_and_addresses_of_a_log_are_no_bytes() -> None:
    log = b"2026-11-02 08:30:12 10.0.0.5 TX: 01-03-00-00-00-03-05-CB len 8\n08:30:12.123 nothing\n"
    assert joined(LogInput(), log, [])[0] == bytes.fromhex(RTU.split("\n", maxsplit=1)[0])


@pytest.mark.parametrize("name", PROTOCOLS)
@given(data=st.binary(max_size=200), form=st.sampled_from(["raw", "hex", "text"]))
@settings(max_examples=40, deadline=None)
def test_no_input_raises(name: str, data: bytes, form: str) -> None:
    opened = decode.open_protocol(name, now_ms=NOW_MS)
    for good, line in decode.decode(opened, form, [data[:50], data[50:]]):  # type: ignore[arg-type]
        said = json.loads(line)
        assert said["good"] is good
        assert good or said["error"]


@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.iterdir()))
@given(at=st.integers(0, 10_000), byte=st.integers(0, 255), cut=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_no_damaged_frame_raises(name: str, at: int, byte: int, cut: int) -> None:
    data = bytearray.fromhex((GOLDEN / name / "frame.hex").read_text())
    data[at % len(data)] = byte
    del data[: cut % len(data)]
    opened = decode.open_protocol(name, now_ms=NOW_MS)
    for _, line in decode.decode(opened, "raw", [bytes(data)]):
        json.loads(line)


def test_a_model_belongs_to_modbus_and_settings_to_testers() -> None:
    with pytest.raises(ConfigError, match="rapid tester"):
        decode.open_protocol("modbus-rtu", settings={"items": {}}, now_ms=NOW_MS)


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("modbus-rtu", bytes.fromhex("01030601EF01440004B559") * 500),
        ("slip", "样品编号：0017\n抑制率：63.2 %\n\n".encode("gbk") * 200),
        ("dy6260", b'{"detail":[' + b"[" * 4000),
    ],
)
def test_a_long_stream_needs_little_memory(name: str, block: bytes, tmp_path: Path) -> None:
    stream_is_bounded(name, block, 2, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_100_mb_need_little_memory(tmp_path: Path) -> None:
    stream_is_bounded("modbus-rtu", bytes.fromhex("01030601EF01440004B559") * 500, 100, tmp_path)


def stream_is_bounded(name: str, block: bytes, megabytes: int, tmp_path: Path) -> None:
    """Pipe ``megabytes`` through the command; its peak memory stays within 16 MB of a short run's."""

    def peak_kb(times: int) -> int:
        script = (
            "import resource, sys; from click.testing import CliRunner\n"
            "from gateway.decode_cli import decode\n"
            "try: decode.main(sys.argv[1:])\n"
            "except SystemExit: pass\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)\n"
        )
        said = tmp_path / "said"
        with said.open("wb") as errors:
            child = subprocess.Popen(
                [sys.executable, "-c", script, name],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
            assert child.stdin is not None
            for _ in range(times):
                child.stdin.write(block)
            child.stdin.close()
            child.wait()
        return int(said.read_text().splitlines()[-1])

    assert peak_kb(megabytes * 2**20 // len(block)) - peak_kb(1) < 16 * 1024
