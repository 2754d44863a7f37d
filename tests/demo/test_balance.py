"""The balance finds what is missing, doubled, invented or different in the last bit, and nothing else."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import msgspec
import pytest

from demo.alignment import Sample, align
from demo.balance import (
    Answers,
    Delivery,
    Kill,
    Received,
    StoredAlert,
    StoredTest,
    compare,
    compare_readings,
    compare_tests,
    compare_webhooks,
    table,
)
from demo.journal import Reply, Slip, Staged

KEY = ("hl-001", "canal/ph", "water_ph")
START = 1_763_900_000_000


def reply(i: int, value: str) -> Reply:
    return Reply(
        ms=START + 1000 * i,
        station="hl-001",
        device="canal/ph",
        serving=i + 1,
        unit_id=2,
        function=3,
        address=0x2600,
        count=4,
        registers="",
        values={"water_ph": value},
    )


VALUES = ["7.6", "7.7", "7.7", "0.3", "7.8", "7.7", "7.75", "7.7", "7.7", "7.9"]
REPLIES = [reply(i, value) for i, value in enumerate(VALUES)]
STORED = [(START + 1000 * i - 3, float(value)) for i, value in enumerate(VALUES)]


def line(stored, kills=()):
    (found,) = compare_readings(REPLIES, {KEY: stored}, kills)
    return found


def numbers(found) -> tuple[int, ...]:
    return found.missing, found.doubled, found.differing, found.cut


def test_equal_records_balance() -> None:
    found = line(STORED)
    assert found.balanced
    assert (found.served, found.stored, found.notes) == (10, 10, [])


@pytest.mark.parametrize("place", range(len(VALUES)))
def test_a_missing_value_is_found(place: int) -> None:
    assert numbers(line(STORED[:place] + STORED[place + 1 :])) == (1, 0, 0, 0)


@pytest.mark.parametrize("place", range(len(VALUES)))
def test_a_doubled_value_is_found(place: int) -> None:
    assert numbers(line(STORED[: place + 1] + STORED[place:])) == (0, 1, 0, 0)


@pytest.mark.parametrize("place", range(len(VALUES)))
@pytest.mark.parametrize("towards", [-math.inf, math.inf])
def test_a_different_last_bit_is_found(place: int, towards: float) -> None:
    t_ms, value = STORED[place]
    changed = [*STORED]
    changed[place] = (t_ms, math.nextafter(value, towards))
    assert numbers(line(changed)) == (0, 0, 1, 0)


def test_a_float_product_is_not_the_decimal() -> None:
    changed = [*STORED]
    changed[3] = (STORED[3][0], 3 * 0.1)
    assert numbers(line(changed)) == (0, 0, 1, 0)


def test_two_values_changed_over_are_found() -> None:
    changed = [*STORED]
    changed[5], changed[6] = (STORED[5][0], 7.75), (STORED[6][0], 7.7)
    assert not line(changed).balanced


def test_an_invented_value_and_an_invented_series_are_found() -> None:
    assert numbers(line([*STORED, (START + 20_000, 7.9)])) == (0, 1, 0, 0)
    lines = compare_readings(
        REPLIES, {KEY: STORED, ("hl-001", "canal/ph", "water_temperature"): [(START, 8.0)]}
    )
    assert [found.doubled for found in lines] == [0, 1]


def test_an_empty_store_lacks_everything() -> None:
    (found,) = compare_readings(REPLIES, {})
    assert numbers(found) == (10, 0, 0, 0)


def test_the_right_value_at_the_wrong_time_is_found() -> None:
    changed = [*STORED]
    changed[9] = (STORED[9][0] + 60_000, 7.9)
    assert numbers(line(changed)) == (1, 1, 0, 0)


def test_failed_polls_are_shown_and_do_not_count() -> None:
    found = line([*STORED, (START + 11_000, None)])
    assert found.balanced
    assert found.failed == 1


def test_a_kill_excuses_only_its_own_moment() -> None:
    kill = Kill(START + 4_500, frozenset({"hl-001"}))
    assert numbers(line(STORED[:4] + STORED[5:], [kill])) == (0, 0, 0, 1)
    assert numbers(line(STORED[:1] + STORED[2:], [kill])) == (1, 0, 0, 0)
    assert numbers(line(STORED[:4] + STORED[5:], [Kill(START + 4_500, frozenset({"hl-002"}))])) == (
        1,
        0,
        0,
        0,
    )
    assert numbers(line(STORED[:5] + STORED[4:], [kill])) == (0, 1, 0, 0)


@pytest.mark.parametrize("seed", range(60))
def test_damage_is_counted_exactly(seed: int) -> None:
    rng = random.Random(seed)
    served = [
        Sample(1000 * i + rng.randint(0, 50), Fraction(rng.randint(0, rng.choice([2, 1000])), 10))
        for i in range(40)
    ]
    stored = [Sample(s.ms + rng.randint(-20, 20), Fraction(float(s.exact))) for s in served]
    first = rng.randrange(30)
    many = rng.randint(1, 9)
    del stored[first : first + many]
    found = align(served, stored)
    assert (len(found.missing), len(found.doubled), len(found.differing)) == (many, 0, 0)
    assert [s.ms for s in found.missing] == [s.ms for s in served[first : first + many]]


# ---------------------------------------------------------------- tests


def slip(number: int, product: str = "油麦菜", value: str = "12.40") -> Slip:
    return Slip(
        ms=START + 1000 * number,
        station="hl-003",
        device="tester1",
        sample_no=f"NS20261102-{number:04d}",
        product_name=product,
        item="农药残留(酶抑制率)",
        value=value,
        result="合格",
        tested_at="2026-11-02T08:41:00+08:00",
        text="",
    )


def stored_test(number: int, product: str = "油麦菜", value: str | None = "12.4") -> StoredTest:
    return StoredTest("hl-003", "tester1", f"NS20261102-{number:04d}", product, value)


def test_equal_tests_balance() -> None:
    (found,) = compare_tests(
        [slip(1), slip(2, "猪肉", "")], [stored_test(2, "猪肉", None), stored_test(1)]
    )
    assert found.balanced
    assert (found.served, found.stored) == (2, 2)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ([stored_test(1)], (1, 0, 0, 0)),
        ([stored_test(1), stored_test(2), stored_test(2)], (0, 1, 0, 0)),
        ([stored_test(1), stored_test(2), stored_test(3)], (0, 1, 0, 0)),
        ([stored_test(1), stored_test(2, "黄瓜")], (0, 0, 1, 0)),
        ([stored_test(1), stored_test(2, value="12.41")], (0, 0, 1, 0)),
        ([stored_test(1), stored_test(2, value=None)], (0, 0, 1, 0)),
        ([stored_test(1), stored_test(2, value="n/a")], (0, 0, 1, 0)),
    ],
)
def test_differences_of_tests_are_found(stored, expected) -> None:
    (found,) = compare_tests([slip(1), slip(2)], stored)
    assert numbers(found) == expected


def test_a_slip_cut_by_a_kill_is_excused() -> None:
    kill = Kill(START + 2_300, frozenset({"hl-003"}))
    (found,) = compare_tests([slip(1), slip(2)], [stored_test(1)], [kill])
    assert numbers(found) == (0, 0, 0, 1)


# ---------------------------------------------------------------- webhooks

BREACH = Staged(
    ms=START,
    name="pollution",
    phase="breached",
    kind="reading",
    station="hl-001",
    device="canal/ph",
    indicator="water_ph",
    value="5.3",
    comparator="<",
    limit="5.5",
)
POSITIVE = Staged(
    ms=START + 2000,
    name="banned",
    phase="breached",
    kind="test",
    station="hl-003",
    device="tester1",
    sample_no="NS20261102-0002",
    severity="critical",
)
HOOKS = [
    Received("evt_1_county", "alert.suspected", "A1"),
    Received("evt_2_county", "alert.suspected", "A2"),
]


def alert(number: int, **changes: object) -> StoredAlert:
    base: dict[str, object] = {
        "alert_id": f"A{number}",
        "kind": "limit",
        "severity": "major",
        "station": "hl-001",
        "device": "canal/ph",
        "indicator": "water_ph",
        "sample_no": "",
        "deliveries": (Delivery(f"evt_{number}_county", "alert.suspected", "delivered"),),
    }
    return StoredAlert(**(base | changes))


POLLUTION = alert(1)
BANNED = alert(
    2,
    kind="test",
    severity="critical",
    station="hl-003",
    device="tester1",
    indicator="clenbuterol",
    sample_no="NS20261102-0002",
)


def test_staged_alerted_and_verified_agree() -> None:
    found = compare_webhooks([BREACH, POSITIVE], [BANNED, POLLUTION], HOOKS)
    assert (found.expected, found.verified, found.differing) == (2, 2, 0)


@pytest.mark.parametrize(
    ("alerts", "received", "word"),
    [
        ([POLLUTION], HOOKS[:1], "0 alerts"),
        ([POLLUTION, BANNED, alert(3, device="pool/ph", deliveries=())], HOOKS, "not staged"),
        ([POLLUTION, BANNED], HOOKS[:1], "did not verify"),
        (
            [POLLUTION, BANNED],
            [*HOOKS, Received("evt_9_county", "alert.cleared", "A1")],
            "not delivered",
        ),
        (
            [POLLUTION, BANNED],
            [*HOOKS, Received("evt_9_county", "alert.suspected", "A1")],
            "2 first webhooks",
        ),
        ([POLLUTION, alert(4), BANNED], HOOKS, "2 alerts"),
    ],
)
def test_differences_of_webhooks_are_found(alerts, received, word: str) -> None:
    found = compare_webhooks([BREACH, POSITIVE], alerts, received)
    assert found.differing
    assert any(word in note for note in found.notes), found.notes


def test_wrong_severity_and_waiting_delivery_are_found() -> None:
    mild = alert(
        2,
        kind="test",
        severity="warning",
        station="hl-003",
        device="tester1",
        sample_no="NS20261102-0002",
        deliveries=(Delivery("evt_2_county", "alert.suspected", "pending"),),
    )
    found = compare_webhooks([BREACH, POSITIVE], [POLLUTION, mild], HOOKS[:1])
    assert any("severity" in note for note in found.notes)
    assert any("pending" in note for note in found.notes)


def test_a_webhook_verified_twice_counts_once() -> None:
    assert (
        compare_webhooks([BREACH, POSITIVE], [POLLUTION, BANNED], [*HOOKS, HOOKS[0]]).differing == 0
    )


def test_technical_alerts_are_nobodys_breach() -> None:
    offline = alert(3, kind="station_offline", deliveries=())
    assert compare_webhooks([BREACH, POSITIVE], [POLLUTION, BANNED, offline], HOOKS).differing == 0


# ---------------------------------------------------------------- all three


def test_whole_balance_and_its_table() -> None:
    slips = [slip(1), slip(2)]
    answers = Answers({KEY: STORED}, [stored_test(1), stored_test(2)], [POLLUTION, BANNED])
    good = compare(REPLIES, slips, [BREACH, POSITIVE], answers, HOOKS)
    assert good.balanced
    text = "\n".join(table(good))
    assert "webhooks  expected 2  verified 2  differing 0" in text
    bad = compare(REPLIES, slips, [BREACH, POSITIVE], answers, HOOKS[:1])
    assert not bad.balanced
    short = Answers({KEY: STORED[1:]}, answers.tests, answers.alerts)
    assert not compare(REPLIES, slips, [BREACH, POSITIVE], short, HOOKS).balanced


def test_a_staged_slip_cut_by_a_kill_is_not_expected() -> None:
    answers = Answers({KEY: STORED}, [stored_test(1)], [POLLUTION])
    kill = Kill(START + 2_000, frozenset({"hl-003"}))
    assert compare(
        REPLIES, [slip(1), slip(2)], [BREACH, POSITIVE], answers, HOOKS[:1], [kill]
    ).balanced
    assert not compare(REPLIES, [slip(1), slip(2)], [BREACH, POSITIVE], answers, HOOKS[:1]).balanced


def test_started_and_ended_are_no_breaches() -> None:
    started = msgspec.structs.replace(BREACH, phase="started")
    ended = msgspec.structs.replace(BREACH, phase="ended")
    answers = Answers({KEY: STORED}, [], [])
    assert compare(REPLIES, [], [started, ended], answers, []).balanced
