"""What is registered about each series, resolved once per version of the registry and kept as arrays."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ingest.judge.catalogue.limit_tables import CLEARABLE
from ingest.judge.catalogue.limits import PH
from ingest.judge.readings import conditions
from ingest.judge.readings.companions import COMPANION_INDICATORS, SOIL_PH
from ingest.judge.readings.compiled import CompiledLimits

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from ingest.batch import Series
    from ingest.judge.catalogue.catalogue import Catalogue
    from ingest.judge.readings.compiled import Bools
    from ingest.judge.readings.conditions import Conditions
    from ingest.registry.context import PlotContext

MOISTURE = "soil_moisture"


class Contexts(Protocol):
    """The part of the registry that the judge asks."""

    @property
    def version(self) -> int:
        """A number that changes when the registry does."""
        ...

    def context(self, station: str, device: str) -> PlotContext | None:
        """Return what is registered about the plot of a device, None when nothing is."""
        ...


class SeriesTable:
    """Per series id: plot, registered conditions, thresholds. Arrays are (n_series,)."""

    def __init__(self, catalogue: Catalogue, registry: Contexts) -> None:
        self.limits = CompiledLimits(catalogue)
        self._registry = registry
        self._version = registry.version
        self.plots: list[PlotContext | None] = []
        self.conditions: list[Conditions] = []
        self.ids: dict[Series, int] = {}
        self.registered_ph: NDArray[np.float64] = np.zeros(0)
        self.plot_ids: NDArray[np.object_] = np.zeros(0, np.object_)
        self.probes: NDArray[np.object_] = np.zeros(0, np.object_)  # station/device
        self.clearable: Bools = np.zeros(0, np.bool_)
        # Place in COMPANION_INDICATORS; −1: no limit on its plot looks at this series.
        self.companion: NDArray[np.int8] = np.zeros(0, np.int8)
        self.is_moisture: Bools = np.zeros(0, np.bool_)
        self.device: NDArray[np.int64] = np.zeros(0, np.int64)
        self._devices: dict[tuple[str, str], int] = {}
        self._known: dict[PlotContext | None, Conditions] = {}

    def update(self, series: Sequence[Series]) -> None:
        """Take in series that are new; all of them again when the registry has changed."""
        if self._registry.version != self._version:
            self._version = self._registry.version
            self._known.clear()
            self.limits.clear()
            self.plots, self.conditions, self.ids = [], [], {}
            self.registered_ph = np.zeros(0)
            self.plot_ids, self.probes = self.plot_ids[:0], self.probes[:0]
            self.clearable = self.is_moisture = np.zeros(0, np.bool_)
            self.companion = np.zeros(0, np.int8)
            self.device = np.zeros(0, np.int64)
        new = series[len(self.plots) :]
        if not new:
            return
        for one in new:
            self.ids[one] = len(self.plots)
            plot = self._registry.context(one.station, one.device)
            self.plots.append(plot)
            self.conditions.append(self._conditions_of(plot))
        added = self.conditions[-len(new) :]
        self.limits.extend([(one.indicator, known) for one, known in zip(new, added, strict=True)])
        ids = ["" if plot is None else plot.plot_id for plot in self.plots[-len(new) :]]
        self.plot_ids = np.append(self.plot_ids, np.array(ids, np.object_))
        probes = [f"{one.station}/{one.device}" for one in new]
        self.probes = np.append(self.probes, np.array(probes, np.object_))
        ph = [float(known.known.get(PH, math.nan)) for known in added]
        self.registered_ph = np.append(self.registered_ph, np.array(ph))
        self.clearable = np.append(self.clearable, _among(new, CLEARABLE))
        kept = [
            self._companion(one.indicator, plot, known)
            for one, plot, known in zip(new, self.plots[-len(new) :], added, strict=True)
        ]
        self.companion = np.append(self.companion, np.array(kept, np.int8))
        self.is_moisture = np.append(self.is_moisture, _among(new, {MOISTURE}))
        devices = [
            self._devices.setdefault((one.station, one.device), len(self._devices)) for one in new
        ]
        self.device = np.append(self.device, np.array(devices, np.int64))

    def _conditions_of(self, plot: PlotContext | None) -> Conditions:
        if plot not in self._known:
            self._known[plot] = conditions.of_plot(plot)
        return self._known[plot]

    def _companion(self, indicator: str, plot: PlotContext | None, known: Conditions) -> int:
        if plot is None or not plot.plot_id or indicator not in COMPANION_INDICATORS:
            return -1
        if indicator != SOIL_PH and indicator not in self.limits.companions_of(known):
            return -1
        return COMPANION_INDICATORS.index(indicator)


def _among(series: Sequence[Series], indicators: Collection[str]) -> Bools:
    return np.array([one.indicator in indicators for one in series], np.bool_)
