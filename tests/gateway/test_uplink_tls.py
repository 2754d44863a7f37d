"""The uplink against a real mosquitto with TLS; a proxy records every byte that goes out."""

from __future__ import annotations

import asyncio
import base64
import getpass
import hashlib
import random
import subprocess
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import aiomqtt
import pytest
from structlog.testing import capture_logs

from drivers.records import Reading
from gateway import reconnect, wire
from gateway import uplink as uplink_module
from gateway.broker import BrokerLogin, Tls
from gateway.schedule import Clock
from gateway.station import StationAgent
from gateway.uplink import Uplink
from gateway.wire import Lane
from tests.certificates import Authority, Signed
from tests.conftest import Mosquitto, free_port, require
from tests.gateway.conftest import Server, cancelled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
    from pathlib import Path

    from gateway.broker import Protocol

pytestmark = pytest.mark.mosquitto

HOSTS = ("127.0.0.1", "localhost")
BOTH: tuple[Protocol, Protocol] = ("5", "3.1.1")
Log = list["MutableMapping[str, object]"]
CONNECT = 0x10
CLIENT_HELLO = b"\x16\x03"  # record type "handshake"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uplink_module, "RECONNECT_FIRST_S", 0.02)
    monkeypatch.setattr(uplink_module, "RECONNECT_MAX_S", 0.1)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[StationAgent]:
    agent = await open_agent(tmp_path / "hl-001")
    yield agent
    await agent.close()


async def open_agent(directory: Path) -> StationAgent:
    return await StationAgent.open(
        "hl-001",
        directory,
        cap_bytes=64 << 20,
        version="1.0",
        seen=list,
        clock=Clock(),
        rng=random.Random(1),
    )


class Brokers:
    """Starts mosquittos with what a test wants of them."""

    def __init__(self, directory: Path, authority: Authority) -> None:
        self._directory = directory
        self._authority = authority
        self._started: list[Mosquitto] = []

    def start(self, settings: str) -> Mosquitto:
        directory = self._directory / f"broker{len(self._started)}"
        directory.mkdir()
        # As root mosquitto becomes another user, who may not read the test's directory.
        settings += f"\nuser {getpass.getuser()}"
        broker = Mosquitto(require("mosquitto"), directory, settings)
        broker.start()
        self._started.append(broker)
        return broker

    def tls(
        self, server: Signed | None = None, more: str = "", access: str = "allow_anonymous true"
    ) -> Mosquitto:
        """A broker with TLS; ``more`` stands in its listener."""
        server = server or self._authority.sign("broker", hosts=HOSTS)
        certificate, key = server.write(self._directory, "server")
        ca = self._directory / "ca.crt"
        ca.write_text(self._authority.pem)
        return self.start(f"cafile {ca}\ncertfile {certificate}\nkeyfile {key}\n{more}\n{access}")

    def close(self) -> None:
        for broker in self._started:
            broker.kill()


@pytest.fixture
def brokers(tmp_path: Path, authority: Authority) -> Iterator[Brokers]:
    brokers = Brokers(tmp_path, authority)
    yield brokers
    brokers.close()


