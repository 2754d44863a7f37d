"""People: what robots, mailboxes and other targets are told of alerts.

Read ``notices.py`` first (what is kept to be told), then ``digest.py`` (what makes one message, and when),
``words.py`` (what it says), ``channels.py`` (how each kind of target is reached) and ``sender.py`` (the task that does
it). Others use ``notices.RoutedTarget``, ``notices.enqueue_many``, ``operators.enqueue_operator``, ``targets`` and
``sender.PeopleSender``.
"""
