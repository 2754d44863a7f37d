"""``agrigate demo``: start the county, show it in one terminal, end with the balance of three journals."""

from __future__ import annotations

import asyncio
import fcntl
import shutil
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import click
import httpx

from demo import county
from demo.answers import Api
from demo.balance import Kill, compare, table
from demo.journal import REPLIES, SLIPS, STAGED, JournalReader, Reply, Slip, Staged, read_all
from demo.places import AGENTS, MODBUS_STATIONS
from demo.processes import PYTHON, DemoError, Fleet, accepts, free_ports, is_free
from demo.received import read_received
from demo.screen import Screen
from demo.simulators.__main__ import QUIET_MARK

if TYPE_CHECKING:
    from types import TracebackType

    from demo.answers import Overview
    from demo.balance import Balance

START_S = 60.0
QUIET_S = 20.0
SETTLE_S = 90.0
_WORDS_ZH = ("在线站点", "读数", "今日检测", "疑似", "超标", "已验签推送")
_WORDS_EN = ("stations", "readings", "tests", "suspects", "exceedances", "webhooks")
BROKER, RECEIVER, SERVER, SIMULATORS = "broker", "receiver", "server", "simulators"


def run_demo(
    *, directory: Path, port: int, duration_s: float | None, broker: str = "embedded"
) -> int:
    """Run the demo county under ``directory``; return 0, or 1 when something failed or the journals differ.

    With ``duration_s`` it ends by itself and takes the balance; without, it runs until Ctrl-C. ``broker`` is
    ``embedded`` or the URL of a running one (``mqtt://[user[:password]@]host[:port]``).
    """
    directory = directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            click.echo(
                f"another demo runs in {directory}; end it, or give another directory", err=True
            )
            return 1
        try:
            return asyncio.run(_Demo(directory, port, broker).run(duration_s))
        except DemoError as exc:
            click.echo(f"demo: {exc}", err=True)
            return 1


@dataclass(slots=True)
class Run:
    """A county whose files are written and whose processes may be started, killed and compared; tests use it too."""

    files: county.CountyFiles
    ports: county.Ports
    fleet: Fleet
    broker_argv: tuple[str, ...] | None
    """How to start the broker; None for one that runs already."""
    started_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)
    kills: list[Kill] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where the dashboards are."""
        return f"http://127.0.0.1:{self.ports.http}"

    async def start(self) -> None:
        """Start every process, each when what it needs is ready."""
        fleet, ports, files = self.fleet, self.ports, self.files
        if self.broker_argv is not None:
            await fleet.start(BROKER, self.broker_argv)
        await fleet.start(
            RECEIVER,
            [
                *(*PYTHON, "demo.receiver", "--port", str(ports.receiver)),
                *("--secret-file", str(files.secret), "--journal", str(files.receiver_journal)),
            ],
        )
        await fleet.wait_until("the broker", lambda: accepts(ports.mqtt), within_s=START_S)
        await fleet.wait_until("the receiver", lambda: accepts(ports.receiver), within_s=START_S)
        await fleet.start(SERVER, [*PYTHON, "agrigate", "serve", "-c", str(files.server)])
        await self.wait_for_server()
        await fleet.start(SIMULATORS, [*PYTHON, "demo.simulators", "-c", str(files.simulators)])
        await fleet.wait_until(
            "the simulators", lambda: all(map(accepts, ports.modbus)), within_s=START_S
        )
        for name, config in files.agents.items():
            await fleet.start(name, [*PYTHON, "agrigate", "edge", "-c", str(config)])

    async def kill_and_restart(self, name: str) -> None:
        """Kill one process with SIGKILL and start it again; an agent's death is noted for the balance."""
        at_ms = await self.fleet.kill(name)
        if name in AGENTS:
            self.kills.append(Kill(at_ms, frozenset(AGENTS[name])))
        await self.fleet.restart(name)

    async def wait_for_server(self) -> None:
        """Return when the server answers."""
        await self.fleet.wait_until("the server", lambda: _healthy(self.url), within_s=START_S)

    async def stop(self) -> None:
        """End every process, those that send before those that receive."""
        try:
            await self.fleet.stop(*self.files.agents)
            for name in (SIMULATORS, SERVER, RECEIVER, BROKER):
                await self.fleet.stop(name)
        finally:
            self.fleet.kill_all()

    async def __aenter__(self) -> Run:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def quiet(self) -> None:
        """Make the simulators serve and print no more."""
        self.fleet.signal(SIMULATORS, signal.SIGUSR1)
        mark = self.files.journal_dir / QUIET_MARK
        await self.fleet.wait_until("silence of the simulators", mark.exists, within_s=QUIET_S)

    async def settle(self, *, within_s: float = SETTLE_S) -> Balance:
        """Return the balance as soon as it is even, or as it stands after ``within_s``."""
        deadline_s = time.monotonic() + within_s
        while True:
            balance = await asyncio.to_thread(self.balance)
            if balance.balanced or time.monotonic() > deadline_s:
                return balance
            self.fleet.check()
            await asyncio.sleep(1)

    def balance(self) -> Balance:
        """Compare the three journals as they are now; raise DemoError when the server does not answer."""
        journal_dir = self.files.journal_dir
        replies = read_all(journal_dir / REPLIES, Reply)
        served = {(r.station, r.device, indicator) for r in replies for indicator in r.values}
        api = Api(self.url)
        try:
            answers = api.answers(self.started_ms, served)
        except httpx.HTTPError as exc:
            raise DemoError(f"the server does not answer: {exc}") from exc
        finally:
            api.close()
        return compare(
            replies,
            read_all(journal_dir / SLIPS, Slip),
            read_all(journal_dir / STAGED, Staged),
            answers,
            read_received(self.files.receiver_journal),
            self.kills,
        )


