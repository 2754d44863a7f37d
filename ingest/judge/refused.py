"""A batch taken apart: one pack with something that the database does not take must not hold up the others."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from ingest.batch import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.batch import Batch

_COLUMNS = (
    "series_id",
    "t_ms",
    "v",
    "q",
    "flags",
    "received_ms",
    "inbox_pos",
    "pack_index",
    "position",
)


def pack_by_pack(batch: Batch) -> Iterator[Batch]:
    """Yield each pack of ``batch`` as a batch of its own, in order."""
    for number, pack in enumerate(batch.packs):
        here = batch.pack_index == number  # (n,)
        columns = {name: getattr(batch, name)[here] for name in _COLUMNS}
        columns["pack_index"] = np.zeros_like(columns["pack_index"])
        yield dataclasses.replace(
            batch,
            packs=[pack],
            tests=[item for item in batch.tests if item.pack.pos == pack.pos],
            faults=[fault for fault in batch.faults if fault.pack.pos == pack.pos],
            **columns,
        )


def without_records(batch: Batch, reason: str) -> Batch:
    """Return ``batch``, one pack, with nothing in it but the fault that it is refused as a whole."""
    (pack,) = batch.packs
    none: dict[str, object] = {name: getattr(batch, name)[:0] for name in _COLUMNS}
    fault = Fault(pack, -1, "body", reason)
    return dataclasses.replace(batch, tests=[], faults=[fault], **none)  # type: ignore[arg-type]
