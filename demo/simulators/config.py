"""What the simulators are told: ports and instruments, printers, and the script of staged events (sim.toml)."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec


class DeviceTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One Modbus instrument; ``centre`` moves the middle of an indicator for this place.

    ``settings`` says what the model's map leaves open: metric -> order, scale, unit.
    """

    station: str
    path: str
    model: str
    unit_id: int
    centre: dict[str, float] = {}
    settings: dict[str, dict[str, str | float]] = {}


class GatewayTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One RTU gateway: a TCP port and the instruments behind it."""

    host: str = "127.0.0.1"
    port: int
    device: list[DeviceTable]


class PrinterTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rapid tester on a pty; ``kind`` is ``inhibition`` or ``strip``."""

    station: str
    path: str
    link: Path
    kind: str
    interval_s: float
    first_number: int


class ExcursionTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A staged breach of a limit by a reading; times count from the start of the simulators."""

    name: str
    station: str
    device: str
    indicator: str
    target: float
    start_s: float
    ramp_s: float
    hold_s: float
    comparator: str
    limit: str
    severity: str = ""


class StagedSlipTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A staged positive."""

    name: str
    station: str
    device: str
    after_s: float
    product_name: str
    item: str
    value: str = ""
    result: str
    severity: str = ""


class SimConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything the simulator process needs."""

    journal_dir: Path
    seed: int = 1
    gateway: list[GatewayTable] = []
    printer: list[PrinterTable] = []
    excursion: list[ExcursionTable] = []
    staged_slip: list[StagedSlipTable] = []


def load(path: Path) -> SimConfig:
    """Return the configuration in ``path``; raise ValueError naming the file and the field."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text("utf-8")), SimConfig, dec_hook=_path)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as exc:
        raise ValueError(f"{path}: {exc}") from exc


def _path(kind: type, text: object) -> Path:
    if kind is Path and isinstance(text, str):
        return Path(text)
    raise TypeError(f"expected a path, got {text!r}")
