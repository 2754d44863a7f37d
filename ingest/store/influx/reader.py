"""The readings for a process that only shows them: another one writes, and nothing is written here."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import numpy as np

from ingest.store.influx.influx_store import InfluxStore
from ingest.store.influx.influxql import LATEST_MS, between, literal, name
from ingest.store.influx.line_protocol import MEASUREMENT
from ingest.store.influx.marker import NO_MARKER, read_marker
from ingest.store.influx.pending import HOUR_MS
from ingest.store.influx.rollups import series_of
from ingest.store.reading_store import Latest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ingest.batch import Batch, Series
    from ingest.store.influx.marker import Marker
    from ingest.store.influx.server import InfluxServer
    from ingest.store.reading_store import Kept

KNOWN_FOR_S = 10.0
FRESH_MS = (
    180_000  # the writer notes each minute what it knows of a series; what is newer is asked for
)


class InfluxReader(InfluxStore):
    """Implements ``ReadingStore`` but for writing; counts are up to a minute old, values are not.

    Late readings reach ``trend`` with the writer's next minute.
    """

    def __init__(self, server: InfluxServer) -> None:
        super().__init__(server, rejected=lambda _: None)
        self._reload = threading.Lock()
        self._known_s: float | None = None

    def append(self, batch: Batch) -> None:
        """Raise TypeError: another process writes."""
        raise TypeError(f"packs up to {batch.cursor} given to a store that only reads")

    def maintain(self, now_ms: int, keep: Sequence[Kept]) -> None:
        """Leave it to the process that writes."""

    def cursor(self) -> int:
        """Inbox position of the last pack written."""
        return self._told().inbox_pos

    def latest(self, station: str | None = None) -> list[Latest]:
        """One row per series; the values as they are now."""
        self._remember()
        with self._lock:
            rows = {row.series: row for row in self._known.latest(station)}
        for row in self._newest(station):
            noted = rows.get(row.series)
            if noted is None:
                rows[row.series] = row
            elif row.t_ms > noted.t_ms:
                rows[row.series] = Latest(row.series, row.t_ms, row.v, row.q, noted.count)
        return list(rows.values())

    def count(self) -> int:
        """All readings ever stored, as of the last minute."""
        self._remember()
        return super().count()

    def close(self) -> None:
        """Close the connections."""
        self._requests.shutdown()
        self._server.close()

    def _told(self) -> Marker:
        return read_marker(self._server) or NO_MARKER

    def _pending_hours(self, series: Series) -> NDArray[np.int64]:  # noqa: ARG002 - the same for all
        """Return the hours that the writer may not have rolled up yet: the current one and its neighbours."""
        hour = time.time_ns() // 1_000_000 // HOUR_MS
        return np.arange(hour - 1, hour + 2, dtype=np.int64)

    def _remember(self) -> None:
        """Read again what the writer has noted, when that is a while ago."""
        with self._reload:
            now_s = time.monotonic()
            if self._known_s is not None and now_s - self._known_s < KNOWN_FOR_S:
                return
            known = self._load_series()
            with self._lock:
                self._known = known
            self._known_s = now_s

    def _newest(self, station: str | None) -> list[Latest]:
        since_ms = time.time_ns() // 1_000_000 - FRESH_MS
        of = "" if station is None else f" AND station = {literal(station)}"
        found = self._server.ask(
            f"SELECT v, q FROM {name(MEASUREMENT)} WHERE {between(since_ms, LATEST_MS + 1)}{of}"  # noqa: S608 - a name from a list
            " GROUP BY station, device, indicator ORDER BY time DESC LIMIT 1",
            tuple[int, float | None, int | None],
        )
        newest: dict[Series, Latest] = {}
        for table in found:
            for t_ms, v, q in table.rows:
                series = series_of(table.tags)
                newest[series] = Latest(series, t_ms, np.nan if v is None else v, q or 0, 1)
        return list(newest.values())
