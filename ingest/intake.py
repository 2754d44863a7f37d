"""Which pack is taken, what is booked as lost, what is answered (pure; the rules of the edge link, format 1).

Messages are offered in the order of arrival; nothing counts until ``Ledger.commit`` has made it durable, and the
receipts come from that commit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from ulid import ULID

from gateway import keys, wire
from gateway.wire import Receipt, ReceiptState, Status, WireError
from ingest.publishers.address import split
from ingest.publishers.arrival import HTTP, Delivery, Recent
from ingest.publishers.parsed import RecordError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ingest.batch import TakenPack
    from ingest.publishers.arrival import Arrival

_READINGS = (
    b'{"readings"'  # how a pack of that lane begins; what a lane lost is small and never held alone
)
PUBLISHERS = "publishers"  # owns the epochs of messages that no agent numbered
MAX_EPOCHS_IN_STATUS = 2000  # 90 days of ten restarts a day on two lanes


class Outcome(StrEnum):
    """What became of a pack."""

    TAKEN = "taken"
    DUPLICATE = "duplicate"
    OUT_OF_ORDER = "out_of_order"
    DAMAGED = "damaged"
    PENDING = "pending"
    HELD = "held"


class Hold(StrEnum):
    """What is not taken for now: nothing, packs of readings, everything."""

    NONE = ""
    READINGS = "readings"
    ALL = "all"


class LossReason(StrEnum):
    """Why a range will never come."""

    GAP = "gap"
    CAP = "cap"
    CORRUPT = "corrupt"


@dataclass(frozen=True, slots=True)
class Watermark:
    """How far an epoch is in the inbox, and whose it is (the key of the first valid status that listed it)."""

    owner: str
    last: int


@dataclass(frozen=True, slots=True)
class Taken:
    """A pack to be written."""

    station: str
    epoch: str
    seq: int
    oldest: int
    sent_ms: int
    received_ms: int
    body: bytes
    topic: str = ""  # of a publisher's message, with the lines that came beside it
    header: str = ""


@dataclass(frozen=True, slots=True)
class Loss:
    """A range of packs booked as lost (``cap``, ``corrupt``) or gone (``gap``); ``readings`` is a bound, −1 unknown."""

    station: str
    epoch: str
    from_seq: int
    through_seq: int
    readings: int
    reason: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Damaged:
    """A message that is no pack of ours; its bytes are kept, bounded in number and size."""

    topic: str
    field: str
    reason: str
    payload: bytes
    received_ms: int


@dataclass(slots=True)
class Staged:
    """What one commit writes."""

    taken: list[Taken] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    damaged: list[Damaged] = field(default_factory=list)
    watermarks: dict[tuple[str, str], Watermark] = field(default_factory=dict)
    deliveries: list[Delivery] = field(default_factory=list)
    sessions_begun: list[str] = field(default_factory=list)  # sources that repeat nothing of before

    def __bool__(self) -> bool:
        return bool(
            self.taken
            or self.losses
            or self.damaged
            or self.watermarks
            or self.deliveries
            or self.sessions_begun
        )


@dataclass(frozen=True, slots=True)
class LiveStatus:
    """A live status or will that was accepted, for whoever shows stations."""

    station: str
    status: Status
    received_ms: int
    approved: bool


class Ledger(Protocol):
    """Where packs and watermarks are kept (the inbox)."""

    def watermarks(self) -> dict[tuple[str, str], Watermark]:
        """All watermarks by (station, epoch)."""
        ...

    def deliveries(self) -> Sequence[Delivery]:
        """What was lately taken from publishers, oldest first."""
        ...

    def commit(self, staged: Staged) -> list[TakenPack]:
        """Make ``staged`` durable in one transaction and return its packs with their places; or keep nothing, raise."""
        ...


@dataclass(frozen=True, slots=True)
class Committed:
    """One commit: what the consumers get, what is answered."""

    packs: list[TakenPack]
    losses: list[Loss]
    receipts: list[tuple[str, Receipt]]
    statuses: list[LiveStatus]


class Approvals(Protocol):
    """Who may deliver."""

    def is_approved(self, station: str, key: str) -> bool:
        """Whether ``key`` is the station's approved key."""
        ...

    def may_deliver(self, station: str, key: str, epoch: str) -> bool:
        """Whether packs of ``epoch``, which belongs to ``key``, are taken."""
        ...

    def is_registered(self, station: str) -> bool:
        """Whether there is such a station."""
        ...


