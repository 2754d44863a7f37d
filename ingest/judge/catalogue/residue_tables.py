"""Checking the rows of the residue tables and building the limits, with their tree, sums and known gaps."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from drivers import units
from ingest.judge.catalogue.commodities import load_commodities
from ingest.judge.catalogue.residues import Book, Gap, ResidueDefinition, ResidueLimit, Residues
from ingest.judge.catalogue.tables import read_table
from ingest.judge.catalogue.veterinary import load_animals

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ingest.judge.catalogue.commodities import Commodities
    from ingest.judge.catalogue.editions import Edition
    from ingest.judge.catalogue.names import Names
    from ingest.judge.catalogue.residue_rows import ResidueRows
    from ingest.judge.catalogue.residues import Food, Subject
    from ingest.judge.catalogue.tables import Directories, Row
    from ingest.judge.catalogue.veterinary import Animals

_FROM_MEMORY = "[definition from memory]"
_EMRL = "(再残留限量EMRL)"
_SUM, _ISOMERS = "之和", "异构体之和"
_FOODS: Mapping[str, Food | None] = {"any": None, "plant": "plant", "animal": "animal"}


def load_residues(
    rows: ResidueRows,
    directories: Directories,
    editions: Mapping[str, Edition],
    names: Names,
    faults: list[str],
) -> Residues:
    """Build the residue limits from ``rows``; note every fault."""
    groups = {product.name_zh: product.group for product in names.products.values()}
    commodities = load_commodities(directories / "commodity_tree.csv", groups, faults)
    animals = load_animals(
        directories / "animal_species.csv", directories / "animal_products.csv", commodities, faults
    )
    crops = [
        limit
        for row in rows.crops
        if (limit := _crop_limit(row, editions, names, commodities, groups)) is not None
    ]
    tissues = [
        limit
        for row in rows.tissues
        if (limit := _tissue_limit(row, editions, names, animals)) is not None
    ]
    sums = _sums(rows.components, names, faults)
    definitions = _definitions(rows, editions, names, sums)
    members: dict[str, list[str]] = defaultdict(list)
    singles: dict[str, str] = {}
    for (substance, _), one in sums.items():
        for code in one.components:
            if substance not in members[code]:
                members[code].append(substance)
            if one.single_too:
                singles[code] = substance
    return Residues(
        commodities=commodities,
        animals=animals,
        crops=_book(crops, faults),
        tissues=_book(tissues, faults),
        definitions=definitions,
        sums={code: tuple(parents) for code, parents in members.items()},
        singles=singles,
        gaps=_gaps(directories, editions, names, faults),
        rows=(*crops, *tissues),
    )


def _edition(row: Row, editions: Mapping[str, Edition]) -> Edition | None:
    edition = editions.get(row["standard"])
    if edition is None:
        row.fault("standard", f"{row['standard']!r} is not in editions.csv")
    elif row.file not in edition.files:
        row.fault("standard", f"editions.csv does not name {row.file} for {row['standard']!r}")
    return edition


def _crop_limit(
    row: Row,
    editions: Mapping[str, Edition],
    names: Names,
    commodities: Commodities,
    groups: Mapping[str, str],
) -> ResidueLimit | None:
    edition, substance = _edition(row, editions), names.substance(row["substance"])
    limit = row.decimal("limit_mg_kg")
    if limit is None:
        if not row["limit_mg_kg"]:
            row.fault("limit_mg_kg", "a limit is needed")
    elif limit <= 0:
        row.fault("limit_mg_kg", f"{limit} is no limit: it must be above 0")
    temporary = row.word("temporary", ("", "true", "false")) == "true"
    try:
        scope = commodities.scope(row["commodity_zh"])
    except ValueError as exc:
        row.fault("commodity_zh", str(exc))
        return None
    for base in scope.bases:
        if groups[base] != row["commodity_group"]:
            row.fault("commodity_group", f"{base} belongs to {groups[base]!r}")
    if edition is None or substance is None or limit is None:
        return None
    emrl = _EMRL in row["residue_definition"]
    kind = "再残留限量" if emrl else "临时限量" if temporary else "最大残留限量"
    beneath = {name for name in scope.excepted if set(commodities.lineage(name)) & {*scope.bases}}
    return ResidueLimit(
        standard=edition.standard,
        title_zh=edition.title_zh,
        substance=substance.code,
        substance_zh=row["substance_zh"],
        subject_zh=row["commodity_zh"],
        subject_en=row["commodity"],
        limit=limit,
        unit="mg/kg",
        fat_basis=scope.fat_basis,
        temporary=temporary,
        emrl=emrl,
        clause=f"{row['substance_zh']} {row['commodity_zh']} {kind}",
        verified=row.verified,
        from_ms=edition.from_ms,
        to_ms=edition.to_ms,
        limit_version=row.version(),
        place=row.place,
        source=row["source"],
        rule_id=f"mrl:{substance.code}",
        subjects=tuple((base,) for base in scope.bases),
        excepted=frozenset(beneath),
    )


def _tissue_limit(
    row: Row, editions: Mapping[str, Edition], names: Names, animals: Animals
) -> ResidueLimit | None:
    edition, substance = _edition(row, editions), names.substance(row["substance"])
    species = row.word("species", tuple(animals.species))
    tissue = row.word("tissue", tuple(sorted(animals.tissues)))
    zero = row.word("zero_tolerance", ("true", "false")) == "true"
    limit = row.decimal("limit")
    if limit is None:
        if not row["limit"]:
            row.fault("limit", "a limit is needed")
    elif limit < 0 or (limit == 0) != zero:
        row.fault("limit", f"{limit}: a limit is above 0, and 0 where zero_tolerance is true")
    try:
        unit = units.canonical(row["unit"])
    except units.UnitError as exc:
        row.fault("unit", str(exc))
        return None
    if units.quantity(unit) != units.quantity("mg/kg"):
        row.fault("unit", f"{row['unit']!r} is no unit of a residue: use ug/kg or mg/kg")
        return None
    if edition is None or substance is None or limit is None or species is None or tissue is None:
        return None
    subject_zh = f"{row['species_zh']} {row['tissue_zh']}"
    return ResidueLimit(
        standard=edition.standard,
        title_zh=edition.title_zh,
        substance=substance.code,
        substance_zh=row["substance_zh"],
        subject_zh=subject_zh,
        subject_en=f"{row['species']}, {row['tissue']}",
        limit=limit,
        unit=unit,
        zero_tolerance=zero,
        clause=f"{row['substance_zh']} {subject_zh} {'不得检出' if zero else '最大残留限量'}",
        verified=row.verified,
        from_ms=edition.from_ms,
        to_ms=edition.to_ms,
        limit_version=row.version(),
        place=row.place,
        source=row["source"],
        rule_id=f"mrl:{substance.code}",
        subjects=((species, tissue),),
    )


def _book(limits: Iterable[ResidueLimit], faults: list[str]) -> Book:
    rows: dict[str, dict[Subject, list[ResidueLimit]]] = defaultdict(lambda: defaultdict(list))
    spans: dict[str, set[tuple[int, int]]] = defaultdict(set)
    editions: dict[str, tuple[int, int]] = {}
    together: set[tuple[str, str]] = set()
    for limit in limits:
        spans[limit.substance].add((limit.from_ms, limit.to_ms))
        editions[limit.standard] = (limit.from_ms, limit.to_ms)
        for subject in limit.subjects:
            beside = rows[limit.substance][subject]
            for other in filter(limit.overlaps, beside):
                pair = (other.standard, limit.standard)
                if pair in together:
                    continue  # one line says it for two editions
                if other.standard != limit.standard:
                    together.add(pair)
                what = (
                    f"{limit.substance}, {' '.join(subject)}, {' and '.join(dict.fromkeys(pair))}"
                )
                faults.append(f"{limit.place}: overlaps {other.place} ({what})")
            beside.append(limit)
    return Book(
        rows={
            code: {
                subject: tuple(sorted(found, key=_start, reverse=True))
                for subject, found in subjects.items()
            }
            for code, subjects in rows.items()
        },
        editions=tuple((name, *span) for name, span in editions.items()),
        spans={code: tuple(sorted(found)) for code, found in spans.items()},
    )


def _start(limit: ResidueLimit) -> int:
    return limit.from_ms


@dataclass(frozen=True, slots=True)
class _Sum:
    components: tuple[str, ...]
    single_too: bool
    verified: bool


def _sums(
    rows: Iterable[Row], names: Names, faults: list[str]
) -> dict[tuple[str, Food | None], _Sum]:
    """Return substance and kind of food -> what is added up."""
    parts: dict[tuple[str, Food | None], list[tuple[str, Row]]] = defaultdict(list)
    for row in rows:
        scope = row.word("scope", tuple(_FOODS))
        row.word("rule", ("sum", "single_or_sum"))
        substance, component = names.substance(row["substance"]), names.substance(row["component"])
        if substance is None or component is None:
            row.fault("substance", f"{row['substance']!r} has no residue limit")
        elif scope is not None:
            parts[substance.code, _FOODS[scope]].append((component.code, row))
    sums = {}
    for (substance_code, food), found in parts.items():
        rules = {row["rule"] for _, row in found}
        codes = tuple(code for code, _ in found)
        if len(rules) > 1 or len(set(codes)) < len(codes):
            faults.append(
                f"{found[-1][1].place}: the lines of {substance_code!r} repeat a component or differ in rule"
            )
        verified = all(row.verified for _, row in found)
        sums[substance_code, food] = _Sum(codes, "single_or_sum" in rules, verified)
    return sums


def _definitions(
    rows: ResidueRows,
    editions: Mapping[str, Edition],
    names: Names,
    sums: Mapping[tuple[str, Food | None], _Sum],
) -> dict[str, tuple[ResidueDefinition, ...]]:
    found: dict[str, list[ResidueDefinition]] = defaultdict(list)
    first: dict[tuple[str, str], tuple[Row, str]] = {}
    for row in rows.limits:
        edition, substance = editions.get(row["standard"]), names.substance(row["substance"])
        if edition is None or substance is None:
            continue
        of_drug = "residue_definition" not in row.cells
        text = row["substance_zh"] if of_drug else row["residue_definition"]
        before = first.setdefault((edition.standard, substance.code), (row, text))
        if before[0] is not row:
            if before[1] != text:
                row.fault("residue_definition", f"differs from {before[0].place}")
            continue
        summing = _SUM in text.replace(_ISOMERS, "")
        # A definition that names one residue adds nothing up; a drug's row says it in the drug's name.
        known = sums if summing or not text or of_drug else {}
        foods: tuple[Food | None, ...] = (None,)
        if any((substance.code, food) in known for food in ("plant", "animal")):
            foods = ("plant", "animal")
        summed = [known.get((substance.code, food)) for food in foods]
        if summing and not any(summed):
            row.fault(
                "residue_definition", f"{text!r} is a sum: name its parts in residue_components.csv"
            )
        for food, one in zip(foods, summed, strict=True):
            parts = (substance.code,) if one is None else one.components
            found[substance.code].append(
                ResidueDefinition(
                    substance=substance.code,
                    text_zh=text.replace(_FROM_MEMORY, "").replace(_EMRL, "").strip(),
                    components=parts,
                    is_sum=len(parts) > 1,
                    single_too=one is not None and one.single_too,
                    verified=_FROM_MEMORY not in text and (one is None or one.verified),
                    standard=edition.standard,
                    from_ms=edition.from_ms,
                    to_ms=edition.to_ms,
                    food=food,
                )
            )
    return {code: tuple(sorted(each, key=_from, reverse=True)) for code, each in found.items()}


def _from(definition: ResidueDefinition) -> int:
    return definition.from_ms


def _gaps(
    directories: Directories, editions: Mapping[str, Edition], names: Names, faults: list[str]
) -> dict[tuple[str, str], Gap]:
    gaps: dict[tuple[str, str], Gap] = {}
    columns = ("standard", "substance", "missing_zh", "missing_en")
    for row in read_table(directories / "incomplete_tables.csv", columns, faults):
        if row["standard"] not in editions:
            row.fault("standard", f"{row['standard']!r} is not in editions.csv")
        code = "*"
        if row["substance"] != "*":
            substance = names.substance(row["substance"])
            if substance is None:
                row.fault("substance", f"{row['substance']!r} is not a known substance")
                continue
            code = substance.code
        gaps[row["standard"], code] = Gap(row["missing_zh"], row["missing_en"])
    return gaps
