"""What an alert shows of the finding that weighs most: its value, citation, evidence and flags, frozen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alerts.alert import LATE, LIMIT_UNVERIFIED, SEVERITIES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from alerts.alert import Alert
    from ingest.judge.findings import Finding

CERTAINTIES = ("sensor", "model", "screening", "confirmatory")


def evidence_of(finding: Finding) -> dict[str, object]:
    """Return the way back to the bytes of a finding; a screening also says by what method and by whom it was made."""
    found: dict[str, object] = {
        "finding_id": finding.finding_id,
        "station": finding.station,
        "epoch": finding.epoch,
        "seq": finding.seq,
        "position": finding.position,
        "inbox_pos": finding.inbox_pos,
        "record_id": finding.record_id,
    }
    if finding.kind == "test" and finding.certainty != "confirmatory":
        found["screened_by_method"] = finding.method
        found["screened_by_laboratory"] = finding.laboratory
    return found


def take_snapshot(alert: Alert, finding: Finding, flags: Iterable[str]) -> None:
    """Let ``finding`` stand for the alert; by whom it was screened is kept: the result must come from elsewhere."""
    screened = {
        key: value for key, value in alert.evidence.items() if key.startswith("screened_by_")
    }
    alert.value, alert.unit = finding.value, finding.unit
    alert.rule_id, alert.citation = finding.rule_id, dict(finding.citation)
    alert.evidence = {**screened, **evidence_of(finding)}
    alert.certainty = finding.certainty
    alert.flags = flags_of(finding, flags)


def flags_of(finding: Finding, before: Iterable[str]) -> list[str]:
    """Return the alert's flags: ``late`` is of the alert as a whole, ``limit_unverified`` of the limit now cited."""
    flags = {*before, *(flag for flag in finding.flags if flag != LATE)} - {LIMIT_UNVERIFIED}
    if finding.citation.get("verified") is not True:
        flags.add(LIMIT_UNVERIFIED)
    return sorted(flags)


def is_worse(finding: Finding, alert: Alert) -> bool:
    """Tell whether the finding weighs more than the alert's snapshot: surer, graver, or further past the limit."""
    weight = (CERTAINTIES.index(finding.certainty), SEVERITIES.index(str(finding.severity)))
    held = (CERTAINTIES.index(alert.certainty), SEVERITIES.index(alert.severity))
    if weight != held:
        return weight > held
    return _excess(finding.value, finding.citation) > _excess(alert.value, alert.citation)


def is_sounder(finding: Finding, alert: Alert) -> bool:
    """Tell whether a confirmatory result rests on a verified limit where the alert's does not."""
    verified = finding.citation.get("verified") is True
    return finding.certainty == "confirmatory" and verified and LIMIT_UNVERIFIED in alert.flags


def _excess(value: float | None, citation: dict[str, object]) -> float:
    """Return how many times the limit is exceeded; for a lower limit the reciprocal."""
    ratio = citation.get("ratio")
    if not isinstance(ratio, int | float):
        return value if value is not None else 0.0
    if citation.get("comparator") == "<":
        return 1 / ratio if ratio > 0 else float("inf")
    return float(ratio)
