"""Strict reading of a configuration table: every fault at once, each naming its place and field."""

from __future__ import annotations

import difflib
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T", bound=msgspec.Struct)

# Device paths are part of SenML names (RFC 8428 §4.5.1 allows these characters); 80 is the registry's width.
DevicePath = Annotated[
    str,
    msgspec.Meta(
        # "$" alone would take a newline at the end
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$(?!\n)",
        max_length=80,
    ),
]


def read_table(
    kind: type[T], table: Mapping[str, object], where: str, faults: list[str]
) -> T | None:
    """Return ``table`` as a ``kind``, or None after adding one line per fault to ``faults``."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    before = len(faults)
    values: dict[str, object] = {}
    for key, value in table.items():
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(fields)}"
            faults.append(f"{where}: {key}: unknown key; {hint}")
            continue
        try:
            values[key] = msgspec.convert(value, fields[key].type)
        except msgspec.ValidationError as exc:
            faults.append(f"{where}: {key}: {exc}")
    faults.extend(
        f"{where}: {name}: is missing"
        for name, field in fields.items()
        if field.required and name not in table
    )
    return kind(**values) if len(faults) == before else None


def fraction(value: float | str) -> Fraction:
    """Return the exact decimal that was written: 0.1 is 1/10, not the double; text may be ``"1/3"``.

    Raises ValueError for text that is no number and for infinities.

    >>> fraction(0.1)
    Fraction(1, 10)
    """
    try:
        return Fraction(repr(value) if isinstance(value, float) else value)
    except ZeroDivisionError as exc:
        raise ValueError(f"{value!r} divides by zero") from exc
