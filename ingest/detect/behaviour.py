"""How each series usually behaves, learnt as it goes, and which readings depart from it.

Steps between readings are gathered in epochs of ``EPOCH``. Of a closed epoch its largest step, its mean interval and
its longest run of one value are kept; of the last seven the third largest (of the intervals the third smallest) is
what is usual. So a fault in two epochs of seven teaches nothing, and no reading is compared with what it taught
itself. A channel that stands still stops learning: only the first ``EPOCH`` equal readings of a run count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ingest.batch import FLAT, GAP, RATE, SPIKE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ingest.sequence import BySeries

EPOCH = 64  # steps; a power of two, for ``_word``
KEPT = 7  # closed epochs
NEEDED = 3  # closed epochs before a channel is compared with itself
RANK = 3  # of KEPT: what is usual
SPIKE_TIMES = 3.0  # the usual largest step; also for the rate
GAP_TIMES = 5.0  # the usual interval
FLAT_TIMES = 6.0  # the usual longest run
FLAT_READINGS = 20
FLAT_MS = 10 * 60_000
RESOLUTIONS = 4.0  # a departure of fewer steps of resolution is none
CHUNK = 16_384  # readings at a time: what is in work stays in the processor's cache
# Readings per series, and one more for each so many readings: each is a round of its own; beyond it they are sorted.
FEW, FEW_PER = 4, 256
GIVEN = ("spike", "rate_per_s", "gap_s", "flat_s")  # columns of what a site gives
_GIVEN_SPIKE, _GIVEN_RATE, _GIVEN_GAP, _GIVEN_FLAT = range(4)
_STEP, _INTERVAL, _RUN = range(3)  # what is kept of an epoch
_NO_TIME = np.inf  # of the reading before the first: no gap lies between
_NOT_YET = np.float32(-np.inf)  # an empty place among the kept epochs
# Parts of ``_word``: which place of ``_older`` is given up next, steps in the open epoch, whether the next reading is
# looked at whatever its step, and how many readings in a row were equal to the newest, with it (0: there was none yet).
_PLACE = 1
_STEP_ONE = 2 * _PLACE
_STEPS = (2 * EPOCH - 1) * _STEP_ONE
_LOOK = 2 * EPOCH * _STEP_ONE
_RUN_ONE = 2 * _LOOK
_RUN_MOST = 2**20  # beyond it nobody counts
_RUN_TELLS = 4  # a shorter run says nothing: FLAT_TIMES of it are less than FLAT_READINGS
# A value further than B from the median of three is further than B from one of the last two; so its step, or the one
# before it, is more than half of B. A little less, for what is lost in rounding.
_NEARLY_HALF = 0.49


class Behaviour:
    """State of every series: one array per quantity, one row per series, grown as series appear.

    Two numbers that are always used together lie side by side as one complex number: a gather costs as much for both.
    Most readings are ordinary: one comparison with ``_quiet`` tells, and only the others are looked at more closely.
    """

    def __init__(self) -> None:
        self._size = 0
        # The last three usable values and the newest's time (ms); NaN where there is none, or it lies before a gap.
        self._newest = np.zeros(0, np.complex128)  # (n_series,) value, time
        # The second and the third; ``_word`` says which of them is the third, and gives its place up.
        self._older = np.zeros((2, 0))  # (2, n_series)
        self._word = np.zeros(0, np.int32)
        self._run_ms = np.zeros(0)  # when that run began, if it has more than one reading
        # The open epoch: when it began, largest step, longest run that ended.
        self._epoch_ms = np.zeros(0)
        self._largest_step, self._longest_run = np.zeros(0), np.zeros(0)
        # Closed epochs, oldest first, intervals below zero; and what is usual: NaN while not learnt.
        self._kept = np.zeros((0, 3, KEPT), np.float32)  # (n_series, 3, KEPT)
        self._usual = np.zeros((0, 3))  # (n_series, 3)
        self._given = np.zeros((0, 4))  # (n_series, 4) by the site, NaN: nothing
        self._floor = np.zeros(0)  # (n_series,) no smaller step is a departure
        # What follows for the next reading; +inf: not evaluated.
        self._quiet = np.zeros(0, np.complex128)  # (n_series,) largest ordinary step, gap in ms
        self._look_from = np.zeros(0)  # (n_series,) no smaller step is part of a spike, or too fast
        self._spike = np.zeros(0)
        self._rate, self._rate_from_ms = np.zeros(0), np.zeros(0)  # per ms; for no shorter time
        self._flat_n, self._flat_ms = np.zeros(0), np.zeros(0)
        self._least_flat_n = float(FLAT_READINGS)
        self._slot = np.zeros(0, np.intp)
        self._room = _Room(CHUNK)

    def give(self, given: NDArray[np.float64], resolution: NDArray[np.float64]) -> None:
        """Take what the site gives for every series, the columns of ``GIVEN`` (n_series, 4), NaN = nothing.

        ``resolution`` (n_series,) is the smallest step the indicator is given in. Series that are new are added.
        """
        by = len(given) - self._size
        self._newest = _grow(self._newest, by, complex(np.nan, _NO_TIME))
        self._older = np.ascontiguousarray(_grow(self._older.T, by, np.nan).T)
        self._word, self._run_ms = _grow(self._word, by, 0), _grow(self._run_ms, by, 0)
        self._epoch_ms = _grow(self._epoch_ms, by, 0)
        self._largest_step = _grow(self._largest_step, by, 0)
        self._longest_run = _grow(self._longest_run, by, 0)
        self._kept = _grow(self._kept, by, _NOT_YET)
        self._usual = _grow(self._usual, by, np.nan)
        self._quiet, self._look_from = _grow(self._quiet, by, 0), _grow(self._look_from, by, 0)
        self._spike = _grow(self._spike, by, 0)
        self._rate, self._rate_from_ms = _grow(self._rate, by, 0), _grow(self._rate_from_ms, by, 0)
        self._flat_n, self._flat_ms = _grow(self._flat_n, by, 0), _grow(self._flat_ms, by, 0)
        self._slot = _grow(self._slot, by, 0)
        self._given, self._floor = given, resolution * RESOLUTIONS
        self._least_flat_n = 2 if not np.isnan(given[:, _GIVEN_FLAT]).all() else FLAT_READINGS
        self._size = len(given)
        every = np.arange(self._size)
        self._apply(every, _Bounds(every, self._usual, given, self._floor))

    def flag(
        self,
        series: NDArray[np.intp],
        t_ms: NDArray[np.int64],
        v: NDArray[np.float64],
    ) -> NDArray[np.uint32]:
        """Return the bits SPIKE, RATE, FLAT, GAP of usable readings (n,) in order of arrival, and learn from them.

        Usable: a finite value, and a time after that of the last usable reading of its series.
        """
        bits = np.zeros(len(series), np.uint32)
        with np.errstate(over="ignore", invalid="ignore"):
            for begin in range(0, len(series), CHUNK):
                part = slice(begin, begin + CHUNK)
                self._chunk(series[part], t_ms[part].astype(np.float64), v[part], bits[part])
        return bits

    def flag_by_series(
        self,
        t_ms: NDArray[np.int64],
        v: NDArray[np.float64],
        readings: BySeries,
    ) -> NDArray[np.uint32]:
        """Return the bits of ``flag`` (n,) for usable ``readings`` of a batch in which no series stands twice.

        Much faster, most of all after a poll of everything: the state of neighbours is worked on where it lies.
        """
        bits = np.zeros(len(v), np.uint32)
        with np.errstate(over="ignore", invalid="ignore"):
            for begin in range(0, len(readings.rows), CHUNK):
                part = readings.part(slice(begin, begin + CHUNK))
                t = t_ms.take(part.rows, mode="clip").astype(np.float64)
                found = np.zeros(len(t), np.uint32)
                self._once(part.ids, part.where, t, v.take(part.rows, mode="clip"), found)
                if found.any():
                    bits[part.rows] = found
        return bits

    def _chunk(
        self,
        series: NDArray[np.intp],
        t_ms: NDArray[np.float64],
        v: NDArray[np.float64],
        bits: NDArray[np.uint32],
    ) -> None:
        """Set ``bits`` (n,): the first reading of each series in one go, then the second …; few series one by one."""
        rows = np.arange(len(series))
        left = series
        while True:
            place = np.arange(len(left))
            self._slot[left[::-1]] = place[::-1]
            first = self._slot.take(left) == place
            if first.all():
                break
            if np.count_nonzero(first) * (FEW + len(left) // FEW_PER) < len(left):
                rows = rows[np.argsort(left, kind="stable")]
                bits[rows] = self._by_series(series[rows], t_ms[rows], v[rows])
                return
            self._some(rows[first], series, t_ms, v, bits)
            rows = rows[~first]
            left = series[rows]
        if len(rows) == len(series):
            self._once(series, series, t_ms, v, bits)
        else:
            self._some(rows, series, t_ms, v, bits)

    def _some(
        self,
        rows: NDArray[np.intp],
        series: NDArray[np.intp],
        t_ms: NDArray[np.float64],
        v: NDArray[np.float64],
        bits: NDArray[np.uint32],
    ) -> None:
        found = np.zeros(len(rows), np.uint32)
        ids = series[rows]
        self._once(ids, ids, t_ms[rows], v[rows], found)
        bits[rows] = found

    def _once(
        self,
        series: NDArray[np.intp],
        where: slice | NDArray[np.intp],
        t_ms: NDArray[np.float64],
        v: NDArray[np.float64],
        bits: NDArray[np.uint32],
    ) -> None:
        """Set ``bits`` (n,) where no series occurs twice; at most ``CHUNK`` readings.

        ``where`` finds ``series`` in the state: themselves, or a slice when they are neighbours in order.
        """
        room = self._room.part(len(series))
        newest, quiet, word = self._newest[where], self._quiet[where], self._word[where]
        v1, t1_ms = newest.real, newest.imag
        step = np.subtract(v, v1, out=room.step)  # (n,) NaN at the first reading
        np.abs(step, out=step)
        np.equal(step, 0.0, out=room.equal)
        since_ms = np.subtract(t_ms, t1_ms, out=room.since_ms)
        asked = np.not_equal(np.bitwise_and(word, _LOOK, out=room.grown), 0, out=room.asked)
        grown = self._runs(room, word, series, t_ms, t1_ms, bits)
        closer = np.greater(step, quiet.real, out=room.mask)
        closer |= asked
        gap = np.flatnonzero(np.greater(since_ms, quiet.imag, out=room.gap))
        if gap.size:
            bits[gap] |= GAP
            closer[gap] = False
        at = np.flatnonzero(closer)
        if at.size:
            large = self._look(at, series, v, step, since_ms, asked, bits)
            grown[large] |= _LOOK
        place = np.multiply(np.bitwise_and(word, _PLACE, out=room.run), self._size, out=room.place)
        place += series
        self._older.reshape(-1)[place] = v1
        if gap.size:
            self._older[:, series[gap]] = np.nan
        newest.real, newest.imag = v, t_ms
        self._newest[where] = newest
        self._word[where] = grown
        full = np.flatnonzero(np.bitwise_and(grown, EPOCH * _STEP_ONE, out=room.run))
        if full.size:
            self._close(series[full], t_ms[full])

    def _look(
        self,
        at: NDArray[np.intp],
        series: NDArray[np.intp],
        v: NDArray[np.float64],
        step: NDArray[np.float64],
        since_ms: NDArray[np.float64],
        asked: NDArray[np.bool_],
        bits: NDArray[np.uint32],
    ) -> NDArray[np.intp]:
        """Set SPIKE and RATE of the readings at ``at`` (m,) and keep their steps; return where a step was large."""
        ids, steps = series[at], step[at]
        look_from = self._look_from[ids]
        largest = np.fmax(self._largest_step[ids], steps)
        self._largest_step[ids] = largest
        self._quiet.real[ids] = np.minimum(largest, look_from)
        is_large = steps > look_from
        large = at[is_large]
        suspect = is_large | asked[at]
        if suspect.any():
            at, ids, steps = at[suspect], ids[suspect], steps[suspect]
            middle = _median(self._newest.real[ids], *self._older[:, ids])
            bits[at[np.abs(v[at] - middle) > self._spike[ids]]] |= SPIKE
            least = np.maximum(since_ms[at], self._rate_from_ms[ids])
            bits[at[steps > self._rate[ids] * least]] |= RATE
        return large

    def _runs(
        self,
        room: _Room,
        word: NDArray[np.int32],
        series: NDArray[np.intp],
        t_ms: NDArray[np.float64],
        t1_ms: NDArray[np.float64],
        bits: NDArray[np.uint32],
    ) -> NDArray[np.int32]:
        """Set FLAT and return the words (n,) with these readings."""
        run = np.bitwise_and(word, -_RUN_ONE, out=room.run)
        run *= room.equal  # in units of _RUN_ONE; 0 where one ended
        grown = np.bitwise_and(word, _STEPS | _PLACE, out=room.grown)
        grown ^= _PLACE
        grown += run
        grown += _RUN_ONE + _STEP_ONE
        second = np.flatnonzero(np.equal(run, _RUN_ONE, out=room.mask))
        self._run_ms[series[second]] = t1_ms[second]
        ended = np.flatnonzero(np.greater(word >= _RUN_TELLS * _RUN_ONE, room.equal, out=room.mask))
        if ended.size:
            ids = series[ended]
            self._longest_run[ids] = np.maximum(self._longest_run[ids], word[ended] // _RUN_ONE)
        if run.max(initial=0) >= (self._least_flat_n - 1) * _RUN_ONE:
            long = np.flatnonzero(run >= (self._least_flat_n - 1) * _RUN_ONE)
            ids, readings = series[long], grown[long] // _RUN_ONE
            flat = readings >= self._flat_n[ids]
            flat &= t_ms[long] - self._run_ms[ids] >= self._flat_ms[ids]
            bits[long[flat]] |= FLAT
            grown[long] -= _STEP_ONE * (readings > EPOCH) + _RUN_ONE * (readings > _RUN_MOST)
        if word.min(initial=_RUN_ONE) < _RUN_ONE:
            begun = np.flatnonzero(word < _RUN_ONE)
            grown[begun] = _RUN_ONE
            self._epoch_ms[series[begun]] = t_ms[begun]
        return grown

    def _close(self, series: NDArray[np.intp], t_ms: NDArray[np.float64]) -> None:
        """Keep the open epoch of ``series`` (m,), which ended at ``t_ms``, and begin another."""
        kept = self._kept.take(series, axis=0, mode="clip")
        kept[:, :, :-1] = kept[:, :, 1:]
        kept[:, _STEP, -1] = self._largest_step[series]
        kept[:, _INTERVAL, -1] = (self._epoch_ms[series] - t_ms) / EPOCH
        kept[:, _RUN, -1] = self._longest_run[series]
        self._kept[series] = kept
        usual = _usual(kept)
        usual[:, _INTERVAL] *= -1
        self._largest_step[series] = self._longest_run[series] = 0.0
        self._epoch_ms[series] = t_ms
        self._word[series] &= ~_STEPS
        self._usual[series] = usual
        self._apply(series, _Bounds(series, usual, self._given, self._floor))

    def _apply(self, series: NDArray[np.intp], bounds: _Bounds) -> None:
        self._spike[series] = bounds.spike
        self._rate[series], self._rate_from_ms[series] = bounds.rate, bounds.rate_from_ms
        self._flat_n[series], self._flat_ms[series] = bounds.flat_n, bounds.flat_ms
        look_from = bounds.spike * _NEARLY_HALF
        look_from[np.isfinite(self._given[series, _GIVEN_RATE])] = 0.0
        self._look_from[series] = look_from
        self._quiet.real[series] = np.minimum(self._largest_step[series], look_from)
        self._quiet.imag[series] = bounds.gap_ms
        # Whether the last step was large was told by the old bounds.
        word = self._word[series]
        second = self._older[1 - (word & _PLACE), series]
        large = np.abs(self._newest.real[series] - second) > look_from
        self._word[series] = np.where(large, word | _LOOK, word & ~_LOOK)

    def _by_series(
        self, series: NDArray[np.intp], t_ms: NDArray[np.float64], v: NDArray[np.float64]
    ) -> NDArray[np.uint32]:
        """Return the bits (n,) of readings sorted by series, each series in order of arrival."""
        n = len(series)
        at = np.arange(n)
        first = np.append(True, series[1:] != series[:-1])  # (n,)
        begin = np.flatnonzero(first)  # (k,)
        end = np.append(begin[1:], n) - 1  # (k,)
        ids = series[begin]  # (k,)
        group = np.cumsum(first) - 1  # (n,)
        word = self._word[ids]  # (k,)

        def before(x: NDArray[Any], state: NDArray[Any]) -> NDArray[Any]:
            """Return ``x`` of the reading before; what is held stands in at the first of a series."""
            y = np.empty_like(x)
            y[1:] = x[:-1]
            y[begin] = state
            return y

        v1 = before(v, self._newest.real[ids])
        t1_ms = before(t_ms, self._newest.imag[ids])
        since_ms = t_ms - t1_ms
        equal = v == v1
        # A run begins at each change; the first may go on from the batch before.
        starts = np.maximum.accumulate(np.where(equal & ~first, 0, at))  # (n,)
        goes_on = first & equal
        run = at - starts + 1 + np.where(goes_on, (word // _RUN_ONE)[group], 0)[starts]
        run_before = before(run, word // _RUN_ONE)
        begun_ms = np.where(goes_on & (run_before > 1), self._run_ms[ids][group], t1_ms)
        run_ms = np.where(goes_on, begun_ms, t_ms)[starts]
        counted = np.where(equal, run_before < EPOCH, run_before > 0)
        total = np.cumsum(counted)
        total += ((word & _STEPS) // _STEP_ONE - total[begin] + counted[begin])[
            group
        ]  # (n,) with it
        new = word < _RUN_ONE
        self._epoch_ms[ids[new]] = t_ms[begin[new]]
        epochs = _Epochs(ids, total[end] // EPOCH, group, (total - counted) // EPOCH, counted)

        # What is usual behind each epoch: intervals and runs first, for a gap takes a step out.
        usual = np.empty((epochs.count, 3))
        usual[epochs.head] = self._usual[ids]
        closing = np.flatnonzero(counted & (total % EPOCH == 0))
        closed_ms = t_ms[closing]
        opened_ms = np.where(
            epochs.nth == 0, self._epoch_ms[ids][epochs.of], np.append(0, closed_ms)[:-1]
        )
        self._learn(_INTERVAL, epochs, (opened_ms - closed_ms) / EPOCH, usual)
        usual[epochs.done + 1, _INTERVAL] *= -1
        ended = np.where(equal | (run_before < 2), 0, run_before)
        longest = epochs.largest(ended, self._longest_run[ids])
        self._learn(_RUN, epochs, longest[epochs.done], usual)
        usual[:, _STEP] = np.nan
        owner = np.repeat(ids, epochs.closed + 1)
        gap = since_ms > _Bounds(owner, usual, self._given, self._floor).gap_ms[epochs.row]
        step = np.where(gap, 0.0, np.abs(v - v1))
        usual[epochs.head, _STEP] = self._usual[ids, _STEP]
        largest = epochs.largest(step, self._largest_step[ids])
        self._learn(_STEP, epochs, largest[epochs.done], usual)
        bounds = _Bounds(owner, usual, self._given, self._floor)

        # After a gap the values before it are no company.
        held2 = np.where(gap, np.nan, v1)  # (n,) the second once the reading is in
        third = word & _PLACE
        v2 = before(held2, self._older[1 - third, ids])
        held3 = np.where(gap, np.nan, v2)
        v3 = before(held3, self._older[third, ids])
        row = epochs.row
        bits = np.where(gap, np.uint32(GAP), np.uint32(0))
        bits[(np.abs(v - _median(v1, v2, v3)) > bounds.spike[row]) & ~gap] |= SPIKE
        least = np.maximum(since_ms, bounds.rate_from_ms[row])
        bits[step > bounds.rate[row] * least] |= RATE
        bits[equal & (run >= bounds.flat_n[row]) & (t_ms - run_ms >= bounds.flat_ms[row])] |= FLAT

        self._newest.real[ids], self._newest.imag[ids] = v[end], t_ms[end]
        self._older[1 - third, ids], self._older[third, ids] = held2[end], held3[end]
        runs, steps = np.minimum(run[end], _RUN_MOST), total[end] % EPOCH
        self._word[ids] = runs * _RUN_ONE + steps * _STEP_ONE + third
        self._run_ms[ids] = run_ms[end]
        last = epochs.head + epochs.closed
        self._largest_step[ids], self._longest_run[ids] = largest[last], longest[last]
        final = np.flatnonzero(np.append(epochs.of[1:] != epochs.of[:-1], True)[: len(closing)])
        self._epoch_ms[ids[epochs.of[final]]] = closed_ms[final]
        self._usual[ids] = usual[last]
        self._apply(ids, _Bounds(ids, usual[last], self._given, self._floor))
        return bits

    def _learn(
        self,
        which: int,
        epochs: _Epochs,
        last: NDArray[np.float64],
        usual: NDArray[np.float64],
    ) -> None:
        """Keep ``last`` (m,) of the epochs that closed, and fill ``usual`` behind each of them."""
        if not last.size:
            return
        # Per series the kept epochs, then the closed ones: each window of KEPT says what is usual.
        kept = self._kept[:, which]
        length = KEPT + epochs.closed  # (k,)
        start = np.cumsum(length) - length
        line = np.empty(int(length.sum()), np.float32)
        line[start[:, np.newaxis] + np.arange(KEPT)] = kept[epochs.ids]
        begin = start[epochs.of] + epochs.nth
        line[begin + KEPT] = last
        windows = line[(begin + 1)[:, np.newaxis] + np.arange(KEPT)]
        usual[epochs.done + 1, which] = _usual(windows)
        kept[epochs.ids] = line[(start + epochs.closed)[:, np.newaxis] + np.arange(KEPT)]


class _Room:
    """Arrays for what is computed of some readings, used again: memory that is new costs more than the work."""

    def __init__(self, n: int) -> None:
        self.step, self.since_ms, self.place = np.empty(n), np.empty(n), np.empty(n, np.intp)
        self.grown, self.run = np.empty(n, np.int32), np.empty(n, np.int32)
        self.equal, self.asked, self.mask, self.gap = (np.empty(n, np.bool_) for _ in range(4))

    def part(self, n: int) -> _Room:
        """Return the first ``n`` of each."""
        if n == len(self.run):
            return self
        part = object.__new__(_Room)
        for name, array in vars(self).items():
            setattr(part, name, array[:n])
        return part


class _Bounds:
    """What a reading may do, from what is ``usual`` (m, 3) and what the site gives; all (m,), +inf: not evaluated."""

    def __init__(
        self,
        series: NDArray[np.intp],
        usual: NDArray[np.float64],
        given: NDArray[np.float64],
        floor: NDArray[np.float64],
    ) -> None:
        step, interval, run = usual[:, _STEP], usual[:, _INTERVAL], usual[:, _RUN]
        stated = given[series]
        own = _or_inf(np.maximum(step * SPIKE_TIMES, floor[series]))
        self.spike = _stated(stated[:, _GIVEN_SPIKE], own)
        # The own rate: the own bound in the usual interval, or in the time that passed when that is longer.
        self.rate = _stated(stated[:, _GIVEN_RATE] / 1000, own / interval)
        self.rate_from_ms = np.where(np.isnan(stated[:, _GIVEN_RATE]), interval, 0.0)
        self.rate[np.isnan(self.rate)] = np.inf
        self.rate_from_ms[np.isnan(self.rate_from_ms)] = 1.0
        self.gap_ms = _stated(stated[:, _GIVEN_GAP] * 1000, _or_inf(interval * GAP_TIMES))
        flat_ms = stated[:, _GIVEN_FLAT] * 1000
        flat_n = _or_inf(np.maximum(run * FLAT_TIMES, FLAT_READINGS))
        flat_n[run >= EPOCH / 2] = np.inf  # rain, a valve: to stand still is what it does
        self.flat_n = np.where(np.isnan(flat_ms), flat_n, 2.0)
        self.flat_ms = _stated(flat_ms, np.full(len(series), float(FLAT_MS)))


class _Epochs:
    """Where the epochs of a call lie: series k has ``closed[k]`` that end in it and then one that stays open."""

    def __init__(
        self,
        ids: NDArray[np.intp],
        closed: NDArray[np.int64],
        group: NDArray[np.int64],
        epoch: NDArray[np.int64],
        counted: NDArray[np.bool_],
    ) -> None:
        self.ids = ids  # (k,)
        self.closed = closed  # (k,)
        self.count = int(closed.sum()) + len(ids)
        self.head = np.cumsum(closed + 1) - closed - 1  # (k,) first epoch of each series
        self.row = self.head[group] + epoch  # (n,) the epoch that each reading finds open
        is_open = np.zeros(self.count, np.bool_)
        is_open[self.head + closed] = True
        self.done = np.flatnonzero(~is_open)  # (m,) epochs that closed
        self.of = np.repeat(np.arange(len(ids)), closed)  # (m,) whose they are
        self.nth = np.arange(len(self.done)) - (np.cumsum(closed) - closed)[self.of]  # (m,)
        self._rows = np.flatnonzero(counted)
        slots = self.row[self._rows]
        self._cuts = np.flatnonzero(np.append(True, slots[1:] != slots[:-1])[: len(slots)])
        self._slots = slots[self._cuts]

    def largest(self, x: NDArray[Any], held: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the largest ``x`` (n,) of each epoch, of the first with what is ``held`` (k,); (count,)."""
        maxima = np.zeros(self.count)
        maxima[self.head] = held
        if self._cuts.size:
            found = np.maximum.reduceat(x[self._rows], self._cuts)
            maxima[self._slots] = np.maximum(maxima[self._slots], found)
        return maxima


