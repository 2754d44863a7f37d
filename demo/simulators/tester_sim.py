"""Rapid testers on lines (ptys, ports, TCP on either side, a folder): asked for results, or printing each at once."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from demo.journal import JournalWriter, Misbehaved, Tested
from demo.simulators.lines import Line, Pty, SerialPort, TcpLine, end_all
from demo.simulators.misbehaviour import Control, Misbehaviour
from demo.simulators.testers.results import Frame, Result, draw

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from random import Random

    from demo.simulators.testers.profiles import TesterProfile

BEIJING = ZoneInfo("Asia/Shanghai")
_HELD_MAX = 5000
_SETTLE_S = 0.5  # a reader that opens a serial port empties its buffer a moment later
_AGAIN_S = 0.2
_UNPLUG_S = 0.05  # what is in a pty when it goes is lost, unlike what is on a wire
_LOOK_S = 0.02
_CHARACTER_BITS = 10
_CUTS = (Misbehaviour.HANG_UP, Misbehaviour.TRUNCATED)
_PIECE = 64  # bytes that leave a timed line together


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tester is plugged in: exactly one field is set."""

    link: Path | None = None
    serial: Path | None = None
    listen: tuple[str, int] | None = None
    connect: tuple[str, int] | None = None
    folder: Path | None = None


