"""The account finds everything that can be wrong with a run: it must be able to fail."""

from __future__ import annotations

import numpy as np
import pytest

from demo.chaos import account
from demo.chaos.account import Booked, Replies, Stored, Told, Window
from demo.chaos.load import BREACH, SCALE
from demo.chaos.spools import Accepted
from drivers.records import Reading
from gateway import wire

STATION, DEVICE, EPOCH = "ch-001", "watch/1", "01KAHCB9ZNM3E2S0V2H8Q6T5RD"
INDICATORS = ("water_hg", "water_cd")
BREACHED, CALM = ((STATION, DEVICE, name) for name in INDICATORS)
START, COUNT, PER_PACK = 1_795_483_800_000, 40, 4
OVER = (11, 12, 13)
FIRST = Told("evt_1", "alert.suspected", "A1", (STATION, DEVICE, "water_hg"))


def raw(place: int, n: int) -> int:
    return n + BREACH if place == 0 and n in OVER else n


class World:
    """A run in which all went well; a test spoils it."""

    def __init__(self) -> None:
        n = np.arange(1, COUNT + 1)
        self.served = {(STATION, DEVICE): Replies(INDICATORS, n, START + 500 * n, {0: list(OVER)})}
        self.accepted = Accepted()
        self.taken: set[tuple[str, str, int]] = set()
        for seq in range(1, COUNT // PER_PACK + 1):
            self.pack(seq)
        self.watermarks = {(STATION, EPOCH): COUNT // PER_PACK}
        self.stored = {
            (STATION, DEVICE, name): Stored(
                START + 500 * n,
                np.array([raw(place, int(i)) for i in n]) / SCALE,
                np.zeros(COUNT, np.int64),
            )
            for place, name in enumerate(INDICATORS)
        }
        self.booked: list[Booked] = []
        self.windows: list[Window] = []
        self.told = [FIRST]

    def pack(self, seq: int, epoch: str = EPOCH) -> None:
        readings = [
            Reading(DEVICE, name, START + 500 * n, raw(place, n) / SCALE)
            for n in range((seq - 1) * PER_PACK + 1, seq * PER_PACK + 1)
            for place, name in enumerate(INDICATORS)
        ]
        self.accepted.take(STATION, epoch, seq, wire.encode_readings(readings))
        self.taken.add((STATION, epoch, seq))

    def drop_stored(self, *counts: int) -> None:
        for key, rows in self.stored.items():
            keep = ~np.isin(rows.t_ms, [START + 500 * n for n in counts])
            self.stored[key] = Stored(rows.t_ms[keep], rows.v[keep], rows.dup[keep])

    def take(self) -> account.Account:
        return account.take(
            self.served,
            self.accepted,
            self.stored,
            self.taken,
            self.booked,
            self.watermarks,
            self.windows,
            self.told,
        )


def lose(world: World, *seqs: int) -> None:
    """Take packs out of the server, truly."""
    for seq in seqs:
        world.taken.discard((STATION, EPOCH, seq))
        world.drop_stored(*range((seq - 1) * PER_PACK + 1, seq * PER_PACK + 1))


def test_a_good_run_is_even() -> None:
    found = World().take()
    assert found.even, found.notes
    assert (found.served, found.accepted, found.stored) == (80, 80, 80)
    assert (found.alerts_expected, found.epochs, found.cut) == (1, 1, 0)


@pytest.mark.parametrize("n", [1, 12, COUNT])
def test_a_value_that_was_accepted_and_is_not_stored_is_missing(n: int) -> None:
    world = World()
    world.drop_stored(n)
    found = world.take()
    assert (found.missing, found.even) == (2, False)


def test_a_value_stored_twice_is_doubled() -> None:
    world = World()
    rows = world.stored[CALM]
    world.stored[CALM] = Stored(
        np.append(rows.t_ms, rows.t_ms[3] + 1), np.append(rows.v, rows.v[3]), np.append(rows.dup, 0)
    )
    found = world.take()
    assert (found.doubled, found.even) == (1, False)


def test_a_second_value_at_one_time_is_doubled() -> None:
    world = World()
    world.stored[CALM].dup[3] = 1
    assert world.take().doubled == 1


@pytest.mark.parametrize("step", [1e-9, 2e-25])
def test_another_value_is_differing(step: float) -> None:
    world = World()
    world.stored[CALM].v[-1] += step
    if step < 1e-12:
        world.stored[CALM].v[-1] = np.nextafter(world.stored[CALM].v[-1], 1)
    assert world.take().differing == 1


def test_a_value_under_another_time_is_differing() -> None:
    world = World()
    world.stored[CALM].t_ms[5] += 1
    assert (world.take().differing, world.take().missing) == (1, 0)


def test_what_was_served_and_never_spooled_needs_a_fault_near() -> None:
    world = World()
    n = np.arange(1, COUNT + 2)
    world.served[STATION, DEVICE] = Replies(INDICATORS, n, START + 500 * n, {0: list(OVER)})
    assert (world.take().missing, world.take().cut) == (2, 0)
    at = START + 500 * (COUNT + 1)
    world.windows = [Window(at - 1000, at + 1000, "ch-002")]
    assert world.take().missing == 2
    world.windows.append(Window(at - 1000, at + 1000, STATION))
    found = world.take()
    assert (found.missing, found.cut, found.even) == (0, 2, True)


def test_a_value_that_nobody_served_is_differing() -> None:
    world = World()
    n = np.arange(1, COUNT)
    world.served[STATION, DEVICE] = Replies(INDICATORS, n, START + 500 * n, {0: list(OVER)})
    assert world.take().differing == 2


def test_packs_that_are_gone_and_booked_are_no_fault() -> None:
    world = World()
    lose(world, 5, 6)
    stand_in = Booked(STATION, EPOCH, 5, 6, 16, "cap", 5, 16)
    world.taken.add((STATION, EPOCH, 6))  # the lost pack itself
    world.booked = [stand_in]
    found = world.take()
    assert found.even, found.notes
    assert (found.dropped, found.dropped_in_cap, found.booked_in_cap) == (16, 16, 16)
    assert (found.dropped_packs, found.booked_packs) == (2, 2)


def test_a_gap_that_is_booked_is_no_fault() -> None:
    world = World()
    lose(world, 1, 2)
    world.booked = [Booked(STATION, EPOCH, 1, 2, -1, "gap")]
    found = world.take()
    assert found.even, found.notes
    assert (found.gaps, found.gap_packs, found.dropped) == (1, 2, 16)


def test_packs_that_are_gone_and_not_booked_are_found() -> None:
    world = World()
    lose(world, 5)
    found = world.take()
    assert (found.unbooked, found.even) == (1, False)


def test_packs_that_are_booked_and_there_are_found() -> None:
    world = World()
    world.booked = [Booked(STATION, EPOCH, 5, 5, -1, "gap")]
    assert world.take().wrongly_booked == 1
    world.booked = [Booked(STATION, EPOCH, 11, 12, -1, "gap")]
    assert world.take().wrongly_booked == 2


def test_a_range_booked_twice_is_found() -> None:
    world = World()
    lose(world, 5)
    world.booked = [Booked(STATION, EPOCH, 5, 5, -1, "gap")] * 2
    assert world.take().wrongly_booked == 1


@pytest.mark.parametrize("readings", [7, 9])
def test_a_lost_pack_that_counts_wrongly_is_found(readings: int) -> None:
    world = World()
    lose(world, 5)
    world.taken.add((STATION, EPOCH, 5))
    world.booked = [Booked(STATION, EPOCH, 5, 5, readings, "cap", 5, readings)]
    assert world.take().wrongly_counted == 1


@pytest.mark.parametrize(("readings", "even"), [(8, True), (16, True), (7, False), (17, False)])
def test_of_a_range_that_overlaps_the_server_books_a_bound_of_the_rest(
    readings: int, *, even: bool
) -> None:
    """Packs 5 and 6 are lost at the edge, the server has 5: it books 6, of which eight readings are gone."""
    world = World()
    lose(world, 6)
    world.taken.add((STATION, EPOCH, 6))
    world.booked = [Booked(STATION, EPOCH, 6, 6, readings, "cap", 5, 16)]
    assert world.take().even is even


def test_what_was_dropped_unseen_is_said() -> None:
    world = World()
    lost = wire.encode_lost(wire.Lost(1, 3, 300, wire.LostReason.CAP))
    other = EPOCH[:-1] + "X"
    world.accepted.take(STATION, other, 3, lost)
    world.watermarks[STATION, other] = 3
    world.taken.add((STATION, other, 3))
    world.booked = [Booked(STATION, other, 1, 3, 300, "cap", 1, 300)]
    found = world.take()
    assert (found.unread, found.even) == (3, False)


def test_an_epoch_that_is_behind_is_found() -> None:
    world = World()
    world.watermarks[STATION, EPOCH] -= 1
    assert world.take().epochs_behind == 1


def test_a_missing_alert_is_found() -> None:
    world = World()
    world.told = []
    assert world.take().alerts_missing == 1


@pytest.mark.parametrize("alert", ["A1", "A2"])
def test_a_doubled_alert_is_found(alert: str) -> None:
    world = World()
    world.told.append(Told("evt_2", "alert.suspected", alert, BREACHED))
    found = world.take()
    assert (found.alerts_doubled, found.even) == (1, False)


@pytest.mark.parametrize(
    "told",
    [Told("evt_2", "alert.suspected", "A2", CALM), Told("evt_2", "alert.cleared", "A1", BREACHED)],
)
def test_an_alert_that_was_not_staged_is_found(told: Told) -> None:
    world = World()
    world.told.append(told)
    assert world.take().alerts_unexpected == 1


def test_a_breach_whose_packs_are_gone_is_not_expected() -> None:
    world = World()
    lose(world, 3, 4)  # counts 9 to 16
    world.booked = [Booked(STATION, EPOCH, 3, 4, -1, "gap")]
    world.told = []
    found = world.take()
    assert found.even, found.notes
    assert found.alerts_expected == 0


def test_a_failed_poll_is_counted_apart() -> None:
    world = World()
    failed = Reading(DEVICE, "water_cd", START + 99_000, None, "bad:no_answer")
    world.accepted.take(STATION, EPOCH, 11, wire.encode_readings([failed]))
    world.taken.add((STATION, EPOCH, 11))
    world.watermarks[STATION, EPOCH] = 11
    rows = world.stored[CALM]
    world.stored[CALM] = Stored(
        np.append(rows.t_ms, START + 99_000), np.append(rows.v, np.nan), np.append(rows.dup, 0)
    )
    found = world.take()
    assert found.even, found.notes
    assert (found.failed, found.stored) == (1, 80)


def full_disk(world: World, booked: int) -> None:
    """Let counts 41 … 44 be refused by a full disk, and ``booked`` readings of it be booked."""
    n = np.arange(1, COUNT + 5)
    world.served[STATION, DEVICE] = Replies(INDICATORS, n, START + 500 * n, {0: list(OVER)})
    at = START + 500 * COUNT
    world.windows = [Window(at + 1, at + 5000, STATION, full=True)]
    lost = wire.encode_lost(wire.Lost(11, 11, booked, wire.LostReason.CAP))
    world.accepted.take(STATION, EPOCH, 11, lost)
    world.watermarks[STATION, EPOCH] = 11
    world.taken.add((STATION, EPOCH, 11))
    world.booked = [Booked(STATION, EPOCH, 11, 11, booked, "cap", 11, booked)]


def test_what_a_full_disk_refused_is_no_fault_when_it_is_booked() -> None:
    world = World()
    full_disk(world, 8)
    found = world.take()
    assert found.even, found.notes
    assert (found.refused, found.refused_booked, found.missing) == (8, 8, 0)


@pytest.mark.parametrize("booked", [7, 9])
def test_what_a_full_disk_refused_must_be_booked_as_it_was(booked: int) -> None:
    world = World()
    full_disk(world, booked)
    found = world.take()
    assert (found.wrongly_refused, found.even) == (1, False)


def test_a_kill_may_take_what_was_refused_and_not_booked_yet() -> None:
    world = World()
    full_disk(world, 4)
    at = START + 500 * (COUNT + 3)
    world.windows.append(Window(at, at + 5000, STATION))  # the last two counts
    assert world.take().even
