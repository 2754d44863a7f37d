"""The limit catalogue: the tables under ``standards/`` as checked rows, and who is named in them.

Read ``limits.py`` first (what a limit is and when it applies, pure), then ``catalogue.py`` (all of it, loaded at once).
``limit_tables.py`` and ``pickers.py`` read the limits on readings, ``residue_tables.py`` those on residues,
``notices.py``, ``cut_offs.py`` and ``method_rules.py`` the rest; ``names.py`` resolves names as people write them.
"""
