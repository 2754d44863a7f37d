"""Records of devices that speak neither MQTT nor the edge link: taken, each answered, when they are on the disk."""

import hashlib
import math
import re
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, HTTPException, Path, Request, Security
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from pydantic import Field, StringConstraints
from sqlalchemy import select

from alerts.laboratory import withdrawal
from dashboards.access import HealthOf, Writer
from dashboards.api.errors import WRITING, documented
from dashboards.api.models import MAX_NAME, ErrorReply, Shape
from dashboards.api.problems import Problem
from dashboards.api.strict import StrictRoute
from dashboards.body_limit import MAX_RECORDS_BYTES
from dashboards.keys import ApiKey
from dashboards.rate import Rate
from ingest.door import Door
from ingest.intake import Outcome
from ingest.judge.records.corrections import WITHDRAWN
from ingest.publishers.address import of_records
from ingest.publishers.arrival import HTTP, Delivery
from ingest.publishers.parsed import WHOLE, Parsed
from ingest.registry import record_keys
from ingest.registry.record_keys import RecordKey
from ingest.tables import tests

PER_S, BURST = 10.0, 60  # of one key
RETRY_AFTER_S = 10
_FORM = "application/x-www-form-urlencoded"  # also what curl says of anything
_MEDIA = ("application/json", "application/senml+json", _FORM)
_TOKEN = re.compile(r"[\x21-\x7e]{1,100}")
_DAY_MS = 24 * 3_600_000

_header = APIKeyHeader(
    name="X-API-Key",
    scheme_name="DeviceKey",
    auto_error=False,
    description="Key of a station or of one of its devices: agrigate station record-key add CODE.",
)
_bearer = HTTPBearer(scheme_name="DeviceKeyBearer", auto_error=False)


class RecordReply(Shape):
    """What became of one record."""

    index: int = Field(description="Place in the body, from 0")
    state: Literal["accepted", "refused"]
    field: str | None = Field(description="What of it is wrong")
    reason: str | None


class RecordsReply(Shape):
    """What became of a body; the same body sent again gets the same reply."""

    accepted: int
    refused: int
    sha256: str = Field(description="Of the body's bytes, as the inbox has them")
    records: list[RecordReply]


def door_of(request: Request) -> Door:
    """Return the way into the inbox; 503 in a process that does not take records."""
    door = request.app.state.records
    if not isinstance(door, Door):
        raise HTTPException(
            503, "this process takes no records: send them to the one of role ingest"
        )
    return door


def key_of(
    health: HealthOf,
    header: Annotated[str | None, Security(_header)],
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
) -> RecordKey:
    """Return whose key came with the request; 401 without a valid one."""
    text = header or (bearer.credentials if bearer else "")
    with health.operational.read() as connection:
        key = record_keys.check(connection, text)
    if key is None:
        raise HTTPException(
            401, "sending records needs the key of a device", {"WWW-Authenticate": "Bearer"}
        )
    return key


router = APIRouter(tags=["records"])
writing = APIRouter(tags=["records"], route_class=StrictRoute)
_BODY = {
    "requestBody": {
        "required": True,
        "description": "A list of SenML records (RFC 8428), test records, or an upload in the way of Anhui's"
        f" notice; at most {MAX_RECORDS_BYTES} bytes.",
        "content": {
            "application/senml+json": {"schema": {"type": "array", "items": {"type": "object"}}},
            "application/json": {
                "schema": {
                    "oneOf": [
                        {"type": "array", "items": {"type": "object"}},
                        {
                            "type": "object",
                            "required": ["tests"],
                            "properties": {"tests": {"type": "array", "items": {"type": "object"}}},
                        },
                        {
                            "type": "object",
                            "required": ["details"],
                            "properties": {
                                "count": {"type": "integer"},
                                "details": {"type": "array", "items": {"type": "object"}},
                            },
                        },
                    ]
                }
            },
            _FORM: {"schema": {"type": "object", "additionalProperties": {"type": "string"}}},
        },
    },
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "Names this delivery for 24 h: sent again under it, it is not taken twice. Needed for"
            " records without a time of their own.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 100},
        }
    ],
}
_MEANINGS = {
    400: "The body is of no form that can be read",
    401: "No valid key of a device",
    404: "The key's station is not registered any more",
    409: "The Idempotency-Key was used for another body",
    413: "The body is too large",
    415: "Neither JSON nor SenML JSON nor a form",
    422: "Nothing can be used; nothing was taken",
    429: "Too many requests; Retry-After says for how long to wait",
    503: "Nothing is taken now, or it is not known that it was: send it again after Retry-After",
}


@router.post(
    "/records",
    summary="Deliver readings or tests",
    openapi_extra=_BODY,
    responses={
        code: {"model": ErrorReply, "description": said} for code, said in _MEANINGS.items()
    },
    response_model=RecordsReply,
)
async def deliver_records(
    request: Request,
    door: Annotated[Door, Depends(door_of)],
    key: Annotated[RecordKey, Depends(key_of)],
) -> JSONResponse:
    """Answer 200 when the body is on the disk; a record that is refused is named, and kept in it."""
    _limit(request, key)
    media = request.headers.get("content-type", _MEDIA[0]).partition(";")[0].strip().lower()
    if media not in _MEDIA:
        raise HTTPException(415, f"Content-Type must be {' or '.join(_MEDIA)}")
    token = request.headers.get("idempotency-key")
    if token is not None and not _TOKEN.fullmatch(token):
        raise HTTPException(422, "Idempotency-Key: 1 to 100 visible ASCII characters")
    body = await request.body()
    return await run_in_threadpool(_deliver, door, key, body, media, token)


