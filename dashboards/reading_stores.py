"""The store of readings that the configuration names, and how the rest of the process deals with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb

from ingest.backup import READINGS
from ingest.disk import passes
from ingest.judge.catalogue.tables import clean
from ingest.judge.inserts import insert_new
from ingest.operational import TRANSIENT
from ingest.store.duckdb_store import DuckDBStore
from ingest.store.influx.errors import InfluxError, pause_s
from ingest.tables import quarantine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from dashboards.server_config import ServerConfig
    from ingest.batch import Fault
    from ingest.operational import Operational
    from ingest.store.reading_store import ReadingStore


@dataclass(frozen=True, slots=True)
class OpenedStore:
    """``transient`` are the errors after which the same is tried again, as far as ``passes`` says."""

    readings: ReadingStore
    transient: tuple[type[Exception], ...]
    passes: Callable[[Exception], bool]
    pause_s: Callable[[Exception], float]
    back_up: Callable[[Path], None]


def open_store(
    config: ServerConfig, operational: Operational, *, shows_only: bool = False
) -> OpenedStore:
    """Open DuckDB's file, or prepare to speak to InfluxDB; that one need not answer yet.

    With ``shows_only`` another process writes to that InfluxDB.
    """
    if config.store is None:
        duck = DuckDBStore(config.data_dir / READINGS, retention=config.retention)
        return OpenedStore(duck, (duckdb.Error,), lambda _: True, lambda _: 0.0, duck.back_up)
    from ingest.store.influx.influx_store import InfluxStore  # noqa: PLC0415 - half a second
    from ingest.store.influx.reader import InfluxReader  # noqa: PLC0415
    from ingest.store.influx.server import InfluxServer  # noqa: PLC0415

    def rejected(faults: Sequence[Fault]) -> None:
        with operational.write() as connection:
            insert_new(connection, quarantine, [_row(fault) for fault in faults])

    server = InfluxServer(config.store)
    influx = (
        InfluxReader(server)
        if shows_only
        else InfluxStore(server, rejected=rejected, retention=config.retention)
    )
    return OpenedStore(influx, (InfluxError, *TRANSIENT), passes, pause_s, _no_readings)


def unread(store: OpenedStore) -> list[str]:
    """Return why the store cannot be asked; empty when it can."""
    try:
        store.readings.cursor()
    except store.transient as exc:
        return [f"store: {exc}"]
    return []


def _row(fault: Fault) -> dict[str, object]:
    return {
        "station": fault.pack.station,
        "epoch": fault.pack.epoch,
        "seq": fault.pack.seq,
        "position": fault.position,
        "inbox_pos": fault.pack.pos,
        "field": clean(fault.field, 200),
        "reason": clean(fault.reason, 1000),
        "at_ms": fault.pack.received_ms,
    }


def _no_readings(path: Path) -> None:
    """Write an empty store: readings in InfluxDB are backed up with InfluxDB's own tools."""
    DuckDBStore(path).close()
