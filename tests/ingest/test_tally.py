"""Counts of ingest: they balance whenever they are read, whatever goes on meanwhile."""

from __future__ import annotations

import threading

from ingest import consumers
from ingest.consumers import Consumer
from ingest.intake import Outcome
from ingest.tally import COMMIT_BOUNDS_S, Counts, Tally
from tests.conftest import until
from tests.ingest.test_consumers import HiccupError, Log, Stage, everything


def outcomes(**counts: int) -> dict[Outcome, int]:
    return dict.fromkeys(Outcome, 0) | {Outcome(name): n for name, n in counts.items()}


def balances(c: Counts) -> bool:
    taken = c.outcomes[Outcome.TAKEN]
    return c.received == sum(c.outcomes.values()) + c.waiting and all(
        taken + one.behind_at_start == one.done + one.quarantined + one.behind
        for one in c.consumers.values()
    )


def test_a_message_waits_until_its_group_is_settled() -> None:
    tally = Tally()
    tally.starts("store", 2, 7)
    for _ in range(3):
        tally.received()
    assert (tally.counts().received, tally.counts().waiting) == (3, 3)
    tally.settled(outcomes(taken=1, damaged=1), 2, 8)
    counts = tally.counts()
    assert (counts.waiting, counts.consumers["store"].behind) == (1, 3)
    assert tally.settled_pos == 8
    tally.handled("store", 3, 1)
    one = tally.counts().consumers["store"]
    assert (one.behind_at_start, one.done, one.quarantined, one.behind) == (2, 2, 1, 0)
    assert balances(tally.counts())


def test_every_reading_of_the_counts_balances_while_they_change() -> None:
    tally = Tally()
    tally.starts("store", 0, 0)
    groups, size = 2_000, 5
    arrived = threading.Semaphore(0)
    settled = threading.Semaphore(0)

    def arrive() -> None:
        for _ in range(groups * size):
            tally.received()
            arrived.release()

    def settle() -> None:
        done = 0
        for group in range(1, groups + 1):
            for _ in range(size):
                arrived.acquire()
            done += size - 1
            tally.settled(outcomes(taken=done, duplicate=group), size, done)
            settled.release()

    def handle() -> None:
        for group in range(groups):
            settled.acquire()
            tally.handled("store", size - 1, group % 2)

    threads = [threading.Thread(target=run) for run in (arrive, settle, handle)]
    for thread in threads:
        thread.start()
    seen = []
    while any(thread.is_alive() for thread in threads):
        seen.append(tally.counts())
    for thread in threads:
        thread.join()
    seen.append(tally.counts())
    assert all(map(balances, seen))
    assert all(c.waiting >= 0 and c.consumers["store"].behind >= 0 for c in seen)
    assert (seen[-1].received, seen[-1].waiting) == (groups * size, 0)
    assert seen[-1].consumers["store"].behind == 0


def test_commits_fall_into_the_bucket_that_holds_them() -> None:
    tally = Tally()
    for seconds in (COMMIT_BOUNDS_S[0], COMMIT_BOUNDS_S[0] + 1e-9, 99.0):
        tally.committed(seconds)
    counts = tally.counts()
    assert counts.commits[:2] == (1, 1)
    assert counts.commits[-1] == 1
    assert counts.commit_s == sum((COMMIT_BOUNDS_S[0], COMMIT_BOUNDS_S[0] + 1e-9, 99.0))


def test_a_consumer_that_starts_behind_catches_up_in_the_counts(tmp_path, monkeypatch) -> None:
    """Also what a full queue dropped is had, and counted once, without another pack to wake it."""
    monkeypatch.setattr(consumers, "HANDED_MAX", 1)
    log, tally, stage = Log(tmp_path / "inbox.db"), Tally(), Stage(cursor=2)
    log.take(5)
    stage.seen = [1, 2]
    consumer = Consumer("test", stage, log.inbox, log.index, transient=(HiccupError,))
    consumer.count_into(tally)
    stage.open.clear()
    consumer.start()
    assert tally.counts().consumers["test"].behind_at_start == 3
    for taken in range(1, 6):
        handed = log.take()
        for _ in range(2):
            tally.received()
        tally.settled(outcomes(taken=taken, duplicate=taken), 2, log.inbox.last_pos)
        consumer.offer(handed)
    assert tally.counts().consumers["test"].behind == 8
    stage.open.set()
    try:
        until(lambda: everything(stage, 10))
        until(lambda: tally.counts().consumers["test"].behind == 0)
        assert balances(tally.counts())
    finally:
        consumer.stop()
        log.inbox.close()
