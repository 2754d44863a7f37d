"""The words of a 404: what was asked for, and what comes nearest."""

import difflib
from collections.abc import Iterable


def nearest(what: str, asked: str, known: Iterable[str]) -> str:
    """Return a sentence naming up to three known names that look like ``asked``.

    >>> nearest("station", "hl-01", ["hl-001", "pl-104"])
    "no station 'hl-01'; nearest: hl-001"
    """
    found = difflib.get_close_matches(asked, list(known), n=3, cutoff=0.6)
    return f"no {what} {asked!r}" + (f"; nearest: {', '.join(found)}" if found else "")
