"""What an InfluxDB answers instead of doing its work.

InfluxError
├ UnavailableError  it does not answer, or says that it cannot now: the same again later
├ RefusedError      a person has to change something there; the same again, slowly
│ └ ReplacedError   the server is another, or was emptied or restored: go on at its own cursor
├ RejectedError     these bytes it will never take
└ TooLargeError     too many bytes at once
"""

from __future__ import annotations

SLOWLY_S = 15.0  # between tries while a person is needed


class InfluxError(Exception):
    """The server did not do it; nothing is lost, what was to be written waits in the inbox."""

    retry_after_s = 0.0


class UnavailableError(InfluxError):
    """Refused connection, timeout, 429, 5xx; ``retry_after_s`` is the server's own wish, 0 when it said nothing."""

    def __init__(self, message: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RefusedError(InfluxError):
    """Wrong token, missing bucket, no trust, a field of another type; the message says what to do."""

    retry_after_s = SLOWLY_S


class ReplacedError(RefusedError):
    """The server does not hold what was written to it."""

    retry_after_s = 0.0


class RejectedError(InfluxError):
    """At least one line cannot be stored; the others may have been."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    @property
    def is_type_conflict(self) -> bool:
        """Whether a field is of another type there."""
        return "type conflict" in self.reason or "invalid column type" in self.reason


class TooLargeError(InfluxError):
    """413: send less at once."""


def pause_s(exc: Exception) -> float:
    """Seconds to wait at least before trying again after ``exc``."""
    return exc.retry_after_s if isinstance(exc, InfluxError) else 0.0
