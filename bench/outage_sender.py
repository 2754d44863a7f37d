"""The stations of ``bench.outage``: some drain their spools, the others poll on; tests are printed at both.

What is measured is the time from the spool's commit to the receipt: the pack is durable at the server.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from bench.outage import POLL_READINGS, poll_body
from bench.sender import Senders
from drivers.records import ResultKind, TestRecord
from gateway import wire
from gateway.wire import Lane

if TYPE_CHECKING:
    from bench.sender import Sender

POLLS_PER_S = 1.0  # of each live station: many more than a county's, for many samples
TEST_EVERY_S = 2.0  # one test at a live station, and one at a draining station
AFTER_S = 5.0


@dataclass(slots=True)
class Waiting:
    """Packs whose receipt is awaited, and how long the others waited (s)."""

    packs: deque[tuple[Sender, str, int, float]] = field(default_factory=deque)
    took: list[float] = field(default_factory=list)

    def spool(self, sender: Sender, lane: Lane, body: bytes, records: int) -> None:
        """Commit a pack now and remember when."""
        sender.spool.append(lane, body, records, time.time_ns() // 1_000_000)
        epoch = sender.spool.current_epoch(lane)
        assert epoch is not None
        last = sender.spool.epochs[epoch].last
        self.packs.append((sender, epoch, last, time.monotonic()))
        sender.push()

    def look(self) -> None:
        """Settle what has been receipted."""
        now = time.monotonic()
        for _ in range(len(self.packs)):
            sender, epoch, seq, since = item = self.packs.popleft()
            if sender.spool.epochs[epoch].acked >= seq:
                self.took.append(now - since)
            else:
                self.packs.append(item)

    def result(self, name: str) -> dict[str, float]:
        """Return percentiles in milliseconds."""
        ordered = sorted(self.took)
        return {
            f"{name}_n": len(ordered),
            f"{name}_p50_ms": round(ordered[len(ordered) // 2] * 1000, 1),
            f"{name}_p99_ms": round(ordered[int(len(ordered) * 0.99)] * 1000, 1),
            f"{name}_max_ms": round(ordered[-1] * 1000, 1),
        }


def _test(number: int, station: str) -> bytes:
    record = TestRecord(
        record_id=f"{station}-{number}",
        dedup_key=f"{station}|{number}",
        tested_at=datetime.now(UTC).isoformat(timespec="seconds"),
        device_id="tester1",
        sample_no=f"S{number}",
        product_name="豇豆",
        parameter="pesticide_inhibition",
        method="enzyme_inhibition",
        result_kind=ResultKind.INHIBITION,
        value=Decimal("12.5"),
        unit="%",
    )
    return wire.encode_tests([record])


def main(directory: str, port: str, drained: str, *codes: str) -> None:
    """Drain the first stations' spools, keep the others going, print the result as JSON."""
    senders = Senders(Path(directory), list(codes), int(port))
    old, live = senders.all[: int(drained)], senders.all[int(drained) :]
    readings, live_tests, old_tests = Waiting(), Waiting(), Waiting()
    senders.connect()
    started = time.monotonic()
    polls = tests = 0
    drained_s: float | None = None
    while drained_s is None or time.monotonic() - started < drained_s + AFTER_S:
        now = time.monotonic() - started
        while polls < now * POLLS_PER_S * len(live):
            t_ms = time.time_ns() // 1_000_000
            readings.spool(
                live[polls % len(live)], Lane.READINGS, poll_body(t_ms, 0), POLL_READINGS
            )
            polls += 1
        while tests < now / TEST_EVERY_S:
            live_tests.spool(live[tests % len(live)], Lane.TESTS, _test(tests, "live"), 1)
            old_tests.spool(old[tests % len(old)], Lane.TESTS, _test(tests, "old"), 1)
            tests += 1
        senders.turn()
        for waiting in (readings, live_tests, old_tests):
            waiting.look()
        if drained_s is None and not any(s.spool.queue_length() for s in old):
            drained_s = time.monotonic() - started
    senders.close()
    result = {
        "drained_s": drained_s,
        **readings.result("live_readings"),
        **live_tests.result("live_tests"),
        **old_tests.result("tests_of_draining"),
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
