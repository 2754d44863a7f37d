"""Quiet hours: when people are told of critical alerts only. Pure; hours are of the day in China."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
_MINUTE_MS = 60_000
_DAY_MS = 24 * 60 * _MINUTE_MS
_CHINA_MS = 8 * 60 * _MINUTE_MS  # no summer time since 1991


@dataclass(frozen=True, slots=True)
class Quiet:
    """From a minute of the day to another, not including it; past midnight when ``start`` is after ``end``."""

    start: int
    end: int

    @classmethod
    def parse(cls, table: Mapping[str, str]) -> Quiet | None:
        """Return the hours of ``{"from": "22:00", "to": "07:00"}``, None for an empty table; raise ValueError.

        >>> Quiet.parse({"from": "22:00", "to": "07:00"})
        Quiet(start=1320, end=420)
        """
        if not table:
            return None
        if set(table) != {"from", "to"}:
            raise ValueError('write from = "22:00" and to = "07:00"')
        start, end = (_minute(table[name]) for name in ("from", "to"))
        if start == end:
            raise ValueError("from and to are the same; leave both away for no quiet hours")
        return cls(start, end)

    def until_ms(self, now_ms: int) -> int | None:
        """Return when the quiet hours that hold at ``now_ms`` end, None when none hold (UTC ms).

        >>> Quiet(1320, 420).until_ms(0)  # 08:00 in China
        >>> Quiet(1320, 420).until_ms(
        ...     15 * 3_600_000
        ... ) == 23 * 3_600_000  # 23:00 in China, until 07:00
        True
        """
        local = now_ms + _CHINA_MS
        midnight = local - local % _DAY_MS
        minute = local % _DAY_MS // _MINUTE_MS
        overnight = self.start > self.end
        late, early = minute >= self.start, minute < self.end
        if not (late or early if overnight else late and early):
            return None
        ends = midnight + self.end * _MINUTE_MS + (_DAY_MS if overnight and late else 0)
        return ends - _CHINA_MS


def _minute(text: object) -> int:
    found = _TIME.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"{text!r}: write a time of day as 22:00")
    return int(found[1]) * 60 + int(found[2])
