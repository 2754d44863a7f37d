"""What the agent sends when, and what it makes of receipts (pure: no clock, no network).

Each lane sends one epoch at a time, in order, with a window. A lane *probes* – one pack at a time, further and further
apart – whenever it does not know what the server has: after a connect, after five seconds without progress, under a new
store, while the server says ``pending`` or ``hold``. Only a receipt that moves forward ends probing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ulid import ULID

from gateway import wire
from gateway.clock import ServerClock, clock_alarms
from gateway.wire import Lane, ReceiptState

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from gateway.spool import Epoch, Spool

WINDOW_PACKS = 32
WINDOW_LEAST_PACKS = 4
CROWDED_ROUND_TRIP_S = 0.5  # a receipt that takes longer says that packs queue on the way
WINDOW_BYTES = 1024 * 1024
RESEND_FIRST_S = 5.0
RESEND_MAX_S = 300.0
STATUS_EVERY_S = 60.0
NEWS_EVERY_S = 10.0  # at most so often because a device has ceased to answer, or answers again
STATUS_AT_MOST_EVERY_S = (
    1.0  # a status answers questions; two in one round trip answer nothing more
)
ROUND_TRIP_UNKNOWN_S = 1.0
PRUNE_EVERY_S = 10.0
STORE_SILENT_S = 150.0  # two statuses without an answer: the current store is not there any more
STORE_BORN_AHEAD_MS = (
    86_400_000  # a server's clock may have been set back a little since it started
)

STATE_EVENTS = {
    ReceiptState.OK: "delivering",
    ReceiptState.PENDING: "key_pending",
    ReceiptState.HOLD: "server_holds",
}


@dataclass(frozen=True, slots=True)
class Send:
    """One message to publish with QoS 1."""

    leaf: str
    payload: bytes
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What only the process knows, for the status."""

    devices: list[wire.DeviceSeen] = field(default_factory=list)
    disk_free: int | None = None
    alarms: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Remark:
    """Something that a person should read once: an event for the log, and what varies."""

    event: str
    warning: bool = False
    fields: dict[str, str | int | float] = field(default_factory=dict)


@dataclass(slots=True)
class _InFlight:
    seq: int
    size: int
    sent: float
    first_time: bool


