"""The session on a pseudo-terminal."""

import asyncio
import contextlib
import os
import tty

import pytest

from drivers.errors import LinkError
from drivers.session import Refused
from drivers.slip.config import parse
from drivers.slip.session import open_session

NOW_MS = 1_793_580_300_000
SLIP = """样品编号：{}
样品名称：韭菜
检测项目：农药残留(酶抑制率)
抑 制 率：{} %
检测结果：合格
检测时间：2026-11-02 08:41
"""
CUT = b"\n\x1dV\x00"


@contextlib.contextmanager
def pty():
    master, slave = os.openpty()
    tty.setraw(slave)
    try:
        yield master, os.ttyname(slave)
    finally:
        os.close(slave)
        with contextlib.suppress(OSError):
            os.close(master)


def device(name, **more):
    return parse({"path": "tester1", "serial": name, "charset": "gbk"} | more, "test")


@contextlib.asynccontextmanager
async def listening(config):
    """A session whose port is open (pyserial empties the port's buffer as it opens it)."""
    session = open_session(config, lambda: NOW_MS)
    records = session.records()
    opened = asyncio.Event()
    original = session._line.open

    async def open_and_tell():
        stream = await original()
        opened.set()
        return stream

    session._line.open = open_and_tell
    queue = asyncio.Queue()

    async def listen():
        try:
            async for record in records:
                await queue.put(record)
        except LinkError as exc:
            await queue.put(exc)

    try:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(listen())
            await opened.wait()
            yield session, queue
            task.cancel()
    finally:
        await session.close()
        await session.close()


def gbk(number, value):
    return SLIP.format(number, value).encode("gbk")


async def test_slips_become_records_in_order():
    with pty() as (master, name):
        async with listening(device(name)) as (session, queue):
            os.write(master, gbk(1, "12.5") + CUT + gbk(2, "49.96") + CUT)
            first, second = await queue.get(), await queue.get()
            await session.acknowledge(first)
    assert [(r.sample_no, str(r.value)) for r in (first, second)] == [("1", "12.5"), ("2", "49.96")]


async def test_a_slip_in_pieces_is_one_record():
    with pty() as (master, name):
        async with listening(device(name, idle_s=60)) as (_, queue):
            data = gbk(1, "12.5") + CUT
            for i in range(0, len(data), 7):
                os.write(master, data[i : i + 7])
                await asyncio.sleep(0)
            record = await queue.get()
            assert queue.empty()
    assert record.product_name == "韭菜"


async def test_silence_ends_a_slip_without_a_cut():
    with pty() as (master, name):
        async with listening(device(name, idle_s=0.05)) as (_, queue):
            os.write(master, gbk(1, "12.5"))
            assert (await queue.get()).sample_no == "1"


async def test_what_is_no_test_is_handed_over_with_its_bytes():
    with pty() as (master, name):
        async with listening(device(name)) as (_, queue):
            os.write(master, "电话：1234\n\n".encode("gbk") + gbk(3, "1") + CUT)
            refused, record = await queue.get(), await queue.get()
    assert isinstance(refused, Refused)
    assert refused.raw.decode("gbk").startswith("电话")
    assert record.sample_no == "3"


async def test_an_unplugged_port_is_a_link_error():
    with pty() as (master, name):
        async with listening(device(name)) as (_, queue):
            os.close(master)
            assert isinstance(await queue.get(), LinkError)


async def test_a_port_that_is_not_there_is_a_link_error():
    session = open_session(device("/dev/pts/none"), lambda: NOW_MS)
    with pytest.raises(LinkError, match="tester1: serial:/dev/pts/none"):
        await anext(session.records())
    await session.close()


async def test_a_new_session_takes_up_where_the_port_is_back():
    with pty() as (master, name):
        for number in ("1", "2"):
            async with listening(device(name)) as (_, queue):
                os.write(master, gbk(number, "1") + CUT)
                assert (await queue.get()).sample_no == number
