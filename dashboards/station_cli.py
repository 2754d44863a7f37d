"""``agrigate station``: enrol stations, decide about gateway keys, see what they say; asks a running server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import click
import httpx

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_S = 10.0


@click.group()
@click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="The server.")
@click.option(
    "--key-file", type=click.Path(path_type=Path), help="File with the API key, for writing."
)
@click.pass_context
def station(context: click.Context, url: str, key_file: Path | None) -> None:
    """Enrol stations, decide about their gateways' keys: asks a running server."""
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
    client: httpx.Client, method: str, path: str, body: Mapping[str, object] | None = None
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


def _of(code: str) -> str:
    return f"/stations/{quote(code, safe='')}"


# ---- seeing


@station.command("list")
@click.pass_obj
def list_stations(client: httpx.Client) -> None:
    """Print every station: code, state, key state, packs waiting, name, alarms."""
    for row in _ask(client, "GET", "/stations")["stations"]:
        queue = "-" if row["queue"] is None else row["queue"]
        alarms = row["alarms"]
        said = " ".join(f"!{alarm}" for alarm in alarms) if isinstance(alarms, list) else ""
        click.echo(
            f"{row['code']:<24} {row['state']:<8} {row['key_state']:<9} {queue:>6}"
            f"  {row['name']}  {said}".rstrip()
        )


@station.command()
@click.argument("code")
@click.pass_obj
def keys(client: httpx.Client, code: str) -> None:
    """Print the gateway keys that spoke for station CODE, with their state."""
    for row in _ask(client, "GET", _of(code))["keys"]:
        click.echo(f"{row['state']:<9} {row['key']}")


# ---- enrolling


@station.command()
@click.argument("code")
@click.option("--name", default="", help="What the pages show; needed for a new station.")
@click.option("--name-en", default="", help="The same in English.")
@click.option(
    "--type", "station_type", default="base", show_default=True, help="What kind of place it is."
)
@click.option(
    "--region", default="", help="6, 9 or 12 digits of its division; needed for a new station."
)
@click.option("--base", help="The production base that it belongs to.")
@click.option("--lon", type=float, help="Degrees, WGS 84.")
@click.option("--lat", type=float, help="Degrees, WGS 84.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The file to write; CODE.enrolment.toml if blank.",
)
@click.option("--certificate", is_flag=True, help="With a client certificate beside the password.")
@click.option(
    "--renew", is_flag=True, help="End the credential that the station has; make another."
)
@click.pass_obj
def add(
    client: httpx.Client,
    *,
    code: str,
    name: str,
    name_en: str,
    station_type: str,
    region: str,
    base: str | None,
    lon: float | None,
    lat: float | None,
    out: Path | None,
    certificate: bool,
    renew: bool,
) -> None:
    """Register station CODE, make its broker credential, write the enrolment file for its gateway."""
    file = out or Path(f"{code}.enrolment.toml")
    if file.exists() and not renew:
        raise click.ClickException(f"{file}: is there already; move it away, or name another --out")
    fresh = file.with_name(f".{file.name}.new")
    # Before anything is asked for: the server says the password once.
    try:
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as exc:
        raise click.ClickException(f"{file}: cannot be written: {exc.strerror}") from exc
    body = {
        "code": code,
        "name": name,
        "name_en": name_en,
        "station_type": station_type,
        "region_code": region,
        "base_id": base,
        "lon": lon,
        "lat": lat,
        "certificate": certificate,
        "renew": renew,
    }
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            answer = _ask(client, "POST", "/stations", body)
            handle.write(str(answer["enrolment"]))
            handle.flush()
            os.fsync(handle.fileno())
        fresh.rename(file)
    except OSError as exc:
        raise click.ClickException(
            f"{file}: cannot be written: {exc.strerror}; the credential is made and lost:"
            f" agrigate station add {code} --renew"
        ) from exc
    finally:
        fresh.unlink(missing_ok=True)
    click.echo(_next_steps(code, file, ended=bool(answer["renewed"])))


