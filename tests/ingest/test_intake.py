"""Which pack is taken, what is booked as lost, what is answered: DESIGN §3, one sentence per test, on a real inbox."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, field

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from ulid import ULID

from gateway import keys, wire
from gateway.wire import EpochState, Lane, Lost, LostReason, ReceiptState
from ingest.inbox import Inbox
from ingest.intake import Intake, Outcome

STATION = "hl-001"
E1, E2 = "01KAAAAAAAAAAAAAAAAAAAAAA1", "01KAAAAAAAAAAAAAAAAAAAAAA2"
STORE = "01KASTARE00000000000000000"
KEY, STRANGER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
NOW = 1_777_600_000_000


@dataclass
class Approvals:
    keys: set[str] = field(default_factory=lambda: {keys.public_text(KEY)})
    replaced: dict[str, int] = field(default_factory=dict)

    def is_registered(self, station: str) -> bool:
        return station == STATION

    def is_approved(self, station: str, key: str) -> bool:
        return station == STATION and key in self.keys

    def may_deliver(self, station: str, key: str, epoch: str) -> bool:
        began_ms = ULID.from_str(epoch).milliseconds
        return self.is_approved(station, key) or began_ms <= self.replaced.get(key, -1)


class Server:
    """The intake on an inbox in memory."""

    def __init__(self) -> None:
        self.db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self.approvals = Approvals()
        self.restart()

    def restart(self, store: str = STORE) -> None:
        self.inbox = Inbox(self.db, self.db)
        self.intake = Intake(self.inbox, self.approvals, store=store)

    def pack(self, seq, *, epoch=E1, oldest=1, body=None, station=STATION) -> Outcome:
        body = b'{"readings":[],"n":%d}' % seq if body is None else body
        payload = wire.encode_pack(epoch, seq, oldest, NOW, body)
        return self.intake.pack(wire.topic(station, "up"), payload, NOW)

    def lost(self, first, through, *, readings=50, seq=None, oldest=None) -> Outcome:
        body = wire.encode_lost(Lost(first, through, readings, LostReason.CAP))
        return self.pack(seq or through, body=body, oldest=oldest or 1)

    def status(self, *epochs, key=KEY, retained=False, station=STATION, session="s1", changed=()):
        lanes = {Lane.READINGS: [EpochState(*e) for e in epochs]}
        message = wire.status_signing_bytes(station, session, lanes)
        status = wire.Status(
            online=True,
            session=session,
            lanes=lanes,
            key=keys.public_text(key),
            sig=keys.sign(key, message),
        )
        for name, value in dict(changed).items():
            setattr(status, name, value)
        payload = wire.encode_status(status)
        self.intake.status(wire.topic(station, "status"), payload, NOW, retained=retained)

    def will(self, session, station=STATION):
        topic = wire.topic(station, "status")
        self.intake.status(topic, wire.encode_will(session), NOW, retained=False)

    def commit(self):
        return self.intake.commit(NOW)

    def answers(self):
        return {
            receipt.epoch: (receipt.seq, receipt.state.value, receipt.ahead)
            for _, receipt in self.commit().receipts
        }

    def last(self, epoch=E1) -> int:
        return self.inbox.watermarks()[STATION, epoch].last

    def stored(self, epoch=E1) -> list[int]:
        return [pack.seq for pack in self.inbox.read_after(0, 1000) if pack.epoch == epoch]

    def losses(self) -> list[tuple[int, int, int, str]]:
        losses = reversed(self.inbox.losses())
        return [(x.from_seq, x.through_seq, x.readings, str(x.reason)) for x in losses]


@pytest.fixture
def server():
    server = Server()
    yield server
    server.db.close()


@pytest.fixture
def known(server):
    """A server that knows E1 as the approved key's."""
    server.status((E1, 1, 0))
    server.commit()
    return server


# ---- Ingest takes


def test_an_unknown_epoch_begins_at_0(known):
    assert known.last() == 0
    assert known.pack(1) is Outcome.TAKEN
    assert known.answers() == {E1: (1, "ok", False)}


def test_seq_at_or_below_last_is_dropped_and_answered(known):
    for seq in (1, 2):
        known.pack(seq)
    known.commit()
    assert known.pack(2) is Outcome.DUPLICATE
    assert known.pack(1) is Outcome.DUPLICATE
    assert known.answers() == {E1: (2, "ok", False)}
    assert known.stored() == [1, 2]


