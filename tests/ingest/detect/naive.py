"""The rules of behaviour (docs/quality_flags.md) as a loop over readings: what the arrays are compared with."""

from __future__ import annotations

import math

import numpy as np

from ingest.batch import FLAT, GAP, RATE, SPIKE

EPOCH, KEPT = 64, 7


def third(kept, *, reverse):
    if len(kept) < 3:
        return None
    return sorted(kept, reverse=reverse)[max(len(kept) * 3 // 7, 1) - 1]


class NaiveSeries:
    def __init__(self, resolution=0.01, spike=None, rate=None, gap_s=None, flat_s=None):
        self.floor = resolution * 4
        self.site = (spike, rate, gap_s, flat_s)
        self.good = []  # (v) of this stretch, newest last
        self.t = None
        self.v = None
        self.run = 0
        self.run_t = 0
        self.open = []  # (step, run that ended)
        self.epoch_t = 0
        self.epochs = []  # (largest step, mean interval, longest run)

    def usual(self, which):
        return third([e[which] for e in self.epochs[-KEPT:]], reverse=which != 1)

    def reading(self, t, v):
        bits = 0
        spike, rate, gap_s, flat_s = self.site
        us, ui, un = (self.usual(k) for k in range(3))
        if self.v is None:
            self.good, self.run, self.run_t = [v], 1, t
            self.t, self.v = t, v
            self.epoch_t = t
            return 0
        dt = t - self.t
        step = abs(v - self.v)
        gap_ms = gap_s * 1000 if gap_s is not None else (None if ui is None else 5 * ui)
        gap = gap_ms is not None and dt > gap_ms
        if gap:
            bits |= GAP
        else:
            own = None if us is None else max(3 * us, self.floor)
            bound = own if spike is None else spike
            company = bound is not None and len(self.good) >= 3
            if company and abs(v - sorted(self.good[-3:])[1]) > bound:
                bits |= SPIKE
            if rate is not None:
                if step > rate / 1000 * dt:
                    bits |= RATE
            elif own is not None and step > own / ui * max(dt, ui):
                bits |= RATE
        before = self.run
        equal = v == self.v
        if not equal:
            self.run, self.run_t = 0, t
        self.run += 1
        if flat_s is not None:
            flat = self.run >= 2 and t - self.run_t >= flat_s * 1000
        else:
            flat = (
                un is not None
                and un < EPOCH / 2
                and self.run >= max(6 * un, 20)
                and t - self.run_t >= 600_000
            )
        if flat:
            bits |= FLAT
        if not equal or before < EPOCH:
            self.open.append((0.0 if gap else step, 0 if equal else before))
            if len(self.open) == EPOCH:
                steps, runs = zip(*self.open, strict=True)
                longest = max(runs) if max(runs) > 1 else 0
                last = (max(steps), (t - self.epoch_t) / EPOCH, longest)
                self.epochs.append(tuple(float(np.float32(x)) for x in last))
                self.open, self.epoch_t = [], t
        self.good = [v] if gap else [*self.good[-2:], v]
        self.t, self.v = t, v
        return bits


def naive(series, t_ms, v, options=None):
    states = {}
    out = []
    for s, t, x in zip(series, t_ms, v, strict=True):
        if s not in states:
            states[s] = NaiveSeries(**(options or {}).get(s, {}))
        out.append(states[s].reading(int(t), float(x)))
        assert not math.isnan(x)
    return out
