"""What is registered about the plot of a device, as far as it picks limits."""

from __future__ import annotations

from dataclasses import dataclass

_YES_NO = ("yes", "no")
CONDITION_WORDS: dict[str, tuple[str, ...]] = {
    "land_use": ("paddy", "orchard", "other", "paddy_upland_rotation"),
    "water_use": ("irrigation", "fishery", "livestock", "surface"),
    "crop": ("paddy", "dry", "vegetable_processed", "vegetable_raw"),
    "water_class": ("I", "II", "III", "IV", "V"),
    "water_body": ("river", "lake"),
    "water": ("freshwater", "seawater"),
    "salmonid": _YES_NO,
    "shellfish": _YES_NO,
    "ice_covered": _YES_NO,
    "animal": ("livestock", "poultry"),
    "animal_age": ("adult", "young"),
    "soil_salinity": ("non_saline_soil", "saline_alkali_soil"),
    "fluoride_area": ("general_area", "high_fluoride_area"),
    "boron_tolerance": (
        "boron_sensitive_crop",
        "boron_tolerant_crop",
        "boron_strongly_tolerant_crop",
    ),
}
"""The words that a plot may be registered with, by field of ``PlotContext``."""


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
    water: str = ""
    salmonid: str = ""
    shellfish: str = ""
    ice_covered: str = ""
    animal: str = ""
    animal_age: str = ""
