"""The registry: regions, subjects, bases, plots, stations, devices, and who may deliver.

Read ``files.py`` first (the TOML file or CSV folder), then ``live.py`` (what the running server asks).
Offered to packages on the right: ``context``, ``files``, ``live``.
"""
