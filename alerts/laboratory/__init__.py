"""Laboratory results: entered, paired with the suspect they confirm or refute, corrected, withdrawn.

Read ``entry.py`` first (what is entered becomes test records), then ``pairing.py``. Offers ``entry``, ``sheet``,
``template``, ``reports``, ``pairing``, ``corrected`` and ``withdrawal``.
"""
