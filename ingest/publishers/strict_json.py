"""JSON of strangers: what a parser would guess at or pass over in silence stays visible where it stands."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

SHOWN = 60  # characters of a stranger's text in a message


class JsonError(ValueError):
    """Bytes that are no JSON document we read; the message says what is wrong, and where."""


@dataclass(frozen=True, slots=True)
class NoNumber:
    """A number that no double holds, or a word that JSON does not have: ``NaN``, ``1e400``."""

    text: str

    @property
    def reason(self) -> str:
        """What is wrong with it."""
        return f"{short(self.text)} is no number that can be stored"


@dataclass(frozen=True, slots=True)
class Twice:
    """An object in which a key stands twice: which of the two was meant is not guessed."""

    key: str
    keys: frozenset[str]

    @property
    def reason(self) -> str:
        """What is wrong with it."""
        return f"the key {short(self.key)} stands twice"


def decode(payload: bytes) -> object:
    """Return the document: dict, list, str, int, float, bool, None, ``NoNumber`` or ``Twice``; raise JsonError."""
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise JsonError(f"is not UTF-8: {exc.reason} at byte {exc.start}") from exc
    try:
        document: object = json.loads(
            text,
            object_pairs_hook=_object,
            parse_float=_float,
            parse_int=_int,
            parse_constant=NoNumber,
        )
    except json.JSONDecodeError as exc:
        raise JsonError(f"is no JSON: {exc.msg} at line {exc.lineno} column {exc.colno}") from exc
    except RecursionError as exc:
        raise JsonError("is nested too deeply") from exc
    return document


def fault_within(document: object) -> str:
    """Return what is wrong anywhere in ``document``, empty when nothing is."""
    left = [document]
    while left:
        item = left.pop()
        match item:
            case Twice():
                return item.reason
            case dict():
                left.extend(item.values())
            case list():
                left.extend(item)
            case _:
                pass
    return ""


def short(value: object) -> str:
    """Return ``value`` as a message may show it: one line of bounded length."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def kind_of(value: object) -> str:
    """Return what JSON calls the type of ``value``."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case NoNumber():
            return "no number that can be stored"
        case _:
            return "an object"


def not_a(value: object, wanted: str) -> str:
    """Return what is wrong with a ``value`` that should have been ``wanted``."""
    if isinstance(value, NoNumber | Twice):
        return value.reason
    return f"is {kind_of(value)}, not {wanted}"


def _object(pairs: list[tuple[str, object]]) -> dict[str, object] | Twice:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            return Twice(key, frozenset(found))
        seen.add(key)
    return found


def _float(text: str) -> float | NoNumber:
    number = float(text)
    return number if math.isfinite(number) else NoNumber(text)


def _int(text: str) -> int | NoNumber:
    # Beyond it int() is slow or refuses; no double and no decimal of ours is so long.
    if len(text) > 40:
        return NoNumber(text)
    return int(text)
