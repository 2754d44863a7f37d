"""Every rapid tester that can be simulated, by the name of its profile in ``drivers/tester/profiles``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from demo.simulators.misbehaviour import TESTER, Misbehaviour
from demo.simulators.testers.analyser import DY3000
from demo.simulators.testers.photometers import LZ4000T, TL310, TY16
from demo.simulators.testers.talkers import DY723PC, DY6260, Slip, Ticket

if TYPE_CHECKING:
    from collections.abc import Callable

    from demo.simulators.testers.results import Instrument, Kind

M = Misbehaviour


@dataclass(frozen=True, slots=True)
class TesterProfile:
    """How one tester is simulated: what it measures, whether it prints unasked, what it can do wrong."""

    instrument: Callable[[], Instrument]
    kinds: tuple[Kind, ...]
    faults: frozenset[Misbehaviour]
    prints: bool = False
    batch: int = 1
    """Results that are printed together."""


_INHIBITION: tuple[Kind, ...] = ("inhibition",)
PROFILES: dict[str, TesterProfile] = {
    "lz4000t": TesterProfile(
        LZ4000T,
        _INHIBITION,
        TESTER - {M.SENTINEL} | {M.CRC_ERROR, M.DOUBLED_START, M.GBK_CUT},
    ),
    "tl310": TesterProfile(TL310, _INHIBITION, TESTER | {M.CRC_ERROR, M.DOUBLED_START}),
    "dy3000": TesterProfile(
        DY3000, ("inhibition", "quantitative", "strip"), TESTER | {M.CRC_ERROR}
    ),
    "ty16": TesterProfile(TY16, _INHIBITION, TESTER - {M.SENTINEL}),
    "dy723pc": TesterProfile(DY723PC, _INHIBITION, TESTER | {M.CRC_ERROR, M.GBK_CUT}),
    "dy6260": TesterProfile(DY6260, ("strip",), TESTER),
    "slip": TesterProfile(
        Slip, ("inhibition", "strip"), TESTER | {M.GBK_CUT, M.FULL_WIDTH}, prints=True
    ),
    "ticket": TesterProfile(
        Ticket, _INHIBITION, TESTER - {M.CLOCK_RESET} | {M.GBK_CUT}, prints=True, batch=8
    ),
}
