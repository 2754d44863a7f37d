"""What the agent sends when, and what it makes of receipts: one property of DESIGN §3 per test."""

from __future__ import annotations

import itertools
import random
import sqlite3
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from ulid import ULID

from gateway import keys, wire
from gateway.link import (
    RESEND_FIRST_S,
    RESEND_MAX_S,
    STORE_SILENT_S,
    WINDOW_BYTES,
    WINDOW_LEAST_PACKS,
    WINDOW_PACKS,
    Facts,
    Link,
)
from gateway.spool import Spool
from gateway.wire import Lane, LostReason, ReceiptState

if TYPE_CHECKING:
    from collections.abc import Iterator

STATION = "hl-001"
KEY = Ed25519PrivateKey.generate()
WALL_MS = 1_777_600_000_000
S1, S2, S3, S4 = (f"01KA{n}AAAAAAAAAAAAAAAAAAAAA" for n in (1, 2, 3, 4))


class Edge:
    """One station with its spool in memory; the test is the network, the server and the clock."""

    def __init__(self, *, cap_bytes: int = 64 << 20) -> None:
        self.db = sqlite3.connect(":memory:", isolation_level=None)
        self.cap_bytes = cap_bytes
        self.now = 100.0
        self.facts = Facts()
        self.start()

    def start(self) -> None:
        self.spool = Spool(self.db, cap_bytes=self.cap_bytes, new_id=lambda: str(ULID()))
        self.link = Link(
            STATION,
            self.spool,
            session="01KASESS0N0000000000000000",
            public_key=keys.public_text(KEY),
            sign=lambda message: keys.sign(KEY, message),
            version="1.2",
            rng=random.Random(3),
        )

    def wall(self) -> int:
        return WALL_MS + int(self.now * 1000)

    def spool_packs(self, count: int, lane: Lane = Lane.READINGS, size: int = 20) -> str:
        for _ in range(count):
            self.spool.append(lane, b'{"readings":[],"p":"' + b"x" * size + b'"}', 1, self.wall())
        epoch = self.spool.current_epoch(lane)
        assert epoch is not None
        return epoch

    def sends(self, seconds: float = 0.0) -> list[object]:
        """What is published after ``seconds``: packs as (epoch, seq), statuses as Status."""
        self.now += seconds
        out: list[object] = []
        for send in self.link.outgoing(self.now, self.wall(), self.facts):
            assert send.retain is (send.leaf == "status")
            if send.leaf == "status":
                out.append(wire.decode_status(send.payload))
            else:
                pack = wire.decode_pack(send.payload)
                out.append((pack.epoch, pack.seq))
        return out

    def seqs(self, seconds: float = 0.0) -> list[int]:
        return [seq for sent in self.sends(seconds) if isinstance(sent, tuple) for seq in sent[1:]]

    def statuses(self, seconds: float = 0.0) -> list[wire.Status]:
        return [sent for sent in self.sends(seconds) if isinstance(sent, wire.Status)]

    def receipt(
        self,
        epoch: str,
        seq: int,
        *,
        store: str = S1,
        state: ReceiptState = ReceiptState.OK,
        ahead: bool = False,
        now_ms: int = WALL_MS,
    ) -> None:
        self.link.receipt(
            wire.Receipt(
                epoch=epoch, seq=seq, store=store, now_ms=now_ms, state=state, ahead=ahead
            ),
            self.now,
            self.wall(),
        )

    def connect(self) -> None:
        self.link.connected(self.now)

    def flowing(self, epoch: str) -> list[int]:
        """Connect, have the probe receipted, return what the opened window sends."""
        self.connect()
        assert self.seqs() == [1]
        self.now += 0.1
        self.receipt(epoch, 0)  # adopts the store
        assert self.seqs() == [1]
        self.now += 0.1
        self.receipt(epoch, 1)
        return self.seqs()


@pytest.fixture
def edge() -> Iterator[Edge]:
    edge = Edge()
    yield edge
    edge.db.close()


# ---- the window


def test_nothing_is_sent_before_a_connection_and_after_its_end(edge: Edge) -> None:
    epoch = edge.spool_packs(3)
    assert edge.sends() == []
    assert edge.link.next_wakeup(edge.now) is None
    edge.flowing(epoch)
    edge.link.disconnected()
    edge.spool_packs(3)
    assert edge.sends(1000.0) == []


