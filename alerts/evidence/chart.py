"""The chart of an evidence pack: the values around the breach with the limit, as an SVG that stands by itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH, HEIGHT = 960, 360
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 40, 50
CHINA = timezone(timedelta(hours=8))
_TICKS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """What is drawn: ``points`` are (UTC ms, value) in time order, ``marked`` the times of findings."""

    title: str
    unit: str
    points: Sequence[tuple[int, float]]
    marked: Sequence[int] = ()
    limit: float | None = None


def svg(drawing: Drawing) -> str:
    """Return the chart; without points it says so."""
    body = [_text(LEFT, 24, drawing.title, size=16)]
    if drawing.points:
        body += _plot(drawing)
    else:
        body.append(_text(LEFT, HEIGHT / 2, "无读数 / no readings", size=14))
    inner = "\n".join(body)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" font-family="sans-serif">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>\n{inner}\n</svg>\n'
    )


def _plot(drawing: Drawing) -> list[str]:
    times = [t for t, _ in drawing.points]
    values = [v for _, v in drawing.points]
    if drawing.limit is not None:
        values = [*values, drawing.limit]
    start, end = times[0], max(times[-1], times[0] + 1)
    low, high = min(values), max(values)
    margin = (high - low or abs(high) or 1.0) * 0.08
    low, high = low - margin, high + margin

    def x(t_ms: int) -> float:
        return LEFT + (t_ms - start) / (end - start) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)

    out = []
    for n in range(_TICKS):
        value = low + (high - low) * n / (_TICKS - 1)
        moment = start + (end - start) * n // (_TICKS - 1)
        out.append(_line(LEFT, y(value), WIDTH - RIGHT, y(value), "#e2e7e3"))
        out.append(_text(LEFT - 8, y(value) + 4, f"{value:.4g}", anchor="end"))
        out.append(_text(x(moment), HEIGHT - 26, _clock(moment), anchor="middle"))
    if drawing.limit is not None:
        out.append(_line(LEFT, y(drawing.limit), WIDTH - RIGHT, y(drawing.limit), "#98112f", "6 4"))
        label = f"限值 limit {drawing.limit:g} {drawing.unit}"
        out.append(_text(WIDTH - RIGHT, y(drawing.limit) - 6, label, anchor="end", fill="#98112f"))
    path = " ".join(f"{x(t):.1f},{y(v):.1f}" for t, v in drawing.points)
    out.append(f'<polyline points="{path}" fill="none" stroke="#0d5c7d" stroke-width="1.5"/>')
    marks = set(drawing.marked)
    out += [
        f'<circle cx="{x(t):.1f}" cy="{y(v):.1f}" r="4" fill="#98112f"/>'
        for t, v in drawing.points
        if t in marks
    ]
    out.append(_text(LEFT, HEIGHT - 6, f"北京时间 Beijing time · {drawing.unit}", fill="#46564f"))
    return out


def _clock(t_ms: int) -> str:
    return datetime.fromtimestamp(t_ms / 1000, UTC).astimezone(CHINA).strftime("%m-%d %H:%M:%S")


def _line(x1: float, y1: float, x2: float, y2: float, stroke: str, dash: str = "") -> str:
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{stroke}"{dashes}/>'
    )


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", size: int = 12, fill: str = "#15211d"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'fill="{fill}">{escape(text)}</text>'
    )
