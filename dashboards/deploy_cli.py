"""``agrigate deploy``: configure what stands beside the server, from what the server knows."""

from __future__ import annotations

import time
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
import httpx

from dashboards.cli import config_option
from dashboards.server_config import (
    DeployTable,
    OperationalLogin,
    ServerTable,
    read_operational,
)
from drivers.device_table import read_table

if TYPE_CHECKING:
    from ingest.broker.mosquitto import Accounts, Deployed, Listener

TIMEOUT_S = 10.0
PORT = 8883


@click.group()
def deploy() -> None:
    """Write the configuration of what stands beside the server: its broker."""


@deploy.command()
@config_option
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="Name or address by which clients reach the broker; again for each further one."
    " The first is the server's own way. Default: host in [deploy].",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="Where the files are written, and read by mosquitto.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help=f"TCP port for TLS. Default: port in [deploy], else {PORT}.",
)
@click.option("--require-certificate", is_flag=True, help="Clients need a certificate, too.")
@click.option("--user", default="mosquitto", show_default=True, help="User that mosquitto runs as.")
@click.option("--max-connections", type=click.IntRange(1), default=1000, show_default=True)
@click.option(
    "--persistence",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Keep sessions of other clients over a restart, in DIR. Agrigate needs none.",
)
@click.option("--offline", is_flag=True, help="The server is stopped: read its database directly.")
@click.option("--renew-ingest", is_flag=True, help="Make new passwords for the server itself.")
def mosquitto(
    file: Path,
    hosts: tuple[str, ...],
    out: Path,
    port: int | None,
    user: str,
    max_connections: int,
    persistence: Path | None,
    *,
    require_certificate: bool,
    offline: bool,
    renew_ingest: bool,
) -> None:
    """Write a mosquitto configuration: TLS, passwords, access list, limits; and the server's own login.

    Stations come from the registry. Run it again after each change; it writes over no file that it did not write.
    """
    from ingest.broker import mosquitto as broker  # noqa: PLC0415 - --help stays quick
    from ingest.broker.pki import PkiError  # noqa: PLC0415

    server = _read(file)
    site = server.site
    hosts = hosts or ((site.host,) if site else ())
    if not hosts:
        raise click.UsageError("--host is missing, and so is [deploy] in the configuration")
    if site is not None and site.host not in hosts:
        raise click.UsageError(
            f"--host {site.host} is missing: [deploy] gives that name to stations; add it"
        )
    listener = broker.Listener(
        hosts=tuple(dict.fromkeys(hosts)),
        directory=out.absolute(),
        port=port or (site.port if site else PORT),
        require_certificate=require_certificate,
        max_connections=max_connections,
        persistence=None if persistence is None else persistence.absolute(),
    )
    if site is not None and site.port != listener.port:
        click.echo(
            f"note: [deploy] gives port {site.port} to stations, the broker listens on {listener.port}"
        )
    try:
        if offline:
            done = _deploy_stopped(server, listener, renew_ingest=renew_ingest)
        else:
            accounts = _ask(server)
            done = broker.deploy(
                listener, accounts, server.data_dir, now_ms=_now_ms(), renew_ingest=renew_ingest
            )
        todo = broker.hand_over(listener.directory, user)
    except (broker.DeployError, PkiError) as exc:
        raise click.ClickException(str(exc)) from exc
    except OSError as exc:
        raise click.ClickException(f"{exc.filename or out}: {exc.strerror}") from exc
    for line in _said(done, listener, file, todo):
        click.echo(line)


@dataclass(frozen=True, slots=True)
class _Server:
    """What of ``server.toml`` is needed; its ``[broker]`` may name a file that is only written here."""

    file: Path
    data_dir: Path
    url: str
    api_key_file: Path | None
    site: DeployTable | None
    operational: OperationalLogin


def _read(file: Path) -> _Server:
    try:
        root = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise click.ClickException(f"{file}: cannot be read: {exc}") from exc
    faults: list[str] = []
    server = read_table(ServerTable, root.get("server", {}), f"{file}: [server]", faults)
    site = None
    if "deploy" in root:
        site = read_table(DeployTable, root["deploy"], f"{file}: [deploy]", faults)
    operational = read_operational(root, file, faults)
    if server is None or faults:
        raise click.ClickException("\n".join(faults))
    anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - replaced by the machine itself
    host = anywhere.get(server.host, server.host)
    return _Server(
        file,
        file.parent / server.data_dir,
        f"http://{f'[{host}]' if ':' in host else host}:{server.port}",
        file.parent / server.api_key_file if server.api_key_file else None,
        site,
        operational,
    )