def test_the_first_pack_of_a_connection_goes_alone(edge: Edge) -> None:
    edge.spool_packs(10)
    edge.connect()
    assert edge.seqs() == [1]
    assert edge.seqs(1.0) == []


def test_the_window_is_32_packs(edge: Edge) -> None:
    epoch = edge.spool_packs(100)
    assert edge.flowing(epoch) == list(range(2, 2 + WINDOW_PACKS))
    assert edge.seqs(0.1) == []
    edge.receipt(epoch, 11)
    assert edge.seqs() == list(range(34, 44))


def test_the_window_is_1_mib(edge: Edge) -> None:
    size = 100 * 1024
    epoch = edge.spool_packs(40, size=size)
    sent = edge.flowing(epoch)
    assert WINDOW_BYTES <= len(sent) * (size + 22) < WINDOW_BYTES + size + 22
    edge.receipt(epoch, 2)
    assert edge.seqs() == [2 + len(sent)]


def test_the_window_shrinks_while_receipts_are_slow_and_grows_again(edge: Edge) -> None:
    epoch = edge.spool_packs(800)
    sent = edge.flowing(epoch)
    assert len(sent) == WINDOW_PACKS
    widths = []
    for wait_s in [0.8] * 4 + [0.1] * 2:
        edge.now += wait_s
        edge.receipt(epoch, max(sent))  # one receipt for the whole window
        sent = edge.seqs()
        widths.append(len(sent))
    assert widths == [16, 8, WINDOW_LEAST_PACKS, WINDOW_LEAST_PACKS, 5, 6]
    for _ in range(WINDOW_PACKS):
        edge.now += 0.1
        edge.receipt(epoch, max(sent))
        sent = edge.seqs()
    assert len(sent) == WINDOW_PACKS


def test_one_slow_round_trip_halves_the_window_once(edge: Edge) -> None:
    epoch = edge.spool_packs(200)
    edge.flowing(epoch)
    edge.now += 0.8
    for seq in range(
        2, 18
    ):  # sixteen receipts about packs that were all sent before the first of them came
        edge.receipt(epoch, seq)
    assert edge.seqs() == []
    edge.receipt(epoch, 20)
    assert len(edge.seqs()) == 3


def test_each_lane_has_its_own_window_and_tests_go_first(edge: Edge) -> None:
    readings = edge.spool_packs(50)
    tests = edge.spool_packs(50, Lane.TESTS)
    edge.connect()
    packs = [sent for sent in edge.sends() if isinstance(sent, tuple)]
    assert packs == [(tests, 1), (readings, 1)]
    edge.receipt(readings, 0)
    edge.sends()
    edge.receipt(readings, 1)
    assert (
        len(edge.seqs()) == WINDOW_PACKS
    )  # a lane whose probe is not answered holds up only itself


def test_an_epoch_waits_until_the_one_before_is_fully_receipted(edge: Edge) -> None:
    first = edge.spool_packs(3)
    edge.start()
    second = edge.spool_packs(2)
    assert edge.flowing(first) == [2, 3]
    assert edge.sends(0.1) == []
    edge.receipt(first, 2)
    assert edge.sends() == []
    edge.receipt(first, 3)
    assert edge.sends() == [(second, 1), (second, 2)]


# ---- resending


def test_without_progress_one_pack_is_resent_after_5_s_then_doubling_to_5_min(edge: Edge) -> None:
    epoch = edge.spool_packs(50)
    edge.flowing(epoch)
    began = edge.now
    probes = []
    while edge.now < began + 2000:
        wait = edge.link.next_wakeup(edge.now)
        assert wait is not None
        sent = edge.seqs(wait)
        if sent:
            assert sent == [2]
            probes.append(edge.now - began)
    gaps = [round(b - a) for a, b in zip([0.0, *probes], probes, strict=False)]
    expected = [RESEND_FIRST_S, 5, 10, 20, 40, 80, 160, RESEND_MAX_S, RESEND_MAX_S, RESEND_MAX_S]
    assert gaps[: len(expected)] == [round(e) for e in expected]


