"""What a site or an instrument's model says about a series, and windows of work on a device (the shapes only)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest.batch import Series


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesLimits:
    """Bounds of one series in the indicator's unit; None = not given, the channel's own behaviour counts."""

    model_min: float | None = None
    model_max: float | None = None
    site_min: float | None = None
    site_max: float | None = None
    spike: float | None = None
    rate_per_s: float | None = None
    flat_s: float | None = None
    gap_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceWindow:
    """Work on a device from ``from_ms`` up to, not including, ``to_ms`` (measured time, UTC ms)."""

    station: str
    device: str
    kind: str  # maintenance | calibration
    from_ms: int
    to_ms: int


class Thresholds(Protocol):
    """What quality flags ask of the registry."""

    @property
    def version(self) -> int:
        """A number that changes when any answer may have changed."""
        ...

    def quality_limits(self, series: Series) -> SeriesLimits:
        """Return what is given for ``series``."""
        ...

    def windows(self) -> Sequence[DeviceWindow]:
        """Return the windows that are not cancelled."""
        ...


class NoThresholds:
    """Nothing is registered: every channel is judged by its own behaviour."""

    version = 0

    def quality_limits(self, series: Series) -> SeriesLimits:  # noqa: ARG002 - the protocol's
        """Return no bounds."""
        return SeriesLimits()

    def windows(self) -> Sequence[DeviceWindow]:
        """Return none."""
        return ()
