"""``agrigate evidence``: fetch the evidence pack of an alert, check one, look after the keys that sign them."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from dashboards.cli import EXIT_FAILED, config_option, load_config

TIMEOUT_S = 120.0


@click.group()
def evidence() -> None:
    """Fetch and check evidence packs, look after the keys that sign them."""


@evidence.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--key",
    "key_file",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The public key: PEM, or base64 of 32 bytes.",
)
def verify(file: Path, key_file: Path) -> None:
    """Check the evidence pack FILE with a public key; needs no server. Ends with 1 when anything was changed."""
    from alerts.evidence.verify import public_key  # noqa: PLC0415 - --help stays quick
    from alerts.evidence.verify import verify as check  # noqa: PLC0415

    try:
        key = public_key(key_file.read_text("ascii"))
    except (ValueError, UnicodeDecodeError) as exc:
        raise click.ClickException(f"{key_file}: {exc}") from exc
    outcome = check(file, key)
    for fault in outcome.faults:
        click.echo(f"不符 FAULT  {fault}", err=True)
    if outcome.faults or outcome.manifest is None:
        click.echo(f"{file}: 未通过验证 / not valid", err=True)
        sys.exit(EXIT_FAILED)
    manifest = outcome.manifest
    made = datetime.fromtimestamp(manifest.made_ms / 1000, UTC).isoformat(timespec="seconds")
    click.echo(f"{file}: 签名与内容完好 / signature and content are whole")
    click.echo(f"  alert {manifest.alert_id} seq {manifest.alert_seq}, {outcome.checked} parts")
    click.echo(f"  made {made} by {manifest.product}, key {manifest.key_id}")
    for note in manifest.notes:
        click.echo(f"  {note.part}: {note.zh} / {note.en}")


@evidence.command()
@click.argument("alert_id")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="New file.")
@click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="The server.")
@click.option(
    "--key-file", type=click.Path(path_type=Path), help="File with the API key of the server."
)
def export(alert_id: str, output: Path, url: str, key_file: Path | None) -> None:
    """Write the evidence pack of ALERT_ID into a file; asks a running server."""
    import httpx  # noqa: PLC0415 - --help stays quick

    headers = {} if key_file is None else {"X-API-Key": key_file.read_text("ascii").strip()}
    address = f"{url}/api/v1/alerts/{alert_id}/evidence.zip"
    try:
        reply = httpx.get(address, headers=headers, timeout=TIMEOUT_S, trust_env=False)
    except httpx.HTTPError as exc:
        raise click.ClickException(f"{url}: {exc}; does the server run? (--url)") from exc
    if reply.is_error:
        raise click.ClickException(f"{reply.status_code}: {reply.text[:500]}")
    try:
        with output.open("xb") as file:
            file.write(reply.content)
    except OSError as exc:
        raise click.ClickException(f"{output}: {exc.strerror}") from exc
    click.echo(f"{output}: {len(reply.content)} bytes")


@evidence.command()
@config_option
@click.option("--rotate", is_flag=True, help="Make a new key first; packs made before stay valid.")
def key(file: Path, *, rotate: bool) -> None:
    """Print the public key that packs are signed for; give it to whoever checks them."""
    from alerts.evidence.keys import EvidenceKeyError, EvidenceKeys  # noqa: PLC0415

    keys = EvidenceKeys(load_config(file).data_dir)
    try:
        shown = keys.rotate() if rotate else keys.current()
    except (EvidenceKeyError, OSError) as exc:
        raise click.ClickException(str(exc)) from exc
    click.echo(f"# key {shown.id}", err=True)
    click.echo(shown.public_pem(), nl=False)