def test_progress_puts_off_the_resend_and_ends_probing(edge: Edge) -> None:
    epoch = edge.spool_packs(100)
    edge.flowing(epoch)
    for seq in range(2, 8):
        edge.now += RESEND_FIRST_S - 0.5
        edge.receipt(epoch, seq)
        assert 2 not in edge.seqs()
    assert edge.seqs(RESEND_FIRST_S) == [8]
    edge.receipt(epoch, 8)
    assert len(edge.seqs()) > 1


def test_a_receipt_goes_back_only_when_it_says_ahead(edge: Edge) -> None:
    epoch = edge.spool_packs(50)
    edge.flowing(epoch)
    edge.receipt(epoch, 3)
    edge.seqs()
    edge.receipt(epoch, 3)  # a duplicate came, or a status was answered
    assert edge.seqs(0.01) == []
    edge.receipt(epoch, 3, ahead=True)
    assert edge.seqs()[0] == 4


def test_it_goes_back_once_per_seq_and_round_trip(edge: Edge) -> None:
    epoch = edge.spool_packs(50)
    edge.flowing(epoch)  # each pack sent once took 0.1 s
    edge.now += 0.1
    edge.receipt(epoch, 3)
    edge.seqs()
    edge.receipt(epoch, 3, ahead=True)
    assert edge.seqs()[0] == 4
    edge.now += 0.05
    edge.receipt(epoch, 3, ahead=True)
    assert edge.seqs() == []  # about packs that were sent before it went back
    edge.receipt(epoch, 4, ahead=True)
    assert edge.seqs()[0] == 5  # another seq
    edge.now += 0.2
    edge.receipt(epoch, 4, ahead=True)
    assert edge.seqs()[0] == 5  # a round trip later it is news


def test_until_a_round_trip_is_known_it_is_a_second(edge: Edge) -> None:
    epoch = edge.spool_packs(50)
    edge.connect()
    edge.receipt(epoch, 0)
    assert edge.seqs() == [1]
    edge.now += 0.9
    edge.receipt(epoch, 0)
    assert edge.seqs() == []
    edge.now += 0.2
    edge.receipt(epoch, 0)
    assert edge.seqs() == [1]  # while probing, a status answer says that the server is there


def test_a_lane_whose_receipts_the_spool_forgot_asks_again(edge: Edge) -> None:
    epoch = edge.spool_packs(5)
    edge.flowing(epoch)
    edge.receipt(epoch, 5)
    assert edge.spool.queue_length() == 0
    edge.spool._load()  # what a transaction that failed does: the receipts were not on disk yet
    assert edge.spool.queue_length() == 5
    assert edge.seqs(1.0) == [1]
    wait = edge.link.next_wakeup(edge.now)
    assert wait is not None
    assert wait > 1.0


# ---- status


def test_a_status_goes_first_at_each_connect(edge: Edge) -> None:
    epoch = edge.spool_packs(2)
    for _ in range(2):
        edge.connect()
        first, *rest = edge.sends()
        assert isinstance(first, wire.Status)
        assert rest == [(epoch, 1)]
    assert first.online
    assert first.version == "1.2"
    assert first.queue == 2
    message = wire.status_signing_bytes(STATION, first.session, first.lanes)
    assert keys.verify(first.key, first.sig, message)
    assert first.lanes == {Lane.READINGS: [wire.EpochState(epoch, 1, 2)]}


def test_a_status_goes_every_60_s(edge: Edge) -> None:
    edge.connect()
    assert len(edge.statuses()) == 1
    for _ in range(20):
        wait = edge.link.next_wakeup(edge.now)
        assert wait is not None
        edge.sends(wait)  # prune, every 10 s
    sent_at = [edge.now for _ in range(1000) if edge.statuses(1.0)]
    gaps = [b - a for a, b in itertools.pairwise(sent_at)]
    assert all(56 <= gap <= 64 for gap in gaps)
    assert len(set(gaps)) > 1  # spread: a county must not speak in chorus


def test_a_device_that_ceases_to_answer_is_said_within_10_s_and_not_more_often(edge: Edge) -> None:
    edge.link.connected(edge.now)
    edge.facts = Facts(devices=[wire.DeviceSeen("a", 5, ok=True)])
    assert len(edge.statuses()) == 1
    edge.facts = Facts(devices=[wire.DeviceSeen("a", 5, ok=False)])
    assert edge.statuses(1.0) == []
    (said,) = edge.statuses(9.0)
    assert said.devices == [wire.DeviceSeen("a", 5, ok=False)]
    flapping = (Facts(devices=[wire.DeviceSeen("a", 5, ok=bool(n % 2))]) for n in range(1, 31))
    count = 0
    for edge.facts in flapping:
        count += len(edge.statuses(1.0))
    assert count == 3


