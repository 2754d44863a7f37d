"""``agrigate edge --once``: read every point once and show the bytes beside what was made of them."""

from __future__ import annotations

import asyncio
from itertools import groupby
from typing import TYPE_CHECKING

from drivers.errors import DriverError
from drivers.indicators import catalogue
from gateway.bus import POLL_AT_MOST_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from drivers.session import RawReading
    from gateway import config
    from gateway.schedule import Clock


async def read_once(edge: config.EdgeConfig, clock: Clock, show: Callable[[str], None]) -> bool:
    """Poll every device once, bus by bus; return whether every point gave a good value.

    Instruments that push are left alone: a result taken here would not reach the spool.
    """
    all_good = True
    for station in edge.stations:
        for device in station.devices:
            show(
                f"{station.code} {device.config.path}  ({device.driver.name}, {device.config.bus})"
            )
            if device.driver.polled is None:
                show("    listens; results come when the instrument sends them")
                continue
            good = await _read_device(device, clock, show)
            all_good = all_good and good
    return all_good


async def _read_device(device: config.Device, clock: Clock, show: Callable[[str], None]) -> bool:
    open_session = device.driver.polled
    if open_session is None:
        raise TypeError(f"driver {device.driver.name} does not poll")
    session = open_session(device.config, clock.wall_ms)
    try:
        async with asyncio.timeout(POLL_AT_MOST_S):
            raws = await session.poll(device.config)
    except (DriverError, TimeoutError) as exc:
        show(f"    {type(exc).__name__}: {exc}")
        return False
    finally:
        await session.close()
    finder = device.driver.value_bytes
    for line in lines(raws, lambda raw: finder(device.config, raw) if finder else b""):
        show(f"    {line}")
    return all(raw.reading.quality is None for raw in raws)


def lines(
    raws: Sequence[RawReading], value_bytes: Callable[[RawReading], bytes] = lambda _: b""
) -> Iterator[str]:
    """Lines for one device: each request and reply in hex, below them the points, each with its own bytes."""
    for (request, reply), group in groupby(raws, key=lambda raw: (raw.request, raw.reply)):
        yield f"request {request.hex(' ') or '(none)'}"
        yield f"reply   {reply.hex(' ') or '(none)'}"
        for raw in group:
            reading = raw.reading
            known = catalogue().get(reading.indicator)
            unit = known.unit if known is not None else "?"
            value = "-" if reading.value is None else repr(reading.value)
            own = value_bytes(raw).hex(" ")
            shown = f"  {reading.indicator:<28} {value:>14} {unit:<10} {reading.quality or 'good'}"
            yield f"{shown:<70} {own}".rstrip()
