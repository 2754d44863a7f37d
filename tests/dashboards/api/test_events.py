from __future__ import annotations

import asyncio
import json
import socket
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import httpx
import pytest

from dashboards.serving import DashboardServer
from tests.conftest import databases  # noqa: F401 - on both engines


@contextmanager
def serving(app):
    """Run a real server in a thread of its own; yield its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = DashboardServer(app)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        alive = thread.is_alive()
        listener.close()
    assert not alive


@pytest.fixture
def address(county):
    with serving(county.app()) as address:
        yield address


class Stream:
    """A client of the stream, parsing events as a browser does."""

    def __init__(self, response):
        self._lines = response.aiter_lines()
        self.last_id = None

    async def next(self):
        """Return (id, type, data) of the next event that has data."""
        kind, data = "message", []
        async for line in self._lines:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "id":
                self.last_id = value
            elif name == "event":
                kind = value
            elif name == "data":
                data.append(value)
            elif not line:
                if data:
                    return int(self.last_id), kind, json.loads("\n".join(data))
                kind = "message"
        return None

    async def begin(self):
        """Read until the server has said where the stream begins."""
        async for line in self._lines:
            if line.startswith("id:"):
                self.last_id = line[3:].strip()
            if not line and self.last_id is not None:
                return


class RawClient:
    """A client of a bare socket, whose reading and whose buffer are in the test's hand."""

    def __init__(self, address, query="", *, buffer=0):
        self._host, _, port = address.removeprefix("http://").partition(":")
        self._port, self._query, self._buffer = int(port), query, buffer
        self.numbers, self.last_id = [], 0
        self._id, self._data = 0, b""

    async def open(self):
        one = socket.socket()
        if self._buffer:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer)
        one.settimeout(0)
        await asyncio.get_running_loop().sock_connect(one, (self._host, self._port))
        self._reader, self._writer = await asyncio.open_connection(
            sock=one, limit=self._buffer or 65536
        )
        request = f"GET /api/v1/events{self._query} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        self._writer.write(request.encode())
        if not self._buffer:
            await self._reader.readuntil(b"id:")

    async def until(self, count):
        """Read until ``count`` events have come, or the end."""
        while len(self.numbers) < count:
            try:
                line = await self._reader.readline()
            except ConnectionError:
                return
            if not line:
                return
            if line.startswith(b"id:"):
                self._id = int(line[3:])
            elif line.startswith(b"data:"):
                self._data = line[5:]
            elif self._data and not line.strip():
                self.numbers.append(json.loads(self._data)["n"])
                self.last_id, self._data = self._id, b""

    def close(self):
        self._writer.transport.abort()


async def take(address, count, *, headers=None, params=None, write=None):
    """Connect, write events once the stream has begun, return ``count`` events."""
    async with (
        asyncio.timeout(30),
        httpx.AsyncClient(timeout=30) as client,
        client.stream(
            "GET", f"{address}/api/v1/events", headers=headers, params=params
        ) as response,
    ):
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        stream = Stream(response)
        await stream.begin()
        if write is not None:
            await asyncio.to_thread(write)
        return [await stream.next() for _ in range(count)], stream.last_id


def write_events(county, numbers):
    for number in numbers:
        county.add_event(number)
        county.sources.wake.notify()


async def test_stream_starts_at_the_newest(county, address):
    write_events(county, range(3))
    found, _ = await take(address, 2, write=lambda: write_events(county, (3, 4)))
    assert [(number, kind) for number, kind, _ in found] == [(4, "station"), (5, "station")]
    assert found[0][2] == {
        "station": "hl-001",
        "n": 3,
        "at_ms": 1_777_600_000_000,
        "type": "station",
        "alert_id": "",
    }


async def test_resume_has_no_gap_and_no_repeat(county, address):
    first, last_id = await take(address, 4, write=lambda: write_events(county, range(4)))
    write_events(county, range(4, 700))  # while nobody listens; more than two pages
    second, last_id = await take(address, 696, headers={"Last-Event-ID": last_id})
    third, _ = await take(
        address,
        3,
        params={"last_event_id": last_id},
        write=lambda: write_events(county, range(700, 703)),
    )
    assert [data["n"] for _, _, data in first + second + third] == list(range(703))


