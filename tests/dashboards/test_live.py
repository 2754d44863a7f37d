from __future__ import annotations

import asyncio
import json

import pytest

from dashboards import live
from dashboards.live import EventTail
from tests.conftest import databases  # noqa: F401 - on both engines


@pytest.fixture
async def tail(county):
    tail = EventTail(county.operational, county.sources.wake)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(tail.run())
        async with asyncio.timeout(10):
            while tail._floor > 2**62:  # until it has read where the table ends
                await tail._changed.wait()
        yield tail
        tail.close()
        running.cancel()


async def collect(tail, last, count):
    """Follow the tail from ``last`` until ``count`` events are there."""
    found = []
    while len(found) < count:
        page = await tail.after(last)
        assert 0 < len(page) <= live.PAGE
        found += page
        last = page[-1].id
    return found


async def test_slow_reader_pages_through_the_table_without_gap_or_repeat(county, tail, monkeypatch):
    monkeypatch.setattr(live, "PAGE", 7)
    for number in range(50):
        county.add_event(number)
        county.sources.wake.notify()
    found = await collect(tail, 0, 50)
    assert [event.id for event in found] == list(range(1, 51))
    assert [json.loads(event.data)["n"] for event in found] == list(range(50))
    assert len(tail._ring) <= 7


async def test_write_without_notice_is_found(county, tail, monkeypatch):
    monkeypatch.setattr(live, "POLL_S", 0.01)
    county.add_event(1)
    county.sources.wake.notify()
    assert len(await collect(tail, 0, 1)) == 1
    county.add_event(2)  # as another process would
    assert (await collect(tail, 1, 1))[0].id == 2


async def test_close_ends_a_waiting_reader(tail):
    async with asyncio.TaskGroup() as tasks:
        reader = tasks.create_task(tail.after(0))
        await asyncio.sleep(0)
        tail.close()
    assert reader.result() == []


async def test_data_of_an_event_cannot_hide_its_place(county, tail):
    county.add_event(1, kind="alert", type="x", at_ms=0, state="suspected")
    county.sources.wake.notify()
    (event,) = await collect(tail, 0, 1)
    data = json.loads(event.data)
    assert (data["type"], data["at_ms"], data["state"]) == ("alert", 1_777_600_000_000, "suspected")


async def test_number_that_is_none_becomes_null(county, tail):
    county.add_event(1, value=float("nan"), limits=[float("inf")])
    county.sources.wake.notify()
    (event,) = await collect(tail, 0, 1)
    assert "NaN" not in event.data
    assert (json.loads(event.data)["value"], json.loads(event.data)["limits"]) == (None, [None])
