"""Consumers of the inbox: each at its own pace, none misses a pack, none sees one twice."""

from __future__ import annotations

import json
import threading

import pytest
import zstandard
from structlog.testing import capture_logs

from ingest import consumers
from ingest.batch import OUT_OF_ORDER, SITE_RANGE, SPIKE, Fault
from ingest.consumers import Consumer, Handed
from ingest.decode import Decoder, SeriesIndex
from ingest.detect.thresholds import NoThresholds, SeriesLimits
from ingest.inbox import Inbox
from ingest.intake import Staged, Taken
from tests.conftest import until

NOW = 1_777_600_000_000
EPOCH = "01KAAAAAAAAAAAAAAAAAAAAAAA"


class HiccupError(Exception):
    """An error that passes."""


class Stage:
    """Notes what it was given; can be made to wait, to fail for a while, or to be wrong."""

    def __init__(self, cursor: int = 0) -> None:
        self.at = cursor
        self.seen: list[int] = []
        self.flags: dict[int, int] = {}
        self.faults: list[Fault] = []
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.hiccups = 0
        self.bug: Exception | None = None

    def cursor(self) -> int:
        return self.at

    def handle(self, batch) -> None:
        self.entered.set()
        self.open.wait()
        if self.bug is not None:
            raise self.bug
        if self.hiccups:
            self.hiccups -= 1
            raise HiccupError("busy")
        self.seen += [pack.pos for pack in batch.packs if pack.pos > self.at]
        self.flags.update(zip(batch.inbox_pos.tolist(), batch.flags.tolist(), strict=True))
        self.faults += batch.faults
        self.at = batch.cursor


class Log:
    """An inbox on disk, one reading per pack; what is taken may be handed over, or not."""

    def __init__(self, path) -> None:
        self.inbox = Inbox.open(path)
        self.index = SeriesIndex()
        self.decoder = Decoder(self.index)
        self.seq = 0
        self.started: list[Consumer] = []

    def take(self, count: int = 1) -> Handed:
        return self.measured([6.0] * count)

    def measured(self, values: list[float], *, back_ms: int = 0, received_ms: int = NOW) -> Handed:
        """Take a pack for each of ``values``, a millisecond apart."""
        taken = []
        for value in values:
            self.seq += 1
            at_ms = NOW + self.seq - back_ms
            record = {"n": "a/soil_ph", "t": at_ms / 1000, "v": value}
            body = json.dumps({"readings": [record]}).encode()
            taken.append(Taken("hl-001", EPOCH, self.seq, 1, NOW, received_ms, body))
        return Handed(self.inbox.commit(Staged(taken=taken)), self.decoder)

    def consumer(self, stage: Stage, **more) -> Consumer:
        consumer = Consumer("test", stage, self.inbox, self.index, transient=(HiccupError,), **more)
        self.started.append(consumer)
        consumer.start()
        return consumer


@pytest.fixture
def log(tmp_path):
    log = Log(tmp_path / "inbox.db")
    yield log
    for consumer in log.started:
        consumer.stop()
    log.inbox.close()


def everything(stage: Stage, count: int) -> bool:
    return stage.seen == list(range(1, count + 1))


def test_it_gets_what_is_handed_over_in_order(log):
    stage = Stage()
    consumer = log.consumer(stage)
    for _ in range(20):
        consumer.offer(log.take(3))
    until(lambda: everything(stage, 60))
    assert consumer.position == 60


def test_it_begins_with_what_the_inbox_has_behind_its_cursor(log):
    log.take(1200)
    stage = Stage(cursor=7)
    consumer = log.consumer(stage)
    until(lambda: stage.seen == list(range(8, 1201)))
    consumer.offer(log.take())
    until(lambda: stage.at == 1201)


def test_what_was_never_handed_over_is_read_from_the_inbox(log):
    stage = Stage()
    consumer = log.consumer(stage)
    consumer.offer(log.take(2))
    log.take(5)
    consumer.offer(log.take(2))
    until(lambda: everything(stage, 9))


