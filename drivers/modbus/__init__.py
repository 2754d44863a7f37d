"""Modbus TCP: registers of real instruments to readings.

Read ``points.py`` first, then ``session.py``. Offered: ``points``, ``frames``, ``models``, ``config``, ``session``.
"""
