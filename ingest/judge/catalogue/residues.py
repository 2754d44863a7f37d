"""Maximum residue limits: which row of GB 2763 or GB 31650 applies to a substance in a product (pure).

The exact commodity goes before its group, the nearest group before a wider one, the narrowest species before a class. A
row that names exceptions does not cover them. The edition in force when the sample was taken counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

from drivers import units
from ingest.judge.catalogue.editions import family
from ingest.judge.catalogue.veterinary import EVERY_TISSUE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from decimal import Decimal

    from ingest.judge.catalogue.commodities import Commodities
    from ingest.judge.catalogue.names import Product
    from ingest.judge.catalogue.veterinary import Animals

Subject = tuple[str, ...]
"""What a row is about: (commodity,) or (species, tissue)."""
Level = Literal["commodity", "group"]
Food = Literal["plant", "animal"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ResidueLimit:
    """One row of a residue table, in the table's own words and unit; in force for ``from_ms`` ≤ t < ``to_ms``.

    ``zero_tolerance``: must not be detected. ``fat_basis``: compare the residue in the fat. ``emrl``: an extraneous
    limit, for what persists in the environment. ``excepted`` are commodities beneath the row's own that it leaves out.
    """

    standard: str
    title_zh: str
    substance: str
    substance_zh: str
    subject_zh: str
    subject_en: str
    limit: Decimal
    unit: str
    fat_basis: bool = False
    zero_tolerance: bool = False
    temporary: bool = False
    emrl: bool = False
    clause: str
    verified: bool
    from_ms: int
    to_ms: int
    limit_version: str
    place: str
    source: str
    rule_id: str
    subjects: tuple[Subject, ...]
    excepted: frozenset[str] = frozenset()

    def overlaps(self, other: ResidueLimit) -> bool:
        """Tell whether two rows on one subject are in force together as editions of one standard."""
        if self.from_ms >= other.to_ms or other.from_ms >= self.to_ms:
            return False
        return family(self.standard) == family(other.standard)

    def amount(self) -> Fraction:
        """Return the limit in mg/kg."""
        return units.conversion(self.unit, "mg/kg").apply(Fraction(self.limit))


@dataclass(frozen=True, slots=True)
class ResidueMatch:
    """The row that applies, how near it came, and whether an edition no longer in force had to stand in."""

    limit: ResidueLimit
    level: Level
    matched_zh: str
    fallback: bool = False
    fallback_zh: str = ""
    fallback_en: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidueDefinition:
    """What a limit is compared with: the sum of ``components`` (codes, the parent among them), or the substance itself.

    ``single_too``: the limit also holds for each component alone. ``food`` is what a definition is confined to.
    """

    substance: str
    text_zh: str
    components: tuple[str, ...]
    is_sum: bool = False
    single_too: bool = False
    verified: bool
    standard: str
    from_ms: int
    to_ms: int
    food: Food | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """What is known to be missing in the table of a standard."""

    missing_zh: str
    missing_en: str


@dataclass(frozen=True, slots=True)
class Book:
    """The limits of all tables of one layout; immutable."""

    rows: Mapping[str, Mapping[Subject, tuple[ResidueLimit, ...]]]
    """Substance -> subject -> rows, the latest edition first."""
    editions: tuple[tuple[str, int, int], ...]
    """Standard, from, to: of every edition that has a table."""
    spans: Mapping[str, tuple[tuple[int, int], ...]]
    """Substance -> periods in which a table has it."""

    def valid_at(self, code: str, at_ms: int) -> int | None:
        """Return the time whose rows apply to a sample of ``at_ms``, None when no edition had the substance by then.

        It is earlier when only an edition no longer in force has it.
        """
        spans = self.spans.get(code, ())
        if any(start <= at_ms < end for start, end in spans):
            return at_ms
        ended = [end for _, end in spans if end <= at_ms]
        return max(ended) - 1 if ended else None

    def find(
        self, code: str, subjects: Sequence[Subject], names: Sequence[str], at_ms: int
    ) -> ResidueMatch | None:
        """Return the row on the first of ``subjects`` that has one; ``names`` are the product's, upward."""
        valid_ms = self.valid_at(code, at_ms)
        rows = self.rows.get(code)
        if valid_ms is None or rows is None:
            return None
        for at, subject in enumerate(subjects):
            for row in rows.get(subject, ()):
                if row.from_ms <= valid_ms < row.to_ms and _covers(row, subject, names):
                    level: Level = "group" if at else "commodity"
                    if valid_ms == at_ms:
                        return ResidueMatch(row, level, row.subject_zh)
                    zh, en = self._fallback(row, at_ms)
                    return ResidueMatch(
                        row, level, row.subject_zh, fallback=True, fallback_zh=zh, fallback_en=en
                    )
        return None

    def standards(self, code: str, at_ms: int | None) -> tuple[str, ...]:
        """Return the standards whose tables answer for a substance; None asks for the latest."""
        spans = self.spans.get(code, ())
        if not spans:
            return ()
        valid_ms = max(end for _, end in spans) - 1 if at_ms is None else self.valid_at(code, at_ms)
        if valid_ms is None:
            return ()
        found = {
            row.standard
            for rows in self.rows[code].values()
            for row in rows
            if row.from_ms <= valid_ms < row.to_ms
        }
        return tuple(sorted(found))

    def _fallback(self, row: ResidueLimit, at_ms: int) -> tuple[str, str]:
        current = [name for name, start, end in self.editions if start <= at_ms < end]
        if not current:
            return (
                f"采样时没有现行版本,采用已废止的{row.standard}的限量",
                f"no edition was in force: the limit of {row.standard}, no longer in force, is used",
            )
        names = "、".join(current)
        return (
            f"{names}的录入表中没有{row.substance_zh},采用已被代替的{row.standard}的限量",
            f"the table held of {', '.join(current)} lacks {row.substance}: the limit of {row.standard},"
            " which it replaced, is used",
        )