def _limit(request: Request, key: RecordKey) -> None:
    rate = request.app.state.records_rate
    wait_s = rate.wait_s(key.id) if isinstance(rate, Rate) else 0.0
    if wait_s:
        raise HTTPException(
            429,
            f"more than {PER_S:g} requests a second with this key; put more records into one",
            {"Retry-After": str(math.ceil(wait_s))},
        )


def _deliver(
    door: Door, key: RecordKey, body: bytes, media: str, token: str | None
) -> JSONResponse:
    if holding := door.holding():
        raise _later(holding)
    topic = of_records(key.station, key.device)
    now_ms = door.now_ms()
    parsed = door.read(topic, body, now_ms)
    for position, field, reason in parsed.faults:
        if position == WHOLE:
            raise HTTPException(400 if field == "body" else 422, reason)
    digest = hashlib.sha256(body).digest()
    reply = _reply(parsed, digest)
    if not reply.records:
        raise HTTPException(422, "no record is in it")
    if token is None and _leans_on_now(door, topic, body, now_ms, parsed):
        raise HTTPException(
            422,
            "records without a time of their own need an Idempotency-Key:"
            " sent again, they could not be told from new ones",
        )
    delivery = Delivery(HTTP, f"{key.id} {token or digest.hex()}", digest, now_ms)
    header = f"key={key.id} content-type={media}"
    if token is not None:
        header += f" idempotency-key={token}"
    match door.deliver(topic, body, header, delivery):
        case Outcome.TAKEN | Outcome.DUPLICATE:
            return JSONResponse(reply.model_dump())
        case Outcome.DAMAGED:
            if token is not None:
                raise HTTPException(409, "the Idempotency-Key was used for another body")
            raise HTTPException(404, f"station {key.station} is not registered any more")
        case _:
            raise _later("not taken, or not known to be: send it again")


def _later(reason: str) -> HTTPException:
    return HTTPException(503, reason, {"Retry-After": str(RETRY_AFTER_S)})


def _leans_on_now(door: Door, topic: str, body: bytes, now_ms: int, parsed: Parsed) -> bool:
    """Whether the same body means something else at another time."""
    again = door.read(topic, body, now_ms + _DAY_MS)
    return [value.t_ms for value in again.values] != [value.t_ms for value in parsed.values]


def _reply(parsed: Parsed, digest: bytes) -> RecordsReply:
    refused = {position: (field, reason) for position, field, reason in reversed(parsed.faults)}
    accepted = {v.position for v in parsed.values} | {position for position, _ in parsed.tests}
    accepted -= refused.keys()
    rows = [
        RecordReply(index=index, state="accepted", field=None, reason=None) for index in accepted
    ]
    rows += [
        RecordReply(index=index, state="refused", field=field, reason=reason)
        for index, (field, reason) in refused.items()
    ]
    rows.sort(key=lambda row: row.index)
    return RecordsReply(
        accepted=len(accepted), refused=len(refused), sha256=digest.hex(), records=rows
    )


class Withdraw(Shape):
    """Why a record is withdrawn, and by whom."""

    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
    actor: Annotated[
        str,
        StringConstraints(strip_whitespace=True, max_length=MAX_NAME),
        Field(description="Name of the person; the key's name when empty"),
    ] = ""


class Withdrawn(Shape):
    """A record that counts no more, as soon as the judge has seen its withdrawal."""

    record_id: str
    withdrawn_by: str = Field(description="Id of the record that withdraws it")
    state: Literal["taken", "known"] = Field(description="known: it was withdrawn before")


@writing.post(
    "/records/{record_id}/withdraw",
    summary="Withdraw a test record",
    responses=WRITING | documented(503),
)
def withdraw(
    record_id: Annotated[str, Path(max_length=64, description="Id of the record")],
    body: Withdraw,
    health: HealthOf,
    door: Annotated[Door, Depends(door_of)],
    key: Writer,
) -> Withdrawn:
    """Withdraw a record: it stays as evidence; alerts that rest on it are superseded."""
    with health.operational.read() as connection:
        row = (
            connection.execute(select(tests).where(tests.c.record_id == record_id))
            .mappings()
            .first()
        )
    if row is None:
        raise Problem(404, f"no record {record_id!r}; one that was just sent may not be judged yet")
    own_id = withdrawal.withdrawal_id(record_id)
    by = row["superseded_by"]
    if by == own_id:
        return Withdrawn(record_id=record_id, withdrawn_by=own_id, state="known")
    if by is not None:
        raise Problem(409, f"it was corrected by {by!r}: withdraw that one", superseded_by=by)
    if WITHDRAWN in row["flags"]:
        raise Problem(409, "it is itself a withdrawal: send the record again under a new id")
    actor = f"{body.actor or key.name} ({key.id})"
    record = withdrawal.withdrawal_of(dict(row), body.reason, actor)
    deliver(door, row["station"], withdrawal.body_of(record), key)
    return Withdrawn(record_id=record_id, withdrawn_by=own_id, state="taken")


def deliver(door: Door, station: str, body: bytes, key: ApiKey) -> None:
    """Put what a person entered into the inbox; raise Problem when it is not there."""
    if holding := door.holding():
        raise Problem(503, f"nothing is taken now: {holding}; send it again")
    digest = hashlib.sha256(body).digest()
    delivery = Delivery(HTTP, f"{key.id} {digest.hex()}", digest, door.now_ms())
    match door.deliver(of_records(station, ""), body, f"key={key.id} entered", delivery):
        case Outcome.TAKEN | Outcome.DUPLICATE:
            return
        case Outcome.DAMAGED:
            raise Problem(404, f"station {station!r} is not registered any more")
        case _:
            raise Problem(503, "not taken, or not known to be: send it again")
