"""What people are to be told, one row per alert's event and target, written in the transaction of the event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from alerts.tables import notices

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from alerts.alert import Alert

PENDING, SENT, FAILED, DROPPED = "pending", "sent", "failed", "dropped"

_MAX_GROUP = 120  # characters of the column
# What a message says; the rest of an event stays with the alert. 10,000 events a minute go through here.
_KEPT = (
    *("alert_id", "seq", "state", "previous_state", "reason", "kind", "certainty", "flags"),
    "finding",
)
_BLANK = (None, "")
_KEPT_OF = {
    "citation": ("standard_no", "clause", "clause_en", "verified"),
    "site": ("site_id", "site_name", "plot_id", "device", "sample_no", "product_name"),
    "workflow": ("handover", "retest", "outcome"),
}


@dataclass(frozen=True, slots=True)
class RoutedTarget:
    """Somebody to be told: notices of one ``group_key`` may share a message; ``repeat`` says it was told before."""

    target_id: str
    group_key: str = ""
    repeat: bool = False


@dataclass(frozen=True, slots=True)
class News:
    """One event of one alert and who is to be told of it; ``snapshot`` is the ``data`` of the webhook's body."""

    routed: Sequence[RoutedTarget]
    alert: Alert
    event_type: str
    snapshot: Mapping[str, object]


def enqueue(
    connection: sa.Connection,
    routed: Sequence[RoutedTarget],
    alert: Alert,
    event_type: str,
    snapshot: Mapping[str, object],
    now_ms: int,
) -> None:
    """Keep one event to be told to every target of ``routed``; see ``enqueue_many``."""
    enqueue_many(connection, [News(routed, alert, event_type, snapshot)], now_ms)


def enqueue_many(connection: sa.Connection, news: Iterable[News], now_ms: int) -> int:
    """Keep what is to be told, in one ``executemany``; return how many notices that makes.

    When each is told is the target's affair (rate, digest, quiet hours): the sender decides it, so that a target
    that is changed meanwhile is told by its new hours.
    """
    rows = [row for one in news if one.routed for row in _rows(one, now_ms)]
    if rows:
        connection.execute(sa.insert(notices), rows)
    return len(rows)


def _rows(news: News, now_ms: int) -> list[dict[str, object]]:
    alert = news.alert
    kept = _kept(news.snapshot)
    kept |= {"purpose": alert.purpose, "sampling_stage": alert.sampling_stage}
    reminder = {**kept, "reminder": True}
    return [
        {
            "target_id": routed.target_id,
            "alert_id": alert.alert_id,
            "event_type": news.event_type,
            "severity": alert.severity,
            "group_key": routed.group_key[:_MAX_GROUP],
            "snapshot": reminder if routed.repeat else kept,
            "created_ms": now_ms,
            "due_ms": now_ms,
            "state": PENDING,
        }
        for routed in news.routed
    ]


def _kept(snapshot: Mapping[str, object]) -> dict[str, object]:
    kept: dict[str, object] = {key: snapshot[key] for key in _KEPT if key in snapshot}
    for part, names in _KEPT_OF.items():
        found = snapshot.get(part)
        if isinstance(found, dict):
            kept[part] = {key: found[key] for key in names if found.get(key) not in _BLANK}
    workflow = snapshot.get("workflow")
    said = workflow.get("said") if isinstance(workflow, dict) else None
    if isinstance(said, dict) and "step" in said:
        kept["step"] = said["step"]
    return kept