class Recorder:
    """A TCP proxy that keeps what the client sends, one entry per connection."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.port = 0
        self.sent: list[bytearray] = []
        self.seen = asyncio.Condition()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Recorder]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def until_connections(self, count: int) -> None:
        async with asyncio.timeout(20), self.seen:
            await self.seen.wait_for(lambda: len(self.sent) >= count)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mine = bytearray()
        self.sent.append(mine)
        async with self.seen:
            self.seen.notify_all()
        to_broker, from_broker = None, None
        with suppress(OSError):
            from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self._target)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(from_broker, writer))
                group.create_task(self._pump(reader, to_broker, mine))
        for each in (writer, to_broker):
            if each is not None:
                each.close()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        copy: bytearray | None = None,
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if copy is not None:
                    copy += data
                writer.write(data)
                await writer.drain()
        with suppress(OSError):
            writer.close()


def login(port: int, tls: Tls | None, **more: str) -> BrokerLogin:
    return replace(BrokerLogin("127.0.0.1", port, tls=tls), **more)  # type: ignore[arg-type]


def new_uplink(
    agent: StationAgent, broker: BrokerLogin, changed: asyncio.Event | None = None
) -> Uplink:
    return Uplink(
        agent,
        broker,
        clock=Clock(),
        rng=random.Random(2),
        on_change=(changed or asyncio.Event()).set,
    )


@asynccontextmanager
async def running(uplink: Uplink) -> AsyncIterator[None]:
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(uplink.run())
        yield
        uplink.stop()


async def tries(uplink: Uplink, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run until ``count`` connections have been tried and ended."""
    tried = asyncio.Semaphore(0)
    original = uplink._one_connection

    async def counted() -> object:
        fault = await original()
        tried.release()
        return fault

    monkeypatch.setattr(uplink, "_one_connection", counted)
    async with running(uplink):
        for _ in range(count):
            await tried.acquire()


