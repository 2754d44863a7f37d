"""What is wrong with an InfluxDB, in one line; the first thing that must be put right."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ingest.store.influx.errors import InfluxError, RefusedError, RejectedError
from ingest.store.influx.influxql import name
from ingest.store.influx.line_protocol import MEASUREMENT
from ingest.store.influx.marker import read_marker

if TYPE_CHECKING:
    from ingest.store.influx.server import InfluxServer

CHECK_MEASUREMENT = "agrigate_check"
SKEW_MAX_S = 60.0
_TYPES = {"v": "float"} | dict.fromkeys(("q", "flags", "received_ms", "inbox_pos"), "integer")


class CheckError(Exception):
    """One line that says what is wrong and what to do."""


def check(server: InfluxServer) -> str:
    """Return one line about a server that can be used; raise CheckError about one that cannot.

    One point is written to ``agrigate_check`` and read back.
    """
    login = server.login
    try:
        version = server.version()
        skew_s = server.clock_ahead_s()
    except RefusedError as exc:
        raise CheckError(str(exc)) from exc
    except InfluxError as exc:
        raise CheckError(f"unreachable: {exc}; does it run, and is the port open?") from exc
    _check_reading(server, version)
    begun = time.perf_counter()
    token = time.time_ns()
    _check_writing(server, token)
    found = server.ask(f"SELECT token FROM {name(CHECK_MEASUREMENT)}", tuple[int, int])  # noqa: S608 - a name from a list
    if not any(row[1] == token for table in found for row in table.rows):
        raise CheckError(
            f"{login.place}: what is written is not found by /query: database {login.asked_database!r} is mapped to"
            " another bucket (see docs/influxdb.md, DBRP)"
        )
    took_ms = (time.perf_counter() - begun) * 1000
    _check_types(server)
    if abs(skew_s) > SKEW_MAX_S:
        raise CheckError(f"{login.place}: its clock is {skew_s:+.0f} s from ours; set both by NTP")
    known = f"InfluxDB {version}" if version else "InfluxDB of unknown version"
    return f"{login.place}: good: {known}, written and read back in {took_ms:.0f} ms"


def _check_reading(server: InfluxServer, version: str) -> None:
    login = server.login
    try:
        read_marker(server)
    except RefusedError as exc:
        told = str(exc)
        if ("not found" in told or "dbrp" in told) and not version.startswith(("1.", "v1.")):
            raise CheckError(
                f"{told} – or make the DBRP mapping that /query needs: influx v1 dbrp create --default"
                f" --db {login.asked_database} --rp autogen --bucket-id ID"
            ) from exc
        if "database not found" in told:
            raise CheckError(
                f"{told}: influx -execute 'CREATE DATABASE \"{login.asked_database}\"'"
            ) from exc
        raise CheckError(told) from exc
    except InfluxError as exc:
        raise CheckError(f"cannot be read: {exc}") from exc


def _check_writing(server: InfluxServer, token: int) -> None:
    try:
        server.write(f"{CHECK_MEASUREMENT} token={token}i 0\n".encode())
    except RefusedError as exc:
        if ": 403 " in str(exc) or ": 401 " in str(exc):
            raise CheckError(f"{exc}; reading works: the token is read-only") from exc
        raise CheckError(str(exc)) from exc
    except RejectedError as exc:
        if "retention policy" in exc.reason:
            raise CheckError(
                f"{server.login.place}: the bucket forgets; let it keep for ever: [retention] drops what is old"
            ) from exc
        raise CheckError(f"{server.login.place}: rejects what is written: {exc}") from exc
    except InfluxError as exc:
        raise CheckError(f"cannot be written: {exc}") from exc


def _check_types(server: InfluxServer) -> None:
    found = server.ask(f"SHOW FIELD KEYS FROM {name(MEASUREMENT)}", tuple[str, str])
    for table in found:
        for field, kind in table.rows:
            if field in _TYPES and kind != _TYPES[field]:
                raise CheckError(
                    f"{server.login.place}: type conflict: field {field} of measurement {MEASUREMENT} is {kind} there,"
                    f" agrigate writes {_TYPES[field]}: give it a bucket of its own, or drop that measurement"
                )
