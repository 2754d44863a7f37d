"""How simulated quantities move: a slow wave with a little noise, pulled aside by scripted events (pure)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random


@dataclass(frozen=True, slots=True)
class Movement:
    """``centre`` ± ``swing`` over ``period_s``, with gaussian ``noise``; ``rate_per_s`` makes it a counter."""

    centre: float
    swing: float = 0.0
    noise: float = 0.0
    period_s: float = 600.0
    rate_per_s: float = 0.0


# In the catalogue's units; a November day on the Yellow River plain.
MOVEMENTS: dict[str, Movement] = {
    "soil_moisture": Movement(24.0, 1.5, 0.1),
    "soil_temperature": Movement(9.5, 1.2, 0.1),
    "soil_ec": Movement(420.0, 25.0, 3.0),
    "soil_ph": Movement(7.9, 0.1, 0.05),
    "soil_n": Movement(62.0, 3.0, 1.0),
    "soil_p": Movement(21.0, 2.0, 0.6),
    "soil_k": Movement(148.0, 6.0, 1.5),
    "soil_permittivity": Movement(13.2, 0.9, 0.06),
    "soil_moisture_counts": Movement(8800.0, 400.0, 25.0),
    "soil_salinity": Movement(230.0, 14.0, 2.0),
    "soil_tds": Movement(210.0, 12.0, 2.0),
    "water_temperature": Movement(8.4, 0.6, 0.03),
    "water_temperature_bridge": Movement(8.6, 0.6, 0.03),
    "water_ph": Movement(7.7, 0.12, 0.01),
    "water_ph_potential": Movement(-39.0, 6.0, 0.5),
    "water_ph_slope": Movement(98.0, 0.2, 0.05),
    "water_ph_zero": Movement(2.5, 0.3, 0.05),
    "water_orp": Movement(210.0, 15.0, 1.5),
    "water_ec": Movement(760.0, 40.0, 4.0),
    "water_ec_raw": Movement(520.0, 28.0, 3.0),
    "water_ec_nlf": Movement(755.0, 40.0, 4.0),
    "water_salinity": Movement(0.38, 0.02, 0.002),
    "water_tds_ec": Movement(490.0, 26.0, 3.0),
    "water_nitrate_n": Movement(2.1, 0.3, 0.03),
    "water_sac254": Movement(9.0, 0.8, 0.1),
    "water_cod_uv": Movement(16.0, 1.5, 0.2),
    "water_chlorophyll": Movement(6.0, 1.0, 0.1),
    "water_bga": Movement(1.5, 0.3, 0.05),
    "water_depth": Movement(1.42, 0.05, 0.002),
    "water_flow_rate": Movement(36.0, 4.0, 0.3),
    "water_flow_velocity": Movement(1.2, 0.13, 0.01),
    "water_sound_speed": Movement(1439.0, 2.0, 0.2),
    "water_volume_total": Movement(48210.0, rate_per_s=0.01),
    "water_volume_total_reverse": Movement(3.0),
    "water_analyser_value": Movement(0.3, 0.05, 0.005),
    "water_do": Movement(8.9, 0.5, 0.03),
    "water_do_saturation": Movement(82.0, 4.0, 0.3),
    "water_do_saturation_local": Movement(93.0, 4.0, 0.3),
    "water_ammonia_n": Movement(0.3, 0.05, 0.005),
    "water_k": Movement(4.2, 0.2, 0.02),
    "water_turbidity": Movement(18.0, 3.0, 0.4),
    "water_suspended_solids": Movement(41.0, 6.0, 0.8),
    "water_level": Movement(1.42, 0.05, 0.002),
    "water_pressure": Movement(97.0, 0.8, 0.02),
    "water_pressure_2": Movement(88.9, 0.2, 0.01),
    "air_temperature": Movement(6.0, 3.0, 0.1),
    "air_humidity": Movement(48.0, 6.0, 0.7),
    "air_pressure": Movement(889.0, 0.8, 0.1),
    "air_noise": Movement(46.0, 4.0, 0.8),
    "air_pm10": Movement(64.0, 9.0, 2.0),
    "air_pm25": Movement(38.0, 6.0, 1.5),
    "air_rain": Movement(0.4, 0.2, 0.05),
    "air_solar_radiation": Movement(340.0, 90.0, 6.0),
    "air_wind_speed_min": Movement(1.3, 0.5, 0.1),
    "air_wind_force": Movement(2.0, 0.6, 0.1),
    "air_wind_direction_8": Movement(7.0),
    "air_wind_direction_min": Movement(270.0, 15.0, 3.0),
    "air_wind_direction_max": Movement(325.0, 15.0, 3.0),
    "air_wind_speed": Movement(2.6, 1.2, 0.4),
    "air_wind_gust": Movement(4.4, 1.5, 0.5),
    "air_wind_direction": Movement(300.0, 35.0, 6.0),
    "air_illuminance": Movement(31000.0, 9000.0, 400.0),
    "air_uv_index": Movement(1.4, 0.6, 0.05),
    "air_rain_total": Movement(12.0, rate_per_s=0.002),
    "air_rain_counter": Movement(12.0, rate_per_s=0.002),
    "device_model_code": Movement(0x90),  # the WN90LP's identity register
    "device_signal_quality": Movement(88.0, 4.0, 0.8),
    "device_reference_temperature": Movement(25.0),
    "device_uptime": Movement(86_400.0, rate_per_s=1.0),
}


@dataclass(frozen=True, slots=True)
class Excursion:
    """A scripted event on one indicator: from ``start_s`` over ``ramp_s`` to ``target``, held, and back the same way.

    ``comparator`` and ``limit`` are the script's own, so that a breach is known here without our judge.
    """

    name: str
    indicator: str
    target: float
    start_s: float
    ramp_s: float
    hold_s: float
    comparator: str
    limit: str
    severity: str = ""

    def pull(self, now_s: float) -> float:
        """Return how far the value is drawn to the target, 0 … 1.

        >>> dip = Excursion("acid", "water_ph", 5.1, 10, 4, 60, "<", "5.5")
        >>> [dip.pull(t) for t in (9, 12, 14, 74, 76, 78)]
        [0.0, 0.5, 1.0, 1.0, 0.5, 0.0]
        """
        since = now_s - self.start_s
        until = self.start_s + 2 * self.ramp_s + self.hold_s - now_s
        return min(1.0, max(0.0, min(since, until) / self.ramp_s))


@dataclass(slots=True)
class Quantity:
    """One indicator of one device over time."""

    indicator: str
    movement: Movement
    random: Random
    excursion: Excursion | None = None
    phase: float = field(init=False)

    def __post_init__(self) -> None:
        self.phase = self.random.uniform(0, 2 * math.pi)

    def at(self, now_s: float) -> float:
        """Return a fresh sample ``now_s`` seconds after the start."""
        move = self.movement
        value = move.centre + move.rate_per_s * now_s
        value += move.swing * math.sin(2 * math.pi * now_s / move.period_s + self.phase)
        if self.excursion is not None:
            pull = self.excursion.pull(now_s)
            value = (1 - pull) * value + pull * self.excursion.target
        return value + self.random.gauss(0, move.noise)


def movement_of(indicator: str, centre: float | None) -> Movement:
    """Return how ``indicator`` moves, around ``centre`` where given; one that is not listed stands still."""
    usual = MOVEMENTS.get(indicator, Movement(0.0))
    if centre is None:
        return usual
    return Movement(centre, usual.swing, usual.noise, usual.period_s, usual.rate_per_s)