def test_a_new_epoch_is_announced_before_its_first_pack(edge: Edge) -> None:
    epoch = edge.spool_packs(1)
    edge.flowing(epoch)
    tests = edge.spool_packs(1, Lane.TESTS)
    status, pack = edge.sends()
    assert isinstance(status, wire.Status)
    assert [e.epoch for e in status.lanes[Lane.TESTS]] == [tests]
    assert pack == (tests, 1)


def test_pending_for_a_pack_is_answered_with_a_status_but_not_pending_for_a_status(
    edge: Edge,
) -> None:
    epoch = edge.spool_packs(3)
    edge.connect()
    edge.receipt(epoch, 0)
    edge.sends()
    edge.now += 2.0
    edge.receipt(epoch, 0, state=ReceiptState.PENDING)  # of the probe
    assert len(edge.statuses()) == 1
    for _ in range(5):  # of that status: no loop
        edge.now += 0.2
        edge.receipt(epoch, 0, state=ReceiptState.PENDING)
        assert edge.sends() == []


def test_pending_and_hold_stop_the_window_and_probe_slowly(edge: Edge) -> None:
    for state in (ReceiptState.PENDING, ReceiptState.HOLD):
        epoch = edge.spool_packs(100)
        edge.connect()
        edge.sends()
        edge.receipt(epoch, edge.spool.epochs[epoch].acked + 1)
        assert edge.seqs()
        edge.receipt(epoch, edge.spool.epochs[epoch].acked, state=state)
        probes = [len(sent) for _ in range(600) if (sent := edge.seqs(1.0))]
        assert len(probes) <= 8
        assert set(probes) == {1}


def test_the_goodbye_is_a_retained_status_that_is_offline(edge: Edge) -> None:
    send = edge.link.goodbye(edge.now, edge.wall(), Facts())
    status = wire.decode_status(send.payload)
    assert (send.leaf, send.retain, status.online) == ("status", True, False)
    assert status.key


def test_what_the_process_and_the_spool_raise_stands_in_the_status(edge: Edge) -> None:
    edge.spool.alarms.add("spool_full")
    edge.connect()
    facts = Facts(devices=[wire.DeviceSeen("a", 5, ok=True)], disk_free=9, alarms=["clock_unset"])
    [send] = edge.link.outgoing(edge.now, edge.wall(), facts)
    status = wire.decode_status(send.payload)
    assert status.alarms == ["clock_unset", "spool_full"]
    assert status.devices == [wire.DeviceSeen("a", 5, ok=True)]
    assert status.disk_free == 9


# ---- server lives


def test_a_new_store_makes_every_pack_of_other_epochs_unreceipted(edge: Edge) -> None:
    readings = edge.spool_packs(3)
    tests = edge.spool_packs(2, Lane.TESTS)
    edge.connect()
    edge.receipt(readings, 3)
    edge.receipt(tests, 2)
    assert edge.spool.queue_length() == 0
    edge.sends(5.0)
    edge.now += 5.0
    edge.receipt(readings, 3, store=S2)
    assert edge.spool.queue_length() == 2
    status, *packs = edge.sends()
    assert isinstance(status, wire.Status)  # at once
    assert packs == [(tests, 1)]  # and it probes


def test_a_restored_server_gets_what_it_lacks(edge: Edge) -> None:
    epoch = edge.spool_packs(4)
    assert edge.flowing(epoch) == [2, 3, 4]
    edge.receipt(epoch, 4)
    edge.now += 5.0
    edge.receipt(epoch, 1, store=S2)  # the server came back from a copy that has 1 only
    sent = edge.seqs()
    while edge.spool.queue_length() and edge.now < 200:
        if sent:
            edge.receipt(epoch, max(sent), store=S2)
        sent = edge.seqs(0.1)
        if sent:
            assert sent[0] >= 2
    assert edge.spool.queue_length() == 0


