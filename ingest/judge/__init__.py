"""Judge: readings and tests against the national limits, each finding citing its row.

Read ``limits.py`` first (what a limit is and when it applies, pure), then ``catalogue.py`` (the tables under
``standards/``), ``readings.py`` (one reading), ``compiled.py`` (the same for whole batches), ``rapid.py`` (tests),
``consumer.py`` (the transaction). Offered to packages on the right: ``findings``, ``consumer``, ``catalogue``,
``lines``, ``spans``.
"""
