"""The catalogue as the pages ask it: its rows and its names, laid out at the first question."""

from __future__ import annotations

import difflib
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dashboards.names import as_words, names_of, product_names_of
from ingest.judge.catalogue.entries import Entry, entries
from ingest.judge.catalogue.names import fold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ingest.judge.catalogue.catalogue import Catalogue

_LONGEST = 60  # comparing names costs their length squared
_CUTOFF = 0.5
_MOST_NEAR = 5

Kind = Literal["product", "substance"]


@dataclass(frozen=True, slots=True)
class Known:
    """A name of the catalogue: what to ask for, and both languages; English may be blank."""

    code: str
    zh: str
    en: str


class Standards:
    """Rows and names of one catalogue; safe to share between threads."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._name = names_of(catalogue.names)
        self.product_en: Callable[[str], str] = product_names_of(catalogue.names)

    @functools.cached_property
    def entries(self) -> list[Entry]:
        """Every row, one entry each."""
        return entries(self.catalogue)

    @functools.cached_property
    def _subjects(self) -> dict[str, Known]:
        """Folded names of everything that a row is about, indicators too."""
        found: dict[str, Known] = {}
        for entry in self.entries:
            known = Known(entry.subject, entry.subject_zh, as_words(entry.subject_en))
            words = (word.strip("(),") for word in entry.subject_en.split())
            for name in (entry.subject, entry.subject_zh, entry.subject_en, *words):
                if name:
                    found.setdefault(fold(name), known)
        return found

    @functools.cached_property
    def _products(self) -> dict[str, Known]:
        return {
            folded: self.product(product.name_zh)
            for folded, product in self.catalogue.names.products.items()
        }

    @functools.cached_property
    def _substances(self) -> dict[str, Known]:
        return {
            folded: self.substance(substance.code)
            for folded, substance in self.catalogue.names.substances.items()
        }

    def english(self, text: str) -> str:
        """Return an English name of a table as words with a capital."""
        return as_words(text)

    def product(self, name_zh: str) -> Known:
        """Return how a product is called."""
        return Known(name_zh, name_zh, self.product_en(name_zh))

    def substance(self, code: str) -> Known:
        """Return how a substance is called."""
        return Known(code, *self._name(code))

    def matching(self, kind: Kind, text: str, most: int) -> list[Known]:
        """Return names that hold ``text``, those that begin with it first; the nearest when none does."""
        known = self._products if kind == "product" else self._substances
        asked = fold(text)
        holding = sorted(
            (folded for folded in known if asked in folded),
            key=lambda folded: (not folded.startswith(asked), len(folded)),
        )
        if not holding:
            return self.nearest(text, kind)
        return list(dict.fromkeys(known[folded] for folded in holding))[:most]

    def nearest(self, text: str, kind: Kind | None = None) -> list[Known]:
        """Return the names that come nearest to ``text`` or to one of its words."""
        tables: Iterable[Mapping[str, Known]]
        if kind is None:
            tables = (self._subjects, self._products, self._substances)
        else:
            tables = (self._products if kind == "product" else self._substances,)
        asked = dict.fromkeys(fold(word)[:_LONGEST] for word in (text, *text.split()))
        scored: dict[str, tuple[float, Known]] = {}
        for table in tables:
            for word in filter(None, asked):
                for folded in difflib.get_close_matches(word, table, _MOST_NEAR, _CUTOFF):
                    score = difflib.SequenceMatcher(None, word, folded).ratio()
                    known = table[folded]
                    if known.zh not in scored or score > scored[known.zh][0]:
                        scored[known.zh] = (score, known)
        ranked = sorted(scored.values(), key=lambda pair: -pair[0])
        return [known for _, known in ranked][:_MOST_NEAR]
