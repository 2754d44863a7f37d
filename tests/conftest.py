"""What every test may ask for: a real broker, a free port, a part that must be installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def require(program: str) -> str:
    """Return where ``program`` is; without it skip the test, and fail it in CI."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{program} is not installed; CI must have it")
        pytest.skip(f"{program} is not installed")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(arrived: Callable[[], object], *, within_s: float = 30.0) -> None:
    """Wait until ``arrived`` says so; the bound is there to end a test that hangs."""
    deadline = time.monotonic() + within_s
    while not arrived():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


class Mosquitto:
    """One mosquitto on a port of its own; it can be killed and started again."""

    def __init__(self, program: str, directory: Path, settings: str = "") -> None:
        self._program = program
        self._config = directory / "mosquitto.conf"
        self.port = free_port()
        access = settings or "allow_anonymous true"
        self._config.write_text(f"listener {self.port} 127.0.0.1\n{access}\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [self._program, "-c", str(self._config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert self._process.poll() is None, "mosquitto ended at once"
                assert time.monotonic() < deadline, "mosquitto does not listen"
                time.sleep(0.01)
            else:
                return

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(require("mosquitto"), tmp_path)
    broker.start()
    yield broker
    broker.kill()
