"""Alerts: findings become alerts that latch, and leave as signed webhooks.

Read ``states.py`` first (the state machine, pure), then ``raising.py`` (findings to alerts, in the judge's transaction),
``outbox.py`` and ``sender.py``. Offered to packages on the right: ``states``, ``raising``, ``tables``, ``outbox``,
``sender``, ``signing``.
"""