def _ask(server: _Server) -> Accounts:
    """Return what the running server says; raise ClickException when there is none, or when it says no."""
    from ingest.broker.mosquitto import Accounts  # noqa: PLC0415

    if server.api_key_file is None:
        raise click.ClickException(
            f"{server.file}: [server]: api_key_file: is needed to ask the running server;"
            " or stop it and use --offline"
        )
    try:
        key = server.api_key_file.read_text("ascii").strip()
        with httpx.Client(timeout=TIMEOUT_S, trust_env=False) as client:
            response = client.get(
                f"{server.url}/api/v1/broker/credentials", headers={"X-API-Key": key}
            )
        answer = response.json()
        if response.is_error:
            raise click.ClickException(f"{server.url}: {response.status_code}: {answer['detail']}")
        stations = {row["username"]: row["password_hash"] for row in answer["credentials"]}
        return Accounts(stations, answer["revoked_serials"])
    except (OSError, UnicodeDecodeError) as exc:
        raise click.ClickException(
            f"{server.api_key_file}: cannot be read: {exc}; the server's first start writes it,"
            " before that use --offline"
        ) from exc
    except httpx.HTTPError as exc:
        raise click.ClickException(
            f"{server.url}: {exc}; does the server run? When it is stopped, use --offline"
        ) from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise click.ClickException(f"{server.url}: answers, but is no Agrigate server") from exc


def _deploy_stopped(server: _Server, listener: Listener, *, renew_ingest: bool) -> Deployed:
    """Deploy with the data directory's lock held; its database is made when there is none yet."""
    import alembic.util  # noqa: PLC0415 - --help stays quick
    import sqlalchemy as sa  # noqa: PLC0415

    from dashboards.serve import ServeError, only_one  # noqa: PLC0415
    from ingest.broker.mosquitto import Accounts, deploy  # noqa: PLC0415
    from ingest.operational import Operational, SchemaError  # noqa: PLC0415
    from ingest.registry import credentials  # noqa: PLC0415

    login = server.operational
    database = login.url or f"sqlite:///{server.data_dir / 'operational.db'}"
    try:
        with only_one(server.data_dir):
            operational = Operational(database, password=login.password)
            try:
                operational.migrate()
                with operational.read() as connection:
                    stations = {
                        one.username: one.password_hash for one in credentials.standing(connection)
                    }
                    accounts = Accounts(stations, credentials.revoked_serials(connection))
            finally:
                operational.close()
            return deploy(
                listener, accounts, server.data_dir, now_ms=_now_ms(), renew_ingest=renew_ingest
            )
    except ServeError as exc:
        raise click.ClickException(f"{exc}; or leave --offline away and ask it") from exc
    except (SchemaError, alembic.util.CommandError, sa.exc.SQLAlchemyError) as exc:
        raise click.ClickException(f"{database}: {exc}") from exc


def _said(done: Deployed, listener: Listener, file: Path, todo: list[str]) -> list[str]:
    """Return what was done and what is to be done, for a person."""
    conf = listener.directory / "agrigate.conf"
    written = [name for name in done.changed if name != "crl.pem"]
    lines = [
        f"{listener.directory}: {', '.join(written) or 'nothing but the revocation list'} written"
    ]
    for what, names in (("let in", done.added), ("let in no more", done.removed)):
        if names:
            lines.append(f"stations {what}: {', '.join(names)}")
    if done.renewed:
        lines.append(f"new: {', '.join(done.renewed)}")
    lines.append(
        f"certificates end: server {_day(done.server_expires_ms)}, authority {_day(done.ca_expires_ms)}"
    )
    steps = list(todo)
    if done.first:
        steps.append(
            f"include_dir {listener.directory}   # in mosquitto.conf, or mosquitto -c {conf}"
        )
        steps.append(f'enrolment = "{done.enrolment}"   # in [broker] of {file}')
    if done.restart:
        steps.append("restart mosquitto (a listener's settings are read at its start only)")
    else:
        steps.append("reload mosquitto: systemctl reload mosquitto, or SIGHUP")
    if not done.first and "agri_ingest" in done.renewed:
        steps.append("restart agrigate serve: its own login is new")
    return [*lines, "to do:", *(f"  {step}" for step in steps)]


def _day(t_ms: int) -> str:
    return datetime.fromtimestamp(t_ms / 1000, UTC).strftime("%Y-%m-%d")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
