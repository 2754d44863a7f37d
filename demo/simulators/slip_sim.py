"""Rapid testers that print GBK slips on a pty, as a serial printer tap sees them.

A printer that nobody listens to holds its slips, in order, and prints them when a reader is back; a slip enters the
journal when its last byte is on the line.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import select
import termios
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import msgspec

from demo.journal import SLIPS, JournalWriter, Slip, Staged, read_all

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from random import Random

BEIJING = ZoneInfo("Asia/Shanghai")
CUT = b"\x1dV\x00"  # ESC/POS: full cut
HELD_MAX = 500  # a paper roll; a tester without paper stops testing
_LOOK_S = 0.1
_PATIENCE_S = 3.0  # then a reader that leaves line editing on (cat) is served too
_SETTLE_S = 0.5  # a reader that opens a serial port empties its buffer a moment later


@dataclass(frozen=True, slots=True)
class Assay:
    """One kind of result a tester prints; ``value`` is blank for a strip, ``{}`` stands for a drawn number."""

    product_name: str
    item: str
    value: str
    result: str


INHIBITION_ITEM = "农药残留(酶抑制率)"
ORDINARY: dict[str, tuple[Assay, ...]] = {
    "inhibition": tuple(
        Assay(product, INHIBITION_ITEM, "{}", "合格")
        for product in ("油麦菜", "小白菜", "黄瓜", "番茄", "菠菜", "辣椒", "生菜", "茄子")
    ),
    "strip": tuple(
        Assay(product, item, "", "阴性")
        for product in ("猪肉", "牛肉", "羊肉")
        for item in ("克伦特罗", "莱克多巴胺", "沙丁胺醇")
    ),
}


@dataclass(frozen=True, slots=True)
class StagedSlip:
    """A scripted slip, printed at ``after_s`` in place of an ordinary one."""

    name: str
    after_s: float
    assay: Assay
    severity: str


def slip_text(
    assay: Assay, *, value: str, sample_no: str, tested_at: dt.datetime, seconds: bool
) -> str:
    """Return the slip's lines; inhibition slips print the number, strips have none."""
    lines = [
        f"样品编号：{sample_no}",
        f"样品名称：{assay.product_name}",
        f"检测项目：{assay.item}",
    ]
    if value:
        lines.append(f"抑 制 率：{value} %")
    lines += [
        f"检测结果：{assay.result}",
        f"检测时间：{tested_at:{'%Y-%m-%d %H:%M:%S' if seconds else '%Y-%m-%d %H:%M'}}",
        "检 测 人：张*",
        "被检单位：示例合作社",
    ]
    return "\n".join(lines)


