"""The registry as the running server asks it: contexts of devices, keys that may deliver."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlalchemy as sa
from ulid import ULID

from ingest import tables
from ingest.registry.context import PlotContext
from ingest.registry.quality import Quality

if TYPE_CHECKING:
    from ingest.operational import Operational


@dataclass(frozen=True, slots=True)
class _Keys:
    """The keys of one station that may deliver."""

    approved: set[str] = field(default_factory=set)
    replaced: dict[str, int] = field(default_factory=dict)  # key → UTC ms


_NONE = _Keys()


class Registry:
    """A snapshot in memory; ``reload`` takes a new one. Safe to share between threads."""

    def __init__(self, operational: Operational) -> None:
        self._operational = operational
        self._lock = threading.Lock()
        self.version = 0
        self._contexts: dict[tuple[str, str], PlotContext] = {}
        self._keys: dict[str, _Keys] = {}
        self._registered: set[str] = set()
        self.quality = Quality(operational)
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
                    water=row.water or "",
                    salmonid=row.salmonid or "",
                    shellfish=row.shellfish or "",
                    ice_covered=row.ice_covered or "",
                    animal=row.animal or "",
                    animal_age=row.animal_age or "",
                )
                for row in db.execute(query)
            }
        with self._lock:
            self._contexts = contexts
            self.version += 1
        self.refresh_keys()
        self.quality.refresh()

    def refresh_keys(self) -> set[str]:
        """Read the keys that may deliver again; return the stations where one was added, replaced or taken away."""
        k = tables.gateway_keys
        keys: dict[str, _Keys] = {}
        with self._operational.read() as db:
            registered = set(db.execute(sa.select(tables.stations.c.code)).scalars())
            query = sa.select(k.c.station, k.c.key, k.c.state, k.c.replaced_ms).where(
                k.c.state.in_(("approved", "replaced"))
            )
            for station, key, state, replaced_ms in db.execute(query):
                if station not in registered:
                    continue
                held = keys.setdefault(station, _Keys())
                if state == "approved":
                    held.approved.add(key)
                else:
                    held.replaced[key] = replaced_ms
        before, self._keys = self._keys, keys
        self._registered = registered
        return {s for s in {*before, *keys} if before.get(s) != keys.get(s)}

    def context(self, station: str, device: str) -> PlotContext | None:
        """Return what is registered about the plot of a device, None when the device is not registered."""
        return self._contexts.get((station, device))

    def is_registered(self, station: str) -> bool:
        """Whether there is such a station."""
        return station in self._registered

    def is_approved(self, station: str, key: str) -> bool:
        """Whether ``key`` is an approved key of the registered station."""
        return key in self._keys.get(station, _NONE).approved

    def may_deliver(self, station: str, key: str, epoch: str) -> bool:
        """Whether packs of ``epoch``, which belongs to ``key``, are taken.

        A replaced key may deliver what it began before it was replaced: epochs whose ULID is not younger.
        """
        keys = self._keys.get(station, _NONE)
        if key in keys.approved:
            return True
        replaced_ms = keys.replaced.get(key)
        return replaced_ms is not None and ULID.from_str(epoch).milliseconds <= replaced_ms
