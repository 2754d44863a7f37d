"""Targets: robots and mailboxes of people; tried out, changed, taken away; what they were told."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Response
from sqlalchemy import Connection, func, insert, select
from ulid import ULID

from alerts.administration import note
from alerts.people import targets as people
from alerts.people.channels import Channels
from alerts.people.document import Document
from alerts.people.errors import TargetError
from alerts.people.kinds import settings_of
from alerts.people.notices import FAILED, PENDING
from alerts.people.robots import Outcome
from alerts.people.words import trial
from alerts.tables import messages, notices
from alerts.vault import Vault, VaultError
from dashboards.access import SourcesOf, Writer
from dashboards.api.errors import READING, WRITING, documented
from dashboards.api.problems import Problem
from dashboards.api.strict import StrictRoute
from dashboards.api.target_shapes import (
    TARGET_ID,
    ChangedTarget,
    Hours,
    MessageList,
    MessageRow,
    NewTarget,
    TargetList,
    TargetRow,
    TestReply,
    TriedTarget,
)
from dashboards.keys import ApiKey
from dashboards.rate import Rate
from dashboards.sources import Sources

MAX_LIMIT = 200
_ULID = r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$"
TargetId = Annotated[str, Path(pattern=TARGET_ID, description="Target id")]
IfMatch = Annotated[str | None, Header(description="The version that was read", max_length=20)]

router = APIRouter(tags=["people"])
writing = APIRouter(tags=["people"], route_class=StrictRoute)
_trials = Rate(per_s=0.2, burst=10, now_s=time.monotonic)  # a robot takes 20 messages a minute


@router.get("/targets", summary="Which people are told", responses=READING)
def target_list(sources: SourcesOf) -> TargetList:
    """Return every target with its state, never a secret."""
    with _opened(sources) as vault, sources.operational.read() as connection:
        return TargetList(targets=_rows(connection, people.load(connection, vault)))


@router.get("/targets/{target_id}", summary="One target", responses=READING | documented(404))
def target(target_id: TargetId, sources: SourcesOf, response: Response) -> TargetRow:
    """Return a target; its ETag is what If-Match takes."""
    row = _row(sources, target_id)
    response.headers["ETag"] = f'"{row.version}"'
    return row


@router.get("/messages", summary="What people were told", responses=READING)
def message_list(
    sources: SourcesOf,
    target: Annotated[str | None, Query(pattern=TARGET_ID, description="Of one target")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Rows of a page")] = 50,
    cursor: Annotated[
        str | None, Query(pattern=_ULID, description="`next` of the page before")
    ] = None,
) -> MessageList:
    """Return messages with their results, newest first."""
    query = select(messages).order_by(messages.c.id.desc()).limit(limit + 1)
    if target is not None:
        query = query.where(messages.c.target_id == target)
    if cursor is not None:
        query = query.where(messages.c.id < cursor)
    with sources.operational.read() as connection:
        rows = connection.execute(query).mappings().all()
    page = [MessageRow(**row) for row in rows[:limit]]
    return MessageList(messages=page, next=page[-1].id if len(rows) > limit else None)


@writing.post("/targets", summary="Make a target", responses=WRITING, status_code=201)
def create_target(body: NewTarget, sources: SourcesOf, key: Writer) -> TargetRow:
    """Make a target; it is told from now on by the policies that name it."""
    with _opened(sources) as vault:
        made = people.Target(
            id=body.id,
            kind=body.kind,
            name=body.name or body.id,
            settings=settings_of(body.kind, body.settings),
            language=body.language,
            rate_per_min=body.rate_per_min,
            digest_s=body.digest_s,
            quiet=_hours(body.quiet),
            operator=body.operator,
        )
        with sources.operational.write() as connection:
            people.create(
                connection,
                vault,
                made,
                sources.guard.allowances,
                actor=_actor(body.actor, key),
                at_ms=sources.now_ms(),
            )
    sources.wake_sender()
    return _row(sources, body.id)


@writing.patch("/targets/{target_id}", summary="Change a target", responses=WRITING)
def change_target(
    target_id: TargetId,
    body: ChangedTarget,
    sources: SourcesOf,
    key: Writer,
    if_match: IfMatch = None,
) -> TargetRow:
    """Change what is named; 409 when another version is there, or the target stands in the server's file."""
    given = body.model_dump(exclude={"version", "actor", "quiet"}, exclude_none=True)
    if body.quiet is not None:
        given["quiet"] = _hours(body.quiet)
    with _opened(sources) as vault, sources.operational.write() as connection:
        people.change(
            connection,
            vault,
            target_id,
            _version(body.version, if_match),
            given,
            sources.guard.allowances,
            actor=_actor(body.actor, key),
            at_ms=sources.now_ms(),
        )
    sources.wake_sender()
    return _row(sources, target_id)


