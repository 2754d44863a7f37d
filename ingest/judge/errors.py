"""Errors of the judge.

JudgeError
├── CatalogueError   the limit tables have faults; lists every one
└── RejudgeError     a data directory cannot be judged again
"""

from __future__ import annotations


class JudgeError(Exception):
    """Base of the judge's errors."""


class CatalogueError(JudgeError):
    """Limit tables with faults; ``faults`` has one line each: file, line, what is wrong."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class RejudgeError(JudgeError):
    """A data directory that cannot be read; the message says which file and why."""
