"""Children are watched, ended for certain, and never outlive their parent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from demo import processes
from demo.processes import DemoError, Fleet, accepts, free_ports, is_free

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

WAITS = "import signal, time; print('up', flush=True)\nwhile True: time.sleep(1)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{WAITS}"


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    running = Fleet(tmp_path / "logs")
    yield running
    running.kill_all()
    await running.stop("child", "other")


def is_up(log: Path) -> bool:
    return "up" in processes.tail(log)


def alive(pid: int) -> bool:
    """Tell whether ``pid`` runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_death_of_a_child_is_told_with_its_log(fleet: Fleet, tmp_path: Path) -> None:
    await fleet.start("child", [sys.executable, "-c", "print('the reason'); raise SystemExit(3)"])
    with pytest.raises(DemoError, match=r"child ended with code 3[\s\S]*the reason"):
        await fleet.wait_until("the child", lambda: False, within_s=20)
    assert (tmp_path / "logs" / "child.log").read_text() == "the reason\n"


async def test_waiting_ends(fleet: Fleet) -> None:
    await fleet.start("child", [sys.executable, "-c", WAITS])
    with pytest.raises(DemoError, match="the moon is not ready"):
        await fleet.wait_until("the moon", lambda: False, within_s=0.2)


async def test_a_killed_child_is_no_fault_and_starts_again(fleet: Fleet, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "child.log"
    await fleet.start("child", [sys.executable, "-c", WAITS])
    await fleet.wait_until("the child", lambda: is_up(log), within_s=20)
    before_ms = time.time_ns() // 1_000_000
    assert before_ms <= await fleet.kill("child") <= time.time_ns() // 1_000_000
    fleet.check()
    await fleet.restart("child")
    await fleet.wait_until("the child", lambda: processes.tail(log).count("up") == 2, within_s=20)
    fleet.check()


async def test_a_stubborn_child_is_killed(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "STOP_S", 0.2)
    await fleet.start("child", [sys.executable, "-c", STUBBORN])
    await fleet.wait_until("the child", lambda: is_up(tmp_path / "logs" / "child.log"), within_s=20)
    await fleet.stop("child")
    fleet.check()
    await fleet.stop("child", "never started")


async def test_children_die_with_their_parent(tmp_path: Path) -> None:
    program = f"""
import asyncio, os, pathlib, signal, sys
from demo.processes import Fleet
async def main():
    fleet = Fleet(pathlib.Path({str(tmp_path)!r}))
    program = "import os, time; print(os.getpid(), flush=True)\\nwhile True: time.sleep(1)"
    await fleet.start("child", [sys.executable, "-c", program])
    log = pathlib.Path({str(tmp_path)!r}) / "child.log"
    await fleet.wait_until("it", lambda: log.read_text().endswith("\\n"), within_s=20)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program], timeout=60, cwd=processes.REPO, check=False
    )
    assert done.returncode == -signal.SIGKILL
    pid = int((tmp_path / "child.log").read_text())
    try:
        async with asyncio.timeout(10):
            while alive(pid):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def test_ports_are_free_and_apart() -> None:
    ports = free_ports(8)
    assert len(set(ports)) == 8
    assert all(is_free(port) and not accepts(port) for port in ports)
    with socket.create_server(("127.0.0.1", ports[0])):
        assert not is_free(ports[0])
        assert await asyncio.to_thread(accepts, ports[0])
