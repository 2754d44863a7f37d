"""``agrigate decode``: bytes of an instrument to JSON lines, with what is wrong and where."""

from __future__ import annotations

import re
import sys
import time
import tomllib
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn

import click

from drivers.errors import ConfigError
from gateway import decode as decoding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.decode_input import Format

EXIT_SOME_BAD = 1
EXIT_USAGE = 2
_CHUNK_BYTES = 64 * 1024
_FIRST_BYTES = 64
_HEX_DIGITS = re.compile(rb"\s*(?:0x)?[0-9A-Fa-f]{2}[0-9A-Fa-fx\s:,;-]*")


@click.command()
@click.argument("protocol")
@click.argument(
    "file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True, allow_dash=True),
    default="-",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["raw", "hex", "text"]),
    default="raw",
    show_default=True,
    help="raw: the bytes; hex: pairs of digits; text: a log with bytes in it (Modbus), or what was printed (testers).",
)
@click.option(
    "--model",
    default="",
    help="Modbus: show the values of this register map, NAME or a file, or NAME:VARIANT.",
)
@click.option(
    "--settings",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Testers: a TOML file with keys of the device's table: items, labels, verdicts, …",
)
def decode(protocol: str, file: Path, form: Format, model: str, settings: Path | None) -> None:
    """Decode what an instrument sent: bytes of FILE (default: standard input) to JSON lines.

    PROTOCOL is modbus-rtu, modbus-tcp, slip, a rapid tester's profile (lz4000t, tl310, dy3000, …) or a file with one.
    Ends with 0 when all is good, 1 when some bytes are not, 2 when it cannot begin.
    """
    try:
        given = None if settings is None else tomllib.loads(settings.read_text("utf-8"))
        opened = decoding.open_protocol(
            protocol, model=model, settings=given, now_ms=time.time_ns() // 1_000_000
        )
    except ConfigError as exc:
        _fail("\n".join(exc.faults))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        _fail(f"{settings}: {exc}")
    all_good = True
    seen = _First()
    try:
        with click.open_file(str(file), "rb") as stream:
            for good, line in decoding.decode(opened, form, seen.chunks(stream)):
                all_good = all_good and good
                sys.stdout.buffer.write(line + b"\n")
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our lines has seen enough
    except OSError as exc:
        _fail(f"{file}: {exc}")
    if not all_good and form == "raw" and _HEX_DIGITS.fullmatch(seen.first):
        click.echo("these look like hexadecimal digits: try --format hex", err=True)
    sys.exit(0 if all_good else EXIT_SOME_BAD)


class _First:
    """Reads a file, and keeps how it begins."""

    def __init__(self) -> None:
        self.first = b""

    def chunks(self, stream: IO[bytes]) -> Iterator[bytes]:
        """Yield what has come, as it comes: a pipe may be a live line."""
        read = getattr(stream, "read1", stream.read)
        while chunk := read(_CHUNK_BYTES):
            self.first = self.first or chunk[:_FIRST_BYTES]
            yield chunk


def _fail(text: str) -> NoReturn:
    click.echo(text, err=True)
    sys.exit(EXIT_USAGE)
