"""``agrigate probe modbus``: find out how a device writes a value that its display shows."""

from __future__ import annotations

import asyncio
import sys

import click

from drivers.errors import LinkError
from drivers.modbus.fit import Expected
from drivers.modbus.session import open_link
from gateway import probe as probing
from gateway.modbus_line import advice, line_of, line_options

EXIT_NOTHING_FITS = 1
_MOST_REGISTERS = 125
_SHOWN = 8


@click.group()
def probe() -> None:
    """Find out how a device writes a value that is known: reads only, never writes."""


@probe.command()
@line_options
@click.option("--unit", type=click.IntRange(0, 255), required=True, help="The device's unit id.")
@click.option(
    "--address", type=click.IntRange(0, 65_535), required=True, help="The PDU address, 40001 is 0."
)
@click.option(
    "--count",
    type=click.IntRange(1, 64),
    default=2,
    show_default=True,
    help="Registers to look at.",
)
@click.option(
    "--near",
    type=click.IntRange(0, 30),
    default=4,
    show_default=True,
    help="Neighbours on each side.",
)
@click.option("--function", type=click.Choice(["3", "4"]), help="[default: 3, then 4]")
@click.option(
    "--expect", required=True, help="The value now, with the digits that the display shows: 229.01."
)
@click.option(
    "--tolerance", default="", help="How far off it may be. [default: half of the last digit]"
)
@click.option(
    "--timeout", type=click.FloatRange(0.05, 60), default=1.0, show_default=True, help="Seconds."
)
@click.option("--path", default="", help="For the printed TOML: the device's path.")
@click.option("--indicator", default="", help="For the printed TOML: what it measures.")
@click.option(
    "--in", "measured_in", default="", help="For the printed TOML: the unit of the value."
)
def modbus(
    *,
    unit: int,
    address: int,
    count: int,
    near: int,
    function: str | None,
    expect: str,
    tolerance: str,
    timeout: float,
    path: str,
    indicator: str,
    measured_in: str,
    **line_options: object,
) -> None:
    """Read registers round ADDRESS and print what reads them as the expected value, with TOML to paste.

    Tries every type, byte order and decimal scale, at the address and its neighbours. Ends with 0 when something fits,
    1 when nothing does or nobody answers, 2 for wrong usage.
    """
    line = line_of(**line_options)  # type: ignore[arg-type]  # click has checked them
    if count + 2 * near > _MOST_REGISTERS:
        raise click.UsageError(f"--count and --near: more than {_MOST_REGISTERS} registers")
    try:
        expected = Expected.of(expect, tolerance)
    except ValueError as exc:
        raise click.UsageError(f"--expect, --tolerance: {exc}") from exc
    question = probing.Question(
        unit=unit,
        address=address,
        count=count,
        near=near,
        functions=(3, 4) if function is None else (int(function),),
        expected=expected,
        timeout_s=timeout,
    )

    link = open_link(line)

    async def run() -> probing.Answer:
        try:
            return await probing.probe(link, line, question)
        finally:
            await link.close()

    try:
        answer = asyncio.run(run())
    except LinkError as exc:
        click.echo(f"no answer: {exc}", err=True)
        if link.request:  # the line itself works
            click.echo(advice(line), err=True)
        sys.exit(EXIT_NOTHING_FITS)
    _show(answer)
    if not answer.registers:
        click.echo(
            "the unit answers, but has no register here: addresses count from 0, so that 40001 is 0",
            err=True,
        )
        sys.exit(EXIT_NOTHING_FITS)
    if not answer.fits:
        click.echo(
            f"nothing here reads as {expect}: look at more registers (--near), or take a value that stands still",
            err=True,
        )
        sys.exit(EXIT_NOTHING_FITS)
    for number, fit in enumerate(answer.fits[:_SHOWN], start=1):
        click.echo(f"# {number}. {probing.describe(fit, question)}")
    if len(answer.fits) > _SHOWN:
        click.echo(f"# and {len(answer.fits) - _SHOWN} less likely ones")
    if expected.value == 0:
        click.echo(
            "# 0 reads as 0 in every type and order: probe again while the value is something else"
        )
    elif len(answer.fits) > 1:
        click.echo(
            "# more than one fits: probe again when the value has changed, and give all its digits"
        )
    click.echo()
    click.echo(
        probing.device_table(
            line, question, answer.fits[0], path=path, indicator=indicator, unit=measured_in
        )
    )


def _show(answer: probing.Answer) -> None:
    for row in probing.dump(answer.registers):
        click.echo(f"# read: {row}")
    for trouble in dict.fromkeys((*answer.refusals, *answer.troubles)):
        click.echo(f"# {trouble}")
