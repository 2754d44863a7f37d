"""The edge agent: polls instruments, keeps every record in a spool until the server has stored it.

Read ``wire.py`` first (the link format, pure), then ``link.py`` (what is sent when, pure), ``spool.py`` (what is kept),
``app.py`` (how a process is wired). Offered to packages on the right: ``wire``, ``keys``.
"""
