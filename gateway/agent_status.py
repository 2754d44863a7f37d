"""What the agent says of itself to a person on the same machine: ``status.json`` and its text."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
import structlog

from gateway.clock import SYNC_WITHIN_MS
from gateway.errors import NoStatusError
from gateway.wire import DeviceSeen

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from gateway.schedule import Clock

FILE = "status.json"
WRITE_EVERY_S = 5.0
WRITE_AT_MOST_EVERY_S = 0.25
STALE_AFTER_S = 20.0
QUEUE_FRESH_S = 30.0  # packs younger than this are on their way, not stuck

log = structlog.get_logger()

TICK, CROSS = "✓", "✗"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

Lang = Literal["zh", "en"]


class LaneBalance(msgspec.Struct, frozen=True, kw_only=True):
    """Records of one lane since the start, all counted at one moment.

    ``taken + queued_at_start = receipted - reopened + sum(lost) + queued + packing``. ``reopened`` are records whose
    receipt a new life of the server took back, ``lost`` is by reason.
    """

    taken: int = 0
    queued_at_start: int = 0
    receipted: int = 0
    reopened: int = 0
    lost: dict[str, int] = {}
    queued: int = 0
    packing: int = 0

    @property
    def difference(self) -> int:
        """What is not accounted for; 0."""
        after = self.receipted - self.reopened + sum(self.lost.values()) + self.queued
        return self.taken + self.queued_at_start - after - self.packing


class PollCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a device's polls since the start."""

    answered: int = 0
    failed: int = 0
    missed: int = 0


class StationStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One station; times are UTC milliseconds."""

    code: str
    connected: bool
    queue: int
    oldest_unreceipted_ms: int | None
    last_receipt_ms: int | None
    clock_offset_ms: int | None
    alarms: list[str]
    devices: list[DeviceSeen]
    records: int = 0
    receipts: int = 0
    garbage_receipts: int = 0
    connections: int = 0
    lanes: dict[str, LaneBalance] = {}
    polls: dict[str, PollCounts] = {}
    refused: dict[str, int] = {}
    """By device: what it sent and nobody could read, since the start; the bytes are in ``<station>/refused/``."""
    server_says: str | None = None
    """``delivering``, ``key_pending`` or ``server_holds``; None before the server said anything."""
    certificates: dict[str, int] = {}
    """When each certificate ends, UTC milliseconds."""


class AgentStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file; ``at_ms`` is the wall clock, ``at_up_ms`` the monotonic one of the start ``boot``."""

    pid: int
    at_ms: int
    running: bool
    version: str
    stations: list[StationStatus]
    crashes: dict[str, int] = {}
    at_up_ms: int = 0
    boot: str = ""


def write(directory: Path, status: AgentStatus) -> None:
    """Replace the status file at once; readers see the old or the new one."""
    new = directory / f"{FILE}.new"
    new.write_bytes(msgspec.json.format(msgspec.json.encode(status), indent=1))
    new.replace(directory / FILE)


def write_or_say(directory: Path, status: AgentStatus, *, said: bool = False) -> bool:
    """Write as ``write``; False when it cannot be written, which is logged unless it was ``said`` before."""
    try:
        write(directory, status)
    except OSError as exc:
        if not said:
            log.warning("status_not_written", file=str(directory / FILE), error=exc.strerror)
        return False
    return True


def read(directory: Path) -> AgentStatus:
    """Return the last status written; raise NoStatusError."""
    file = directory / FILE
    try:
        return msgspec.json.decode(file.read_bytes(), type=AgentStatus)
    except FileNotFoundError:
        raise NoStatusError(
            f"{file}: no such file; has the agent ever run with this data_dir?"
        ) from None
    except (OSError, msgspec.DecodeError) as exc:
        raise NoStatusError(f"{file}: cannot be read: {exc}") from exc


async def keep_written(
    directory: Path,
    collect: Callable[[], Awaitable[AgentStatus]],
    changed: asyncio.Event,
    *,
    clock: Clock,
) -> None:
    """Write the status every 5 s, and soon after ``changed`` is set, until cancelled; a full disk is said once."""
    failing = False
    while True:
        changed.clear()
        failing = not write_or_say(directory, await collect(), said=failing)
        await clock.sleep(WRITE_AT_MOST_EVERY_S)
        try:
            async with asyncio.timeout(WRITE_EVERY_S - WRITE_AT_MOST_EVERY_S):
                await changed.wait()
        except TimeoutError:
            continue


