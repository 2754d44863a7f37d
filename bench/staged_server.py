"""``agrigate serve`` with the processor time of its stages written down at the end.

The product itself is not measured from inside: here some of its functions are wrapped before it starts. What a wrapped
function spends in another wrapped one counts for that one. Threads of DuckDB, and what has no stage, are the rest.
"""

from __future__ import annotations

import functools
import json
import sys
import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from agrigate import main
from ingest import consumers, decode, inbox, intake, service, subscriber
from ingest.detect import flags
from ingest.judge import consumer as judge
from ingest.store import duckdb_store

if TYPE_CHECKING:
    from collections.abc import Callable

STAGES: tuple[tuple[str, type, str], ...] = (
    ("message from paho", subscriber.Subscriber, "_on_message"),
    ("rules of the link", intake.Intake, "pack"),
    ("inbox commit", inbox.Inbox, "commit"),
    ("receipts", subscriber.Subscriber, "publish_receipt"),
    ("decode", decode.Decoder, "decode"),
    ("order", decode.ArrivalOrder, "flag"),
    ("quality flags", flags.QualityFlags, "flag"),
    ("judge", judge.Judge, "handle"),
    ("store", duckdb_store.DuckDBStore, "append"),
    ("rest of consumers", consumers.Consumer, "_handle"),
    ("rest of intake", service.IngestService, "_group"),
)


class _Watch(threading.local):
    """What one thread spent; ``inner`` is a stack: seconds that stages inside the open ones took."""

    def __init__(self) -> None:
        self.inner: list[float] = []


class Stages:
    """Processor seconds and calls by thread and stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        self.calls: dict[str, int] = defaultdict(int)
        self.threads: dict[str, float] = {}
        self._watch = _Watch()

    def wrap(self, stage: str, owner: type, name: str) -> None:
        """Have every call of ``owner.name`` measured."""
        inner: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(inner)
        def measured(*args: object, **kwargs: object) -> object:
            stack = self._watch.inner
            stack.append(0.0)
            begun = time.thread_time()
            try:
                return inner(*args, **kwargs)
            finally:
                now = time.thread_time()
                within = stack.pop()
                thread = threading.current_thread().name
                self.seconds[thread][stage] += now - begun - within
                self.threads[thread] = now
                self.calls[stage] += 1
                if stack:
                    stack[-1] += now - begun

        setattr(owner, name, measured)

    def result(self) -> dict[str, object]:
        """Return what was measured, in seconds."""
        threads = {
            thread: {stage: round(s, 3) for stage, s in sorted(stages.items())}
            | {"rest": round(self.threads[thread] - sum(stages.values()), 3)}
            for thread, stages in sorted(self.seconds.items())
        }
        return {"threads": threads, "calls": dict(self.calls)}


if __name__ == "__main__":
    out, *arguments = sys.argv[1:]
    stages = Stages()
    for one in STAGES:
        stages.wrap(*one)
    try:
        main(arguments, prog_name="agrigate")
    finally:
        with open(out, "w", encoding="utf-8") as file:  # noqa: PTH123
            json.dump(stages.result(), file)
