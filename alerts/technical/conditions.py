"""What is wrong with stations and devices now, from what they last said of themselves. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MINUTE_MS = 60_000
BEAT_MS = 3 * MINUTE_MS  # three intervals of the status: a station not heard for longer is away
_BY_ALARM = {
    "clock_off": "clock",
    "clock_unset": "clock",
    "duplicate_gateway": "duplicate_gateway",
    "gateway_cloned": "duplicate_gateway",
    "taken_over": "duplicate_gateway",
    "spool_full": "data_gap",
    "spool_corrupt": "data_gap",
    "spool_restored": "data_gap",
    "disk_full": "data_gap",
}
SEVERITY = {
    "station_offline": "major",
    "store_down": "critical",
    "duplicate_gateway": "major",
    "certificate_expiry": "warning",
    "data_gap": "major",
    "clock": "warning",
    "device_offline": "warning",
    "sensor_fault": "warning",
}


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """``[technical]``: how long something must last before it is an alert; what is not named here is one at once."""

    station_offline_min: Annotated[int, Meta(ge=3, le=1440)] = 10
    device_offline_min: Annotated[int, Meta(ge=1, le=1440)] = 10
    sensor_fault_min: Annotated[int, Meta(ge=1, le=1440)] = 10
    stale_after_s: Annotated[int, Meta(ge=1, le=86_400)] = 60

    def hold_ms(self, kind: str) -> int:
        """Return for how long (ms) a condition must have been seen.

        A station is seen to be away after three beats, a sensor's fault is as old as its readings say.

        >>> Patience().hold_ms("station_offline"), Patience().hold_ms("sensor_fault")
        (420000, 0)
        """
        held = {
            "station_offline": self.station_offline_min * MINUTE_MS - BEAT_MS,
            "device_offline": self.device_offline_min * MINUTE_MS,
            "store_down": MINUTE_MS,
        }
        return held.get(kind, 0)


@dataclass(frozen=True, slots=True, order=True)
class Condition:
    """One thing that is wrong: ``what`` is the alarm, or what the server says of itself."""

    kind: str
    station: str
    device: str = ""
    what: str = ""
    indicator: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StationFacts:
    """What a station last said of itself; times are UTC ms, ``devices`` path → whether it answers."""

    station: str
    online: bool
    seen_ms: int
    devices: Mapping[str, bool]
    alarms: Iterable[str]

    def is_away(self, now_ms: int) -> bool:
        """Tell whether nothing was heard for longer than three beats, or its will said that it is gone."""
        return not self.online or now_ms - self.seen_ms > BEAT_MS


def conditions_of(facts: StationFacts, now_ms: int) -> set[Condition]:
    """Return what is wrong. Of a station that is away nothing else is known, and nothing else is said."""
    if facts.is_away(now_ms):
        return {Condition("station_offline", facts.station)}
    found = {
        Condition("device_offline", facts.station, path)
        for path, answers in facts.devices.items()
        if not answers
    }
    for alarm in facts.alarms:
        kind = "certificate_expiry" if alarm.startswith("certificate_") else _BY_ALARM.get(alarm)
        if kind is not None:
            found.add(Condition(kind, facts.station, "", alarm))
    return found
