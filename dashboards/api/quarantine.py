"""What came and could not be used: messages that are no packs, packs and records that do not decode."""

import base64

from fastapi import APIRouter
from sqlalchemy import Connection, select

from dashboards.access import SourcesOf
from dashboards.api.errors import READING
from dashboards.api.models import QuarantinedItem, QuarantineList
from dashboards.sources import Sources
from gateway.wire import WireError, split_topic, topic
from ingest.inbox import DamagedMessage
from ingest.tables import quarantine

NEWEST = 100
FIRST_BYTES = 2048

router = APIRouter(tags=["packs"])


@router.get("/quarantine", summary="What could not be used, and why", responses=READING)
def quarantine_list(sources: SourcesOf) -> QuarantineList:
    """Return the newest 100, newest first; all of a record's bytes stay in its pack."""
    items = [_damaged(message) for message in sources.inbox.damaged(NEWEST)]
    with sources.operational.read() as connection:
        items += _records(sources, connection)
    items.sort(key=lambda item: item.at_ms, reverse=True)
    return QuarantineList(quarantine=items[:NEWEST])


def _damaged(message: DamagedMessage) -> QuarantinedItem:
    try:
        station, _ = split_topic(message.topic)
    except WireError:
        station = ""
    return QuarantinedItem(
        kind="message",
        at_ms=message.received_ms,
        topic=message.topic,
        station=station,
        epoch=None,
        seq=None,
        position=None,
        field=message.field,
        reason=message.reason,
        size=message.size,
        payload=_start(message.payload),
    )


def _records(sources: Sources, connection: Connection) -> list[QuarantinedItem]:
    rows = connection.execute(select(quarantine).order_by(quarantine.c.id.desc()).limit(NEWEST))
    items = []
    for row in rows:
        pack = sources.inbox.pack(row.station, row.epoch, row.seq)
        items.append(
            QuarantinedItem(
                kind="pack" if row.position < 0 else "record",
                at_ms=row.at_ms,
                topic=topic(row.station, "up") if pack is None else pack.topic,
                station=row.station,
                epoch=row.epoch,
                seq=row.seq,
                position=None if row.position < 0 else row.position,
                field=row.field,
                reason=row.reason,
                size=None if pack is None else len(pack.body),
                payload=None if pack is None else _start(pack.body),
            )
        )
    return items


def _start(payload: bytes) -> str:
    return base64.b64encode(payload[:FIRST_BYTES]).decode("ascii")
