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

EPOCH = 64  # steps; less than 128, see ``_word``
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
FEW = 4  # readings per series; beyond it they are sorted by series
GIVEN = ("spike", "rate_per_s", "gap_s", "flat_s")  # columns of what a site gives
_GIVEN_SPIKE, _GIVEN_RATE, _GIVEN_GAP, _GIVEN_FLAT = range(4)
_STEP, _INTERVAL, _RUN = range(3)  # what is kept of an epoch
_NO_TIME = np.inf  # of the reading before the first: no gap lies between
_NEVER = np.iinfo(np.int32).max
_NOT_YET = np.float32(-1)  # an empty place among the kept epochs; sorts below any that is filled


class Behaviour:
    """State of every series: one array per quantity, one row per series, grown as series appear.

    Two numbers that are always used together lie side by side as one complex number: a gather costs as much for both.
    """

    def __init__(self) -> None:
        self._size = 0
        # The last three usable values and the newest's time (ms); NaN where there is none, or it lies before a gap.
        self._near = np.zeros(0, np.complex128)  # (n_series,) newest, the one before
        self._far = np.zeros(0, np.complex128)  # (n_series,) the third, time of the newest
        # 128 × readings in a row that were equal to the newest, with it, + steps in the open epoch.
        self._word = np.zeros(0, np.int64)
        self._run_ms = np.zeros(0)  # when that run began, if it has more than one reading
        # The open epoch: when it began, largest step, longest run that ended.
        self._epoch_ms = np.zeros(0)
        self._largest_step, self._longest_run = np.zeros(0), np.zeros(0)
        # Closed epochs, oldest first, and what is usual: NaN while not learnt.
        self._kept = [np.zeros((0, KEPT), np.float32) for _ in range(3)]  # 3 × (n_series, KEPT)
        self._usual = np.zeros((0, 3))  # (n_series, 3)
        self._given = np.zeros((0, 4))  # (n_series, 4) by the site, NaN: nothing
        self._by_site = False  # some site gives a spike or a rate
        self._floor = np.zeros(0)  # (n_series,) no smaller step is a departure
        # What follows for the next reading; +inf: not evaluated.
        self._bounds = np.zeros(0, np.complex128)  # (n_series,) spike, gap in ms
        self._rate, self._rate_from_ms = np.zeros(0), np.zeros(0)  # per ms; for no shorter time
        self._flat_n, self._flat_ms = np.zeros(0), np.zeros(0)
        self._least_flat_n = float(FLAT_READINGS)
        self._slot = np.zeros(0, np.intp)

    def give(self, given: NDArray[np.float64], resolution: NDArray[np.float64]) -> None:
        """Take what the site gives for every series, the columns of ``GIVEN`` (n_series, 4), NaN = nothing.

        ``resolution`` (n_series,) is the smallest step the indicator is given in. Series that are new are added.
        """
        by = len(given) - self._size
        self._near = _grow(self._near, by, complex(np.nan, np.nan))
        self._far = _grow(self._far, by, complex(np.nan, _NO_TIME))
        self._word, self._run_ms = _grow(self._word, by, 0), _grow(self._run_ms, by, 0)
        self._epoch_ms = _grow(self._epoch_ms, by, 0)
        self._largest_step = _grow(self._largest_step, by, 0)
        self._longest_run = _grow(self._longest_run, by, 0)
        self._kept = [_grow(kept, by, _NOT_YET) for kept in self._kept]
        self._usual = _grow(self._usual, by, np.nan)
        self._bounds = _grow(self._bounds, by, 0)
        self._rate, self._rate_from_ms = _grow(self._rate, by, 0), _grow(self._rate_from_ms, by, 0)
        self._flat_n, self._flat_ms = _grow(self._flat_n, by, 0), _grow(self._flat_ms, by, 0)
        self._slot = _grow(self._slot, by, 0)
        self._given, self._floor = given, resolution * RESOLUTIONS
        stated = ~np.isnan(given)
        self._by_site = bool(stated[:, [_GIVEN_SPIKE, _GIVEN_RATE]].any())
        self._least_flat_n = 2 if stated[:, _GIVEN_FLAT].any() else FLAT_READINGS
        self._size = len(given)
        every = np.arange(self._size)
        self._apply(every, _Bounds(every, self._usual, given, self._floor))

    def flag(
        self,
        series: NDArray[np.intp],
        t_ms: NDArray[np.int64],
        v: NDArray[np.float64],
        *,
        each_once: bool = False,
    ) -> NDArray[np.uint32]:
        """Return the bits SPIKE, RATE, FLAT, GAP of usable readings (n,) in order of arrival, and learn from them.

        Usable: a finite value, and a time after that of the last usable reading of its series. ``each_once`` says that
        no series stands twice in ``series``.
        """
        bits = np.zeros(len(series), np.uint32)
        with np.errstate(over="ignore", invalid="ignore"):
            for begin in range(0, len(series), CHUNK):
                part = slice(begin, begin + CHUNK)
                t = t_ms[part].astype(np.float64)
                handle = self._once if each_once else self._chunk
                handle(series[part], t, v[part], bits[part])
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
            if np.count_nonzero(first) * FEW < len(left):
                rows = rows[np.argsort(left, kind="stable")]
                bits[rows] = self._by_series(series[rows], t_ms[rows], v[rows])
                return
            self._some(rows[first], series, t_ms, v, bits)
            rows = rows[~first]
            left = series[rows]
        if len(rows) == len(series):
            self._once(series, t_ms, v, bits)
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
        self._once(series[rows], t_ms[rows], v[rows], found)
        bits[rows] = found

    def _once(
        self,
        series: NDArray[np.intp],
        t_ms: NDArray[np.float64],
        v: NDArray[np.float64],
        bits: NDArray[np.uint32],
    ) -> None:
        """Set ``bits`` (n,) where no series occurs twice."""
        near, far = self._near.take(series), self._far.take(series)
        bounds, word = self._bounds.take(series), self._word.take(series)
        v1, since_ms = near.real, t_ms - far.imag
        step = np.abs(v - v1)  # (n,) NaN at the first reading
        gap = since_ms > bounds.imag
        spike = np.abs(v - _median(v1, near.imag, far.real)) > bounds.real
        gaps = bool(gap.any())
        if gaps:
            bits[gap] = GAP
            spike &= ~gap
            step[gap] = 0.0
        if spike.any():
            bits[spike] |= SPIKE
        # An own rate is broken by no step that is inside the own bound for spikes.
        fast = np.arange(len(v)) if self._by_site else np.flatnonzero(step > bounds.real)
        if fast.size:
            ids = series[fast]
            least = np.maximum(since_ms[fast], self._rate_from_ms[ids])
            bits[fast[step[fast] > self._rate[ids] * least]] |= RATE
        # The run: most values are new and follow one that was.
        equal = v == v1
        begun = word == 0
        run_on = np.flatnonzero(equal)
        ended = np.flatnonzero(word >= 256)
        ended = ended[~equal[ended]]
        grown = word + 1
        if run_on.size:
            was = word[run_on] >> 7
            grown[run_on] = word[run_on] + 128 + (was < EPOCH)
            second = run_on[was == 1]
            self._run_ms[series[second]] = far.imag[second]
            long = run_on[was + 1 >= self._least_flat_n]
            if long.size:
                ids = series[long]
                enough = (grown[long] >> 7) >= self._flat_n[ids]
                enough &= t_ms[long] - self._run_ms[ids] >= self._flat_ms[ids]
                bits[long[enough]] |= FLAT
        if ended.size:
            ids = series[ended]
            self._longest_run[ids] = np.maximum(self._longest_run[ids], word[ended] >> 7)
            grown[ended] = (word[ended] & 127) + 129
        if begun.any():
            grown[begun] = 128
            self._epoch_ms[series[begun]] = t_ms[begun]
        higher = np.flatnonzero(step > self._largest_step.take(series))
        if higher.size:
            self._largest_step[series[higher]] = step[higher]
        self._word[series] = grown
        far.real, far.imag = near.imag, t_ms
        near.imag, near.real = v1, v
        if gaps:
            far.real[gap] = near.imag[gap] = np.nan
        self._near[series] = near
        self._far[series] = far
        full = np.flatnonzero(grown & 127 == EPOCH)
        if full.size:
            self._close(series[full], t_ms[full])

    def _close(self, series: NDArray[np.intp], t_ms: NDArray[np.float64]) -> None:
        """Keep the open epoch of ``series`` (m,), which ended at ``t_ms``, and begin another."""
        usual = np.empty((len(series), 3))
        interval = (t_ms - self._epoch_ms[series]) / EPOCH
        for which, last in (
            (_STEP, self._largest_step[series]),
            (_INTERVAL, interval),
            (_RUN, self._longest_run[series]),
        ):
            kept = self._kept[which]
            window = np.empty((len(series), KEPT), np.float32)
            window[:, :-1], window[:, -1] = kept[series, 1:], last
            kept[series] = window
            usual[:, which] = _usual(window, which)
        self._largest_step[series] = self._longest_run[series] = 0.0
        self._epoch_ms[series] = t_ms
        self._word[series] &= ~127
        self._usual[series] = usual
        self._apply(series, _Bounds(series, usual, self._given, self._floor))

    def _apply(self, series: NDArray[np.intp], bounds: _Bounds) -> None:
        self._bounds.real[series], self._bounds.imag[series] = bounds.spike, bounds.gap_ms
        self._rate[series], self._rate_from_ms[series] = bounds.rate, bounds.rate_from_ms
        self._flat_n[series], self._flat_ms[series] = bounds.flat_n, bounds.flat_ms

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

        v1 = before(v, self._near.real[ids])
        t1_ms = before(t_ms, self._far.imag[ids])
        since_ms = t_ms - t1_ms
        equal = v == v1
        # A run begins at each change; the first may go on from the batch before.
        starts = np.maximum.accumulate(np.where(equal & ~first, 0, at))  # (n,)
        goes_on = first & equal
        run = at - starts + 1 + np.where(goes_on, (word >> 7)[group], 0)[starts]
        run_before = before(run, word >> 7)
        begun_ms = np.where(goes_on & (run_before > 1), self._run_ms[ids][group], t1_ms)
        run_ms = np.where(goes_on, begun_ms, t_ms)[starts]
        counted = np.where(equal, run_before < EPOCH, run_before > 0)
        total = np.cumsum(counted)
        total += ((word & 127) - total[begin] + counted[begin])[group]  # (n,) with it
        self._epoch_ms[ids[word == 0]] = t_ms[begin[word == 0]]
        epochs = _Epochs(ids, total[end] // EPOCH, group, (total - counted) // EPOCH, counted)

        # What is usual behind each epoch: intervals and runs first, for a gap takes a step out.
        usual = np.empty((epochs.count, 3))
        usual[epochs.head] = self._usual[ids]
        closing = np.flatnonzero(counted & (total % EPOCH == 0))
        closed_ms = t_ms[closing]
        opened_ms = np.where(
            epochs.nth == 0, self._epoch_ms[ids][epochs.of], np.append(0, closed_ms)[:-1]
        )
        self._learn(_INTERVAL, epochs, (closed_ms - opened_ms) / EPOCH, usual)
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
        v2 = before(held2, self._near.imag[ids])
        held3 = np.where(gap, np.nan, v2)
        v3 = before(held3, self._far.real[ids])
        row = epochs.row
        bits = np.where(gap, np.uint32(GAP), np.uint32(0))
        bits[(np.abs(v - _median(v1, v2, v3)) > bounds.spike[row]) & ~gap] |= SPIKE
        least = np.maximum(since_ms, bounds.rate_from_ms[row])
        bits[step > bounds.rate[row] * least] |= RATE
        bits[equal & (run >= bounds.flat_n[row]) & (t_ms - run_ms >= bounds.flat_ms[row])] |= FLAT

        self._near.real[ids], self._near.imag[ids] = v[end], held2[end]
        self._far.real[ids], self._far.imag[ids] = held3[end], t_ms[end]
        self._word[ids] = run[end] * 128 + total[end] % EPOCH
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
        # Per series the kept epochs, then the closed ones: each window of KEPT says what is usual.
        kept = self._kept[which]
        length = KEPT + epochs.closed  # (k,)
        start = np.cumsum(length) - length
        line = np.empty(int(length.sum()), np.float32)
        line[start[:, np.newaxis] + np.arange(KEPT)] = kept[epochs.ids]
        begin = start[epochs.of] + epochs.nth
        line[begin + KEPT] = last
        windows = line[(begin + 1)[:, np.newaxis] + np.arange(KEPT)]
        usual[epochs.done + 1, which] = _usual(windows, which)
        kept[epochs.ids] = line[(start + epochs.closed)[:, np.newaxis] + np.arange(KEPT)]


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


def _usual(windows: NDArray[np.float32], which: int) -> NDArray[np.float64]:
    """Return what is usual after epochs ``windows`` (m, KEPT), NaN while too few are filled; (m,)."""
    filled = np.count_nonzero(windows >= 0, axis=1)
    rank = np.maximum(filled * RANK // KEPT, 1)
    place = KEPT - filled + rank - 1 if which == _INTERVAL else KEPT - rank
    ordered = np.sort(windows, axis=1)
    chosen = ordered[np.arange(len(windows)), np.minimum(place, KEPT - 1)].astype(np.float64)
    return np.where(filled < NEEDED, np.nan, chosen)


def _stated(given: NDArray[np.float64], own: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isnan(given), own, given)


def _or_inf(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isnan(x), np.inf, x)
