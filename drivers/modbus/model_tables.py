"""A register map as it is written in TOML, table by table; ``README.md`` describes the keys (pure)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from drivers.modbus.lines import Format
from drivers.modbus.points import PointType
from drivers.modbus.steps import Action

Number = int | float | str
Confidence = Literal["confirmed", "community", "recalled", "mixed"]
Registers = Annotated[int, msgspec.Meta(ge=1, le=125)]
Address = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
UnitId = Annotated[int, msgspec.Meta(ge=0, le=255)]


class ScaleFromTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A register that says the factor of a point: its number -> factor."""

    address: Address
    factors: Annotated[dict[str, Number], msgspec.Meta(min_length=1)]


class CheckTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A register that must hold one of ``good`` for the point to be believed."""

    address: Address
    good: Annotated[list[int], msgspec.Meta(min_length=1)]
    quality: str = "bad:device"
    type: PointType = PointType.U16


class PointTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One point as written in a map or in a device's table; ``metric`` or ``indicator`` says what it measures."""

    metric: str = ""
    indicator: str = ""
    address: Address
    type: PointType
    order: str = ""
    scale: Number = 1
    offset: Number = 0
    unit: str
    sentinels: list[int] = []
    valid_min: Number | None = None
    valid_max: Number | None = None
    function: Literal[3, 4] | None = None
    mask: Annotated[int, msgspec.Meta(ge=0)] = 0
    scale_from: ScaleFromTable | None = None
    checks: list[CheckTable] = []
    optional: bool = False
    confidence: Confidence | None = None
    note: str = ""

    @property
    def key(self) -> str:
        """Name of the point in faults and settings."""
        return self.metric or self.indicator


class BlockTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One read that the device answers; it stays silent to any other."""

    address: Address
    count: Registers
    function: Literal[3, 4] | None = None


class SourceTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a map was read."""

    where: str
    confidence: Confidence


class LineTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Factory settings of the serial line."""

    baud: Annotated[int, msgspec.Meta(ge=300, le=115_200)]
    format: Format
    unit_id: UnitId
    also_seen_baud: list[int] = []
    note: str = ""


class UnitIdQueryTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question that a device answers whose unit id is not known; only one device may be on the bus.

    ``id_in``: the id stands in the register that comes back (or in its upper byte), or the reply's own unit id is
    it. Without an address
    the source names only the unit id to ask. ``reply_unit`` answers when ``unit_id`` was asked (blank: the same).
    """

    unit_id: UnitId
    address: Address | None = None
    count: Annotated[int, msgspec.Meta(ge=0, le=125)] = 1
    function: Literal[3, 4] = 3
    reply_unit: UnitId | None = None
    id_in: Literal["register", "register_high_byte", "reply_unit", "unknown"] = "unknown"
    note: str = ""


class IdentityTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Registers that tell which instrument answers: ``ascii`` text, or the registers in ``hex``."""

    name: str
    address: Address
    count: Registers = 1
    function: Literal[3, 4] | None = None
    encoding: Literal["ascii", "hex"] = "hex"
    equals: int | None = None
    note: str = ""


class StepTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One step of a poll: write, wait, read registers and drop them, or ``points`` where the points are read."""

    do: Action
    function: int = 0
    address: Address = 0
    count: Annotated[int, msgspec.Meta(ge=0, le=125)] = 0
    values: list[Address] = []
    wait_ms: Annotated[int, msgspec.Meta(ge=0, le=120_000)] = 0
    optional: bool = False
    note: str = ""


class VariantTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sister instruments of the file that share all but their points."""

    names: Annotated[list[str], msgspec.Meta(min_length=1)]
    unit_id: UnitId | None = None
    points: Annotated[list[dict[str, object]], msgspec.Meta(min_length=1)]
    blocks: list[dict[str, object]] = []
    steps: list[dict[str, object]] = []
    note: str = ""


class ModelTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of ``drivers/models``."""

    id: str
    vendor: str
    model: str
    kind: Literal["soil", "water", "level", "weather", "air", "flow"]
    confidence: Confidence
    line: LineTable
    reply_unit: UnitId | None = None
    unit_id_query: UnitIdQueryTable | None = None
    unit_id_register: Address | None = None
    identity: list[IdentityTable] = []
    function: Literal[3, 4] = 3
    order: str = ""
    max_read: Registers
    exact_blocks_only: bool = False
    gap_ms: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 20
    timeout_ms: Annotated[int, msgspec.Meta(ge=1, le=60_000)]
    sentinels: list[int] = []
    quirks: list[str] = []
    points: list[dict[str, object]] = []
    blocks: list[dict[str, object]] = []
    steps: list[dict[str, object]] = []
    variants: list[dict[str, object]] = []
    sources: Annotated[list[SourceTable], msgspec.Meta(min_length=1)]
