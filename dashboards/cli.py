"""``agrigate serve``: the server side. ``agrigate station``: who may deliver."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from urllib.parse import quote

import click
import httpx
import structlog

from dashboards import server_config
from drivers.errors import ConfigError

EXIT_FAILED = 1
EXIT_CONFIG = 2
TIMEOUT_S = 10.0

config_option = click.option(
    "-c",
    "--config",
    "file",
    type=click.Path(path_type=Path),
    default=Path("server.toml"),
    show_default=True,
    help="The server's configuration.",
)


def _load(file: Path) -> server_config.ServerConfig:
    try:
        return server_config.load(file)
    except ConfigError as exc:
        click.echo("\n".join(exc.faults), err=True)
        sys.exit(EXIT_CONFIG)


@click.command()
@config_option
@click.option(
    "--check", is_flag=True, help="Say all that is wrong with the configuration, and end."
)
def serve(file: Path, *, check: bool) -> None:
    """Run the server: ingest, judge, store, alerts, pages."""
    from dashboards import serve as process  # noqa: PLC0415 - --help and --check stay quick
    from ingest.registry import files  # noqa: PLC0415

    config = _load(file)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    try:
        if check:
            registry = files.load(config.registry)
            click.echo(f"{file}: good: {len(registry.stations)} stations")
            return
        process.run(config)
    except ConfigError as exc:
        click.echo("\n".join(exc.faults), err=True)
        sys.exit(EXIT_CONFIG)
    except process.ServeError as exc:
        click.echo(str(exc), err=True)
        sys.exit(EXIT_FAILED)


@click.group()
@click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="The server.")
@click.option(
    "--key-file", type=click.Path(path_type=Path), help="File with the API key, for writing."
)
@click.pass_context
def station(context: click.Context, url: str, key_file: Path | None) -> None:
    """Ask and tell a running server about stations."""
    headers = {} if key_file is None else {"X-API-Key": _key(key_file)}
    context.obj = context.with_resource(
        httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S, trust_env=False)
    )


def _key(file: Path) -> str:
    try:
        return file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise click.ClickException(f"--key-file {file}: cannot be read: {exc}") from exc


def _ask(
    client: httpx.Client, method: str, path: str, body: dict[str, str] | None = None
) -> dict[str, list[dict[str, object]]]:
    """Return the server's answer; raise ClickException when there is none, or when it says no."""
    try:
        response = client.request(method, f"/api/v1{path}", json=body)
        answer: dict[str, list[dict[str, object]]] = response.json()
    except httpx.HTTPError as exc:
        raise click.ClickException(
            f"{client.base_url}: {exc}; does the server run? (--url)"
        ) from exc
    except ValueError as exc:
        raise click.ClickException(
            f"{client.base_url}: answers, but is no Agrigate server"
        ) from exc
    if response.is_error:
        raise click.ClickException(f"{response.status_code}: {answer.get('detail')}")
    return answer


@station.command("list")
@click.pass_obj
def list_stations(client: httpx.Client) -> None:
    """Print every station with its state, key state and queue."""
    stations = _ask(client, "GET", "/stations")["stations"]
    for row in stations:
        queue = "-" if row["queue"] is None else row["queue"]
        click.echo(
            f"{row['code']:<24} {row['state']:<8} {row['key_state']:<9} {queue:>6}  {row['name']}"
        )


@station.command()
@click.argument("code")
@click.argument("key", required=False)
@click.pass_obj
def approve(client: httpx.Client, code: str, key: str | None) -> None:
    """Approve the gateway KEY of station CODE; without KEY, the only one that waits."""
    if key is None:
        keys = _ask(client, "GET", f"/stations/{quote(code, safe='')}")["keys"]
        waiting = [str(row["key"]) for row in keys if row["state"] == "pending"]
        if not waiting:
            raise click.ClickException(
                f"{code}: no key is waiting; a gateway's key comes with its first status"
            )
        if len(waiting) > 1:
            raise click.ClickException(
                f"{code}: {len(waiting)} keys are waiting; name one of {', '.join(waiting)}"
            )
        key = waiting[0]
    _ask(client, "POST", f"/stations/{quote(code, safe='')}/keys/approve", {"key": key})
    click.echo(f"{code}: approved {key}")