def _covers(row: ResidueLimit, subject: Subject, names: Sequence[str]) -> bool:
    if not row.excepted:
        return True
    # A product that names the whole group may be one of the exceptions.
    return subject != (names[0],) and row.excepted.isdisjoint(names)


@dataclass(frozen=True, slots=True)
class Residues:
    """Every residue limit and definition of the catalogue; immutable."""

    commodities: Commodities
    animals: Animals
    crops: Book
    tissues: Book
    definitions: Mapping[str, tuple[ResidueDefinition, ...]]
    """Substance -> definitions, the latest edition first."""
    sums: Mapping[str, tuple[str, ...]]
    singles: Mapping[str, str]
    gaps: Mapping[tuple[str, str], Gap]
    rows: tuple[ResidueLimit, ...]
    _keys: dict[str, tuple[tuple[str, ...], tuple[Subject, ...], tuple[Subject, ...]]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def limits(self) -> Iterator[ResidueLimit]:
        """Yield every row once, in the order of the tables."""
        return iter(self.rows)

    def find(self, substance_code: str, product: Product, at_ms: int) -> ResidueMatch | None:
        """Return the limit on a substance in a product at sampling time (UTC ms), or None: no limit is not zero.

        Where the name leaves fresh or dried open, a limit is found only when both have the same. A product under two
        standards at once must meet both: the lower limit is returned.
        """
        code = self.singles.get(substance_code, substance_code)
        if code not in self.crops.rows and code not in self.tissues.rows:
            return None
        name = product.name_zh
        forms = self.commodities.forms(name)
        if not forms:
            return self._find(code, name, at_ms)
        exact = self._find(code, name, at_ms)
        if exact is not None and exact.level == "commodity":
            return exact
        found = [match for form in forms if (match := self._find(code, form, at_ms)) is not None]
        same = len(found) == len(forms) and len({_rank(match) for match in found}) == 1
        return found[0] if same else None

    def applying(self, product: Product, at_ms: int) -> Iterator[ResidueMatch]:
        """Yield every limit on ``product`` at sampling time, by substance."""
        for code in sorted({*self.crops.rows, *self.tissues.rows}):
            match = self.find(code, product, at_ms)
            if match is not None:
                yield match

    def forms(self, product: Product) -> tuple[str, ...]:
        """Return the fresh and the dried commodity where the product's name leaves the form open."""
        return self.commodities.forms(product.name_zh)

    def definition(
        self, substance_code: str, at_ms: int, product: Product | None = None
    ) -> ResidueDefinition | None:
        """Return what the limits on a substance are compared with at sampling time; None when it has no limits.

        Without a product the definition for food of plants is returned where the two differ.
        """
        code = self.singles.get(substance_code, substance_code)
        food: Food = "animal" if product is not None and product.is_animal else "plant"
        fit = [one for one in self.definitions.get(code, ()) if one.food in (None, food)]
        valid = [one for one in fit if one.from_ms <= at_ms < one.to_ms]
        if not valid:
            ended = [one for one in fit if one.to_ms <= at_ms]
            valid = sorted(ended, key=_end, reverse=True)
        return valid[0] if valid else None

    def sums_with(self, code: str) -> tuple[str, ...]:
        """Return the substances whose residue definition adds ``code`` to others."""
        return self.sums.get(code, ())

    def covers(self, substance_code: str, at_ms: int) -> bool:
        """Tell whether a table that applies at sampling time has the substance at all."""
        code = self.singles.get(substance_code, substance_code)
        return any(book.valid_at(code, at_ms) is not None for book in (self.crops, self.tissues))

    def incomplete(self, substance_code: str, at_ms: int | None = None) -> bool:
        """Tell whether the table that answers for a substance is known to lack rows; None asks for the latest."""
        return self.gap(substance_code, at_ms) is not None

    def gap(self, substance_code: str, at_ms: int | None = None) -> Gap | None:
        """Return what is known to be missing in the table that answers for a substance."""
        code = self.singles.get(substance_code, substance_code)
        for book in (self.crops, self.tissues):
            for standard in book.standards(code, at_ms):
                gap = self.gaps.get((standard, code)) or self.gaps.get((standard, "*"))
                if gap is not None:
                    return gap
        return None

    def _find(self, code: str, name: str, at_ms: int) -> ResidueMatch | None:
        keys = self._keys.get(name)
        if keys is None:
            keys = self._keys[name] = self._subjects(name)
        names, commodities, parts = keys
        crop = self.crops.find(code, commodities, names, at_ms)
        tissue = self._of_animals(code, names, parts, at_ms) if parts else None
        if crop is None or tissue is None:
            return crop or tissue
        return min(crop, tissue, key=_rank)

    def _of_animals(
        self, code: str, names: tuple[str, ...], parts: tuple[Subject, ...], at_ms: int
    ) -> ResidueMatch | None:
        found = self.tissues.find(code, parts, names, at_ms)
        if found is not None or code not in self.tissues.rows:
            return found
        # A product of a class (raw milk) has the limit that every species of the class has.
        species, tissue = parts[0]
        kinds = [
            self.tissues.find(code, ((kind, tissue),), names, at_ms)
            for kind in self.animals.kinds(species)
        ]
        matches = [match for match in kinds if match is not None]
        if not matches or len(matches) < len(kinds) or len({_rank(one) for one in matches}) > 1:
            return None
        return replace(matches[0], level="group")

    def _subjects(
        self, name: str
    ) -> tuple[tuple[str, ...], tuple[Subject, ...], tuple[Subject, ...]]:
        lineage = self.commodities.lineage(name)
        part = self.animals.part(lineage)
        parts = (
            [
                (species, tissue)
                for species in self.animals.lineage(part.species)
                for tissue in (part.tissue, EVERY_TISSUE)
            ]
            if part is not None
            else []
        )
        return lineage, tuple((one,) for one in lineage), tuple(parts)


def _end(definition: ResidueDefinition) -> int:
    return definition.to_ms


def _rank(match: ResidueMatch) -> tuple[bool, Fraction, bool]:
    return match.fallback, match.limit.amount(), match.limit.fat_basis
