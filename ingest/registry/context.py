"""What is registered about the plot of a device, as far as it picks limits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PlotContext:
    """Conditions of one plot; names and values as in the context of ``agrigate judge``, blank = not registered.

    ``plot_id`` is blank for a device that is bound to no plot.
    """

    plot_id: str = ""
    region_code: str = ""
    land_use: str = ""
    crop: str = ""
    water_use: str = ""
    soil_ph: float | None = None
    soil_salinity: str = ""
    fluoride_area: str = ""
    boron_tolerance: str = ""
    water_class: str = ""
    water_body: str = ""
