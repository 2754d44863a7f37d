"""Names of products, substances and methods as people and instruments write them, resolved to ours."""

from __future__ import annotations

import difflib
import heapq
import re
import unicodedata
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, TypeVar

from ingest.judge.catalogue.tables import read_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ingest.judge.catalogue.residue_rows import ResidueRows
    from ingest.judge.catalogue.tables import Directories, Row

OP_CARBAMATE = "op_carbamate_inhibition"
"""The parameter of the enzyme inhibition method: organophosphates and carbamates together."""

_SILENT = re.compile(r"[\s/\0-\x1f_\-‐‑–—·・\u00ad\u200b-\u200f\u2060\ufeff]+")
_BRACKETS = re.compile(r"\(([^()]*)\)")
_REMARK = re.compile(r"\s|之和|组合|类$")
"""What stands in brackets after a substance's name without being another name."""
_STANDARD = re.compile(r"([A-Z]{1,4})(?:/?[TZ])?([0-9]+(?:\.[0-9]+)*)(?:-([0-9]{4}))?")
_LONGEST = 60  # comparing names costs their length squared
_CANDIDATES = 8
_REMEMBERED = 4096
_SOUNDS_ALIKE = 24
_CUT_BYTES = 6  # one popular tester keeps 6 bytes of a GBK name: 3 characters


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


_Named = TypeVar("_Named")


def cut(folded: str) -> str:
    """Return what a tester with 6 bytes for a GBK name keeps of it; the name itself when it fits.

    >>> cut("结球甘蓝"), cut("茄子"), cut("D小麦粉")
    ('结球甘', '茄子', 'D小麦')
    """
    kept = folded.encode("gbk", "replace")[:_CUT_BYTES].decode("gbk", "ignore")
    return kept if folded.startswith(kept) else folded


class _Nearest(Generic[_Named]):
    """Finds the names closest to one that is not known; remembers what it was asked."""

    def __init__(self, known: Mapping[str, _Named], name_of: Callable[[_Named], str]) -> None:
        self._known = known
        self._name_of = name_of
        self._having: dict[str, list[str]] = defaultdict(list)
        self._sizes: dict[str, int] = {}
        self._but_one: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._answers: dict[str, tuple[str, ...]] = {}

    def near(self, name: str) -> tuple[str, ...]:
        """Return at most three names, the closest first."""
        folded = fold(name)[:_LONGEST]
        answer = self._answers.get(folded)
        if answer is None:
            if len(self._answers) >= _REMEMBERED:
                self._answers.clear()
            answer = self._answers[folded] = self._search(folded)
        return answer

    def _search(self, folded: str) -> tuple[str, ...]:
        if not self._sizes:
            self._index()
        # What shares most of its pieces is compared; comparing all names would cost milliseconds for each slip.
        pieces = _pieces(folded)
        shared: Counter[str] = Counter()
        for piece in pieces:
            shared.update(self._having.get(piece, ()))
        weight = {known: n / (len(pieces) + self._sizes[known]) for known, n in shared.items()}
        likely = heapq.nlargest(_CANDIDATES, weight, key=weight.__getitem__)
        close = difflib.get_close_matches(folded, likely, n=6, cutoff=0.4)
        found = [*self._homophones(folded), *close]
        return tuple(dict.fromkeys(self._name_of(self._known[each]) for each in found))[:3]

    def _homophones(self, folded: str) -> list[str]:
        """Return the names that differ in one character of about the same sound: 波菜 for 菠菜."""
        far: dict[str, int] = {}
        for at, letter in enumerate(folded):
            for known in self._but_one.get((folded[:at], folded[at + 1 :]), ()):
                far[known] = abs(_by_sound(known[at]) - _by_sound(letter))
        return sorted((name for name in far if far[name] <= _SOUNDS_ALIKE), key=far.__getitem__)

    def _index(self) -> None:
        for folded in self._known:
            pieces = _pieces(folded)
            self._sizes[folded] = len(pieces)
            for piece in pieces:
                self._having[piece].append(folded)
            for at, letter in enumerate(folded):
                if not letter.isascii():
                    self._but_one[folded[:at], folded[at + 1 :]].append(folded)


def _by_sound(letter: str) -> int:
    """Return a character's place in GBK, whose common characters stand in the order of their sound."""
    return int.from_bytes(letter.encode("gbk", "ignore"))


def _pieces(folded: str) -> set[str]:
    """Return characters and pairs of characters; a Latin letter by itself says nothing."""
    pairs = {folded[at : at + 2] for at in range(len(folded) - 1)}
    return pairs | {letter for letter in folded if not letter.isascii()}


