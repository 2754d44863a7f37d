"""How a rapid tester's bytes reach the agent, one module per way in; ``session.py`` above picks one.

Read ``handover.py`` first: what several connections bring is stored one record at a time, and each sender hears what
became of its own. Offered to packages on the right: ``connections``, ``http1``.
"""
