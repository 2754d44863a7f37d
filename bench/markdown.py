"""Numbers, tables and charts in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def num(value: float) -> str:
    """Return a whole number with its thousands apart."""
    return f"{value:,.0f}"


def million(value: float) -> str:
    """Return millions."""
    return f"{value / 1e6:.1f} M"


def chart(title: str, x: Sequence[str], axis: str, y: Sequence[float], *, kind: str) -> str:
    """Return a Mermaid chart of one line (``line``) or of bars (``bar``).

    >>> print(chart("t", ["1", "2"], "MB", [3, 4.5], kind="bar"))
    ```mermaid
    xychart-beta
        title "t"
        x-axis ["1", "2"]
        y-axis "MB" 0 --> 5.4
        bar [3, 4.5]
    ```
    """
    names = ", ".join(f'"{one}"' for one in x)
    values = ", ".join(f"{one:.10g}" for one in y)
    return (
        f'```mermaid\nxychart-beta\n    title "{title}"\n    x-axis [{names}]\n'
        f'    y-axis "{axis}" 0 --> {max(y) * 1.2:.6g}\n    {kind} [{values}]\n```'
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