@dataclass(slots=True)
class _Touched:
    state: ReceiptState = ReceiptState.OK
    ahead: bool = False


def _readings_lost(lost: wire.Lost, last: int) -> int:
    """Return the bound of readings in what is booked: of a range that begins in what we have, only the rest is gone."""
    if lost.from_seq > last:
        return lost.readings
    return min(lost.readings, (lost.through - last) * wire.PACK_MAX_RECORDS)


class Intake:
    """The rules, on one ordered stream of messages; ``store`` is the ULID of this server life."""

    def __init__(
        self,
        ledger: Ledger,
        approvals: Approvals,
        *,
        store: str,
        new_epoch: Callable[[], str] = lambda: str(ULID()),
    ) -> None:
        self._ledger = ledger
        self._new_epoch = new_epoch
        self._approvals = approvals
        self._store = store
        self._marks = ledger.watermarks()
        self._staged = Staged()
        self._touched: dict[tuple[str, str], _Touched] = {}
        self._statuses: list[LiveStatus] = []
        self._sessions: dict[str, tuple[str, str]] = {}  # station → session, key
        self._streams: dict[
            str, str
        ] = {}  # station → epoch of what its publishers send in this life
        self._recent = Recent(ledger.deliveries())
        self.hold = Hold.NONE
        self.counts: dict[Outcome, int] = dict.fromkeys(Outcome, 0)
        self._counted: dict[Outcome, int] = dict.fromkeys(Outcome, 0)

    # ---- offering

    def pack(self, topic: str, payload: bytes, received_ms: int) -> Outcome:
        """Offer a message from an ``up`` topic."""
        outcome = self._pack(topic, payload, received_ms)
        self._counted[outcome] += 1
        return outcome

    def _pack(self, topic: str, payload: bytes, received_ms: int) -> Outcome:
        try:
            station, _ = wire.split_topic(topic)
            pack = wire.decode_pack(payload)
        except WireError as exc:
            self._staged.damaged.append(Damaged(topic, exc.field, str(exc), payload, received_ms))
            return Outcome.DAMAGED
        place = (station, pack.epoch)
        touched = self._touched.setdefault(place, _Touched())
        mark = self._mark(place)
        if mark is None or not self._may_deliver(place, mark):
            touched.state = ReceiptState.PENDING
            return Outcome.PENDING
        if self._is_held(pack.body):
            touched.state = ReceiptState.HOLD
            return Outcome.HELD
        if pack.seq <= mark.last:
            return Outcome.DUPLICATE
        lost = wire.peek_lost(pack.body)
        if lost is not None and lost.through != pack.seq:
            lost = None  # a body that contradicts its header is an ordinary one, and will be quarantined
        first = pack.seq if lost is None else min(lost.from_seq, pack.seq)
        if pack.oldest > mark.last + 1:
            mark = self._book_gap(place, mark, pack.oldest - 1, received_ms)
        if first > mark.last + 1:
            touched.ahead = True
            return Outcome.OUT_OF_ORDER
        if lost is not None:
            self._staged.losses.append(
                Loss(
                    *place,
                    mark.last + 1,
                    pack.seq,
                    _readings_lost(lost, mark.last),
                    lost.reason,
                    received_ms,
                )
            )
        self._advance(place, mark, pack.seq)
        self._staged.taken.append(
            Taken(*place, pack.seq, pack.oldest, pack.sent_ms, received_ms, pack.body)
        )
        return Outcome.TAKEN

    def arrival(self, arrival: Arrival) -> Outcome:
        """Offer a message of a publisher that knows nothing of the link; it gets the next number of its station."""
        outcome = self._arrival(arrival)
        self._counted[outcome] += 1
        return outcome

    def _arrival(self, arrival: Arrival) -> Outcome:
        if self.hold or arrival.is_stale():
            return Outcome.HELD
        try:
            station = self._station_of(arrival)
        except RecordError as exc:
            self._keep_damaged(arrival, exc.field, str(exc))
            return Outcome.DAMAGED
        delivery = arrival.delivery
        if delivery is not None:
            staged = self._staged
            like = arrival.may_be_repeated and self._recent.like(
                delivery, staged.deliveries, staged.sessions_begun
            )
            if like and like.digest == delivery.digest:
                return Outcome.DUPLICATE
            if like and delivery.source == HTTP:
                self._keep_damaged(arrival, "token", "was used for another body")
                return Outcome.DAMAGED
            staged.deliveries.append(delivery)
        place = (station, self._streams.setdefault(station, self._new_epoch()))
        mark = self._mark(place) or Watermark(PUBLISHERS, 0)
        seq = mark.last + 1
        self._advance(place, mark, seq)
        self._staged.taken.append(
            Taken(
                *place,
                seq,
                seq,
                arrival.received_ms,
                arrival.received_ms,
                arrival.payload,
                arrival.topic,
                arrival.header,
            )
        )
        return Outcome.TAKEN

    def _station_of(self, arrival: Arrival) -> str:
        station = split(arrival.topic).station
        if not self._approvals.is_registered(station):
            raise RecordError("topic", f"station {station!r} is not registered")
        if len(arrival.payload) > wire.MAX_BODY_BYTES:
            raise RecordError("body", f"has more than {wire.MAX_BODY_BYTES} bytes")
        return station

    def _keep_damaged(self, arrival: Arrival, field: str, reason: str) -> None:
        self._staged.damaged.append(
            Damaged(arrival.topic, field, reason, arrival.payload, arrival.received_ms)
        )

    def session_begins(self, source: str) -> None:
        """Note that ``source`` has nothing of before to repeat: numbers it gave then may mean something else now."""
        self._staged.sessions_begun.append(source)
        self._staged.deliveries = [d for d in self._staged.deliveries if d.source != source]

    def _is_held(self, body: bytes) -> bool:
        if self.hold is Hold.READINGS:
            return body.startswith(_READINGS)
        return bool(self.hold)

    def status(self, topic: str, payload: bytes, received_ms: int, *, retained: bool) -> None:
        """Offer a message from a ``status`` topic; a retained copy proves nothing and is passed over."""
        if retained:
            return
        try:
            station, _ = wire.split_topic(topic)
            status = wire.decode_status(payload)
            if not status.online and not status.key:
                self._will(station, status, received_ms)
                return
            self._check(station, status)
        except WireError as exc:
            self._staged.damaged.append(Damaged(topic, exc.field, str(exc), payload, received_ms))
            return
        approved = self._approvals.is_approved(station, status.key)
        if approved:  # the will of a stranger must not call the station's own gateway offline
            self._sessions[station] = (status.session, status.key)
        for states in status.lanes.values():
            for state in states:
                self._listed(station, state, status.key, received_ms, approved=approved)
        self._statuses.append(LiveStatus(station, status, received_ms, approved))

    def _will(self, station: str, status: Status, received_ms: int) -> None:
        session, key = self._sessions.get(station, ("", ""))
        # A key replaced since then says nothing of the station, not even that it died.
        if session == status.session and self._approvals.is_approved(station, key):
            self._statuses.append(LiveStatus(station, status, received_ms, approved=True))

    def _check(self, station: str, status: Status) -> None:
        if sum(map(len, status.lanes.values())) > MAX_EPOCHS_IN_STATUS:
            raise WireError("status.lanes", f"lists more than {MAX_EPOCHS_IN_STATUS} epochs")
        for states in status.lanes.values():
            for state in states:
                if not (wire.is_ulid(state.epoch) and 1 <= state.oldest <= state.last + 1):
                    raise WireError(
                        "status.lanes", f"epoch {state.epoch!r} needs 1 ≤ oldest ≤ last+1"
                    )
        message = wire.status_signing_bytes(station, status.session, status.lanes)
        if not keys.verify(status.key, status.sig, message):
            raise WireError("status.sig", "does not match the key and the epochs listed")

    def _listed(
        self,
        station: str,
        state: wire.EpochState,
        key: str,
        received_ms: int,
        *,
        approved: bool,
    ) -> None:
        place = (station, state.epoch)
        touched = self._touched.setdefault(place, _Touched())
        mark = self._mark(place)
        if mark is None:
            mark = self._staged.watermarks[place] = Watermark(key, 0)
        if not self._may_deliver(place, mark):
            touched.state = ReceiptState.PENDING
        elif (approved or key == mark.owner) and state.oldest > mark.last + 1:
            self._book_gap(place, mark, state.oldest - 1, received_ms)

    def answer_again(self, station: str) -> None:
        """Give every epoch of ``station`` a receipt with the next commit (its keys have just changed)."""
        marks = self._marks | self._staged.watermarks
        for place in [p for p, m in marks.items() if p[0] == station and m.owner != PUBLISHERS]:
            touched = self._touched.setdefault(place, _Touched())
            mark = self._mark(place)
            if mark is not None and not self._may_deliver(place, mark):
                touched.state = ReceiptState.PENDING

    # ---- staging

    def _may_deliver(self, place: tuple[str, str], mark: Watermark) -> bool:
        return self._approvals.may_deliver(place[0], mark.owner, place[1])

    def _mark(self, place: tuple[str, str]) -> Watermark | None:
        return self._staged.watermarks.get(place) or self._marks.get(place)

    def _advance(self, place: tuple[str, str], mark: Watermark, last: int) -> Watermark:
        moved = self._staged.watermarks[place] = Watermark(mark.owner, last)
        return moved

    def _book_gap(
        self, place: tuple[str, str], mark: Watermark, through: int, received_ms: int
    ) -> Watermark:
        self._staged.losses.append(
            Loss(*place, mark.last + 1, through, -1, LossReason.GAP, received_ms)
        )
        return self._advance(place, mark, through)

    # ---- committing

    def commit(self, now_ms: int) -> Committed:
        """Make all that was offered durable; return it with the receipts by station and the live statuses.

        When the ledger raises, nothing of it counts: watermarks stay, no receipt is given, every pack was held.
        """
        staged, touched, statuses = self._staged, self._touched, self._statuses
        counted = self._counted
        self._staged, self._touched, self._statuses = Staged(), {}, []
        self._counted = dict.fromkeys(Outcome, 0)
        try:
            packs = self._ledger.commit(staged) if staged else []
        except BaseException:
            self.counts[Outcome.HELD] += sum(counted.values())
            raise
        self._marks.update(staged.watermarks)
        self._recent.take(staged.deliveries, staged.sessions_begun)
        for outcome, count in counted.items():
            self.counts[outcome] += count
        return Committed(packs, staged.losses, list(self._receipts(touched, now_ms)), statuses)

    def _receipts(
        self, touched: dict[tuple[str, str], _Touched], now_ms: int
    ) -> Iterable[tuple[str, Receipt]]:
        for place, answer in touched.items():
            mark = self._marks.get(place)
            yield (
                place[0],
                Receipt(
                    epoch=place[1],
                    seq=0 if mark is None else mark.last,
                    store=self._store,
                    now_ms=now_ms,
                    state=answer.state,
                    ahead=answer.ahead,
                ),
            )
