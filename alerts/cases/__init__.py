"""Cases: the law's steps after an alert, with the clocks that run between them.

Read ``clocks`` and ``steps`` first: two tables of data. Others use ``follow.follow`` (from transitions),
``reading`` (what a page shows of a case), ``rules`` (lengths and calendar), ``steps`` and ``errors``. Steps are taken
and deadlines looked after in ``alerts.casework``.
"""
