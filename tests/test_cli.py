"""The command line: ``agrigate judge`` at the boundaries, help, what a missing extra says."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import agrigate

REPO = Path(__file__).parents[1]


def judge(*lines: dict | str) -> list[dict]:
    text = "\n".join(x if isinstance(x, str) else json.dumps(x, ensure_ascii=False) for x in lines)
    done = CliRunner().invoke(agrigate.main, ["judge"], input=text.encode())
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout_bytes.splitlines()]


def cadmium(value: float | str, **context) -> str:
    """A line with the number as it is written here."""
    line = {
        "id": 1,
        "kind": "reading",
        "indicator": "soil_cd",
        "unit": "mg/kg",
        "at": "2026-05-01",
        "context": {"land_use": "paddy", **context},
    }
    return json.dumps(line)[:-1] + f', "value": {value}}}'


# GB 15618-2018 Table 1, cadmium, screening value in mg/kg: pH ≤ 5.5, 5.5–6.5, 6.5–7.5, > 7.5
@pytest.mark.parametrize(
    ("land_use", "ph", "limit"),
    [
        ("paddy", 5.5, 0.3),
        ("paddy", 5.51, 0.4),
        ("paddy", 6.5, 0.4),
        ("paddy", 6.51, 0.6),
        ("paddy", 7.5, 0.6),
        ("paddy", 7.51, 0.8),
        ("other", 5.5, 0.3),
        ("other", 5.51, 0.3),
        ("other", 6.5, 0.3),
        ("other", 7.5, 0.3),
        ("other", 7.51, 0.6),
    ],
)
def test_the_ph_band_picks_the_screening_value(land_use, ph, limit):
    at, over = judge(
        cadmium(limit, ph=ph, land_use=land_use),
        cadmium(f"{limit}00001", ph=ph, land_use=land_use),
    )
    assert (at["verdict"], over["verdict"]) == ("pass", "exceed")
    [finding] = [f for f in at["findings"] if f["level"] == "screening"]
    assert finding["limit"] == limit
    assert finding["standard"] == "GB 15618-2018"
    assert finding["exceeded"] is False
    assert finding["conditions"]["ph"] == ph
    assert over["findings"][0]["clause"]


def test_three_times_a_tenth_is_no_more_than_three_tenths():
    assert judge(cadmium(3 * 0.1, ph=5.0))[0]["verdict"] == "pass"
    [micro] = judge(cadmium(300, ph=5.0).replace("mg/kg", "ug/kg"))
    assert micro["verdict"] == "pass"


def test_without_a_ph_it_is_undetermined_and_says_what_is_missing():
    [reply] = judge(cadmium(0.45))
    assert reply["verdict"] == "undetermined"
    assert "ph" in reply["reason"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"indicator": "soil_cdd"}, "soil_cd"),
        ({"unit": "furlong"}, "furlong"),
        ({"unit": "Cel"}, "Cel"),
    ],
)
def test_an_unknown_indicator_or_unit_is_named(change, said):
    [reply] = judge({**json.loads(cadmium(0.1, ph=6.0)), **change})
    assert reply["verdict"] == "undetermined"
    assert said in reply["reason"]


def inhibition(value: str, **change) -> dict:
    return {
        "id": "t",
        "kind": "test",
        "tested_at": "2026-05-01T08:00:00+08:00",
        "product_name": "韭菜",
        "parameter": "op_carbamate_inhibition",
        "method": "enzyme_inhibition",
        "method_standard": "GB/T 5009.199-2003",
        "result_kind": "inhibition",
        "value": value,
        "unit": "%",
        **change,
    }


@pytest.mark.parametrize(
    ("value", "verdict"),
    [("49.96", "pass"), ("49.99", "pass"), ("50.0", "suspect"), ("50", "suspect")],
)
def test_inhibition_is_suspect_from_the_cut_off_on(value, verdict):
    [reply] = judge(inhibition(value))
    assert reply["verdict"] == verdict, reply
    assert reply["findings"][0]["limit"] == 50


def test_an_unknown_substance_is_undetermined_and_named():
    [reply] = judge(
        inhibition(
            "0.5", parameter="unobtainium", method="gc_ms", result_kind="quantitative", unit="mg/kg"
        )
    )
    assert reply["verdict"] == "undetermined"
    assert "unobtainium" in reply["reason"]


def test_a_line_that_cannot_be_read_is_answered_in_its_place():
    replies = judge(cadmium(0.1, ph=6.0), "{oops", {"id": 3, "kind": "dance"}, cadmium(0.1, ph=6.0))
    assert [reply["verdict"] for reply in replies] == ["pass", "invalid", "invalid", "pass"]
    assert "line 2" in replies[1]["reason"]
    assert replies[2]["id"] == 3


def test_it_reads_a_file_and_keeps_the_order(tmp_path):
    file = tmp_path / "lines.jsonl"
    lines = [{**json.loads(cadmium(0.1, ph=6.0)), "id": n} for n in range(50)]
    file.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    done = CliRunner().invoke(agrigate.main, ["judge", str(file)])
    assert [json.loads(line)["id"] for line in done.stdout_bytes.splitlines()] == list(range(50))
    missing = CliRunner().invoke(agrigate.main, ["judge", str(tmp_path / "none")])
    assert missing.exit_code == 2
    assert "none" in missing.stderr


# ---- help, extras


def test_help_names_every_command_and_imports_none_of_them():
    code = (
        "import sys; sys.argv = ['agrigate', '--help']; import agrigate\n"
        "try: agrigate.main()\n"
        "finally: print(sorted({m.partition('.')[0] for m in sys.modules}"
        " & {'gateway', 'ingest', 'alerts', 'dashboards', 'demo', 'numpy', 'fastapi'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("[]\n")
    for name in ("demo", "edge", "judge", "rejudge", "serve", "standards", "station"):
        assert f"\n  {name} " in done.stdout


def test_every_command_says_what_the_list_says_of_it():
    for name, said in agrigate.Commands.SAYS.items():
        command = agrigate.main.get_command(click.Context(agrigate.main), name)
        assert command is not None
        assert command.help
        done = CliRunner().invoke(agrigate.main, [name, "--help"])
        assert done.exit_code == 0
        assert said.partition(" ")[0] in command.help or ":" in said
    assert (
        set(agrigate.Commands.SAYS)
        == set(agrigate.Commands.COMMANDS)
        == set(agrigate.Commands.EXTRA)
    )


@pytest.mark.parametrize("name", sorted(agrigate.Commands.COMMANDS))
def test_a_missing_extra_is_named(monkeypatch, name):
    def missing(module: str) -> None:
        raise ModuleNotFoundError(f"No module named {module!r}", name="some_library")

    monkeypatch.setattr(importlib, "import_module", missing)
    done = CliRunner().invoke(agrigate.main, [name])
    assert done.exit_code == 1
    extra = agrigate.Commands.EXTRA[name]
    assert f"agrigate {name} needs some_library: install agrigate[{extra}]" in done.stderr
    assert CliRunner().invoke(agrigate.main, ["--help"]).exit_code == 0


def test_an_unknown_command_is_a_usage_error():
    done = CliRunner().invoke(agrigate.main, ["dance"])
    assert done.exit_code == 2
    assert "dance" in done.stderr


# ---- station


def test_a_server_that_does_not_run_is_said():
    done = CliRunner().invoke(agrigate.main, ["station", "--url", "http://127.0.0.1:1", "list"])
    assert done.exit_code == 1
    assert "does the server run?" in done.stderr
    assert "Traceback" not in done.output


def test_a_key_file_that_is_not_there_is_named(tmp_path):
    file = tmp_path / "none"
    done = CliRunner().invoke(agrigate.main, ["station", "--key-file", str(file), "approve", "x"])
    assert done.exit_code == 1
    assert str(file) in done.stderr


def test_a_countys_own_tables_are_judged_by(tmp_path):
    columns = (
        "site_standard,clause_zh,clause_en,level,indicator,conditions,plot,comparator,limit,unit,averaging,"
        "effective_from,effective_to,approved_by,note,source,confidence"
    )
    row = "HL-01,内控,in-house,screening,soil_cd,,,>,0.1,mg/kg,,2026-01-01,,,,county,confirmed"
    (tmp_path / "site_limits.csv").write_text(f"{columns}\n{row}\n", encoding="utf-8")
    line = cadmium(0.2, ph=6.0).encode()
    done = CliRunner().invoke(agrigate.main, ["judge", "--standards", str(tmp_path)], input=line)
    assert done.exit_code == 0, done.output
    reply = json.loads(done.stdout)
    assert reply["verdict"] == "exceed"
    assert [f["standard"] for f in reply["findings"] if f["exceeded"]] == ["HL-01"]
    (tmp_path / "site_limits.csv").write_text(f"{columns}\n{row}\n{row}\n", encoding="utf-8")
    done = CliRunner().invoke(agrigate.main, ["judge", "--standards", str(tmp_path)], input=line)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "site_limits.csv:3: repeats line 2\n"


# ---- standards, rejudge


@pytest.mark.parametrize(
    "words", [["list"], ["show", "镉"], ["check"], ["diff", "shipped", "shipped"]]
)
def test_standards_answer_without_a_server(words):
    done = CliRunner().invoke(agrigate.main, ["standards", *words])
    assert done.exit_code == 0, done.output
    assert done.stdout
    assert "Traceback" not in done.output


def test_rejudge_without_a_period_or_a_configuration_is_a_usage_error(tmp_path):
    done = CliRunner().invoke(agrigate.main, ["rejudge"])
    assert done.exit_code == 2
    assert "--from" in done.stderr
    file = tmp_path / "none.toml"
    period = ["--from", "2026-05-01", "--to", "2026-05-02"]
    done = CliRunner().invoke(agrigate.main, ["rejudge", "-c", str(file), *period])
    assert done.exit_code == 2
    assert str(file) in done.stderr
