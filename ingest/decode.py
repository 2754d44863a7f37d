"""Packs to columns: names resolved, units and times checked, quality flags set.

A record that cannot be used becomes a fault with its place and field; the records around it go on. The bytes stay in
the inbox.
"""

from __future__ import annotations

import dataclasses
import math
import threading
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from drivers import indicators
from drivers.device_table import DevicePath
from drivers.records import TestRecord
from gateway import wire
from gateway.wire import ClockTrust, SenmlRecord, WireError
from ingest.batch import (
    BAD_READING,
    CLOCK_FREE,
    CLOCK_SUSPECT,
    FAIL,
    GROSS_RANGE,
    LATE,
    MISSING,
    OUT_OF_ORDER,
    PASS,
    SENTINEL,
    Batch,
    Fault,
    Series,
    TakenPack,
    TestItem,
)
from ingest.publishers.reader import MessageReader
from ingest.sequence import BySeries, by_series, previous_maxima

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

EARLIEST_MS = 1_577_836_800_000  # 2020-01-01: before any gateway of ours
AHEAD_MS = 5 * 60_000
LATE_MS = 10 * 60_000
TIME_BOUND_MS = 2**47  # year 6429; beyond it a time is no time
BAD_RANGE = "bad:range"
BAD_SENTINEL = "bad:sentinel"
_FAILED = {BAD_RANGE, BAD_SENTINEL}
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_CLOCK = {ClockTrust.SYNC.value: 0, ClockTrust.FREE.value: CLOCK_FREE}  # any other word is suspect


class SeriesIndex:
    """Numbers for series, one list for all threads; numbers never change while the process lives."""

    def __init__(self, publishers: MessageReader | None = None) -> None:
        self.publishers = publishers or MessageReader()
        """What messages of publishers say, by the mappings of this server."""
        self.series: list[Series] = []
        self._numbers: dict[str, dict[str, int]] = {}
        self._limits: list[tuple[float, float]] = []
        self._ranges = np.zeros((0, 2))
        self._units: list[str] = []
        self._lock = threading.Lock()
        self._path = msgspec.json.Decoder(DevicePath)

    def number(self, station: str, name: str) -> int:
        """Return the number of ``{device path}/{indicator code}`` at ``station``; raise WireError for a bad name."""
        found = self.known(station).get(name)
        return self._new(station, name) if found is None else found

    def known(self, station: str) -> Mapping[str, int]:
        """Return the numbers given at ``station`` by name; the mapping goes on growing."""
        return self._numbers.setdefault(station, {})

    def unit(self, number: int) -> str:
        """The catalogue's unit of a series."""
        return self._units[number]

    def physical_ranges(self) -> NDArray[np.float64]:
        """Smallest and largest possible value of each series, (n_series, 2); ±inf where there is no bound."""
        with self._lock:
            new = self._limits[len(self._ranges) :]
            if new:
                self._ranges = np.concatenate([self._ranges, np.array(new, np.float64)])
            return self._ranges

    def _new(self, station: str, name: str) -> int:
        device, _, code = name.rpartition("/")
        try:
            msgspec.convert(device, DevicePath)
        except msgspec.ValidationError as exc:
            raise WireError("n", f"{name!r} is not <device path>/<indicator code>: {exc}") from exc
        try:
            indicator = indicators.lookup(code)
        except indicators.UnknownIndicatorError as exc:
            raise WireError("n", str(exc)) from exc
        low, high = indicator.physical_min, indicator.physical_max
        with self._lock:
            number = self._numbers.setdefault(station, {}).get(name)
            if number is None:
                number = len(self.series)
                self._limits.append(
                    (-math.inf if low is None else low, math.inf if high is None else high)
                )
                self._units.append(indicator.unit)
                self.series.append(Series(station, device, code))
                self._numbers[station][name] = number
        return number


class _Columns:
    """Readings of a batch while they are gathered; what is the same for a whole pack, once per pack."""

    def __init__(self, packs: int) -> None:
        self.series: list[int] = []
        self.t_ms: list[float] = []  # not rounded yet
        self.v: list[float] = []
        self.position: list[int] = []
        self.bad: list[int] = []  # rows with ``q``
        self.failed: list[int] = []  # rows whose ``q`` is a range or a sentinel
        self.sentinel: list[int] = []
        self.rows = [0] * packs
        self.clock = [0] * packs


