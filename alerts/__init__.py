"""Alerts: findings become alerts that latch, and leave as signed webhooks.

Read ``states.py`` first (the state machine, pure), then ``raising.py`` (findings to alerts, in the judge's
transaction), ``transitions.py`` (what each change leaves behind), ``outbox.py`` and ``sender.py``. Offered to packages
on the right: ``actions``, ``chain``, ``config``, ``errors``, ``outbox``, ``raising``, ``sender``, ``signing``,
``states``, ``tables``.
"""
