"""Identities of alerts and events that follow from what happened.

A server restored from a backup judges again what the edges send again. What it finds then is what the regulator was
told before, so it bears the same name: the receiver's rule "the same webhook-id is the same event" covers it too.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from ulid import ULID

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest.judge.findings import Finding

_LAST_MS = 2**48 - 1  # a ULID's time has 48 bits


def alert_id_of(finding: Finding) -> str:
    """Return the id of the alert that ``finding`` raises: a ULID of its time and of the digest of its id."""
    return _ulid(finding.t_ms, "alert", finding.finding_id)


def cluster_id_of(t_ms: int, key: str, members: Sequence[str]) -> str:
    """Return the id of the cluster that alerts ``members`` make: a ULID of their last time and of what they are."""
    return _ulid(t_ms, "cluster", key, *sorted(members))


def event_id_of(alert_id: str, event_type: str, cause: str) -> str:
    """Return the id of what happened to an alert because of ``cause``, a finding or a value.

    >>> alert = "01KAHCB9ZNM3E2S0V2H8Q6T5RD"
    >>> event_id_of(alert, "alert.suspected", "f1") == event_id_of(alert, "alert.suspected", "f1")
    True
    """
    return _ulid(ULID.from_str(alert_id).milliseconds, alert_id, event_type, cause)


def person_event_id() -> str:
    """Return the id of what a person did: nobody does it again."""
    return str(ULID())


def _ulid(t_ms: int, *parts: str) -> str:
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return str(ULID(min(max(t_ms, 0), _LAST_MS).to_bytes(6, "big") + digest[:10]))