def is_alive(pid: int) -> bool:
    """Whether a process ``pid`` exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it exists and is another user's
        return True
    return True


def boot_id() -> str:
    """Return what tells one start of the machine from another; blank where the system does not say."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def age_ms(status: AgentStatus, clock: Clock) -> int:
    """Return how old ``status`` is, by the monotonic clock while the machine runs: the wall clock may be set."""
    if status.boot and status.boot == boot_id():
        return max(0, round(clock.monotonic() * 1000) - status.at_up_ms)
    return max(0, clock.wall_ms() - status.at_ms)


def language(environment: Mapping[str, str]) -> Lang:
    """Return Chinese where the environment asks for it, else English.

    >>> language({"LANG": "zh_CN.UTF-8"}), language({"LC_ALL": "C.UTF-8", "LANG": "zh_CN.UTF-8"})
    ('zh', 'en')
    """
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if wanted := environment.get(name):
            return "zh" if wanted.lower().startswith("zh") else "en"
    return "en"


TEXT: dict[Lang, dict[str, str]] = {
    "en": {
        "stopped": "agent stopped {age} ago; what follows is from then",
        "gone": "agent (process {pid}) is gone; what follows is {age} old",
        "stale": "agent (process {pid}) has not written its status for {age}",
        "running": "agent {version} running, process {pid}, status {age} old",
        "crashed": "{task} crashed {count} times; see the log",
        "connected": "connected",
        "away": "not connected to the broker",
        "queue": "{count} packs wait for a receipt, the oldest for {age}",
        "empty": "queue empty",
        "no_receipt": "no receipt yet",
        "receipt": "last receipt {age} ago",
        "clock": "the server's clock is {offset} s ahead of ours",
        "alarms": "alarms: {alarms}",
        "alarm": "{name} ({meaning})",
        "comma": ", ",
        "between": " · ",
        "seen": "last seen {age} ago",
        "nothing": "nothing received yet",
        "silent": "does not answer; last seen {age} ago",
        "never": "never answered",
        "s": "{n} s",
        "min": "{n} min",
        "h": "{n} h",
        "d": "{n} d",
    },
    "zh": {
        "stopped": "采集程序已于 {age}前停止，以下为当时状态",
        "gone": "采集程序（进程 {pid}）已不在，以下为 {age}前的状态",
        "stale": "采集程序（进程 {pid}）已有 {age}未更新状态",
        "running": "采集程序 {version} 正在运行，进程 {pid}，状态更新于 {age}前",
        "crashed": "{task} 异常退出 {count} 次，详见日志",
        "connected": "已连接",
        "away": "未连接到消息服务器",
        "queue": "{count} 个数据包等待回执，最早的已等 {age}",
        "empty": "队列为空",
        "no_receipt": "尚无回执",
        "receipt": "最近回执在 {age}前",
        "clock": "服务器时钟比本机快 {offset} 秒",
        "alarms": "告警：{alarms}",
        "alarm": "{name}（{meaning}）",
        "comma": "、",
        "between": " · ",
        "seen": "最近应答在 {age}前",
        "nothing": "尚未收到数据",
        "silent": "无应答；最近应答在 {age}前",
        "never": "从未应答",
        "s": "{n} 秒",
        "min": "{n} 分钟",
        "h": "{n} 小时",
        "d": "{n} 天",
    },
}
ALARMS: dict[str, dict[Lang, str]] = {
    "clock_off": {"zh": "时钟偏差超过 5 分钟", "en": "the clock is more than 5 minutes off"},
    "clock_unset": {"zh": "时钟未校准", "en": "the clock was never set"},
    "spool_full": {"zh": "缓存已满，最早的数据正被丢弃", "en": "the oldest unsent data is dropped"},
    "spool_corrupt": {"zh": "缓存文件损坏", "en": "a part of the spool was damaged"},
    "spool_restored": {"zh": "缓存被恢复为旧副本", "en": "the spool is an older copy"},
    "disk_full": {"zh": "磁盘已满", "en": "the disk is full"},
    "certificate_30d": {"zh": "证书 30 天内到期", "en": "a certificate ends within 30 days"},
    "certificate_7d": {"zh": "证书 7 天内到期", "en": "a certificate ends within 7 days"},
    "certificate_1d": {"zh": "证书 1 天内到期", "en": "a certificate ends within a day"},
    "certificate_expired": {"zh": "证书已过期", "en": "a certificate has ended"},
    "taken_over": {"zh": "另一程序以本站身份连接", "en": "another client connects as this station"},
}
"""What an alarm of a status means; one that is not here is shown by its name alone."""


