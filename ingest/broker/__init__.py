"""The broker as ours to set up: certificates, mosquitto's configuration, and the proof that it keeps stations apart.

Read ``mosquitto.py`` first. Offered to those on the right: ``pki`` (a private certificate authority), ``mosquitto``
(files of a deployment), ``probe`` (what is tried before ingest trusts a broker).
"""