def test_last_plus_1_is_taken_also_within_one_commit(known):
    assert [known.pack(seq) for seq in (1, 2, 3)] == [Outcome.TAKEN] * 3
    committed = known.commit()
    assert [pack.seq for pack in committed.packs] == [1, 2, 3]
    assert [receipt.seq for _, receipt in committed.receipts] == [3]


def test_beyond_last_plus_1_is_refused_and_says_ahead(known):
    assert known.pack(2) is Outcome.OUT_OF_ORDER
    assert known.answers() == {E1: (0, "ok", True)}
    assert known.stored() == []
    known.pack(1)
    assert known.answers() == {E1: (1, "ok", False)}


def test_a_lost_that_joins_on_is_taken_and_booked(known):
    known.pack(1)
    assert known.lost(2, 9) is Outcome.TAKEN
    assert known.answers() == {E1: (9, "ok", False)}
    assert known.losses() == [(2, 9, 50, "cap")]


def test_of_a_lost_that_reaches_back_only_the_new_part_is_booked(known):
    for seq in (1, 2, 3):
        known.pack(seq)
    assert known.lost(2, 9) is Outcome.TAKEN
    known.commit()
    assert known.losses() == [(4, 9, 50, "cap")]


def test_of_a_lost_that_reaches_back_no_more_readings_are_booked_than_the_new_part_can_hold(known):
    for seq in (1, 2, 3):
        known.pack(seq)
    assert known.lost(2, 4, readings=12_700) is Outcome.TAKEN
    known.commit()
    assert known.losses() == [(4, 4, 100, "cap")]


def test_a_lost_that_is_past_is_a_duplicate(known):
    for seq in (1, 2, 3):
        known.pack(seq)
    assert known.lost(1, 3) is Outcome.DUPLICATE
    known.commit()
    assert known.losses() == []


def test_a_lost_beyond_last_plus_1_is_refused(known):
    assert known.lost(2, 9) is Outcome.OUT_OF_ORDER
    assert known.answers() == {E1: (0, "ok", True)}
    assert known.losses() == []


def test_oldest_beyond_last_plus_1_in_a_pack_is_a_gap_booked_once(known):
    known.pack(1)
    assert known.pack(7, oldest=5) is Outcome.OUT_OF_ORDER
    assert known.answers() == {E1: (4, "ok", True)}
    assert known.losses() == [(2, 4, -1, "gap")]
    for seq in (5, 6, 7):
        assert known.pack(seq, oldest=5) is Outcome.TAKEN
    known.commit()
    assert known.losses() == [(2, 4, -1, "gap")]
    assert known.last() == 7


def test_oldest_beyond_last_plus_1_in_a_status_is_a_gap_booked_once(known):
    known.pack(1)
    known.status((E1, 5, 9))
    assert known.answers() == {E1: (4, "ok", False)}
    known.status((E1, 5, 9))
    assert known.pack(5, oldest=5) is Outcome.TAKEN
    known.commit()
    assert known.losses() == [(2, 4, -1, "gap")]


def test_an_epoch_of_which_nothing_is_held_any_more_is_a_gap_to_its_end(known):
    known.pack(1)
    known.status((E1, 4, 3))
    known.commit()
    assert known.losses() == [(2, 3, -1, "gap")]
    assert known.last() == 3


def test_a_gap_is_booked_at_the_first_status_of_an_epoch_never_seen(server):
    server.status((E2, 4, 6))
    server.commit()
    assert server.losses() == [(1, 3, -1, "gap")]


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        (b"agri1 short\n{}", "header"),
        (b"\x00" * 300, "header"),
        (wire.encode_pack(E1, 1, 1, NOW, b"{}") + b" ", "header.len"),
        (wire.encode_pack(E1, 1, 1, NOW, b"{}")[:-2] + b"[]", "header.hash"),
        (wire.encode_pack(E1, 1, 1, NOW, b"x" * (300 << 10)), "body"),
    ],
)
def test_what_is_no_pack_is_dropped_counted_and_its_bytes_kept(known, payload, field):
    topic = wire.topic(STATION, "up")
    assert known.intake.pack(topic, payload, NOW) is Outcome.DAMAGED
    committed = known.commit()
    assert committed.receipts == []
    [message] = known.inbox.damaged()
    assert (message.topic, message.field, message.payload) == (topic, field, payload)
    assert message.reason.startswith(field)
    assert known.intake.counts[Outcome.DAMAGED] == 1
    assert known.last() == 0


