"""``docs/benchmarks.md``, written from ``bench/results``: every number there comes from a file here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.budgets import BUDGETS, NO_AIM
from bench.kept import load_results
from bench.markdown import chart, million, num, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.budgets import Budget
    from bench.kept import Result

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
NO_RESULT = "no result"
HEAD = """\
# Benchmarks

Written by `python -m bench page` from the files in `bench/results`. A number that is not in them is not here.
[bench/README.md](../bench/README.md) says what each benchmark does and how to run it: with the real parts, on loopback.

*Must* and *aim* are budgets for two cores. Absolute numbers hold for the machine named with them, and for how busy it
was: *load* is the one-minute load average before and after, the benchmark's own work included.
"""


def write() -> None:
    """Write the page."""
    PAGE.write_text(render(load_results()), "utf-8")


def render(results: dict[str, Result]) -> str:
    """Return the page."""
    machines = _Machines()
    parts = [
        HEAD,
        _overview(results),
        *(_budget(row, results.get(row.file), machines) for row in BUDGETS),
        _peers(results.get("edge_peers"), machines),
        _ioos(results.get("judge")),
        _scaling(results.get("scaling"), machines),
        _where(results, machines),
        _telegraf(results.get("telegraf"), machines),
        machines.section(),
    ]
    return "\n".join(part for part in parts if part)


# ---- what is said of every result


class _Machines:
    """Numbers for the machines and versions that results come from, so that each is printed once."""

    def __init__(self) -> None:
        self._seen: list[dict[str, object]] = []

    def number(self, result: Result) -> int:
        """Return the number of the machine of ``result``, from 1."""
        machine = result.table("machine")
        if machine not in self._seen:
            self._seen.append(machine)
        return self._seen.index(machine) + 1

    def section(self) -> str:
        """Return what each number stands for."""
        lines = ["## Machines and versions", ""]
        for number, machine in enumerate(self._seen, start=1):
            first = (
                f"{machine.get('cpu')}, {machine.get('cores')} cores, {machine.get('memory_mb')} MB"
            )
            rest = [
                f"{name} {version}"
                for name, version in machine.items()
                if name not in {"cpu", "cores", "memory_mb", "system"} and version
            ]
            lines.append(f"{number}. {first}, {machine.get('system')}; {', '.join(rest)}")
        return "\n".join(lines) + "\n"


def _made(result: Result, command: str, spread: str, machines: _Machines) -> str:
    """Return how a result was made."""
    took = result.get("took_s")
    said = [
        f"{result.text('what')}.",
        f"`{command}`" if command else "",
        spread,
        f"load {result.get('load_before')} before, {result.get('load_after')} after",
        f"machine {machines.number(result)}",
    ]
    if isinstance(took, int | float):
        said.append(f"took {took:,.0f} s")
    return f"{said[0]} {'; '.join(part for part in said[1:] if part)}."


def _overview(results: dict[str, Result]) -> str:
    lines = ["| | must | aim | measured | |", "|---|---|---|---|---|"]
    for row in BUDGETS:
        result = results.get(row.file)
        measured = NO_RESULT if result is None else row.measured(result)
        reached = "–" if result is None else _verdict(row, result)
        lines.append(f"| {row.title} | {row.must} | {row.aim} | {measured} | {reached} |")
    return "\n".join(lines) + "\n"


def _verdict(row: Budget, result: Result) -> str:
    must, aim = row.met(result)
    if aim and row.aim != NO_AIM:
        return "aim reached"
    return "must reached" if must else "**not reached**"


def _budget(row: Budget, result: Result | None, machines: _Machines) -> str:
    lines = [f"## {row.title[0].upper()}{row.title[1:]}", ""]
    if result is None:
        made_by = f"`{row.command}` makes one." if row.command else "No benchmark makes one yet."
        lines.append(f"No result is kept. {made_by}")
        return "\n".join(lines) + "\n"
    must, aim = row.met(result)
    lines += [
        f"**{row.measured(result)}**: {_verdict(row, result).strip('*')}. Must: {row.must}. Aim: {row.aim}.",
        "",
        _made(result, row.command, row.spread(result), machines),
    ]
    if not aim:
        lines += ["", f"To reach the {'aim' if must else 'must'}: {row.takes(result)}"]
    lines += _notes(result)
    if more := row.more(result):
        lines += ["", more.rstrip()]
    return "\n".join(lines) + "\n"


def _notes(result: Result) -> list[str]:
    """Return what a result says of itself, as a list."""
    notes = result.get("notes")
    held = [notes] if isinstance(notes, str) else notes if isinstance(notes, list) else []
    return ["", *(f"- {note}" for note in held)] if held else []


# ---- the other sections


def _peers(result: Result | None, machines: _Machines) -> str:
    lines = ["## The agent beside thingsboard-gateway", ""]
    command = "python -m bench.edge_peers --devices 100 --window 30"
    if result is None:
        return "\n".join([*lines, f"No result is kept. `{command}` makes one.", ""])
    rows = [
        [
            shown,
            num(result.number(f"{who}.requests_per_s")),
            f"{result.number(f'{who}.missed_polls'):.0f} of {result.number(f'{who}.due'):.0f}",
            f"{result.number(f'{who}.p50_lateness_ms'):.1f} / {result.number(f'{who}.p99_lateness_ms'):.1f} ms",
            f"{result.number(f'{who}.cpu_share'):.2f}",
            f"{result.number(f'{who}.rss_mb'):.0f} MB",
        ]
        for who, shown in (
            ("agrigate", "Agrigate, 20 values"),
            ("thingsboard_values", "thingsboard-gateway, 20 values"),
            ("thingsboard_one_block", "thingsboard-gateway, one raw block"),
        )
    ]
    versions = ", ".join(f"{name} {v}" for name, v in result.table("peer_versions").items())
    head = ["", "requests/s", "missed polls", "lateness p50 / p99", "cores", "memory"]
    return "\n".join(
        [
            *lines,
            _made(result, command, f"one run each; {versions}", machines),
            "",
            table(head, rows),
            "",
            "What each does and does not do for it: [tools.md](tools.md#beside-thingsboards-gateway).",
            "",
        ]
    )


def _ioos(result: Result | None) -> str:
    beside = {} if result is None else result.table("beside_ioos_qc")
    lines = ["## Quality tests beside ioos_qc", ""]
    if result is None or "runs" not in beside:
        return "\n".join(
            [*lines, "No result is kept. `python -m bench judge --save` makes one.", ""]
        )
    rows = []
    for kind in ("one_series", "many_series"):
        at = f"beside_ioos_qc.{kind}"
        for test in ("range", "spike", "rate_of_change", "flat_line"):
            ours, theirs = (
                result.numbers(f"{at}.{test}.{who}_readings_per_s") for who in ("ours", "ioos_qc")
            )
            rows.append(
                [
                    num(result.number(f"{at}.series")),
                    test.replace("_", " "),
                    *(
                        f"{million(middle)} ({million(least)} to {million(most)})"
                        for middle, least, most in (ours, theirs)
                    ),
                    f"{result.number(f'{at}.{test}.ratio'):g}",
                    " / ".join(
                        num(result.number(f"{at}.{test}.flagged_by_{who}"))
                        for who in ("ours", "ioos_qc")
                    ),
                ]
            )
    versions = ", ".join(
        f"{name} {v}" for name, v in result.table("beside_ioos_qc.versions").items()
    )
    return "\n".join(
        [
            *lines,
            f"Readings a second on the same {num(result.number('beside_ioos_qc.one_series.readings'))} readings,"
            f" n = {beside['runs']}, median (least to most); {versions}. Ours does all tests at once, ioos_qc the one.",
            "",
            table(["series", "test", "ours", "ioos_qc", "ours ÷ theirs", "flagged by each"], rows),
            "",
        ]
    )


def _scaling(result: Result | None, machines: _Machines) -> str:
    command = "python -m bench scaling --save"
    lines = ["## Cost by number of series and by size of pack", ""]
    if result is None:
        lines.append(f"No result is kept. `{command}` makes one.")
        lines += ["", "## Floors", "", f"No result is kept. `{command}` makes one.", ""]
        return "\n".join(lines)
    series, packs = result.rows("by_series"), result.rows("by_pack")
    n = f"n = {result.number('n'):.0f} processes each, median (least to most)"
    by_series = [num(one.number("series")) for one in series]
    by_pack = [num(one.number("pack")) for one in packs]
    lines += [
        _made(result, command, n, machines),
        *_notes(result),
        "",
        _curve("series", by_series, series),
        "",
        chart(
            "By number of series, packs of 100 readings",
            by_series,
            "readings per processor second",
            [one.numbers("readings_per_cpu_s")[0] for one in series],
            kind="line",
        ),
        "",
        chart(
            "Memory by number of series",
            by_series,
            "MB at the end",
            [one.numbers("rss_mb")[0] for one in series],
            kind="line",
        ),
        "",
        _curve("readings in a pack", by_pack, packs),
        "",
        chart(
            f"By readings in a pack, {num(packs[0].number('series'))} series",
            by_pack,
            "readings per processor second",
            [one.numbers("readings_per_cpu_s")[0] for one in packs],
            kind="bar",
        ),
        "",
        *_floors(result),
    ]
    return "\n".join(lines)


def _span(values: Sequence[float]) -> str:
    middle, least, most = values
    return f"{num(middle)} ({num(least)} to {num(most)})"


def _curve(what: str, names: Sequence[str], points: Sequence[Result]) -> str:
    columns = {
        "readings per processor second": "readings_per_cpu_s",
        "readings/s": "readings_per_s",
        "µs a new series": "first_us_per_series",
        "memory, MB": "rss_mb",
    }
    rows = [
        [name, *(_span(point.numbers(key)) for key in columns.values())]
        for name, point in zip(names, points, strict=True)
    ]
    return table([what, *columns], rows)


FLOORS = {
    "decode_only_per_cpu_s": "decoding packs of 100, nothing else; per processor second",
    "duckdb_at_once_per_cpu_s": "columns into DuckDB in one commit; per processor second",
    "duckdb_by_commits_per_cpu_s": "columns into DuckDB, 6,400 rows a commit; per processor second",
    "influxdb_lines_per_s": "lines made before into influxd, four connections; per second",
    "influxdb_lines_per_server_cpu_s": "the same; per processor second of influxd",
}


def _floors(result: Result) -> list[str]:
    rows = [
        [shown, _span(values)]
        for name, shown in FLOORS.items()
        if (values := result.numbers(f"floors.{name}"))
    ]
    whole = result.rows("by_series")[0]
    rows.append(
        [
            f"the whole path above, {num(whole.number('series'))} series; per processor second",
            _span(whole.numbers("readings_per_cpu_s")),
        ]
    )
    lines = ["## Floors", "", "In the same run, on the same machine: no path can be cheaper.", ""]
    lines.append(table(["floor", "readings"], rows))
    if skipped := result.text("floors.influxdb_skipped"):
        lines += ["", f"{skipped}."]
    return [*lines, ""]


def _where(results: dict[str, Result], machines: _Machines) -> str:
    lines = ["## Where the time goes", ""]
    link, scaling = results.get("link"), results.get("scaling")
    kept = results.get("profile") or link
    threads = {} if kept is None else kept.table("profile.threads") or kept.table("threads")
    if kept is not None and threads:
        stages = [
            (thread, str(stage), float(str(seconds)))
            for thread, held in threads.items()
            if isinstance(held, dict)
            for stage, seconds in held.items()
        ]
        whole = sum(seconds for _, _, seconds in stages)
        if kept is not link:
            lines += [_made(kept, kept.text("command"), "", machines), *_notes(kept), ""]
        lines += [
            "Processor seconds of the server by thread and stage, by each thread's own clock, the link at full rate:",
            "",
            table(
                ["thread", "stage", "s", "share"],
                (
                    [thread, stage, f"{seconds:.2f}", f"{seconds / whole:.0%}"]
                    for thread, stage, seconds in stages
                    if seconds >= 0.005 * whole
                ),
            ),
            "",
        ]
    else:
        lines += ["No profile of the live link is kept.", ""]
    if scaling is not None:
        one = scaling.rows("by_series")[0]
        us = {name: float(str(value)) for name, value in one.table("us_per_reading").items()}
        lines += [
            f"Without the broker ({num(one.number('series'))} series, packs of {num(one.number('pack'))}), medians:",
            "",
            table(
                ["stage", "µs a reading", "share"],
                (
                    [name, f"{value:.2f}", f"{value / sum(us.values()):.0%}"]
                    for name, value in us.items()
                ),
            ),
            "",
        ]
    return "\n".join(lines)


def _telegraf(result: Result | None, machines: _Machines) -> str:
    command = "python -m bench.telegraf --save"
    lines = ["## Beside Telegraf", ""]
    if result is None:
        said = (
            f"No result: where the results were made there is no `telegraf`, and the comparison (`{command}`) has never"
            " been run with one. Our half is tested, and that its configuration is TOML; that Telegraf takes it is not."
        )
        return "\n".join([*lines, said, ""])
    rows = [
        [
            who,
            *(
                _span(result.numbers(f"{key}.{column}"))
                for column in ("readings_per_s", "readings_per_cpu_s", "rss_mb")
            ),
        ]
        for key, who in (("agrigate", "Agrigate"), ("telegraf", result.text("telegraf_version")))
    ]
    return "\n".join(
        [
            *lines,
            _made(result, command, f"n = {result.number('n'):.0f}", machines),
            "Ours keeps every message in its inbox and judges it; Telegraf does neither.",
            "",
            table(["", "readings/s", "readings per processor second", "memory, MB"], rows),
            "",
        ]
    )
