"""What a pass of a test says: a screening test never passes a product (rapid_test_record §3.5)."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from drivers.records import ResultKind
from ingest.judge.catalogue.names import OP_CARBAMATE, MethodClass

if TYPE_CHECKING:
    from ingest.judge.catalogue.names import Names


class PassScope(StrEnum):
    """What a pass is about."""

    OP_CARBAMATE = "op_carbamate"
    """Not suspected for organophosphates and carbamates; nothing is said of other pesticides."""
    STRIP = "strip"
    """Negative: this one substance is below what the method can detect."""
    LIMIT = "limit"
    """Inside the limits that were compared."""


def pass_scope(names: Names, parameter: str, method: str, result_kind: str) -> PassScope:
    """Return what a pass of such a test says; the names are as they were sent."""
    substance = names.substance(parameter)
    if result_kind == ResultKind.INHIBITION or (
        substance is not None and substance.code == OP_CARBAMATE
    ):
        return PassScope.OP_CARBAMATE
    if result_kind == ResultKind.QUANTITATIVE:
        return PassScope.LIMIT
    known = names.method(method) if method else None
    if known is not None and known.method_class is MethodClass.CONFIRMATORY:
        return PassScope.LIMIT
    return PassScope.STRIP
