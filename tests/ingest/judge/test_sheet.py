"""The sheet: verdicts argued one by one from the standards' text and the rules for rapid tests, not from our loader.

A line of ``sheet/*.jsonl`` is one case: ``why`` is the argument; ``reading`` is [indicator, value, unit, time,
context], ``test`` a test record, ``class`` the items of a surface water; ``cites`` are citations (in part) that must be
among the findings, ``findings`` their number.
"""

import json
from pathlib import Path

import pytest

from ingest.judge.catalogue.catalogue import standard_catalogue
from ingest.judge.lines import judge_lines
from ingest.judge.readings.surface import surface_class

SHEET = Path(__file__).parent / "sheet"
CASES = [
    json.loads(line)
    for path in sorted(SHEET.glob("*.jsonl"))
    for line in path.read_text("utf-8").splitlines()
]
AT_MS = 1_777_564_800_000  # 2026-05-01 in China


def line_of(case):
    if "test" in case:
        return {"id": 1, "kind": "test", **case["test"]}
    indicator, value, unit, at, context = case["reading"]
    return {
        "id": 1, "kind": "reading", "indicator": indicator, "value": value,
        "unit": unit, "at": at, "context": context,
    }  # fmt: skip


def holds(part, citation):
    return all(citation[key] == value for key, value in part.items())


def test_the_sheet_is_long_enough_and_every_case_is_argued_once():
    assert len(CASES) >= 100
    assert len({case["case"] for case in CASES}) == len(CASES)
    assert all(case["why"].endswith(".") for case in CASES)


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case["case"]) for case in CASES if "class" not in case]
)
def test_verdict(case):
    (raw,) = judge_lines([json.dumps(line_of(case), ensure_ascii=False).encode()])
    reply = json.loads(raw)
    told = f"{case['why']}\n{json.dumps(reply, ensure_ascii=False, indent=1)}"
    if "verdict" in case:
        assert reply["verdict"] == case["verdict"], told
    assert reply["verdict"] not in case.get("verdict_not", ()), told
    if "severity" in case:
        assert reply["severity"] == case["severity"], told
    for part in case.get("cites", ()):
        assert any(holds(part, citation) for citation in reply["findings"]), (part, told)
    if "findings" in case:
        assert len(reply["findings"]) == case["findings"], told
    assert set(case.get("flags", ())) <= set(reply["flags"]), told
    for word in case.get("reason", ()):
        assert word in reply["reason"], told
    if reply["verdict"] not in ("pass", "exceed"):
        assert " | " in reply["reason"], told  # why, in Chinese and English


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case["case"]) for case in CASES if "class" in case]
)
def test_class_of_a_surface_water(case):
    items = case["class"]
    name, worst = surface_class(standard_catalogue(), items["values"], items["water_body"], AT_MS)
    expected, expected_worst = case["is"]
    assert name == expected, case["why"]
    if expected_worst is not None:
        assert list(worst) == expected_worst, case["why"]
