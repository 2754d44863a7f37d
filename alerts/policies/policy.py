"""What a policy says, and whether it speaks of an alert. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from alerts.alert import SEVERITIES
from alerts.event import EVENT_TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from alerts.alert import Alert

Code = Annotated[str, Meta(min_length=1, max_length=80)]
Id = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,40}$")]
Region = Annotated[str, Meta(pattern=r"^\d{2,12}$")]
Severity = Literal["info", "warning", "major", "critical"]
GroupBy = Literal["station", "region", "indicator", "kind", "severity"]
KINDS = frozenset(
    {
        "limit",
        "test",
        "cluster",
        "device_offline",
        "station_offline",
        "sensor_fault",
        "data_gap",
        "store_down",
        "clock",
        "duplicate_gateway",
        "certificate_expiry",
    }
)


class Match(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which alerts: every list that is not empty must name the alert's; ``severity`` is the least one.

    ``region`` are beginnings of region codes.
    """

    region: list[Region] = []
    kind: list[Code] = []
    severity: Severity | None = None
    purpose: list[Code] = []
    stage: list[Code] = []
    indicator: list[Code] = []
    station: list[Code] = []
    certainty: list[Code] = []
    event: list[Code] = []

    def speaks_of(self, alert: Alert, event: str) -> bool:
        """Tell whether the alert, at ``event`` (``alert.suspected`` …), is meant."""
        if self.region and not any(alert.region_code.startswith(code) for code in self.region):
            return False
        if self.severity and SEVERITIES.index(alert.severity) < SEVERITIES.index(self.severity):
            return False
        return all(
            not wanted or value in wanted
            for wanted, value in (
                (self.kind, alert.kind),
                (self.purpose, alert.purpose),
                (self.stage, alert.sampling_stage),
                (self.indicator, alert.indicator),
                (self.station, alert.station),
                (self.certainty, alert.certainty),
                (self.event, event),
            )
        )

    def faults(self) -> list[str]:
        """Return what nothing can ever meet: kinds and events that do not exist."""
        kinds = [
            f"match.kind: no alert is of kind {kind!r}" for kind in self.kind if kind not in KINDS
        ]
        events = [
            f"match.event: there is no event {event!r}"
            for event in self.event
            if event not in EVENT_TYPES
        ]
        return kinds + events


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One policy. Those of the list are asked in order; each that speaks of an alert adds whom it names.

    ``group_by``: notices to people of one group may share a message; webhooks are never grouped. ``repeat_h``: people
    are reminded until somebody acknowledges, or the agency sends its receipt. ``escalate``: targets that are told when
    a deadline passes. ``order_retest``: a suspect test is ordered to be tested again at once. ``last``: no policy after
    this one is asked.
    """

    id: Id
    name: Annotated[str, Meta(max_length=200)] = ""
    match: Match = Match()
    endpoints: list[Id] = []
    targets: list[Id] = []
    escalate: list[Id] = []
    group_by: list[GroupBy] = []
    repeat_h: Annotated[int, Meta(ge=0, le=720)] = 0
    order_retest: bool = False
    last: bool = False

    def group_key(self, alert: Alert) -> str:
        """Return what notices of one message share; blank: nothing."""
        parts = {
            "station": alert.station,
            "region": alert.region_code,
            "indicator": alert.indicator,
            "kind": alert.kind,
            "severity": alert.severity,
        }
        return (
            "/".join([self.id, *(parts[name] for name in self.group_by)]) if self.group_by else ""
        )


def matching(policies: Sequence[Policy], alert: Alert, event: str) -> list[Policy]:
    """Return the policies that speak of the alert, up to the first that is the last to be asked."""
    found = []
    for policy in policies:
        if policy.match.speaks_of(alert, event):
            found.append(policy)
            if policy.last:
                break
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What exists, for the check of policies: endpoints by id, whether they are sent to; targets; region codes."""

    endpoints: Mapping[str, bool]
    targets: Mapping[str, bool]
    regions: frozenset[str]
    stations: frozenset[str]


@dataclass(frozen=True, slots=True)
class Checked:
    """What is wrong with a policy: ``faults`` refuse it, ``warnings`` say that it may route nothing."""

    faults: list[str]
    warnings: list[str]


def check(policy: Policy, before: Sequence[Policy], known: Known) -> Checked:
    """Say what is wrong with ``policy``, which is asked after ``before``."""
    faults = policy.match.faults()
    for field, named, there in (
        ("endpoints", policy.endpoints, known.endpoints),
        ("targets", policy.targets, known.targets),
        ("escalate", policy.escalate, known.targets),
    ):
        faults += [
            f"{field}: there is no {field[:-1] if field != 'escalate' else 'target'} {id_!r}"
            for id_ in named
            if id_ not in there
        ]
    return Checked(faults, _warnings(policy, before, known))


def _warnings(policy: Policy, before: Sequence[Policy], known: Known) -> list[str]:
    found = []
    if (
        not policy.endpoints
        and not policy.targets
        and not policy.escalate
        and not policy.order_retest
    ):
        found.append("routes nothing: it names no endpoint, no target, and orders no re-test")
    asleep = [e for e in policy.endpoints if known.endpoints.get(e) is False]
    found += [
        f"endpoints: {e} gets nothing now: not verified, suspended or switched off" for e in asleep
    ]
    asleep = [t for t in (*policy.targets, *policy.escalate) if known.targets.get(t) is False]
    found += [f"targets: {t} is switched off" for t in asleep]
    for region in policy.match.region:
        if not any(code.startswith(region) or region.startswith(code) for code in known.regions):
            found.append(f"match.region: no station or base is in {region}: nothing is routed yet")
    found += [
        f"match.station: {station} is not registered"
        for station in policy.match.station
        if station not in known.stations
    ]
    for other in before:
        if other.last and _covers(other.match, policy.match):
            found.append(
                f"routes nothing: {other.id} is asked before, means the same alerts and is the last"
            )
    return found


def _covers(wide: Match, narrow: Match) -> bool:
    """Tell whether every alert of ``narrow`` is one of ``wide``, as far as the lists show it."""
    if wide.severity and SEVERITIES.index(narrow.severity or "info") < SEVERITIES.index(
        wide.severity
    ):
        return False
    if wide.region and not (
        narrow.region and all(any(n.startswith(w) for w in wide.region) for n in narrow.region)
    ):
        return False
    return all(
        not w or (n and set(n) <= set(w))
        for w, n in (
            (wide.kind, narrow.kind),
            (wide.purpose, narrow.purpose),
            (wide.stage, narrow.stage),
            (wide.indicator, narrow.indicator),
            (wide.station, narrow.station),
            (wide.certainty, narrow.certainty),
            (wide.event, narrow.event),
        )
    )