async def until_true(said: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not said():  # noqa: ASYNC110 - what is waited for is a log line, or bytes
            await asyncio.sleep(0.01)


async def until_connected(uplink: Uplink, changed: asyncio.Event) -> None:
    async with asyncio.timeout(15):
        while not uplink.connected:
            changed.clear()
            await changed.wait()


def lines(logs: Log, event: str) -> list[str]:
    return [str(entry["reason"]) for entry in logs if entry["event"] == event]


# ---- nothing in the clear


async def refused(
    agent: StationAgent, port: int, tls: Tls, monkeypatch: pytest.MonkeyPatch, **more: str
) -> str:
    """Try four times through a recorder; return the one line, having seen that no CONNECT went out."""
    recorder = Recorder(port)
    async with recorder.running():
        broker = login(recorder.port, tls, username="hl-001", password="s3cret-w0rd", **more)
        with capture_logs() as logs:
            await tries(new_uplink(agent, broker), 4, monkeypatch)
    assert any(sent.startswith(CLIENT_HELLO) for sent in recorder.sent), "no handshake was tried"
    for sent in recorder.sent:
        assert not sent or sent.startswith(CLIENT_HELLO)  # the end may come before the first byte
        assert b"MQTT" not in sent
        assert b"hl-001" not in sent
        assert b"s3cret" not in sent
    [line] = lines(logs, "uplink_down")
    return line


async def test_s1_behaviour_12_wrong_ca(
    agent: StationAgent, brokers: Brokers, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = brokers.tls().port
    line = await refused(agent, port, Tls(Authority("other").pem), monkeypatch)
    assert "not signed by our CA" in line


async def test_s1_behaviour_12_expired_server_certificate(
    agent: StationAgent, brokers: Brokers, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = brokers.tls(authority.sign("broker", hosts=HOSTS, begins=-9, ends=-1)).port
    assert "has expired" in await refused(agent, port, Tls(authority.pem), monkeypatch)


async def test_s1_behaviour_12_server_certificate_not_valid_yet(
    agent: StationAgent, brokers: Brokers, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = brokers.tls(authority.sign("broker", hosts=HOSTS, begins=1)).port
    line = await refused(agent, port, Tls(authority.pem), monkeypatch)
    assert "not valid yet" in line
    assert "clock" in line


async def test_s1_behaviour_12_wrong_host_name(
    agent: StationAgent, brokers: Brokers, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = brokers.tls(authority.sign("broker", hosts=("mqtt.county.example",))).port
    line = await refused(agent, port, Tls(authority.pem), monkeypatch)
    assert "not for 127.0.0.1" in line


@pytest.mark.parametrize("protocol", BOTH)
async def test_behaviour_12_plaintext_listener_on_the_tls_port(
    agent: StationAgent,
    brokers: Brokers,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    protocol: Protocol,
) -> None:
    port = brokers.start("allow_anonymous true").port
    line = await refused(agent, port, Tls(authority.pem), monkeypatch, protocol=protocol)
    assert "no falling back to plaintext" in line


async def test_behaviour_12_a_peer_that_answers_in_plaintext(
    agent: StationAgent, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        with suppress(OSError):
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    line = await refused(agent, port, Tls(authority.pem), monkeypatch)
    assert "does not speak TLS" in line
    server.close()


async def test_behaviour_12_the_recorder_would_see_a_connect(
    agent: StationAgent, brokers: Brokers
) -> None:
    """The proof above is worth what its instrument is."""
    recorder = Recorder(brokers.start("allow_anonymous true").port)
    async with recorder.running():
        async with running(new_uplink(agent, login(recorder.port, None))):
            await recorder.until_connections(1)
            await until_true(lambda: len(recorder.sent[0]) > 20)
        assert recorder.sent[0][0] == CONNECT
        assert b"MQTT" in recorder.sent[0]


@pytest.mark.parametrize("protocol", BOTH)
async def test_tls_listener_on_the_plaintext_port(
    agent: StationAgent, brokers: Brokers, monkeypatch: pytest.MonkeyPatch, protocol: Protocol
) -> None:
    uplink = new_uplink(agent, login(brokers.tls().port, None, protocol=protocol))
    with capture_logs() as logs:
        await tries(uplink, 3, monkeypatch)
    [line] = lines(logs, "uplink_down")
    assert "does it want TLS" in line


# ---- who we are


REQUIRED = "require_certificate true\nuse_identity_as_username true"


async def turned_away(
    agent: StationAgent, port: int, tls: Tls, monkeypatch: pytest.MonkeyPatch, **more: str
) -> str:
    with capture_logs() as logs:
        await tries(new_uplink(agent, login(port, tls, **more)), 3, monkeypatch)
    [line] = lines(logs, "uplink_down")
    return line


@pytest.mark.parametrize("protocol", BOTH)
async def test_s1_client_certificate_expired(
    agent: StationAgent,
    brokers: Brokers,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    protocol: Protocol,
) -> None:
    ours = authority.sign("hl-001", begins=-9, ends=-1)
    tls = Tls(authority.pem, ours.certificate_pem, ours.key_pem)
    port = brokers.tls(more=REQUIRED).port
    line = await turned_away(agent, port, tls, monkeypatch, protocol=protocol)
    assert "our certificate has expired" in line


async def test_s1_client_certificate_not_valid_yet(
    agent: StationAgent, brokers: Brokers, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = authority.sign("hl-001", begins=1)
    tls = Tls(authority.pem, ours.certificate_pem, ours.key_pem)
    line = await turned_away(agent, brokers.tls(more=REQUIRED).port, tls, monkeypatch)
    assert "does not accept our certificate: not valid yet" in line


@pytest.mark.parametrize("protocol", BOTH)
async def test_s1_client_certificate_revoked(
    agent: StationAgent,
    brokers: Brokers,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    protocol: Protocol,
    tmp_path: Path,
) -> None:
    ours = authority.sign("hl-001")
    (tmp_path / "crl.pem").write_text(authority.revoke(ours))
    tls = Tls(authority.pem, ours.certificate_pem, ours.key_pem)
    port = brokers.tls(more=f"{REQUIRED}\ncrlfile {tmp_path / 'crl.pem'}").port
    line = await turned_away(agent, port, tls, monkeypatch, protocol=protocol)
    assert "our certificate is revoked" in line


async def test_s1_no_client_certificate_where_one_is_asked_for(
    agent: StationAgent, brokers: Brokers, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = brokers.tls(more=REQUIRED).port
    line = await turned_away(agent, port, Tls(authority.pem), monkeypatch)
    assert "asks for a client certificate" in line


async def test_s1_client_certificate_of_another_ca(
    agent: StationAgent, brokers: Brokers, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = Authority("other").sign("hl-001")
    tls = Tls(authority.pem, ours.certificate_pem, ours.key_pem)
    line = await turned_away(agent, brokers.tls(more=REQUIRED).port, tls, monkeypatch)
    assert "does not know the CA of our certificate" in line


def password_file(directory: Path) -> Path:
    """A password file with the account hl-001, password ``right``."""
    file = directory / "passwd"
    file.write_text("hl-001:right\n")
    program = require("mosquitto_passwd")

    subprocess.run([program, "-U", str(file)], check=True, capture_output=True)
    return file


@pytest.mark.parametrize("protocol", BOTH)
async def test_wrong_password(
    agent: StationAgent,
    brokers: Brokers,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    protocol: Protocol,
    tmp_path: Path,
) -> None:
    access = f"allow_anonymous false\npassword_file {password_file(tmp_path)}"
    port = brokers.tls(access=access).port
    line = await turned_away(
        agent,
        port,
        Tls(authority.pem),
        monkeypatch,
        protocol=protocol,
        username="hl-001",
        password="wrong",
    )
    assert "refused user hl-001" in line
    assert "wrong password" in line


def body(number: int) -> tuple[Lane, bytes, int]:
    reading = Reading("plot1/soil", "soil_ph", 1_763_900_000_000 + number, float(number))
    return Lane.READINGS, wire.encode_readings([reading]), 1


async def test_acl_missing_mqtt_5_is_said_once_and_the_packs_stay(
    agent: StationAgent, brokers: Brokers, authority: Authority, tmp_path: Path
) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic write agri/v1/hl-001/status\ntopic read agri/v1/hl-001/ack\n")
    port = brokers.tls(access=f"allow_anonymous true\nacl_file {acl}").port
    await agent.append([body(n) for n in range(10)])
    with capture_logs() as logs:
        async with running(new_uplink(agent, login(port, Tls(authority.pem)))):
            await until_true(lambda: lines(logs, "publish_refused"))
    [entry] = [log for log in logs if log["event"] == "publish_refused"]
    assert entry["topic"] == "agri/v1/hl-001/up"
    assert "access list" in str(entry["reason"])
    assert (await agent.state()).queue == 10


async def test_acl_missing_mqtt_3_1_1_is_seen_by_the_receipts_that_do_not_come(
    agent: StationAgent,
    brokers: Brokers,
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(uplink_module, "NO_RECEIPT_S", 0.0)
    acl = tmp_path / "acl"
    acl.write_text("topic write agri/v1/hl-001/status\ntopic read agri/v1/hl-001/ack\n")
    port = brokers.tls(access=f"allow_anonymous true\nacl_file {acl}").port
    with capture_logs() as logs:
        broker = login(port, Tls(authority.pem), protocol="3.1.1")
        async with running(new_uplink(agent, broker)):
            for number in range(5):
                await agent.append([body(number)])
            await until_true(lambda: lines(logs, "no_receipts"))
    [line] = lines(logs, "no_receipts")
    assert "agri/v1/hl-001/up" in line
    assert (await agent.state()).queue == 5


# ---- what is good


@pytest.mark.parametrize("protocol", BOTH)
async def test_tls_with_a_client_certificate_delivers(
    agent: StationAgent, brokers: Brokers, authority: Authority, protocol: Protocol
) -> None:
    plain = free_port()
    ours = authority.sign("hl-001")
    port = brokers.tls(
        more=REQUIRED, access=f"allow_anonymous true\nlistener {plain} 127.0.0.1"
    ).port
    tls = Tls(authority.pem, ours.certificate_pem, ours.key_pem)
    uplink = new_uplink(agent, login(port, tls, protocol=protocol))
    await agent.append([body(n) for n in range(50)])
    async with serving(plain) as server, running(uplink):
        await server.until_readings(50)
        await until_empty(agent)
        assert uplink.alarms == set()
        assert set(uplink.certificates) == {"client", "broker"}
    assert [value for _, value in server.readings] == [float(n) for n in range(50)]


@asynccontextmanager
async def serving(port: int) -> AsyncIterator[Server]:
    async with asyncio.timeout(10):
        while True:  # a broker's second listener opens after the first, which is the one waited for
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                break
    server, ready = Server(port), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(server.run(ready))
        await ready.wait()
        yield server
        await cancelled(task)


async def until_empty(agent: StationAgent) -> None:
    async with asyncio.timeout(20):
        while (await agent.state()).queue:
            agent.receipted.clear()
            if (await agent.state()).queue:
                await agent.receipted.wait()


class Outstanding(Recorder):
    """Counts the messages that wait for their PUBACK, as seen on the way."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.now = self.most = 0

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        copy: bytearray | None = None,
    ) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                packet = bytearray(await reader.readexactly(1))
                size = shift = 0
                while True:
                    packet += await reader.readexactly(1)
                    size |= (packet[-1] & 127) << shift
                    shift += 7
                    if packet[-1] < 128:
                        break
                packet += await reader.readexactly(size)
                if copy is not None and packet[0] & 0xF6 == 0x32:  # PUBLISH, QoS 1
                    self.now += 1
                elif copy is None and packet[0] == 0x40:  # PUBACK
                    self.now -= 1
                self.most = max(self.most, self.now)
                writer.write(packet)
        with suppress(OSError):
            writer.close()


async def test_receive_maximum_of_the_broker_is_respected(
    agent: StationAgent, brokers: Brokers
) -> None:
    port = brokers.start("allow_anonymous true\nmax_inflight_messages 5").port
    proxy = Outstanding(port)
    await agent.append([body(n) for n in range(200)])
    async with serving(port) as server, proxy.running():
        uplink = new_uplink(agent, login(proxy.port, None))
        async with running(uplink):
            await server.until_readings(200)
            await until_empty(agent)
        assert uplink.connections == 1
    assert 2 <= proxy.most <= 5


async def test_packet_larger_than_the_broker_takes_is_said_and_not_sent(
    agent: StationAgent, brokers: Brokers
) -> None:
    port = brokers.start("allow_anonymous true\nmax_packet_size 2000").port
    readings = [Reading("plot1/soil", "soil_ph", n, float(n)) for n in range(500)]
    await agent.append([(Lane.READINGS, wire.encode_readings(readings), 500)])
    with capture_logs() as logs:
        uplink = new_uplink(agent, login(port, None))
        async with running(uplink):
            await until_true(lambda: lines(logs, "publish_refused"))
        assert uplink.connections == 1
    [line] = lines(logs, "publish_refused")
    assert "max_packet_size" in line
    assert (await agent.state()).queue == 1


# ---- take-over


@pytest.mark.parametrize("protocol", BOTH)
async def test_client_id_taken_over(
    agent: StationAgent,
    brokers: Brokers,
    protocol: Protocol,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(uplink_module, "QUIET_AFTER_S", 0.1)
    port = brokers.start("allow_anonymous true").port
    changed = asyncio.Event()
    uplink = new_uplink(agent, login(port, None, protocol=protocol), changed)
    with capture_logs() as logs:
        async with running(uplink):
            await until_connected(uplink, changed)
            while not lines(logs, "uplink_taken_over"):
                before = uplink.connections
                with suppress(aiomqtt.MqttError):  # it is taken over in its turn
                    async with aiomqtt.Client("127.0.0.1", port, identifier=uplink.identifier):
                        await until_true(lambda: uplink.connections > before)  # noqa: B023
                await until_true(lambda: uplink.connections > before)  # noqa: B023
            assert "taken_over" in uplink.alarms
            await until_true(lambda: "taken_over" not in uplink.alarms)
    [line] = lines(logs, "uplink_taken_over")
    assert "another client connects with this identity" in line
    assert "access list" in line  # mosquitto 2.0 does not say why it cuts
    assert [log["event"] for log in logs].count("uplink_connected") <= 5


async def test_client_id_taken_over_as_mqtt_5_says_it(agent: StationAgent) -> None:
    async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            for answer in (b"\x20\x03\x00\x00\x00", b"\x90\x04\x00\x01\x00\x01"):
                size = (await reader.readexactly(2))[1]
                if size > 127:
                    size += ((await reader.readexactly(1))[0] - 1) * 128
                await reader.readexactly(size)
                writer.write(answer)
            writer.write(b"\xe0\x02\x8e\x00")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(broker, "127.0.0.1", 0)
    uplink = new_uplink(agent, login(server.sockets[0].getsockname()[1], None))
    with capture_logs() as logs:
        async with running(uplink):
            await until_true(lambda: uplink.connections >= 4)
            assert uplink.alarms == {"taken_over"}
    server.close()
    [line] = lines(logs, "uplink_taken_over")
    assert line.startswith("another client connects with this identity")
    assert "access list" not in line


async def test_two_gateways_on_one_code_have_two_identifiers(
    agent: StationAgent, tmp_path: Path
) -> None:
    other = await open_agent(tmp_path / "other")
    broker = login(1, None)
    mine, theirs = new_uplink(agent, broker).identifier, new_uplink(other, broker).identifier
    await other.close()
    digest = hashlib.sha256(base64.b64decode(agent.public_key)).hexdigest()
    assert mine == f"agri-hl-001-{digest[:8]}"
    assert mine != theirs


# ---- a session does not outlive its certificates


async def test_s2_a_session_is_renewed_and_nothing_is_lost(
    agent: StationAgent,
    brokers: Brokers,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reconnect, "RENEW_AFTER_S", 0.3)
    plain = free_port()
    port = brokers.tls(access=f"allow_anonymous true\nlistener {plain} 127.0.0.1").port
    uplink = new_uplink(agent, login(port, Tls(authority.pem)))
    with capture_logs() as logs:
        async with serving(plain) as server, running(uplink):
            number = 0
            while uplink.connections < 4:
                await agent.append([body(number)])
                number += 1
                await server.until_readings(number)
            await until_empty(agent)
    assert [value for _, value in server.readings] == [float(n) for n in range(number)]
    events = [log["event"] for log in logs if str(log["event"]).startswith("uplink")]
    assert [event for event in events if event != "uplink_renewed"] == ["uplink_connected"]


async def test_s2_a_session_ends_with_the_certificate_of_the_broker(
    agent: StationAgent,
    brokers: Brokers,
    authority: Authority,
) -> None:
    soon = 4 / 86_400
    port = brokers.tls(authority.sign("broker", hosts=HOSTS, ends=soon)).port
    uplink = new_uplink(agent, login(port, Tls(authority.pem)))
    with capture_logs() as logs:
        async with running(uplink):
            await until_true(lambda: lines(logs, "uplink_down"))
            assert uplink.alarms == {"certificate_expired"}
    assert "has expired" in lines(logs, "uplink_down")[0]
    said = [log["event"] for log in logs if str(log["event"]).startswith("certificate")]
    assert said == ["certificate_1d", "certificate_expired"]


@pytest.mark.parametrize("days", [29, 6, 0.5])
async def test_s2_the_alarm_of_a_client_certificate_is_said_once(
    agent: StationAgent,
    brokers: Brokers,
    authority: Authority,
    days: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reconnect, "RENEW_AFTER_S", 0.1)
    ours = authority.sign("hl-001", ends=days)
    port = brokers.tls().port
    uplink = new_uplink(agent, login(port, Tls(authority.pem, ours.certificate_pem, ours.key_pem)))
    with capture_logs() as logs:
        async with running(uplink):
            await until_true(lambda: uplink.connections >= 3)
    alarm = {29: "certificate_30d", 6: "certificate_7d", 0.5: "certificate_1d"}[days]
    assert uplink.alarms == {alarm}
    [entry] = [log for log in logs if str(log["event"]).startswith("certificate")]
    assert (entry["event"], entry["certificate"]) == (alarm, "client certificate")
