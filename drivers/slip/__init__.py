"""Printed slips of rapid testers: the short way to write a ``tester`` with reader ``key_value`` on a serial port.

Read ``config.py``; all else is ``drivers.tester``.
"""