def test_one_that_falls_behind_catches_up_from_the_inbox(log):
    stage = Stage()
    stage.open.clear()
    consumer = log.consumer(stage)
    consumer.offer(log.take())
    stage.entered.wait()
    for _ in range(3 * consumers.HANDED_MAX):
        consumer.offer(log.take())
    assert consumer._queue.full()  # the rest was dropped: nothing is kept for it in memory
    stage.open.set()
    until(lambda: stage.at >= 1 + consumers.HANDED_MAX)
    consumer.offer(log.take())
    until(lambda: everything(stage, 2 + 3 * consumers.HANDED_MAX))


def test_a_consumer_that_stalls_sees_the_same_flags_as_one_that_does_not(log):
    slow, quick = Stage(), Stage()
    slow.open.clear()
    both = [log.consumer(slow), log.consumer(quick)]
    for _ in range(2 * consumers.HANDED_MAX):
        handed = log.take()
        for consumer in both:
            consumer.offer(handed)
        until(lambda: quick.at == log.seq)
    slow.open.set()
    handed = log.take()
    until(lambda: not both[0]._queue.full())
    for consumer in both:
        consumer.offer(handed)
    until(lambda: slow.at == quick.at == log.seq)
    assert slow.flags == quick.flags
    assert not any(flags & OUT_OF_ORDER for flags in slow.flags.values())


def test_order_is_remembered_from_catching_up_to_what_is_handed_over(log):
    log.take()
    stage = Stage()
    consumer = log.consumer(stage)
    until(lambda: stage.at == 1)
    log.seq -= 1  # the same time again
    handed = Handed(
        log.inbox.commit(
            Staged(
                taken=[Taken("hl-001", EPOCH, 2, 1, NOW, NOW, log.inbox.read_after(0, 1)[0].body)]
            )
        ),
        log.decoder,
    )
    consumer.offer(handed)
    until(lambda: stage.at == 2)
    assert stage.flags[2] & OUT_OF_ORDER
    assert not stage.flags[1] & OUT_OF_ORDER


def test_a_failure_that_passes_is_tried_again_and_said_once(log, monkeypatch):
    monkeypatch.setattr(consumers, "RETRY_FIRST_S", 0.001)
    stage = Stage()
    stage.hiccups = 5
    with capture_logs() as logs:
        consumer = log.consumer(stage)
        consumer.offer(log.take())
        until(lambda: everything(stage, 1) and not consumer.failing)
    assert [entry["event"] for entry in logs] == ["consumer_stalled", "consumer_recovered"]
    assert consumer.failure is None


