"""The budget of each number: what it must be, what it aims at, and how it is read off its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.markdown import chart, million, num, table

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.kept import Result

NO_AIM = "–"


@dataclass(frozen=True, slots=True)
class Budget:
    """A row of the budget table: ``met`` answers for must, then for aim."""

    title: str
    must: str
    aim: str
    file: str
    command: str
    measured: Callable[[Result], str]
    spread: Callable[[Result], str]
    met: Callable[[Result], tuple[bool, bool]]
    takes: Callable[[Result], str]
    more: Callable[[Result], str] = lambda _: ""


def _runs(result: Result, path: str) -> str:
    values = [run.number(path) for run in result.rows("runs")]
    return f"n = {len(values)}, {min(values):,.4g} to {max(values):,.4g}" if values else ""


def _link_spread(result: Result) -> str:
    lowest, highest = result.number("readings_per_s_min"), result.number("readings_per_s_max")
    return f"n = {len(result.rows('runs'))}, {num(lowest)} to {num(highest)}, median shown"


def _cpu_us(result: Result) -> tuple[float, str]:
    """Return processor µs a reading of all processes of the middle run, and how it divides."""
    runs = sorted(result.rows("runs"), key=lambda run: run.number("readings_per_s"))
    run = runs[len(runs) // 2]
    readings = run.number("readings_per_s") * run.number("seconds")
    parts = {name: float(str(s)) * 1e6 / readings for name, s in run.table("cpu_s").items()}
    return sum(parts.values()), ", ".join(f"{name} {us:.2f}" for name, us in parts.items())


def _link_takes(result: Result) -> str:
    whole, parts = _cpu_us(result)
    wanted = 300_000 if result.number("readings_per_s") < 300_000 else 1_000_000
    return (
        f"a reading takes {whole:.1f} µs of processor time in all processes together ({parts} µs). Two cores that are"
        f" never idle give {num(2e6 / whole)} a second; {num(wanted)} need {2e6 / wanted:.1f} µs."
        " See [where the time goes](#where-the-time-goes)."
    )


def _influx_takes(result: Result) -> str:
    whole, parts = _cpu_us(result)
    return (
        f"a reading takes {whole:.1f} µs of processor time in all processes together ({parts} µs); the loader has only"
        " influxd's part and its own. On the same cores the rest – senders, broker, receipts, inbox, decoding,"
        " judging – must become less, or get cores of its own."
    )


def _judge_spread(result: Result) -> str:
    lowest, highest = result.numbers("flags_and_limits_spread")
    n = result.get("n")
    return f"{f'n = {n}' if n else 'n not kept'}, {million(lowest)} to {million(highest)}, median shown"


def _judge_takes(result: Result) -> str:
    both, flags = (
        result.number("flags_and_limits_readings_per_s"),
        result.number("flags_readings_per_s"),
    )
    return (
        f"the quality flags alone make {million(flags)} a second and take {both / flags:.0%} of the time of both. Two"
        " gathers and two comparisons in numpy, the least that limits can be, make"
        f" {million(result.number('numpy_floor_readings_per_s'))}. What lies between are passes over memory, some for"
        " each test and its state; to have fewer, the tests would have to be one compiled loop."
    )


def _judge_met(result: Result) -> tuple[bool, bool]:
    rate = result.number("flags_and_limits_readings_per_s")
    return rate >= 20e6, rate >= 50e6


def _latency_takes(result: Result) -> str:
    return (
        "without the readings beside it the same path has p99"
        f" {num(result.number('without_load.beyond_poll_interval_p99_ms'))} ms"
        f" ({num(result.number('without_load.after_poll_p99_ms'))} ms after the poll). What the readings add is"
        " waiting: for a processor, which server, broker and senders share here, and for the batches in front. No"
        " profile tells them apart."
    )


def _latency_met(result: Result) -> tuple[bool, bool]:
    p99 = result.number("beyond_poll_interval_p99_ms")
    loaded = result.number("stored_readings_per_s") >= 49_000
    return loaded and p99 < 1000, loaded and p99 < 300


def _edge_met(result: Result) -> tuple[bool, bool]:
    whole = result.number("missed_polls") == 0 and result.number("rss_mb") < 150
    share = result.number("cpu_share")
    return whole and share <= 1, whole and share <= 0.5


ASKED = {
    "year_of_one_minute_series": "a year, series of one minute",
    "year_of_random_series": "a year, any series",
    "overview": "overview",
}
RANGES = ("day", "week", "month", "year")


def _slowest(result: Result) -> float:
    return max(result.number(f"api.{name}.p95_ms") for name in ASKED)


def _year_measured(result: Result) -> str:
    said = [
        f"{result.number(f'api.{name}.p95_ms'):.0f} ms ({shown})" for name, shown in ASKED.items()
    ]
    return f"p95 {', '.join(said)}"


def _year_more(result: Result) -> str:
    rows = [
        [
            name.replace("_", " "),
            num(result.number(f"api.{name}.n")),
            *(f"{result.number(f'api.{name}.{p}'):.1f}" for p in ("p50_ms", "p95_ms", "p99_ms")),
        ]
        for name in result.table("api")
    ]
    curve = [result.number(f"api.{name}_of_random_series.p95_ms") for name in RANGES]
    return "\n\n".join(
        [
            f"{num(result.number('rows.readings'))} readings, laid down in {num(result.number('laid_down_s'))} s"
            f" ({result.text('laid_down')}); {result.number('bytes') / 1e9:.1f} GB with all roll-ups,"
            f" {result.number('bytes_per_reading'):.1f} bytes a reading.",
            table(["asked of the API, ms", "n", "p50", "p95", "p99"], rows),
            chart("p95 of any series, by range", RANGES, "ms", curve, kind="bar"),
        ]
    )


def _outage_met(result: Result) -> tuple[bool, bool]:
    reached = (
        result.number("ratios.times_real_time") >= 20
        and result.number("live_readings_p99_ms") < 1000
        and result.number("live_tests_p99_ms") < 1000
        and result.number("server_rss_slope_mb_per_min") < 1
    )
    return reached, reached


BUDGETS = (
    Budget(
        title="packs of 100 readings from 200 stations, judged, in DuckDB, receipts given",
        must="300,000 readings/s, the senders on the same cores",
        aim="1,000,000",
        file="link",
        command="python -m bench link --save",
        measured=lambda r: f"{num(r.number('readings_per_s'))} readings/s",
        spread=_link_spread,
        met=lambda r: (r.number("readings_per_s") >= 3e5, r.number("readings_per_s") >= 1e6),
        takes=_link_takes,
    ),
    Budget(
        title="the same into InfluxDB",
        must="70 % of a loader of lines made before",
        aim="90 %",
        file="influx",
        command="python -m bench influx --save",
        measured=lambda r: (
            f"{r.number('ratios.to_loader'):.0%}, {num(r.number('readings_per_s'))} readings/s"
        ),
        spread=lambda r: _runs(r, "to_loader"),
        met=lambda r: (r.number("ratios.to_loader") >= 0.7, r.number("ratios.to_loader") >= 0.9),
        takes=_influx_takes,
    ),
    Budget(
        title="quality flags and limits, one thread, 100,000 series",
        must="20 M readings/s",
        aim="50 M",
        file="judge",
        command="python -m bench judge --save",
        measured=lambda r: f"{million(r.number('flags_and_limits_readings_per_s'))} readings/s",
        spread=_judge_spread,
        met=_judge_met,
        takes=_judge_takes,
    ),
    Budget(
        title="register change → webhook received, 50,000 readings/s beside it",
        must="p99 < 1 s beyond the poll interval",
        aim="300 ms",
        file="latency",
        command="python -m bench latency --save",
        measured=lambda r: (
            f"p99 {num(r.number('beyond_poll_interval_p99_ms'))} ms, beside"
            f" {num(r.number('stored_readings_per_s'))} readings/s"
        ),
        spread=lambda r: (
            f"after the poll that saw it p50 {num(r.number('after_poll_p50_ms'))}, p99"
            f" {num(r.number('after_poll_p99_ms'))}, at most {num(r.number('after_poll_max_ms'))} ms"
        ),
        met=_latency_met,
        takes=_latency_takes,
    ),
    Budget(
        title="agent: 1,000 Modbus TCP devices × 20 registers at 1 Hz",
        must="one core, < 150 MB, 0 missed polls",
        aim="half a core",
        file="edge",
        command="python -m bench edge --save",
        measured=lambda r: (
            f"{r.number('cpu_share'):.2f} cores, {r.number('rss_mb'):.0f} MB,"
            f" {r.number('missed_polls'):.0f} missed"
        ),
        spread=lambda r: f"one run, {num(r.number('polls_per_s'))} polls/s",
        met=_edge_met,
        takes=lambda r: (
            f"a poll of 20 registers takes {1e6 * r.number('cpu_share') / r.number('polls_per_s'):.0f} µs of processor"
            " time, until its pack is in the spool and receipted; half a core has 500 µs."
        ),
    ),
    Budget(
        title="agent at rest",
        must="< 60 MB",
        aim="40 MB",
        file="edge",
        command="python -m bench edge --save",
        measured=lambda r: f"{r.number('idle_rss_mb'):.0f} MB",
        spread=lambda _: "one device, one run",
        met=lambda r: (r.number("idle_rss_mb") < 60, r.number("idle_rss_mb") <= 40),
        takes=lambda r: (
            f"{r.number('idle_rss_mb') - 40:.0f} MB less. What interpreter and libraries take of it is not measured."
        ),
    ),
    Budget(
        title="a year of one series; the overview of 500 stations, 20,000 series",
        must="p95 < 200 ms",
        aim="50 ms",
        file="year",
        command="python -m bench year --save",
        measured=_year_measured,
        spread=lambda r: f"n = {r.number('api.year_of_random_series.n'):.0f} questions each",
        met=lambda r: (_slowest(r) < 200, _slowest(r) <= 50),
        takes=lambda r: (
            f"the slowest median of the three is {max(r.number(f'api.{name}.p50_ms') for name in ASKED):.0f} ms; the"
            " p95 was measured on a machine as busy as its load says. No profile of a question is kept."
        ),
        more=_year_more,
    ),
    Budget(
        title="a year of one series, from InfluxDB",
        must="p95 < 200 ms",
        aim="50 ms",
        file="year_influx",
        command="",
        measured=lambda r: f"p95 {r.number('api.year_of_one_minute_series.p95_ms'):.0f} ms",
        spread=lambda r: f"n = {r.number('api.year_of_one_minute_series.n'):.0f} questions",
        met=lambda r: (
            r.number("api.year_of_one_minute_series.p95_ms") < 200,
            r.number("api.year_of_one_minute_series.p95_ms") <= 50,
        ),
        takes=lambda _: "no profile of a question is kept.",
    ),
    Budget(
        title="100 stations back after three days without a link",
        must="20 × real time; others' readings and tests p99 < 1 s; memory level",
        aim=NO_AIM,
        file="outage",
        command="python -m bench outage --save",
        measured=lambda r: (
            f"{num(r.number('ratios.times_real_time'))} × real time; p99 {num(r.number('live_readings_p99_ms'))} and"
            f" {num(r.number('live_tests_p99_ms'))} ms; {r.number('server_rss_slope_mb_per_min'):+.2f} MB a minute"
        ),
        spread=lambda r: (
            f"one run; {num(r.number('live_readings_n'))} readings and {num(r.number('live_tests_n'))} tests of others"
        ),
        met=_outage_met,
        takes=lambda _: "see the numbers above; no profile of this run is kept.",
    ),
)
