"""What the registry says for quality flags: site limits, models' ranges, windows; a snapshot in memory."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ingest import tables
from ingest.detect.model_ranges import model_ranges
from ingest.detect.thresholds import DeviceWindow, SeriesLimits
from ingest.registry import windows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest.batch import Series
    from ingest.operational import Operational


@dataclass(frozen=True, slots=True)
class _Snapshot:
    models: dict[tuple[str, str], str]  # (station, device) → model
    limits: dict[tuple[str, str, str], SeriesLimits]  # of the site only
    windows: tuple[DeviceWindow, ...]


class Quality:
    """Implements ``detect.thresholds.Thresholds``; ``refresh`` takes a new snapshot. Safe to share between threads."""

    def __init__(self, operational: Operational) -> None:
        self._operational = operational
        self._held = _Snapshot({}, {}, ())
        self.version = 0
        self.refresh()

    def refresh(self) -> None:
        """Read everything again; ``version`` grows when something has changed."""
        d, q = tables.devices, tables.quality_limits
        with self._operational.read() as db:
            models = {
                (row.station, row.path): row.model
                for row in db.execute(sa.select(d.c.station, d.c.path, d.c.model))
                if row.model
            }
            limits = {
                (row.station, row.device, row.indicator): SeriesLimits(
                    site_min=row.min,
                    site_max=row.max,
                    spike=row.spike,
                    rate_per_s=row.rate_per_s,
                    flat_s=row.flat_s,
                    gap_s=row.gap_s,
                )
                for row in db.execute(sa.select(q))
            }
            work = tuple(
                DeviceWindow(
                    station=one.station,
                    device=one.device,
                    kind=one.kind,
                    from_ms=one.from_ms,
                    to_ms=one.to_ms,
                )
                for one in windows.listed(db)
            )
        snapshot = _Snapshot(models, limits, work)
        if snapshot != self._held:
            self._held = snapshot
            self.version += 1

    def quality_limits(self, series: Series) -> SeriesLimits:
        """Return what the site and the instrument's model say of ``series``."""
        held = self._held
        site = held.limits.get((series.station, series.device, series.indicator), _NONE)
        model = held.models.get((series.station, series.device), "")
        low, high = model_ranges(model).get(series.indicator, (None, None))
        if low is None and high is None:
            return site
        return dataclasses.replace(site, model_min=low, model_max=high)

    def windows(self) -> Sequence[DeviceWindow]:
        """Return the windows that are not cancelled."""
        return self._held.windows


_NONE = SeriesLimits()