def prepare(
    run_dir: Path,
    *,
    api_key: Path,
    http_port: int | None = None,
    broker: str = "embedded",
    script: county.Script | None = None,
) -> Run:
    """Write the county into ``run_dir`` on free ports and return it, ready to start."""
    avoid = frozenset() if http_port is None else frozenset({http_port})
    http, mqtt, receiver, *modbus = free_ports(3 + len(MODBUS_STATIONS), avoid=avoid)
    address = county.Broker(port=mqtt) if broker == "embedded" else _external(broker, run_dir)
    ports = county.Ports(http_port or http, address.port, receiver, tuple(modbus))
    api_key.unlink(missing_ok=True)  # it was good for the database of an earlier run
    files = county.write_county(
        run_dir, ports=ports, broker=address, api_key=api_key, script=script
    )
    embedded = (*PYTHON, "demo.broker", "--port", str(mqtt))
    return Run(files, ports, Fleet(run_dir / "logs"), embedded if broker == "embedded" else None)


class _Demo:
    """One run in a terminal."""

    def __init__(self, directory: Path, port: int, broker: str) -> None:
        if not is_free(port):
            raise DemoError(f"port {port} is busy; give another with --port")
        self._directory = directory
        run_dir = directory / "run"
        _keep_last(run_dir, directory / "last")
        self._run = prepare(run_dir, api_key=directory / "api-key", http_port=port, broker=broker)
        columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        self._screen = Screen(columns)
        self._begun_s = time.monotonic()
        self._overview: Overview | None = None
        self._staged = JournalReader(self._run.files.journal_dir / STAGED, Staged)
        self._verified: set[str] = set()
        self._interrupted = False

    async def run(self, duration_s: float | None) -> int:
        """Run for ``duration_s`` or until a signal; return the exit code."""
        work = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._interrupt, work)
        try:
            return await self._work(duration_s)
        except asyncio.CancelledError:
            if not self._interrupted:
                raise
            self._screen.line("ending / 正在结束")
            return 0
        finally:
            self._interrupted = True
            self._screen.release()
            await self._run.stop()

    def _interrupt(self, work: asyncio.Task[int] | None) -> None:
        if self._interrupted:
            return  # it is ending already, in a bounded time
        self._interrupted = True
        if work is not None:
            work.cancel()

    async def _work(self, duration_s: float | None) -> int:
        self._screen.line(
            "Agrigate 演示：贺兰县 6 个站点、22 台设备 / demo county: 6 stations, 22 devices"
        )
        await self._run.start()
        for line in self._where():
            self._screen.line(line)
        self._begun_s = time.monotonic()
        while duration_s is None or time.monotonic() - self._begun_s < duration_s:
            self._run.fleet.check()
            await asyncio.to_thread(self._look)
            self._show()
            await asyncio.sleep(1)
        return await self._close()

    async def _close(self) -> int:
        self._screen.line(f"{self._clock()}  taking the balance / 正在对账 …")
        await self._run.quiet()
        balance = await self._run.settle()
        await asyncio.to_thread(self._look)
        self._show()
        self._screen.release()
        for line in ("", *table(balance)):
            self._screen.line(line)
        self._screen.line("balanced / 三账相符" if balance.balanced else "NOT balanced / 三账不符")
        return 0 if balance.balanced else 1

    def _where(self) -> list[str]:
        here = Path.cwd()
        files = self._run.files

        def short(path: Path) -> str:
            return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)

        return [
            f"  看板 dashboard  {self._run.url}/",
            f"  接口 API        {self._run.url}/api/v1/overview   {self._run.url}/api/v1/openapi.json",
            f"  写入密钥 X-API-Key {_key(files.api_key)}   ({short(files.api_key)})",
            f"  日志 logs       {short(self._directory / 'run' / 'logs')}/",
            "  Ctrl-C ends everything / Ctrl-C 结束全部",
        ]

    def _look(self) -> None:
        """Fetch the numbers and say what is new (called from a worker thread, one at a time)."""
        api = Api(self._run.url)
        try:
            self._overview = api.overview()
        except httpx.HTTPError as exc:
            self._screen.line(f"{self._clock()}  the server does not answer: {exc}")
        finally:
            api.close()
        for staged in self._staged.new():
            if staged.phase == "breached":
                self._screen.line(f"{self._clock()}  {_said(staged)}")
        for item in read_received(self._run.files.receiver_journal):
            if item.webhook_id not in self._verified:
                self._verified.add(item.webhook_id)
                self._screen.line(
                    f"{self._clock()}  webhook 已验签 verified: {item.event_type}  {item.title}"
                )

    def _clock(self) -> str:
        elapsed_s = int(time.monotonic() - self._begun_s)
        return f"{elapsed_s // 60:02d}:{elapsed_s % 60:02d}"

    def _show(self) -> None:
        now = self._overview
        if now is None:
            return
        counts = (
            f"{now.stations_online}/{now.stations_total}",
            now.readings_total,
            now.tests_today,
            now.suspects_open,
            now.exceedances_open,
            len(self._verified),
        )
        self._screen.block(
            [
                "",
                self._clock()
                + "".join(f"  {w} {n}" for w, n in zip(_WORDS_ZH, counts, strict=True)),
                "     " + "".join(f"  {w} {n}" for w, n in zip(_WORDS_EN, counts, strict=True)),
            ]
        )


