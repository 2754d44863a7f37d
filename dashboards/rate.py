"""How often a caller may come: a bucket of tokens for each, in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

KEPT = 10_000  # callers; who is forgotten begins with a full bucket


class Rate:
    """``burst`` calls at once, ``per_s`` in the long run, for each caller; safe to share between threads."""

    def __init__(self, *, per_s: float, burst: int, now_s: Callable[[], float]) -> None:
        self._per_s = per_s
        self._burst = float(burst)
        self._now_s = now_s
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, at

    def wait_s(self, caller: str) -> float:
        """Count a call; return 0, or for how long the caller must wait (nothing is counted then).

        >>> rate = Rate(per_s=2, burst=1, now_s=lambda: 0.0)
        >>> rate.wait_s("a"), rate.wait_s("a"), rate.wait_s("b")
        (0.0, 0.5, 0.0)
        """
        with self._lock:
            now = self._now_s()
            tokens, at = self._buckets.pop(caller, (self._burst, now))
            tokens = min(self._burst, tokens + (now - at) * self._per_s)
            wait = 0.0 if tokens >= 1 else (1 - tokens) / self._per_s
            self._buckets[caller] = (tokens - 1 if not wait else tokens, now)
            if len(self._buckets) > KEPT:
                self._buckets.popitem(last=False)
            return wait
