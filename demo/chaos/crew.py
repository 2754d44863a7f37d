"""The processes of a run: started, killed, squeezed, watched; logs go through pipes, where no file limit holds."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from demo.processes import REPO, DemoError, die_with, tail

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

STOP_S = 15.0
LOOK_EVERY_S = 0.5
RESTART_AFTER_S = 0.5


@dataclass(slots=True)
class Member:
    """One process as last started."""

    argv: tuple[str, ...]
    log: Path
    process: asyncio.subprocess.Process
    logger: asyncio.subprocess.Process
    expected: bool = True


@dataclass(slots=True)
class Crew:
    """Processes by name. A fault on one holds ``lock(name)`` meanwhile."""

    log_dir: Path
    members: dict[str, Member] = field(default_factory=dict)
    peak_mb: dict[str, float] = field(default_factory=dict)
    ended: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Exit codes of processes that ended though nobody had told them to."""
    gave_up: Counter[str] = field(default_factory=Counter)
    """How often each ended while its disk was full, which a start on a full disk may."""
    on_end: Callable[[str, int], None] = lambda _name, _at_ms: None
    """Told of every process that ended by itself, and when (UTC ms)."""
    _squeezed: set[int] = field(default_factory=set)
    _locks: dict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    def lock(self, name: str) -> asyncio.Lock:
        """Return the lock of ``name``: a process, or anything else that one fault at a time may hold."""
        return self._locks[name]

    async def start(self, name: str, argv: Sequence[str], *, stdin: bool = False) -> None:
        """Start ``argv`` as ``name``."""
        self.log_dir.mkdir(parents=True, exist_ok=True)
        log = self.log_dir / f"{name}.log"
        reading, writing = os.pipe()
        try:
            with log.open("ab") as output:
                # It ends with the process, when nobody holds the other end any more.
                logger = await asyncio.create_subprocess_exec(
                    "cat", stdin=reading, stdout=output, start_new_session=True
                )
            process = await asyncio.create_subprocess_exec(
                *argv,
                cwd=REPO,
                stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                start_new_session=True,
                preexec_fn=die_with(os.getpid()),
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        finally:
            os.close(reading)
            os.close(writing)
        self.members[name] = Member(tuple(argv), log, process, logger)

    async def restart(self, name: str) -> None:
        """Start ``name`` again with the same arguments."""
        await self.start(name, self.members[name].argv)

    async def kill(self, name: str) -> int:
        """Kill ``name`` with SIGKILL; return when, in UTC milliseconds."""
        member = self.members[name]
        member.expected = False
        at_ms = time.time_ns() // 1_000_000
        _signal(member, signal.SIGKILL)
        await member.process.wait()
        return at_ms

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send ``number`` to ``name``, which runs."""
        self.members[name].process.send_signal(number)

    def pid(self, name: str) -> int:
        """Return the process id."""
        return self.members[name].process.pid

    def limit_files(self, name: str, bytes_: int | None) -> None:
        """Let ``name`` write no file beyond ``bytes_``; None lifts the limit. A process that is gone is no error."""
        if self.members[name].process.returncode is not None:
            return
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        soft = hard if bytes_ is None else bytes_
        try:
            resource.prlimit(self.pid(name), resource.RLIMIT_FSIZE, (soft, hard))
        except ProcessLookupError:
            return
        if bytes_ is None:
            self._squeezed.discard(self.pid(name))
        else:
            self._squeezed.add(self.pid(name))

    async def watch(self) -> None:
        """Note peaks of memory, and start again what ended by itself, until cancelled."""
        while True:
            for name, member in list(self.members.items()):
                self._measure(name, member)
                code = member.process.returncode
                if code is None or not member.expected or self.lock(name).locked():
                    continue
                async with self.lock(name):
                    self._note_end(name, member, code)
                    await asyncio.sleep(RESTART_AFTER_S)
                    await self.restart(name)
            await asyncio.sleep(LOOK_EVERY_S)

    def _note_end(self, name: str, member: Member, code: int) -> None:
        if member.process.pid in self._squeezed:
            self.gave_up[name] += 1
        else:
            self.ended[name].append(code)
        self.on_end(name, time.time_ns() // 1_000_000)

    def _measure(self, name: str, member: Member) -> None:
        try:
            status = Path(f"/proc/{member.process.pid}/status").read_text("ascii", "replace")
        except (FileNotFoundError, ProcessLookupError):
            return
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                peak = int(line.split()[1]) / 1024
                self.peak_mb[name] = round(max(self.peak_mb.get(name, 0.0), peak), 1)

    async def wait_until(self, what: str, ready: Callable[[], bool], *, within_s: float) -> None:
        """Return when ``ready()``; raise DemoError after ``within_s``."""
        deadline = time.monotonic() + within_s
        while not await asyncio.to_thread(ready):
            if time.monotonic() > deadline:
                raise DemoError(f"{what}: not after {within_s:.0f} s; see {self.log_dir}")
            await asyncio.sleep(0.2)

    async def stop(self, *names: str) -> None:
        """End processes with SIGTERM; what does not end in time is killed, and counted as ended by itself."""
        ending = [(name, m) for name in names if (m := self.members.get(name)) is not None]
        for _, member in ending:
            member.expected = False
            _signal(member, signal.SIGTERM)
        for name, member in ending:
            try:
                async with asyncio.timeout(STOP_S):
                    await member.process.wait()
            except TimeoutError:
                self.ended[name].append(-signal.SIGKILL)
                _signal(member, signal.SIGKILL)
                await member.process.wait()

    def kill_all(self) -> None:
        """Kill what still runs, without waiting."""
        for member in self.members.values():
            member.expected = False
            _signal(member, signal.SIGKILL)

    def tail(self, name: str) -> str:
        """Return the end of a log."""
        return tail(self.members[name].log)


def run_command(argv: Sequence[str], *, within_s: float = 120.0) -> str:
    """Run a short command; return its output, raise DemoError with it when it fails."""
    done = subprocess.run(  # noqa: S603 - our own commands
        argv, cwd=REPO, capture_output=True, text=True, timeout=within_s, check=False
    )
    if done.returncode:
        raise DemoError(f"{' '.join(argv[2:])}: {done.stderr or done.stdout}")
    return done.stdout


def _signal(member: Member, number: signal.Signals) -> None:
    if member.process.returncode is None:
        try:
            os.killpg(member.process.pid, number)
        except ProcessLookupError:
            return