class Decoder:
    """Decodes packs; keeps nothing between batches, so threads may share it."""

    def __init__(self, index: SeriesIndex) -> None:
        self._index = index

    def decode(self, packs: list[TakenPack]) -> Batch:
        """Return the batch of ``packs``, not yet flagged for order; never raises for what is in a body."""
        columns = _Columns(len(packs))
        tests: list[TestItem] = []
        faults: list[Fault] = []
        for number, pack in enumerate(packs):
            if pack.damage:
                faults.append(Fault(pack, -1, "body", pack.damage))
                continue
            if pack.topic:
                self._message(pack, number, columns, tests, faults)
                continue
            try:
                body = wire.decode_body(pack.body)
            except WireError as exc:
                self._salvage(pack, number, exc, columns, tests, faults)
                continue
            if body.readings is not None:
                clock = _CLOCK.get(body.clk, CLOCK_SUSPECT)
                numbered = enumerate(body.readings)
                self._readings(pack, number, numbered, columns, faults, clock=clock)
            elif body.tests is not None:
                tests += [TestItem(pack, place, test) for place, test in enumerate(body.tests)]
            elif body.lost is not None and body.lost.through != pack.seq:
                faults.append(
                    Fault(pack, -1, "lost.through", f"{body.lost.through} is not the pack's seq")
                )
        return self._batch(packs, columns, tests, faults)

    def _message(
        self,
        pack: TakenPack,
        number: int,
        columns: _Columns,
        tests: list[TestItem],
        faults: list[Fault],
    ) -> None:
        """Take what a publisher's message says."""
        parsed = self._index.publishers.read(pack.topic, pack.body, pack.received_ms)
        before = len(columns.series)
        for value in parsed.values:
            try:
                series = self._index.number(pack.station, f"{value.device}/{value.indicator}")
            except WireError as exc:
                faults.append(Fault(pack, value.position, exc.field, str(exc)))
                continue
            columns.series.append(series)
            columns.t_ms.append(value.t_ms)
            columns.v.append(value.value)
            columns.position.append(value.position)
        columns.rows[number] = len(columns.series) - before
        tests += [TestItem(pack, position, record) for position, record in parsed.tests]
        faults += [Fault(pack, *fault) for fault in parsed.faults]

    def _readings(
        self,
        pack: TakenPack,
        number: int,
        records: Iterable[tuple[int, SenmlRecord]],
        columns: _Columns,
        faults: list[Fault],
        *,
        clock: int,
    ) -> None:
        # Ten million of these are a busy minute: nothing is looked up or called that need not be.
        base, base_s = "", 0.0
        known = self._index.known(pack.station)
        before = len(columns.series)
        for position, record in records:
            if record.bn is not None:
                base = record.bn
            if record.bt is not None:
                base_s = record.bt
            name, value = base + record.n, record.v
            t_ms = (base_s + record.t) * 1000
            try:
                series = known[name] if name in known else self._index.number(pack.station, name)
                if not -TIME_BOUND_MS < t_ms < TIME_BOUND_MS:
                    raise _no_time(base_s + record.t)
                if value is None or record.q is not None or record.u is not None:
                    value = self._value(record, series)
            except WireError as exc:
                faults.append(Fault(pack, position, exc.field, str(exc)))
                continue
            if record.q is not None:
                columns.bad.append(len(columns.series))
                if record.q in _FAILED:
                    columns.failed.append(len(columns.series))
                if record.q == BAD_SENTINEL:
                    columns.sentinel.append(len(columns.series))
            columns.series.append(series)
            columns.t_ms.append(t_ms)
            columns.v.append(value)
            columns.position.append(position)
        columns.rows[number] = len(columns.series) - before
        columns.clock[number] = clock

    def _value(self, record: SenmlRecord, series: int) -> float:
        if record.u is not None and record.u != self._index.unit(series):
            expected = self._index.unit(series)
            raise WireError(
                "u", f"unit {record.u!r} is not the catalogue's {expected!r}: convert at the edge"
            )
        if record.q is not None:
            return math.nan
        if record.v is None:
            raise WireError("v", "a reading needs v, or q when it failed")
        return record.v

    def _salvage(
        self,
        pack: TakenPack,
        number: int,
        error: WireError,
        columns: _Columns,
        tests: list[TestItem],
        faults: list[Fault],
    ) -> None:
        """Take the good records of a body that does not decode as a whole."""
        try:
            raw = _raw_decoder.decode(pack.body)
        except _UNREADABLE:
            faults.append(Fault(pack, -1, error.field, str(error)))
            return
        if (raw.readings is None) == (raw.tests is None):
            faults.append(Fault(pack, -1, error.field, str(error)))
            return
        readings: list[tuple[int, SenmlRecord]] = []
        for position, item in enumerate(raw.readings or []):
            try:
                readings.append((position, _senml_decoder.decode(item)))
            except _UNREADABLE as exc:
                faults.append(Fault(pack, position, "readings", str(exc)))
                if not _keeps_base(item):
                    # What follows leans on a base that cannot be read: nothing is guessed.
                    rest = range(position + 1, len(raw.readings or []))
                    faults += [Fault(pack, p, "bn", "leans on the record before it") for p in rest]
                    break
        self._readings(
            pack, number, readings, columns, faults, clock=_CLOCK.get(raw.clk, CLOCK_SUSPECT)
        )
        for position, item in enumerate(raw.tests or []):
            try:
                tests.append(TestItem(pack, position, _test_decoder.decode(item)))
            except _UNREADABLE as exc:
                faults.append(Fault(pack, position, "tests", str(exc)))

    def _batch(
        self,
        packs: list[TakenPack],
        columns: _Columns,
        tests: list[TestItem],
        faults: list[Fault],
    ) -> Batch:
        series = np.array(columns.series, np.int32)
        t_ms = np.rint(np.array(columns.t_ms, np.float64)).astype(np.int64)
        v = np.array(columns.v, np.float64)
        pack = np.repeat(np.arange(len(packs), dtype=np.int32), columns.rows)
        flags = np.array(columns.clock, np.uint32)[pack]
        flags[columns.bad] |= BAD_READING
        flags[columns.sentinel] |= SENTINEL
        failed = np.zeros(len(series), np.bool_)
        failed[columns.failed] = True
        received_ms = np.array([p.received_ms for p in packs], np.int64)[pack]
        flags[received_ms - t_ms > LATE_MS] |= LATE
        flags[(t_ms < EARLIEST_MS) | (t_ms > received_ms + AHEAD_MS)] |= CLOCK_SUSPECT
        q = self._flag_values(series, v, flags, failed)
        return Batch(
            packs=packs,
            series=self._index.series,
            series_id=series,
            t_ms=t_ms,
            v=v,
            q=q,
            flags=flags,
            received_ms=received_ms,
            inbox_pos=np.array([p.pos for p in packs], np.int64)[pack],
            pack_index=pack,
            position=np.array(columns.position, np.int32),
            tests=tests,
            faults=faults,
        )

    def _flag_values(
        self,
        series: NDArray[np.int32],
        v: NDArray[np.float64],
        flags: NDArray[np.uint32],
        failed: NDArray[np.bool_],
    ) -> NDArray[np.uint8]:
        """Return QARTOD flags: missing, gross range (QARTOD Test 4), pass; all arrays (n,)."""
        low, high = self._index.physical_ranges().take(series, axis=0, mode="clip").T
        inside = v >= low
        inside &= v <= high
        q = np.full(len(v), PASS, np.uint8)
        if not inside.all():
            missing = np.isnan(v)
            outside = ~(inside | missing)
            q[missing] = MISSING
            flags[outside] |= GROSS_RANGE
            q[outside] = FAIL
        q[failed] = FAIL
        return q


