"""What the edge agent asks of a driver: buses that are polled or listened to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

    from drivers.records import Reading, TestRecord


@dataclass(frozen=True, slots=True)
class RawReading:
    """A reading beside the bytes it was made from (request and reply as on the wire, for ``--once``)."""

    reading: Reading
    request: bytes
    reply: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """Bytes of an instrument that are no record, and why; ``origin`` is the file or the peer they came from."""

    raw: bytes
    reason: str
    origin: str = ""


class DeviceConfig(Protocol):
    """What every configured device has; drivers add their own fields."""

    @property
    def path(self) -> str:
        """Device path, unique in the station: ``plot3/soil1``."""
        ...

    @property
    def poll_interval_s(self) -> float:
        """Seconds between polls; unused by listening devices."""
        ...

    @property
    def bus(self) -> str:
        """Key of the bus: devices with one key share one session and are polled in turn."""
        ...


class PolledSession(Protocol):
    """One bus with one request in flight. Safe to cancel at any await."""

    async def poll(self, device: DeviceConfig) -> Sequence[RawReading]:
        """Read every point of ``device`` once, each stamped between request and answer.

        A point that fails alone is a reading with ``quality``. Raises LinkError when the device does not answer.
        """
        ...

    async def close(self) -> None:
        """Release the link; a second call does nothing."""
        ...


class ListeningSession(Protocol):
    """A link on which the instrument speaks by itself."""

    def records(self) -> AsyncIterator[TestRecord | Refused]:
        """Yield each record as it arrives, and what is none; raises LinkError when the link is gone.

        The caller keeps what is yielded before it asks for the next, and opens a new session after LinkError.
        """
        ...

    async def acknowledge(self, record: TestRecord) -> None:
        """Tell the instrument, in its protocol, that ``record`` is on disk; nothing where it has no such word."""
        ...

    async def close(self) -> None:
        """Release the link; a second call does nothing."""
        ...


@runtime_checkable
class KeepsState(Protocol):
    """A listening session with something to remember over restarts."""

    def keep_in(self, directory: Path) -> None:
        """Told once, before ``records`` is asked: a directory of the station, which exists."""
        ...


@dataclass(frozen=True, slots=True)
class Driver:
    """One line of the registry: how to read a device table and open its bus."""

    name: str
    parse: Callable[[Mapping[str, object], str], DeviceConfig]
    """``parse(table, where)``: the device, or ConfigError with every fault, each beginning with ``where``."""
    polled: Callable[[DeviceConfig, Callable[[], int]], PolledSession] | None = None
    """``polled(device, now_ms)``: a session on the device's bus; ``now_ms`` gives UTC milliseconds."""
    listening: Callable[[DeviceConfig, Callable[[], int]], ListeningSession] | None = None
    value_bytes: Callable[[DeviceConfig, RawReading], bytes] | None = None
    """``value_bytes(device, raw)``: the bytes of a reply that the value was made from; b"" for none."""
