"""Profiles: known instruments as TOML files, one per model or family."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path
from typing import Literal

import msgspec

from drivers.errors import ConfigError
from drivers.records import ScreenResult
from drivers.tester.binary_record import BinaryTable
from drivers.tester.delimited import DelimitedTable
from drivers.tester.dialogue import StepTable
from drivers.tester.fixed_width import FixedWidthTable
from drivers.tester.json_records import JsonTable
from drivers.tester.key_value import KeyValueTable
from drivers.tester.text import Charset

FOLDER = Path(__file__).with_name("profiles")

ReaderName = Literal["key_value", "delimited", "fixed_width", "json", "binary_record", "anhui"]


class LineTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The serial line as the instrument leaves the factory."""

    baud: int = 9600
    format: Literal["8N1", "8E1", "8O1", "8N2", "7E1"] = "8N1"


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One instrument or family: how its bytes are read, and where that is known from."""

    title: str
    models: list[str]
    source: str
    confidence: Literal["verified", "code", "doc", "recalled", "constructed"]
    reader: ReaderName
    line: LineTable = LineTable()
    charset: Charset = "auto"
    idle_s: float = 2.0
    key_value: KeyValueTable | None = None
    delimited: DelimitedTable | None = None
    fixed_width: FixedWidthTable | None = None
    json: JsonTable | None = None
    binary_record: BinaryTable | None = None
    steps: list[StepTable] = []
    defaults: dict[str, str] = {}
    labels: dict[str, str] = {}
    verdicts: dict[str, ScreenResult] = {}
    parameters: dict[str, str] = {}
    needs_items: bool = False


def names() -> list[str]:
    """Return the names of all profiles."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


@functools.cache
def load(name: str) -> Profile:
    """Return the profile called ``name``; raise ConfigError for an unknown or faulty one."""
    if name not in names():
        raise ConfigError([f"profile: {name!r} is none of {', '.join(names())}"])
    return read((FOLDER / f"{name}.toml").read_text(encoding="utf-8"), f"{name}.toml")


def of_file(path: str) -> Profile:
    """Return the profile in a file of the user's; raise ConfigError."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError([f"profile: {path}: {exc}"]) from exc
    return read(text, f"profile: {path}")


def read(text: str, where: str) -> Profile:
    """Return the profile in ``text``; raise ConfigError with its faults, each beginning with ``where``."""
    try:
        return msgspec.convert(tomllib.loads(text), Profile)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as exc:
        raise ConfigError([f"{where}: {exc}"]) from exc