def _next_steps(code: str, file: Path, *, ended: bool) -> str:
    until = " Until then the broker knows the old credential only." if ended else ""
    return f"""{file}: holds the password of {code}; nothing else does. Next:
1. agrigate deploy mosquitto, then reload the broker: it lets {code} in.{until}
2. Bring {file.name} to the gateway, mode 0600, beside its edge.toml, and name it there:
   [[station]]
   code = "{code}"
   enrolment = "{file.name}"
3. Start the agent. Delete {file} here.
4. agrigate station approve {code}: its packs come at once."""


# ---- deciding about keys


@station.command()
@click.argument("code")
@click.argument("key", required=False)
@click.pass_obj
def approve(client: httpx.Client, code: str, key: str | None) -> None:
    """Approve the gateway KEY of station CODE; without KEY, the only one that waits."""
    key = key or _waiting(client, code)
    _ask(client, "POST", f"{_of(code)}/keys/approve", {"key": key})
    click.echo(f"{code}: approved {key}")


@station.command()
@click.argument("code")
@click.argument("key", required=False)
@click.pass_obj
def replace(client: httpx.Client, code: str, key: str | None) -> None:
    """Let the gateway KEY take over station CODE; the one before it may still deliver what it has."""
    key = key or _waiting(client, code)
    _ask(client, "POST", f"{_of(code)}/keys/replace", {"key": key})
    click.echo(f"{code}: {key} took over; the key before it may still deliver what it began")


@station.command()
@click.argument("code")
@click.argument("key")
@click.pass_obj
def refuse(client: httpx.Client, code: str, key: str) -> None:
    """Take nothing more from the gateway KEY of station CODE: it is stolen, or foreign."""
    _ask(client, "POST", f"{_of(code)}/keys/refuse", {"key": key})
    click.echo(f"{code}: refused {key}")


def _waiting(client: httpx.Client, code: str) -> str:
    """Return the only key that waits; raise ClickException when there is none, or a choice."""
    rows = _ask(client, "GET", _of(code))["keys"]
    waiting = [str(row["key"]) for row in rows if row["state"] == "pending"]
    if not waiting:
        raise click.ClickException(
            f"{code}: no key is waiting; a gateway's key comes with its first status"
        )
    if len(waiting) > 1:
        raise click.ClickException(
            f"{code}: {len(waiting)} keys are waiting; name one of {', '.join(waiting)}"
        )
    return waiting[0]


# ---- keys of devices that send records over HTTP


@station.group("record-key")
def record_key() -> None:
    """Keys for POST /api/v1/records: made for a station or one of its devices, listed, revoked."""


@record_key.command("add")
@click.argument("code")
@click.option(
    "--device", default="", help="Its path; without it the key is for any of the station."
)
@click.option("--name", default="", help="Who has the key; the device, or CODE, if not given.")
@click.pass_obj
def add_record_key(client: httpx.Client, code: str, device: str, name: str) -> None:
    """Make a key for station CODE and print it; it is shown once."""
    body = {"name": name or device or code, "device": device}
    answer = _ask(client, "POST", f"{_of(code)}/record-keys", body)
    click.echo(answer["key"])
    click.echo(f"{code}: key {answer['id']}; end it with: record-key revoke", err=True)


@record_key.command("list")
@click.argument("code")
@click.pass_obj
def list_record_keys(client: httpx.Client, code: str) -> None:
    """Print the keys of station CODE: state, id, device, name."""
    for row in _ask(client, "GET", f"{_of(code)}/record-keys")["keys"]:
        state = "stands" if row["revoked_ms"] is None else "revoked"
        click.echo(f"{state:<8} {row['id']}  {row['device'] or '*'}  {row['name']}")


@record_key.command("revoke")
@click.argument("code")
@click.argument("key_id", metavar="ID")
@click.pass_obj
def revoke_record_key(client: httpx.Client, code: str, key_id: str) -> None:
    """Let the key ID of station CODE in no more."""
    _ask(client, "DELETE", f"{_of(code)}/record-keys/{quote(key_id, safe='')}")
    click.echo(f"{code}: revoked {key_id}")