def test_a_station_code_that_is_none_names_the_topic(known):
    payload = wire.encode_pack(E1, 1, 1, NOW, b"{}")
    assert known.intake.pack("agri/v1/A B/up", payload, NOW) is Outcome.DAMAGED
    known.commit()
    assert "station code 'A B'" in known.inbox.damaged()[0].reason


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"\xff\xfe",
        b'{"readings":[' + b"[" * 50_000 + b"]" * 50_000 + b"]}",
        b'{"lost":{"from":1,"through":1,"readings":0,"reason":"\xff"}}',
        b'{"lost":{"from":1,"through":1,"readings":99999999999999999999999,"reason":"cap"}}',
        b'{"lost":' + b"[" * 400 + b"]" * 400 + b"}",
    ],
)
def test_a_body_that_does_not_decode_is_taken_all_the_same(known, body):
    assert known.pack(1, body=body) is Outcome.TAKEN
    assert known.pack(2) is Outcome.TAKEN
    assert known.answers() == {E1: (2, "ok", False)}
    assert known.losses() == []
    assert known.inbox.read_after(0, 1)[0].body == body
    stored = known.inbox.pack(STATION, E1, 1)
    assert stored is not None
    assert wire.decode_pack(stored.header.encode() + b"\n" + stored.body).body == body


def test_a_body_that_contradicts_its_header_is_no_lost_range(known):
    assert known.lost(1, 9, seq=1) is Outcome.TAKEN
    known.commit()
    assert known.losses() == []
    assert known.last() == 1


def test_a_lost_range_is_known_however_its_json_is_written(known):
    lost = {"clk": "sync", "lost": {"reason": "cap", "readings": 5, "through": 4, "from": 1}}
    assert known.pack(4, body=json.dumps(lost, indent=1).encode()) is Outcome.TAKEN
    known.commit()
    assert known.losses() == [(1, 4, 5, "cap")]


def test_watermarks_outlive_the_packs(known):
    for seq in (1, 2, 3):
        known.pack(seq)
    known.commit()
    assert known.inbox.prune(NOW + 1, 3) == 3
    known.restart()
    assert known.stored() == []
    assert known.pack(2) is Outcome.DUPLICATE
    assert known.pack(4) is Outcome.TAKEN


def test_epochs_are_apart(known):
    known.status((E1, 1, 0), (E2, 1, 0))
    known.pack(1)
    known.pack(2, epoch=E2)
    assert known.answers() == {E1: (1, "ok", False), E2: (0, "ok", True)}


# ---- Receipt


def test_there_is_one_receipt_per_epoch_and_commit_with_store_and_time(known):
    for seq in (1, 2, 2, 5):
        known.pack(seq)
    [(station, receipt)] = known.commit().receipts
    assert station == STATION
    assert receipt == wire.Receipt(
        epoch=E1, seq=2, store=STORE, now_ms=NOW, state=ReceiptState.OK, ahead=True
    )
    assert known.commit().receipts == []


def test_a_receipt_says_only_what_is_durable(known):
    known.pack(1)
    assert known.last() == 0
    known.commit()
    assert known.last() == 1


def refuse_to_commit(server: Server) -> None:
    server.db.execute(
        "CREATE TRIGGER full BEFORE INSERT ON packs BEGIN SELECT RAISE(ABORT, 'disk full'); END"
    )


def test_a_failed_commit_leaves_watermarks_and_gives_no_receipt(known):
    known.pack(1)
    known.commit()
    counts = dict(known.intake.counts)
    refuse_to_commit(known)
    known.pack(2)
    known.status((E2, 4, 5))
    with pytest.raises(sqlite3.IntegrityError, match="disk full"):
        known.commit()
    assert known.last() == 1
    assert known.intake.counts == counts | {Outcome.HELD: 1}
    assert known.losses() == []
    assert (STATION, E2) not in known.inbox.watermarks()
    known.db.execute("DROP TRIGGER full")
    assert known.commit().receipts == []
    assert known.pack(3) is Outcome.OUT_OF_ORDER
    assert known.pack(2) is Outcome.TAKEN
    assert known.answers() == {E1: (2, "ok", True)}
    assert [pack.pos for pack in known.inbox.read_after(0, 9)] == [1, 2]