def _grow(array: NDArray[Any], by: int, fill: object) -> NDArray[Any]:
    grown = np.full((len(array) + by, *array.shape[1:]), fill, array.dtype)
    grown[: len(array)] = array
    return grown


def _median(
    a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the middle of three (n,); NaN when one is."""
    middle: NDArray[np.float64] = np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))
    return middle


def _usual(windows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return what is usual after the epochs ``windows`` (…, KEPT), NaN while too few are filled; (…)."""
    columns = np.ascontiguousarray(np.moveaxis(windows, -1, 0))  # (KEPT, …)
    top = np.full((RANK, *columns.shape[1:]), _NOT_YET)  # the largest first
    for column in columns:  # a sort of many short rows costs ten times as much
        lesser = np.minimum(top[:-1], column)
        np.maximum(top[0], column, out=top[0])
        np.maximum(top[1:], lesser, out=top[1:])
    usual: NDArray[np.float64] = top[RANK - 1].astype(np.float64)
    if (columns == _NOT_YET).any():
        filled = np.count_nonzero(columns > _NOT_YET, axis=0)
        rank = np.maximum(filled * RANK // KEPT, 1)
        usual = np.take_along_axis(top, rank[np.newaxis] - 1, axis=0)[0].astype(np.float64)
        usual[filled < NEEDED] = np.nan
    return usual


def _stated(given: NDArray[np.float64], own: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isnan(given), own, given)


def _or_inf(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isnan(x), np.inf, x)
