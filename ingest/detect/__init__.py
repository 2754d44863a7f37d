"""Quality flags of readings (QARTOD); read ``flags.py`` first. Offers ``flags`` and ``thresholds``."""
