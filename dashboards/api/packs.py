"""The bytes that the edge sent."""

from typing import Annotated

from fastapi import APIRouter, HTTPException, Path
from sqlalchemy import select

from dashboards.access import SourcesOf
from dashboards.api.errors import READING, documented
from dashboards.api.models import PackReply, QuarantineRow
from ingest.tables import quarantine

MAX_ID = 2**63 - 1  # a bigint of the database

router = APIRouter(tags=["packs"])


@router.get(
    "/packs/{station}/{epoch}/{seq}",
    summary="A pack as received",
    responses=READING | documented(404),
)
def pack(
    station: Annotated[str, Path(max_length=40, description="Station code")],
    epoch: Annotated[str, Path(max_length=26, description="Epoch of the lane, a ULID")],
    seq: Annotated[int, Path(ge=1, le=MAX_ID, description="Number of the pack in its epoch")],
    sources: SourcesOf,
) -> PackReply:
    """Return the header and the body, and which of its records could not be used."""
    stored = sources.inbox.pack(station, epoch, seq)
    if stored is None:
        raise HTTPException(
            404,
            f"the inbox holds no pack {station}/{epoch}/{seq}: it never came, or was kept its time",
        )
    query = (
        select(quarantine.c.position, quarantine.c.field, quarantine.c.reason)
        .where(quarantine.c.epoch == epoch, quarantine.c.seq == seq)
        .where(quarantine.c.station == station)
        .order_by(quarantine.c.position)
    )
    with sources.operational.read() as connection:
        rows = connection.execute(query).mappings().all()
    return PackReply(
        station=station,
        epoch=epoch,
        seq=seq,
        pos=stored.pos,
        topic=stored.topic,
        header=stored.header,
        received_ms=stored.received_ms,
        sha256=stored.sha256,
        body=stored.body.decode("utf-8", "replace"),
        quarantined=[QuarantineRow(**row) for row in rows],
    )
