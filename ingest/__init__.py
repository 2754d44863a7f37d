"""Ingest: one durable log of packs, consumers with cursors behind it.

Read ``intake.py`` first (which pack is taken, pure), then ``inbox.py`` (the log), ``pipeline.py`` (log to consumers),
``decode.py``, ``judge/``, ``store/``. Offered to packages on the right: ``batch``, ``operational``, ``tables``, ``inbox``,
``service``, ``registry``, ``store``, ``judge``.
"""
