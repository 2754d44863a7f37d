"""The demo's child processes: started with a log each, watched, ended for certain, gone when the parent dies."""

from __future__ import annotations

import asyncio
import ctypes
import os
import random
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PYTHON = (sys.executable, "-m")
REPO = Path(__file__).resolve().parent.parent
TAIL_LINES = 25
STOP_S = 10.0
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded before any fork


class DemoError(Exception):
    """The demo cannot go on; the message says what happened and what to do."""


@dataclass(slots=True)
class Child:
    """One process as last started."""

    name: str
    argv: tuple[str, ...]
    log: Path
    process: asyncio.subprocess.Process
    expected_to_run: bool = True


class Fleet:
    """Child processes by name, in the order of their start."""

    def __init__(self, log_dir: Path) -> None:
        log_dir.mkdir(parents=True, exist_ok=True)
        self._log_dir = log_dir
        self._children: dict[str, Child] = {}

    async def start(self, name: str, argv: Sequence[str]) -> None:
        """Start ``argv`` as ``name``; its output is appended to ``<name>.log``."""
        log = self._log_dir / f"{name}.log"
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *argv,
                cwd=REPO,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C in the terminal is for the parent, who ends them in order
                preexec_fn=die_with(os.getpid()),
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        self._children[name] = Child(name, tuple(argv), log, process)

    async def restart(self, name: str) -> None:
        """Start ``name`` again with the same arguments, after it ended."""
        await self.start(name, self._children[name].argv)

    async def kill(self, name: str) -> int:
        """Kill ``name`` with SIGKILL; return when, in UTC milliseconds."""
        child = self._children[name]
        child.expected_to_run = False
        at_ms = time.time_ns() // 1_000_000
        _signal(child, signal.SIGKILL)
        await child.process.wait()
        return at_ms

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send ``number`` to ``name``."""
        self._children[name].process.send_signal(number)

    def check(self) -> None:
        """Raise DemoError, with the end of its log, when a child that should run has ended."""
        for child in self._children.values():
            code = child.process.returncode
            if child.expected_to_run and code is not None:
                raise DemoError(
                    f"{child.name} ended with code {code}; the end of {child.log}:\n{tail(child.log)}"
                )

    async def wait_until(self, what: str, ready: Callable[[], bool], *, within_s: float) -> None:
        """Return when ``ready()``; raise DemoError when a child ends or after ``within_s``."""
        deadline_s = time.monotonic() + within_s
        while not await asyncio.to_thread(ready):
            self.check()
            if time.monotonic() > deadline_s:
                raise DemoError(f"{what} is not ready after {within_s:.0f} s; see {self._log_dir}")
            await asyncio.sleep(0.1)

    async def stop(self, *names: str) -> None:
        """End children with SIGTERM, all at once; what does not end in time is killed."""
        ending = [child for name in names if (child := self._children.get(name)) is not None]
        for child in ending:
            child.expected_to_run = False
            _signal(child, signal.SIGTERM)
        for child in ending:
            try:
                async with asyncio.timeout(STOP_S):
                    await child.process.wait()
            except TimeoutError:
                _signal(child, signal.SIGKILL)
                await child.process.wait()

    def kill_all(self) -> None:
        """Kill what still runs, without waiting; for a parent on its way out."""
        for child in self._children.values():
            _signal(child, signal.SIGKILL)


def _signal(child: Child, number: signal.Signals) -> None:
    if child.process.returncode is None:
        try:
            os.killpg(child.process.pid, number)  # each child leads its own session and group
        except ProcessLookupError:
            return


def die_with(parent: int) -> Callable[[], None]:
    """Return what a child does before exec: ask the kernel to be killed when its parent dies (Linux)."""

    def before_exec() -> None:
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it died before we asked
                os._exit(1)

    return before_exec


def tail(log: Path) -> str:
    """Return the last lines of a log."""
    try:
        lines = log.read_text("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return "\n".join(lines[-TAIL_LINES:])


def accepts(port: int, host: str = "127.0.0.1") -> bool:
    """Tell whether something takes TCP connections there."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def is_free(port: int) -> bool:
    """Tell whether a server can listen on the loopback port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports(count: int, *, avoid: frozenset[int] = frozenset()) -> list[int]:
    """Return free loopback ports below the ephemeral range, which outgoing connections never take."""
    found: list[int] = []
    for port in random.sample(range(15_000, 32_000), 2_000):
        if len(found) == count:
            return found
        if port not in avoid and is_free(port):
            found.append(port)
    raise DemoError("no free TCP ports between 15000 and 32000")
