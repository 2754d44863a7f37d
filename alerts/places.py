"""Where alerts are and whose: what the registry says of their stations and plots, read for many at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from alerts.delivery.payload import Place
from ingest.tables import bases, plots, stations

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from alerts.alert import Alert

_AT_ONCE = 500  # names of one query


def places_of(connection: sa.Connection, alerts: Iterable[Alert]) -> dict[tuple[str, str], Place]:
    """Return the place of each (station, plot) of ``alerts``; blank fields where nothing is registered.

    The producer is the plot's, else the station's.
    """
    wanted = {(alert.station, alert.plot_id) for alert in alerts}
    known = _stations(connection, sorted({station for station, _ in wanted}))
    owners = _owners(connection, sorted({plot for _, plot in wanted if plot}))
    found = {}
    for station, plot in wanted:
        place = known.get(station, Place())
        owner = owners.get(plot, place.producer_id)
        found[station, plot] = Place(place.name, place.name_en, place.lon, place.lat, owner)
    return found


def _stations(connection: sa.Connection, codes: Sequence[str]) -> dict[str, Place]:
    s = stations.c
    query = sa.select(s.code, s.name, s.name_en, s.lon, s.lat, bases.c.subject_id).join(
        bases, bases.c.id == s.base_id, isouter=True
    )
    return {
        row.code: Place(row.name, row.name_en, row.lon, row.lat, row.subject_id or "")
        for some in _parts(codes)
        for row in connection.execute(query.where(s.code.in_(some)))
    }


def _owners(connection: sa.Connection, plot_ids: Sequence[str]) -> dict[str, str]:
    query = sa.select(plots.c.id, bases.c.subject_id).join(bases, plots.c.base_id == bases.c.id)
    return {
        row.id: row.subject_id
        for some in _parts(plot_ids)
        for row in connection.execute(query.where(plots.c.id.in_(some)))
    }


def _parts(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), _AT_ONCE):
        yield names[start : start + _AT_ONCE]
