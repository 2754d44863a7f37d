"""``agrigate rejudge``: a past period judged again under other limits, compared with what is stored."""

from __future__ import annotations

import contextlib
import csv
import datetime as dt
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from dashboards.cli import EXIT_CONFIG, config_option, load_config
from drivers.errors import ConfigError
from ingest.standards_cli import SHIPPED, Moment, catalogue_of, cited_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dashboards.server_config import ServerConfig
    from ingest.judge.catalogue.catalogue import Catalogue
    from ingest.judge.rejudge import Compared, Summary

CHINA = dt.timezone(dt.timedelta(hours=8))
_DAY_MS = 86_400_000
_DATE_LENGTH = len("2026-05-01")
_FORMULA = ("=", "+", "-", "@", "\t")
"""With these a cell from outside would be a formula to a spreadsheet."""

COLUMNS = (
    "kind",
    "station",
    "device",
    "indicator",
    "product",
    "time",
    "value",
    "unit",
    "old_verdict",
    "old_severity",
    "new_verdict",
    "new_severity",
    "old_limit",
    "new_limit",
    "old_clause",
    "new_clause",
    "changed",
    "record_id",
    "epoch",
    "seq",
    "position",
)


class _End(Moment):
    """As ``Moment``; a date takes in that day."""

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return UTC ms, exclusive."""
        at_ms = super().convert(value, param, ctx)
        is_date = isinstance(value, str) and len(value.strip()) == _DATE_LENGTH
        return at_ms + _DAY_MS if is_date else at_ms


@click.command()
@config_option
@click.option("--from", "from_ms", type=Moment(), required=True, help="First measured time or day.")
@click.option(
    "--to", "to_ms", type=_End(), required=True, help="Last day, or the time before which."
)
@click.option(
    "--standards",
    "directory",
    default="",
    help="Directory of tables over the shipped ones, or the word shipped; without it, what the server judges by.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="CSV file to write; - is standard output.",
)
@click.option("--changed", "changed_only", is_flag=True, help="Only records whose verdict changes.")
@click.option("--offline", is_flag=True, help="The server is stopped, and stays so: hold its lock.")
def rejudge(
    file: Path,
    from_ms: int,
    to_ms: int,
    directory: str,
    output: Path | None,
    *,
    changed_only: bool,
    offline: bool,
) -> None:
    """Judge a past period again from the inbox and compare with what is stored; changes nothing.

    Without --offline the files are opened for reading only, beside a running server too.
    """
    if from_ms >= to_ms:
        raise click.UsageError("--from must be before --to")
    from ingest.judge.errors import RejudgeError  # noqa: PLC0415 - --help stays quick
    from ingest.judge.rejudge import Rejudge  # noqa: PLC0415
    from ingest.publishers.reader import MessageReader  # noqa: PLC0415

    config = load_config(file)
    if config.operational.url:
        raise click.ClickException(
            "it reads SQLite files only; [operational] url names a PostgreSQL"
        )
    catalogue = _catalogue(config, directory)
    run = Rejudge(
        config.data_dir,
        catalogue,
        from_ms,
        to_ms,
        changed_only=changed_only,
        reader=MessageReader(config.mappings),
    )
    header = [
        f"agrigate rejudge: measured from {_time(from_ms)} to before {_time(to_ms)}",
        f"standards: {directory or config.standards or SHIPPED}, version {catalogue.version}",
        f"plots and devices as registered now ({_time(time.time_ns() // 1_000_000)}), not as they were then",
    ]
    try:
        with ExitStack() as stack:
            if offline:
                stack.enter_context(_lock(config.data_dir))
            rows = run.rows()
            stack.enter_context(contextlib.closing(rows))
            if output is None:
                for _ in rows:
                    pass
            else:
                _write(rows, stack.enter_context(_opened(output)), header)
    except RejudgeError as exc:
        raise click.ClickException(str(exc)) from exc
    except OSError as exc:
        raise click.ClickException(f"{output}: {exc.strerror or exc}") from exc
    to_stderr = output is not None and str(output) == "-"
    for line in (*header, *_summary(run.summary, from_ms)):
        click.echo(line, err=to_stderr)


def _catalogue(config: ServerConfig, directory: str) -> Catalogue:
    if directory:
        return catalogue_of(directory)
    from dashboards.serve import catalogue_of as of_server  # noqa: PLC0415 - --help stays quick

    try:
        return of_server(config)
    except ConfigError as exc:
        click.echo("\n".join(exc.faults), err=True)
        sys.exit(EXIT_CONFIG)


@contextlib.contextmanager
def _lock(data_dir: Path) -> Iterator[None]:
    from dashboards.serve import ServeError, only_one  # noqa: PLC0415 - --help stays quick

    try:
        with only_one(data_dir):
            yield
    except ServeError as exc:
        raise click.ClickException(str(exc)) from exc


@contextlib.contextmanager
def _opened(output: Path) -> Iterator[TextIO]:
    """Open the file to write; it appears when it is whole."""
    if str(output) == "-":
        yield sys.stdout
        return
    fresh = output.with_name(f"{output.name}.part")
    try:
        with fresh.open("w", encoding="utf-8", newline="") as handle:
            yield handle
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    fresh.replace(output)


def _write(rows: Iterable[Compared], file: TextIO, header: list[str]) -> None:
    file.writelines(f"# {line}\n" for line in header)
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(map(_cells, rows))


def _cells(row: Compared) -> tuple[object, ...]:
    return (
        row.kind,
        row.station,
        _safe(row.device),
        _safe(row.indicator),
        _safe(row.product),
        _time(row.t_ms),
        "" if row.value is None else row.value,
        _safe(row.unit),
        row.old.verdict,
        row.old.severity,
        row.new.verdict,
        row.new.severity,
        cited_text(row.old.cited),
        cited_text(row.new.cited),
        "; ".join(one.clause for one in row.old.cited),
        "; ".join(one.clause for one in row.new.cited),
        "yes" if row.changed else "no",
        _safe(row.record_id),
        row.epoch,
        row.seq,
        row.position,
    )


def _safe(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _time(ms: int) -> str:
    moment = dt.datetime.fromtimestamp(ms / 1000, CHINA)
    return moment.isoformat(timespec="milliseconds" if ms % 1000 else "seconds")


def _summary(summary: Summary, from_ms: int) -> Iterator[str]:
    for (kind, old, new), count in sorted(summary.verdicts.items()):
        yield f"{kind:<8} {old:>13} → {new:<13} {count:>10}"
    yield f"{summary.records} records of {summary.packs} packs, {summary.changed} change"
    said = (
        (summary.damaged, "packs are damaged and were left out"),
        (summary.unreadable, "packs do not decode"),
        (summary.quarantined, "records do not decode"),
        (summary.repeats, "tests are repeats of one that was sent before"),
    )
    for count, what in said:
        if count:
            yield f"{count} {what}"
    for name in summary.damaged_names:
        yield f"  {name}"
    if summary.lost_packs:
        yield f"{summary.lost_packs} packs with up to {summary.lost_readings} readings never came"
    if summary.begins_ms is not None and summary.begins_ms > from_ms:
        yield f"the inbox begins at {_time(summary.begins_ms)}: what came before cannot be judged again"
