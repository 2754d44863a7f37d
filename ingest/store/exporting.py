"""Readings as files for other programs: CSV (RFC 4180) and Parquet, one file a month or one in all.

A file is written beside, synced and renamed, so one that is there is whole.
"""

# ruff: noqa: S608 - SQL of constants and escaped texts

from __future__ import annotations

import contextlib
import csv
import os
from typing import TYPE_CHECKING, Protocol, Self, TextIO

import duckdb
import numpy as np

from ingest.store.duckdb_file import MEMORY_LIMIT, quoted
from ingest.store.stock import month_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ingest.batch import Series
    from ingest.store.stock import Columns, Stock

CSV, PARQUET = "csv", "parquet"
HEADER = (
    *("time", "station", "device", "indicator", "value", "unit"),
    *("quality", "flags", "received", "dup", "inbox_pos"),
)
OFFSET = "+08:00"
_OFFSET_MS = 8 * 3_600_000
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # a spreadsheet would compute what begins so
_NOTES = {
    "time": "when it was measured, UTC",
    "unit": "UCUM",
    "quality": "QARTOD: 1 pass, 2 not evaluated, 3 suspect, 4 fail, 9 missing",
    "flags": "bit mask, see docs/moving.md",
    "dup": "0, or 1, 2 ... for further values of that series at that time",
}


class ExportError(Exception):
    """The files cannot be written; the message says why."""


def export(
    stock: Stock,
    to: Path,
    form: str,
    unit_of: Callable[[str], str],
    report: Callable[[str, int, int], None],
) -> list[tuple[Path, int]]:
    """Write the readings of ``stock`` and return the files with how many are in each.

    ``to`` is a file when it ends with ``.csv`` or ``.parquet``, else a directory, with one file for each month.
    Raises ExportError.
    """
    suffix = to.suffix.lower().removeprefix(".")
    if suffix in {CSV, PARQUET} and suffix != form:
        raise ExportError(f"{to}: is named {suffix} and asked for as {form}")
    is_file = suffix == form and not to.is_dir()
    if is_file and not to.parent.is_dir():
        raise ExportError(f"{to.parent}: is no directory")
    if not is_file and to.exists() and not to.is_dir():
        raise ExportError(f"{to}: is a file that is not named .{form}")
    if not is_file:
        to.mkdir(parents=True, exist_ok=True)
    total, done = stock.count(), 0
    months = stock.months(None)
    groups = [(to, months)] if is_file else [(_named(to, m, form), [m]) for m in months]
    written = []
    for file, some in groups:
        with _writer(file, form, unit_of) as writer:
            count = 0
            for rows in _rows(stock, some):
                writer.add(stock.series, rows)
                count += len(rows["t_ms"])
                report("exported", done + count, total)
            if count or is_file:
                writer.finish()
                written.append((file, count))
            done += count
    return written


def _named(directory: Path, month_ms: int, form: str) -> Path:
    return directory / f"readings-{month_name(month_ms)}.{form}"


def _rows(stock: Stock, months: Sequence[int]) -> Iterator[Columns]:
    for month in months:
        for piece in stock.pieces(None, month):
            rows = stock.read(piece)
            if len(rows["t_ms"]):
                yield rows


class _Writer(Protocol):
    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def add(self, series: Sequence[Series], rows: Columns) -> None: ...

    def finish(self) -> None: ...


def _writer(file: Path, form: str, unit_of: Callable[[str], str]) -> _Writer:
    return _Csv(file, unit_of) if form == CSV else _Parquet(file, unit_of)


class _Csv:
    """Rows end with CR LF, times are those of China, what is missing is empty."""

    def __init__(self, file: Path, unit_of: Callable[[str], str]) -> None:
        self._file = file
        self._beside = _beside(file)
        self._unit_of = unit_of
        self._texts: list[tuple[str, str, str, str]] = []  # of each series

    def __enter__(self) -> Self:
        self._stream: TextIO = self._beside.open("w", encoding="utf-8", newline="")
        self._csv = csv.writer(self._stream)
        self._csv.writerow(HEADER)
        return self

    def add(self, series: Sequence[Series], rows: Columns) -> None:
        """Write rows."""
        for one in series[len(self._texts) :]:
            texts = one.station, one.device, one.indicator, self._unit_of(one.indicator)
            station, device, indicator, unit = (unarmed(text) for text in texts)
            self._texts.append((station, device, indicator, unit))
        v = rows["v"].astype(object)
        v[np.isnan(rows["v"])] = None
        numbers = (rows[name].tolist() for name in ("q", "flags"))
        last = (rows[name].tolist() for name in ("dup", "inbox_pos"))
        self._csv.writerows(
            (t, *self._texts[n][:3], value, self._texts[n][3], *others)
            for t, n, value, *others in zip(
                times(rows["t_ms"]),
                rows["series"].tolist(),
                v.tolist(),
                *numbers,
                times(rows["received_ms"]),
                *last,
                strict=True,
            )
        )

    def finish(self) -> None:
        """Have the file count."""
        self._stream.flush()
        _settle(self._beside, self._file)

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # a full disk was told of already
            self._stream.close()
        self._beside.unlink(missing_ok=True)


