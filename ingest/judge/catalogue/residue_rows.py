"""Reading the residue tables (``mrl_*.csv``) and the parts of residue definitions, as they are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ingest.judge.catalogue.tables import read_table

if TYPE_CHECKING:
    from ingest.judge.catalogue.tables import Directories, Row

CROP_PREFIX, TISSUE_PREFIX = "mrl_gb2763_", "mrl_gb31650_"
_SUBSTANCE = ("standard", "substance", "substance_zh", "cas")
_CROP_COLUMNS = (
    *_SUBSTANCE,
    "commodity",
    "commodity_zh",
    "commodity_group",
    "limit_mg_kg",
    "temporary",
    "residue_definition",
)
_TISSUE_COLUMNS = (
    *_SUBSTANCE,
    "species",
    "species_zh",
    "tissue",
    "tissue_zh",
    "limit",
    "unit",
    "zero_tolerance",
)
_COMPONENT_COLUMNS = ("substance", "scope", "rule", "component", "component_zh", "aliases")


@dataclass(frozen=True, slots=True)
class ResidueRows:
    """The raw rows of the residue tables, and of the components that residue definitions add up."""

    crops: tuple[Row, ...]
    tissues: tuple[Row, ...]
    components: tuple[Row, ...]

    @property
    def limits(self) -> tuple[Row, ...]:
        """The rows that carry a limit."""
        return self.crops + self.tissues


def read_residue_rows(directories: Directories, faults: list[str]) -> ResidueRows:
    """Read every residue table; note every fault of form."""
    read: dict[str, list[Row]] = {CROP_PREFIX: [], TISSUE_PREFIX: []}
    for prefix, columns in ((CROP_PREFIX, _CROP_COLUMNS), (TISSUE_PREFIX, _TISSUE_COLUMNS)):
        for file in directories.names(prefix):
            read[prefix] += read_table(directories / file, columns, faults)
    components = read_table(directories / "residue_components.csv", _COMPONENT_COLUMNS, faults)
    return ResidueRows(tuple(read[CROP_PREFIX]), tuple(read[TISSUE_PREFIX]), tuple(components))
