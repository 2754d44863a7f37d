"""One run of the server's path, in a process of its own: intake → inbox → decode → flags → judge → DuckDB.

Intake, inbox file, consumers with their threads, SQLite and DuckDB are the real ones. There is no broker and no HTTP,
no receipt is published, and what is registered is a plot with limits for every device, held in memory.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from ulid import ULID

from alerts.raising import AlertRaiser
from bench import county
from gateway import wire
from ingest.consumers import Consumer, Handed
from ingest.decode import Decoder, SeriesIndex
from ingest.inbox import Inbox
from ingest.intake import Intake, Outcome, Staged, Watermark
from ingest.judge.catalogue.catalogue import standard_catalogue
from ingest.judge.consumer import Judge
from ingest.operational import Operational
from ingest.registry.context import PlotContext
from ingest.store.duckdb_store import DuckDBStore
from ingest.store.stage import StoreStage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.batch import Batch, TakenPack
    from ingest.consumers import Stage

SERIES_PER_STATION = county.DEVICES * len(county.INDICATORS)
COMMIT_PACKS = 64  # about what comes in the 20 ms for which the service gathers
COMMIT_READINGS = 6_400
AHEAD_COMMITS = 8  # how far the intake runs ahead of the slower consumer
FINISH_S = 600.0
KEY = "bench"


class Everything:
    """A registry in which every station may deliver and every device has a plot with a use and a pH."""

    version = 1

    def context(self, station: str, device: str) -> PlotContext | None:
        """Return the plot of a device."""
        return PlotContext(plot_id=f"{station}-{device}", land_use="other", soil_ph=6.8)

    def is_approved(self, station: str, key: str) -> bool:  # noqa: ARG002 - everybody is
        """Whether ``key`` is the station's."""
        return True

    def may_deliver(self, station: str, key: str, epoch: str) -> bool:  # noqa: ARG002 - everybody may
        """Whether packs of ``epoch`` are taken."""
        return True

    def is_registered(self, station: str) -> bool:  # noqa: ARG002 - everybody is
        """Whether there is such a station."""
        return True


