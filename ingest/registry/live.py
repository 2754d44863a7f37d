"""The registry as the running server asks it: contexts of devices, approved keys."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ingest import tables
from ingest.registry.context import PlotContext

if TYPE_CHECKING:
    from ingest.operational import Operational


class Registry:
    """A snapshot in memory; ``reload`` takes a new one. Safe to share between threads."""

    def __init__(self, operational: Operational) -> None:
        self._operational = operational
        self._lock = threading.Lock()
        self.version = 0
        self._contexts: dict[tuple[str, str], PlotContext] = {}
        self._approved: dict[str, frozenset[str]] = {}
        self.reload()

    def reload(self) -> None:
        """Read everything again."""
        d, p, s = tables.devices, tables.plots, tables.stations
        query = sa.select(d.c.station, d.c.path, s.c.region_code, p).select_from(
            d.join(s, s.c.code == d.c.station).outerjoin(p, p.c.id == d.c.plot_id)
        )
        with self._operational.read() as db:
            contexts = {
                (row.station, row.path): PlotContext(
                    plot_id=row.id or "",
                    region_code=row.region_code,
                    land_use=row.land_use or "",
                    crop=row.crop or "",
                    water_use=row.water_use or "",
                    soil_ph=row.soil_ph,
                    soil_salinity=row.soil_salinity or "",
                    fluoride_area=row.fluoride_area or "",
                    boron_tolerance=row.boron_tolerance or "",
                    water_class=row.water_class or "",
                    water_body=row.water_body or "",
                )
                for row in db.execute(query)
            }
        with self._lock:
            self._contexts = contexts
            self.version += 1
        self.refresh_keys()

    def refresh_keys(self) -> set[str]:
        """Read the approved keys again; return the stations whose keys changed."""
        k = tables.gateway_keys
        approved: dict[str, set[str]] = {}
        with self._operational.read() as db:
            registered = set(db.execute(sa.select(tables.stations.c.code)).scalars())
            query = sa.select(k.c.station, k.c.key).where(k.c.state == "approved")
            for station, key in db.execute(query):
                if station in registered:
                    approved.setdefault(station, set()).add(key)
        frozen = {station: frozenset(held) for station, held in approved.items()}
        before, self._approved = self._approved, frozen
        return {s for s in {*before, *frozen} if before.get(s) != frozen.get(s)}

    def context(self, station: str, device: str) -> PlotContext | None:
        """Return what is registered about the plot of a device, None when the device is not registered."""
        return self._contexts.get((station, device))

    def is_approved(self, station: str, key: str) -> bool:
        """Whether ``key`` is an approved key of the registered station."""
        return key in self._approved.get(station, ())
