"""Errors of the drivers.

DriverError
├── FrameError     the bytes are wrong
├── DeviceError    the device answered and refused
├── LinkError      no answer; the only one worth retrying
└── ConfigError    the configuration is wrong; lists every fault
"""

from __future__ import annotations


class DriverError(Exception):
    """Base of all driver errors."""


class FrameError(DriverError):
    """Bytes that do not follow the protocol."""

    def __init__(self, message: str, *, raw: bytes = b"", offset: int = 0) -> None:
        super().__init__(message)
        self.raw = raw
        self.offset = offset


class DeviceError(DriverError):
    """A well-formed refusal by the device."""

    def __init__(self, message: str, *, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class LinkError(DriverError):
    """No answer in time, or the link is closed; ``heard`` has the bytes that came and were no answer."""

    def __init__(self, message: str = "", *, heard: bytes = b"") -> None:
        super().__init__(message)
        self.heard = heard


class ConfigError(DriverError):
    """A configuration with faults; ``faults`` has one line each: file, table, field, what to do."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults
