"""Values, units and times as people read them. Pure."""

from __future__ import annotations

import datetime as dt

from alerts.cases.calendar import CHINA
from alerts.people.escape import words

_UNITS = {
    "1": ("", ""),
    "[pH]": ("", ""),
    "Cel": ("℃", "°C"),
    "uS/cm": ("μS/cm", "μS/cm"),
    "ug/L": ("μg/L", "μg/L"),
    "ug/kg": ("μg/kg", "μg/kg"),
    "{NTU}": ("NTU", "NTU"),
    "{count}/L": ("个/L", "/L"),
    "{MPN}/L": ("MPN/L", "MPN/L"),
    "{MPN}/(100.mL)": ("MPN/100 mL", "MPN/100 mL"),
    "[ppth]": ("‰", "‰"),
    "m-1": ("m⁻¹", "m⁻¹"),
}


def stamp(t_ms: int) -> str:
    """Return a time as people in China read it.

    >>> stamp(0)
    '1970-01-01 08:00'
    """
    return f"{dt.datetime.fromtimestamp(t_ms / 1000, CHINA):%Y-%m-%d %H:%M}"


def value_with_unit(value: object, unit: object, column: int) -> str:
    """Return a value as a screen shows it.

    >>> value_with_unit(0.35, "mg/kg", 0), value_with_unit(9.1, "[pH]", 0)
    ('0.35 mg/kg', '9.1')
    """
    number = f"{value:.6g}" if isinstance(value, int | float) else words(value, 40)
    shown = _UNITS[str(unit)][column] if str(unit) in _UNITS else words(unit, 24)
    return f"{number} {shown}".strip()
