"""What flows from the inbox to its consumers: packs as taken, then columns (the shapes only)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from drivers.records import TestRecord

# QARTOD flags
PASS, NOT_EVALUATED, SUSPECT, FAIL, MISSING = 1, 2, 3, 4, 9

# Bits of ``flags``
LATE = 1  # received − measured > 10 min; for display
CLOCK_SUSPECT = (
    2  # measured before 2020 or more than 5 min after it was received, or the edge said so
)
OUT_OF_ORDER = 4  # t ≤ the series' last t
BAD_READING = 8  # the edge sent ``q``: no value
GROSS_RANGE = 16  # outside the catalogue's physical range
CLOCK_FREE = 32  # the server had not confirmed the edge's clock when the pack closed
SPIKE = 64  # far from the last three values
RATE = 128  # faster than the channel, or the site, allows
FLAT = 256  # the same value for longer than is usual
GAP = 512  # the first after readings that are missing; says nothing of the value
MODEL_RANGE = 1024  # outside what the instrument's model can measure
SITE_RANGE = 2048  # outside what the site says is possible there
MAINTENANCE = 4096  # work on the device at that time
CALIBRATION = 8192
SENTINEL = 16384  # the device sent the value it has for "no value"

MISSING_CONDITION = "missing_condition"


@dataclass(frozen=True, slots=True)
class TakenPack:
    """One pack in the inbox; ``pos`` is its place there and grows by one for each pack taken.

    ``damage`` says why the body read back is not the one that was taken; empty when it is. ``topic`` is blank for a
    pack of the edge link, else it says where the message of a publisher came in, and the body is that message.
    """

    pos: int
    station: str
    epoch: str
    seq: int
    received_ms: int
    body: bytes
    damage: str = ""
    topic: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """One datastream: a place in ``Batch.series``."""

    station: str
    device: str
    indicator: str


@dataclass(frozen=True, slots=True)
class TestItem:
    """One test record with its place."""

    __test__ = False

    pack: TakenPack
    position: int
    record: TestRecord


@dataclass(frozen=True, slots=True)
class Fault:
    """A pack (``position`` −1) or a record that could not be used; its bytes stay in the inbox."""

    pack: TakenPack
    position: int
    field: str
    reason: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Packs decoded to columns; every array is (n,), one row per reading, in inbox order.

    ``series_id`` counts series over the life of the process: ``series[series_id]`` (the list grows, ids never change).
    """

    packs: list[TakenPack]
    series: list[Series]
    series_id: NDArray[np.int32]
    t_ms: NDArray[np.int64]
    v: NDArray[np.float64]  # NaN when missing
    q: NDArray[np.uint8]  # QARTOD
    flags: NDArray[np.uint32]  # bit mask
    received_ms: NDArray[np.int64]
    inbox_pos: NDArray[np.int64]
    pack_index: NDArray[np.int32]  # place in ``packs``
    position: NDArray[np.int32]  # place in the pack
    tests: list[TestItem]
    faults: list[Fault]

    @property
    def cursor(self) -> int:
        """Inbox position of the last pack."""
        return self.packs[-1].pos
