"""Which unit ids answer on a line, and which known instruments they may be; reads only, in bounded time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

from drivers import indicators
from drivers.errors import ConfigError, FrameError, LinkError
from drivers.modbus import models
from drivers.modbus.build import build_point
from drivers.modbus.points import value_of
from drivers.modbus.serial_frames import find_frames
from gateway.modbus_line import Read, ask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from drivers.modbus.lines import Line
    from drivers.modbus.link import Link
    from drivers.modbus.points import Point

FIRST = (3, 0, 1)
"""What each unit is asked: holding register 0. A refusal is an answer too."""
_QUIET_READS = 3  # silent reads of an answering unit after which no more models are tried on it
_SHOWN_VALUES = 4
_IDENTITY, _QUERY, _ALL_READS = 100, 50, 10
_MOST_UNITS = 247


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that fits what a unit answers; ``why`` says so in words."""

    model: str
    score: float
    why: str


@dataclass(slots=True)
class Unit:
    """A unit id that answered."""

    unit: int
    said: Read
    candidates: list[Candidate] = field(default_factory=list)


@dataclass(slots=True)
class Found:
    """What a scan brought."""

    units: list[Unit] = field(default_factory=list)
    noisy: dict[int, bytes] = field(default_factory=dict)
    """Unit ids that were answered with bytes that are no frame: two devices may have answered at once."""
    queries: list[str] = field(default_factory=list)
    """What devices said whose unit id was not asked for."""
    asked: int = 0
    stopped_at: int | None = None
    """The unit id at which the time was over."""


@dataclass(frozen=True, slots=True)
class Scan:
    """How to look; times in seconds. ``within_s`` ends it, ``thorough`` asks a silent unit in other ways too."""

    units: Sequence[int]
    timeout_s: float
    within_s: float
    thorough: bool = False
    name_models: bool = True


def parse_units(text: str) -> list[int]:
    """Return the unit ids of ``1-10,17``; raise ValueError.

    >>> parse_units("3,1-2")
    [1, 2, 3]
    """
    found: set[int] = set()
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()):
            raise ValueError(f"{part.strip()!r} is no unit id or range like 1-247")
        first, last = int(low), int(high or low)
        if not 1 <= first <= last <= _MOST_UNITS:
            raise ValueError(f"{part.strip()!r}: unit ids go from 1 to {_MOST_UNITS}")
        found.update(range(first, last + 1))
    return sorted(found)


async def scan(link: Link, line: Line, how: Scan, said: Callable[[str], None]) -> Found:
    """Ask every unit once; then who answers about its model. ``said`` is told what is going on.

    Raises LinkError when the line itself cannot be opened.
    """
    found = Found()
    loop = asyncio.get_running_loop()
    end = loop.time() + how.within_s
    for unit in how.units:
        if loop.time() >= end:
            found.stopped_at = unit
            return found
        read = await _first(link, line, unit, how, found)
        found.asked += 1
        if read is not None:
            found.units.append(Unit(unit, read))
            said(f"unit {unit} answers")
    if not how.name_models:
        return found
    hints = await _queries(link, line, how, found)
    for unit_found in found.units:
        if loop.time() >= end:
            found.stopped_at = unit_found.unit
            return found
        said(f"unit {unit_found.unit}: which model")
        asker = _Asker(link, line, unit_found.unit, how.timeout_s, end)
        unit_found.candidates = await _candidates(asker, hints.get(unit_found.unit, ()))
    return found


async def _first(link: Link, line: Line, unit: int, how: Scan, found: Found) -> Read | None:
    """Ask ``unit`` whether it is there."""
    for question in (FIRST, *(_other_questions(unit, thorough=how.thorough))):
        try:
            return await ask(link, line, unit, question, how.timeout_s)
        except FrameError as exc:
            found.noisy[unit] = exc.raw
            return None
        except LinkError as exc:
            if exc.heard:
                found.noisy[unit] = exc.heard
            if not link.request:  # nothing was ever sent: there is no line
                raise
    return None


