"""The words of instruments, from ``words.toml`` and the device's own additions."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from drivers.records import ResultKind, ScreenResult
from drivers.tester.text import folded

if TYPE_CHECKING:
    from collections.abc import Mapping

_FILE = Path(__file__).with_name("words.toml")

FIELDS = frozenset(
    {
        "sample_no",
        "product_name",
        "parameter",
        "inhibition",
        "value",
        "unit",
        "result",
        "verdict",
        "tested_at",
        "tested_date",
        "sampled_at",
        "tester",
        "tested_subject_name",
        "origin_text",
        "channel",
        "absorbance",
        "control_value",
        "c_line",
        "t_line",
        "lod",
        "loq",
        "method_standard",
        "sampling_sheet_no",
        "serial_no",
        "device_model",
    }
)


class _ParameterTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    code: str
    kind: ResultKind
    names: list[str]


class _SentinelTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    words: list[str]
    not_detected: list[str]


class _WordsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    labels: dict[str, str]
    verdicts: dict[str, ScreenResult]
    sentinels: _SentinelTable
    parameters: list[_ParameterTable]


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a printed item name stands for."""

    code: str
    kind: ResultKind | None


@dataclass(frozen=True, slots=True)
class Words:
    """Lookup tables; every key is folded (``codec.folded``)."""

    labels: Mapping[str, str]
    verdicts: Mapping[str, ScreenResult]
    sentinels: frozenset[str]
    not_detected: frozenset[str]
    parameters: Mapping[str, Parameter]

    def extended(
        self,
        *,
        labels: Mapping[str, str],
        verdicts: Mapping[str, ScreenResult],
        parameters: Mapping[str, str],
    ) -> Words:
        """Return these words with a device's own before them."""
        return replace(
            self,
            labels={**self.labels, **{folded(k): v for k, v in labels.items()}},
            verdicts={**self.verdicts, **{folded(k): v for k, v in verdicts.items()}},
            parameters={
                **self.parameters,
                **{folded(k): self._parameter(code) for k, code in parameters.items()},
            },
        )

    def _parameter(self, code: str) -> Parameter:
        known = (p for p in self.parameters.values() if p.code == code)
        return next(known, Parameter(code, None))


@functools.cache
def built_in() -> Words:
    """Return the words of ``words.toml``; read at the first call."""
    file = msgspec.convert(tomllib.loads(_FILE.read_text(encoding="utf-8")), _WordsFile)
    return Words(
        labels={folded(label): field for label, field in file.labels.items()},
        verdicts={folded(word): result for word, result in file.verdicts.items()},
        sentinels=frozenset(map(folded, file.sentinels.words)),
        not_detected=frozenset(map(folded, file.sentinels.not_detected)),
        parameters={
            folded(name): Parameter(entry.code, entry.kind)
            for entry in file.parameters
            for name in (entry.code, *entry.names)
        },
    )
