"""Agents, broker and server under fire, and the count of every value afterwards; read ``run.py``, ``account.py``."""
