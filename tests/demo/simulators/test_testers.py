"""Every tester profile on a line, read by our driver and compared with the simulator's journal; each misbehaviour."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import struct
import time
import unicodedata
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec
import pytest

from demo.journal import MISBEHAVED, TESTED, Misbehaved, Tested, read_all
from demo.simulators.config import FaultTable, SimConfig, TesterTable
from demo.simulators.misbehaviour import Misbehaviour
from demo.simulators.plant import Plant
from demo.simulators.testers.analyser import FIRST_STRIP_ITEM, INHIBITION_ITEM, NITRITE_ITEM
from demo.simulators.testers.profiles import PROFILES
from drivers.errors import LinkError
from drivers.records import TestRecord
from drivers.tester.config import parse
from drivers.tester.dialogue import Dialogue
from drivers.tester.session import open_session
from tests.conftest import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from drivers.tester.config import TesterDevice

PATIENCE_S = 20.0
ITEMS = {
    "items": {
        str(INHIBITION_ITEM): {"name": "农药残留", "kind": "inhibition"},
        str(NITRITE_ITEM): {"name": "亚硝酸盐", "kind": "quantitative", "unit": "mg/kg"},
        str(FIRST_STRIP_ITEM): {"name": "克伦特罗", "kind": "qualitative"},
        str(FIRST_STRIP_ITEM + 1): {"name": "莱克多巴胺", "kind": "qualitative"},
        str(FIRST_STRIP_ITEM + 2): {"name": "沙丁胺醇", "kind": "qualitative"},
    }
}
READERS: dict[str, dict[str, object]] = {
    "slip": {"reader": "key_value"},
    "ticket": {
        "reader": "fixed_width",
        "fixed_width": {
            "columns": [
                {"name": "channel", "at": 0, "width": 4},
                {"name": "product_name", "at": 6, "width": 10},
                {"name": "inhibition", "at": 16, "width": 6},
                {"name": "verdict", "at": 24, "width": 4},
            ]
        },
        "defaults": {"parameter": "op_carbamate_inhibition", "unit": "%"},
    },
}
ASKED = [name for name, profile in PROFILES.items() if not profile.prints]


@contextlib.asynccontextmanager
async def running(directory: Path, *testers: TesterTable) -> AsyncIterator[Plant]:
    config = SimConfig(journal_dir=directory, tester=list(testers))
    async with Plant(config) as plant, asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(plant.run())
        yield plant
        serving.cancel()


def simulated(profile: str, **more: object) -> TesterTable:
    return TesterTable(station="hl-003", path="tester1", profile=profile, **more)


def reading(profile: str, transport: dict[str, object]) -> dict[str, object]:
    table: dict[str, object] = {"driver": "tester", "path": "tester1", "transport": transport}
    table |= READERS.get(profile, {"profile": profile})
    table |= {"idle_s": 0.3}
    return table | (ITEMS if profile == "dy3000" else {})


class Heard:
    def __init__(self) -> None:
        self.records: list[TestRecord] = []
        self.refused: list[object] = []

    def __len__(self) -> int:
        return len(self.records)


def impatient(table: dict[str, object]) -> TesterDevice:
    """Return the device asked again sooner, and waited for shorter, than a file may say."""
    device = dataclasses.replace(parse(table, "test"), ask_every_s=0.5)
    if device.dialogue is None:
        return device
    steps = [
        msgspec.structs.replace(step, timeout_s=min(step.timeout_s, 0.5))
        for step in device.dialogue._steps
    ]
    dialogue = Dialogue(steps, days_back=device.dialogue._days_back)
    return dataclasses.replace(device, dialogue=dialogue)


async def listen(
    table: dict[str, object], until: Callable[[Heard], bool], *, again: bool = False
) -> Heard:
    """Return what a session yields until it is enough; with ``again`` a lost link is opened anew, as a bus does."""
    heard = Heard()
    async with asyncio.timeout(PATIENCE_S):
        while True:
            session = open_session(impatient(table), lambda: time.time_ns() // 1_000_000)
            try:
                async for item in session.records():
                    (heard.records if isinstance(item, TestRecord) else heard.refused).append(item)
                    if isinstance(item, TestRecord):
                        await session.acknowledge(item)
                    if until(heard):
                        return heard
            except LinkError:
                if not again:
                    raise
                await asyncio.sleep(0.05)
            finally:
                await session.close()


DAMAGED = {
    Misbehaviour.CLIPPED,
    Misbehaviour.NOISE,
    Misbehaviour.GBK_CUT,
    Misbehaviour.HANG_UP,
    Misbehaviour.TRUNCATED,
}
"""Text without a check may lose a label or a value to these; it may not get another."""


def truth(directory: Path) -> list[Tested]:
    return read_all(directory / TESTED, Tested)


def same(record: TestRecord, row: Tested) -> bool:
    """Whether ``record`` says what the instrument told, no more and no less."""
    damaged = row.fault in DAMAGED
    if row.value and not (damaged and record.value is None):
        told = Decimal(row.value)
        if row.profile == "ty16":  # a float of 32 bits on the wire
            if record.value is None or struct.pack(">f", float(record.value)) != struct.pack(
                ">f", float(told)
            ):
                return False
        elif record.value != told:
            return False
    elif record.value is not None:
        return False
    pairs = [
        (row.sample_no, record.sample_no),
        (row.channel, record.channel),
        (row.product_name, record.product_name),
        (row.tested_at.replace(" ", "T"), record.tested_at[: len(row.tested_at)]),
    ]
    if damaged and "time_missing" in record.quality_flags:
        pairs.pop()
    if row.fault in (Misbehaviour.GBK_CUT, Misbehaviour.NOISE, Misbehaviour.CLIPPED):
        del pairs[2]  # part of a name, with what became of the broken character
    plain = [(told, unicodedata.normalize("NFKC", read)) for told, read in pairs]
    return all(told == read or (damaged and not read) for told, read in plain if told)


@pytest.mark.parametrize("profile", ASKED)
@pytest.mark.parametrize("line", ["pty", "tcp"])
async def test_a_tester_that_is_asked(profile: str, line: str, tmp_path: Path) -> None:
    link = tmp_path / "tester"
    where = {"link": link} if line == "pty" else {"listen": "127.0.0.1:0"}
    async with running(tmp_path, simulated(profile, baud=115_200, results=11, **where)) as plant:
        transport = (
            {"serial": str(link)}
            if line == "pty"
            else {"tcp": plant.tester("hl-003", "tester1").where}
        )
        heard = await listen(reading(profile, transport), lambda h: len(h) >= 11)
    rows = truth(tmp_path)
    assert heard.refused == []
    assert len(rows) >= 11
    for record in heard.records:
        assert any(same(record, row) for row in rows), (record, rows)
    for row in rows:
        assert any(same(record, row) for record in heard.records), row
    assert all(base64.b64decode(record.raw) for record in heard.records)


@pytest.mark.parametrize("profile", ["slip", "ticket"])
@pytest.mark.parametrize("line", ["pty", "connect", "folder", "listen"])
async def test_a_tester_that_prints(profile: str, line: str, tmp_path: Path) -> None:
    port = free_port()
    link, folder = tmp_path / "tester", tmp_path / "slips"
    where, transport = {
        "pty": ({"link": link}, {"serial": str(link)}),
        "connect": ({"connect": f"127.0.0.1:{port}"}, {"listen": port}),
        "folder": ({"folder": folder}, {"folder": str(folder), "pattern": "*.txt"}),
        "listen": ({"listen": f"127.0.0.1:{port}"}, {"tcp": f"127.0.0.1:{port}"}),
    }[line]
    async with running(tmp_path, simulated(profile, baud=115_200, results=3, **where)):
        heard = await listen(reading(profile, transport), lambda h: len(h) >= 3)
    rows = truth(tmp_path)
    assert heard.refused == []
    assert len(rows) == 3
    assert all(
        same(record, row)
        for record, row in zip(
            sorted(heard.records, key=lambda r: (r.sample_no, r.channel)), rows, strict=True
        )
    )


ENOUGH = {"slip": 2, "ticket": 4}
CASES = [(name, kind) for name, profile in PROFILES.items() for kind in sorted(profile.faults)]


@pytest.mark.parametrize(("profile", "kind"), CASES)
async def test_no_misbehaviour_invents_a_result(
    profile: str, kind: Misbehaviour, tmp_path: Path
) -> None:
    """What is read is what was told, or refused with its bytes; the instrument is well again after it."""
    port = free_port()
    where = {"listen": f"127.0.0.1:{port}"}
    # The answer that brings records is hit, not the hello before it.
    after = {"lz4000t": 2, "tl310": 1, "ty16": 1, "dy3000": 2, "dy723pc": 0}.get(profile, 0)
    fault = FaultTable(kind=kind, count=1, after=after)
    table = reading(profile, {"tcp": f"127.0.0.1:{port}"})
    results = 12 if profile == "ticket" else 4
    sim = simulated(profile, results=results, late_s=0.2, fault=[fault], **where)
    async with running(tmp_path, sim) as plant:
        heard = await listen(
            table, lambda h: len({_key(r) for r in h.records}) >= ENOUGH.get(profile, 3), again=True
        )
        assert plant.tester("hl-003", "tester1").control.requests > after
    rows = truth(tmp_path)
    misbehaved = read_all(tmp_path / MISBEHAVED, Misbehaved)
    assert [row.kind for row in misbehaved] == [kind]
    for record in heard.records:
        if record.value is None and record.screen_result is None and record.quality_flags:
            continue  # it says itself that it is damaged
        assert any(same(record, row) for row in rows), (record, rows)


def _key(record: TestRecord) -> tuple[object, ...]:
    return record.sample_no, record.channel, record.tested_at, record.product_name
