"""``python -m bench``: run the benchmarks, keep or compare their results."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench import edge, influx, judge, latency, link, outage, page, scaling, storm, year
from bench.machine import load, machine
from bench.processes import BenchError

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = Path(__file__).with_name("results")
WORSE_AT_MOST = 0.30
PAGE = "page"  # no benchmark: what is kept, written up
BENCHES: dict[str, Callable[..., dict[str, object]]] = {
    "link": link.measure,
    "influx": influx.measure,
    "judge": judge.measure,
    "scaling": scaling.measure,
    "edge": edge.measure,
    "latency": latency.measure,
    "outage": outage.measure,
    "year": year.measure,
    "storm": storm.measure,
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice([*BENCHES, PAGE]))
@click.option("--quick", is_flag=True, help="Small sizes, less than a minute in all.")
@click.option("--check", is_flag=True, help="Compare ratios with the kept results; keep nothing.")
@click.option("--series", type=click.IntRange(1), help="Of year: how many series; 20,000.")
@click.option("--every-minutes", type=click.IntRange(1), help="Of year: between two readings; 15.")
@click.option("--save", is_flag=True, help="Keep the results in bench/results.")
def main(
    names: tuple[str, ...],
    *,
    quick: bool,
    check: bool,
    save: bool,
    series: int | None,
    every_minutes: int | None,
) -> None:
    """Run all benchmarks, or those in NAMES; with --check, end with 1 when a ratio is 30 % worse than the kept one.

    ``page`` writes docs/benchmarks.md from the kept results, as --save does at its end.
    """
    worse: list[str] = []
    for name in [name for name in names or BENCHES if name != PAGE]:
        file = RESULTS / f"{name}{'.quick' if quick else ''}.json"
        started = time.monotonic()
        try:
            sizes = {"series": series, "every_minutes": every_minutes} if name == "year" else {}
            asked = {key: size for key, size in sizes.items() if size is not None}
            result = BENCHES[name](quick=quick, **asked)
        except BenchError as exc:
            raise click.ClickException(f"{name}: {exc}") from exc
        result = {**result, "took_s": round(time.monotonic() - started, 1), "load_after": load()}
        _table(name, result)
        if check:
            worse += _compare(name, result, file)
        if save:
            RESULTS.mkdir(exist_ok=True)
            text = json.dumps({**result, "machine": machine()}, ensure_ascii=False, indent=2)
            file.write_text(text + "\n", "utf-8")
    if save or PAGE in names:
        page.write()
    if worse:
        click.echo("\n".join(worse), err=True)
        sys.exit(1)


def _table(name: str, result: dict[str, object]) -> None:
    click.echo(f"\n{name}: {result['what']}")
    _rows("", {key: value for key, value in result.items() if key != "what"})


def _rows(prefix: str, result: dict[str, object]) -> None:
    for key, value in result.items():
        if isinstance(value, dict):
            _rows(f"{prefix}{key}.", value)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for number, run in enumerate(value, start=1):
                click.echo(f"  {prefix}{key} {number}: {json.dumps(run)}")
        else:
            shown = value if isinstance(value, int | float | str) else json.dumps(value)
            click.echo(f"  {prefix + key:<52} {shown:>14}")


def _compare(name: str, result: dict[str, object], file: Path) -> list[str]:
    """Return what is worse than kept; every ratio is better when it is greater."""
    if not file.exists():
        return [f"{name}: nothing to compare with: {file.name} is missing; run with --save"]
    kept, now = json.loads(file.read_text("utf-8"))["ratios"], result["ratios"]
    assert isinstance(now, dict)
    worse = []
    for ratio, value in kept.items():
        change = now[ratio] / value - 1
        click.echo(f"  {ratio}: {now[ratio]} against {value} kept ({change:+.0%})")
        if change < -WORSE_AT_MOST:
            worse.append(f"{name}: {ratio} is {now[ratio]}, {-change:.0%} below the kept {value}")
    return worse


if __name__ == "__main__":
    main()
