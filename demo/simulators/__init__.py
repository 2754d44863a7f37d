"""Simulated instruments on real sockets and ptys; read ``modbus_sim.py``, then ``slip_sim.py``.

They share no code with the drivers that read them: the register maps are the drivers' data, the encoding is its own.
"""
