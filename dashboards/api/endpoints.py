"""Endpoints of webhooks: made, verified, tried out, changed, suspended; keys rotated, events replayed."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Path, Query, Response
from sqlalchemy import Connection, RowMapping, func, select

from alerts.delivery import challenge
from alerts.delivery.administering import Administration, Wanted
from alerts.delivery.errors import EndpointError
from alerts.delivery.keys import HOUR_MS, SIGNING, NewKey
from alerts.delivery.posting import ClientTls
from alerts.delivery.replay import Which, replay
from alerts.delivery.schedule import Answer
from alerts.tables import delivery_attempts, endpoint_keys, endpoints, outbox
from dashboards.access import SourcesOf, Writer
from dashboards.api.endpoint_shapes import (
    ENDPOINT_ID,
    Act,
    ChangedEndpoint,
    ClientCertificate,
    CreatedEndpoint,
    EndpointDeliveries,
    EndpointDelivery,
    EndpointList,
    EndpointRow,
    KeyRow,
    NewEndpoint,
    Replay,
    ReplayReply,
    ResumeReply,
    Rotate,
    ShownKey,
    Suspend,
    TryReply,
)
from dashboards.api.errors import READING, WRITING, documented
from dashboards.api.models import AttemptRow
from dashboards.api.problems import Problem
from dashboards.api.strict import StrictRoute
from dashboards.api.times import parse_time
from dashboards.keys import ApiKey
from dashboards.rate import Rate
from dashboards.sources import Sources

MAX_LIMIT = 500
EndpointId = Annotated[str, Path(pattern=ENDPOINT_ID, description="Endpoint id")]
IfMatch = Annotated[str | None, Header(description="The version that was read", max_length=20)]

_replays = Rate(per_s=0.2, burst=20, now_s=time.monotonic)

router = APIRouter(tags=["endpoints"])
writing = APIRouter(tags=["endpoints"], route_class=StrictRoute)


@router.get("/endpoints", summary="Who is sent alerts", responses=READING)
def endpoint_list(sources: SourcesOf) -> EndpointList:
    """Return every endpoint with its keys, never a secret."""
    with sources.operational.read() as connection:
        return EndpointList(endpoints=_rows(connection))


@router.get("/endpoints/{endpoint_id}", summary="One endpoint", responses=READING | documented(404))
def endpoint(endpoint_id: EndpointId, sources: SourcesOf, response: Response) -> EndpointRow:
    """Return an endpoint; its ETag is what If-Match takes."""
    row = _one(sources, endpoint_id)
    response.headers["ETag"] = f'"{row.version}"'
    return row


@router.get(
    "/endpoints/{endpoint_id}/deliveries",
    summary="What was sent to an endpoint",
    responses=READING | documented(404),
)
def endpoint_deliveries(
    endpoint_id: EndpointId,
    sources: SourcesOf,
    state: Annotated[
        Literal["pending", "delivered", "undelivered"] | None, Query(description="Only these")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Rows of a page")] = 50,
    before: Annotated[
        int | None, Query(ge=1, le=2**62, description="`next` of the page before")
    ] = None,
) -> EndpointDeliveries:
    """Return events for an endpoint with their attempts, newest first."""
    query = (
        select(*(column for column in outbox.c if column is not outbox.c.body))
        .where(outbox.c.endpoint_id == endpoint_id)
        .order_by(outbox.c.id.desc())
        .limit(limit + 1)
    )
    if state is not None:
        query = query.where(outbox.c.state == state)
    if before is not None:
        query = query.where(outbox.c.id < before)
    with sources.operational.read() as connection:
        _rows(connection, endpoint_id)
        rows = connection.execute(query).mappings().all()
        page = rows[:limit]
        attempts = _attempts(connection, [row["id"] for row in page])
    return EndpointDeliveries(
        deliveries=[_delivery(row, attempts.get(row["id"], [])) for row in page],
        next=page[-1]["id"] if len(rows) > limit else None,
    )


@writing.post("/endpoints", summary="Make an endpoint", responses=WRITING, status_code=201)
def create_endpoint(body: NewEndpoint, sources: SourcesOf, key: Writer) -> CreatedEndpoint:
    """Make an endpoint; its secrets are shown this once. It gets no events before it is verified."""
    wanted = Wanted(
        name=body.name or body.id,
        url=body.url,
        allow_http=body.allow_http,
        concurrency=body.concurrency,
        rate_per_min=body.rate_per_min,
        bearer=body.bearer or None,
        tls=_tls(body.client_certificate),
    )
    with _changing(sources) as administration:
        signing, receipt = administration.create(
            body.id, wanted, body.key_kind, actor=_actor(body.actor, key), now_ms=sources.now_ms()
        )
    return CreatedEndpoint(
        endpoint=_one(sources, body.id), signing_key=_shown(signing), receipt_key=_shown(receipt)
    )


@writing.patch("/endpoints/{endpoint_id}", summary="Change an endpoint", responses=WRITING)
def change_endpoint(
    endpoint_id: EndpointId,
    body: ChangedEndpoint,
    sources: SourcesOf,
    key: Writer,
    if_match: IfMatch = None,
) -> EndpointRow:
    """Change what is named; another URL must be verified again. 409 when the version is stale."""
    plain = ("name", "url", "allow_http", "active", "concurrency", "rate_per_min", "bearer")
    wanted = Wanted(
        **{name: getattr(body, name) for name in plain}, tls=_tls(body.client_certificate)
    )
    with _changing(sources) as administration:
        administration.change(
            endpoint_id,
            wanted,
            _version(body.version, if_match),
            actor=_actor(body.actor, key),
            now_ms=sources.now_ms(),
        )
    return _one(sources, endpoint_id)


@writing.delete("/endpoints/{endpoint_id}", summary="Switch an endpoint off", responses=WRITING)
def remove_endpoint(
    endpoint_id: EndpointId,
    sources: SourcesOf,
    key: Writer,
    if_match: IfMatch = None,
    version: Annotated[int | None, Query(ge=1, description="Or say it as If-Match")] = None,
) -> EndpointRow:
    """End its keys and send it nothing more; its history stays."""
    with _changing(sources) as administration:
        administration.remove(
            endpoint_id,
            _version(version, if_match),
            actor=_actor("", key),
            now_ms=sources.now_ms(),
        )
    return _one(sources, endpoint_id)


@writing.post("/endpoints/{endpoint_id}/verify", summary="Ask it", responses=WRITING)
def verify_endpoint(
    endpoint_id: EndpointId, body: Act, sources: SourcesOf, key: Writer
) -> TryReply:
    """Send the challenge; with the right answer the endpoint gets events from now on."""
    with _changing(sources) as administration:
        opened = administration.opened(endpoint_id, sources.now_ms())
        yes, answer = challenge.challenge(opened, sources.guard, sources.now_ms)
        if yes:
            actor = _actor(body.actor, key)
            administration.verified(opened, actor=actor, now_ms=sources.now_ms())
    return _tried(sources, endpoint_id, answer, ok=yes)


@writing.post("/endpoints/{endpoint_id}/test", summary="Send a test event", responses=WRITING)
def try_endpoint(endpoint_id: EndpointId, body: Act, sources: SourcesOf, key: Writer) -> TryReply:
    """Send ``endpoint.test`` once and return what was answered; it stands in no outbox."""
    del body, key
    with _changing(sources) as administration:
        opened = administration.opened(endpoint_id, sources.now_ms())
        answer = challenge.send_test(opened, sources.guard, sources.now_ms)
    code = answer.status_code
    return _tried(sources, endpoint_id, answer, ok=code is not None and 200 <= code < 300)


@writing.post("/endpoints/{endpoint_id}/rotate", summary="Make a new key", responses=WRITING)
def rotate_key(endpoint_id: EndpointId, body: Rotate, sources: SourcesOf, key: Writer) -> ShownKey:
    """Make a new key; old and new sign while they overlap. Its secret is shown this once."""
    kind = body.kind or _newest_kind(sources, endpoint_id)
    with _changing(sources) as administration:
        new = administration.rotate(
            endpoint_id,
            kind,
            overlap_ms=body.overlap_h * HOUR_MS,
            revoke_old_now=body.revoke_old_now,
            actor=_actor(body.actor, key),
            now_ms=sources.now_ms(),
        )
    return _shown(new)


@writing.delete(
    "/endpoints/{endpoint_id}/keys/{key_id}", summary="Revoke a key now", responses=WRITING
)
def revoke_key(
    endpoint_id: EndpointId,
    key_id: Annotated[str, Path(max_length=26, description="Id of the key")],
    sources: SourcesOf,
    key: Writer,
) -> EndpointRow:
    """End one key at once; not the only one that signs."""
    with _changing(sources) as administration:
        administration.revoke(endpoint_id, key_id, actor=_actor("", key), now_ms=sources.now_ms())
    return _one(sources, endpoint_id)


@writing.post("/endpoints/{endpoint_id}/suspend", summary="Send it nothing", responses=WRITING)
def suspend_endpoint(
    endpoint_id: EndpointId, body: Suspend, sources: SourcesOf, key: Writer
) -> EndpointRow:
    """Let its events wait as undelivered."""
    with _changing(sources) as administration:
        administration.suspend(
            endpoint_id, body.reason, actor=_actor(body.actor, key), now_ms=sources.now_ms()
        )
    return _one(sources, endpoint_id)


@writing.post("/endpoints/{endpoint_id}/resume", summary="Send to it again", responses=WRITING)
def resume_endpoint(
    endpoint_id: EndpointId, body: Act, sources: SourcesOf, key: Writer
) -> ResumeReply:
    """Send what waits as far as its schedule is not spent; the rest can be replayed."""
    with _changing(sources) as administration:
        events = administration.resume(
            endpoint_id, actor=_actor(body.actor, key), now_ms=sources.now_ms()
        )
    return ResumeReply(endpoint=_one(sources, endpoint_id), events=events)


@writing.post(
    "/endpoints/{endpoint_id}/replay",
    summary="Send events again",
    responses=WRITING,
)
def replay_events(
    endpoint_id: EndpointId, body: Replay, sources: SourcesOf, key: Writer
) -> ReplayReply:
    """Send one event again, or a range, or what never arrived: same webhook-id, same bytes."""
    which = _which(body)
    with _changing(sources):
        if wait_s := _replays.wait_s(f"{sources.operational.url} {endpoint_id}"):
            raise Problem(429, f"too many replays; try again in {wait_s:.0f} s")
        done = replay(
            sources.operational,
            endpoint_id,
            which,
            actor=_actor(body.actor, key),
            now_ms=sources.now_ms(),
        )
    return ReplayReply(events=done.events, left=done.left, next_ms=done.next_ms)


@contextmanager
def _changing(sources: Sources) -> Iterator[Administration]:
    if sources.vault is None:
        raise Problem(503, "this process has no master key; secrets cannot be kept")
    try:
        yield Administration(sources.operational, sources.vault, sources.guard)
    except EndpointError as exc:
        raise Problem(exc.status, str(exc), **exc.more) from exc
    sources.wake.notify()
    sources.wake_sender()


def _which(body: Replay) -> Which:
    try:
        since = None if body.since is None else parse_time("since", body.since)
        until = None if body.until is None else parse_time("until", body.until)
    except ValueError as exc:
        raise Problem(422, str(exc), field="since") from exc
    if not (body.webhook_id or body.undelivered or since is not None):
        raise Problem(422, "name webhook_id, or since, or undelivered", field="webhook_id")
    if body.webhook_id and (body.undelivered or since is not None or until is not None):
        raise Problem(422, "webhook_id goes with nothing else", field="webhook_id")
    return Which(body.webhook_id or "", since, until, body.undelivered)


def _version(given: int | None, if_match: str | None) -> int:
    text = (if_match or "").strip().removeprefix("W/").strip('"')
    if given is None and text.isascii() and text.isdigit():
        given = int(text)
    if given is None:
        raise Problem(428, "say which version was read: version, or If-Match", field="version")
    return given


def _tls(given: ClientCertificate | None) -> ClientTls | None:
    return None if given is None else ClientTls(given.certificate, given.key, given.ca)


def _newest_kind(sources: Sources, endpoint_id: str) -> str:
    k = endpoint_keys.c
    query = (
        select(k.kind)
        .where(k.endpoint_id == endpoint_id, k.kind.in_(SIGNING))
        .order_by(k.id.desc())
    )
    with sources.operational.read() as connection:
        return connection.scalar(query.limit(1)) or "ed25519"


def _shown(key: NewKey) -> ShownKey:
    # Who verifies ed25519 needs the public half; the private one never leaves.
    secret = "" if key.kind == "ed25519" else key.secret
    return ShownKey.model_validate(
        {"id": key.id, "kind": key.kind, "secret": secret, "public": key.public}
    )


def _tried(sources: Sources, endpoint_id: str, answer: Answer, *, ok: bool) -> TryReply:
    return TryReply(
        ok=ok,
        status_code=answer.status_code,
        error=answer.error,
        response=answer.response,
        duration_ms=answer.ended_ms - answer.started_ms,
        endpoint=_one(sources, endpoint_id),
    )


def _actor(name: str, key: ApiKey) -> str:
    return f"{name or key.name} ({key.id})"


def _one(sources: Sources, endpoint_id: str) -> EndpointRow:
    with sources.operational.read() as connection:
        return _rows(connection, endpoint_id)[0]


def _rows(connection: Connection, endpoint_id: str | None = None) -> list[EndpointRow]:
    query = select(endpoints).order_by(endpoints.c.id)
    counting = select(outbox.c.endpoint_id, outbox.c.state, func.count().label("n")).where(
        outbox.c.state.in_(("pending", "undelivered"))
    )
    keys = select(endpoint_keys).order_by(endpoint_keys.c.id)
    if endpoint_id is not None:
        query = query.where(endpoints.c.id == endpoint_id)
        counting = counting.where(outbox.c.endpoint_id == endpoint_id)
        keys = keys.where(endpoint_keys.c.endpoint_id == endpoint_id)
    rows = connection.execute(query).mappings().all()
    if endpoint_id is not None and not rows:
        raise Problem(404, f"no endpoint {endpoint_id!r}")
    grouped = counting.group_by(outbox.c.endpoint_id, outbox.c.state)
    counts = {(row.endpoint_id, row.state): row.n for row in connection.execute(grouped)}
    of: dict[str, list[KeyRow]] = defaultdict(list)
    for row in connection.execute(keys).mappings():
        of[row["endpoint_id"]].append(key_row(row))
    return [_endpoint_row(row, counts, of[row["id"]]) for row in rows]


def key_row(row: RowMapping) -> KeyRow:
    """Return a key without its secret."""
    return KeyRow(**{name: row[name] for name in KeyRow.model_fields})


def _endpoint_row(
    row: RowMapping, counts: dict[tuple[str, str], int], keys: list[KeyRow]
) -> EndpointRow:
    plain = set(EndpointRow.model_fields) & set(endpoints.c.keys())
    return EndpointRow(
        **{name: row[name] for name in plain},
        state=_state(row),
        has_bearer=bool(row["bearer"]),
        has_client_certificate=bool(row["client_certificate"]),
        pending=counts.get((row["id"], "pending"), 0),
        undelivered=counts.get((row["id"], "undelivered"), 0),
        keys=keys,
    )


def _state(row: RowMapping) -> Literal["active", "unverified", "suspended", "off"]:
    if not row["active"]:
        return "off"
    if row["suspended_ms"] is not None:
        return "suspended"
    return "unverified" if row["source"] == "api" and row["verified_ms"] is None else "active"


def _attempts(connection: Connection, ids: Sequence[int]) -> dict[int, list[AttemptRow]]:
    found: dict[int, list[AttemptRow]] = defaultdict(list)
    query = (
        select(delivery_attempts)
        .where(delivery_attempts.c.outbox_id.in_(ids))
        .order_by(delivery_attempts.c.id)
    )
    for row in connection.execute(query).mappings():
        found[row["outbox_id"]].append(
            AttemptRow(**{name: row[name] for name in AttemptRow.model_fields})
        )
    return found


def _delivery(row: RowMapping, attempts: list[AttemptRow]) -> EndpointDelivery:
    plain = set(EndpointDelivery.model_fields) - {"attempts", "next_ms"}
    return EndpointDelivery(
        **{name: row[name] for name in plain},
        next_ms=row["next_ms"] if row["state"] == "pending" else None,
        attempts=attempts,
    )
