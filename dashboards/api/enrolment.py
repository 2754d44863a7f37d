"""Enrolling a station: registration, a credential of the broker, the file for its gateway."""

import structlog
from fastapi import APIRouter, HTTPException
from sqlalchemy import Connection, insert, select

from dashboards.access import SourcesOf, Writer
from dashboards.api.errors import WRITING
from dashboards.api.models import EnrolStation, StationEnrolled
from dashboards.api.nearest import nearest
from dashboards.api.strict import StrictRoute
from ingest.broker.pki import PkiError
from ingest.registry.enrolment import EnrolmentError, encode_enrolment, enrol_station
from ingest.tables import bases, stations

writing = APIRouter(tags=["stations"], route_class=StrictRoute)
log = structlog.get_logger()


@writing.post("/stations", summary="Enrol a station", responses=WRITING)
def add_station(body: EnrolStation, sources: SourcesOf, key: Writer) -> StationEnrolled:
    """Register the station and make its credential; the answer holds the secrets and is given once."""
    if sources.site is None:
        raise HTTPException(
            409,
            "server.toml has no [deploy] table: write there by which host and port stations reach the broker",
        )
    try:
        with sources.operational.write() as connection:
            _register(connection, body)
            enrolled = enrol_station(
                connection,
                sources.site,
                body.code,
                certificate=body.certificate,
                renew=body.renew,
                now_ms=sources.now_ms(),
            )
    except (EnrolmentError, PkiError) as exc:
        raise HTTPException(409, str(exc)) from exc
    sources.wake.notify()
    log.info(
        "station_enrolled",
        station=body.code,
        certificate=body.certificate,
        renewed=enrolled.renewed,
        actor=f"{key.name} ({key.id})",
    )
    return StationEnrolled(
        code=body.code,
        renewed=enrolled.renewed,
        certificate_serial=enrolled.certificate_serial,
        enrolment=encode_enrolment(enrolled.enrolment),
    )


def _register(connection: Connection, body: EnrolStation) -> None:
    """Add the station; one that is registered keeps what the registry says of it."""
    if connection.scalar(select(stations.c.code).where(stations.c.code == body.code)) is not None:
        return
    for field, option in (("name", body.name), ("region_code", body.region_code)):
        if not option:
            raise HTTPException(
                422, f"{field}: is missing; station {body.code!r} is not registered yet"
            )
    known = connection.scalars(select(bases.c.id)).all()
    if body.base_id is not None and body.base_id not in known:
        raise HTTPException(422, f"base_id: {nearest('base', body.base_id, known)}")
    connection.execute(insert(stations).values(body.model_dump(exclude={"certificate", "renew"})))
