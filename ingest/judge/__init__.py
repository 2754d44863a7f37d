"""Judge: readings and tests against the national limits, each finding citing its row.

``catalogue`` holds the limits, ``readings`` and ``records`` (tests) apply them, ``findings.py`` is what they say,
``consumer.py`` the transaction, ``lines.py`` the command. Offered to packages on the right: ``findings``, ``consumer``,
``lines``, ``in_force``, ``rejudge``, ``catalogue.catalogue``, ``catalogue.entries``, ``catalogue.names``,
``readings.spans``.
"""