def test_hold_takes_nothing_and_says_so(known):
    known.intake.hold = True
    assert known.pack(1) is Outcome.HELD
    assert known.answers() == {E1: (0, "hold", False)}
    known.intake.hold = False
    assert known.pack(1) is Outcome.TAKEN


def test_counts_add_up_to_what_was_received(known):
    known.pack(1)
    known.pack(1)
    known.pack(9)
    known.pack(1, epoch=E2)
    known.intake.pack("agri/v1/x/up", b"", NOW)
    known.intake.hold = True
    known.pack(2)
    known.commit()
    assert known.intake.counts == dict.fromkeys(Outcome, 1)


# ---- Status, keys


def test_packs_of_an_epoch_that_no_status_listed_are_pending(server):
    assert server.pack(1) is Outcome.PENDING
    assert server.answers() == {E1: (0, "pending", False)}
    assert server.stored() == []
    server.status((E1, 1, 1))
    assert server.answers() == {E1: (0, "ok", False)}
    assert server.pack(1) is Outcome.TAKEN


def test_packs_of_an_unapproved_key_are_pending_until_it_is_approved(server):
    server.approvals.keys.clear()
    server.status((E1, 1, 3))
    assert server.answers() == {E1: (0, "pending", False)}
    assert server.pack(1) is Outcome.PENDING
    server.commit()
    server.approvals.keys.add(keys.public_text(KEY))
    server.intake.answer_again(STATION)
    assert server.answers() == {E1: (0, "ok", False)}
    assert server.pack(1) is Outcome.TAKEN


def test_an_approval_that_is_withdrawn_counts_at_once(known):
    known.pack(1)
    known.commit()
    known.approvals.keys.clear()
    assert known.pack(2) is Outcome.PENDING
    assert known.answers() == {E1: (1, "pending", False)}


def test_an_epoch_belongs_to_the_first_key_that_listed_it(known):
    known.status((E1, 5, 9), key=STRANGER)
    assert known.answers() == {E1: (0, "ok", False)}
    assert known.losses() == []
    assert known.inbox.watermarks()[STATION, E1].owner == keys.public_text(KEY)
    known.status((E2, 1, 1), key=STRANGER)
    known.status((E2, 1, 1))  # the approved key lists the stranger's epoch
    assert known.answers() == {E2: (0, "pending", False)}
    assert known.pack(1, epoch=E2) is Outcome.PENDING


def test_two_gateways_on_one_code_do_not_mix(known):
    known.status((E2, 1, 5), key=STRANGER)
    assert known.pack(1) is Outcome.TAKEN
    assert known.pack(1, epoch=E2) is Outcome.PENDING
    committed = known.commit()
    assert [(s.approved, s.status.key) for s in committed.statuses] == [
        (False, keys.public_text(STRANGER))
    ]
    assert [pack.epoch for pack in committed.packs] == [E1]


def test_a_live_status_is_answered_for_each_epoch_listed(known):
    known.pack(1)
    known.commit()
    known.status((E1, 1, 1), (E2, 1, 0))
    assert known.answers() == {E1: (1, "ok", False), E2: (0, "ok", False)}


def test_a_retained_status_proves_nothing(known):
    known.status((E1, 5, 9), (E2, 1, 1), retained=True)
    committed = known.commit()
    assert (committed.receipts, committed.statuses, committed.losses) == ([], [], [])
    assert (STATION, E2) not in known.inbox.watermarks()


@pytest.mark.parametrize(
    "changes",
    [
        {"sig": "x"},
        {"key": keys.public_text(STRANGER)},
        {"key": ""},
        {"session": "another"},
        {"lanes": {Lane.READINGS: [EpochState(E1, 9, 9)]}},
        {"lanes": {Lane.TESTS: [EpochState(E1, 1, 0)]}},
    ],
)
def test_a_status_whose_signature_does_not_hold_is_kept_as_damaged(server, changes):
    server.status((E1, 1, 0), changed=changes)
    committed = server.commit()
    assert (committed.receipts, committed.statuses) == ([], [])
    [message] = server.inbox.damaged()
    assert message.field == "status.sig"
    assert server.inbox.watermarks() == {}


