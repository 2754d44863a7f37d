"""The device side of rapid testers, sans-IO; read ``results.py``, then ``photometers.py``; ``profiles.py`` lists them.

Written from the descriptions of their protocols alone, apart from the readers in ``drivers/tester``: a test of one
against the other compares two readings. What no public source says is chosen here and marked "assumed".
"""