@dataclass(frozen=True, slots=True)
class Names:
    """Lookup tables from folded names; immutable."""

    products: Mapping[str, Product]
    substances: Mapping[str, Substance]
    methods: Mapping[str, Method]
    _cuts: Mapping[str, tuple[Product, ...]] = field(init=False, repr=False, compare=False)
    _products: _Nearest[Product] = field(init=False, repr=False, compare=False)
    _substances: _Nearest[Substance] = field(init=False, repr=False, compare=False)
    _methods: _Nearest[Method] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        cuts: dict[str, dict[str, Product]] = defaultdict(dict)
        for folded, product in self.products.items():
            kept = cut(folded)
            if kept != folded:
                cuts[kept][product.name_zh] = product
        found = {kept: tuple(products.values()) for kept, products in cuts.items()}
        object.__setattr__(self, "_cuts", found)
        object.__setattr__(self, "_products", _Nearest(self.products, _product_name))
        object.__setattr__(self, "_substances", _Nearest(self.substances, _substance_name))
        object.__setattr__(self, "_methods", _Nearest(self.methods, _method_name))

    def product(self, name: str) -> Product | None:
        """Return the product of ``name``, also when an instrument cut the name short and one product fits."""
        folded = fold(name)
        found = self.products.get(folded)
        if found is None:
            longer = self._cuts.get(folded.rstrip("\ufffd"), ())
            found = longer[0] if len(longer) == 1 else None
        return found

    def substance(self, name: str) -> Substance | None:
        """Return the substance of a parameter code, Chinese or English name, or CAS number."""
        return self.substances.get(fold(name))

    def method(self, name: str) -> Method | None:
        """Return the method of a code or name."""
        return self.methods.get(fold(name))

    def near_product(self, name: str) -> tuple[str, ...]:
        """Return every product that a cut name may mean, else the closest known product names."""
        longer = self._cuts.get(fold(name).rstrip("\ufffd"), ())
        return tuple(product.name_zh for product in longer) or self._products.near(name)

    def near_substance(self, name: str) -> tuple[str, ...]:
        """Return the closest known substances, English and Chinese."""
        return self._substances.near(name)

    def near_method(self, name: str) -> tuple[str, ...]:
        """Return the closest known methods, code and Chinese."""
        return self._methods.near(name)


def _product_name(product: Product) -> str:
    return product.name_zh


def _substance_name(substance: Substance) -> str:
    return f"{substance.code} {substance.name_zh}".strip()


def _method_name(method: Method) -> str:
    return f"{method.code} {method.name_zh}"


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

    def offer_parts(self, name: str, name_zh: str, thing: _Named) -> None:
        """Offer an English and a Chinese name, and each of the names they join."""
        parts = re.split(r"/| and |\+", plain(name)) + re.split(r"/|和", plain(name_zh))
        self.offer([name, name_zh, plain(name), plain(name_zh), *parts], thing)


def _products(directory: Directories, faults: list[str]) -> dict[str, Product]:
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
    directory: Directories,
    notices: Sequence[Row],
    rapid: Sequence[Row],
    residues: ResidueRows,
    faults: list[str],
) -> dict[str, Substance]:
    screened = Substance(OP_CARBAMATE, "有机磷和氨基甲酸酯类农药")
    by_code: dict[str, Substance] = {OP_CARBAMATE: screened}
    table = _Table[Substance](faults)
    table.offer([OP_CARBAMATE], screened)
    for row in notices:
        code = plain(row["substance"])
        substance = by_code.setdefault(code, Substance(code, plain(row["substance_zh"])))
        table.add(code, substance, row.place)
        table.add(plain(row["substance_zh"]), substance, row.place)
        # In brackets stand other names, or a class of substances (…类).
        bracketed = _BRACKETS.findall(row["substance"]) + _BRACKETS.findall(row["substance_zh"])
        table.offer((n for n in bracketed if not n.endswith("类")), substance)
        table.offer([row["cas"], row["substance"], row["substance_zh"]], substance)
    _residue_substances(table, residues)
    columns = ("alias", "substance", "note")
    for row in read_table(directory / "substance_aliases.csv", columns, faults):
        known = table.names.get(fold(row["substance"]))
        if known is None:
            row.fault("substance", f"{row['substance']!r} has no notice and no limit")
        else:
            table.add(row["alias"], known, row.place)
    for row in rapid:
        name, name_zh = row["analyte"], row["analyte_zh"]
        found = table.names.get(fold(name)) or table.names.get(fold(plain(name)))
        table.offer_parts(name, name_zh, found or Substance(plain(name), plain(name_zh)))
    return table.names


def _residue_substances(table: _Table[Substance], residues: ResidueRows) -> None:
    """Add what the residue tables name: what is measured by itself first, then the rows' own words."""
    for row in residues.components:
        name, name_zh = row["component"], row["component_zh"]
        if name == row["substance"]:
            continue  # the row of the limit names it
        part = table.names.get(fold(name)) or Substance(name, name_zh)
        for alias in (name, name_zh, *filter(None, row["aliases"].split(";"))):
            table.add(alias, part, row.place)
    members: dict[str, set[str]] = defaultdict(set)
    for row in residues.components:
        members[row["substance"]].add(row["component"])
    said: set[tuple[str, str]] = set()
    for row in residues.limits:
        name, name_zh = row["substance"], row["substance_zh"]
        if (name, name_zh) in said:
            continue
        said.add((name, name_zh))
        numbers = row["cas"].split(";")
        found = table.names.get(fold(name)) or table.names.get(fold(plain(name)))
        if found is None:
            # A mixture's row may carry the number of what a notice names; that of a part means the part.
            known = (table.names.get(fold(number)) for number in filter(None, numbers))
            found = next((s for s in known if s and s.code not in members[plain(name)]), None)
        found = found or Substance(plain(name), plain(name_zh))
        table.offer(numbers, found)
        bracketed = _BRACKETS.findall(name) + _BRACKETS.findall(name_zh)
        table.offer((n for n in bracketed if not _REMARK.search(n)), found)
        table.offer_parts(name, name_zh, found)
    for row in residues.components:
        substance = table.names.get(fold(row["substance"]))
        if substance is not None and row["component"] == row["substance"]:
            table.offer(row["aliases"].split(";"), substance)


def _methods(directory: Directories, faults: list[str]) -> dict[str, Method]:
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
    directory: Directories,
    notices: Sequence[Row],
    rapid: Sequence[Row],
    residues: ResidueRows,
    faults: list[str],
) -> Names:
    """Build the lookup tables; note names that would mean two things."""
    return Names(
        _products(directory, faults),
        _substances(directory, notices, rapid, residues, faults),
        _methods(directory, faults),
    )
