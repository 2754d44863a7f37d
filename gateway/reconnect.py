"""When to connect again after a failure, and when to connect anew although all is well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.broker import not_after_ms

if TYPE_CHECKING:
    import random

    from gateway.broker import Tls

# TLS judges certificates at the handshake only: no session outlives a day, nor a certificate.
RENEW_AFTER_S = 86_400.0
RENEW_BEFORE_END_S = 3_600.0
RENEW_SPREAD = 0.1
ENDED_JUST_NOW_MS = 60_000
AT_LEAST_S = 1.0


def reconnect_delay_s(failures: int, rng: random.Random, *, first_s: float, max_s: float) -> float:
    """Return how long to wait after ``failures`` in a row: anything up to a bound that doubles (full jitter).

    >>> import random
    >>> all(
    ...     0 <= reconnect_delay_s(20, random.Random(n), first_s=5, max_s=60) <= 60
    ...     for n in range(9)
    ... )
    True
    """
    bound: float = min(max_s, first_s * 2.0 ** min(max(failures - 1, 0), 32))
    return rng.uniform(0, bound)


def renew_after_s(
    now_ms: int, tls: Tls | None, peer_not_after_ms: int | None, rng: random.Random
) -> float:
    """Return the seconds for which a session may live: a day at most, and no longer than a certificate in it."""
    # Spread, so that not all stations come in the same minute.
    day = RENEW_AFTER_S * rng.uniform(1 - RENEW_SPREAD, 1)
    known = (peer_not_after_ms, not_after_ms(tls))
    # The handshake was good: what seems to have ended long ago says that this machine's clock is wrong.
    ends = [end for end in known if end is not None and end > now_ms - ENDED_JUST_NOW_MS]
    if not ends:
        return day
    left = max((min(ends) - now_ms) / 1000, AT_LEAST_S)
    early = left - RENEW_BEFORE_END_S * rng.uniform(1 - RENEW_SPREAD, 1)
    # With less than the hour left a new session has this certificate again, so it lasts until the end.
    return min(day, early if early > 0 else left)
