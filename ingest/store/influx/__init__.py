"""Readings in InfluxDB 1.8, 2 or 3: start with ``influx_store.py``; ``check.py`` says what is wrong with a server."""