class _LaneSender:
    """The window of one lane."""

    def __init__(self, lane: Lane, spool: Spool) -> None:
        self.lane = lane
        self._spool = spool
        self._epoch: str | None = None
        self._next = 1
        self._highest = 0  # highest seq ever sent in this epoch, for the round trip
        self._flight: deque[_InFlight] = deque()
        self._flight_bytes = 0
        self._window = WINDOW_PACKS
        self._shrunk_at = float("-inf")
        self._probing = True
        self._probe_at = 0.0
        self._backoff = RESEND_FIRST_S
        self._progress = 0.0
        self._round_trip: float | None = None
        self._gone_back: tuple[str, int, float] | None = None
        self.last_sent = float("-inf")

    def restart(self, now: float) -> None:
        """Forget what was sent and find out with one pack what the server has."""
        self._epoch = None
        self._backoff = RESEND_FIRST_S
        self._start_probing(now, 0.0)

    def _clear(self) -> None:
        self._flight.clear()
        self._flight_bytes = 0

    def _start_probing(self, now: float, delay: float) -> None:
        self._clear()
        self._probing = True
        self._probe_at = now + delay

    # ---- sending

    def outgoing(self, now: float, wall_ms: int) -> list[Send]:
        epoch = self._spool.first_unreceipted(self.lane)
        if epoch is None:
            self._clear()
            return []
        if epoch.epoch != self._epoch:
            self._epoch, self._highest, self._gone_back = epoch.epoch, 0, None
            self._next = epoch.acked + 1
            self._clear()
            self._progress = self._probe_at = now
        self._next = max(self._next, epoch.acked + 1)
        late = bool(self._flight) and now - self._progress >= RESEND_FIRST_S
        # Everything was sent, nothing is under way, receipts are missing: the spool forgot some (its disk was full).
        forgotten = not self._flight and self._next > epoch.last
        if not self._probing and (late or forgotten):
            self._start_probing(now, 0.0)
        if self._probing:
            return self._probe(epoch, now, wall_ms)
        return self._fill_window(epoch, now, wall_ms)

    def _probe(self, epoch: Epoch, now: float, wall_ms: int) -> list[Send]:
        if now < self._probe_at:
            return []
        self._clear()
        self._next = epoch.acked + 1
        self._gone_back = (epoch.epoch, epoch.acked, now)
        sends = self._take(epoch, 1, now, wall_ms)
        self._probe_at = now + self._backoff
        self._backoff = min(self._backoff * 2, RESEND_MAX_S)
        return sends

    def _fill_window(self, epoch: Epoch, now: float, wall_ms: int) -> list[Send]:
        room = self._window - len(self._flight)
        if room <= 0 or self._flight_bytes >= WINDOW_BYTES or self._next > epoch.last:
            return []
        if not self._flight:
            self._progress = now  # the wait for a receipt begins with the first pack
        return self._take(epoch, room, now, wall_ms)

    def _take(self, epoch: Epoch, limit: int, now: float, wall_ms: int) -> list[Send]:
        sends = []
        for pack in self._spool.packs_from(epoch.epoch, self._next, limit):
            if self._flight_bytes >= WINDOW_BYTES:
                break
            sends.append(
                Send(
                    "up", wire.encode_pack(epoch.epoch, pack.seq, epoch.oldest, wall_ms, pack.body)
                )
            )
            first_time = pack.seq > self._highest
            self._highest = max(self._highest, pack.seq)
            self._flight.append(_InFlight(pack.seq, len(pack.body), now, first_time))
            self._flight_bytes += len(pack.body)
            self._next = pack.seq + 1
            self.last_sent = now
        return sends

    def next_wakeup(self, now: float) -> float | None:
        epoch = self._spool.first_unreceipted(self.lane)
        if epoch is None:
            return None
        if self._probing:
            return max(0.0, self._probe_at - now)
        if epoch.epoch != self._epoch or (self._next <= epoch.last and self._has_room):
            return 0.0
        return max(0.0, self._progress + RESEND_FIRST_S - now)

    @property
    def _has_room(self) -> bool:
        return len(self._flight) < self._window and self._flight_bytes < WINDOW_BYTES

    # ---- receipts of this lane's epochs

    def moved(self, epoch: str, seq: int, now: float) -> float | None:
        """The receipt of ``epoch`` went forward to ``seq``: progress. Return the round trip where it was measured."""
        if epoch != self._epoch:
            return None  # a status answer about another epoch says nothing of where this one stands
        measured = None
        self._probing = False
        self._backoff = RESEND_FIRST_S
        self._progress = now
        while self._flight and self._flight[0].seq <= seq:
            done = self._flight.popleft()
            self._flight_bytes -= done.size
            if done.first_time and done.seq == seq:
                measured, known = now - done.sent, self._round_trip
                self._round_trip = measured if known is None else max(measured, known * 0.9)
                self._fit_window(measured, done.sent, now)
        self._next = max(self._next, seq + 1)
        return measured

    def _fit_window(self, round_trip_s: float, sent: float, now: float) -> None:
        """Halve the window when packs queue on the way, once for what was sent before; else let it grow by one."""
        if round_trip_s <= CROWDED_ROUND_TRIP_S:
            self._window = min(WINDOW_PACKS, self._window + 1)
        elif sent >= self._shrunk_at:
            self._window = max(WINDOW_LEAST_PACKS, self._window // 2)
            self._shrunk_at = now

    def refused(self, epoch: str, seq: int, now: float) -> None:
        """A pack beyond ``seq`` + 1 was refused: go back, once per ``seq`` and round trip."""
        if epoch != self._epoch or self._probing or not self._may_go_back(epoch, seq, now):
            return
        self._clear()
        self._next = seq + 1
        self._progress = now

    def answered(self, epoch: str, seq: int, now: float) -> None:
        """A receipt that moved nothing; while probing it says that the server is there: probe now."""
        if self._probing and epoch == self._epoch and self._may_go_back(epoch, seq, now):
            self._probe_at = now

    def _may_go_back(self, epoch: str, seq: int, now: float) -> bool:
        last = self._gone_back
        trip = ROUND_TRIP_UNKNOWN_S if self._round_trip is None else self._round_trip
        if last is not None and last[:2] == (epoch, seq) and now - last[2] < trip:
            return False
        self._gone_back = (epoch, seq, now)
        return True

    def quieted(self, now: float) -> None:
        """The server takes nothing (``pending``, ``hold``): probe slowly."""
        if not self._probing:
            self._start_probing(now, self._backoff)


class Link:
    """One station's end of the link; feed it events, ask it what to publish.

    ``now`` is monotonic seconds, ``wall_ms`` the UTC clock.
    """

    def __init__(
        self,
        station: str,
        spool: Spool,
        *,
        session: str,
        public_key: str,
        sign: Callable[[bytes], str],
        version: str,
        rng: random.Random,
    ) -> None:
        self._station = station
        self._spool = spool
        self._session = session
        self.public_key = public_key
        self._sign = sign
        self._version = version
        self._rng = rng
        # Tests first: a positive never waits behind a backlog of readings.
        self._lanes = {lane: _LaneSender(lane, spool) for lane in (Lane.TESTS, Lane.READINGS)}
        self._online = False
        self._status_wanted = False
        self._status_due = 0.0
        self._status_sent = float("-inf")
        self._listed: frozenset[str] = frozenset()  # epochs that the last status named
        self._silent: frozenset[str] = frozenset()  # devices that it said do not answer
        self._prune_due = 0.0
        self._heard = 0.0  # when the current store last spoke, or the connection began
        self._asked: float | None = (
            None  # when the status was sent that no receipt has answered yet
        )
        self._server_says: ReceiptState | None = None
        self._remarks: list[Remark] = []
        self._beyond: set[str] = set()  # epochs of which the server has more than we ever had
        self.server_clock = ServerClock()
        self.receipts = 0
        self.last_receipt_ms: int | None = None
        self.will = wire.encode_will(session)

    def connected(self, now: float) -> None:
        """A new connection: say who we are, then find out what the server has."""
        self._online = True
        self._heard = now
        self._status_wanted = True
        self._status_sent = float("-inf")
        for sender in self._lanes.values():
            sender.restart(now)

    def disconnected(self) -> None:
        """The connection is gone; nothing is sent until the next."""
        self._online = False
        self._asked = None

    def goodbye(self, now: float, wall_ms: int, facts: Facts) -> Send:
        """The last word of an orderly stop."""
        return Send("status", self._status(now, wall_ms, facts, online=False), retain=True)

    def outgoing(self, now: float, wall_ms: int, facts: Facts) -> list[Send]:
        """Return what to publish now, in order."""
        if now >= self._prune_due:
            self._prune_due = now + PRUNE_EVERY_S
            self._spool.prune(wall_ms)
        if not self._online:
            return []
        sends = []
        new_epoch = not self._listed.issuperset(self._spool.epochs)
        silent = frozenset(device.path for device in facts.devices if not device.ok)
        if silent != self._silent:
            self._status_due = min(self._status_due, self._status_sent + NEWS_EVERY_S)
        if new_epoch or (self._status_due_in(now) <= 0):
            sends.append(Send("status", self._status(now, wall_ms, facts), retain=True))
            self._listed = frozenset(self._spool.epochs)
            self._silent = silent
            self._status_wanted = False
            self._status_sent = now
            self._asked = now if self._asked is None else self._asked
            self._status_due = now + STATUS_EVERY_S * self._rng.uniform(0.95, 1.05)
        for sender in self._lanes.values():
            sends += sender.outgoing(now, wall_ms)
        return sends

    def _status_due_in(self, now: float) -> float:
        if self._status_wanted:
            return max(0.0, self._status_sent + STATUS_AT_MOST_EVERY_S - now)
        return self._status_due - now

    def next_wakeup(self, now: float) -> float | None:
        """Seconds until ``outgoing`` should be asked again without an event; None while offline."""
        if not self._online:
            return None
        waits = [self._status_due_in(now), self._prune_due - now]
        waits += [w for s in self._lanes.values() if (w := s.next_wakeup(now)) is not None]
        return max(0.0, min(waits))

    def alarms(self, now: float, wall_ms: int) -> frozenset[str]:
        """What is wrong with the spool and the clock; each goes away by itself."""
        offset_ms = self.server_clock.offset_ms(wall_ms, now)
        return clock_alarms(wall_ms, offset_ms) | self._spool.alarms

    def _status(self, now: float, wall_ms: int, facts: Facts, *, online: bool = True) -> bytes:
        lanes = self._spool.states()
        oldest_ms = self._spool.oldest_unreceipted_ms()
        signature = self._sign(wire.status_signing_bytes(self._station, self._session, lanes))
        return wire.encode_status(
            wire.Status(
                online=online,
                session=self._session,
                sent_ms=wall_ms,
                version=self._version,
                queue=self._spool.queue_length(),
                oldest_unreceipted_ms=None if oldest_ms is None else max(0, wall_ms - oldest_ms),
                disk_free=facts.disk_free,
                clock_offset_ms=self.server_clock.offset_ms(wall_ms, now),
                alarms=sorted(self.alarms(now, wall_ms).union(facts.alarms)),
                devices=facts.devices,
                lanes=lanes,
                key=self.public_key,
                sig=signature,
            )
        )

    # ---- receipts

    def receipt(self, receipt: wire.Receipt, now: float, wall_ms: int) -> None:
        """Take one receipt; those of epochs that the spool does not know, and of past stores, are ignored."""
        epoch = self._spool.epochs.get(receipt.epoch)
        if epoch is None or self._is_stale(receipt.store, now):
            return
        self._heard = now
        self.receipts += 1
        self.last_receipt_ms = wall_ms
        asked, self._asked = self._asked, None
        round_trip_s = None if asked is None else now - asked
        if receipt.store != self._spool.store:
            self._begin_store(receipt, now)
        sender = self._lanes[epoch.lane]
        if receipt.seq > epoch.last:
            self._written_by_another(epoch, receipt.seq, now, wall_ms)
            return
        if receipt.seq > epoch.acked:
            self._spool.mark_receipted(epoch.epoch, receipt.seq)
            measured = sender.moved(epoch.epoch, receipt.seq, now)
            round_trip_s = round_trip_s if measured is None else measured
        self._take_time(receipt, now, round_trip_s)
        if receipt.seq < epoch.acked:
            return
        self._note_state(receipt.state)
        if receipt.state is not ReceiptState.OK:
            sender.quieted(now)
            # Answer a probe's ``pending`` with a status, but not a status's.
            if receipt.state is ReceiptState.PENDING and sender.last_sent >= self._status_sent:
                self._status_wanted = True
        elif receipt.ahead:
            sender.refused(epoch.epoch, receipt.seq, now)
        else:
            sender.answered(epoch.epoch, receipt.seq, now)

    def _is_stale(self, store: str, now: float) -> bool:
        """Whether ``store`` is a past life of the server.

        It is when it was superseded, or began (by its ULID) before the current one: a receipt may be late. But a spool
        that was restored forgets which stores are past, and a server's clock may step back; so when the current store
        is silent while another answers, the other is believed.
        """
        current = self._spool.store
        if current is None or store == current:
            return False
        past = self._spool.is_superseded(store) or store < current
        return past and now - self._heard < STORE_SILENT_S

    def _begin_store(self, receipt: wire.Receipt, now: float) -> None:
        known = self._spool.store
        self._spool.new_store(receipt.store)
        self._status_wanted = True
        for sender in self._lanes.values():
            sender.restart(now)
        born_ms = ULID.from_str(receipt.store).milliseconds
        fields: dict[str, str | int | float] = {"store": receipt.store, "before": known or ""}
        if born_ms > receipt.now_ms + STORE_BORN_AHEAD_MS:
            # No server starts after now; the true one is believed again when this one is silent.
            fields["ahead_s"] = (born_ms - receipt.now_ms) // 1000
            self._remarks.append(Remark("server_life_from_the_future", warning=True, fields=fields))
        elif known is not None:
            self._remarks.append(Remark("server_life_changed", fields=fields))

    def _take_time(self, receipt: wire.Receipt, now: float, round_trip_s: float | None) -> None:
        moved_ms = self.server_clock.heard(receipt.now_ms, now, round_trip_s)
        if moved_ms:
            fields: dict[str, str | int | float] = {"by_s": round(moved_ms / 1000, 1)}
            self._remarks.append(Remark("server_clock_stepped", warning=True, fields=fields))

    @property
    def server_says(self) -> str | None:
        """``delivering``, ``key_pending`` or ``server_holds``; None before the server said anything."""
        return None if self._server_says is None else STATE_EVENTS[self._server_says]

    def _note_state(self, state: ReceiptState) -> None:
        if state is not self._server_says:
            self._server_says = state
            self._remarks.append(Remark(STATE_EVENTS[state], warning=state is not ReceiptState.OK))

    def take_remarks(self) -> list[Remark]:
        """Return what happened since the last call, for the log."""
        remarks, self._remarks = self._remarks, []
        return remarks

    def _written_by_another(self, epoch: Epoch, seq: int, now: float, wall_ms: int) -> None:
        """Ingest has more of ``epoch`` than the spool ever held."""
        if epoch.epoch not in self._beyond:
            self._beyond.add(epoch.epoch)
            fields: dict[str, str | int | float] = {
                "epoch": epoch.epoch,
                "receipted": seq,
                "spooled": epoch.last,
            }
            self._remarks.append(Remark("receipt_beyond_the_spool", warning=True, fields=fields))
        if epoch.epoch == self._spool.current_epoch(epoch.lane):
            self._spool.move_to_new_epoch(epoch.lane, wall_ms)
            self._lanes[epoch.lane].restart(now)
        elif epoch.acked < epoch.last:
            self._spool.mark_receipted(epoch.epoch, epoch.last)
            self._lanes[epoch.lane].moved(epoch.epoch, epoch.last, now)
        self._spool.alarms.add("spool_restored")
