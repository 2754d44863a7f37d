"""What a record measured of a substance as its residue is defined: its own number, or the sum of its components."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from drivers import units
from drivers.records import Verdict
from ingest.judge.records import amounts
from ingest.judge.records.open_record import DEFINITION_ASSUMED, OUT_OF_RANGE, UNMAPPED_SUBSTANCE

if TYPE_CHECKING:
    from decimal import Decimal

    from drivers.records import Component, Qualifier
    from ingest.judge.catalogue.residues import ResidueDefinition
    from ingest.judge.findings import Judgement
    from ingest.judge.records.amounts import Amount
    from ingest.judge.records.open_record import OpenRecord

_FRACTION = "mass fraction"
_KINDS = (_FRACTION, "mass concentration")


@dataclass(frozen=True, slots=True)
class Part:
    """One number of a record; ``amount`` is in mg/kg when ``is_fraction``, else in the unit it came in."""

    code: str
    amount: Amount | None
    is_fraction: bool
    shown: str


@dataclass(frozen=True, slots=True)
class Measured:
    """The parts of a record: the number it carries itself, and its components."""

    own: Part | None
    components: tuple[Part, ...]

    @property
    def parts(self) -> tuple[Part, ...]:
        """Every number."""
        return (*self.components, *(() if self.own is None else (self.own,)))

    @property
    def detected(self) -> bool | None:
        """Whether anything was detected; None when a trace leaves it open."""
        seen = [part.amount.detected for part in self.parts if part.amount is not None]
        return True if True in seen else None if None in seen else False

    @property
    def is_bounded(self) -> bool:
        """Whether each number has an upper bound: it was found, or its detection limit is stated."""
        return all(part.amount is not None and part.amount.high is not None for part in self.parts)

    @property
    def is_fraction(self) -> bool:
        """Whether every number can be compared with a limit per kg."""
        return all(part.is_fraction for part in self.parts)

    def inputs(self) -> str | None:
        """Return what a sum was computed from, None for a number of its own."""
        return " + ".join(f"{part.code} {part.shown}" for part in self.components)[:200] or None


def measure(case: OpenRecord) -> Measured | Judgement:
    """Return the numbers of a record, or the verdict on a record whose numbers say nothing."""
    record = case.record
    given = tuple(record.components or ())
    values = [record.value, *(one.value for one in given)]
    if not all(map(amounts.is_value, values)):
        return case.say(Verdict.INVALID, "数值无效", "the value is negative or no number")
    own = amounts.amount_of(record.value, record.qualifier, record.lod, record.loq)
    if own is None and not given:
        return case.say(Verdict.UNDETERMINED, "缺少检测值", "value is missing")
    fault = _unit_fault(case, record.value, record.unit, needed=record.value is not None)
    if fault is not None:
        return fault
    code = case.substance.code if case.substance else ""
    carried = (
        None
        if own is None
        else _part(code, own, record.unit, _shown(record.value, record.qualifier, record.unit))
    )
    parts: list[Part] = []
    for one in given:
        unit = one.unit or record.unit
        fault = _unit_fault(case, one.value, unit, needed=True)
        if fault is not None:
            return fault
        name = _code(case, one)
        if name is None:
            continue
        amount = amounts.amount_of(one.value, one.qualifier, one.lod, one.loq)
        parts.append(_part(name, amount, unit, _shown(one.value, one.qualifier, unit)))
    if len({part.code for part in parts}) < len(parts):
        return case.say(
            Verdict.UNDETERMINED, "同一组分出现两次", "a component of the sum is given twice"
        )
    return Measured(carried, tuple(parts))


def _code(case: OpenRecord, component: Component) -> str | None:
    names = case.catalogue.names
    substance = names.substance(component.parameter)
    if substance is None:
        near = names.near_substance(component.parameter)
        case.unknown(UNMAPPED_SUBSTANCE, "组分", "component", component.parameter, near)
        return None
    return substance.code


def _part(code: str, amount: Amount | None, unit: str, shown: str) -> Part:
    to_mg_kg = amounts.factor(unit, "mg/kg") if units.is_known(unit) else None
    if amount is None or to_mg_kg is None:
        return Part(code, amount, to_mg_kg is not None, shown)
    return Part(code, amount.scaled(to_mg_kg), is_fraction=True, shown=shown)


def _shown(value: Decimal | None, qualifier: Qualifier | None, unit: str) -> str:
    number = "" if value is None else str(value)[:24]
    return " ".join(filter(None, (qualifier.value if qualifier else "", number, unit[:16])))


def _unit_fault(
    case: OpenRecord, value: Decimal | None, unit: str, *, needed: bool
) -> Judgement | None:
    if not unit and not needed:
        return None
    try:
        is_residue = units.quantity(unit) in _KINDS
    except units.UnitError:
        is_residue = False
    if not is_residue:
        return case.bad_unit(unit, "mg/kg")
    if not amounts.is_possible(value, unit):
        case.flag(OUT_OF_RANGE)
        return case.say(
            Verdict.INVALID,
            "数值大于样品自身质量",
            "the value is more than the sample itself weighs",
        )
    return None


def residue_amount(
    case: OpenRecord, measured: Measured, code: str, definition: ResidueDefinition | None
) -> Amount | None:
    """Return the amount (mg/kg) to compare with a limit as ``definition`` says; None when the record has none of it.

    Components that are missing leave a sum without an upper bound. A result named by the sum's own substance is taken
    as the sum, and flagged; one of a single component is a lower bound of it.
    """
    own = None if measured.own is None else measured.own.amount
    if measured.components:
        by_code = {part.code: part.amount for part in measured.components}
        if definition is None or not definition.is_sum:
            return by_code.get(code, own)
        # The residue of a class may be named by members that the table does not list.
        more = [c for c in by_code if c not in definition.components and c != definition.substance]
        if more:
            _say_more(case, more)
        summed = amounts.total(by_code.get(c) for c in definition.components)
        if own is not None and summed.high is not None and own.low > summed.high:
            case.reasons.add(
                "检测值大于各组分之和，二者不一致",
                "value is more than the sum of the components: they disagree",
            )
            return replace(summed, high=None)
        return summed
    if own is None or definition is None or not definition.is_sum:
        return own
    if code == definition.substance or definition.single_too:
        if code == definition.substance:
            case.flag(DEFINITION_ASSUMED)
            case.reasons.add(
                f"结果按残留定义（{definition.text_zh}）理解",
                "the result is taken as the residue as defined",
            )
        return own
    return amounts.total([own, None])


def _say_more(case: OpenRecord, codes: list[str]) -> None:
    shown = ", ".join(codes)
    case.reasons.add(
        f"{shown} 不属于残留定义，未计入", f"{shown} is no part of the residue definition: left out"
    )
