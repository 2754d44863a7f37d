"""Ingest: one durable log of packs, consumers with cursors behind it.

Read ``intake.py`` first (which pack is taken, pure), then ``inbox.py`` (the log), ``service.py`` (messages to log to
consumers), ``decode.py``, ``judge/``, ``store/``. Offered to packages on the right: ``batch``, ``operational``,
``tables``, ``inbox``, ``consumers``, ``service``, ``stations``, ``subscriber``, ``registry``, ``store``, ``judge``.
"""
