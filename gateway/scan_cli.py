"""``agrigate scan``: find the Modbus units on a line."""

from __future__ import annotations

import asyncio
import sys

import click

from drivers.errors import LinkError
from drivers.modbus.session import open_link
from gateway import scan as scanning
from gateway.modbus_line import advice, line_of, line_options

EXIT_NOBODY = 1
_SHOWN_MODELS = 3
_SHOWN_BYTES = 24
_MANY = 200  # units that answer: the server does not look at the unit id


@click.command()
@line_options
@click.option("--units", default="1-247", show_default=True, help="Unit ids to ask: 1-10,17.")
@click.option(
    "--timeout",
    type=click.FloatRange(0.02, 10),
    default=0.3,
    show_default=True,
    help="Seconds to wait for each.",
)
@click.option(
    "--within",
    type=click.FloatRange(1, 7200),
    default=600.0,
    show_default=True,
    help="Seconds for all of it.",
)
@click.option(
    "--thorough",
    is_flag=True,
    help="Ask silent units in other ways too: takes several times as long.",
)
@click.option(
    "--models/--no-models",
    "name_models",
    default=True,
    show_default=True,
    help="Say which model it may be.",
)
def scan(
    *,
    units: str,
    timeout: float,
    within: float,
    thorough: bool,
    name_models: bool,
    **line_options: object,
) -> None:
    """Find the Modbus units on a line and which known models they may be: reads only, never writes.

    A model is named when it answers its own question for the unit id, its identity register is right, or all its
    registers answer with values that can be. Ends with 0 when somebody answers, 1 when nobody does, 2 for wrong usage.
    """
    line = line_of(**line_options)  # type: ignore[arg-type]  # click has checked them
    try:
        wanted = scanning.parse_units(units)
    except ValueError as exc:
        raise click.UsageError(f"--units: {exc}") from exc
    how = scanning.Scan(wanted, timeout, within, thorough=thorough, name_models=name_models)
    click.echo(
        f"{line.bus}: {len(wanted)} unit ids, at most {min(within, len(wanted) * timeout):.0f} s to hear who is there",
        err=True,
    )

    async def run() -> scanning.Found:
        link = open_link(line)
        try:
            return await scanning.scan(link, line, how, lambda text: click.echo(text, err=True))
        finally:
            await link.close()

    try:
        found = asyncio.run(run())
    except LinkError as exc:
        click.echo(f"the line does not work: {exc}", err=True)
        sys.exit(EXIT_NOBODY)
    _show(found)
    if not found.units and not found.queries:
        click.echo(advice(line), err=True)
        sys.exit(EXIT_NOBODY)


def _show(found: scanning.Found) -> None:
    for unit in found.units:
        click.echo(f"unit {unit.unit}: {_said(unit)}")
        for candidate in unit.candidates[:_SHOWN_MODELS]:
            click.echo(f"    {candidate.model}: {candidate.why}")
        more = len(unit.candidates) - _SHOWN_MODELS
        if more > 0:
            click.echo(
                f"    and {more} more that fit as well: only a known value can tell (agrigate probe)"
            )
    for query in found.queries:
        click.echo(query)
    for number, heard in found.noisy.items():
        click.echo(
            f"warning: unit {number}: bytes that are no answer ({heard[:_SHOWN_BYTES].hex(' ')}): "
            "two devices with this unit id may answer at once, or speed or parity are wrong; "
            "connect one device at a time"
        )
    if len(found.units) >= _MANY:
        click.echo(
            "warning: nearly every unit id answers: this server does not look at the unit id"
        )
    if found.stopped_at is not None:
        click.echo(
            f"warning: the time was over at unit {found.stopped_at}; more with --within or fewer --units"
        )
    click.echo(f"{len(found.units)} of {found.asked} unit ids answer")


def _said(unit: scanning.Unit) -> str:
    if unit.said.refusal:
        return f"answers (refuses register 0: exception {unit.said.refusal})"
    return "answers (register 0: " + " ".join(f"{word:04X}" for word in unit.said.registers) + ")"
