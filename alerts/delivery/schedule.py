"""When to try a webhook again and when to stop: delays, and a rule for each answer (specs/alerting.md §2, §3). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

# Seconds before each attempt; the first is at once (Standard Webhooks 1.0.0).
DELAYS_S = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
CRITICAL_DELAYS_S = (0, 5, 30, 120, *DELAYS_S[2:])
JITTER = 0.2
MAX_RETRY_AFTER_S = 86_400
MAX_REFUSALS = 3  # attempts at a body that the receiver says it cannot take

PENDING, DELIVERED, UNDELIVERED = "pending", "delivered", "undelivered"
_REFUSED = (413, 415, 422)
_THROTTLED = (429, 503)
_GONE = 410


@dataclass(frozen=True, slots=True)
class Answer:
    """How one attempt ended; ``status_code`` is None when no answer came, then ``error`` says why. Times: UTC ms."""

    started_ms: int
    ended_ms: int
    status_code: int | None
    error: str = ""
    response: str = ""
    retry_after: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of the event, and of its endpoint."""

    state: str
    next_ms: int
    suspend: bool = False
    quiet_until_ms: int = 0  # nothing more to this endpoint before


def decide(answer: Answer, attempt: int, *, critical: bool, jitter: float) -> Decision:
    """Return what to do after attempt number ``attempt`` (from 1); ``jitter`` is in −1…1.

    >>> decide(Answer(0, 0, 500), 1, critical=False, jitter=0.0)
    Decision(state='pending', next_ms=5000, suspend=False, quiet_until_ms=0)
    """
    status, now = answer.status_code, answer.ended_ms
    if status is not None and 200 <= status < 300:
        return Decision(DELIVERED, now)
    if status == _GONE:
        return Decision(UNDELIVERED, now, suspend=True)
    delays = CRITICAL_DELAYS_S if critical else DELAYS_S
    quiet_ms = retry_after_ms(answer.retry_after, now) if status in _THROTTLED else 0
    quiet_until = now + quiet_ms if quiet_ms else 0
    if attempt >= len(delays) or (status in _REFUSED and attempt >= MAX_REFUSALS):
        return Decision(UNDELIVERED, now, quiet_until_ms=quiet_until)
    delay_ms = round(delays[attempt] * 1000 * (1 + JITTER * jitter))
    return Decision(PENDING, now + max(delay_ms, quiet_ms), quiet_until_ms=quiet_until)


def retry_after_ms(value: str, now_ms: int) -> int:
    """Return how long a ``Retry-After`` header asks to wait, at most 24 h; 0 when it is absent, past or senseless.

    >>> retry_after_ms("120", 0), retry_after_ms("-5", 0), retry_after_ms("9" * 40, 0)
    (120000, 0, 86400000)
    """
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(int(text[:9]) if len(text) < 10 else MAX_RETRY_AFTER_S, MAX_RETRY_AFTER_S) * 1000
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    wait = (moment - datetime.fromtimestamp(now_ms / 1000, UTC)).total_seconds()
    return round(min(max(wait, 0), MAX_RETRY_AFTER_S) * 1000)
