"""Publishers that know nothing of the edge link: SenML and vendors' JSON over MQTT, records over HTTP.

Read ``reader.py`` first (one message to readings, tests and faults), then ``senml.py`` and ``mapping.py``; all of it is
pure. ``ingest/publisher_subscriber.py`` and ``ingest/door.py`` are the ways in. Offered: ``address``, ``arrival``,
``mapping``, ``parsed``, ``reader``.
"""