@pytest.mark.parametrize("had", [0, 1, 2, 3])
def test_every_pack_behind_a_restored_servers_last_is_sent_again(edge: Edge, had: int) -> None:
    epoch = edge.spool_packs(4)
    edge.flowing(epoch)  # 1 … 4 were sent, 1 is receipted
    edge.now += 1.0
    edge.receipt(epoch, had, store=S2)
    resent = set(edge.seqs())
    if resent:
        edge.receipt(epoch, max(resent), store=S2)
    resent |= set(edge.seqs(0.1))
    assert resent == set(range(had + 1, 5))


def test_a_superseded_store_is_ignored(edge: Edge) -> None:
    epoch = edge.spool_packs(4)
    edge.flowing(epoch)
    edge.receipt(epoch, 1, store=S2)
    edge.receipt(epoch, 3, store=S1)
    assert edge.spool.epochs[epoch].acked == 1
    assert edge.spool.store == S2


def test_a_lower_seq_of_the_same_store_is_ignored(edge: Edge) -> None:
    epoch = edge.spool_packs(4)
    edge.flowing(epoch)
    edge.receipt(epoch, 3)
    edge.receipt(epoch, 2)
    assert edge.spool.epochs[epoch].acked == 3


def test_a_late_receipt_of_a_life_never_met_does_not_shut_out_the_present_one(edge: Edge) -> None:
    epoch = edge.spool_packs(6)
    edge.flowing(epoch)
    edge.receipt(epoch, 2, store=S4)
    edge.receipt(epoch, 5, store=S3)  # began before S4, was never heard of, comes late
    assert edge.spool.store == S4
    assert edge.spool.epochs[epoch].acked == 2
    edge.receipt(epoch, 4, store=S4)
    assert edge.spool.epochs[epoch].acked == 4


def test_when_the_current_store_is_silent_another_is_believed(edge: Edge) -> None:
    epoch = edge.spool_packs(6)
    edge.flowing(epoch)
    edge.receipt(epoch, 3, store=S4)
    edge.now += STORE_SILENT_S - 1
    edge.receipt(epoch, 1, store=S3)
    assert edge.spool.store == S4
    edge.now += 1
    edge.receipt(epoch, 1, store=S3)  # the server's clock went back, or this spool is an old copy
    assert edge.spool.store == S3
    assert edge.spool.epochs[epoch].acked == 1
    edge.receipt(epoch, 2, store=S4)
    assert edge.spool.store == S3


def test_a_store_that_speaks_is_not_silent(edge: Edge) -> None:
    epoch = edge.spool_packs(6)
    edge.flowing(epoch)
    edge.receipt(epoch, 3, store=S4)
    for _ in range(5):
        edge.now += STORE_SILENT_S - 1
        edge.receipt(epoch, 3, store=S4)
        edge.receipt(epoch, 1, store=S3)
    assert edge.spool.store == S4


def test_stores_survive_a_restart(edge: Edge) -> None:
    epoch = edge.spool_packs(4)
    edge.flowing(epoch)
    edge.receipt(epoch, 2, store=S2)
    edge.spool.flush()
    edge.start()
    edge.connect()
    edge.receipt(epoch, 4, store=S1)
    assert (edge.spool.store, edge.spool.epochs[epoch].acked) == (S2, 2)


# ---- receipts beyond what is held


def test_beyond_the_last_in_an_earlier_epoch_all_is_receipted_and_it_is_said(edge: Edge) -> None:
    epoch = edge.spool_packs(3)
    edge.start()
    edge.connect()
    edge.sends()
    edge.receipt(epoch, 9)
    assert edge.spool.queue_length() == 0
    assert edge.spool.epochs[epoch].acked == 3
    [status] = edge.statuses(60 * 1.06)
    assert "spool_restored" in status.alarms


def test_beyond_the_last_in_the_open_epoch_the_rest_moves_to_a_new_one(edge: Edge) -> None:
    epoch = edge.spool_packs(4)
    edge.flowing(epoch)
    edge.receipt(epoch, 2)
    bodies = [pack.body for pack in edge.spool.packs_from(epoch, 3, 10)]
    edge.receipt(epoch, 9)
    fresh = edge.spool.current_epoch(Lane.READINGS)
    assert fresh is not None
    assert fresh != epoch
    assert [pack.body for pack in edge.spool.packs_from(fresh, 1, 10)] == bodies
    assert "spool_restored" in edge.spool.alarms
    status, *packs = edge.sends()
    assert isinstance(status, wire.Status)
    assert packs == [(fresh, 1)]
    edge.receipt(epoch, 9)  # the next status will bring it again
    assert edge.spool.current_epoch(Lane.READINGS) == fresh


