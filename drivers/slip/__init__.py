"""Slips of rapid testers, read off a serial printer port: ``label: value`` lines to test records.

Read ``codec.py`` first, then ``points.py``. Offered: ``codec``, ``points``, ``config``, ``session``.
"""
