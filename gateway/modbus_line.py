"""What ``agrigate probe`` and ``agrigate scan`` share: the options that name a line, and one question on it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, get_args

import click

from drivers.errors import DeviceError, FrameError, LinkError
from drivers.modbus.frames import read_reply
from drivers.modbus.lines import BAUDS, Format, SerialLine, TcpLine

if TYPE_CHECKING:
    from collections.abc import Callable

    from drivers.modbus.lines import Line
    from drivers.modbus.link import Link

_FORMATS = get_args(Format)
_BRIDGE = (10, 11)  # a bridge speaks for a device that does not answer
_READ = struct.Struct(">BHH")

_Command = TypeVar("_Command", bound="Callable[..., object]")


def line_options(command: _Command) -> _Command:
    """Add the options of ``line_of`` to a command."""
    options = [
        click.option("--host", help="Modbus TCP: the device or the bridge."),
        click.option(
            "--port", type=click.IntRange(1, 65_535), help="Modbus TCP port. [default: 502]"
        ),
        click.option("--serial", help="The serial port, best by /dev/serial/by-path."),
        click.option(
            "--baud", type=click.Choice([str(baud) for baud in BAUDS]), help="[default: 9600]"
        ),
        click.option("--format", "form", type=click.Choice(_FORMATS), help="[default: 8N1]"),
        click.option(
            "--framing",
            type=click.Choice(["tcp", "rtu", "ascii"]),
            help="tcp or rtu (serial frames inside TCP) with --host, rtu or ascii with --serial.",
        ),
        click.option("--echo", is_flag=True, help="The adapter sends back what is written to it."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def line_of(
    *,
    host: str | None,
    port: int | None,
    serial: str | None,
    baud: str | None,
    form: Format | None,
    framing: str | None,
    echo: bool,
) -> Line:
    """Return the line that the options name; raise click.UsageError when they contradict each other."""
    if bool(host) == bool(serial):
        raise click.UsageError("give either --host or --serial")
    if host:
        if baud or form or echo:
            raise click.UsageError("--baud, --format and --echo belong to --serial")
        if framing == "ascii":
            raise click.UsageError("--framing ascii is for --serial; with --host use tcp or rtu")
        return TcpLine(host, port or 502, "rtu" if framing == "rtu" else "tcp")
    if port:
        raise click.UsageError("--port belongs to --host")
    if framing == "tcp":
        raise click.UsageError("--framing tcp is for --host; with --serial use rtu or ascii")
    if form is not None and form[0] == "7" and framing != "ascii":
        raise click.UsageError(f"--format {form} has 7 data bits; rtu needs 8")
    return SerialLine(
        path=serial or "",
        baud=int(baud or 9600),
        format=form or "8N1",
        framing="ascii" if framing == "ascii" else "rtu",
        echo=echo,
    )


def advice(line: Line) -> str:
    """Return what to try when nobody answers on ``line``."""
    if isinstance(line, TcpLine) and line.framing == "tcp":
        return "try --framing rtu: a converter may pass serial frames through; and look at --host and --port"
    if isinstance(line, TcpLine):
        return "try --framing tcp; and look at the converter's own speed and format, and at A and B"
    return (
        f"asked at {line.baud} {line.format} {line.framing}: try --baud 4800 or 9600, --format 8E1 or 8N2, "
        "look at the power, and swap A and B"
    )


def line_keys(line: Line) -> list[str]:
    """Return the keys of a device's table that name ``line``, as TOML."""
    match line:
        case TcpLine():
            keys = [f"host = {quoted(line.host)}", f"port = {line.port}"]
            return [*keys, 'framing = "rtu"'] if line.framing == "rtu" else keys
        case SerialLine():
            keys = [
                f"serial = {quoted(line.path)}",
                f"baud = {line.baud}",
                f"format = {quoted(line.format)}",
            ]
            keys += ['framing = "ascii"'] if line.framing == "ascii" else []
            return [*keys, "echo = true"] if line.echo else keys


def quoted(text: str) -> str:
    """Return ``text`` as a basic string of TOML."""
    plain = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08X}" for c in plain) + '"'


@dataclass(frozen=True, slots=True)
class Read:
    """What became of one read: registers, or the refusal's code."""

    registers: tuple[int, ...] = ()
    refusal: int = 0
    unit: int = 0
    """Who answered."""


async def ask(
    link: Link,
    line: Line,
    unit: int,
    read: tuple[int, int, int],
    timeout_s: float,
    *,
    reply_unit: int | None = -1,
) -> Read:
    """Read (function, address, count) once; ``reply_unit`` None takes anybody's answer.

    Raises LinkError after silence, FrameError for an answer that does not fit.
    """
    function, address, count = read
    who = unit if reply_unit == -1 else reply_unit
    pdu = _READ.pack(function, address, count)
    answer = await link.exchange(line, unit, pdu, timeout_s, reply_unit=who, exact=True)
    try:
        words = read_reply(answer.pdu, function, count)
    except DeviceError as exc:
        if exc.code in _BRIDGE:
            raise LinkError(f"unit {unit} at {line.bus} did not answer: {exc}") from exc
        return Read(refusal=exc.code or 0, unit=_unit(line, answer.reply, unit))
    except FrameError as exc:
        if count:  # a read of nothing may be answered with the id in a register
            raise FrameError(str(exc), raw=answer.reply, offset=exc.offset) from exc
        held = (len(answer.pdu) - 2) // 2
        words = struct.unpack_from(f">{held}H", answer.pdu, 2) if held > 0 else ()
    return Read(words, unit=_unit(line, answer.reply, unit))


def _unit(line: Line, reply: bytes, asked: int) -> int:
    """Return the unit id in a reply's bytes."""
    if line.framing == "ascii":
        return int(reply[1:3], 16)
    at = 6 if line.framing == "tcp" else 0
    return reply[at] if len(reply) > at else asked