def test_a_receipt_of_an_unknown_epoch_is_ignored_whatever_it_says(edge: Edge) -> None:
    epoch = edge.spool_packs(4)
    edge.flowing(epoch)
    edge.sends(1.0)  # the status that the first receipt's store asked for
    before = (edge.spool.store, edge.link.last_receipt_ms, edge.spool.epochs[epoch].acked)
    edge.now += 1.0
    edge.receipt("01KAZZZZZZZZZZZZZZZZZZZZZZ", 3, store=S4, state=ReceiptState.PENDING)
    assert (edge.spool.store, edge.link.last_receipt_ms, edge.spool.epochs[epoch].acked) == before
    assert edge.sends() == []


# ---- receipts that cannot be true


def events(edge: Edge) -> list[str]:
    return [remark.event for remark in edge.link.take_remarks()]


def test_a_server_life_from_the_future_is_said_once_and_the_true_one_comes_back(edge: Edge) -> None:
    epoch = edge.spool_packs(6)
    edge.flowing(epoch)
    assert events(edge) == ["delivering"]
    forged = "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"
    for _ in range(3):
        edge.receipt(epoch, 6, store=forged)  # claims all that was never confirmed
    assert events(edge) == ["server_life_from_the_future"]
    edge.now += STORE_SILENT_S
    edge.receipt(epoch, 1)
    assert events(edge) == ["server_life_changed"]
    assert edge.spool.store == S1
    assert edge.spool.queue_length() == 5  # what the forged receipt claimed goes again
    assert edge.seqs() == [2]


def test_a_receipt_beyond_the_spool_is_said_once_and_loses_nothing(edge: Edge) -> None:
    epoch = edge.spool_packs(3)
    edge.flowing(epoch)
    events(edge)
    for _ in range(3):
        edge.receipt(epoch, 1_000)
    assert events(edge) == ["receipt_beyond_the_spool"]
    fresh = edge.spool.current_epoch(Lane.READINGS)
    assert fresh != epoch
    assert fresh is not None
    assert (
        edge.spool.epochs[fresh].last == 2
    )  # 2 and 3, not receipted, stand again under a new epoch
    assert "spool_restored" in edge.link.alarms(edge.now, edge.wall())


def test_a_receipt_whose_time_is_far_off_is_corrected_by_the_next(edge: Edge) -> None:
    epoch = edge.spool_packs(5)
    edge.flowing(epoch)
    edge.now += 0.1
    edge.receipt(epoch, 2, now_ms=edge.wall())
    events(edge)
    year_ms = 365 * 86_400_000
    edge.seqs()
    edge.receipt(epoch, 3, now_ms=edge.wall() + 70 * year_ms)
    assert events(edge) == ["server_clock_stepped"]
    assert edge.link.alarms(edge.now, edge.wall()) == {"clock_off"}
    edge.now += 0.1
    edge.receipt(epoch, 4, now_ms=edge.wall())
    assert events(edge) == ["server_clock_stepped"]
    assert edge.link.alarms(edge.now, edge.wall()) == set()
    edge.receipt(epoch, 5, now_ms=-(2**53) + 1)
    assert edge.spool.queue_length() == 0


# ---- what the server says


def test_what_the_server_says_of_our_packs_is_said_once_per_change(edge: Edge) -> None:
    epoch = edge.spool_packs(60)
    edge.connect()
    edge.sends()
    said = []
    for state in [ReceiptState.PENDING] * 3 + [ReceiptState.OK] * 2 + [ReceiptState.HOLD] * 2:
        edge.now += 1.0
        edge.receipt(epoch, 1, state=state)
        said += events(edge)
    edge.link.disconnected()
    edge.connect()
    edge.receipt(epoch, 2, state=ReceiptState.HOLD)
    edge.receipt(epoch, 3)
    assert said + events(edge) == ["key_pending", "delivering", "server_holds", "delivering"]


# ---- the rest