@dataclass(slots=True)
class Tester:
    """One tester with its results; ``run`` serves until cancelled.

    ``baud`` makes answers take their time on a serial line; 0 sends them at once.
    """

    station: str
    path: str
    profile_name: str
    profile: TesterProfile
    place: Place
    random: Random
    tested: JournalWriter
    misbehaved: JournalWriter
    baud: int = 0
    interval_s: float = 0.0
    control: Control = field(default_factory=Control)
    results: list[Result] = field(default_factory=list)
    port: int = 0
    """The port listened on, once ``start`` has returned."""
    _due: deque[Result] = field(default_factory=deque)
    _server: asyncio.Server | None = None
    _serial: Pty | SerialPort | None = None
    _connections: set[TcpLine] = field(default_factory=set)
    _busy: asyncio.Lock = field(default_factory=asyncio.Lock)
    _quiet: bool = False
    _late: bool = False
    _last: bytes = b""

    def measure(self, count: int) -> list[Result]:
        """Add ``count`` results, one each minute up to the present, and return them."""
        now = dt.datetime.now(BEIJING).replace(tzinfo=None, microsecond=0)
        return [self.add(tested_at=now - dt.timedelta(minutes=count - 1 - i)) for i in range(count)]

    def add(self, result: Result | None = None, *, tested_at: dt.datetime | None = None) -> Result:
        """Add a result, drawn at ``tested_at`` when none is given; a tester that prints owes its slip."""
        if result is None:
            number = len(self.results) + 1
            kinds = self.profile.kinds
            moment = tested_at or dt.datetime.now(BEIJING).replace(tzinfo=None)
            result = draw(number, kinds[(number - 1) % len(kinds)], self.random, moment)
        self.results.append(result)
        if self.profile.prints:
            self._due.append(result)
        return result

    @property
    def owed(self) -> int:
        """Results that are not printed yet."""
        return len(self._due)

    @property
    def where(self) -> str:
        """What a reader has to connect to."""
        place = self.place
        if place.listen is not None:
            return f"{place.listen[0]}:{self.port}"
        if place.connect is not None:
            return f"-> {place.connect[0]}:{place.connect[1]}"
        return str(place.link or place.serial or place.folder)

    async def start(self) -> None:
        """Plug in: a link is there, a port is listened on when this returns."""
        place = self.place
        if place.link is not None:
            self._serial = Pty(place.link)
        elif place.serial is not None:
            self._serial = SerialPort(place.serial, self.baud or 9600)
        elif place.folder is not None:
            place.folder.mkdir(parents=True, exist_ok=True)
        elif place.listen is not None:
            host, port = place.listen
            self._server = await asyncio.start_server(self._accept, host, port)
            self.port = int(self._server.sockets[0].getsockname()[1])

    async def run(self) -> None:
        """Test, answer and print until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            if self.interval_s:
                tasks.create_task(self._test(), name=f"test {self.station}/{self.path}")
            if self._serial is not None:
                tasks.create_task(self._serve(self._serial), name=f"line {self.path}")
                if self.profile.prints:
                    tasks.create_task(self._print(self._serial), name=f"print {self.path}")
            elif self.place.connect is not None:
                tasks.create_task(self._call(*self.place.connect), name=f"call {self.path}")
            elif self.place.folder is not None:
                tasks.create_task(self._drop(self.place.folder), name=f"drop {self.path}")

    async def quiet(self) -> None:
        """Answer and print no more; return when what is on the line has left."""
        async with self._busy:
            self._quiet = True

    async def close(self) -> None:
        """Unplug."""
        await self.quiet()
        if self._server is not None:
            self._server.close()
        await end_all(self._connections)
        if self._serial is not None:
            self._serial.close()

    async def _test(self) -> None:
        while not self._quiet and len(self.results) < _HELD_MAX:
            await asyncio.sleep(self.interval_s)
            self.add()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = TcpLine(reader, writer)
        self._connections.add(line)
        try:
            if self.profile.prints:
                await self._print(line)
            else:
                await self._serve(line)
        finally:
            self._connections.discard(line)
            line.hang_up()

    async def _serve(self, line: Line) -> None:
        """Answer requests until the line ends."""
        instrument = self.profile.instrument()
        while data := await line.read():
            for request in instrument.hear(data):
                async with self._busy:
                    if self._quiet or self.control.silent:
                        continue
                    kind = self.control.next()
                    await _sleep(self.control.delay_s + self._time_s(len(request)))
                    frames = instrument.answer(request, self.results, kind)
                    if not await self._send(line, request, frames, kind):
                        return

    async def _print(self, line: Line) -> None:
        """Print what is due while somebody reads; returns when a connection has ended."""
        while True:
            if isinstance(line, Pty) and not line.listened():
                while not line.listened():  # noqa: ASYNC110 - a pty tells nobody that it was opened
                    await asyncio.sleep(_LOOK_S)
                await asyncio.sleep(_SETTLE_S)
            if self._due and not self._quiet:
                async with self._busy:
                    goes_on = await self._print_batch(line)
                if not goes_on and isinstance(line, TcpLine):
                    return
            elif isinstance(line, TcpLine) and not line.listened():
                return
            await asyncio.sleep(_LOOK_S)

    async def _print_batch(self, line: Line) -> bool:
        """Print the next slip or ticket; what could not be printed is due again. False when the line ended."""
        kind = self.control.next()
        batch = list(self._due)[: self._batch_size(kind)]
        answer = self.profile.instrument().answer
        frames = answer(b"", batch, kind)
        if kind is Misbehaviour.RESENT_DAY:
            frames = [*answer(b"", self.results[: -len(self._due) or None], None), *frames]
        await asyncio.sleep(self.control.delay_s)
        sent = await self._send(line, b"", frames, kind)
        if sent or kind is Misbehaviour.HANG_UP:
            for _ in batch:
                self._due.popleft()
        return sent

    def _batch_size(self, kind: Misbehaviour | None) -> int:
        size = self.profile.batch
        return 2 * size if kind is Misbehaviour.GLUED else size

    async def _call(self, host: str, port: int) -> None:
        """Connect for each slip, as to a network printer, until somebody takes it."""
        while True:
            await asyncio.sleep(_LOOK_S)
            if not self._due or self._quiet:
                continue
            try:
                line = TcpLine(*await asyncio.open_connection(host, port))
            except OSError:
                await asyncio.sleep(_AGAIN_S)
                continue
            try:
                async with self._busy:
                    await self._print_batch(line)
                if self._late:
                    await asyncio.sleep(self.control.late_s)
            finally:
                line.hang_up()

    async def _drop(self, folder: Path) -> None:
        """Put each slip into a file of its own, which has its name when it is whole."""
        while True:
            await asyncio.sleep(_LOOK_S)
            if self._due and not self._quiet:
                async with self._busy:
                    await self._print_batch(_Files(folder, self.path.replace("/", "-")))

    async def _send(
        self, line: Line, request: bytes, frames: Sequence[Frame], kind: Misbehaviour | None
    ) -> bool:
        """Send ``frames``, wrong in the way of ``kind``; False when the connection ended."""
        checked = (i for i, frame in enumerate(frames) if frame.check_at is not None)
        spoilt = next(checked, None) if kind is Misbehaviour.CRC_ERROR else None
        own = _parts(frames, kind, spoilt, self.control.random)
        data = b"".join(own)
        before, self._last = self._last or data, data
        asked = not self.profile.prints
        parts = _arranged(own, kind, request, self.control.random, before if asked else b"")
        cut = len(data) // 2 if kind in _CUTS else len(data)
        self._late = kind is Misbehaviour.LATE
        if kind is not None:
            self._note_misbehaviour(kind, request, b"".join(parts))
        self._note(
            frames, kind, spoilt, cut
        )  # a reader may have the first before the last has left
        if self._late:
            line.later(self.control.late_s, data)
        else:
            pause_s = self.control.drip_s if kind is Misbehaviour.ONE_BYTE_WRITES else 0.0
            for part in parts:
                if not await self._write(line, part):
                    return not isinstance(line, TcpLine) and asked
                await _sleep(pause_s)
        if kind is Misbehaviour.HANG_UP:
            await _sleep(_UNPLUG_S if isinstance(line, Pty) else 0.0)
            line.hang_up()
            return not isinstance(line, TcpLine)
        return True

    async def _write(self, line: Line, data: bytes) -> bool:
        """Write ``data`` at the instrument's speed."""
        if not self.baud:
            return await line.write(data)
        for start in range(0, len(data), _PIECE):
            piece = data[start : start + _PIECE]
            await _sleep(self._time_s(len(piece)))
            if not await line.write(piece):
                return False
        return True

    def _time_s(self, count: int) -> float:
        """Seconds that ``count`` bytes take on the line."""
        return count * _CHARACTER_BITS / self.baud if self.baud else 0.0

    def _note_misbehaviour(self, kind: Misbehaviour, request: bytes, sent: bytes) -> None:
        self.misbehaved.write(
            Misbehaved(
                ms=time.time_ns() // 1_000_000,
                station=self.station,
                device=self.path,
                kind=kind.value,
                request=request.hex(),
                sent=sent.hex(),
            )
        )

    def _note(
        self, frames: Sequence[Frame], kind: Misbehaviour | None, spoilt: int | None, cut: int
    ) -> None:
        """Put what was told into the journal; a frame behind ``cut`` was not sent whole."""
        if kind is Misbehaviour.SILENCE:
            return
        now_ms = time.time_ns() // 1_000_000
        end = 0
        for i, frame in enumerate(frames):
            end += len(frame.data) + len(frame.tail)
            fault = "" if kind is None else kind.value
            if kind is Misbehaviour.CRC_ERROR and i != spoilt:
                fault = ""
            if kind in _CUTS and end <= cut:
                fault = ""
            for told in frame.told:
                self.tested.write(
                    Tested(
                        ms=now_ms,
                        station=self.station,
                        device=self.path,
                        profile=self.profile_name,
                        sample_no=told.sample_no,
                        channel=told.channel,
                        product_name=told.product_name,
                        item=told.item,
                        value=told.value,
                        unit=told.unit,
                        verdict=told.verdict,
                        tested_at=told.tested_at,
                        sent=frame.data.hex(),
                        fault=fault,
                        times=2 if kind is Misbehaviour.RESENT_DAY else 1,
                    )
                )