class ArrivalOrder:
    """Flags readings that are not newer than their series' last; for one stream of batches, in inbox order.

    Each consumer has its own: one that falls behind must not see what another has already had.
    """

    def __init__(self) -> None:
        self._last_ms = np.zeros(0, np.int64)  # (n_series,)
        self._place = np.zeros(0, np.int32)  # (n_series,) room for ``by_series``
        self.by_series: BySeries | None = None
        """The last batch by series, when each stood there once, as devices are polled."""

    def flag(self, batch: Batch) -> Batch:
        """Return ``batch`` with ``out_of_order`` set; the batch given is left as it is, others may hold it."""
        series, t_ms = batch.series_id, batch.t_ms
        known = int(series.max(initial=-1)) + 1
        if known > len(self._last_ms):
            unseen = np.full(known - len(self._last_ms), np.iinfo(np.int64).min)
            self._last_ms = np.concatenate([self._last_ms, unseen])
            self._place = np.zeros(known, np.int32)
        flags = batch.flags.copy()
        # A clock that is wrong must not make every later reading look out of order.
        doubtful = flags & CLOCK_SUSPECT
        never = np.iinfo(np.int64).min
        trusted_ms = np.where(doubtful, never, t_ms) if doubtful.any() else t_ms
        self.by_series = one = by_series(series, self._place)
        if one is not None:
            before = self._last_ms[one.where]
            now = t_ms.take(one.rows, mode="clip")
            behind = one.rows[now <= before]
            trusted = now if trusted_ms is t_ms else trusted_ms[one.rows]
            self._last_ms[one.where] = np.maximum(before, trusted)
        else:
            before = previous_maxima(series, trusted_ms, self._last_ms)
            np.maximum.at(self._last_ms, series, trusted_ms)
            behind = np.flatnonzero(t_ms <= before)
        flags[behind] |= OUT_OF_ORDER
        return dataclasses.replace(batch, flags=flags)


def _no_time(seconds: float) -> WireError:
    return WireError("t", f"{seconds} s is no time: UTC seconds since 1970 are expected")


class _RawBody(msgspec.Struct):
    readings: list[msgspec.Raw] | None = None
    tests: list[msgspec.Raw] | None = None
    clk: str = "sync"


class _Base(msgspec.Struct):
    bn: object = None
    bt: object = None


_raw_decoder = msgspec.json.Decoder(_RawBody)
_senml_decoder = msgspec.json.Decoder(SenmlRecord)
_test_decoder = msgspec.json.Decoder(TestRecord)
_base_decoder = msgspec.json.Decoder(_Base)


def _keeps_base(item: msgspec.Raw) -> bool:
    """Whether a bad record sets no base that later ones would lean on."""
    try:
        record = _base_decoder.decode(item)
    except _UNREADABLE:
        return False
    return record.bn is None and record.bt is None
