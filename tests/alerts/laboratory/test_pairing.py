"""What results say of a suspect: the table of it."""

from __future__ import annotations

import pytest

from alerts.laboratory.groups import INHIBITORS, wanted
from alerts.laboratory.pairing import Outcome, Says, decide
from ingest.judge.catalogue.catalogue import standard_catalogue

CATALOGUE = standard_catalogue()
GROUP = "op_carbamate_inhibition"


def outcome(code, verdict="pass", *, not_detected=False, compared=True):
    return Outcome(
        record_id=f"r-{code}",
        code=code,
        verdict=verdict,
        not_detected=not_detected,
        compared=compared,
        verified=True,
    )


@pytest.mark.parametrize(
    ("verdict", "complete", "says"),
    [
        ("exceed", True, Says.CONFIRMS),
        ("exceed", False, Says.CONFIRMS),
        ("pass", True, Says.REFUTES),
        ("pass", False, Says.INCOMPLETE),
        ("undetermined", True, Says.INCOMPLETE),
        ("invalid", True, Says.INCOMPLETE),
    ],
)
def test_one_substance(verdict, complete, says):
    want = wanted(CATALOGUE, "phorate", "colloidal_gold")
    assert decide(want, [outcome("phorate", verdict)], complete=complete).says is says


def test_another_substance_says_nothing():
    want = wanted(CATALOGUE, "phorate", "colloidal_gold")
    assert decide(want, [outcome("dimethoate", "exceed")], complete=True).says is Says.NOTHING


def test_a_group_by_its_list():
    want = wanted(CATALOGUE, GROUP, "enzyme_inhibition")
    assert {"dichlorvos", "carbofuran", "trichlorfon"} <= want.required
    whole = [outcome(code) for code in want.required]
    assert decide(want, whole, complete=True).says is Says.REFUTES
    said = decide(want, whole[1:], complete=True)
    assert (said.says, said.missing) == (Says.INCOMPLETE, (whole[0].code,))
    # one that the list does not ask for is open: it may be what inhibited
    more = [*whole, outcome("chlorpyrifos", "undetermined")]
    assert decide(want, more, complete=True).missing == ("chlorpyrifos",)
    more = [*whole, outcome("chlorpyrifos", "exceed")]
    assert decide(want, more, complete=False).says is Says.CONFIRMS


def test_not_detected_without_a_limit_is_within_a_group():
    no_limit = outcome("phoxim", "undetermined", not_detected=True, compared=False)
    too_blunt = outcome("phoxim", "undetermined", not_detected=True, compared=True)
    assert no_limit.is_within
    assert not too_blunt.is_within  # its detection limit lies above the limit


def test_the_card_has_a_list_of_its_own():
    card = wanted(CATALOGUE, GROUP, "enzyme_inhibition_card").required
    meter = wanted(CATALOGUE, GROUP, "enzyme_inhibition").required
    assert card != meter
    assert wanted(CATALOGUE, GROUP, "").required == card | meter


def test_every_inhibitor_is_a_substance_of_the_catalogue():
    for code in INHIBITORS:
        found = CATALOGUE.names.substance(code)
        assert found is not None, code
        assert found.code == code
