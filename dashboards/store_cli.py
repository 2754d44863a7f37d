"""``agrigate store``: look after the store of readings."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from dashboards.cli import EXIT_CONFIG, EXIT_FAILED, config_option, load_config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dashboards.server_config import ServerConfig
    from ingest.store.copying import Copied, Target
    from ingest.store.influx.login import InfluxLogin
    from ingest.store.influx.stock import PatientServer
    from ingest.store.stock import Stock, Wanted

DUCKDB, INFLUXDB = "duckdb", "influxdb"
LIFE = "store-copy"  # in the data directory: whose a copy in InfluxDB is
ANSWER_S = 300.0  # a month of a large county is a long question
SHANGHAI = timezone(timedelta(hours=8))
NAMED = 20
_kinds = click.Choice([DUCKDB, INFLUXDB])


@click.group()
def store() -> None:
    """Look after the store of readings."""


@store.command("check")
@config_option
def check_store(file: Path) -> None:
    """Say in one line what is wrong with the store, or that all is well; ends with 0 well, 1 wrong, 2 configuration."""
    from ingest.store.influx.check import CheckError, check  # noqa: PLC0415 - --help stays quick
    from ingest.store.influx.server import InfluxServer  # noqa: PLC0415

    config = load_config(file)
    for warning in config.warnings:
        click.echo(f"warning: {warning}", err=True)
    if config.store is None:
        click.echo(
            f"{config.data_dir}: good: readings are kept here by DuckDB, no server is needed"
        )
        return
    server = InfluxServer(config.store)
    try:
        click.echo(check(server))
    except CheckError as exc:
        click.echo(str(exc), err=True)
        sys.exit(EXIT_FAILED)
    finally:
        server.close()


@store.command("copy")
@config_option
@click.option("--from", "source", type=_kinds, required=True, help="Where the readings are.")
@click.option("--to", "target", type=_kinds, required=True, help="Where they shall be.")
def copy_store(file: Path, source: str, target: str) -> None:
    """Copy all readings from DuckDB to InfluxDB, or back, and compare both; the server must be stopped.

    Killed or stopped, it goes on where it was when it is run again.
    """
    from ingest.store.copying import DifferentError, copy  # noqa: PLC0415 - --help stays quick

    config = load_config(file)
    if source == target:
        _fail("--from and --to name the same", EXIT_CONFIG)
    if config.store is None:
        _fail(
            f'{file}: [store] names no InfluxDB: write kind = "influxdb" and where it is',
            EXIT_CONFIG,
        )
    with _one_line(), ExitStack() as stack:
        _lock(config, stack)
        server = _influx(config.store, stack)
        begun = _source(config, server, source, stack)
        fresh = _target(config, server, target, stack)
        progress = Progress()
        try:
            copied = copy(begun, fresh, progress)
        except DifferentError as exc:
            progress.end()
            for one in exc.found[:NAMED]:
                click.echo(one, err=True)
            _fail(
                f"{fresh.place}: {len(exc.found)} differences from {begun.place}; run it again, and when it says the"
                " same give it an empty database"
            )
        progress.end()
        _say_copied(copied, begun, fresh)


def _say_copied(copied: Copied, source: Stock, target: Target) -> None:
    if copied.begun_at:
        click.echo(f"{copied.begun_at} readings were there from an earlier run")
    if copied.left:
        click.echo(
            f"{copied.left} readings InfluxDB cannot hold (infinite, before 1677, after 2262) stay in {source.place}",
            err=True,
        )
    click.echo(
        f"{target.place}: whole: {copied.readings} readings and {copied.buckets} roll-ups, the same in both;"
        f" goes on behind pack {copied.cursor}"
    )


@store.command("export")
@config_option
@click.option("--format", "form", type=click.Choice(["parquet", "csv"]), required=True)
@click.option("--station", "stations", multiple=True, help="Only of this one; may be repeated.")
@click.option("--device", "devices", multiple=True, help="Only of this one; may be repeated.")
@click.option("--indicator", "indicators", multiple=True, help="Only this one; may be repeated.")
@click.option("--start", help="From here on: 2026-05-01, or 2026-05-01T08:00:00+08:00.")
@click.option("--end", help="Before this.")
@click.option(
    "--to",
    required=True,
    type=click.Path(path_type=Path),
    help="A directory, with one file a month, or a file named .csv or .parquet.",
)
def export_store(
    *,
    file: Path,
    form: str,
    stations: tuple[str, ...],
    devices: tuple[str, ...],
    indicators: tuple[str, ...],
    start: str | None,
    end: str | None,
    to: Path,
) -> None:
    """Write readings to Parquet or CSV files; of DuckDB only while the server is stopped."""
    from drivers.indicators import catalogue  # noqa: PLC0415 - --help stays quick
    from ingest.store.exporting import export  # noqa: PLC0415
    from ingest.store.stock import FIRST_MS, LAST_MS, Wanted  # noqa: PLC0415

    config = load_config(file)
    wanted = Wanted(
        stations,
        devices,
        indicators,
        FIRST_MS if start is None else _time_ms(start, "--start"),
        LAST_MS if end is None else _time_ms(end, "--end"),
    )

    def unit_of(indicator: str) -> str:
        known = catalogue().get(indicator)
        return known.unit if known else ""

    with _one_line(), ExitStack() as stack:
        if config.store is None:
            _lock(config, stack)
            stock = _duckdb(config, stack, wanted)
        else:
            stock = _influxdb(_influx(config.store, stack), wanted)
        progress = Progress()
        written = export(stock, to, form, unit_of, progress)
        progress.end()
    for path, count in written:
        click.echo(f"{path}: {count} readings")
    if not written:
        click.echo("no readings", err=True)


class Progress:
    """Says on stderr how far it is: on a terminal each second, else every ten."""

    def __init__(self) -> None:
        self._on_terminal = sys.stderr.isatty()
        self._what = ""
        self._said_s = 0.0
        self._line = ""

    def __call__(self, what: str, done: int, total: int) -> None:
        """Note that ``done`` of ``total`` readings are what ``what`` says."""
        now_s = time.monotonic()
        if what != self._what:
            self._what, self._begun_s, self._begun_at = what, now_s, done
        rate = (done - self._begun_at) / max(now_s - self._begun_s, 1e-3)
        left = f"  {timedelta(seconds=round((total - done) / rate))} left" if rate else ""
        self._line = f"{what}: {done:,} of {total:,} readings  {rate:,.0f}/s{left}"
        if now_s - self._said_s >= (1.0 if self._on_terminal else 10.0):
            self._said_s = now_s
            self._say(end=not self._on_terminal)

    def end(self) -> None:
        """Say the last that was not said."""
        self._say(end=True)

    def _say(self, *, end: bool) -> None:
        if self._line:
            before = "\r\x1b[K" if self._on_terminal else ""
            click.echo(f"{before}{self._line}", err=True, nl=end)
        if end:
            self._line = ""


def _fail(message: str, code: int = EXIT_FAILED) -> NoReturn:
    click.echo(message, err=True)
    sys.exit(code)


@contextmanager
def _one_line() -> Iterator[None]:
    """Say what went wrong in one line, and end with 1."""
    import duckdb  # noqa: PLC0415 - --help stays quick

    from dashboards.serve import ServeError  # noqa: PLC0415
    from ingest.store.duckdb_file import StoreError  # noqa: PLC0415
    from ingest.store.exporting import ExportError  # noqa: PLC0415
    from ingest.store.influx.errors import InfluxError, UnavailableError  # noqa: PLC0415

    try:
        yield
    except UnavailableError as exc:
        _fail(f"{_first_line(exc)}; what is copied stays: run it again to go on")
    except (ServeError, StoreError, ExportError, InfluxError, duckdb.Error) as exc:
        _fail(_first_line(exc))
    except OSError as exc:
        _fail(f"{exc.filename}: {exc.strerror}" if exc.filename else _first_line(exc))


def _first_line(exc: Exception) -> str:
    return str(exc).split("\n", 1)[0]


def _lock(config: ServerConfig, stack: ExitStack) -> None:
    from dashboards.serve import check_restored, only_one  # noqa: PLC0415 - --help stays quick

    stack.enter_context(only_one(config.data_dir))
    check_restored(config.data_dir)


def _influx(login: InfluxLogin, stack: ExitStack) -> PatientServer:
    """Return a server that answers now, and is given time for its answers."""
    from ingest.store.influx.server import InfluxServer  # noqa: PLC0415 - half a second
    from ingest.store.influx.stock import PatientServer  # noqa: PLC0415

    probe = InfluxServer(login)
    try:
        probe.version()
    finally:
        probe.close()
    server = PatientServer(replace(login, timeout_s=max(login.timeout_s, ANSWER_S)))
    stack.callback(server.close)
    return server


def _duckdb(config: ServerConfig, stack: ExitStack, wanted: Wanted | None = None) -> Stock:
    from ingest.backup import READINGS  # noqa: PLC0415 - --help stays quick
    from ingest.store.duckdb_stock import DuckDBStock  # noqa: PLC0415

    stock = DuckDBStock(config.data_dir / READINGS, wanted)
    stack.callback(stock.close)
    return stock


def _influxdb(server: PatientServer, wanted: Wanted | None = None) -> Stock:
    from ingest.store.influx.stock import InfluxStock  # noqa: PLC0415 - half a second

    return InfluxStock(server, wanted)


def _source(config: ServerConfig, server: PatientServer, kind: str, stack: ExitStack) -> Stock:
    from ingest.store.influx.stock import stopped  # noqa: PLC0415 - half a second

    return _duckdb(config, stack) if kind == DUCKDB else stopped(server)


def _target(config: ServerConfig, server: PatientServer, kind: str, stack: ExitStack) -> Target:
    from ingest.backup import READINGS  # noqa: PLC0415 - --help stays quick
    from ingest.store.duckdb_stock import NewDuckDB  # noqa: PLC0415
    from ingest.store.influx.stock import NewInflux  # noqa: PLC0415

    if kind == DUCKDB:
        fresh = NewDuckDB(config.data_dir / READINGS)
        stack.callback(fresh.close)
        return fresh
    kept = config.retention
    outlive = kept.readings_days and not 0 < kept.minute_days <= kept.readings_days
    return NewInflux(server, _life(config.data_dir), keeps_minutes=bool(outlive))


def _life(data_dir: Path) -> str:
    """Return by what a copy of this data directory is known, the same each time."""
    from ulid import ULID  # noqa: PLC0415 - --help stays quick

    file = data_dir / LIFE
    if file.is_file() and (life := file.read_text("ascii").strip()):
        return life
    life = str(ULID())
    beside = file.with_name(f"{LIFE}.new")
    beside.write_text(f"{life}\n", "ascii")
    beside.rename(file)
    return life


def _time_ms(text: str, option: str) -> int:
    """Return a time that a person wrote, of China when no offset stands there."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r}: write 2026-05-01 or 2026-05-01T08:00:00+08:00", param_hint=option
        ) from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=SHANGHAI)
    return round(moment.timestamp() * 1000)
