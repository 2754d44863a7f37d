"""Values, limits and units as laboratories write them (pure)."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from drivers import units
from drivers.records import Qualifier
from ingest.judge.records import amounts

if TYPE_CHECKING:
    from collections.abc import Callable

    Say = Callable[[str, str], None]
    """Takes a fault: column and what is wrong (中文 | English)."""

_RESIDUE = ("mass fraction", "mass concentration")
_NOT_DETECTED = frozenset({"未检出", "nd", "n.d.", "n.d", "未检测出", "notdetected"})
_BOUNDED = re.compile(r"([<>]?)([0-9]{1,30}(?:\.[0-9]{1,30})?(?:[eE][-+]?[0-9]{1,2})?)")
_BELOW = {"<lod": "lod", "<检出限": "lod", "<loq": "loq", "<定量限": "loq"}


def read_value(
    text: str, lod: Decimal | None = None, loq: Decimal | None = None
) -> tuple[Decimal | None, Qualifier | None]:
    """Return value and qualifier of a written result; raise ValueError (中文 | English) for anything else.

    >>> read_value("<0.01"), read_value("未检出")
    ((Decimal('0.01'), <Qualifier.LT: 'lt'>), (None, <Qualifier.NOT_DETECTED: 'not_detected'>))
    """
    plain = "".join(unicodedata.normalize("NFKC", text).split())
    folded = plain.casefold()
    if folded in _NOT_DETECTED:
        return None, Qualifier.NOT_DETECTED
    if folded in _BELOW:
        bound = lod if _BELOW[folded] == "lod" else loq
        if bound is None:
            raise ValueError(f"未给出 {folded[1:]} | {folded[1:]} is not given")
        return bound, Qualifier.LT
    match = _BOUNDED.fullmatch(plain)
    if match is None:
        shown = text[:40]
        raise ValueError(
            f"“{shown}”不是结果：应为数字、<0.01 或 未检出"
            f" | {shown!r} is no result: a number, <0.01 or ND is needed"
        )
    qualifier = {"<": Qualifier.LT, ">": Qualifier.GT, "": Qualifier.EQ}[match[1]]
    return Decimal(match[2]), qualifier


def bound(text: str, name: str, fault: Say) -> Decimal | None:
    """Return a limit of detection or quantification, None when there is none; a bad one is a fault."""
    text = text.strip()
    if not text:
        return None
    try:
        number = Decimal(unicodedata.normalize("NFKC", text))
    except InvalidOperation:
        number = Decimal(-1)
    if not number.is_finite() or number <= 0 or len(text) > 40:
        fault(name, f"“{text[:40]}”不是正数 | {text[:40]!r} is no positive number")
        return None
    return number


def unit_of(text: str, value: Decimal | None, fault: Say) -> str:
    """Return the UCUM code of a residue's unit; anything else, or an impossible amount, is a fault."""
    text = text.strip()
    if not text:
        fault("unit", "缺少单位 | unit is missing")
        return ""
    try:
        code = units.canonical(text)
        kind = units.quantity(code)
    except units.UnitError as exc:
        fault("unit", f"未知单位“{text[:24]}” | {exc}")
        return ""
    if kind not in _RESIDUE:
        fault(
            "unit",
            f"“{text[:24]}”不是残留量的单位，应为 mg/kg | {text[:24]!r} measures {kind}: mg/kg is needed",
        )
    elif not amounts.is_possible(value, code):
        fault("value", "数值大于样品自身质量 | the value is more than the sample itself weighs")
    return code
