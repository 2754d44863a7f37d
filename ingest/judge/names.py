"""Names of products, substances and methods as people and instruments write them, resolved to ours."""

from __future__ import annotations

import difflib
import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, TypeVar

from ingest.judge.tables import read_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from ingest.judge.tables import Row

OP_CARBAMATE = "op_carbamate_inhibition"
"""The parameter of the enzyme inhibition method: organophosphates and carbamates together."""

_SILENT = re.compile(r"[\s/\0_\-‐‑–—·・]+")
_BRACKETS = re.compile(r"\(([^()]*)\)")
_STANDARD = re.compile(r"([A-Z]{1,4})(?:/?[TZ])?([0-9]+(?:\.[0-9]+)*)(?:-([0-9]{4}))?")
_LONGEST = 60  # comparing names costs their length squared
_CUT_LENGTH = 3  # one popular tester keeps 6 bytes of a GBK name


class MethodClass(StrEnum):
    """How far a method's result goes."""

    SCREENING = "screening"
    CONFIRMATORY = "confirmatory"
    SENSOR = "sensor"


@dataclass(frozen=True, slots=True)
class Product:
    """A known product; ``fp_prone`` when its own juice inhibits the enzyme."""

    name_zh: str
    name_en: str
    group: str
    fp_prone: bool

    @property
    def is_animal(self) -> bool:
        """Whether it comes from an animal (meat, milk, eggs, fish, urine)."""
        return self.group == "animal"


@dataclass(frozen=True, slots=True)
class Substance:
    """A known substance; ``code`` is its English name."""

    code: str
    name_zh: str


@dataclass(frozen=True, slots=True)
class Method:
    """A known method of testing."""

    code: str
    name_zh: str
    method_class: MethodClass


def fold(text: str) -> str:
    """Fold what does not tell names apart: NUL, blanks, dashes, full width, case.

    >>> fold("生  菜" + chr(0)), fold("Parathion-Methyl"), fold("克百威（总量）")
    ('生菜', 'parathionmethyl', '克百威(总量)')
    """
    return _SILENT.sub("", unicodedata.normalize("NFKC", text)).casefold()


def plain(text: str) -> str:
    """Return the name without brackets and without "and its salts and esters".

    >>> plain("chloramphenicol and its salts and esters"), plain("克仑特罗(β-兴奋剂类)")
    ('chloramphenicol', '克仑特罗')
    """
    text = _BRACKETS.sub("", text).strip()
    return text.removesuffix(" and its salts and esters").removesuffix("及其盐、酯")


def standard_number(text: str) -> tuple[str, str] | None:
    """Return (number, year) of the first standard named in ``text``; the year may be blank.

    >>> standard_number("GB/T 5009.199—2003"), standard_number("ny/t448")
    (('GB5009.199', '2003'), ('NY448', ''))
    """
    squeezed = re.sub(r"\s+", "", unicodedata.normalize("NFKC", text)).upper()
    squeezed = re.sub(r"[‐‑–—]+", "-", squeezed)
    match = _STANDARD.search(squeezed)
    return None if match is None else (match[1] + match[2], match[3] or "")


@dataclass(frozen=True, slots=True)
class Names:
    """Lookup tables from folded names; immutable."""

    products: Mapping[str, Product]
    substances: Mapping[str, Substance]
    methods: Mapping[str, Method]

    def product(self, name: str) -> Product | None:
        """Return the product of ``name``, also when an instrument cut the name to 3 characters."""
        folded = fold(name)
        found = self.products.get(folded)
        if found is None and len(folded) == _CUT_LENGTH:
            longer = {
                product.name_zh: product
                for known, product in self.products.items()
                if known.startswith(folded)
            }
            found = next(iter(longer.values())) if len(longer) == 1 else None
        return found

    def substance(self, name: str) -> Substance | None:
        """Return the substance of a parameter code, Chinese or English name, or CAS number."""
        return self.substances.get(fold(name))

    def method(self, name: str) -> Method | None:
        """Return the method of a code or name."""
        return self.methods.get(fold(name))

    def near_product(self, name: str) -> tuple[str, ...]:
        """Return the closest known product names."""
        return _near(self.products, name, _product_name)

    def near_substance(self, name: str) -> tuple[str, ...]:
        """Return the closest known substances, English and Chinese."""
        return _near(self.substances, name, _substance_name)

    def near_method(self, name: str) -> tuple[str, ...]:
        """Return the closest known method codes."""
        return _near(self.methods, name, _method_code)


def _product_name(product: Product) -> str:
    return product.name_zh


def _substance_name(substance: Substance) -> str:
    return f"{substance.code} {substance.name_zh}".strip()


def _method_code(method: Method) -> str:
    return method.code


_Named = TypeVar("_Named")


