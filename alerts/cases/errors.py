"""Errors of cases.

AlertError
├── StepRefused    the step may not be taken now; names those that may
├── WrongStep      a field of the step is missing or wrong; names it
└── MissingYear    nobody has told which days of a year are worked
"""

from __future__ import annotations

from alerts.errors import AlertError


class StepRefused(AlertError):  # noqa: N818 - named after what happened, as alerts.errors does
    """A step that may not be taken in the present state; ``legal`` names the steps that may."""

    def __init__(self, step: str, reason: str, legal: tuple[str, ...]) -> None:
        super().__init__(f"{step!r}: {reason}; steps now: {', '.join(legal) or 'none'}")
        self.step = step
        self.reason = reason
        self.legal = legal


class WrongStep(AlertError):  # noqa: N818
    """A field of a step is missing or wrong."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class MissingYear(AlertError):  # noqa: N818
    """The table of holidays and make-up workdays of ``year`` is not there."""

    def __init__(self, year: int) -> None:
        super().__init__(
            f"{year} 年节假日表未发布/缺失 | no table of holidays and make-up workdays for {year}"
        )
        self.year = year