def test_while_it_retries_it_says_so_and_can_be_stopped(log):
    stage = Stage()
    stage.hiccups = 10**9
    with capture_logs():
        consumer = log.consumer(stage)
        consumer.offer(log.take())
        until(lambda: consumer.failing)
        consumer.stop()
    assert (stage.seen, consumer.position) == ([], 0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_ends_it_and_is_reported(log):
    stage = Stage()
    stage.bug = TypeError("ours")
    failed = threading.Event()
    with capture_logs() as logs:
        consumer = log.consumer(stage, on_failure=failed.set)
        consumer.offer(log.take())
        assert failed.wait(30)
    assert consumer.failure is stage.bug
    assert [entry["event"] for entry in logs] == ["consumer_failed"]
    consumer.stop()


def test_after_is_called_after_each_batch(log):
    stage, calls = Stage(), []
    consumer = log.consumer(stage, after=lambda: calls.append(stage.at))
    consumer.offer(log.take(2))
    until(lambda: calls == [2])


def test_one_that_is_ahead_of_the_inbox_misses_nothing(log):
    """The inbox was moved away or restored: places that the consumer has had are not given again."""
    stage = Stage(cursor=5000)
    consumer = log.consumer(stage)
    consumer.offer(log.take(3))
    until(lambda: stage.seen == [5001, 5002, 5003])


def test_stop_before_start_is_harmless(log):
    Consumer("test", Stage(), log.inbox, log.index, transient=()).stop()


@pytest.mark.parametrize("broken", [b"\x00" * 20, zstandard.ZstdCompressor().compress(b"{}")])
def test_a_body_damaged_on_the_disk_stops_nobody_and_is_a_fault(log, broken):
    log.take(5)
    log.inbox._writer.execute("UPDATE packs SET body = ? WHERE pos = 3", (broken,))
    stage = Stage()
    log.consumer(stage)
    until(lambda: everything(stage, 5))
    assert sorted(stage.flags) == [1, 2, 4, 5]
    [fault] = stage.faults
    assert (fault.pack.pos, fault.position, fault.field) == (3, -1, "body")
    assert "the inbox file was damaged" in fault.reason


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_that_will_not_pass_ends_it_and_is_not_relieved(log):
    stage, relieved = Stage(), []
    stage.hiccups = 1
    with capture_logs():
        consumer = log.consumer(stage, passes=lambda _: False, relieve=relieved.append)
        consumer.offer(log.take())
        until(lambda: consumer.failure is not None)
    assert isinstance(consumer.failure, HiccupError)
    assert relieved == []


def test_room_is_made_before_the_next_try(log, monkeypatch):
    monkeypatch.setattr(consumers, "RETRY_FIRST_S", 0.01)
    stage, relieved = Stage(), []
    stage.hiccups = 2
    with capture_logs():
        consumer = log.consumer(stage, relieve=relieved.append)
        consumer.offer(log.take())
        until(lambda: everything(stage, 1))
    assert [type(error) for error in relieved] == [HiccupError, HiccupError]


def test_each_consumer_flags_behaviour_by_what_is_registered(log):
    class Registered(NoThresholds):
        version = 1

        def quality_limits(self, series):  # noqa: ARG002
            return SeriesLimits(site_max=5.0)

    stages = Stage(), Stage()
    limited, free = log.consumer(stages[0], thresholds=Registered()), log.consumer(stages[1])
    handed = log.take()
    for consumer in (limited, free):
        consumer.offer(handed)
    until(lambda: stages[0].at == stages[1].at == 1)
    assert [stage.flags[1] & SITE_RANGE for stage in stages] == [SITE_RANGE, 0]


def noise(count: int) -> list[float]:
    return [round(6 + 0.01 * (n * 7 % 11), 2) for n in range(count)]


def test_the_flags_after_a_restart_are_those_without_one(log):
    """The judge and the store start where each of them was; neither sees a pack twice."""
    stays, judge, store = Stage(), Stage(), Stage()
    consumers_ = [log.consumer(stage) for stage in (stays, judge, store)]
    handed = log.measured(noise(700))
    for consumer in consumers_:
        consumer.offer(handed)
    until(lambda: stays.at == judge.at == store.at == 700)
    consumers_[2].stop()  # the store stays behind
    last = log.measured(noise(20))
    for consumer in consumers_[:2]:
        consumer.offer(last)
    until(lambda: stays.at == judge.at == 720)
    consumers_[1].stop()
    log.index, log.decoder = SeriesIndex(), Decoder(log.index)
    again = [log.consumer(judge), log.consumer(store)]
    for handed in (log.measured([8.0]), log.measured([6.0], back_ms=300)):
        for consumer in (consumers_[0], *again):
            consumer.offer(handed)
    until(lambda: stays.at == judge.at == store.at == 722)
    assert judge.flags == store.flags == stays.flags
    assert stays.flags[721] & SPIKE
    assert stays.flags[722] & OUT_OF_ORDER
    assert judge.seen == store.seen == list(range(1, 723))


@pytest.mark.parametrize(
    ("bound", "value", "readings"),
    [("ROLL_READINGS", 150, 150), ("ROLL_PACKS", 90, 90), ("ROLL_MS", 1000, 40)],
)
def test_what_is_rolled_forward_at_the_start_is_bounded(log, monkeypatch, bound, value, readings):
    monkeypatch.setattr(consumers, bound, value)
    log.measured([6.0] * 1160, received_ms=NOW - 5000)
    log.take(40)
    log.take(7)
    stage = Stage(cursor=1200)
    with capture_logs() as logs:
        log.consumer(stage)
        until(lambda: stage.at == 1207)
    [entry] = logs
    assert entry["event"] == "consumer_rolled_forward"
    assert (entry["consumer"], entry["readings"]) == ("test", readings)
    assert stage.seen == list(range(1201, 1208))


def test_nothing_is_rolled_forward_from_an_inbox_that_was_emptied(log):
    stage = Stage(cursor=500)
    with capture_logs() as logs:
        consumer = log.consumer(stage)
        consumer.offer(log.take())
        until(lambda: stage.at == 501)
    assert logs == []