async def test_cut_off_before_the_first_event_resumes_all_the_same(county, address):
    write_events(county, range(3))
    _, last_id = await take(address, 0)
    write_events(county, range(3, 6))
    found, _ = await take(address, 3, headers={"Last-Event-ID": last_id})
    assert [data["n"] for _, _, data in found] == [3, 4, 5]


async def test_header_of_the_browser_wins_over_the_address(county, address):
    write_events(county, range(5))
    found, _ = await take(address, 2, headers={"Last-Event-ID": "3"}, params={"last_event_id": "1"})
    assert [number for number, _, _ in found] == [4, 5]


async def test_number_of_a_lost_database_starts_at_the_newest(county, address):
    write_events(county, range(2))
    found, _ = await take(
        address, 1, headers={"Last-Event-ID": "999"}, write=lambda: write_events(county, (2,))
    )
    assert found[0][2]["n"] == 2


async def test_writes_of_another_process_arrive_without_a_notice(county, address):
    found, _ = await take(address, 1, write=lambda: county.add_event(1))
    assert found[0][2]["n"] == 1


async def test_many_clients_get_every_event(county, address):
    async def one():
        return (await take(address, 20, params={"last_event_id": "0"}))[0]

    async with asyncio.TaskGroup() as tasks:
        clients = [tasks.create_task(one()) for _ in range(20)]
        await asyncio.to_thread(write_events, county, range(20))
    assert all([data["n"] for _, _, data in task.result()] == list(range(20)) for task in clients)


async def test_d10_a_thousand_clients_get_every_event(county, address):
    count = 1000
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        clients = [RawClient(address) for _ in range(count)]
        for one in clients:
            await one.open()
            tasks.create_task(one.until(5))
        await asyncio.to_thread(write_events, county, range(5))
    assert [one.numbers for one in clients] == [list(range(5))] * count
    for one in clients:
        one.close()


async def test_d10_a_client_that_does_not_read_is_let_go_and_resumes_without_a_gap(
    county, address, monkeypatch
):
    monkeypatch.setattr("dashboards.slow_clients.PATIENCE_S", 0.2)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(
        "dashboards.slow_clients.log",
        SimpleNamespace(info=lambda *_, **__: loop.call_soon_threadsafe(ended.set)),
    )
    many = 4000
    await asyncio.to_thread(county.add_events, range(many), "x" * 2000)  # 8 MB: no buffer holds it
    slow = RawClient(address, "?last_event_id=0", buffer=4096)
    async with asyncio.timeout(60):
        await slow.open()
        await ended.wait()
        await slow.until(many)  # what is in flight, then the end
        assert 0 < len(slow.numbers) < many
        again = RawClient(address, f"?last_event_id={slow.last_id}")
        await again.open()
        await again.until(many - len(slow.numbers))
    assert slow.numbers + again.numbers == list(range(many))
    slow.close()
    again.close()


@pytest.mark.parametrize("text", ["x", "-1", "1.5", str(2**63), "9" * 5000, "NaN"])
async def test_wrong_number_is_named(client, text):
    response = await client.get("/api/v1/events", headers={"Last-Event-ID": text})
    assert response.status_code == 422
    assert response.json()["detail"].startswith("Last-Event-ID: ")


async def test_open_stream_does_not_hold_up_the_stop(county):
    async with asyncio.timeout(30), httpx.AsyncClient(timeout=30) as client:
        with serving(county.app()) as address:
            request = client.build_request("GET", f"{address}/api/v1/events")
            response = await client.send(request, stream=True)
            stream = Stream(response)
            await stream.begin()
            following = asyncio.to_thread(lambda: None)
            await following
        assert await stream.next() is None  # ended by the server, in order
        await response.aclose()


async def test_silence_is_filled_with_comments(address, monkeypatch):
    monkeypatch.setattr("fastapi.routing._PING_INTERVAL", 0.01)
    async with (
        asyncio.timeout(30),
        httpx.AsyncClient(timeout=30) as client,
        client.stream("GET", f"{address}/api/v1/events") as response,
    ):
        async for line in response.aiter_lines():
            if line.startswith(":"):
                return
    pytest.fail("the stream ended without a comment")
