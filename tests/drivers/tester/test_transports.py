"""Every way in, with real sockets, ports and files: what is stored is acknowledged, what is no record is kept."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import json
import os
import subprocess
import sys
import tty
from pathlib import Path

import pytest

from drivers.errors import ConfigError, LinkError
from drivers.session import KeepsState, Refused
from drivers.tester.checks import crc8
from drivers.tester.config import parse
from drivers.tester.session import instrument_of, open_session
from drivers.tester.transports import http1, tcp_server
from drivers.tester.transports.folder import FolderSession
from tests.conftest import free_port

NOW_MS = 1_793_580_300_000  # 2026-11-02 08:45 in Beijing
SLIP = (
    "样品编号：{}\n样品名称：韭菜\n检测项目：农药残留(酶抑制率)\n抑 制 率：{} %\n"
    "检测结果：合格\n检测时间：2026-11-02 08:41\n"
)
CUT = b"\n\x1dV\x00"
JUNK = "仪器型号：LZ\n".encode("gbk")
PATIENCE_S = 20


def slip(number, value="12.5"):
    return SLIP.format(number, value).encode("gbk")


def device(transport, **more):
    table = {"path": "tester1", "transport": transport, "charset": "gbk", "idle_s": 0.2}
    if not {"profile", "reader"} & more.keys():
        table["reader"] = "key_value"
    return parse(table | more, "test")


class Agent:
    """Takes what a session yields as the bus does: stores it, then acknowledges."""

    def __init__(self, session):
        self.session = session
        self.records = []
        self.refused = []
        self.stored = asyncio.Event()
        self.stored.set()
        self.too_large = set()
        self.error = None
        self._arrived = asyncio.Condition()

    async def run(self):
        try:
            async for item in self.session.records():
                if isinstance(item, Refused):
                    self.refused.append(item)
                else:
                    await self.stored.wait()
                    self.records.append(item)
                    if item.sample_no not in self.too_large:
                        await self.session.acknowledge(item)
                async with self._arrived:
                    self._arrived.notify_all()
        except LinkError as exc:
            self.error = exc
            async with self._arrived:
                self._arrived.notify_all()

    async def until(self, come):
        async with asyncio.timeout(PATIENCE_S), self._arrived:
            await self._arrived.wait_for(lambda: come(self))
        return self

    async def have(self, records=0, refused=0):
        return await self.until(lambda a: len(a.records) >= records and len(a.refused) >= refused)


@contextlib.asynccontextmanager
async def agent(session):
    it = Agent(session)
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(it.run())
            yield it
            task.cancel()
    finally:
        await session.close()
        await session.close()


async def connected(port):
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.01)


def listening(port, **more):
    return open_session(device({"listen": port}, **more), lambda: NOW_MS)


# ---------------------------------------------------------------- serial and TCP client


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


async def opened(session):
    """Wait until the port is open: pyserial empties it as it opens."""
    async with asyncio.timeout(PATIENCE_S):
        while session._line._writer is None:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


async def test_serial_slips_become_records_and_half_a_slip_is_ended_by_silence():
    with pty() as (master, name):
        session = open_session(device({"serial": name}), lambda: NOW_MS)
        async with agent(session) as got:
            await opened(session)
            os.write(master, slip(1) + CUT + slip(2, "49.96"))
            await got.have(records=2)
    assert [(r.sample_no, str(r.value)) for r in got.records] == [("1", "12.5"), ("2", "49.96")]


async def test_what_is_no_slip_is_handed_over_with_its_bytes():
    with pty() as (master, name):
        session = open_session(device({"serial": name}), lambda: NOW_MS)
        async with agent(session) as got:
            await opened(session)
            os.write(master, JUNK + CUT + slip(1) + CUT)
            await got.have(records=1, refused=1)
    assert JUNK.strip() in got.refused[0].raw
    assert got.refused[0].reason


async def test_a_port_that_is_not_there_is_a_link_error():
    session = open_session(device({"serial": "/dev/serial/by-path/none"}), lambda: NOW_MS)
    with pytest.raises(LinkError, match="tester1"):
        await anext(session.records())
    await session.close()


async def test_tcp_client_takes_what_was_sent_before_the_other_end_closed():
    async def serve(_reader, writer):
        writer.write(slip(1) + CUT + slip(2))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        session = open_session(device({"tcp": f"127.0.0.1:{port}"}), lambda: NOW_MS)
        async with agent(session) as got:
            await got.until(lambda a: a.error is not None)
    # The second had no cut: the end of the link ends it.
    assert [r.sample_no for r in got.records] == ["1", "2"]
    assert "closed" in str(got.error)


async def test_tcp_client_without_a_server_is_a_link_error():
    session = open_session(device({"tcp": f"127.0.0.1:{free_port()}"}), lambda: NOW_MS)
    with pytest.raises(LinkError):
        await anext(session.records())
    await session.close()


# ---------------------------------------------------------------- printer tap


async def test_two_printers_at_once_do_not_mix():
    port = free_port()
    async with agent(listening(port)) as got:
        _, one = await connected(port)
        _, two = await connected(port)
        first, second = slip(1), slip(2)
        for start in range(0, max(len(first), len(second)), 7):  # both in pieces, by turns
            one.write(first[start : start + 7])
            two.write(second[start : start + 7])
            await one.drain()
            await two.drain()
        one.write(CUT)
        two.close()
        await got.have(records=2)
        one.close()
    assert sorted(r.sample_no for r in got.records) == ["1", "2"]
    assert not got.refused


async def test_a_printer_is_told_that_it_is_online_when_it_asks():
    port = free_port()
    async with agent(listening(port)) as got:
        reader, writer = await connected(port)
        writer.write(b"\x10\x04\x01" + slip(1) + CUT)
        async with asyncio.timeout(PATIENCE_S):
            status = await reader.readexactly(1)
        await got.have(records=1)
        writer.close()
    assert status == b"\x12"
    assert got.records[0].sample_no == "1"


async def test_a_connection_without_end_is_cut_off_and_its_neighbour_goes_on():
    port = free_port()
    session = tcp_server.TcpServerSession(
        instrument_of(device({"listen": port}), lambda: NOW_MS), "127.0.0.1", port, max_bytes=8192
    )
    async with agent(session) as got:
        reader, endless = await connected(port)
        with contextlib.suppress(ConnectionError):
            for _ in range(64):
                endless.write(b"x" * 1024)
                await endless.drain()
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        _, good = await connected(port)
        good.write(slip(3) + CUT)
        await got.until(lambda a: a.records)
        endless.close()
        good.close()
    assert got.records[0].sample_no == "3"
    assert any("8192 bytes" in refused.reason for refused in got.refused)
    assert all(refused.origin == "127.0.0.1" for refused in got.refused)


async def test_a_silent_printer_is_let_go(monkeypatch):
    monkeypatch.setattr(tcp_server, "IDLE_S", 0.3)
    port = free_port()
    async with agent(listening(port)) as got:
        reader, writer = await connected(port)
        writer.write(slip(1))
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.read() == b""
        await got.have(records=1)
        writer.close()


async def test_more_printers_than_allowed_are_turned_away(monkeypatch):
    monkeypatch.setattr(tcp_server, "MAX_CONNECTIONS", 1)
    port = free_port()
    async with agent(listening(port)) as got:
        _, first = await connected(port)
        first.write(slip(1) + CUT)
        await got.have(records=1)
        reader, second = await connected(port)
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        first.close()
        second.close()


async def test_a_port_in_use_is_a_link_error():
    port = free_port()
    async with agent(listening(port)):
        (await connected(port))[1].close()
        other = listening(port)
        with pytest.raises(LinkError):
            await anext(other.records())
        await other.close()


# ---------------------------------------------------------------- watched folder


def folder(directory, **more):
    return FolderSession(
        instrument_of(device({"folder": str(directory)}), lambda: NOW_MS),
        directory,
        poll_s=0.02,
        settled_s=0.1,
        **more,
    )


async def gone(*files):
    async with asyncio.timeout(PATIENCE_S):
        while any(file.exists() for file in files):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


async def test_a_file_moves_to_done_only_after_its_records_are_stored(tmp_path):
    async with agent(folder(tmp_path)) as got:
        got.stored.clear()
        (tmp_path / "a.txt").write_bytes(slip(1) + CUT + slip(2))
        await asyncio.sleep(0.4)  # read, and waiting for the disk
        assert (tmp_path / "a.txt").exists()
        got.stored.set()
        await gone(tmp_path / "a.txt")
    assert [r.sample_no for r in got.records] == ["1", "2"]
    assert (tmp_path / "done" / "a.txt").read_bytes() == slip(1) + CUT + slip(2)
    assert not (tmp_path / "refused").exists()


async def test_an_agent_that_ends_before_the_disk_has_it_reads_the_file_again(tmp_path):
    (tmp_path / "a.txt").write_bytes(slip(1))
    async with agent(folder(tmp_path)) as first:
        first.stored.clear()
        await asyncio.sleep(0.4)
    assert (tmp_path / "a.txt").exists()
    async with agent(folder(tmp_path)) as second:
        await gone(tmp_path / "a.txt")
    async with agent(folder(tmp_path)) as third:
        (tmp_path / "a.txt").write_bytes(slip(1))
        await gone(tmp_path / "a.txt")
    # The same file again is the same record, under a name of its own.
    assert second.records[0].record_id == third.records[0].record_id
    assert sorted(p.name for p in (tmp_path / "done").iterdir()) == ["a.2.txt", "a.txt"]


async def test_a_file_that_still_grows_is_left_alone(tmp_path):
    whole = slip(1) + CUT + slip(2) + CUT
    async with agent(folder(tmp_path)) as got:
        with (tmp_path / "a.txt").open("wb") as file:
            for start in range(0, len(whole), 16):
                file.write(whole[start : start + 16])
                file.flush()
                await asyncio.sleep(0.03)
                assert not got.records
        await gone(tmp_path / "a.txt")
    assert [r.sample_no for r in got.records] == ["1", "2"]


async def test_a_file_renamed_into_place_is_read_and_an_unfinished_name_is_not(tmp_path):
    async with agent(folder(tmp_path)) as got:
        (tmp_path / "b.txt.part").write_bytes(slip(9))
        (tmp_path / ".hidden").write_bytes(slip(8))
        (tmp_path / "a.txt.part").write_bytes(slip(1))
        (tmp_path / "a.txt.part").rename(tmp_path / "a.txt")
        await gone(tmp_path / "a.txt")
    assert [r.sample_no for r in got.records] == ["1"]
    assert (tmp_path / "b.txt.part").exists()


async def test_a_file_that_says_nothing_goes_to_refused_with_its_reason(tmp_path):
    async with agent(folder(tmp_path, max_bytes=4096)) as got:
        (tmp_path / "a.txt").write_bytes(b"holiday photographs\n\n")
        (tmp_path / "big.txt").write_bytes(slip(1) * 64)
        await gone(tmp_path / "a.txt", tmp_path / "big.txt")
    assert not got.records
    assert (tmp_path / "refused" / "a.txt").exists()
    assert (tmp_path / "refused" / "a.txt.reason").read_text("utf-8").strip()
    assert "4096" in (tmp_path / "refused" / "big.txt.reason").read_text("utf-8")
    assert {refused.origin for refused in got.refused} == {"a.txt", "big.txt"}


async def test_a_half_good_file_is_done_with_the_reasons_beside_it(tmp_path):
    async with agent(folder(tmp_path)) as got:
        (tmp_path / "a.txt").write_bytes(JUNK + CUT + slip(1) + CUT)
        await gone(tmp_path / "a.txt")
    assert [r.sample_no for r in got.records] == ["1"]
    assert (tmp_path / "done" / "a.txt.reason").exists()
    assert JUNK.strip() in got.refused[0].raw


async def test_links_and_pipes_are_not_read(tmp_path):
    outside = tmp_path / "outside.txt"
    outside.write_bytes(slip(7))
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "link.txt").symlink_to(outside)
    os.mkfifo(inbox / "pipe.txt")
    async with agent(folder(inbox)) as got:
        (inbox / "a.txt").write_bytes(slip(1))
        await gone(inbox / "a.txt")
    assert [r.sample_no for r in got.records] == ["1"]


async def test_a_folder_that_is_gone_is_a_link_error(tmp_path):
    session = folder(tmp_path / "stick")
    with pytest.raises(LinkError, match="stick"):
        await anext(session.records())


# ---------------------------------------------------------------- HTTP inbox

DETAIL = {
    "rwbh": "", "bjdw": "某某合作社", "jcxm": "农药残留", "jcdt": "2026-11-02 08:30:12", "jcz": "37.6",
    "szdw": "%", "jgpd": "合格", "ybbh": "NS-1", "ybmc": "油麦菜", "ybcd": "贺兰", "xlbz": "GB/T 5009.199",
    "sbbh": "LZ-4000T", "xlz": "50",
}  # fmt: skip


def upload(*details):
    return json.dumps(
        {"count": len(details), "jczbh": "hl-001", "jcdw": "示例站", "details": details},
        ensure_ascii=False,
    ).encode()


def inbox(port, path="/anhui", **more):
    return open_session(
        device({"http": path, "port": port} | more, profile="anhui"), lambda: NOW_MS
    )


async def asked(port, request):
    reader, writer = await connected(port)
    writer.write(request)
    await writer.drain()
    async with asyncio.timeout(PATIENCE_S):
        answer = await reader.read()
    writer.close()
    while answer.startswith(b"HTTP/1.1 100"):
        answer = answer.partition(b"\r\n\r\n")[2]
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def post(body, path="/anhui", *headers):
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", *headers]
    if not any(h.lower().startswith(("content-length", "transfer-encoding")) for h in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def test_an_upload_is_answered_record_by_record():
    port = free_port()
    other = DETAIL | {"ybbh": "NS-2"}
    async with agent(inbox(port)) as got:
        status, body = await asked(port, post(upload(DETAIL, {"nonsense": 1}, other)))
        again, twice = await asked(port, post(upload(DETAIL)))
    reply, second = json.loads(body), json.loads(twice)
    assert (status, again) == (200, 200)
    assert [r["result"] for r in reply["results"]] == ["accepted", "refused", "accepted"]
    assert (reply["accepted"], reply["duplicate"], reply["refused"]) == (2, 0, 1)
    assert reply["results"][1]["reason"]
    assert reply["results"][0]["sample_no"] == "NS-1"
    assert reply["results"][0]["record_id"] == got.records[0].record_id
    assert second["results"][0]["result"] == "duplicate"
    assert len(got.records) == 2
    assert b"nonsense" in got.refused[0].raw


async def test_the_reply_goes_out_only_after_the_record_is_stored():
    port = free_port()
    async with agent(inbox(port)) as got:
        got.stored.clear()
        reader, writer = await connected(port)
        writer.write(post(upload(DETAIL)))
        await writer.drain()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await reader.read(1)
        got.stored.set()
        async with asyncio.timeout(PATIENCE_S):
            assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_an_agent_that_ends_says_that_it_has_not_stored():
    port = free_port()
    session = inbox(port)
    async with agent(session) as got:
        got.stored.clear()
        reader, writer = await connected(port)
        writer.write(post(upload(DETAIL)))
        await writer.drain()
        await asyncio.sleep(0.2)
        session._handover.close()
        async with asyncio.timeout(PATIENCE_S):
            assert (await reader.read()).startswith(b"HTTP/1.1 503")
        writer.close()


async def test_a_record_that_no_pack_can_hold_is_refused_with_the_reason():
    port = free_port()
    async with agent(inbox(port)) as got:
        got.too_large.add("NS-1")
        status, body = await asked(port, post(upload(DETAIL)))
    assert status == 422
    assert json.loads(body)["results"][0]["reason"] == "too large to be stored"


async def test_fields_in_the_address_and_a_form_are_uploads_too():
    port = free_port()
    query = "ybbh=Q-1&ybmc=%BE%C2%B2%CB&jcxm=%C5%A9%B2%D0&jcz=12.5%25&jgpd=%BA%CF%B8%F1&jcdt=2026-11-02+08:30:12"
    async with agent(inbox(port)) as got:
        status, _ = await asked(port, f"GET /anhui?{query} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        form = query.replace("Q-1", "Q-2").encode()
        kind = "Content-Type: application/x-www-form-urlencoded"
        again, _ = await asked(port, post(form, "/anhui", kind))
    assert (status, again) == (200, 200)
    assert [(r.sample_no, r.product_name, str(r.value)) for r in got.records] == [
        ("Q-1", "韭菜", "12.5"),
        ("Q-2", "韭菜", "12.5"),
    ]


async def test_two_devices_share_a_port_and_are_told_apart_by_their_paths():
    port = free_port()
    one = inbox(port)
    two = open_session(device({"http": "/slips", "port": port}, path="tester2"), lambda: NOW_MS)
    async with agent(one) as first, agent(two) as second:
        await asked(port, post(upload(DETAIL)))
        async with asyncio.timeout(PATIENCE_S):
            while (await asked(port, post(slip(5), "/slips")))[0] == 404:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
        assert (await asked(port, post(slip(5), "/elsewhere")))[0] == 404
    assert first.records[0].device_id == "tester1"
    assert second.records[0].device_id == "tester2"


async def test_without_the_key_nothing_is_taken(tmp_path):
    key = tmp_path / "key"
    key.write_text("s3cret\n")
    port = free_port()
    async with agent(inbox(port, key_file=str(key))) as got:
        assert (await asked(port, post(upload(DETAIL))))[0] == 401
        assert (await asked(port, post(upload(DETAIL), "/anhui", "X-Api-Key: s3cre")))[0] == 401
        assert not got.records
        for number, given in enumerate(("X-Api-Key: s3cret", "Authorization: Bearer s3cret")):
            body = upload(DETAIL | {"ybbh": f"K-{number}"})
            assert (await asked(port, post(body, "/anhui", given)))[0] == 200
        in_address = post(upload(DETAIL | {"ybbh": "K-2"}), "/anhui?key=s3cret")
        assert (await asked(port, in_address))[0] == 200
        flat = b"GET /anhui?ybbh=K-3&jcz=1&jcxm=x&key=s3cret HTTP/1.1\r\n\r\n"
        assert (await asked(port, flat))[0] == 200
    assert [r.sample_no for r in got.records] == ["K-0", "K-1", "K-2", "K-3"]

    assert b"s3cret" not in base64.b64decode(got.records[3].raw)


def test_an_address_that_others_reach_needs_a_key():
    with pytest.raises(ConfigError, match="key_file"):
        device({"http": "/a", "address": "192.0.2.7"}, profile="anhui")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"BREW /anhui HTTP/1.1\r\n\r\n", 400),
        (b"POST /anhui HTTP/2\r\n\r\n", 400),
        (b"DELETE /anhui HTTP/1.1\r\n\r\n", 405),
        (b"GET /anhui HTTP/1.1\r\n\r\n", 405),
        (post(b"", "/anhui", "Content-Length: 99999999"), 413),
        (post(b"", "/anhui", "Content-Length: -1"), 400),
        (post(b"x", "/anhui", "Content-Length: 1", "Content-Length: 2"), 400),
        (post(b"0\r\n\r\n", "/anhui", "Transfer-Encoding: chunked", "Content-Length: 5"), 400),
        (post(b"FFFFFFFF\r\n", "/anhui", "Transfer-Encoding: chunked"), 413),
        (post(b"zz\r\n", "/anhui", "Transfer-Encoding: chunked"), 400),
        (b"POST /anhui HTTP/1.1\r\nX: " + b"x" * http1.MAX_HEAD_BYTES + b"\r\n\r\n", 431),
        (b"POST /anhui HTTP/1.1\r\n" + b"X: y\r\n" * 80 + b"\r\n", 431),
    ],
)
async def test_a_wrong_request_is_told_so(request_bytes, status):
    port = free_port()
    async with agent(inbox(port)) as got:
        assert (await asked(port, request_bytes))[0] == status
        assert (await asked(port, post(upload(DETAIL))))[0] == 200
    assert len(got.records) == 1


async def test_a_body_in_chunks_and_a_client_that_asks_first():
    port = free_port()
    body = upload(DETAIL)
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:50], body[50:]))
    async with agent(inbox(port)) as got:
        chunked = post(chunks + b"0\r\n\r\n", "/anhui", "Transfer-Encoding: chunked")
        assert (await asked(port, chunked))[0] == 200
        expects = post(upload(DETAIL | {"ybbh": "E"}), "/anhui", "Expect: 100-continue")
        assert (await asked(port, expects))[0] == 200
    assert [r.sample_no for r in got.records] == ["NS-1", "E"]


async def test_what_is_no_upload_is_refused_and_kept():
    port = free_port()
    async with agent(inbox(port)) as got:
        for body in (b"", b"{", upload(DETAIL).replace(b'"count": 1', b'"count": 7')):
            status, answer = await asked(port, post(body))
            assert status == 422
            assert json.loads(answer)["refused"] == 1
    assert not got.records
    assert len(got.refused) == 3
    assert got.refused[1].raw == b"{"


# ---------------------------------------------------------------- an instrument that must be asked


class Lz4000t:
    """As the vendor's description has it: counts and sends a day; ``days`` maps (yy, mm, dd) to record frames."""

    def __init__(self):
        self.days = {}
        self.asked = []

    async def serve(self, reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readexactly(4)
                rest = await reader.readexactly(head[2] + 2)
                self.asked.append((head[1], tuple(rest[: head[2]])))
                day = tuple(rest[:3])
                frames = self.days.get(day, [])
                if head[1] == 0x00:
                    writer.write(framed(0x01, b"\x00\x00\x00"))
                elif head[1] == 0x12:
                    writer.write(framed(0x13, bytes(3) + len(frames).to_bytes(2, "little")))
                elif head[1] == 0x10:
                    writer.write(b"".join(frames))
                await writer.drain()
        writer.close()


def framed(command, data):
    body = bytes((command,)) + len(data).to_bytes(2, "little") + data
    return b"\x7e" + body + bytes((crc8(body),)) + b"\xaa"


def lz_record(number, when, inhibition=3763):
    name = "油麦菜".encode("gbk")
    time = bytes((when.year % 100, when.month, when.day, when.hour, when.minute, when.second))
    return framed(
        0x11,
        b"\x01\x00\x00\x00"
        + number.to_bytes(2, "little")
        + name
        + time
        + inhibition.to_bytes(2, "little"),
    )


def test_the_frame_of_this_test_is_the_documented_one():
    when = dt.datetime(2026, 11, 2, 8, 30, 12)  # noqa: DTZ001
    assert lz_record(17, when).hex(" ").upper() == (
        "7E 11 14 00 01 00 00 00 11 00 D3 CD C2 F3 B2 CB 1A 0B 02 08 1E 0C B3 0E 62 AA"
    )


@contextlib.asynccontextmanager
async def lz4000t():
    it = Lz4000t()
    server = await asyncio.start_server(it.serve, "127.0.0.1", 0)
    it.port = server.sockets[0].getsockname()[1]
    async with server:
        yield it


def asking(port, clock=lambda: NOW_MS):
    table = {
        "path": "tester1",
        "transport": {"tcp": f"127.0.0.1:{port}"},
        "profile": "lz4000t",
        "ask_every_s": 5.0,
    }
    session = open_session(parse(table, "test"), clock)
    session._every_s = 0.1
    return session


def days_asked(it):
    return [day for command, day in it.asked if command == 0x10]


async def test_a_day_read_again_gives_each_record_once(tmp_path):
    async with lz4000t() as it:
        when = dt.datetime(2026, 11, 2, 8, 30, 12)  # noqa: DTZ001
        it.days[26, 11, 2] = [lz_record(17, when)]
        session = asking(it.port)
        assert isinstance(session, KeepsState)
        session.keep_in(tmp_path)
        async with agent(session) as got:
            await got.have(records=1)
            it.days[26, 11, 2].append(lz_record(18, when + dt.timedelta(minutes=1)))
            await got.have(records=2)
            it.days[26, 11, 2].append(lz_record(19, when + dt.timedelta(minutes=2)))
            await got.have(records=3)
        assert [r.sample_no for r in got.records] == ["17", "18", "19"]
        assert days_asked(it).count((26, 11, 2)) >= 3
        # After a restart the day comes again, and is known.
        it.days[26, 11, 2].append(lz_record(20, when + dt.timedelta(minutes=3)))
        session = asking(it.port)
        session.keep_in(tmp_path)
        async with agent(session) as after:
            await after.have(records=1)
        assert [r.sample_no for r in after.records] == ["20"]
    assert str(got.records[0].value) == "37.63"


async def test_the_cursor_moves_only_when_the_record_is_stored(tmp_path):
    async with lz4000t() as it:
        when = dt.datetime(2026, 11, 2, 8, 30, 12)  # noqa: DTZ001
        it.days[26, 11, 2] = [lz_record(17, when)]
        session = asking(it.port)
        session.keep_in(tmp_path)
        async with agent(session) as got:
            got.too_large.add("17")  # handed over, never acknowledged
            await got.have(records=1)
        session = asking(it.port)
        session.keep_in(tmp_path)
        async with agent(session) as again:
            await again.have(records=1)
    assert again.records[0].record_id == got.records[0].record_id


async def test_days_that_were_missed_are_asked_for_with_one_day_of_overlap(tmp_path):
    async with lz4000t() as it:
        when = dt.datetime(2026, 11, 2, 8, 30, 12)  # noqa: DTZ001
        it.days[26, 11, 2] = [lz_record(17, when)]
        session = asking(it.port)
        session.keep_in(tmp_path)
        async with agent(session) as got:
            await got.have(records=1)
        it.asked.clear()
        later = when + dt.timedelta(days=4)
        it.days[26, 11, 6] = [lz_record(1, later)]
        session = asking(it.port, lambda: NOW_MS + 4 * 86_400_000)
        session.keep_in(tmp_path)
        async with agent(session) as got:
            await got.have(records=1)
    assert got.records[0].tested_at.startswith("2026-11-06")
    counted = {day for command, day in it.asked if command in {0x10, 0x12}}
    assert {(26, 11, day) for day in range(1, 7)} <= counted


async def test_no_step_ever_clears_anything():
    async with lz4000t() as it:
        it.days[26, 11, 2] = [lz_record(1, dt.datetime(2026, 11, 2, 8, 0, 0))]  # noqa: DTZ001
        async with agent(asking(it.port)) as got:
            await got.have(records=1)
    assert {command for command, _ in it.asked} <= {0x00, 0x10, 0x12}


async def test_a_damaged_cursor_only_means_asking_again(tmp_path):
    (tmp_path / "tester1.cursor.json").write_bytes(b"{")
    async with lz4000t() as it:
        it.days[26, 11, 2] = [lz_record(1, dt.datetime(2026, 11, 2, 8, 0, 0))]  # noqa: DTZ001
        session = asking(it.port)
        session.keep_in(tmp_path)
        async with agent(session) as got:
            await got.have(records=1)


async def test_a_tester_that_does_not_answer_is_a_link_error():
    async def deaf(reader, writer):
        await reader.read()
        writer.close()

    server = await asyncio.start_server(deaf, "127.0.0.1", 0)
    async with server:
        session = asking(server.sockets[0].getsockname()[1])
        async with agent(session) as got:
            await got.until(lambda a: a.error is not None)
    assert "no answer" in str(got.error)


def test_only_the_transport_that_is_used_is_loaded():

    code = (
        "import sys; from drivers.tester.config import parse; from drivers.tester.session import open_session;"
        "open_session(parse({'path':'t','transport':{'serial':'/dev/ttyUSB0'},'reader':'key_value'},'x'), lambda: 0);"
        "print([m for m in sys.modules if m.endswith("
        "('http_inbox','http1','tcp_server','folder','serial_asyncio_fast'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd()
    )
    assert done.stdout.strip() == "[]"
