"""Rapid testers by configuration: what they print, push, answer or drop as files, to test records.

Read ``reader.py``, then ``config.py``. The readers (``key_value``, ``delimited``, ``fixed_width``, ``json_records``,
``binary_record``), ``dialogue`` and ``points`` are sans-IO; ``session`` has the ports. ``anhui`` is one upload format.
"""