def _said(staged: Staged) -> str:
    place = f"{staged.station}/{staged.device}"
    if staged.kind == "reading":
        return (
            f"演示事件 staged {staged.name}: {place} {staged.indicator}"
            f" {float(staged.value):g} {staged.comparator} {staged.limit}"
        )
    value = f" {staged.value} %" if staged.value else ""
    return f"演示事件 staged {staged.name}: {place} {staged.sample_no} {staged.product_name}{value}"


def _keep_last(run_dir: Path, last_dir: Path) -> None:
    if run_dir.exists():
        shutil.rmtree(last_dir, ignore_errors=True)
        run_dir.rename(last_dir)


def _key(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except FileNotFoundError:
        raise DemoError(f"the server is up and has left no API key in {path}") from None


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=2, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _external(url: str, run_dir: Path) -> county.Broker:
    """Return the broker of a URL; a password goes into a file that only we can read."""
    parts = urlsplit(url)
    if parts.scheme != "mqtt" or not parts.hostname:
        raise DemoError(
            f"broker {url!r} must be 'embedded' or mqtt://[user[:password]@]host[:port]"
        )
    password_file = ""
    if parts.password:
        run_dir.mkdir(parents=True, exist_ok=True)
        path = run_dir / "broker.password"
        path.touch(mode=0o600)
        path.write_text(unquote(parts.password), "utf-8")
        password_file = str(path.resolve())
    return county.Broker(
        host=parts.hostname,
        port=parts.port or 1883,
        username=unquote(parts.username or ""),
        password_file=password_file,
        protocol="5",
    )
