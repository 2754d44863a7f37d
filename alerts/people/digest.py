"""From notices to messages: notices are claimed for a message, read in a page, then settled with its result.

A message is sent between two transactions. The first marks its notices with the message's id; the second says what
became of it. When the process dies in between, the next start lets the marks go and the notices are told again: at
least once. State changes of one alert that meet in one message are told as the newest of them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from alerts.people.notices import FAILED, PENDING, SENT
from alerts.people.pace import MAX_ATTEMPTS, Waiting
from alerts.people.words import Beside, Clock, Told
from alerts.tables import clocks, messages, notices
from ingest.tables import plots

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from alerts.people.document import Document
    from alerts.people.robots import Outcome

PAGE = 60  # notices that a message may name; more are counted
_MAX_ERROR = 500

_RANK = sa.case(
    (notices.c.severity == "critical", 3),
    (notices.c.severity == "major", 2),
    (notices.c.severity == "warning", 1),
    else_=0,
)


@dataclass(frozen=True, slots=True)
class Contents:
    """What a message is to tell: how many alerts of each severity, and the gravest and newest of them.

    ``operator`` counts what is no alert but a fault of the server's.
    """

    severities: Mapping[str, int]
    told: tuple[Told, ...]
    operator: int = 0

    @property
    def total(self) -> int:
        """How many alerts and faults."""
        return sum(self.severities.values()) + self.operator


@dataclass(frozen=True, slots=True)
class Result:
    """A message and how it ended, None when it was put off untried.

    ``retry_ms`` is when its notices may be told if it was not delivered (UTC ms).
    """

    message_id: str
    target_id: str
    at_ms: int
    document: Document
    outcome: Outcome | None
    retry_ms: int


def release(connection: sa.Connection) -> int:
    """Let go of what a process that died had claimed; return how many notices that are."""
    claimed = sa.and_(notices.c.state == PENDING, notices.c.message_id != "")
    return connection.execute(sa.update(notices).where(claimed).values(message_id="")).rowcount


def waiting(connection: sa.Connection, now_ms: int) -> dict[str, tuple[Waiting, int | None]]:
    """Return what is due by target, with when the next that is not yet due will be (UTC ms)."""
    n = notices.c
    due = n.due_ms <= now_ms
    critical = sa.and_(due, n.severity == "critical")
    rows = connection.execute(
        sa.select(
            n.target_id,
            sa.func.sum(sa.case((due, 1), else_=0)),
            sa.func.sum(sa.case((critical, 1), else_=0)),
            sa.func.min(sa.case((due, sa.null()), else_=n.due_ms)),
        )
        .where(n.state == PENDING, n.message_id == "")
        .group_by(n.target_id)
    )
    return {
        target: (Waiting(int(count), int(grave)), later) for target, count, grave, later in rows
    }


def groups(
    connection: sa.Connection, target_id: str, now_ms: int, *, most: int, critical_only: bool
) -> list[str | None]:
    """Return the groups that make one message each, gravest first; the last is None for all that is left."""
    query = (
        sa.select(notices.c.group_key)
        .where(*_due(target_id, now_ms, critical_only=critical_only))
        .group_by(notices.c.group_key)
        .order_by(sa.func.max(_RANK).desc(), sa.func.min(notices.c.id))
        .limit(most + 1)
    )
    found: list[str | None] = list(connection.scalars(query))
    return found if len(found) <= most else [*found[: most - 1], None]


def claim(
    connection: sa.Connection,
    target_id: str,
    group_key: str | None,
    message_id: str,
    now_ms: int,
    *,
    critical_only: bool,
) -> None:
    """Mark what is due of one group, or all that is due (None), as told by this message."""
    which = list(_due(target_id, now_ms, critical_only=critical_only))
    if group_key is not None:
        which.append(notices.c.group_key == group_key)
    connection.execute(sa.update(notices).where(*which).values(message_id=message_id))


def contents(connection: sa.Connection, target_id: str, message_id: str) -> Contents:
    """Return what the claimed notices say: the newest of each alert."""
    n = notices.c
    mine = sa.and_(n.target_id == target_id, n.state == PENDING, n.message_id == message_id)
    newest = (
        sa.select(sa.func.max(n.id).label("id"))
        .where(mine)
        .group_by(sa.func.coalesce(n.alert_id, sa.cast(n.id, sa.String)))
        .subquery()
    )
    of_newest = notices.join(newest, newest.c.id == n.id)
    of_alert = n.alert_id.is_not(None)
    counted = connection.execute(
        sa.select(n.severity, of_alert, sa.func.count())
        .select_from(of_newest)
        .group_by(n.severity, of_alert)
    ).all()
    severities = {str(severity): int(count) for severity, alert, count in counted if alert}
    operator = sum(int(count) for _, alert, count in counted if not alert)
    rows = connection.execute(
        sa.select(n.alert_id, n.event_type, n.severity, n.created_ms, n.snapshot)
        .select_from(of_newest)
        .order_by(_RANK.desc(), n.id.desc())
        .limit(PAGE)
    ).all()
    beside = _beside(connection, [(row.alert_id, row.snapshot) for row in rows])
    told = tuple(
        Told(row.event_type, row.severity, row.created_ms, row.snapshot, beside[number])
        for number, row in enumerate(rows)
    )
    return Contents(severities, told, operator)


def settle(connection: sa.Connection, results: Iterable[Result]) -> list[str]:
    """Write what became of messages; return the targets of which notices were given up."""
    given_up: list[str] = []
    for result in results:
        outcome = result.outcome
        mine = sa.and_(
            notices.c.target_id == result.target_id,
            notices.c.state == PENDING,
            notices.c.message_id == result.message_id,
        )
        if outcome is None:
            later = {"message_id": "", "due_ms": result.retry_ms}
            connection.execute(sa.update(notices).where(mine).values(**later))
            continue
        if connection.scalar(sa.select(messages.c.id).where(messages.c.id == result.message_id)):
            continue  # a commit whose answer was lost
        row = _message_row(
            result, outcome, connection.scalar(sa.select(sa.func.count()).where(mine))
        )
        connection.execute(sa.insert(messages).values(**row))
        if outcome.delivered:
            done = {"state": SENT, "attempts": notices.c.attempts + 1, "error": ""}
            connection.execute(sa.update(notices).where(mine).values(**done))
            continue
        tried = {"attempts": notices.c.attempts + 1, "error": outcome.error[:_MAX_ERROR]}
        last = sa.and_(mine, notices.c.attempts + 1 >= MAX_ATTEMPTS)
        if connection.execute(
            sa.update(notices).where(last).values(state=FAILED, **tried)
        ).rowcount:
            given_up.append(result.target_id)
        connection.execute(
            sa.update(notices).where(mine).values(message_id="", due_ms=result.retry_ms, **tried)
        )
    return given_up


def history(connection: sa.Connection, target_id: str, count: int) -> list[tuple[int, bool]]:
    """Return when the newest messages to a target were sent and whether they arrived, oldest first."""
    query = (
        sa.select(messages.c.at_ms, messages.c.delivered)
        .where(messages.c.target_id == target_id)
        .order_by(messages.c.at_ms.desc(), messages.c.id.desc())
        .limit(count)
    )
    return [(row.at_ms, row.delivered) for row in reversed(connection.execute(query).all())]


def _due(target_id: str, now_ms: int, *, critical_only: bool) -> tuple[sa.ColumnElement[bool], ...]:
    n = notices.c
    due = (n.target_id == target_id, n.state == PENDING, n.message_id == "", n.due_ms <= now_ms)
    return (*due, n.severity == "critical") if critical_only else due


def _message_row(result: Result, outcome: Outcome, count: int | None) -> dict[str, object]:
    return {
        "id": result.message_id,
        "target_id": result.target_id,
        "at_ms": result.at_ms,
        "notices": count or 0,
        "text": result.document.plain(),
        "delivered": outcome.delivered,
        "status_code": outcome.status_code,
        "error": outcome.error[:_MAX_ERROR],
    }


def _beside(
    connection: sa.Connection, rows: Sequence[tuple[str | None, Mapping[str, object]]]
) -> list[Beside]:
    """Return the name of the plot and the clock that ends first, for each row."""
    running = _running(connection, {alert_id for alert_id, _ in rows if alert_id})
    plot_ids = [_plot_of(snapshot) for _, snapshot in rows]
    query = sa.select(plots.c.id, plots.c.name).where(
        plots.c.id.in_({one for one in plot_ids if one})
    )
    names = {row.id: row.name for row in connection.execute(query)}
    return [
        Beside(names.get(plot, ""), running.get(alert_id or ""))
        for (alert_id, _), plot in zip(rows, plot_ids, strict=True)
    ]


def _running(connection: sa.Connection, alert_ids: set[str]) -> dict[str, Clock]:
    c = clocks.c
    query = (
        sa.select(c.alert_id, c.name, c.due_ms, c.overdue_ms)
        .where(c.alert_id.in_(alert_ids), c.ended_ms.is_(None))
        .order_by(c.due_ms.is_(None), c.due_ms, c.id)
    )
    found: dict[str, list[Clock]] = defaultdict(list)
    for row in connection.execute(query):
        found[row.alert_id].append(Clock(row.name, row.due_ms, row.overdue_ms is not None))
    return {alert_id: some[0] for alert_id, some in found.items()}


def _plot_of(snapshot: Mapping[str, object]) -> str:
    site = snapshot.get("site")
    return str(site.get("plot_id") or "") if isinstance(site, dict) else ""
