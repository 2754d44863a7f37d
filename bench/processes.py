"""Processes of a benchmark: started on free loopback ports, their CPU and memory read, ended by their pid."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.machine import MOSQUITTO_PATH
from ingest.broker.mosquitto import CONF_TEXT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

REPO = Path(__file__).resolve().parent.parent
TICKS = os.sysconf("SC_CLK_TCK")
START_S = 30.0
STOP_S = 15.0
# As deployed, but for who may connect and where: that is this run's own.
TUNING = ("set_tcp_nodelay ", "max_packet_size ", "max_queued_", "max_inflight_messages ")
BROKER_CONFIG = "".join(
    line for line in CONF_TEXT.splitlines(keepends=True) if line.startswith(TUNING)
)


class BenchError(Exception):
    """A benchmark cannot be run or does not come to its end; the message says why."""


@dataclass(slots=True)
class Child:
    """One process with a log of its own."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def cpu_s(self) -> float:
        """Return processor seconds used so far, user and system."""
        fields = (
            Path(f"/proc/{self.process.pid}/stat").read_text("ascii").rpartition(")")[2].split()
        )
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss_mb(self) -> float:
        """Return resident memory in MiB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text("ascii").split()[1])
        return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)

    def check(self) -> None:
        """Raise BenchError with the end of the log when the process has ended."""
        if self.process.poll() is not None:
            tail = self.log.read_text("utf-8", "replace")[-2000:]
            raise BenchError(f"{self.name} ended with {self.process.returncode}:\n{tail}")

    def stop(self) -> None:
        """End the process: SIGTERM, then SIGKILL."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@contextmanager
def child(name: str, argv: Sequence[str], directory: Path) -> Iterator[Child]:
    """Run ``argv`` from the repository's root; it is gone at the end, whatever happens."""
    log = directory / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv, cwd=REPO, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    started = Child(name, process, log)
    try:
        yield started
    finally:
        started.stop()


def python(*arguments: str) -> list[str]:
    """Return the command line of a module of ours."""
    return [sys.executable, "-m", *arguments]


@contextmanager
def mosquitto(directory: Path) -> Iterator[tuple[Child, int]]:
    """Run a broker as the documentation configures it; give it and its port."""
    program = shutil.which("mosquitto", path=MOSQUITTO_PATH)
    if program is None:
        raise BenchError("mosquitto is not installed: apt install mosquitto")
    port = free_port()
    config = directory / "mosquitto.conf"
    config.write_text(
        f"{BROKER_CONFIG}\nlistener {port} 127.0.0.1\nallow_anonymous true\n", "utf-8"
    )
    with child("mosquitto", [program, "-c", str(config)], directory) as broker:
        until(lambda: answers(port), broker, "listen")
        yield broker, port


def free_port() -> int:
    """Return a port on 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Tell whether somebody listens on ``port``."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def until(
    done: Callable[[], bool],
    watched: Child,
    what: str,
    *,
    within_s: float = START_S,
    every_s: float = 0.02,
) -> None:
    """Wait until ``done``; raise BenchError when ``watched`` ends or ``within_s`` pass."""
    deadline = time.monotonic() + within_s
    while not done():
        watched.check()
        if time.monotonic() > deadline:
            raise BenchError(f"{watched.name} did not {what} within {within_s:.0f} s")
        time.sleep(every_s)
