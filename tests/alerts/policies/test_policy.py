"""What a policy means, and what is said of one that would route nothing. Pure."""

from __future__ import annotations

import msgspec
import pytest

from alerts.alert import Alert
from alerts.policies.policy import Known, Match, Policy, check, matching

KNOWN = Known(
    endpoints={"county": True, "asleep": False},
    targets={"desk": True, "off": False},
    regions=frozenset({"440811"}),
    stations=frozenset({"hl-001"}),
)


def alert(**changes: object) -> Alert:
    values = {
        "alert_id": "a",
        "dedup_key": "k",
        "kind": "test",
        "rule_id": "r",
        "severity": "major",
        "certainty": "screening",
        "station": "hl-001",
        "device": "tester1",
        "plot_id": "",
        "region_code": "440811003",
        "indicator": "clenbuterol",
        "product_name": "猪肉",
        "sample_no": "s1",
        "value": None,
        "unit": "",
        "citation": {},
        "evidence": {},
        "first_seen_ms": 0,
        "last_seen_ms": 0,
        "occurrence_count": 1,
        "flags": [],
        "clearable": False,
        "raised_ms": 0,
        "changed_ms": 0,
        "purpose": "supervision",
        "sampling_stage": "slaughter",
    } | changes
    return Alert(**values)


@pytest.mark.parametrize(
    ("match", "meant"),
    [
        ({}, True),
        ({"region": ["44"]}, True),
        ({"region": ["4408", "51"]}, True),
        ({"region": ["51"]}, False),
        ({"kind": ["test"]}, True),
        ({"kind": ["limit"]}, False),
        ({"severity": "warning"}, True),
        ({"severity": "major"}, True),
        ({"severity": "critical"}, False),
        ({"purpose": ["supervision", "risk"]}, True),
        ({"purpose": ["self"]}, False),
        ({"stage": ["slaughter"]}, True),
        ({"stage": ["retail"]}, False),
        ({"indicator": ["clenbuterol"]}, True),
        ({"indicator": ["soil_cd"]}, False),
        ({"station": ["hl-002"]}, False),
        ({"certainty": ["confirmatory"]}, False),
        ({"event": ["alert.suspected"]}, True),
        ({"event": ["alert.closed"]}, False),
        ({"kind": ["test"], "region": ["51"]}, False),
    ],
)
def test_every_list_that_is_given_must_name_the_alert(
    match: dict[str, object], *, meant: bool
) -> None:
    assert msgspec.convert(match, Match).speaks_of(alert(), "alert.suspected") is meant


def test_policies_add_up_until_the_last() -> None:
    first = Policy(id="a", match=Match(kind=["limit"]), last=True)
    second = Policy(id="b")
    third = Policy(id="c", match=Match(kind=["test"]), last=True)
    fourth = Policy(id="d")
    found = matching([first, second, third, fourth], alert(), "alert.suspected")
    assert [policy.id for policy in found] == ["b", "c"]


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ({"endpoints": ["nobody"]}, "endpoints: there is no endpoint 'nobody'"),
        ({"targets": ["nobody"]}, "targets: there is no target 'nobody'"),
        ({"escalate": ["nobody"]}, "escalate: there is no target 'nobody'"),
        ({"match": {"kind": ["fire"]}}, "match.kind: no alert is of kind 'fire'"),
        ({"match": {"event": ["alert.x"]}}, "match.event: there is no event 'alert.x'"),
    ],
)
def test_what_does_not_exist_is_refused(document: dict[str, object], fault: str) -> None:
    policy = msgspec.convert({"id": "p", **document}, Policy)
    assert fault in check(policy, [], KNOWN).faults


@pytest.mark.parametrize(
    ("document", "warning"),
    [
        ({}, "routes nothing: it names no endpoint"),
        ({"endpoints": ["asleep"]}, "asleep gets nothing now"),
        ({"targets": ["off"]}, "off is switched off"),
        ({"endpoints": ["county"], "match": {"region": ["51"]}}, "no station or base is in 51"),
        ({"endpoints": ["county"], "match": {"station": ["x"]}}, "x is not registered"),
    ],
)
def test_what_may_route_nothing_is_warned_of(document: dict[str, object], warning: str) -> None:
    checked = check(msgspec.convert({"id": "p", **document}, Policy), [], KNOWN)
    assert checked.faults == []
    assert any(warning in text for text in checked.warnings)


def test_a_policy_that_is_never_asked_is_warned_of() -> None:
    wide = Policy(id="wide", endpoints=["county"], match=Match(region=["44"]), last=True)
    narrow = Policy(id="n", endpoints=["county"], match=Match(region=["4408"], severity="major"))
    other = Policy(id="o", endpoints=["county"], match=Match(kind=["test"]))
    assert "wide is asked before" in check(narrow, [wide], KNOWN).warnings[0]
    assert check(other, [wide], KNOWN).warnings == []


def test_a_good_policy_is_good() -> None:
    policy = Policy(id="p", endpoints=["county"], targets=["desk"], match=Match(region=["440811"]))
    checked = check(policy, [], KNOWN)
    assert (checked.faults, checked.warnings) == ([], [])


def test_a_group_is_what_the_policy_says() -> None:
    assert Policy(id="p").group_key(alert()) == ""
    assert Policy(id="p", group_by=["station", "kind"]).group_key(alert()) == "p/hl-001/test"