def _other_questions(unit: int, *, thorough: bool) -> Iterator[tuple[int, int, int]]:
    """Yield reads for instruments that are silent to any but their own."""
    asked = {FIRST}
    if thorough:
        asked.add((4, 0, 1))
        yield 4, 0, 1
    for model in _all_models():
        table = model.table
        if not (table.exact_blocks_only and (thorough or model.unit_id == unit)):
            continue
        for block in model.blocks[:1]:
            question = (block.function or table.function, block.address, block.count)
            if question not in asked:
                asked.add(question)
                yield question


async def _queries(link: Link, line: Line, how: Scan, found: Found) -> dict[int, tuple[str, ...]]:
    """Ask the universal unit ids of the models; return unit id -> models that it may be."""
    by_query: dict[tuple[int, int, int, int], list[models.Model]] = {}
    for model in models.load_all().values():
        query = model.table.unit_id_query
        if query is not None and query.address is not None:
            key = (query.unit_id, query.function, query.address, query.count)
            by_query.setdefault(key, []).append(model)
    hints: dict[int, tuple[str, ...]] = {}
    for (universal, *read), asked in by_query.items():
        function, address, count = read
        try:
            answer = await ask(
                link, line, universal, (function, address, count), how.timeout_s, reply_unit=None
            )
        except (FrameError, LinkError) as exc:
            # A read of nothing may be answered with the id in a register: no answer by the rules.
            heard = exc.raw if isinstance(exc, FrameError) else exc.heard
            frames = [frame for _, frame in find_frames(heard) if frame.pdu[0] == function]
            if not frames:
                if heard:
                    found.noisy[universal] = heard
                continue
            answer = _read_of(frames[0].unit, frames[0].pdu)
        if answer.refusal:
            continue
        names = tuple(model.table.id for model in asked)
        said = f"asked as unit {universal} for register {address}, unit {answer.unit} answered"
        for model in asked:
            query = model.table.unit_id_query
            unit = None if query is None else _unit_id(query.id_in, answer)
            if unit is not None:
                hints[unit] = (*hints.get(unit, ()), model.table.id)
                said += f"; {model.table.id}: its unit id is {unit}"
        found.queries.append(f"{said} (known of {', '.join(names)})")
    return hints


def _read_of(unit: int, pdu: bytes) -> Read:
    words = tuple(int.from_bytes(pdu[i : i + 2], "big") for i in range(2, len(pdu) - 1, 2))
    return Read(words, unit=unit)


def _unit_id(id_in: str, answer: Read) -> int | None:
    word = answer.registers[0] if answer.registers else 0
    unit = {"register": word, "register_high_byte": word >> 8, "reply_unit": answer.unit}.get(id_in)
    return unit if unit is not None and 1 <= unit <= _MOST_UNITS else None


# ---------------------------------------------------------------- which model


class _Asker:
    """Reads of one unit, each asked once; gives up on one that falls silent."""

    def __init__(self, link: Link, line: Line, unit: int, timeout_s: float, end: float) -> None:
        self._link = link
        self._line = line
        self._timeout_s = timeout_s
        self._end = end
        self._known: dict[tuple[int, int, int], Read | None] = {}
        self._quiet = 0
        self.unit = unit

    @property
    def gave_up(self) -> bool:
        """Whether asking on would only cost time."""
        over = asyncio.get_running_loop().time() >= self._end
        return over or self._quiet >= _QUIET_READS

    async def read(self, question: tuple[int, int, int], reply_unit: int | None) -> Read | None:
        """Return what the unit says, None for silence and for what does not fit."""
        if question not in self._known:
            if self.gave_up:
                return None
            who = self.unit if reply_unit is None else reply_unit
            try:
                self._known[question] = await ask(
                    self._link, self._line, self.unit, question, self._timeout_s, reply_unit=who
                )
                self._quiet = 0
            except FrameError:
                self._known[question] = None
            except LinkError:
                self._known[question] = None
                self._quiet += 1
        return self._known[question]


