"""The identity of what is wrong: one open alert for each dedup key."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from drivers.indicators import catalogue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest.judge.findings import Finding, Observation


def rule_family(rule_id: str) -> str:
    """Return what the levels of one rule share.

    >>> rule_family("gb15618:Cd:screening"), rule_family("gb5084:pH")
    ('gb15618:Cd', 'gb5084:pH')
    """
    return ":".join(rule_id.split(":")[:2])


def dedup_key(rule_id: str, target: Sequence[str], indicator: str, matrix: str) -> str:
    """Return the SHA-256 (hex) of rule family, target, indicator and matrix: the identity of an open alert."""
    parts = [rule_family(rule_id), list(target), indicator, matrix]
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def series_key(station: str, device: str, indicator: str, rule_id: str) -> str:
    """Return the dedup key of a breach in a series."""
    known = catalogue().get(indicator)
    return dedup_key(rule_id, (station, device), indicator, known.medium if known else "")


def key_of(finding: Finding) -> str:
    """Return the dedup key of a finding: readings by station and device, tests by station and sample (else record)."""
    if finding.kind == "reading":
        return series_key(finding.station, finding.device, finding.indicator, finding.rule_id)
    target = (finding.station, finding.sample_no or finding.record_id)
    return dedup_key(finding.rule_id, target, finding.indicator, "product")


def observed_key(observation: Observation) -> str:
    """Return the dedup key of the breach that a good value speaks about."""
    series = observation.series
    return series_key(series.station, series.device, series.indicator, observation.rule_id)
