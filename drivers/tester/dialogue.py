"""What to ask an instrument that speaks only when asked: steps of a profile, sans-IO.

``Dialogue.start`` gives the first steps, ``follow`` those that an answer leads to; ``Conversation`` walks them for a
session, which only writes ``take()``, waits ``wait_s`` for bytes, and says ``feed`` or ``silence``. Nothing here
clears or deletes anything on the instrument.
"""

from __future__ import annotations

import datetime as dt
import re
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from drivers.errors import FrameError, LinkError
from drivers.tester.checks import crc8, xor
from drivers.tester.numbers import INTEGERS, packed_time
from drivers.tester.times import BEIJING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drivers.tester.reader import Reader

MAX_DAYS = 31  # what is older has been read, or is brought by hand
MAX_INDEXES = 20_000  # of one range; the instruments hold a few thousand
MAX_MORE = 2_000
MAX_STEP_BYTES = 4 * 1024 * 1024  # an instrument that talks on and on has no answer for us
_TRIES = 2


class Until(StrEnum):
    """What ends a step."""

    REPLY = "reply"
    """An answer that begins with ``expect``."""
    SILENCE = "silence"
    """``silence_s`` without a byte."""


class NumberTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where an answer has a number."""

    offset: Annotated[int, msgspec.Meta(ge=0, le=1024)]
    type: Literal["u8", "u16le", "u16be", "u32le", "u32be"] = "u16le"

    def of(self, answer: bytes) -> int | None:
        """Return the number in ``answer``, None when it is too short."""
        size, order, signed = INTEGERS[self.type]
        data = answer[self.offset : self.offset + size]
        return int.from_bytes(data, order, signed=signed) if len(data) == size else None


class StepTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One step as a profile writes it; ``README.md`` describes each key."""

    name: str
    send: str = ""
    send_text: str = ""
    each: Literal["", "day", "index"] = ""
    after: str = ""
    expect: str = ""
    expect_text: str = ""
    until: Until = Until.REPLY
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 2.0
    silence_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 1.5
    needed: bool = True
    count: NumberTable | None = None
    first: NumberTable | None = None
    last: NumberTable | None = None
    more: str = ""
    end: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One question: send it, then wait for its end."""

    name: str
    send: bytes
    expect: bytes
    until: Until
    timeout_s: float
    silence_s: float
    needed: bool
    table: StepTable = field(repr=False)
    days: tuple[dt.date, dt.date] = field(repr=False)
    more: int = 0

    def is_answer(self, reply: bytes) -> bool:
        """Whether ``reply`` is what this step waits for."""
        return reply.startswith(self.expect)


class Dialogue:
    """The steps of one profile."""

    def __init__(self, steps: Sequence[StepTable], *, days_back: int = 1) -> None:
        self._steps = tuple(steps)
        self._days_back = days_back

    def start(self, now_ms: int, since_ms: int | None = None) -> list[Step]:
        """Return the first steps; ``since_ms`` is the newest time that is stored, asked again with a day of overlap."""
        today = dt.datetime.fromtimestamp(now_ms / 1000, BEIJING).date()
        back = self._days_back
        if since_ms is not None:
            since = dt.datetime.fromtimestamp(since_ms / 1000, BEIJING).date()
            back = max((today - since).days + 1, 1)
        days = [today - dt.timedelta(days=n) for n in range(min(back, MAX_DAYS), -1, -1)]
        span = (days[0], days[-1])
        made: list[Step] = []
        by_day: list[StepTable] = []
        for table in (*(step for step in self._steps if not step.after), None):
            if table is not None and table.each == "day":
                by_day.append(table)
                continue
            made += [_step(one, (day, day)) for day in days for one in by_day]
            by_day = []
            if table is not None:
                made.append(_step(table, span))
        return made

    def follow(self, step: Step, reply: bytes) -> list[Step]:
        """Return the steps that ``reply`` leads to, in order; raise FrameError when it lacks a number."""
        table = step.table
        made: list[Step] = []
        if table.more and step.more < MAX_MORE and not _is_end(table.end, reply):
            made.append(_more(step))
        if table.count is not None and _number(table.count, reply) == 0:
            return made
        indexes = range(0)
        if table.first is not None and table.last is not None:
            first, last = _number(table.first, reply), _number(table.last, reply)
            if last - first >= MAX_INDEXES:
                raise FrameError(f"{step.name}: records {first} to {last} cannot be", raw=reply)
            indexes = range(first, last + 1)
        for child in self._steps:
            if child.after != table.name:
                continue
            if child.each == "index":
                made += [_step(child, step.days, index) for index in indexes]
            else:
                made.append(_step(child, step.days))
        return made


def _number(table: NumberTable, reply: bytes) -> int:
    number = table.of(reply)
    if number is None:
        raise FrameError("the answer is too short for its number", raw=reply)
    return number


def _is_end(end: str, reply: bytes) -> bool:
    return bool(end) and reply.startswith(bytes.fromhex(end))


def _expect(table: StepTable) -> bytes:
    return bytes.fromhex(table.expect) or table.expect_text.encode("ascii")


def _step(table: StepTable, days: tuple[dt.date, dt.date], index: int = 0) -> Step:
    return Step(
        name=table.name,
        send=message(table, days, index),
        expect=_expect(table),
        until=table.until,
        timeout_s=table.timeout_s,
        silence_s=table.silence_s,
        needed=table.needed,
        table=table,
        days=days,
    )


def _more(step: Step) -> Step:
    """Return the step that asks for the next group; nothing more is an answer too."""
    table = step.table
    return Step(
        name=f"{table.name} (more)",
        send=bytes.fromhex(table.more),
        expect=b"",
        until=table.until,
        timeout_s=table.timeout_s,
        silence_s=table.silence_s,
        needed=False,
        table=table,
        days=step.days,
        more=step.more + 1,
    )


_TOKEN = re.compile(r"[0-9A-Fa-f]{2}|\{[a-z0-9_:-]+\}")
_CHECK = re.compile(r"\{(?P<kind>crc8|xor):(?P<from>\d+)-(?P<to>\d*)\}")
TOKENS = ("{yy}", "{mm}", "{dd}", "{from_packed}", "{to_packed}", "{index16}", "{index32}")


def message(table: StepTable, days: tuple[dt.date, dt.date], index: int = 0) -> bytes:
    """Return the bytes of a step's question; raise ValueError for a token that is none.

    >>> day = dt.date(2026, 11, 2)
    >>> message(
    ...     StepTable(name="read", send="7E 10 03 00 {yy} {mm} {dd} {crc8:1-} AA"), (day, day)
    ... ).hex(" ")
    '7e 10 03 00 1a 0b 02 c3 aa'
    """
    first, last = days
    if table.send_text:
        text = table.send_text.replace("{from}", first.isoformat()).replace(
            "{to}", last.isoformat()
        )
        return text.encode("ascii")
    values = {
        "{yy}": bytes((first.year % 100,)),
        "{mm}": bytes((first.month,)),
        "{dd}": bytes((first.day,)),
        "{from_packed}": packed_time(dt.datetime.combine(first, dt.time.min)),
        "{to_packed}": b"\xff\xff" + packed_time(dt.datetime.combine(last, dt.time.min))[2:],
        "{index16}": (index & 0xFFFF).to_bytes(2, "little"),
        "{index32}": index.to_bytes(4, "little"),
    }
    out = bytearray()
    checks: list[tuple[int, re.Match[str]]] = []
    rest = _TOKEN.sub("", table.send).strip()
    if rest:
        raise ValueError(f"send: {rest!r} is neither a byte nor a token")
    for token in _TOKEN.findall(table.send):
        check = _CHECK.fullmatch(token)
        if check is not None:
            checks.append((len(out), check))
            out.append(0)
        elif token.startswith("{"):
            if token not in values:
                raise ValueError(f"send: {token} is no token; known: {', '.join(TOKENS)}")
            out += values[token]
        else:
            out += bytes.fromhex(token)
    for at, check in checks:
        end = int(check["to"]) if check["to"] else (at if check["kind"] == "crc8" else len(out))
        part = bytes(out[int(check["from"]) : end])
        out[at] = crc8(part) if check["kind"] == "crc8" else xor(part)
    return bytes(out)


class Conversation:
    """One walk through a dialogue.

    Until ``done``: write what ``take`` gives, wait at most ``wait_s`` for bytes, and say ``feed`` or ``silence``; the
    records are the reader's. Raises LinkError when a needed answer does not come, or never ends.
    """

    def __init__(
        self, dialogue: Dialogue, reader: Reader, now_ms: int, since_ms: int | None = None
    ) -> None:
        self._dialogue = dialogue
        self._reader = reader
        self._steps = deque(dialogue.start(now_ms, since_ms))
        self._out = b""
        self._tries = 0
        self._heard = 0  # bytes since the step was sent
        self._step: Step | None = None
        self._advance()

    @property
    def done(self) -> bool:
        """Whether there is nothing more to ask."""
        return self._step is None

    @property
    def step(self) -> Step | None:
        """The step under way."""
        return self._step

    @property
    def wait_s(self) -> float:
        """Seconds to wait for bytes before ``silence`` is said."""
        if self._step is None:
            return 0.0
        return self._step.silence_s if self._heard else self._step.timeout_s

    def take(self) -> bytes:
        """Return what is to be sent now, once; blank when only to wait."""
        out, self._out = self._out, b""
        return out

    def feed(self, data: bytes) -> None:
        """Take what the instrument sent."""
        self._heard += len(data)
        self._reader.feed(data)
        self._replies()
        if self._step is not None and self._heard > MAX_STEP_BYTES:
            raise LinkError(f"{self._step.name}: {self._heard} bytes and no end of the answer")

    def silence(self) -> None:
        """``wait_s`` passed without a byte."""
        self._reader.silence()
        self._replies()
        step = self._step
        if step is None or self._out:
            return
        if (step.until is Until.SILENCE and self._heard) or not step.needed:
            self._advance()
        elif self._tries < _TRIES:
            self._send(step)
        else:
            raise LinkError(f"{step.name}: no answer to {step.send.hex(' ')}")

    def _replies(self) -> None:
        while (reply := self._reader.next_reply()) is not None:
            step = self._step
            if step is None or self._out or not step.is_answer(reply):
                continue  # late, or of nobody's asking; its records count all the same
            try:
                more = self._dialogue.follow(step, reply)
            except FrameError as exc:
                raise LinkError(f"{step.name}: {exc}") from exc
            self._steps.extendleft(reversed(more))
            if step.until is Until.REPLY:
                self._advance()

    def _advance(self) -> None:
        self._tries = 0
        self._step = self._steps.popleft() if self._steps else None
        if self._step is not None:
            self._send(self._step)

    def _send(self, step: Step) -> None:
        self._tries += 1
        self._heard = 0
        self._out = step.send