def _all_models() -> Iterator[models.Model]:
    """Yield every map, the variants of a file apart."""
    try:
        loaded = models.load_all()
    except ConfigError:  # one faulty file must not hide the others
        loaded = {}
    for model in loaded.values():
        if model.points:
            yield model
        yield from model.variants.values()


async def _candidates(asker: _Asker, hinted: Sequence[str]) -> list[Candidate]:
    """Return the models that fit the unit, the likeliest first."""
    made: list[Candidate] = []
    # The unit's own factory settings first, while it still answers.
    known = sorted(_all_models(), key=lambda m: (m.table.id not in hinted, m.unit_id != asker.unit))
    for model in known:
        candidate = await _fit(asker, model, hinted=model.table.id in hinted)
        if candidate is not None:
            made.append(candidate)
    return sorted(made, key=lambda candidate: (-candidate.score, candidate.model))


async def _fit(asker: _Asker, model: models.Model, *, hinted: bool) -> Candidate | None:
    table = model.table
    score = float(_QUERY) if hinted else 0.0
    why = ["answers its unit id query"] if hinted else []
    for identity in table.identity:
        if identity.equals is None:
            continue
        question = (identity.function or table.function, identity.address, identity.count)
        read = await asker.read(question, table.reply_unit)
        if read is None or read.registers[:1] != (identity.equals,):
            return None
        score += _IDENTITY
        why.append(f"{identity.name} is {identity.equals}")
    words: dict[tuple[int, int], int] = {}
    for function, address, count in _reads(model):
        read = await asker.read((function, address, count), table.reply_unit)
        if read is None or len(read.registers) != count:
            if score >= _IDENTITY:
                continue  # it has said what it is; firmware may lack a register
            return None
        words |= {(function, address + i): word for i, word in enumerate(read.registers)}
    values = _values(model, words)
    if values is None:
        return None
    score += _ALL_READS + len(words) / 10 + (model.unit_id == asker.unit)
    if any(words.values()):
        score += 1
    why.append(f"{len(words)} registers")
    why += values[:_SHOWN_VALUES]
    name = f"{table.id}:{model.variant}" if model.variant else table.id
    return Candidate(name, score, ", ".join(why))


def _reads(model: models.Model) -> list[tuple[int, int, int]]:
    """Return the reads (function, address, count) that the map's points need."""
    table = model.table
    if table.exact_blocks_only:
        return [(b.function or table.function, b.address, b.count) for b in model.blocks]
    spans = sorted(
        (point.function or table.function, point.address, point.address + point.type.words)
        for point in model.points
        if not point.optional
    )
    reads: list[tuple[int, int, int]] = []
    for function, start, end in spans:
        if reads:
            last, address, count = reads[-1]
            joined = max(address + count, end) - address
            if function == last and start <= address + count and joined <= table.max_read:
                reads[-1] = (last, address, joined)
                continue
        reads.append((function, start, end - start))
    return reads


def _values(model: models.Model, words: dict[tuple[int, int], int]) -> list[str] | None:
    """Return the values as text; None when one cannot be: a soil of pH 30 is another device."""
    shown: list[str] = []
    left_open = model.open_settings()
    for table in model.points:
        if table.key in left_open:
            continue
        point = build_point(
            table,
            "",
            [],
            order=model.table.order,
            function=model.table.function,
            sentinels=model.table.sentinels,
        )
        if point is None:
            continue
        span = [words.get((point.function, a)) for a in range(point.start, point.end)]
        run = [word for word in span if word is not None]
        if len(run) != len(span):
            continue
        value, quality = value_of(point, run)
        if value is None:
            if quality == "bad:identity":
                return None
            continue
        if not _possible(point, value):
            return None
        shown.append(f"{point.indicator} {value:g}")
    return shown


def _possible(point: Point, value: float) -> bool:
    indicator = indicators.lookup(point.indicator)
    low, high = indicator.physical_min, indicator.physical_max
    exact = Fraction(value)
    return not ((low is not None and exact < low) or (high is not None and exact > high))