class Printer:
    """One tester: a pty master, its slave linked at ``link`` for as long as the tester is on."""

    def __init__(
        self,
        *,
        station: str,
        path: str,
        link: Path,
        kind: str,
        interval_s: float,
        first_number: int,
        script: Sequence[StagedSlip],
        random: Random,
        slips: JournalWriter,
        staged: JournalWriter,
        clock_s: Callable[[], float],
        journal_dir: Path,
    ) -> None:
        self.station = station
        self.path = path
        self._kind = kind
        self._interval_s = interval_s
        self._script = deque(sorted(script, key=lambda item: item.after_s))
        self._random = random
        self._slips = slips
        self._staged = staged
        self._clock_s = clock_s
        self._held: deque[tuple[Slip, StagedSlip | None]] = deque()
        self._quiet = False
        self._idle = asyncio.Event()
        self._idle.set()
        # A tester counts on after it was switched off.
        earlier = sum(
            s.station == station and s.device == path for s in read_all(journal_dir / SLIPS, Slip)
        )
        self._number = first_number + earlier
        self._master, slave = os.openpty()
        os.set_blocking(self._master, False)
        name = os.ttyname(slave)
        os.close(slave)  # from now on the line hangs up while no reader has it open
        self._hang_up()
        self._link = link
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(name)

    @property
    def held(self) -> int:
        """Slips waiting for a reader."""
        return len(self._held)

    def listened(self) -> bool:
        """Tell whether a reader has the line open."""
        poll = select.poll()
        poll.register(self._master, select.POLLIN)
        return not any(event & select.POLLHUP for _, event in poll.poll(0))

    def _edited(self) -> bool:
        """Tell whether the line is still as after a hang-up; a serial reader turns line editing off."""
        return bool(termios.tcgetattr(self._master)[3] & termios.ICANON)

    def _hang_up(self) -> None:
        """Put the line back to how a reader finds it; only while nobody has it open."""
        settings = termios.tcgetattr(self._master)
        settings[3] = settings[3] & ~termios.ECHO | termios.ICANON
        termios.tcsetattr(self._master, termios.TCSANOW, settings)

    async def run(self) -> None:
        """Test and print until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._test(), name=f"test {self.station}/{self.path}")
            tasks.create_task(self._print(), name=f"print {self.station}/{self.path}")
            tasks.create_task(self._discard(), name=f"discard {self.station}/{self.path}")

    async def quiet(self) -> None:
        """Test no more; return when what is on the line has left. Held slips stay held."""
        self._quiet = True
        await self._idle.wait()

    def close(self) -> None:
        """Switch the tester off; the link goes with it."""
        self._link.unlink(missing_ok=True)
        os.close(self._master)

    async def _test(self) -> None:
        next_s = self._clock_s() + self._interval_s * self._random.uniform(0.2, 0.8)
        while not self._quiet:
            due_s = min(next_s, self._script[0].after_s) if self._script else next_s
            wait_s = due_s - self._clock_s()
            if wait_s > 0:
                await asyncio.sleep(min(wait_s, 0.2))
                continue
            if self._script and self._script[0].after_s <= due_s:
                staged = self._script.popleft()
                self._hold(staged.assay, staged)
            else:
                self._hold(self._random.choice(ORDINARY[self._kind]), None)
                next_s = due_s + self._interval_s * self._random.uniform(0.8, 1.2)

    def _hold(self, assay: Assay, staged: StagedSlip | None) -> None:
        if len(self._held) >= HELD_MAX and staged is None:
            return
        now = dt.datetime.now(BEIJING)
        sample_no = f"NS{now:%Y%m%d}-{self._number:04d}"
        self._number += 1
        value = assay.value.format(f"{self._random.uniform(-3.0, 28.0):.1f}")
        text = slip_text(
            assay, value=value, sample_no=sample_no, tested_at=now, seconds=self._kind == "strip"
        )
        slip = Slip(
            ms=0,
            station=self.station,
            device=self.path,
            sample_no=sample_no,
            product_name=assay.product_name,
            item=assay.item,
            value=value,
            result=assay.result,
            tested_at=now.isoformat(timespec="seconds"),
            text=text,
        )
        self._held.append((slip, staged))

    async def _print(self) -> None:
        while True:
            while not self.listened():  # noqa: ASYNC110 - a pty tells nobody that it was opened
                await asyncio.sleep(_LOOK_S)
            opened_s = self._clock_s()
            while self._edited() and self._clock_s() - opened_s < _PATIENCE_S:  # noqa: ASYNC110
                await asyncio.sleep(_LOOK_S)
            await asyncio.sleep(_SETTLE_S)
            while self.listened():
                if self._held and not self._quiet:
                    await self._print_first()
                await asyncio.sleep(_LOOK_S)
            self._hang_up()

    async def _print_first(self) -> None:
        self._idle.clear()
        try:
            slip, staged = self._held[0]
            if await self._put(slip.text.encode("gbk") + b"\n\n" + CUT):
                self._held.popleft()
                self._note(slip, staged)
        finally:
            self._idle.set()

    async def _put(self, data: bytes) -> bool:
        """Write all of ``data``; False when the reader left, then the slip is printed again from its first line."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._master, view) :]
            except BlockingIOError:
                if not self.listened():
                    return False
                await asyncio.sleep(_LOOK_S)
        return True

    def _note(self, slip: Slip, staged: StagedSlip | None) -> None:
        now_ms = time.time_ns() // 1_000_000
        self._slips.write(msgspec.structs.replace(slip, ms=now_ms))
        if staged is not None:
            self._staged.write(
                Staged(
                    ms=now_ms,
                    name=staged.name,
                    phase="breached",
                    kind="test",
                    station=slip.station,
                    device=slip.device,
                    value=slip.value,
                    sample_no=slip.sample_no,
                    product_name=slip.product_name,
                    severity=staged.severity,
                )
            )

    async def _discard(self) -> None:
        """Read away what a reader says (testers understand nothing), so that the line never fills."""
        while True:
            await asyncio.sleep(_LOOK_S)
            with contextlib.suppress(OSError):
                os.read(self._master, 4096)
