"""Animal products of GB 31650: the species and tissue a product is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ingest.judge.catalogue.tables import read_table

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from ingest.judge.catalogue.commodities import Commodities

EVERY_TISSUE = "all edible tissues"
"""The tissue of a row on whatever is eaten of the animal, milk, eggs and honey with it."""


@dataclass(frozen=True, slots=True)
class Part:
    """A tissue of a species."""

    species: str
    tissue: str


@dataclass(frozen=True, slots=True)
class Animals:
    """Species, tissues and the products made of them; immutable."""

    species: Mapping[str, str | None]
    """Species -> the wider class it belongs to."""
    tissues: Collection[str]
    products: Mapping[str, Part]

    def lineage(self, species: str) -> tuple[str, ...]:
        """Return ``species``, then the classes it belongs to, the narrowest first."""
        found = [species]
        while (above := self.species[found[-1]]) is not None:
            found.append(above)
        return tuple(found)

    def kinds(self, species: str) -> tuple[str, ...]:
        """Return the species and classes right beneath a class."""
        return tuple(name for name, above in self.species.items() if above == species)

    def part(self, lineage: tuple[str, ...]) -> Part | None:
        """Return the part that a product is, by its names from the product up."""
        return next((self.products[name] for name in lineage if name in self.products), None)


def load_animals(
    species_path: Path, products_path: Path, commodities: Commodities, faults: list[str]
) -> Animals:
    """Read species and products; note strangers."""
    species: dict[str, str | None] = {}
    for row in read_table(species_path, ("species", "species_zh", "parent"), faults):
        if row["parent"] and row["parent"] not in species:
            row.fault("parent", f"{row['parent']!r} does not stand above")
        elif row["species"] in species:
            row.fault("species", f"duplicate: {row['species']!r} stands above")
        else:
            species[row["species"]] = row["parent"] or None
    products: dict[str, Part] = {}
    tissues = {EVERY_TISSUE}
    columns = ("commodity_zh", "species", "tissue", "tissue_zh")
    for row in read_table(products_path, columns, faults):
        name = row["commodity_zh"]
        if name not in commodities.names:
            row.fault("commodity_zh", f"{name!r} is not a known commodity")
        elif row.word("species", tuple(species)) is not None:
            if name in products:
                row.fault("commodity_zh", f"duplicate: {name!r} stands above")
            products.setdefault(name, Part(row["species"], row["tissue"]))
            tissues.add(row["tissue"])
    return Animals(species, tissues, products)
