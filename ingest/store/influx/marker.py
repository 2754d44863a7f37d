"""The one point that says whose readings these are and how far they go."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ingest.store.influx.errors import RefusedError
from ingest.store.influx.influxql import LATEST_MS, name
from ingest.store.influx.line_protocol import string_field

if TYPE_CHECKING:
    from ingest.store.influx.server import InfluxServer

SCHEMA_VERSION = 1
UNFINISHED = 0  # the schema of a store into which another is being copied
MARKER_MEASUREMENT = "agrigate_store"
NEVER_MS = LATEST_MS + 1  # days are summed up with their hours: nobody has said yet which day it is


@dataclass(frozen=True, slots=True)
class Marker:
    """``inbox_pos``: packs up to here are written; ``counted_pos``: and in the series' snapshot and roll-ups.

    Days before ``summed_ms`` are summed up, later ones are when they are over.
    """

    life: str
    inbox_pos: int
    counted_pos: int
    summed_ms: int = NEVER_MS

    def at(self, inbox_pos: int) -> Marker:
        """Return the marker after packs up to ``inbox_pos``."""
        return replace(self, inbox_pos=inbox_pos)

    def counted(self, counted_pos: int) -> Marker:
        """Return the marker after a snapshot."""
        return replace(self, counted_pos=counted_pos)

    def summed(self, before_ms: int) -> Marker:
        """Return the marker after days were summed up."""
        return replace(self, summed_ms=before_ms)

    def line(self, schema_version: int = SCHEMA_VERSION) -> bytes:
        """Return it as line protocol."""
        return (
            f"{MARKER_MEASUREMENT} counted_pos={self.counted_pos}i,inbox_pos={self.inbox_pos}i,"
            f"life={string_field(self.life)},schema_version={schema_version}i,summed_ms={self.summed_ms}i 0\n"
        ).encode()


def read_marker(server: InfluxServer) -> Marker | None:
    """Return the server's marker, None when it has none; raise RefusedError when a newer program wrote it."""
    found = server.ask(
        f"SELECT life, inbox_pos, counted_pos, schema_version, summed_ms FROM {name(MARKER_MEASUREMENT)}",  # noqa: S608 - a name from a list
        tuple[int, str, int, int, int, int | None],
    )
    for table in found:
        for _, life, inbox_pos, counted_pos, version, summed_ms in table.rows:
            if version == UNFINISHED:
                raise RefusedError(
                    f"{server.login.place}: a copy into it is not finished: stop the server and run"
                    " agrigate store copy again"
                )
            if version != SCHEMA_VERSION:
                raise RefusedError(
                    f"{server.login.place}: store of schema {version}, this server knows {SCHEMA_VERSION}"
                )
            return Marker(
                life, inbox_pos, counted_pos, NEVER_MS if summed_ms is None else summed_ms
            )
    return None


NO_MARKER = Marker(life="", inbox_pos=0, counted_pos=0)
