"""Keys of devices that send records over HTTP: made, listed, revoked."""

from typing import Annotated

import structlog
from fastapi import APIRouter, HTTPException, Path
from pydantic import Field, StringConstraints
from sqlalchemy import Connection

from dashboards.access import SourcesOf, Writer
from dashboards.api.errors import READING, WRITING
from dashboards.api.models import MAX_NAME, Ms, Shape, Station
from dashboards.api.stations import Code, check_registered
from dashboards.api.strict import StrictRoute
from ingest.publishers.address import device_path
from ingest.publishers.parsed import RecordError
from ingest.registry import record_keys

writing = APIRouter(tags=["records"], route_class=StrictRoute)
log = structlog.get_logger()


class MakeRecordKey(Shape):
    """For whom a key is made."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME)]
    device: str = Field("", max_length=80, description="Device path; blank: any of the station")


class RecordKeyRow(Shape):
    """A key, without the key."""

    id: str
    station: Station
    device: str
    name: str
    created_ms: Ms
    revoked_ms: Ms | None


class RecordKeyList(Shape):
    """Every key of a station."""

    keys: list[RecordKeyRow]


class RecordKeyMade(Shape):
    """A new key; it is shown once."""

    id: str
    key: str


@writing.get(
    "/stations/{code}/record-keys",
    summary="Keys that may send records",
    responses=WRITING | READING,
)
def record_key_list(code: Code, sources: SourcesOf, _key: Writer) -> RecordKeyList:
    """Return every key of a station, revoked ones too."""
    with sources.operational.read() as connection:
        check_registered(connection, code)
        return _list(connection, code)


@writing.post("/stations/{code}/record-keys", summary="Make a key", responses=WRITING)
def make_record_key(
    code: Code, body: MakeRecordKey, sources: SourcesOf, key: Writer
) -> RecordKeyMade:
    """Make a key for a station, or for one of its devices."""
    try:
        device = device_path(body.device, "device") if body.device else ""
    except RecordError as exc:
        raise HTTPException(422, str(exc)) from exc
    with sources.operational.write() as connection:
        check_registered(connection, code)
        row, secret = record_keys.create(
            connection, station=code, device=device, name=body.name, now_ms=sources.now_ms()
        )
    log.info("record_key_made", station=code, key=row.id, actor=f"{key.name} ({key.id})")
    return RecordKeyMade(id=row.id, key=secret)


@writing.delete("/stations/{code}/record-keys/{key_id}", summary="Revoke a key", responses=WRITING)
def revoke_record_key(
    code: Code,
    key_id: Annotated[str, Path(max_length=26, description="Id of the key")],
    sources: SourcesOf,
    key: Writer,
) -> RecordKeyList:
    """Let a key in no more, from the next request on."""
    with sources.operational.write() as connection:
        check_registered(connection, code)
        if not record_keys.revoke(connection, code, key_id, sources.now_ms()):
            raise HTTPException(404, f"station {code} has no key {key_id!r} that stands")
        rows = _list(connection, code)
    log.info("record_key_revoked", station=code, key=key_id, actor=f"{key.name} ({key.id})")
    return rows


def _list(connection: Connection, code: str) -> RecordKeyList:
    rows = [
        RecordKeyRow(
            id=row.id,
            station=row.station,
            device=row.device,
            name=row.name,
            created_ms=row.created_ms,
            revoked_ms=row.revoked_ms,
        )
        for row in record_keys.of_station(connection, code)
    ]
    return RecordKeyList(keys=rows)
