"""Every driver by name; a driver's modules are loaded when a device first asks for them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from drivers.session import Driver

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from drivers.session import DeviceConfig, ListeningSession, PolledSession, RawReading


def _parser(name: str) -> Callable[[Mapping[str, object], str], DeviceConfig]:
    def parse(table: Mapping[str, object], where: str) -> DeviceConfig:
        load: Callable[[Mapping[str, object], str], DeviceConfig]
        load = import_module(f"drivers.{name}.config").parse
        return load(table, where)

    return parse


def _polled(name: str) -> Driver:
    def polled(device: DeviceConfig, now_ms: Callable[[], int]) -> PolledSession:
        opener: Callable[[DeviceConfig, Callable[[], int]], PolledSession]
        opener = import_module(f"drivers.{name}.session").open_session
        return opener(device, now_ms)

    def value_bytes(device: DeviceConfig, raw: RawReading) -> bytes:
        finder: Callable[[DeviceConfig, RawReading], bytes]
        finder = import_module(f"drivers.{name}.evidence").value_bytes
        return finder(device, raw)

    return Driver(name=name, parse=_parser(name), polled=polled, value_bytes=value_bytes)


def _listening(name: str) -> Driver:
    def listening(device: DeviceConfig, now_ms: Callable[[], int]) -> ListeningSession:
        opener: Callable[[DeviceConfig, Callable[[], int]], ListeningSession]
        opener = import_module(f"drivers.{name}.session").open_session
        return opener(device, now_ms)

    return Driver(name=name, parse=_parser(name), listening=listening)


DRIVERS: dict[str, Driver] = {
    driver.name: driver for driver in (_polled("modbus"), _listening("slip"), _listening("tester"))
}
