"""``agrigate edge``: run the agent, check its configuration, read once, show its status."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

import click
import structlog

from drivers.errors import ConfigError
from gateway import agent_status, app, config, once
from gateway.errors import AgentError, NoStatusError
from gateway.schedule import Clock
from gateway.spool import SpoolError

EXIT_NOT_WELL = 1
EXIT_CONFIG = 2

config_option = click.option(
    "-c",
    "--config",
    "file",
    type=click.Path(path_type=Path),
    default=Path("edge.toml"),
    show_default=True,
    help="The agent's configuration.",
)


@click.group(invoke_without_command=True)
@config_option
@click.option(
    "--check", is_flag=True, help="Say all that is wrong with the configuration, and end."
)
@click.option(
    "--once", "read_once", is_flag=True, help="Read every point once, bytes beside values."
)
@click.pass_context
def edge(context: click.Context, file: Path, *, check: bool, read_once: bool) -> None:
    """Run the edge agent: poll the instruments, keep every record until the server has it."""
    context.obj = file
    if context.invoked_subcommand is not None:
        return
    configured = _load(file)
    if check:
        devices = sum(len(station.devices) for station in configured.stations)
        click.echo(f"{file}: good: {len(configured.stations)} stations, {devices} devices")
    elif read_once:
        _set_up_log()
        good = asyncio.run(once.read_once(configured, Clock(), click.echo))
        sys.exit(0 if good else EXIT_NOT_WELL)
    else:
        _set_up_log()
        try:
            asyncio.run(_run(configured))
        except (AgentError, SpoolError) as exc:
            _fail(str(exc), EXIT_NOT_WELL)


@edge.command()
@click.option("-c", "--config", "file", type=click.Path(path_type=Path), help="As for the agent.")
@click.option(
    "--lang",
    type=click.Choice(["zh", "en"]),
    help="Language of the text; default: what LANG asks for.",
)
@click.pass_context
def status(context: click.Context, file: Path | None, lang: agent_status.Lang | None) -> None:
    """Show queue, last receipt and devices of the agent on this machine; exit 0 when all is well."""
    try:
        directory = config.data_dir(file or context.obj)
        last = agent_status.read(directory)
    except ConfigError as exc:
        _fail("\n".join(exc.faults), EXIT_CONFIG)
    except NoStatusError as exc:
        _fail(f"{agent_status.CROSS} {exc}", EXIT_NOT_WELL)
    alive = agent_status.is_alive(last.pid)
    text, well = agent_status.render(
        last,
        agent_status.age_ms(last, Clock()),
        alive=alive,
        lang=lang or agent_status.language(os.environ),
    )
    click.echo(text)
    sys.exit(0 if well else EXIT_NOT_WELL)


async def _run(configured: config.EdgeConfig) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await app.run(configured, stop=stop)


def _load(file: Path) -> config.EdgeConfig:
    try:
        configured = config.load(file)
    except ConfigError as exc:
        _fail("\n".join(exc.faults), EXIT_CONFIG)
    for warning in configured.warnings:
        click.echo(f"warning: {warning}", err=True)
    return configured


def _fail(text: str, code: int) -> NoReturn:
    click.echo(text, err=True)
    sys.exit(code)


def _set_up_log() -> None:
    """Log to stderr: for people on a terminal, as JSON lines elsewhere."""
    terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=not terminal),
            *([] if terminal else [structlog.processors.format_exc_info]),
            structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    # Libraries report each failed attempt; the agent reports changes of state.
    for library in ("pymodbus", "mqtt"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
