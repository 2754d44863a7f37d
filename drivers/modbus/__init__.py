"""Modbus TCP, RTU and ASCII: registers of real instruments to readings.

Read ``points.py`` first, then ``session.py``. Offered: ``points``, ``frames``, ``lines``, ``models``, ``build``,
``config``, ``session``, ``link``, ``evidence``, ``fit``, and for recordings ``captured``, ``rtu_capture``,
``tcp_capture``, ``serial_frames``.
"""
