"""Judging rapid tests and laboratory results: ``rapid.py`` picks the rule, ``records.py`` stores the verdicts."""
