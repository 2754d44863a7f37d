"""The serial port that a rapid tester prints on: a tester's session."""

from drivers.tester.session import open_session

__all__ = ["open_session"]