@pytest.mark.parametrize("epoch", [("not-a-ulid", 1, 1), (E1, 4, 2)])
def test_a_status_that_lists_impossible_epochs_is_kept_as_damaged(server, epoch):
    server.status(epoch)
    server.commit()
    assert server.inbox.damaged()[0].field == "status.lanes"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"[]",
        b'{"online":true}',
        b"\xff",
        b'{"online":true,"session":"s","queue":' + b"9" * 30 + b"}",
        b'{"online":true,"session":"s","x":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    ],
)
def test_garbage_on_status_is_kept_as_damaged(server, payload):
    server.intake.status(wire.topic(STATION, "status"), payload, NOW, retained=False)
    server.commit()
    assert server.inbox.damaged()[0].field == "status"


def test_a_status_can_list_only_so_many_epochs(server):
    server.status(*((f"01KA{n:022}", 1, 0) for n in range(2001)))
    server.commit()
    assert "more than 2000" in server.inbox.damaged()[0].reason


def test_a_will_counts_for_its_own_session_only(known):
    known.will("an earlier one")
    assert known.commit().statuses == []
    known.will("s1")
    [live] = known.commit().statuses
    assert (live.station, live.status.online, live.approved) == (STATION, False, True)


def test_a_will_of_a_stranger_does_not_count_for_the_stations_own_gateway(known):
    known.status((E2, 1, 0), key=STRANGER, session="s2")
    known.commit()
    known.will("s2")
    assert known.commit().statuses == []
    known.will("s1")
    assert len(known.commit().statuses) == 1


def test_a_goodbye_is_a_status_that_is_answered(known):
    known.status((E1, 1, 0), changed={"online": False})
    committed = known.commit()
    assert [live.status.online for live in committed.statuses] == [False]
    assert [receipt.epoch for _, receipt in committed.receipts] == [E1]


def test_a_new_life_of_the_server_goes_on_where_the_inbox_ends(known):
    known.pack(1)
    known.commit()
    known.restart(store="01KASTARE00000000000000001")
    known.status((E1, 1, 1))
    [(_, receipt)] = known.commit().receipts
    assert (receipt.seq, receipt.store) == (1, "01KASTARE00000000000000001")


# ---- a gateway is replaced

NEW = Ed25519PrivateKey.generate()
OLD_EPOCH, NEWER_EPOCH, YOUNG_EPOCH = (
    str(ULID.from_timestamp((NOW + hours * 3_600_000) / 1000)) for hours in (-48, -1, 1)
)


@pytest.fixture
def swapped(server):
    """A server that knows ``OLD_EPOCH`` up to 2 as KEY's, when NEW takes over at ``NOW``."""
    server.status((OLD_EPOCH, 1, 5))
    for seq in (1, 2):
        server.pack(seq, epoch=OLD_EPOCH)
    server.commit()
    server.approvals.keys = {keys.public_text(NEW)}
    server.approvals.replaced = {keys.public_text(KEY): NOW}
    return server


def test_a_replaced_gateway_delivers_what_it_had_begun(swapped):
    assert swapped.pack(3, epoch=OLD_EPOCH) is Outcome.TAKEN
    assert swapped.answers() == {OLD_EPOCH: (3, "ok", False)}
    swapped.status((OLD_EPOCH, 1, 5), (NEWER_EPOCH, 1, 9))
    assert swapped.answers() == {OLD_EPOCH: (3, "ok", False), NEWER_EPOCH: (0, "ok", False)}
    assert swapped.pack(1, epoch=NEWER_EPOCH) is Outcome.TAKEN


def test_a_new_epoch_of_a_replaced_gateway_is_pending(swapped):
    swapped.status((YOUNG_EPOCH, 4, 9))
    assert swapped.answers() == {YOUNG_EPOCH: (0, "pending", False)}
    assert swapped.pack(4, epoch=YOUNG_EPOCH, oldest=4) is Outcome.PENDING
    assert swapped.answers() == {YOUNG_EPOCH: (0, "pending", False)}
    assert (swapped.losses(), swapped.stored(YOUNG_EPOCH)) == ([], [])


def test_gaps_of_a_replaced_gateway_are_booked_as_of_others(swapped):
    assert swapped.pack(6, epoch=OLD_EPOCH, oldest=5) is Outcome.OUT_OF_ORDER
    swapped.commit()
    assert swapped.losses() == [(3, 4, -1, "gap")]
    swapped.status((OLD_EPOCH, 8, 7), (NEWER_EPOCH, 3, 2))
    swapped.commit()
    assert swapped.losses() == [(3, 4, -1, "gap"), (5, 7, -1, "gap"), (1, 2, -1, "gap")]


