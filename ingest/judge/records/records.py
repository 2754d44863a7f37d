"""The tests of a batch: judged, stored once, announced, and their findings."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from ingest import tables
from ingest.judge.catalogue.names import MethodClass
from ingest.judge.catalogue.tables import clean
from ingest.judge.findings import LIMIT_UNVERIFIED, Finding, finding_id
from ingest.judge.inserts import insert_new, insert_new_keys
from ingest.judge.records import pace, rapid
from ingest.judge.records.corrections import supersede
from ingest.judge.records.pass_scope import pass_scope
from ingest.judge.records.sample_sums import Siblings
from ingest.judge.records.value_runs import DUPLICATE_VALUE_RUN, ValueRuns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drivers.records import ResultKind, TestRecord
    from ingest.batch import TestItem
    from ingest.judge.catalogue.catalogue import Catalogue
    from ingest.judge.findings import Breach, Judgement
    from ingest.judge.readings.series import Contexts

_LATE_MS = 600_000  # DESIGN §6
_AHEAD_MS = 300_000  # rapid_test_record §2: tested_at ≤ received_at + 5 min
_SHOWN = (
    "late",
    "clock_suspect",
    LIMIT_UNVERIFIED,
    rapid.LIMIT_FALLBACK,
    rapid.FP_PRONE,
    rapid.DEVICE_DISAGREES,
)


@dataclass(frozen=True, slots=True)
class _Judged:
    """A test with its verdict, times and all its flags."""

    item: TestItem
    record_id: str
    judgement: Judgement
    tested_ms: int
    sampled_ms: int | None
    flags: tuple[str, ...]
    kind: ResultKind | None
    pass_scope: str


class RecordJudge:
    """Judges and stores test records."""

    def __init__(self, catalogue: Catalogue, registry: Contexts) -> None:
        self._catalogue = catalogue
        self._registry = registry
        self._runs = ValueRuns()
        self.replaced: dict[str, str] = {}
        """Of the last ``store``: records that count no more, each with the one that does instead."""

    def store(self, connection: sa.Connection, items: Sequence[TestItem]) -> list[Finding]:
        """Store the tests that are new, an event for each, and return their findings.

        A test of a (station, dedup_key) or record_id that is stored already is left out. One that completes or
        corrects another takes its place.
        """
        siblings = Siblings(connection, self._catalogue, items)
        paced = pace.flags_of(connection, self._times(items))
        judged: dict[str, _Judged] = {}
        for item in items:
            record_id = _record_id(item)
            if record_id not in judged:
                shown = paced.get(record_id, ())
                if self._runs.is_run(connection, item, record_id):
                    shown += (DUPLICATE_VALUE_RUN,)
                judged[record_id] = self._judge(item, record_id, siblings.whole(item), shown)
        rows = [_row(one) for one in judged.values()]
        new_ids = insert_new_keys(connection, tables.tests, "record_id", rows)
        new = [one for record_id, one in judged.items() if record_id in new_ids]
        self.replaced = supersede(
            connection, [(one.record_id, _parent_id(one.item.record)) for one in new]
        )
        insert_new(connection, tables.events, [_event(one) for one in new])
        _note_taken_ids(connection, [i for i in items if _record_id(i) not in new_ids])
        return [self._finding(one, breach) for one in new for breach in one.judgement.breaches]

    def _times(self, items: Sequence[TestItem]) -> dict[pace.Device, list[pace.TestTime]]:
        """Return the times of the screening tests of a batch by device, each record once."""
        found: dict[pace.Device, dict[str, pace.TestTime]] = {}
        for item in items:
            record_id, record = _record_id(item), item.record
            kind = rapid.result_kind(self._catalogue, record)
            one = pace.time_of(item, record_id, kind, _time(record.tested_at))
            if one is not None:
                device = (item.pack.station, clean(record.device_id, 80))
                found.setdefault(device, {}).setdefault(record_id, one)
        return {device: list(times.values()) for device, times in found.items()}

    def _judge(
        self, item: TestItem, record_id: str, whole: TestRecord | None, shown: tuple[str, ...]
    ) -> _Judged:
        record, received_ms = item.record, item.pack.received_ms
        judgement = rapid.judge_test(self._catalogue, record)
        if whole is not None:
            judgement = _graver(judgement, rapid.judge_test(self._catalogue, whole))
        tested_ms, sampled_ms = _time(record.tested_at), _time(record.sampled_at)
        flags = [*record.quality_flags, *judgement.flags]
        if tested_ms is None:
            tested_ms = received_ms
            flags.append("clock_suspect")
        elif tested_ms > received_ms + _AHEAD_MS or (sampled_ms or tested_ms) > tested_ms:
            flags.append("clock_suspect")
        if received_ms - tested_ms > _LATE_MS:
            flags.append("late")
        kind = rapid.result_kind(self._catalogue, record)
        return _Judged(
            item,
            record_id,
            judgement,
            tested_ms,
            sampled_ms,
            tuple(dict.fromkeys((*flags, *shown))),
            kind,
            pass_scope(self._catalogue.names, record.parameter, record.method, kind or "").value,
        )

    def _finding(self, one: _Judged, breach: Breach) -> Finding:
        item, record, pack = one.item, one.item.record, one.item.pack
        names = self._catalogue.names
        substance, product = names.substance(record.parameter), names.product(record.product_name)
        method = names.method(record.method)
        certainty = rapid.method_class(self._catalogue, record)
        # A screening is the station's own; of a laboratory's result that names nobody it is not known whose it is.
        own = "" if certainty is MethodClass.CONFIRMATORY else pack.station
        plot = self._registry.context(pack.station, record.device_id)
        value = None if record.value is None else float(record.value)
        return Finding(
            finding_id=finding_id(
                pack.station,
                pack.epoch,
                pack.seq,
                item.position,
                breach.rule_id,
                breach.citation.limit_version,
            ),
            station=pack.station,
            epoch=pack.epoch,
            seq=pack.seq,
            position=item.position,
            inbox_pos=pack.pos,
            kind="test",
            device=clean(record.device_id, 80),
            indicator=clean(substance.code if substance else record.parameter, 80),
            t_ms=one.tested_ms,
            value=value if value is not None and math.isfinite(value) else None,
            unit=clean(record.unit, 24),
            record_id=one.record_id,
            rule_id=clean(breach.rule_id, 120),
            verdict=breach.verdict,
            severity=breach.severity,
            late="late" in one.flags,
            citation=msgspec.to_builtins(breach.citation),
            certainty=certainty.value,
            flags=tuple(flag for flag in _SHOWN if flag in one.flags),
            sample_no=clean(record.sample_no, 60),
            product_name=product.name_zh if product else clean(record.product_name, 200),
            plot_id=clean(record.plot_id, 40) or ("" if plot is None else plot.plot_id),
            region_code="" if plot is None else plot.region_code,
            clearable=False,
            purpose=record.purpose or "",
            sampling_stage=record.sampling_stage or "",
            method=method.code if method else clean(record.method, 60),
            laboratory=clean(record.laboratory, 120) or own,
        )


def _graver(part: Judgement, whole: Judgement) -> Judgement:
    """Return the verdict on the whole residue, unless the part by itself broke a rule and the whole did not."""
    return part if part.breaches and not whole.breaches else whole


def _key(text: str, length: int) -> str:
    """Return ``text`` as a key of a column; one that is too long ends in its hash, so that none are confused."""
    key = clean(text, len(text))
    if len(key) <= length:
        return key
    digest = hashlib.sha256(key.encode()).hexdigest()[:32]
    return f"{key[: length - len(digest)]}{digest}"


def _record_id(item: TestItem) -> str:
    """Return the id of the record; one that came without gets its place in the log, so that it is not lost."""
    place = f"{item.pack.epoch}-{item.pack.seq}-{item.position}"
    return _key(item.record.record_id, 64) or place


def _parent_id(record: TestRecord) -> str | None:
    return _key(record.parent_record_id, 64) or None


def _time(text: str) -> int | None:
    try:
        return rapid.time_ms(text)
    except (ValueError, OverflowError):
        return None


def _row(one: _Judged) -> dict[str, object]:
    record, pack, judgement = one.item.record, one.item.pack, one.judgement
    return {
        "record_id": one.record_id,
        "station": pack.station,
        "epoch": pack.epoch,
        "seq": pack.seq,
        "position": one.item.position,
        "inbox_pos": pack.pos,
        "dedup_key": _key(record.dedup_key, 200) or one.record_id,
        "device": clean(record.device_id, 80),
        "tested_ms": one.tested_ms,
        "sampled_ms": one.sampled_ms,
        "received_ms": pack.received_ms,
        "sample_no": clean(record.sample_no, 60),
        "product_name": clean(record.product_name, 200),
        "parameter": clean(record.parameter, 80),
        "method": clean(record.method, 60),
        "method_standard": clean(record.method_standard, 60),
        "result_kind": one.kind or "",
        "value": None if record.value is None else str(record.value)[:40],
        "unit": clean(record.unit, 24),
        "value_text": clean(record.value_text, 1000),
        "qualifier": record.qualifier or "",
        "screen_result": record.screen_result or "",
        "device_verdict": clean(record.device_verdict, 200),
        "attempt": record.attempt,
        "purpose": record.purpose or "",
        "sampling_stage": record.sampling_stage or "",
        "subject": clean(record.subject_id or record.tested_subject_name, 200),
        "source": record.source,
        "verdict": judgement.verdict,
        "severity": judgement.severity,
        "reason": judgement.reason,
        "findings": msgspec.to_builtins(judgement.citations),
        "flags": list(one.flags),
        "incomplete": rapid.is_incomplete(record),
        "record": msgspec.to_builtins(record),
        "parent_record_id": _parent_id(record),
    }


def _event(one: _Judged) -> dict[str, object]:
    record, pack = one.item.record, one.item.pack
    return {
        "at_ms": pack.received_ms,
        "type": "test",
        "station": pack.station,
        "alert_id": "",
        "data": {
            "record_id": one.record_id,
            "verdict": one.judgement.verdict.value,
            "product_name": clean(record.product_name, 200),
            "parameter": clean(record.parameter, 80),
            "pass_scope": one.pass_scope,
            "station": pack.station,
        },
    }


def _note_taken_ids(connection: sa.Connection, items: Sequence[TestItem]) -> None:
    """Quarantine records whose id belongs to another station's record: they are no repeats of ours."""
    ids = [_record_id(item) for item in items]
    if not ids:
        return
    table = tables.tests
    held = connection.execute(
        sa.select(table.c.record_id, table.c.station).where(table.c.record_id.in_(ids))
    )
    owner = {str(row[0]): str(row[1]) for row in held}
    faults = [
        {
            "station": item.pack.station,
            "epoch": item.pack.epoch,
            "seq": item.pack.seq,
            "position": item.position,
            "inbox_pos": item.pack.pos,
            "field": "record_id",
            "reason": f"{record_id} is the id of a record of station {owner[record_id]}",
            "at_ms": item.pack.received_ms,
        }
        for item, record_id in zip(items, ids, strict=True)
        if owner.get(record_id, item.pack.station) != item.pack.station
    ]
    insert_new(connection, tables.quarantine, faults)
