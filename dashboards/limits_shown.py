"""The limits that held for a series, as the pages draw them; asked of the database, nothing is remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.judge.readings.companions import Companions
from ingest.judge.readings.spans import spans

if TYPE_CHECKING:
    from ingest.batch import Series
    from ingest.judge.catalogue.catalogue import Catalogue
    from ingest.judge.readings.spans import LimitSpan
    from ingest.operational import Operational
    from ingest.registry.live import Registry


class Limits:
    """Answers where the judge is in another process."""

    def __init__(self, catalogue: Catalogue, registry: Registry, operational: Operational) -> None:
        self._catalogue = catalogue
        self._registry = registry
        self._operational = operational

    def of(self, series: Series, start_ms: int, end_ms: int) -> list[LimitSpan]:
        """Return the limits that held for ``series`` in start ≤ t < end, each with its span."""
        plot = self._registry.context(series.station, series.device)
        with self._operational.read() as connection:
            return spans(self._catalogue, connection, Companions(), series, plot, start_ms, end_ms)
