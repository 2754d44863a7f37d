"""What the server's operators are told: endpoints that are suspended, targets that cannot be reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from alerts.delivery.suspension import ENDPOINT_EVENT
from alerts.people.escape import words
from alerts.people.notices import PENDING
from alerts.tables import notices, settings, targets
from ingest.tables import events

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ingest.operational import Operational

EVENT = "operator"
_SEVERITY = "major"
_MAX_REASON = 200
_CURSOR = "operators_told"  # the event up to which operators were told, a row of settings
_AHEAD = 10_000  # events that are looked at again and again before the cursor follows them

# Chinese and English, by what happened; ``subject`` and ``reason`` are in the data.
TEXTS = {
    "endpoint.suspended": (
        "推送端点 {subject} 已停用：{reason}。事件保留为未送达；修复后恢复端点并重放。",
        "Endpoint {subject} is suspended: {reason}. Its events wait as undelivered; mend it, resume it, replay them.",
    ),
    "target.failing": (
        "通知目标 {subject} 连续发送失败：{reason}。请检查地址、密钥和 IP 白名单。",
        "Target {subject} keeps failing: {reason}. Check its address, secret and IP list.",
    ),
}


def enqueue_operator(
    connection: sa.Connection,
    to: Sequence[str] | None,
    text_key: str,
    data: Mapping[str, object],
    now_ms: int,
) -> int:
    """Tell operators, in the transaction of what they are told; return how many targets that makes.

    ``to`` names targets, None means every active one that is for operators (``operator = true``) but the one that
    ``data`` is about. ``text_key`` is one of ``TEXTS``; ``data`` holds ``subject`` and ``reason``, no secret.
    """
    if text_key not in TEXTS:
        raise ValueError(f"{text_key!r}: no such text; known: {', '.join(TEXTS)}")
    if to is None:
        query = sa.select(targets.c.id).where(
            targets.c.active, targets.c.operator, targets.c.id != str(data.get("subject", ""))
        )
        to = connection.scalars(query).all()
    rows = [
        {
            "target_id": target_id,
            "alert_id": None,
            "event_type": EVENT,
            "severity": _SEVERITY,
            "group_key": EVENT,
            "snapshot": {**data, "operator": text_key},
            "created_ms": now_ms,
            "due_ms": now_ms,
            "state": PENDING,
        }
        for target_id in to
    ]
    if rows:
        connection.execute(sa.insert(notices), rows)
    return len(rows)


def said_to_operators(data: Mapping[str, object]) -> tuple[str, str]:
    """Return what a notice to operators says, in Chinese and English.

    >>> said_to_operators({"operator": "endpoint.suspended", "subject": "county", "reason": "410"})[
    ...     1
    ... ][:36]
    'Endpoint county is suspended: 410. I'
    """
    zh, en = TEXTS.get(str(data.get("operator")), ("{subject}：{reason}", "{subject}: {reason}"))
    said = {
        "subject": words(data.get("subject", "")),
        "reason": words(data.get("reason", ""), _MAX_REASON),
    }
    return zh.format(**said), en.format(**said)


class SuspensionWatch:
    """Tells the operators, by another way than webhooks, of endpoints that were suspended: a duty of the clockwork."""

    def __init__(self, operational: Operational) -> None:
        self._operational = operational

    def look(self, now_ms: int) -> bool:
        """Tell of what was suspended since the last look; return whether somebody is to be told."""
        with self._operational.read() as connection:
            newest = connection.scalar(sa.select(sa.func.max(events.c.id))) or 0
            cursor = _cursor(connection)
            found = None if cursor is None else _suspended(connection, cursor, newest)
        if cursor is not None and not found and newest - cursor < _AHEAD:
            return False
        told = 0
        with self._operational.write() as connection:
            for reason in found or ():
                told += enqueue_operator(connection, None, "endpoint.suspended", reason, now_ms)
            connection.execute(sa.delete(settings).where(settings.c.name == _CURSOR))
            connection.execute(sa.insert(settings).values(name=_CURSOR, value=str(newest)))
        return told > 0


def _cursor(connection: sa.Connection) -> int | None:
    found = connection.scalar(sa.select(settings.c.value).where(settings.c.name == _CURSOR))
    return None if found is None else int(found)


def _suspended(connection: sa.Connection, after: int, newest: int) -> list[dict[str, object]]:
    e = events.c
    query = (
        sa.select(e.data)
        .where(e.id > after, e.id <= newest, e.type == ENDPOINT_EVENT)
        .order_by(e.id)
    )
    return [
        {"subject": data.get("endpoint_id", ""), "reason": data.get("reason", "")}
        for data in connection.scalars(query)
        if data.get("what") == "suspended"
    ]
