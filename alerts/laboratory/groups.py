"""What a screening stands for: the substances of which any one over its limit confirms it, and those that refute it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ingest.judge.catalogue.method_rules import RuleKind
from ingest.judge.catalogue.names import OP_CARBAMATE
from ingest.judge.records.open_record import CARD

if TYPE_CHECKING:
    from ingest.judge.catalogue.catalogue import Catalogue

INHIBITORS = frozenset(
    (
        "3-hydroxycarbofuran",
        "acephate",
        "aldicarb",
        "cadusafos",
        "carbaryl",
        "carbofuran",
        "carbosulfan",
        "chlorpyrifos",
        "coumaphos",
        "demeton",
        "diazinon",
        "dichlorvos",
        "dimethoate",
        "ethoprophos",
        "fenamiphos",
        "fenitrothion",
        "fonofos",
        "isazofos",
        "isocarbophos",
        "isofenphos-methyl",
        "isoprocarb",
        "malathion",
        "methamidophos",
        "methomyl",
        "monocrotophos",
        "omethoate",
        "oxamyl",
        "parathion",
        "parathion-methyl",
        "phorate",
        "phosfolan",
        "phosphamidon",
        "phoxim",
        "pirimicarb",
        "profenofos",
        "sulfotep",
        "terbufos",
        "triazophos",
        "trichlorfon",
    )
)
"""Organophosphates and carbamates of the catalogue: each inhibits the enzyme (chemistry, no standard's list)."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """``members``: any of them over its limit confirms; ``required``: all of them within refutes."""

    members: frozenset[str]
    required: frozenset[str]


def wanted(catalogue: Catalogue, indicator: str, screened_by: str) -> Wanted:
    """Return what a laboratory must look for when ``indicator`` was screened by the method ``screened_by``.

    The inhibition test stands for what its standard lists detection limits for (GB/T 5009.199-2003), by its own method;
    by an unknown one, for what either lists.
    """
    if indicator != OP_CARBAMATE:
        residues = catalogue.residues
        parts = {code for code, sums in residues.sums.items() if indicator in sums}
        return Wanted(frozenset({indicator, *parts}), frozenset({indicator}))
    rows = [row for row in catalogue.method_rules.rows if row.kind is RuleKind.DETECTION_LIMIT]
    rows = [row for row in rows if row.method.startswith("enzyme inhibition")]
    if screened_by:
        rows = [row for row in rows if row.is_card == (screened_by == CARD)]
    required = frozenset(row.substance for row in rows)
    return Wanted(INHIBITORS | required, required)
