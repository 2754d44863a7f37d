"""Errors of the edge agent that a person must act on.

AgentError
├── DataDirBusyError    another agent works in this data directory
├── NoStatusError       there is no status to show
├── MetricsPortError    the port of the metrics is taken
└── LocalPortError      the port of the local page is taken

Beside them stand ``wire.WireError`` (bytes that are no message of ours) and ``spool.SpoolError`` (the spool's file).
"""

from __future__ import annotations


class AgentError(Exception):
    """Base; the message says what, where and what to do."""


class DataDirBusyError(AgentError):
    """Another process holds the data directory's lock."""


class NoStatusError(AgentError):
    """The status file is missing or cannot be read."""


class MetricsPortError(AgentError):
    """The metrics port cannot be opened."""


class LocalPortError(AgentError):
    """The port of the local page cannot be opened."""