def render(status: AgentStatus, old_ms: int, *, alive: bool, lang: Lang = "en") -> tuple[str, bool]:
    """Return the text for the operator about a status ``old_ms`` old, and whether all is well."""
    say = _Say(lang, status.at_ms + old_ms)
    fresh = old_ms <= STALE_AFTER_S * 1000
    all_well = alive and status.running and fresh
    lines = []
    for station in status.stations:
        well = station_well(station, status.at_ms + old_ms)
        all_well = all_well and well
        lines.append(f"{_mark(well)} {station.code}  {say.station(station)}")
        lines.extend(
            f"    {_mark(device.ok)} {device.path}  {say.device(device)}"
            for device in station.devices
        )
    lines.extend(
        f"{CROSS} {say('crashed', task=task, count=count)}"
        for task, count in status.crashes.items()
    )
    what = "running" if fresh else "stale"
    if not status.running:
        what = "stopped"
    elif not alive:
        what = "gone"
    first = say(what, age=say.age(old_ms), pid=status.pid, version=status.version)
    return "\n".join([f"{_mark(all_well)} {first}", *lines]), all_well


def _mark(well: bool) -> str:  # noqa: FBT001 - one flag is all there is
    return TICK if well else CROSS


def station_well(station: StationStatus, now_ms: int) -> bool:
    """Whether a station gets the green tick at ``now_ms``."""
    oldest = station.oldest_unreceipted_ms
    fresh = oldest is None or now_ms - oldest <= QUEUE_FRESH_S * 1000
    answering = all(device.ok for device in station.devices)
    return station.connected and fresh and answering and not station.alarms


class _Say:
    """The words of one language, at one moment."""

    def __init__(self, lang: Lang, now_ms: int) -> None:
        self._lang = lang
        self._now_ms = now_ms

    def __call__(self, key: str, **values: object) -> str:
        return TEXT[self._lang][key].format(**values)

    def age(self, ms: int) -> str:
        unit, number = _coarse(ms)
        return self(unit, n=number)

    def _since(self, key: str, ms: int) -> str:
        return self(key, age=self.age(self._now_ms - ms))

    def station(self, station: StationStatus) -> str:
        parts = [self("connected" if station.connected else "away")]
        if station.queue and station.oldest_unreceipted_ms is not None:
            age = self.age(self._now_ms - station.oldest_unreceipted_ms)
            parts.append(self("queue", count=station.queue, age=age))
        else:
            parts.append(self("empty"))
        if station.last_receipt_ms is None:
            parts.append(self("no_receipt"))
        else:
            parts.append(self._since("receipt", station.last_receipt_ms))
        offset_ms = station.clock_offset_ms
        if offset_ms is not None and abs(offset_ms) > SYNC_WITHIN_MS:
            parts.append(self("clock", offset=round(offset_ms / 1000)))
        if station.alarms:
            alarms = self("comma").join(map(self._alarm, station.alarms))
            parts.append(self("alarms", alarms=alarms))
        return self("between").join(parts)

    def _alarm(self, name: str) -> str:
        meaning = ALARMS.get(name)
        return name if meaning is None else self("alarm", name=name, meaning=meaning[self._lang])

    def device(self, device: DeviceSeen) -> str:
        if device.seen_ms is None:
            return self("nothing" if device.ok else "never")
        return self._since("seen" if device.ok else "silent", device.seen_ms)


def _coarse(ms: int) -> tuple[str, int]:
    """Unit and number of a duration, coarse as a person wants it.

    >>> _coarse(900), _coarse(65_000), _coarse(2 * 3600_000), _coarse(3 * 86_400_000)
    (('s', 0), ('s', 65), ('h', 2), ('d', 3))
    """
    seconds = max(0, ms) // 1000
    if seconds < 120:
        return "s", seconds
    if seconds < 7200:
        return "min", seconds // 60
    if seconds < 172_800:
        return "h", seconds // 3600
    return "d", seconds // 86_400
