"""The agent's own page on loopback: the green tick, the last tests, completing and typing a test, a slip with QR.

Read ``server.py`` first. ``entry.py`` has the rules of a typed test (pure); ``page.html``, ``page.css`` and ``page.js``
are what the browser gets, as they are. Loaded only when ``[agent] local_port`` is set.
"""