@writing.delete(
    "/targets/{target_id}",
    summary="Take a target away",
    responses=WRITING,
    status_code=204,
)
def remove_target(
    target_id: TargetId,
    sources: SourcesOf,
    key: Writer,
    version: Annotated[int | None, Query(ge=1, description="That was read")] = None,
    if_match: IfMatch = None,
) -> None:
    """Tell it nothing more; one that was told something stays in the list, inactive."""
    with _opened(sources) as vault, sources.operational.write() as connection:
        people.remove(
            connection,
            vault,
            target_id,
            _version(version, if_match),
            actor=_actor("", key),
            at_ms=sources.now_ms(),
        )
    sources.wake_sender()


@writing.post("/targets/{target_id}/test", summary="Try a target out", responses=WRITING)
def try_target(
    target_id: TargetId, body: TriedTarget, sources: SourcesOf, key: Writer
) -> TestReply:
    """Send a test message at once and return what was answered."""
    if wait_s := _trials.wait_s(f"{sources.operational.url} {target_id}"):
        raise Problem(429, f"too many test messages; try again in {wait_s:.0f} s")
    with _opened(sources) as vault, sources.operational.read() as connection:
        found = people.one(connection, vault, target_id)
    title, block = trial(found.name, found.language)
    document, message_id, at_ms = Document(title, (block,)), str(ULID()), sources.now_ms()
    outcome = _sent(sources, found, document, message_id)
    with sources.operational.write() as connection:
        connection.execute(
            insert(messages).values(
                id=message_id,
                target_id=target_id,
                at_ms=at_ms,
                notices=0,
                text=document.plain(),
                delivered=outcome.delivered,
                status_code=outcome.status_code,
                error=outcome.error,
            )
        )
        note(
            connection,
            actor=_actor(body.actor, key),
            action="target.tested",
            subject=target_id,
            data={"delivered": outcome.delivered, "message_id": message_id},
            at_ms=at_ms,
        )
    return TestReply(
        ok=outcome.delivered,
        status_code=outcome.status_code,
        error=outcome.error,
        message_id=message_id,
    )


def _sent(sources: Sources, found: people.Target, document: Document, message_id: str) -> Outcome:
    with ThreadPoolExecutor(1, "people-test") as executor:
        channels = Channels(sources.guard, sources.now_ms, executor)
        return asyncio.run(channels.send(found, document, message_id))


@contextmanager
def _opened(sources: Sources) -> Iterator[Vault]:
    if sources.vault is None:
        raise Problem(503, "this process has no master key: targets cannot be opened here")
    try:
        yield sources.vault
    except TargetError as exc:
        more = {"field": exc.field} if exc.field else {}
        raise Problem(exc.status, str(exc), **more, **exc.more) from exc
    except VaultError as exc:
        raise Problem(503, str(exc)) from exc


def _version(given: int | None, if_match: str | None) -> int:
    text = (if_match or "").strip().removeprefix("W/").strip('"')
    if given is None and text.isascii() and text.isdigit():
        given = int(text)
    if given is None:
        raise Problem(428, "say which version was read: version, or If-Match", field="version")
    return given


def _hours(quiet: Hours) -> dict[str, str]:
    if not quiet.from_ and not quiet.to:
        return {}
    return {"from": quiet.from_, "to": quiet.to}


def _actor(name: str, key: ApiKey) -> str:
    return f"{name or key.name} ({key.id})"


def _row(sources: Sources, target_id: str) -> TargetRow:
    with _opened(sources) as vault, sources.operational.read() as connection:
        return _rows(connection, [people.one(connection, vault, target_id)])[0]


def _rows(connection: Connection, found: list[people.Target]) -> list[TargetRow]:
    counts = _counts(connection)
    rows = []
    for one in found:
        last = connection.execute(
            select(messages.c.at_ms, messages.c.delivered, messages.c.error)
            .where(messages.c.target_id == one.id)
            .order_by(messages.c.at_ms.desc())
            .limit(1)
        ).one_or_none()
        rows.append(
            TargetRow.model_validate(
                {
                    **one.shown(),
                    "best_effort": one.kind == "apprise",
                    "waiting": counts.get((one.id, PENDING), 0),
                    "failed": counts.get((one.id, FAILED), 0),
                    "last_ms": last.at_ms if last else None,
                    "last_delivered": last.delivered if last else None,
                    "last_error": last.error if last else "",
                }
            )
        )
    return rows


def _counts(connection: Connection) -> Mapping[tuple[str, str], int]:
    n = notices.c
    query = (
        select(n.target_id, n.state, func.count())
        .where(n.state.in_((PENDING, FAILED)))
        .group_by(n.target_id, n.state)
    )
    return {(target_id, state): count for target_id, state, count in connection.execute(query)}
