"""A county on one machine: simulated instruments, agents, broker, server and receiver, started together.

Read ``orchestrator.py`` first (who starts whom), then ``county.py`` (what the county has) and ``balance.py`` (the three
journals compared at the end).
"""
