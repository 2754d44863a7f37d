"""Read the registers round an address, and say which reading of them gives a known value; writes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from drivers.errors import FrameError, LinkError
from drivers.modbus.fit import Expected, fits
from drivers.modbus.frames import EXCEPTIONS
from gateway.modbus_line import ask, line_keys, quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drivers.modbus.fit import Fit
    from drivers.modbus.lines import Line
    from drivers.modbus.link import Link

SILENT_AT_MOST = 3
"""Reads in a row without an answer after which nobody is there."""


@dataclass(frozen=True, slots=True)
class Question:
    """What to read of whom, and the value that is known; times in seconds."""

    unit: int
    address: int
    count: int
    near: int
    functions: tuple[int, ...]
    expected: Expected
    timeout_s: float


@dataclass(slots=True)
class Answer:
    """What was read (function -> address -> word) and what fits."""

    registers: dict[int, dict[int, int]] = field(default_factory=dict)
    fits: list[Fit] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    """Functions with which the device answers, and refuses every register that was asked for."""


async def probe(link: Link, line: Line, question: Question) -> Answer:
    """Read and compare; raise LinkError when nothing answers at all."""
    answer = Answer()
    for function in question.functions:
        words = await _window(link, line, question, function, answer)
        if words:
            answer.registers[function] = words
    if not answer.registers and not answer.refusals and answer.troubles:
        raise LinkError(answer.troubles[0])
    answer.fits = fits(answer.registers, question.address, question.expected)
    return answer


async def _window(
    link: Link, line: Line, question: Question, function: int, answer: Answer
) -> dict[int, int]:
    """Return the registers that could be read: the asked ones and their neighbours.

    In one read when the device lets us, else the asked ones in one, else one by one: some answer exact blocks only,
    some refuse a block with one bad register.
    """
    low = max(0, question.address - question.near)
    high = min(0x10000, question.address + question.count + question.near)
    asked = (question.address, min(question.count, 0x10000 - question.address))
    words: dict[int, int] = {}
    silent = refusal = 0
    single = [(address, 1) for address in range(low, high)]
    for start, count in ((low, high - low), asked, *single):
        if start in words and all(start + i in words for i in range(count)):
            continue
        try:
            read = await ask(
                link, line, question.unit, (function, start, count), question.timeout_s
            )
        except LinkError as exc:
            answer.troubles.append(str(exc))
            silent += 1
            if silent >= SILENT_AT_MOST and not words:
                break
        except FrameError as exc:
            answer.troubles.append(f"function {function} address {start} count {count}: {exc}")
        else:
            silent = 0
            refusal = read.refusal or refusal
            words |= {start + i: word for i, word in enumerate(read.registers)}
            if read.refusal == 1:  # it does not know the function at all
                break
    if refusal and not words:
        name = EXCEPTIONS.get(refusal, "").replace("_", " ")
        answer.refusals.append(
            f"function {function}: refuses {low} to {high - 1}: exception {refusal} {name}".rstrip()
        )
    return dict(sorted(words.items()))


def device_table(
    line: Line, question: Question, fit: Fit, *, path: str, indicator: str, unit: str
) -> str:
    """Return a ``[[station.device]]`` table that reads ``fit``; blank names are left for the reader to fill in."""
    point = [
        f"indicator = {quoted(indicator or '?')}",
        f"address = {fit.address}",
        f"type = {quoted(fit.type)}",
    ]
    if fit.order:
        point.append(f"order = {quoted(fit.order)}")
    if fit.power:
        point.append(f"scale = {quoted(fit.scale)}")
    point.append(f"unit = {quoted(unit or '?')}")
    if fit.function != 3:
        point.append(f"function = {fit.function}")
    rows = [
        "[[station.device]]",
        f"path = {quoted(path or '?')}",
        'driver = "modbus"',
        *line_keys(line),
        f"unit_id = {question.unit}",
        "points = [",
        f"  {{ {', '.join(point)} }},",
        "]",
    ]
    return "\n".join(rows)


def describe(fit: Fit, question: Question) -> str:
    """Return one line about ``fit``."""
    away = fit.address - question.address
    parts = [
        f"address {fit.address}" + (f" ({away:+d})" if away else ""),
        " or ".join((str(fit.type), *fit.also)),
        f"order {fit.order}" if fit.order else "",
        f"× {fit.scale}" if fit.power else "",
        "" if fit.function == 3 else f"function {fit.function}",
        f"= {fit.value!r}",
    ]
    return "  ".join(part for part in parts if part)


def dump(registers: dict[int, dict[int, int]]) -> Sequence[str]:
    """Return the registers that were read, eight a line."""
    rows: list[str] = []
    for function, words in registers.items():
        addresses = list(words)
        for i in range(0, len(addresses), 8):
            row = addresses[i : i + 8]
            text = "  ".join(f"{a}: {words[a]:04X}" for a in row)
            rows.append(f"function {function}  {text}")
    return rows
