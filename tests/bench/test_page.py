from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from bench import page
from bench.__main__ import main
from bench.budgets import BUDGETS, Budget
from bench.kept import Result, load_results

if TYPE_CHECKING:
    from pathlib import Path

KEPT = [row for row in BUDGETS if row.file in load_results()]


def test_the_page_is_what_the_kept_results_say() -> None:
    assert page.PAGE.read_text("utf-8") == page.render(load_results()), "run: python -m bench page"


def test_the_command_writes_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "PAGE", tmp_path / "benchmarks.md")
    result = CliRunner().invoke(main, ["page"])
    assert result.exit_code == 0, result.output
    assert page.PAGE.read_text("utf-8") == page.render(load_results())


def test_what_has_no_result_says_so_and_shows_no_number() -> None:
    text = page.render({})
    assert text.count("| no result | – |") == len(BUDGETS)
    for row in BUDGETS:
        section = text.partition(f"## {row.title[0].upper()}{row.title[1:]}\n\n")[2]
        made_by = f"`{row.command}` makes one." if row.command else "No benchmark makes one yet."
        assert section.startswith(f"No result is kept. {made_by}\n")
    assert "`telegraf`, and the comparison" in text
    assert "reached" not in text
    assert "mermaid" not in text


def test_results_of_quick_runs_are_not_on_the_page() -> None:
    assert {"link", "judge"} <= set(load_results())
    assert not [name for name in load_results() if name.endswith("quick")]


@pytest.mark.parametrize("row", KEPT, ids=lambda row: row.title)
def test_a_kept_result_has_all_that_its_row_shows(row: Budget) -> None:
    result = load_results()[row.file]
    for part in (row.measured, row.spread, row.takes):
        assert part(result)
    must, aim = row.met(result)
    assert must or not aim


def link(rate: int) -> Result:
    runs = [
        {
            "readings_per_s": rate,
            "seconds": 2.0,
            "cpu_s": {"server": 2e-6 * 2 * rate, "broker": 1e-6 * 2 * rate},
        }
    ] * 3
    spread = {"readings_per_s_min": rate - 1, "readings_per_s_max": rate + 1}
    values = {"what": "w", "readings_per_s": rate, **spread, "runs": runs, "load_before": 0.5}
    return Result("link", {**values, "load_after": 1.5, "machine": {"cpu": "c", "cores": 2}})


def test_a_row_is_held_against_must_and_aim() -> None:
    short = page.render({"link": link(299_999)})
    assert "| 299,999 readings/s | **not reached** |" in short
    assert "To reach the must: a reading takes 3.0 µs" in short
    assert (
        "(server 2.00, broker 1.00 µs). Two cores that are never idle give 666,667 a second"
        in short
    )
    assert "n = 3, 299,998 to 300,000" in short
    assert "load 0.5 before, 1.5 after; machine 1" in short
    enough = page.render({"link": link(300_000)})
    assert "| 300,000 readings/s | must reached |" in enough
    assert "To reach the aim" in enough
    plenty = page.render({"link": link(1_000_000)})
    assert "aim reached |" in plenty
    assert "To reach" not in plenty


def test_curves_are_drawn_from_the_result(tmp_path: Path) -> None:
    def point(series: int, pack: int, rate: int) -> dict[str, object]:
        rates = ("readings_per_s", "first_us_per_series", "rss_mb", "peak_mb")
        return {
            "series": series,
            "pack": pack,
            "readings_per_cpu_s": [rate, rate - 7, rate + 7],
            **{name: [3, 2, 4] for name in rates},
            "us_per_reading": {"decode": 1.0, "judge": 3.0},
        }

    values = {
        "what": "w",
        "n": 3,
        "by_series": [point(1000, 100, 300_000), point(100_000, 100, 250_000)],
        "by_pack": [point(1000, 1, 5000), point(1000, 1000, 310_000)],
        "floors": {"decode_only_per_cpu_s": [9, 8, 10], "influxdb_skipped": "influxd is not there"},
        "notes": ["a note"],
    }
    (tmp_path / "scaling.json").write_text(json.dumps(values), "utf-8")
    text = page.render(load_results(tmp_path))
    assert 'x-axis ["1,000", "100,000"]' in text
    assert "line [300000, 250000]" in text
    assert 'x-axis ["1", "1,000"]' in text
    assert "bar [5000, 310000]" in text
    assert "| 100,000 | 250,000 (249,993 to 250,007) |" in text
    assert "nothing else; per processor second | 9 (8 to 10) |" in text
    assert "influxd is not there." in text
    assert "| judge | 3.00 | 75% |" in text
    assert "- a note" in text


def test_a_profile_is_shown_by_thread_and_stage() -> None:
    kept = {
        "what": "the link",
        "notes": ["what it would take"],
        "threads": {"intake": {"inbox commit": 1.0}, "judge": {"decode": 2.98, "order": 0.02}},
    }
    text = page.render({"profile": Result("profile", kept)})
    assert "| intake | inbox commit | 1.00 | 25% |" in text
    assert "| judge | decode | 2.98 | 74% |" in text
    assert "| judge | order | 0.02 | 0% |" in text
    assert "the link. load" in text
    assert "- what it would take" in text