@pytest.mark.parametrize("set_by_s", [365 * 86_400, -365 * 86_400, 60 - WALL_MS // 1000])
def test_a_wall_clock_that_is_set_drops_and_stops_nothing(edge: Edge, set_by_s: int) -> None:
    """Retention looks at the wall clock; what the server has not confirmed is not its business."""
    epoch = edge.spool_packs(40)
    sent = edge.flowing(epoch)

    def sends(seconds: float) -> list[wire.Pack]:
        edge.now += seconds
        wall_ms = edge.wall() + set_by_s * 1000
        out = edge.link.outgoing(edge.now, wall_ms, Facts())
        return [wire.decode_pack(send.payload) for send in out if send.leaf == "up"]

    edge.receipt(epoch, max(sent))
    waiting = edge.spool.queue_length()
    assert waiting == 40 - max(sent)
    packs = sends(61.0)  # ages are looked at once a minute
    assert edge.spool.queue_length() == waiting
    assert edge.spool.append_many([(Lane.READINGS, b'{"readings":[]}', 1)], 60_000) is None
    for _ in range(10):
        if packs:
            edge.receipt(epoch, packs[-1].seq)
        packs = sends(0.1)
    assert edge.spool.queue_length() == 0
    assert edge.spool.epochs[epoch].last == edge.spool.epochs[epoch].acked == 41


def test_alarms_of_the_clock_come_and_go_by_themselves(edge: Edge) -> None:
    epoch = edge.spool_packs(1)
    edge.connect()
    edge.sends()
    edge.receipt(epoch, 0, now_ms=edge.wall() + 301_000)
    [status] = edge.statuses(70.0)
    assert status.alarms == ["clock_off"]
    [send] = [
        send
        for send in edge.link.outgoing(edge.now + 70, edge.wall() + 371_000, Facts())
        if send.leaf == "status"
    ]
    assert wire.decode_status(send.payload).alarms == []  # somebody set the clock
    assert edge.link.alarms(edge.now, 86_400_000) == {"clock_unset"}


def test_the_clock_offset_is_the_servers_minus_ours(edge: Edge) -> None:
    epoch = edge.spool_packs(1)
    edge.connect()
    edge.sends()
    assert edge.link.server_clock.offset_ms(edge.wall(), edge.now) is None
    edge.receipt(epoch, 0, now_ms=edge.wall() + 7_000)
    assert edge.link.server_clock.offset_ms(edge.wall(), edge.now) == 7_000
    assert edge.link.last_receipt_ms == edge.wall()
    [status] = edge.statuses(70.0)
    assert status.clock_offset_ms == 7_000


def test_a_pack_dropped_while_in_flight_is_sent_as_lost(edge: Edge) -> None:
    edge = Edge(cap_bytes=4_000)
    epoch = edge.spool_packs(8, size=200)
    edge.connect()
    edge.sends()
    edge.spool_packs(20, size=200)
    sent = edge.link.outgoing(edge.now + 10, edge.wall(), Facts())
    packs = [wire.decode_pack(s.payload) for s in sent if s.leaf == "up"]
    lost = wire.peek_lost(packs[0].body)
    assert lost is not None
    assert (packs[0].epoch, packs[0].oldest, lost.from_seq) == (epoch, 1, 1)
    assert packs[0].seq == lost.through > 8
    assert lost.reason is LostReason.CAP
    edge.db.close()


def test_a_corrupt_pack_is_sent_as_lost_in_its_place(edge: Edge) -> None:
    epoch = edge.spool_packs(3)
    edge.db.execute("UPDATE packs SET body = X'00ff' WHERE seq = 2")
    edge.connect()
    edge.receipt(epoch, 1)
    [payload] = [s.payload for s in edge.link.outgoing(edge.now, 1, Facts()) if s.leaf == "up"]
    pack = wire.decode_pack(payload)
    assert wire.peek_lost(pack.body) == wire.Lost(2, 2, 1, LostReason.CORRUPT)


def test_prune_runs_while_offline_too(edge: Edge) -> None:
    epoch = edge.spool_packs(2)
    edge.flowing(epoch)
    edge.receipt(epoch, 2)
    edge.link.disconnected()
    edge.sends(8 * 24 * 3600.0)
    assert edge.spool.epochs[epoch].packs == 0
