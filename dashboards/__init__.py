"""Dashboards: the HTTP API, the live stream and the pages.

Read ``app.py`` first: it names every router. ``sources.py`` says what a server must hand over, ``access.py`` who may
read and write, ``live.py`` how the stream stays without gaps. Pages: npm builds ``web/`` into ``static/``.
"""
