"""Edge and ingest logic together under everything a county does to a link (DESIGN §3).

The real spool, link, intake and inbox run on databases in memory; the network, the clocks and the crashes are the
test's.
"""

from __future__ import annotations

import itertools
import random
import sqlite3
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ulid import ULID

from gateway import keys, wire
from gateway.link import RESEND_FIRST_S, STATUS_EVERY_S, STORE_SILENT_S, Facts, Link
from gateway.spool import Spool
from gateway.wire import Lane
from ingest.inbox import Inbox
from ingest.intake import Intake

if TYPE_CHECKING:
    from collections.abc import Callable

STATION = "hl-001"
CAP_BYTES = 10_000
START_MS = 1_770_000_000_000
CALM_S = 1_800.0
# Sends of one pack once faults have ended: after a server's clock was set back the edge probes until it believes the
# new life (5, 10, 20 … s apart, for STORE_SILENT_S and at most one status more), then one probe and one window.
SENDS_IN_CALM = 2 + sum(
    RESEND_FIRST_S * (2**n - 1) <= STORE_SILENT_S + STATUS_EVERY_S for n in range(10)
)

OTHER_KEY = Ed25519PrivateKey.generate()
KEYS = [
    Ed25519PrivateKey.generate() for _ in range(3)
]  # of the station's gateways, one after the other


def memory_copy(image: bytes | None = None) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    if image is not None:
        connection.deserialize(image)
    return connection


@dataclass
class Message:
    """Something on its way."""

    leaf: str
    payload: bytes


@dataclass
class Gateway:
    """One agent: its disk, its process, its side of the network."""

    key: Ed25519PrivateKey
    seed: int
    wall_ms: Callable[[], int]
    db: sqlite3.Connection = field(default_factory=memory_copy)
    online: bool = False
    up: list[Message] = field(default_factory=list)
    down: list[bytes] = field(default_factory=list)
    sent: dict[tuple[str, int], int] = field(default_factory=dict)
    restored: bool = False

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.spool = Spool(self.db, cap_bytes=CAP_BYTES, new_id=self.new_id)
        self.link = Link(
            STATION,
            self.spool,
            session=str(ULID()),
            public_key=keys.public_text(self.key),
            sign=lambda message: keys.sign(self.key, message),
            version="1",
            rng=random.Random(self.seed),
        )
        self.online = False

    def new_id(self) -> str:
        return str(ULID.from_timestamp(self.wall_ms()))

    def plug_in(self, now: float) -> None:
        self.online = True
        self.link.connected(now)
        self.pump(now)

    def crash(self, image: bytes | None = None) -> None:
        """Lose the process, keep (or go back to) the disk."""
        image = self.db.serialize() if image is None else image
        self.db.close()
        self.db = memory_copy(image)
        self.start()

    def pump(self, now: float) -> None:
        for send in self.link.outgoing(now, wall(now), Facts()):
            self.up.append(Message(send.leaf, send.payload))
            if send.leaf == "up":
                pack = wire.decode_pack(send.payload)
                place = (pack.epoch, pack.seq)
                self.sent[place] = self.sent.get(place, 0) + 1


class Approvals:
    """Who may deliver, as the model says."""

    def __init__(self) -> None:
        self.keys: set[str] = set()
        self.replaced: dict[str, int] = {}

    def is_approved(self, station: str, key: str) -> bool:
        return station == STATION and key in self.keys

    def may_deliver(self, station: str, key: str, epoch: str) -> bool:
        began_ms = ULID.from_str(epoch).milliseconds
        return self.is_approved(station, key) or began_ms <= self.replaced.get(key, -1)


def wall(now: float) -> int:
    return START_MS + int(now * 1000)


