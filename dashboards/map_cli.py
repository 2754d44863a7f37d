"""``agrigate map test``: what a message gives by the mappings of ``server.toml``, and what is wrong where."""

from __future__ import annotations

import json
import sys
import time
import tomllib
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click
import msgspec

from ingest.publishers import address
from ingest.publishers.mapping import compile_rules
from ingest.publishers.parsed import WHOLE, RecordError
from ingest.publishers.reader import MessageReader

if TYPE_CHECKING:
    from ingest.publishers.mapping import Rule
    from ingest.publishers.parsed import Parsed

EXIT_FAULTS, EXIT_USAGE = 1, 2
_SHANGHAI = timezone(timedelta(hours=8))


@click.group("map")
def map_group() -> None:
    """Try the mappings of messages that vendors' devices send."""


@map_group.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    help="server.toml, or any file with [[mapping]] tables; nothing else of it is read.",
)
@click.option(
    "--topic",
    help="Where the message came in; agri/v1/station/raw/device (senml without -c) if not given.",
)
def test(file: Path, config: Path | None, topic: str | None) -> None:
    """Print what the message in FILE (- is standard input) gives: JSON lines, readings and tests, then faults.

    Exit 0: all of it can be used. 1: some cannot, or nothing is in it. 2: a file, the topic or a mapping is wrong.
    """
    rules = _rules(config)
    channel = address.Channel.SENML if config is None else address.Channel.RAW
    topic = topic or f"agri/v1/station/{channel}/device"
    try:
        where = address.split(topic)
    except RecordError as exc:
        _end(f"--topic {topic}: {exc}")
    try:
        body = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as exc:
        _end(f"{file}: cannot be read: {exc.strerror}")
    reader = MessageReader(rules)
    rule = reader.rule_of(topic, where)
    if rule is not None:
        click.echo(f"mapping {rule.name!r}", err=True)
    parsed = reader.read(topic, body, time.time_ns() // 1_000_000)
    _print(parsed)
    if parsed.faults or not (parsed.values or parsed.tests):
        if not parsed.faults:
            click.echo("no record is in it", err=True)
        sys.exit(EXIT_FAULTS)


def _end(message: str) -> NoReturn:
    click.echo(message, err=True)
    sys.exit(EXIT_USAGE)


def _rules(config: Path | None) -> tuple[Rule, ...]:
    if config is None:
        return ()
    faults: list[str] = []
    try:
        root = tomllib.loads(config.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        _end(f"{config}: cannot be read: {exc}")
    rules = compile_rules(root.get("mapping", []), str(config), faults)
    if faults:
        _end("\n".join(faults))
    return rules


def _print(parsed: Parsed) -> None:
    for value in parsed.values:
        at = datetime.fromtimestamp(value.t_ms / 1000, _SHANGHAI)
        _line(
            index=value.position,
            device=value.device,
            indicator=value.indicator,
            value=value.value,
            time=at.isoformat(timespec="milliseconds"),
        )
    for position, record in parsed.tests:
        _line(index=position, test=json.loads(msgspec.json.encode(record)))
    for position, field, reason in parsed.faults:
        place = "message" if position == WHOLE else position
        _line(index=place, field=field, fault=reason)


def _line(**fields: object) -> None:
    click.echo(json.dumps(fields, ensure_ascii=False))