def _near(
    known: Mapping[str, _Named], name: str, name_of: Callable[[_Named], str]
) -> tuple[str, ...]:
    close = difflib.get_close_matches(fold(name)[:_LONGEST], known, n=6, cutoff=0.4)
    return tuple(dict.fromkeys(name_of(known[folded]) for folded in close))[:3]


class _Table(Generic[_Named]):
    """Folded name -> thing; a name may not mean two things."""

    def __init__(self, faults: list[str]) -> None:
        self.names: dict[str, _Named] = {}
        self._faults = faults

    def add(self, name: str, thing: _Named, place: str) -> None:
        """Add a name; note a fault when it already means something else."""
        if name and self.names.setdefault(fold(name), thing) != thing:
            self._faults.append(f"{place}: {name!r} already means {self.names[fold(name)]}")

    def offer(self, names: Iterable[str], thing: _Named) -> None:
        """Add those names that mean nothing yet."""
        for name in filter(None, names):
            self.names.setdefault(fold(name), thing)


def _products(directory: Path, faults: list[str]) -> dict[str, Product]:
    prone_rows = read_table(directory / "fp_prone_products.csv", ("commodity_zh", "reason"), faults)
    prone = {row["commodity_zh"] for row in prone_rows}
    table = _Table[Product](faults)
    columns = ("commodity_zh", "commodity", "commodity_group", "is_group")
    for file in ("commodity_groups.csv", "extra_commodities.csv"):
        for row in read_table(directory / file, columns, faults):
            name = row["commodity_zh"]
            product = Product(name, row["commodity"], row["commodity_group"], name in prone)
            table.add(name, product, row.place)
            table.offer([row["commodity"]], product)
    for row in prone_rows:
        if fold(row["commodity_zh"]) not in table.names:
            row.fault("commodity_zh", f"{row['commodity_zh']!r} is not a known product")
    for row in read_table(directory / "product_aliases.csv", ("alias", "commodity_zh"), faults):
        known = table.names.get(fold(row["commodity_zh"]))
        if known is None:
            row.fault("commodity_zh", f"{row['commodity_zh']!r} is not a known product")
        else:
            table.add(row["alias"], known, row.place)
    return table.names


def _substances(
    directory: Path, notices: Sequence[Row], rapid: Sequence[Row], faults: list[str]
) -> dict[str, Substance]:
    by_code: dict[str, Substance] = {
        OP_CARBAMATE: Substance(OP_CARBAMATE, "有机磷和氨基甲酸酯类农药")
    }
    table = _Table[Substance](faults)
    for row in notices:
        code = plain(row["substance"])
        substance = by_code.setdefault(code, Substance(code, plain(row["substance_zh"])))
        table.add(code, substance, row.place)
        table.add(plain(row["substance_zh"]), substance, row.place)
        # In brackets stand other names, or a class of substances (…类).
        bracketed = _BRACKETS.findall(row["substance"]) + _BRACKETS.findall(row["substance_zh"])
        table.offer((n for n in bracketed if not n.endswith("类")), substance)
        table.offer([row["cas"], row["substance"], row["substance_zh"]], substance)
    aliases = read_table(
        directory / "substance_aliases.csv", ("alias", "substance", "note"), faults
    )
    known = read_table(directory / "known_substances.csv", ("substance", "substance_zh"), faults)
    for row in aliases:
        if row["substance"] not in by_code:
            row.fault("substance", f"{row['substance']!r} has no notice")
        else:
            table.add(row["alias"], by_code[row["substance"]], row.place)
    pairs = [(r["substance"], r["substance_zh"]) for r in known]
    pairs += [(r["analyte"], r["analyte_zh"]) for r in rapid]
    for name, name_zh in pairs:
        substance = table.names.get(fold(name)) or Substance(plain(name), plain(name_zh))
        parts = re.split(r"/| and |\+", plain(name)) + re.split(r"/|和", plain(name_zh))
        table.offer([name, name_zh, substance.code, substance.name_zh, *parts], substance)
    return table.names


def _methods(directory: Path, faults: list[str]) -> dict[str, Method]:
    table = _Table[Method](faults)
    columns = ("method", "method_class", "name_zh", "name_en", "aliases")
    for row in read_table(directory / "methods.csv", columns, faults):
        method_class = row.word("method_class", tuple(MethodClass))
        if method_class is None:
            continue
        method = Method(row["method"], row["name_zh"], MethodClass(method_class))
        for name in (row["method"], row["name_zh"], row["name_en"], *row["aliases"].split(";")):
            table.add(name, method, row.place)
    return table.names


def load_names(
    directory: Path, notices: Sequence[Row], rapid: Sequence[Row], faults: list[str]
) -> Names:
    """Build the lookup tables; note names that would mean two things."""
    return Names(
        _products(directory, faults),
        _substances(directory, notices, rapid, faults),
        _methods(directory, faults),
    )
