"""Judging readings: ``readings.py`` one by one, ``compiled.py`` and ``batches.py`` a whole batch at once."""
