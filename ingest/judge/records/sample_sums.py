"""Residues that a laboratory reports component by component: the records of one sample put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from drivers.records import Component, TestRecord
from ingest import tables
from ingest.judge.catalogue.names import fold
from ingest.judge.catalogue.tables import clean
from ingest.judge.records.corrections import IN_FORCE, is_correction
from ingest.judge.records.rapid import method_class, sample_time_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ingest.batch import TestItem
    from ingest.judge.catalogue.catalogue import Catalogue

Sample = tuple[str, str]
"""Station, sample number."""

_MOST = 500
"""Stored records looked at for one batch: a sample number that is used for everything must not cost the rest."""


def may_sum(catalogue: Catalogue, record: TestRecord) -> bool:
    """Whether the record may be one part of a residue whose other parts are records of their own."""
    if record.components or not record.sample_no.strip("\0 "):
        return False
    return bool(_sums(catalogue, record))


def _sums(catalogue: Catalogue, record: TestRecord) -> tuple[str, ...]:
    substance = catalogue.names.substance(record.parameter)
    at_ms = sample_time_ms(record)
    if substance is None or at_ms is None:
        return ()
    residues = catalogue.residues
    own = residues.definition(substance.code, at_ms, catalogue.names.product(record.product_name))
    mine = (substance.code,) if own is not None and own.is_sum else ()
    return tuple(dict.fromkeys((*mine, *residues.sums_with(substance.code))))


def whole_residue(
    catalogue: Catalogue, record: TestRecord, siblings: Iterable[TestRecord]
) -> TestRecord | None:
    """Return ``record`` as the sum of all parts that the sample's records hold; None when it is the only part.

    Parts must be of the same product and basis, and by a method of the same class; the last of several counts.
    """
    names = catalogue.names
    mine = _like(catalogue, record)
    by_code: dict[str, TestRecord] = {}
    for one in (*siblings, record):
        substance = names.substance(one.parameter)
        if substance is not None and not one.components and _like(catalogue, one) == mine:
            by_code.pop(substance.code, None)
            by_code[substance.code] = one
    at_ms = sample_time_ms(record)
    for name in _sums(catalogue, record) if at_ms is not None else ():
        definition = catalogue.residues.definition(
            name, at_ms or 0, names.product(record.product_name)
        )
        if definition is None or not definition.is_sum:
            continue
        parts = [code for code in definition.components if code in by_code]
        if len(parts) > 1:
            components = [_component(code, by_code[code]) for code in parts]
            return msgspec.structs.replace(
                record,
                parameter=name,
                value=None,
                qualifier=None,
                lod=None,
                loq=None,
                components=components,
            )
    return None


def _like(catalogue: Catalogue, record: TestRecord) -> tuple[object, ...]:
    return fold(record.product_name), record.basis, method_class(catalogue, record)


def _component(code: str, record: TestRecord) -> Component:
    return Component(
        parameter=code,
        value=record.value,
        unit=record.unit,
        qualifier=record.qualifier,
        lod=record.lod,
        loq=record.loq,
    )


class Siblings:
    """The records of the samples in a batch: those stored, then those that the batch adds, in order."""

    def __init__(
        self, connection: sa.Connection, catalogue: Catalogue, items: Sequence[TestItem]
    ) -> None:
        self._catalogue = catalogue
        self._held: dict[Sample, list[TestRecord]] = {}
        samples = {_sample(i) for i in items if may_sum(catalogue, i.record)}
        if samples:
            self._read(connection, samples)

    def _read(self, connection: sa.Connection, samples: set[Sample]) -> None:
        table = tables.tests
        rows = connection.execute(
            sa.select(table.c.station, table.c.sample_no, table.c.record)
            .where(
                table.c.sample_no.in_(sorted({number for _, number in samples})),
                table.c.station.in_(sorted({station for station, _ in samples})),
                IN_FORCE,
            )
            .order_by(table.c.inbox_pos.desc(), table.c.position.desc())
            .limit(_MOST)
        )
        for station, number, record in reversed(rows.all()):
            if (station, number) in samples:
                held = self._held.setdefault((station, number), [])
                held.append(msgspec.convert(record, TestRecord))

    def whole(self, item: TestItem) -> TestRecord | None:
        """Return the whole residue that ``item`` completes, and keep the record for those after it."""
        record = item.record
        if not may_sum(self._catalogue, record):
            return None
        held = self._held.setdefault(_sample(item), [])
        if is_correction(record):
            held[:] = [one for one in held if one.record_id != record.parent_record_id]
        whole = whole_residue(self._catalogue, record, held)
        held.append(record)
        return whole


def _sample(item: TestItem) -> Sample:
    return item.pack.station, clean(item.record.sample_no, 60)
