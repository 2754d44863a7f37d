"""Drivers: bytes of real instruments to typed records, one directory per protocol.

Read ``records.py`` first: it holds the words that every other package uses. Offered to packages on the right:
``records``, ``indicators``, ``units``, ``errors``, ``session``, ``device_table``, ``registry``; for the local page
``tester.words``, ``tester.text``, ``tester.transports.http1``; for uploads that a server takes itself ``tester.anhui``,
``tester.config``, ``tester.points``.
"""
