"""``[store]`` of ``server.toml``: which store keeps the readings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from gateway.broker import LoginReader
from ingest.store.influx.login import InfluxLogin

if TYPE_CHECKING:
    from pathlib import Path

LOOPBACK = {"127.0.0.1", "::1", "localhost"}


class StoreTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[store]``: DuckDB in the data directory, or an InfluxDB.

    InfluxDB 2 and 3 are told ``bucket``, ``org`` and ``token_file``; 1.8 and older ``database`` and, where it asks
    for them, ``username`` and ``password_file``. With a bucket, ``database`` and ``retention_policy`` name the DBRP
    mapping that is read through when they differ from the bucket's own.
    """

    kind: Literal["duckdb", "influxdb"] = "duckdb"
    url: str = ""
    bucket: str = ""
    org: str = ""
    token_file: str = ""
    database: str = ""
    retention_policy: str = ""
    username: str = ""
    password_file: str = ""
    gzip: bool = True
    ca_file: str = ""
    timeout_s: Annotated[float, Meta(gt=0, le=300)] = 10.0


def influx_login(
    table: StoreTable, directory: Path, where: str, faults: list[str], warnings: list[str]
) -> InfluxLogin | None:
    """Return the InfluxDB that ``table`` names, None for DuckDB; ``where`` begins each line of faults and warnings."""
    reader = LoginReader(directory, faults, warnings)
    if table.kind == "duckdb":
        faults += [
            f'{where}: {key}: needs kind = "influxdb"'
            for key in ("url", "bucket", "database", "token_file", "username", "password_file")
            if getattr(table, key)
        ]
        return None
    address = urlsplit(table.url)
    if address.scheme not in {"http", "https"} or not address.hostname:
        faults.append(f"{where}: url: {table.url!r} is no address; write http://127.0.0.1:8086")
    if address.username or address.password:
        faults.append(f"{where}: url: holds a password; put it into a file, name it password_file")
    if not table.bucket and not table.database:
        faults.append(f"{where}: bucket: is missing; name it, or the database of an InfluxDB 1")
    if table.token_file and table.username:
        faults.append(f"{where}: token_file: stands beside username; name one of them")
    if bool(table.username) != bool(table.password_file):
        faults.append(f"{where}: username: needs password_file, and the other way round")
    token = reader.secret(table.token_file, f"{where}: token_file")
    password = reader.secret(table.password_file, f"{where}: password_file")
    if (token or password) and address.scheme == "http" and address.hostname not in LOOPBACK:
        warnings.append(f"{where}: url: http sends the password readable to {address.hostname}")
    secret_file = table.token_file or table.password_file
    ca_file = directory / table.ca_file if table.ca_file else None
    if ca_file is not None and not ca_file.is_file():
        faults.append(f"{where}: ca_file: {ca_file}: is no file")
    return InfluxLogin(
        url=table.url.rstrip("/"),
        bucket=table.bucket,
        org=table.org,
        token=token or "",
        database=table.database,
        retention_policy=table.retention_policy,
        username=table.username,
        password=password or "",
        secret_file=directory / secret_file if secret_file else None,
        gzip=table.gzip,
        ca_file=ca_file,
        timeout_s=table.timeout_s,
    )
