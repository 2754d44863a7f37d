"""What the agent says of itself to a person on the same machine: ``status.json`` and its text."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import msgspec

from gateway.errors import NoStatusError
from gateway.wire import DeviceSeen

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from gateway.schedule import Clock

FILE = "status.json"
WRITE_EVERY_S = 5.0
WRITE_AT_MOST_EVERY_S = 0.25
STALE_AFTER_S = 20.0
QUEUE_FRESH_S = 30.0  # packs younger than this are on their way, not stuck

TICK, CROSS = "✓", "✗"


class StationStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One station; times are UTC milliseconds."""

    code: str
    connected: bool
    queue: int
    oldest_unreceipted_ms: int | None
    last_receipt_ms: int | None
    clock_offset_ms: int | None
    alarms: list[str]
    devices: list[DeviceSeen]
    records: int = 0
    garbage_receipts: int = 0


class AgentStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file."""

    pid: int
    at_ms: int
    running: bool
    version: str
    stations: list[StationStatus]
    crashes: dict[str, int] = {}


def write(directory: Path, status: AgentStatus) -> None:
    """Replace the status file at once; readers see the old or the new one."""
    new = directory / f"{FILE}.new"
    new.write_bytes(msgspec.json.format(msgspec.json.encode(status), indent=1))
    new.replace(directory / FILE)


def read(directory: Path) -> AgentStatus:
    """Return the last status written; raise NoStatusError."""
    file = directory / FILE
    try:
        return msgspec.json.decode(file.read_bytes(), type=AgentStatus)
    except FileNotFoundError:
        raise NoStatusError(
            f"{file}: no such file; has the agent ever run with this data_dir?"
        ) from None
    except (OSError, msgspec.DecodeError) as exc:
        raise NoStatusError(f"{file}: cannot be read: {exc}") from exc


async def keep_written(
    directory: Path,
    collect: Callable[[], Awaitable[AgentStatus]],
    changed: asyncio.Event,
    *,
    clock: Clock,
) -> None:
    """Write the status every 5 s, and soon after ``changed`` is set, until cancelled."""
    while True:
        changed.clear()
        write(directory, await collect())
        await clock.sleep(WRITE_AT_MOST_EVERY_S)
        try:
            async with asyncio.timeout(WRITE_EVERY_S - WRITE_AT_MOST_EVERY_S):
                await changed.wait()
        except TimeoutError:
            continue


def is_alive(pid: int) -> bool:
    """Whether a process ``pid`` exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it exists and is another user's
        return True
    return True


def render(status: AgentStatus, now_ms: int, *, alive: bool) -> tuple[str, bool]:
    """Return the text for the operator, and whether all is well."""
    lines, all_well = [_agent_line(status, now_ms, alive=alive)], True
    if not alive or not status.running or now_ms - status.at_ms > STALE_AFTER_S * 1000:
        all_well = False
    for station in status.stations:
        well = _station_well(station, now_ms)
        all_well = all_well and well
        lines.append(f"{_mark(well)} {station.code}  {_station_text(station, now_ms)}")
        lines.extend(
            f"    {_mark(device.ok)} {device.path}  {_device_text(device, now_ms)}"
            for device in station.devices
        )
    lines.extend(
        f"{CROSS} {task} crashed {count} times; see the log"
        for task, count in status.crashes.items()
    )
    return "\n".join([f"{_mark(all_well)} {lines[0]}", *lines[1:]]), all_well


def _mark(well: bool) -> str:  # noqa: FBT001 - one flag is all there is
    return TICK if well else CROSS


def _agent_line(status: AgentStatus, now_ms: int, *, alive: bool) -> str:
    age = _age(now_ms - status.at_ms)
    if not status.running:
        return f"agent stopped {age} ago; what follows is from then"
    if not alive:
        return f"agent (process {status.pid}) is gone; what follows is {age} old"
    if now_ms - status.at_ms > STALE_AFTER_S * 1000:
        return f"agent (process {status.pid}) has not written its status for {age}"
    return f"agent {status.version} running, process {status.pid}, status {age} old"


def _station_well(station: StationStatus, now_ms: int) -> bool:
    oldest = station.oldest_unreceipted_ms
    fresh = oldest is None or now_ms - oldest <= QUEUE_FRESH_S * 1000
    answering = all(device.ok for device in station.devices)
    return station.connected and fresh and answering and not station.alarms


def _station_text(station: StationStatus, now_ms: int) -> str:
    parts = ["connected" if station.connected else "not connected to the broker"]
    if station.queue and station.oldest_unreceipted_ms is not None:
        oldest = _age(now_ms - station.oldest_unreceipted_ms)
        parts.append(f"{station.queue} packs wait for a receipt, the oldest for {oldest}")
    else:
        parts.append("queue empty")
    if station.last_receipt_ms is None:
        parts.append("no receipt yet")
    else:
        parts.append(f"last receipt {_age(now_ms - station.last_receipt_ms)} ago")
    if station.alarms:
        parts.append(f"alarms: {', '.join(station.alarms)}")
    return " · ".join(parts)


def _device_text(device: DeviceSeen, now_ms: int) -> str:
    seen = (
        "nothing received yet" if device.seen_ms is None else f"{_age(now_ms - device.seen_ms)} ago"
    )
    if device.ok:
        return seen if device.seen_ms is None else f"last seen {seen}"
    return f"does not answer; last seen {seen}" if device.seen_ms is not None else "never answered"


def _age(ms: int) -> str:
    """Text of a duration, coarse as a person wants it.

    >>> _age(900), _age(65_000), _age(2 * 3600_000), _age(3 * 86_400_000)
    ('0 s', '65 s', '2 h', '3 d')
    """
    seconds = max(0, ms) // 1000
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 7200:
        return f"{seconds // 60} min"
    if seconds < 172_800:
        return f"{seconds // 3600} h"
    return f"{seconds // 86_400} d"