class _Parquet:
    """Written by DuckDB, from a table on disk: however many rows, memory stays as it is."""

    def __init__(self, file: Path, unit_of: Callable[[str], str]) -> None:
        self._file = file
        self._beside = _beside(file)
        self._rows = file.with_name(f".{file.name}.rows")
        self._unit_of = unit_of
        self._known = 0
        self._units: dict[str, str] = {}

    def __enter__(self) -> Self:
        self._delete_rows()
        self._db = duckdb.connect(self._rows, config={"memory_limit": MEMORY_LIMIT, "threads": 1})
        self._db.execute(
            "CREATE TABLE series (number INTEGER, station VARCHAR, device VARCHAR, indicator VARCHAR, unit VARCHAR)"
        )
        self._db.execute(
            "CREATE TABLE rows (series INTEGER, t_ms BIGINT, v DOUBLE, q UTINYINT, flags UINTEGER,"
            " received_ms BIGINT, inbox_pos BIGINT, dup INTEGER)"
        )
        return self

    def add(self, series: Sequence[Series], rows: Columns) -> None:
        """Keep rows."""
        new = series[self._known :]
        if new:
            units = [self._unit_of(one.indicator) for one in new]
            self._units |= dict(zip([one.indicator for one in new], units, strict=True))
            self._db.execute(
                "INSERT INTO series SELECT unnest(?::INTEGER[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[]),"
                " unnest(?::VARCHAR[]), unnest(?::VARCHAR[])",
                (
                    list(range(self._known, len(series))),
                    [one.station for one in new],
                    [one.device for one in new],
                    [one.indicator for one in new],
                    units,
                ),
            )
            self._known = len(series)
        self._db.register("incoming", rows)
        self._db.execute(
            "INSERT INTO rows SELECT series, t_ms, CASE WHEN isnan(v) THEN NULL ELSE v END, q, flags,"
            " received_ms, inbox_pos, dup FROM incoming"
        )
        self._db.unregister("incoming")

    def finish(self) -> None:
        """Write the file and have it count."""
        notes = {f"agrigate.{name}": note for name, note in _NOTES.items()}
        notes |= {f"agrigate.unit.{name}": unit for name, unit in sorted(self._units.items())}
        metadata = ", ".join(f"{quoted(key)}: {quoted(text)}" for key, text in notes.items())
        self._db.execute(
            "COPY (SELECT make_timestamptz(t_ms * 1000) AS time, station, device, indicator, v AS value, unit,"
            " q AS quality, flags, make_timestamptz(received_ms * 1000) AS received, dup, inbox_pos"
            " FROM rows JOIN series ON series.number = rows.series)"
            f" TO {quoted(str(self._beside))} (FORMAT parquet, COMPRESSION zstd, KV_METADATA {{{metadata}}})"
        )
        _settle(self._beside, self._file)

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(duckdb.Error):  # a full disk was told of already
            self._db.close()
        self._delete_rows()
        self._beside.unlink(missing_ok=True)

    def _delete_rows(self) -> None:
        for suffix in ("", ".wal"):
            self._rows.with_name(self._rows.name + suffix).unlink(missing_ok=True)


def _beside(file: Path) -> Path:
    return file.with_name(f".{file.name}.part")


def _settle(beside: Path, file: Path) -> None:
    """Have what was written beside take its place, once it is on disk."""
    for path in (beside, file.parent):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            if path is beside:
                beside.rename(file)
        finally:
            os.close(descriptor)


def unarmed(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula.

    >>> unarmed("=1+1"), unarmed("hl-001")
    ("'=1+1", 'hl-001')
    """
    return f"'{text}" if text.startswith(_FORMULA) else text


def times(t_ms: NDArray[np.int64]) -> list[str]:
    """Return times of China in RFC 3339, (n,).

    >>> times(np.array([0]))
    ['1970-01-01T08:00:00.000+08:00']
    """
    moments, which = np.unique(t_ms, return_inverse=True)
    texts = np.datetime_as_string((moments + _OFFSET_MS).astype("datetime64[ms]")).tolist()
    said = [f"{text}{OFFSET}" for text in texts]
    return [said[n] for n in which.tolist()]
