"""Stores of readings behind one protocol: ``reading_store.py``; ``duckdb_store.py`` is the embedded one."""