@dataclass(slots=True)
class _Files:
    """A folder as a line: what is written together becomes one file."""

    folder: Path
    name: str

    async def read(self) -> bytes:
        """Return nothing: a folder says nothing."""
        return b""

    async def write(self, data: bytes) -> bool:
        """Add ``data`` as a file."""
        await asyncio.to_thread(self._store, data)
        return True

    def later(self, delay_s: float, data: bytes) -> None:
        """Store ``data`` after ``delay_s``."""
        asyncio.get_running_loop().call_later(delay_s, self._store, data)

    def hang_up(self) -> None:
        """Do nothing: a folder is there or not."""

    def _store(self, data: bytes) -> None:
        final = self.folder / f"{self.name}-{time.time_ns()}.txt"
        part = final.with_suffix(".part")
        part.write_bytes(data)
        part.rename(final)


def _arranged(
    parts: list[bytes],
    kind: Misbehaviour | None,
    request: bytes,
    random: Random,
    before: bytes,
) -> list[bytes]:
    """Return the writes that ``parts`` become; ``before`` is the last answer of a tester that was asked."""
    data = b"".join(parts)
    match kind:
        case Misbehaviour.SILENCE:
            return []
        case Misbehaviour.GLUED if before:
            return [before + data]
        case Misbehaviour.RESENT_DAY if before:
            return parts * 2
        case Misbehaviour.NOISE:
            return [random.randbytes(random.randint(1, 8)), *parts]
        case Misbehaviour.ECHO:
            return [request, *parts]
        case Misbehaviour.CLIPPED:
            return [data[1:]]
        case Misbehaviour.ONE_BYTE_WRITES:
            return [data[i : i + 1] for i in range(len(data))]
        case Misbehaviour.HANG_UP | Misbehaviour.TRUNCATED:
            return [data[: len(data) // 2]]
        case _:
            return parts


def _parts(
    frames: Sequence[Frame], kind: Misbehaviour | None, spoilt: int | None, random: Random
) -> list[bytes]:
    """Return the bytes of each frame: with its check spoilt, its start doubled, its end left out."""
    parts: list[bytes] = []
    for i, frame in enumerate(frames):
        data = frame.data
        if i == spoilt and frame.check_at is not None:
            wrong = data[frame.check_at] ^ 1 << random.randrange(3)
            data = data[: frame.check_at] + bytes([wrong]) + data[frame.check_at + 1 :]
        if kind is Misbehaviour.DOUBLED_START and frame.starts:
            data = data[:1] + data
        glued = kind is Misbehaviour.GLUED and frame.tail and i < len(frames) - 1
        parts.append(data + (b"\n" if glued else frame.tail))
    return parts


async def _sleep(seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)