def test_a_replaced_gateway_speaks_for_the_station_no_more(swapped):
    swapped.status((OLD_EPOCH, 1, 5), session="old box")
    [live] = swapped.commit().statuses
    assert not live.approved
    swapped.will("old box")
    assert swapped.commit().statuses == []


def test_the_will_of_a_gateway_that_was_replaced_meanwhile_does_not_count(swapped):
    swapped.will("s1")  # of its session while it was approved
    assert swapped.commit().statuses == []


def test_a_replaced_gateways_status_moves_no_epoch_of_another(swapped):
    swapped.status((NEWER_EPOCH, 1, 0), key=NEW)
    swapped.commit()
    swapped.status((NEWER_EPOCH, 7, 9))
    assert swapped.answers() == {NEWER_EPOCH: (0, "ok", False)}
    assert swapped.losses() == []


@pytest.mark.parametrize("seen", [True, False])
def test_the_old_spool_in_the_new_machine_goes_on(swapped, seen):
    epoch, last = (OLD_EPOCH, 2) if seen else (NEWER_EPOCH, 0)
    swapped.status((epoch, 1, 5), (YOUNG_EPOCH, 1, 1), key=NEW)
    assert swapped.answers() == {epoch: (last, "ok", False), YOUNG_EPOCH: (0, "ok", False)}
    for seq in range(last + 1, 6):
        assert swapped.pack(seq, epoch=epoch) is Outcome.TAKEN
    assert swapped.pack(1, epoch=YOUNG_EPOCH) is Outcome.TAKEN
    owner = swapped.commit() and swapped.inbox.watermarks()[STATION, epoch].owner
    assert owner == keys.public_text(KEY if seen else NEW)


def test_from_a_refused_key_nothing_comes_any_more(swapped):
    swapped.approvals.replaced.clear()
    assert swapped.pack(3, epoch=OLD_EPOCH) is Outcome.PENDING
    swapped.status((OLD_EPOCH, 1, 5), key=NEW)  # nor when another gateway lists it
    swapped.status((NEWER_EPOCH, 1, 5))
    assert swapped.answers() == {
        OLD_EPOCH: (2, "pending", False),
        NEWER_EPOCH: (0, "pending", False),
    }
    assert swapped.pack(1, epoch=NEWER_EPOCH) is Outcome.PENDING


def test_a_stranger_delivers_nothing_before_or_after(swapped):
    for epoch in (NEWER_EPOCH, YOUNG_EPOCH):
        swapped.status((epoch, 1, 5), key=STRANGER)
        assert swapped.answers() == {epoch: (0, "pending", False)}
        assert swapped.pack(1, epoch=epoch) is Outcome.PENDING
        swapped.commit()


def test_the_old_gateways_key_is_good_for_its_own_station_only(swapped):
    swapped.status((OLD_EPOCH, 1, 5), key=STRANGER, station="hl-002")
    assert swapped.answers() == {OLD_EPOCH: (0, "pending", False)}
    assert swapped.pack(3, epoch=OLD_EPOCH, station="hl-002") is Outcome.PENDING


def test_each_epoch_is_told_whether_it_is_taken_when_the_keys_have_changed(swapped):
    swapped.approvals.keys.add(keys.public_text(KEY))
    swapped.status((YOUNG_EPOCH, 1, 5))
    swapped.status((NEWER_EPOCH, 1, 5), key=STRANGER)
    swapped.commit()
    swapped.approvals.keys.remove(keys.public_text(KEY))
    swapped.intake.answer_again(STATION)
    assert swapped.answers() == {
        OLD_EPOCH: (2, "ok", False),
        NEWER_EPOCH: (0, "pending", False),
        YOUNG_EPOCH: (0, "pending", False),
    }


# ---- all together


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 4), st.booleans()), max_size=60))
def test_whatever_comes_each_seq_is_taken_or_booked_once(messages):
    server = Server()
    server.status((E1, 1, 0))
    server.commit()
    for seq, width, commits in messages:
        if width:
            server.lost(max(1, seq - width), seq)
        else:
            server.pack(seq)
        if commits:
            server.commit()
    server.commit()
    covered = [
        seq
        for seq in server.stored()
        if wire.peek_lost(server.inbox.pack(STATION, E1, seq).body) is None
    ]
    for first, through, _, _ in server.losses():
        covered += range(first, through + 1)
    assert sorted(covered) == list(range(1, server.last() + 1))
    server.db.close()