class ClockedStage:
    """A stage, and the processor seconds of the thread that it had."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.cpu_s = 0.0

    def cursor(self) -> int:
        """Inbox position of the last pack handled."""
        return self._stage.cursor()

    def handle(self, batch: Batch) -> None:
        """Hand on to the stage."""
        began = time.thread_time()
        self._stage.handle(batch)
        self.cpu_s += time.thread_time() - began


class ClockedDecoder(Decoder):
    """A decoder, and the processor seconds that it had; only the one who decodes first pays."""

    def __init__(self, index: SeriesIndex) -> None:
        super().__init__(index)
        self.cpu_s = 0.0

    def decode(self, packs: list[TakenPack]) -> Batch:
        """Return the batch of ``packs``."""
        began = time.thread_time()
        batch = super().decode(packs)
        self.cpu_s += time.thread_time() - began
        return batch


class ServerPath:
    """Everything between a message of the broker and the two cursors."""

    def __init__(self, directory: Path, stations: list[str]) -> None:
        self._operational = Operational(f"sqlite:///{directory / 'operational.db'}")
        self._operational.migrate()
        self._inbox = Inbox.open(directory / "inbox.db")
        self._readings = DuckDBStore(directory / "readings.duckdb")
        self._epoch = str(ULID())
        self._inbox.commit(
            Staged(watermarks={(code, self._epoch): Watermark(KEY, 0) for code in stations})
        )
        everything, index = Everything(), SeriesIndex()
        self._intake = Intake(self._inbox, everything, store=str(ULID()))
        raiser = AlertRaiser(names=lambda code: (code, code), on_commit=lambda: None)
        with self._operational.read() as connection:
            raiser.load(connection)
        self.judge = ClockedStage(
            Judge(standard_catalogue(), everything, self._operational, raiser)
        )
        self.store = ClockedStage(StoreStage(self._readings))
        self.decoder = ClockedDecoder(index)
        self._consumers = [
            Consumer("judge", self.judge, self._inbox, index, transient=()),
            Consumer("store", self.store, self._inbox, index, transient=()),
        ]
        for consumer in self._consumers:
            consumer.start()
        self.intake_s = self.sending_s = 0.0
        self._seq = 0

    def take(self, bodies: list[bytes], stations: list[str], size: int) -> None:
        """Take each of ``bodies`` from every station, one round after the other, until both consumers have had all."""
        for group in _groups(bodies, stations, size):
            began = time.thread_time()
            now_ms = time.time_ns() // 1_000_000
            messages = [
                (
                    wire.topic(code, "up"),
                    wire.encode_pack(self._epoch, self._seq + nth, 1, now_ms, body),
                )
                for code, nth, body in group
            ]
            self.sending_s += time.thread_time() - began
            began = time.thread_time()
            for topic, payload in messages:
                outcome = self._intake.pack(topic, payload, now_ms)
                if outcome is not Outcome.TAKEN:
                    raise SystemExit(f"a pack is {outcome}")
            handed = Handed(self._intake.commit(now_ms).packs, self.decoder)
            for consumer in self._consumers:
                consumer.offer(handed)
            self.intake_s += time.thread_time() - began
            self._wait(AHEAD_COMMITS * len(group))
        self._seq += len(bodies)
        self._wait(0)

    def _wait(self, packs: int) -> None:
        """Wait until no consumer is further behind than ``packs``."""
        until = time.monotonic() + FINISH_S
        while any(self._inbox.last_pos - c.position > packs for c in self._consumers):
            failed = [c.failure for c in self._consumers if c.failure is not None]
            if failed or time.monotonic() > until:
                raise SystemExit(f"the consumers do not follow: {failed}")
            time.sleep(0.002)

    def count(self) -> int:
        """Return how many readings are stored."""
        return self._readings.count()

    def close(self) -> None:
        """End the threads and close the files."""
        for consumer in self._consumers:
            consumer.stop()
        self._readings.close()
        self._inbox.close()
        self._operational.close()


def _groups(
    bodies: list[bytes], stations: list[str], size: int
) -> Iterator[list[tuple[str, int, bytes]]]:
    """Yield what one commit takes: (station, number from 1, body)."""
    most = max(1, min(COMMIT_PACKS, COMMIT_READINGS // size))
    group = []
    for nth, body in enumerate(bodies, start=1):
        for code in stations:
            group.append((code, nth, body))
            if len(group) == most:
                yield group
                group = []
    if group:
        yield group


def packs_of(size: int, count: int, start_ms: int) -> list[bytes]:
    """Return the bodies of ``count`` packs of ``size`` readings of one station, a sample of each series a second."""
    stream = list(county.readings(size * count, start_ms))
    return [wire.encode_readings(stream[i : i + size]) for i in range(0, len(stream), size)]


def memory_mb(field: str) -> float:
    """Return a line of /proc/self/status in MiB: VmRSS now, VmHWM at its highest since this program began."""
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith(f"{field}:"):
            return round(int(line.split()[1]) / 1024, 1)
    raise SystemExit(f"/proc/self/status has no {field}")


def run(directory: Path, series: int, size: int, readings: int) -> dict[str, float]:
    """Let every series be seen once, then take ``readings`` more and measure those."""
    stations = county.station_codes(max(1, series // SERIES_PER_STATION))
    first = -(-SERIES_PER_STATION // size)
    more = max(1, readings // (size * len(stations)))
    samples = (first + more) * size // SERIES_PER_STATION
    start_ms = time.time_ns() // 1_000_000 - samples * 1000
    bodies = packs_of(size, first + more, start_ms)
    with closing(ServerPath(directory, stations)) as path:
        began = time.process_time()
        path.take(bodies[:first], stations, size)
        first_s = time.process_time() - began - path.sending_s
        path.intake_s = path.sending_s = 0.0
        path.judge.cpu_s = path.store.cpu_s = path.decoder.cpu_s = 0.0
        began, wall = time.process_time(), time.monotonic()
        path.take(bodies[first:], stations, size)
        cpu_s = time.process_time() - began - path.sending_s
        wall_s = time.monotonic() - wall
        rss_mb = memory_mb("VmRSS")
        taken = more * size * len(stations)
        if (stored := path.count()) != (first + more) * size * len(stations):
            raise SystemExit(f"{stored} readings are stored, not all")
    stages = {
        "intake and inbox": path.intake_s,
        "decode": path.decoder.cpu_s,
        "judge": path.judge.cpu_s,
        "DuckDB, its caller": path.store.cpu_s,
    }
    stages["flags, DuckDB's threads, hand-over"] = cpu_s - sum(stages.values())
    return {
        "readings": taken,
        "readings_per_cpu_s": round(taken / cpu_s),
        "readings_per_s": round(taken / wall_s),
        "first_us_per_series": round(1e6 * first_s / (len(stations) * SERIES_PER_STATION)),
        "rss_mb": rss_mb,
        "peak_mb": memory_mb("VmHWM"),
        **{f"us: {name}": round(1e6 * used / taken, 3) for name, used in stages.items()},
    }


def main(directory: str, series: str, size: str, readings: str) -> None:
    """Print the result of one run as JSON."""
    result = run(Path(directory), int(series), int(size), int(readings))
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
