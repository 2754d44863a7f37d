"""Silences: nobody is told for a while; what happened meanwhile is recorded, and told once at the end."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Path, Query
from pydantic import Field, StringConstraints
from sqlalchemy import Connection, insert, select
from ulid import ULID

from alerts.administration import note
from alerts.policies.policy import Match
from alerts.policies.store import Scope
from alerts.policy_watch import cancel
from alerts.tables import silences
from dashboards.access import SourcesOf, Writer
from dashboards.api.errors import READING, WRITING
from dashboards.api.models import Json, Ms, Name, Shape
from dashboards.api.problems import Problem
from dashboards.api.strict import StrictRoute
from dashboards.api.times import parse_time

LONGEST_MS = 30 * 24 * 3_600_000
MAX_SHOWN = 200

router = APIRouter(tags=["silences"])
writing = APIRouter(tags=["silences"], route_class=StrictRoute)


class NewSilence(Shape):
    """What is not to be told, until when, and why."""

    match: Json = Field(description="As in a policy: region, kind, severity, station, …")
    scope: Scope = Field("people", description="all: endpoints neither, but for critical alerts")
    starts: str | None = Field(None, description="RFC 3339 or UTC ms; now without it")
    ends: str = Field(description="RFC 3339 or UTC ms; at most 30 days on")
    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
    actor: Name = ""


class SilenceRow(Shape):
    """A silence."""

    id: str
    match: Json
    scope: Scope
    starts_ms: Ms
    ends_ms: Ms
    ended_ms: Ms | None = Field(description="By a person, before its time")
    holds: bool
    reason: str
    actor: str
    created_ms: Ms


class SilenceList(Shape):
    """The newest silences first."""

    silences: list[SilenceRow]


@router.get("/silences", summary="What is not told now", responses=READING)
def silence_list(
    sources: SourcesOf,
    *,
    past: Annotated[bool, Query(description="Those that are over, too")] = False,
) -> SilenceList:
    """Return the silences that hold or will, and with ``past`` those that did."""
    with sources.operational.read() as connection:
        return _list(connection, sources.now_ms(), past=past)


@writing.post("/silences", summary="Tell nobody for a while", responses=WRITING)
def make_silence(body: NewSilence, sources: SourcesOf, key: Writer) -> SilenceList:
    """Make a silence. Alerts go on being raised and logged; what they are at its end is told then."""
    now_ms = sources.now_ms()
    match = _match(body.match)
    try:
        starts = now_ms if body.starts is None else parse_time("starts", body.starts)
        ends = parse_time("ends", body.ends)
    except ValueError as exc:
        raise Problem(422, str(exc)) from exc
    if ends <= max(starts, now_ms) or ends - now_ms > LONGEST_MS:
        raise Problem(422, "ends: after its start, at most 30 days from now", field="ends")
    actor = f"{body.actor or key.name} ({key.id})"
    silence_id = str(ULID())
    matchers = {"match": msgspec.to_builtins(match), "scope": body.scope}
    with sources.operational.write() as connection:
        connection.execute(
            insert(silences).values(
                id=silence_id,
                matchers=matchers,
                starts_ms=starts,
                ends_ms=ends,
                reason=body.reason,
                actor=actor,
                created_ms=now_ms,
            )
        )
        data = {**matchers, "starts_ms": starts, "ends_ms": ends, "reason": body.reason}
        note(
            connection,
            actor=actor,
            action="silence.made",
            subject=silence_id,
            data=data,
            at_ms=now_ms,
        )
        return _list(connection, now_ms, past=False)


@writing.delete("/silences/{silence_id}", summary="End a silence now", responses=WRITING)
def end_silence(
    silence_id: Annotated[str, Path(max_length=26, description="Silence id")],
    sources: SourcesOf,
    key: Writer,
) -> SilenceList:
    """End it; what it held back is told within seconds."""
    now_ms = sources.now_ms()
    with sources.operational.write() as connection:
        if not cancel(connection, silence_id, now_ms):
            raise Problem(404, f"no silence {silence_id!r} that is not over")
        note(
            connection,
            actor=f"{key.name} ({key.id})",
            action="silence.ended",
            subject=silence_id,
            data={},
            at_ms=now_ms,
        )
        return _list(connection, now_ms, past=False)


def _match(document: Json) -> Match:
    try:
        match = msgspec.convert(document, Match)
    except msgspec.ValidationError as exc:
        raise Problem(422, f"match: {exc}", field="match") from exc
    if faults := match.faults():
        raise Problem(422, "; ".join(faults), field="match")
    if match == Match():
        raise Problem(422, "match: name at least one thing; silence is not for everything")
    return match


def _list(connection: Connection, now_ms: int, *, past: bool) -> SilenceList:
    c = silences.c
    query = select(silences).order_by(c.id.desc()).limit(MAX_SHOWN)
    if not past:
        query = query.where(c.ends_ms > now_ms, c.ended_ms.is_(None))
    return SilenceList(
        silences=[
            SilenceRow(
                id=row["id"],
                match=row["matchers"]["match"],
                scope=row["matchers"]["scope"],
                starts_ms=row["starts_ms"],
                ends_ms=row["ends_ms"],
                ended_ms=row["ended_ms"],
                holds=row["starts_ms"] <= now_ms < row["ends_ms"] and row["ended_ms"] is None,
                reason=row["reason"],
                actor=row["actor"],
                created_ms=row["created_ms"],
            )
            for row in connection.execute(query).mappings()
        ]
    )