class LinkModel(RuleBasedStateMachine):
    """One station, its gateway and those it replaced, an intruder with the same code, one server."""

    @initialize(seed=st.integers(0, 2**16), approved=st.sampled_from([True, True, True, False]))
    def begin(self, seed: int, approved: bool) -> None:  # noqa: FBT001
        self.now = 0.0
        self.seed = seed
        self.gateway = Gateway(KEYS[0], seed, self.wall_ms)
        self.intruder = Gateway(OTHER_KEY, seed + 1, self.wall_ms)
        self.retired: list[Gateway] = []
        self.approvals = Approvals()
        self.bodies: dict[tuple[str, int], bytes] = {}  # what the gateway spooled, by place
        self.foreign: set[bytes] = set()  # bodies of the intruder
        self.counter = itertools.count()
        self.skew_ms = 0  # of the server's clock
        self.edge_copy: bytes | None = None
        self.server_copy: bytes | None = None
        self.inbox_db = memory_copy()
        self.start_server()
        if approved:
            self.approve()
        self.connect(intruder=False)

    def wall_ms(self) -> int:
        return wall(self.now)

    @property
    def own(self) -> list[Gateway]:
        return [self.gateway, *self.retired]

    @property
    def everybody(self) -> list[Gateway]:
        return [*self.own, self.intruder]

    def start_server(self) -> None:
        self.inbox = Inbox(self.inbox_db, self.inbox_db)
        at_s = (START_MS + self.skew_ms) / 1000 + self.now + next(self.counter) / 1000
        self.intake = Intake(self.inbox, self.approvals, store=str(ULID.from_timestamp(at_s)))

    def teardown(self) -> None:
        if hasattr(self, "gateway"):
            self.calm()
            for agent in self.everybody:
                agent.db.close()
            self.inbox_db.close()

    # ---- the gateway

    @rule(
        lane=st.sampled_from(list(Lane)),
        sizes=st.lists(st.sampled_from([20, 60, 200, 900]), min_size=1, max_size=12),
        intruder=st.sampled_from([False, False, False, True]),
    )
    def spool_packs(self, lane: Lane, sizes: list[int], intruder: bool) -> None:  # noqa: FBT001
        self.spool_at(self.intruder if intruder else self.gateway, lane, sizes)

    def spool_at(self, agent: Gateway, lane: Lane, sizes: list[int]) -> None:
        for size in sizes:
            body = f'{{"readings":[{next(self.counter)}],"pad":"{"x" * size}"}}'.encode()
            agent.spool.append(lane, body, 1, wall(self.now))
            epoch = agent.spool.current_epoch(lane)
            assert epoch is not None
            if agent is self.intruder:
                self.foreign.add(body)
            else:
                self.bodies[epoch, agent.spool.epochs[epoch].last] = body
        agent.pump(self.now)

    @rule(intruder=st.booleans())
    def connect(self, intruder: bool) -> None:  # noqa: FBT001
        (self.intruder if intruder else self.gateway).plug_in(self.now)

    @precondition(lambda self: self.gateway.online)
    @rule()
    def cut(self) -> None:
        self.gateway.online = False
        self.gateway.link.disconnected()

    @rule()
    def kill_the_gateway(self) -> None:
        self.gateway.crash()

    @rule()
    def copy_the_spool(self) -> None:
        self.edge_copy = self.gateway.db.serialize()

    @precondition(lambda self: self.edge_copy is not None)
    @rule()
    def restore_an_older_spool(self) -> None:
        self.gateway.crash(self.edge_copy)
        self.gateway.restored = True

    @rule(seed=st.integers(0, 2**16))
    def damage_a_spooled_body(self, seed: int) -> None:
        rows = self.gateway.db.execute("SELECT id, body FROM packs WHERE lost = 0").fetchall()
        if rows:
            row_id, body = random.Random(seed).choice(rows)
            self.gateway.db.execute(
                "UPDATE packs SET body = ? WHERE id = ?", (body[:-1] + b"?", row_id)
            )

    @rule(seconds=st.sampled_from([0.01, 0.3, 1.1, 5.1, 12.0, 61.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        for agent in self.everybody:
            agent.pump(self.now)

    # ---- a gateway is swapped

    @precondition(lambda self: len(self.retired) < len(KEYS) - 1 and self.approvals.keys)
    @rule(unplugged=st.booleans())
    def replace(self, unplugged: bool) -> None:  # noqa: FBT001
        """A new gateway with an empty spool and a key of its own takes over."""
        old = self.gateway
        self.retired.append(old)
        if unplugged:
            old.online = False
            old.link.disconnected()
        number = len(self.retired)
        self.gateway = Gateway(KEYS[number], self.seed + 1 + number, self.wall_ms)
        self.edge_copy = None
        self.approvals.replaced[keys.public_text(old.key)] = wall(self.now)
        self.approvals.keys = {keys.public_text(self.gateway.key)}
        self.intake.answer_again(STATION)
        self.gateway.plug_in(self.now)

    @rule(lane=st.sampled_from(list(Lane)), before=st.integers(1, 40), after=st.integers(1, 10))
    def a_backlog_stays_in_the_old_box(self, lane: Lane, before: int, after: int) -> None:
        self.spool_packs(lane=lane, sizes=[20] * before, intruder=False)
        if not self.approvals.keys or len(self.retired) == len(KEYS) - 1:
            return
        self.replace(unplugged=True)
        self.now += 60.0
        self.plug_in_the_old_box()
        self.spool_at(self.retired[-1], lane, [20] * after)
        self.all_is_well(rounds=3)

    @precondition(lambda self: self.retired)
    @rule()
    def plug_in_the_old_box(self) -> None:
        self.retired[-1].crash()
        self.retired[-1].plug_in(self.now)

    @precondition(lambda self: self.retired)
    @rule(lane=st.sampled_from(list(Lane)), count=st.integers(1, 12))
    def the_old_box_measures(self, lane: Lane, count: int) -> None:
        self.spool_at(self.retired[-1], lane, [60] * count)

    # ---- the network

    @rule(lane=st.sampled_from(list(Lane)), before=st.integers(1, 30), after=st.integers(1, 30))
    def the_spool_goes_back(self, lane: Lane, before: int, after: int) -> None:
        self.ordinary_traffic(lane=lane, count=before, rounds=2)
        self.copy_the_spool()
        self.ordinary_traffic(lane=lane, count=after, rounds=3)
        self.restore_an_older_spool()
        self.connect(intruder=False)

    @rule(lane=st.sampled_from(list(Lane)), before=st.integers(0, 30), after=st.integers(1, 120))
    def the_server_goes_back(self, lane: Lane, before: int, after: int) -> None:
        self.ordinary_traffic(lane=lane, count=max(1, before), rounds=2)
        self.back_up_the_server()
        for _ in range(3):
            self.ordinary_traffic(lane=lane, count=after // 3 + 1, rounds=3)
        self.restore_an_older_server()

    @rule(
        seed=st.integers(0, 2**16),
        fate=st.sampled_from(["drop", "twice", "damage", "late"]),
        share=st.sampled_from([0.1, 0.3, 1.0]),
    )
    def trouble_upwards(self, seed: int, fate: str, share: float) -> None:
        pick = random.Random(seed)
        messages, self.gateway.up = self.gateway.up, []
        late = []
        for message in messages:
            if pick.random() > share:
                self.gateway.up.append(message)
            elif fate == "twice":
                self.gateway.up += [message, message]
            elif fate == "damage":
                self.receive(Message(message.leaf, message.payload[:-1] + b"?"))
            elif fate == "late":
                late.append(message)
        self.gateway.up += late

    @rule(
        seed=st.integers(0, 2**16),
        fate=st.sampled_from(["drop", "twice", "late"]),
        share=st.sampled_from([0.3, 1.0]),
    )
    def trouble_downwards(self, seed: int, fate: str, share: float) -> None:
        pick = random.Random(seed)
        payloads, self.gateway.down = self.gateway.down, []
        late = []
        for payload in payloads:
            if pick.random() > share:
                self.gateway.down.append(payload)
            elif fate == "twice":
                self.gateway.down += [payload, payload]
            elif fate == "late":
                late.append(payload)
        self.gateway.down += late

    @rule(lane=st.sampled_from(list(Lane)), count=st.integers(1, 40), rounds=st.integers(1, 6))
    def ordinary_traffic(self, lane: Lane, count: int, rounds: int) -> None:
        self.spool_packs(lane=lane, sizes=[20] * count, intruder=False)
        self.all_is_well(rounds=rounds)

    @rule(lane=st.sampled_from(list(Lane)), count=st.integers(3, 40), seed=st.integers(0, 2**16))
    def traffic_on_a_bad_line(self, lane: Lane, count: int, seed: int) -> None:
        self.spool_packs(lane=lane, sizes=[60] * count, intruder=False)
        self.trouble_upwards(seed=seed, fate="drop", share=0.3)
        self.all_is_well(rounds=1)

    @rule(rounds=st.integers(1, 6))
    def all_is_well(self, rounds: int) -> None:
        for _ in range(rounds):
            self.server_gets(40)
            self.gateways_get(200)
            self.now += 0.05
            for agent in self.own:
                agent.pump(self.now)

    @rule(count=st.integers(1, 40))
    def server_gets(self, count: int) -> None:
        for agent in self.everybody:
            for _ in range(min(count, len(agent.up))):
                self.receive(agent.up.pop(0))
        self.server_commits()

    @rule(count=st.integers(1, 40))
    def gateways_get(self, count: int) -> None:
        for agent in self.everybody:
            for _ in range(min(count, len(agent.down))):
                payload = agent.down.pop(0)
                if agent.online:
                    agent.link.receipt(wire.decode_receipt(payload), self.now, wall(self.now))
            agent.pump(self.now)

    def receive(self, message: Message) -> None:
        topic = wire.topic(STATION, message.leaf)
        if message.leaf == "up":
            self.intake.pack(topic, message.payload, wall(self.now))
        else:
            self.intake.status(topic, message.payload, wall(self.now), retained=False)

    def server_commits(self) -> None:
        committed = self.intake.commit(wall(self.now))
        for _, receipt in committed.receipts:
            for agent in self.everybody:
                agent.down.append(wire.encode_receipt(receipt))
        for agent in self.own:
            if not agent.restored:
                self.check_that_only_dropped_packs_are_booked(agent, committed.losses)

    def check_that_only_dropped_packs_are_booked(self, agent: Gateway, losses: list) -> None:
        for loss in losses:
            held = agent.db.execute(
                "SELECT seq FROM packs WHERE epoch = ? AND lost = 0 AND seq BETWEEN ? AND ?",
                (loss.epoch, loss.from_seq, loss.through_seq),
            ).fetchall()
            assert not held, f"booked as {loss.reason} while the spool holds {held}"

    # ---- the server

    @rule()
    def approve(self) -> None:
        self.approvals.keys.add(keys.public_text(self.gateway.key))
        self.intake.answer_again(STATION)

    @rule()
    def kill_the_server(self) -> None:
        image = self.inbox_db.serialize()
        self.inbox_db.close()
        self.inbox_db = memory_copy(image)
        self.start_server()

    @rule()
    def back_up_the_server(self) -> None:
        self.server_copy = self.inbox_db.serialize()

    @precondition(lambda self: self.server_copy is not None)
    @rule()
    def restore_an_older_server(self) -> None:
        self.inbox_db.close()
        self.inbox_db = memory_copy(self.server_copy)
        self.start_server()

    @rule(hours=st.sampled_from([0, 0, -1, 24]))
    def the_server_clock_is_set(self, hours: int) -> None:
        self.skew_ms = hours * 3_600_000
        self.kill_the_server()

    @rule(hold=st.sampled_from([False, False, True]))
    def overload(self, hold: bool) -> None:  # noqa: FBT001
        self.intake.hold = hold

    # ---- what must always be true

    @invariant()
    def every_epoch_is_covered_once(self) -> None:
        if not hasattr(self, "inbox"):
            return
        for (station, epoch), mark in self.inbox.watermarks().items():
            assert station == STATION
            covered: list[int] = []
            rows = self.inbox_db.execute("SELECT seq, body FROM packs WHERE epoch = ?", (epoch,))
            for seq, _ in rows.fetchall():
                pack = self.inbox.pack(STATION, epoch, seq)
                assert pack is not None
                assert pack.body not in self.foreign
                if wire.peek_lost(pack.body) is None:
                    assert pack.body == self.bodies[epoch, seq]
                    covered.append(seq)
            for loss in self.inbox.losses():
                if loss.epoch == epoch:
                    covered += range(loss.from_seq, loss.through_seq + 1)
            assert sorted(covered) == list(range(1, mark.last + 1))

    @invariant()
    def nothing_receipted_is_missing(self) -> None:
        if not hasattr(self, "inbox"):
            return
        marks = self.inbox.watermarks()
        for agent in self.own:
            if agent.spool.store == self.intake._store:
                for epoch in agent.spool.epochs.values():
                    if epoch.acked:
                        assert epoch.acked <= marks[STATION, epoch.epoch].last

    @invariant()
    def only_who_may_deliver_has_delivered(self) -> None:
        if not hasattr(self, "inbox"):
            return
        own = {keys.public_text(agent.key) for agent in self.own}
        for (_, epoch), mark in self.inbox.watermarks().items():
            if mark.last:
                assert mark.owner in own
                if mark.owner in self.approvals.replaced:
                    assert self.approvals.may_deliver(STATION, mark.owner, epoch)

    @invariant()
    def the_spool_holds_one_run(self) -> None:
        if not hasattr(self, "gateway"):
            return
        for epoch in self.gateway.spool.epochs.values():
            rows = self.gateway.db.execute(
                "SELECT from_seq, seq FROM packs WHERE epoch = ? ORDER BY seq", (epoch.epoch,)
            ).fetchall()
            following = epoch.oldest
            for first, last in rows:
                assert first == following
                following = last + 1
            assert following == epoch.last + 1
            assert len(rows) == epoch.packs
        images = Spool(
            memory_copy(self.gateway.db.serialize()), cap_bytes=CAP_BYTES, new_id=lambda: ""
        )
        # What cannot go: one ``lost`` pack for each epoch that dropped something, and the pack just taken.
        room = CAP_BYTES + 1_000 + 200 * len(self.gateway.spool.epochs)
        assert images.held_bytes == self.gateway.spool.held_bytes <= room
        images.close()

    # ---- the end: faults stop, everything must arrive

    def calm(self) -> None:
        self.approvals.keys.add(keys.public_text(self.gateway.key))
        self.intake.hold = False
        self.intake.answer_again(STATION)
        for agent in self.everybody:
            if not agent.online:
                agent.online = True
                agent.link.connected(self.now)
            agent.sent.clear()
        end = self.now + CALM_S
        while self.now < end:
            for agent in self.everybody:
                agent.pump(self.now)
                while agent.up:
                    self.receive(agent.up.pop(0))
            self.server_commits()
            for agent in self.everybody:
                while agent.down:
                    agent.link.receipt(
                        wire.decode_receipt(agent.down.pop(0)), self.now, wall(self.now)
                    )
            waits = [agent.link.next_wakeup(self.now) for agent in self.everybody]
            self.now += max(0.02, min(w for w in waits if w is not None))
        assert self.gateway.spool.queue_length() == 0, "a lane has stalled"
        for agent in self.own:
            self.everything_was_accounted_for(agent)
        self.every_epoch_is_covered_once()
        self.nothing_receipted_is_missing()
        self.only_who_may_deliver_has_delivered()

    def everything_was_accounted_for(self, agent: Gateway) -> None:
        """All that the agent may deliver is in, in few sends; the rest is in its spool."""
        marks = self.inbox.watermarks()
        key = keys.public_text(agent.key)
        for epoch in agent.spool.epochs.values():
            if self.approvals.may_deliver(STATION, key, epoch.epoch):
                mark = marks[STATION, epoch.epoch]
                assert mark.last >= epoch.last, "an end was never accounted for"
                sends = [n for (sent, _), n in agent.sent.items() if sent == epoch.epoch]
                assert max(sends, default=0) <= SENDS_IN_CALM
            else:
                assert epoch.acked == 0


LinkModel.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestLinkModel = LinkModel.TestCase
