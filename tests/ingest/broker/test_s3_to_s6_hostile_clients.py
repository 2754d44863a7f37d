"""Cases S3 to S6: hostile clients against the deployed broker, with a station that delivers beside them."""

from __future__ import annotations

import contextlib
import socket
from contextlib import ExitStack
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from gateway import wire
from gateway.broker import tls_context
from tests.conftest import until
from tests.ingest.broker.deployed import (
    HOST,
    NOW,
    Client,
    County,
    Gateway,
    Raw,
    connect_packet,
    ingest_of,
    let_in,
    packet,
    text,
    with_password,
    without,
)

pytestmark = pytest.mark.mosquitto

GOODBYE = b"\xe0\x00"


# ---------------------------------------------------------------- S3


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_s3_a_station_cannot_write_as_another_nor_as_the_server(county, protocol):
    one, two = county.enrol("hl-001"), county.enrol("hl-002")
    county.deploy()
    county.start()
    ingest, other = Client(county.ingest.login), Client(two)
    assert ingest.connect()
    assert other.connect()
    leaves = ("up", "status", "ack", "senml/#", "raw/#")
    ingest.subscribe(*(f"agri/v1/+/{leaf}" for leaf in leaves))
    other.subscribe("agri/v1/hl-002/ack", "agri/v1/hl-002/cmd")
    foreign = ("hl-002/up", "hl-002/status", "hl-002/ack", "hl-002/cmd")
    for topic in (*foreign, "hl-001/ack", "hl-002/senml/a", "hl-002/raw/a/b"):
        forger = Client(replace(one, protocol=protocol))
        assert forger.connect()
        forger.publish(f"agri/v1/{topic}", b"forged")
        forger.close()
        dying = Client(replace(one, protocol=protocol))
        dying.client.will_set(f"agri/v1/{topic}", b"forged will", qos=1, retain=True)
        if dying.connect():
            dying.client.socket().shutdown(socket.SHUT_RDWR)
            until(lambda client=dying.client: not client.is_connected())
        dying.close()
    server = Client(county.ingest.login)
    assert server.connect()
    server.publish("agri/v1/hl-001/up", b"not a station's")
    server.close()
    honest = Client(replace(one, protocol=protocol))
    honest.client.will_set("agri/v1/hl-001/status", b"will", qos=1)
    assert honest.connect()
    honest.publish("agri/v1/hl-001/up", b"pack")
    honest.publish("agri/v1/hl-001/senml/a", b"senml")
    honest.publish("agri/v1/hl-001/raw/a/b", b"raw")
    honest.client.socket().shutdown(socket.SHUT_RDWR)
    heard = ingest.until(b"will")
    honest.close()
    ingest.publish("agri/v1/hl-002/ack", b"receipt")
    assert heard == [
        ("agri/v1/hl-001/up", b"pack"),
        ("agri/v1/hl-001/senml/a", b"senml"),
        ("agri/v1/hl-001/raw/a/b", b"raw"),
    ]
    assert other.until(b"receipt") == []
    assert ingest.until(b"receipt") == []
    ingest.close()
    other.close()


@pytest.mark.parametrize("filter_", ["#", "$SYS/#", "+/+/+/cmd", "agri/v1/+/ack", "agri/v1/+/up"])
def test_s3_a_station_cannot_read_what_is_anothers(county, filter_):
    one, two = county.enrol("hl-001"), county.enrol("hl-002")
    county.deploy()
    county.start()
    spy, other, ingest = Client(one), Client(two), Client(county.ingest.login)
    for client in (spy, other, ingest):
        assert client.connect()
    other.publish("agri/v1/hl-002/status", b"retained", retain=True)
    spy.subscribe(filter_)
    spy.subscribe("agri/v1/hl-001/ack")
    other.publish("agri/v1/hl-002/up", b"pack")
    ingest.publish("agri/v1/hl-002/ack", b"another's receipt")
    ingest.publish("agri/v1/hl-001/ack", b"receipt")
    assert spy.until(b"receipt") == []
    for client in (spy, other, ingest):
        client.close()


# ---------------------------------------------------------------- S4


def test_s4_the_deployed_broker_is_proven(county):
    county.deploy()
    county.start()
    assert county.probe()() is None


def test_s4_an_access_list_that_knows_no_publishers_is_proven_and_said(county):
    county.deploy()
    acl = county.out / "agrigate.acl"
    good = acl.read_text()
    acl.write_text(without(good, ".*(senml|raw)/#"))
    county.start()
    probe = county.probe(publishers=True)
    with capture_logs() as logs:
        assert (probe(), probe()) == (None, None)
    topics = ["agri/v1/agri-probe/senml/probe", "agri/v1/agri-probe/raw/probe"]
    assert [(one["event"], one["topics"]) for one in logs] == [("publishers_not_heard", topics)]
    acl.write_text(good)
    county.reload()
    assert probe() is None
    assert probe.deaf_to == ()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_s4_the_probe_speaks_both_protocols(county, protocol):
    county.deploy()
    county.start()
    probe = county.probe()
    probe._login = replace(probe._login, protocol=protocol)
    probe._probe = replace(probe._probe, protocol=protocol)
    assert probe() is None


@pytest.mark.parametrize("damage", ["missing", "syntax", "empty", "not named"])
def test_s4_without_a_good_access_list_there_is_no_ingest(county, damage):
    county.deploy()
    acl, conf = county.out / "agrigate.acl", county.conf()
    match damage:
        case "missing":
            acl.unlink()
        case "syntax":
            acl.write_text("user agri_ingest\ntopick read everything\n")
        case "empty":
            acl.write_text("")
        case "not named":
            conf = without(conf, "acl_file")
    if county.try_start(conf):
        refusal = county.probe()()
        assert refusal is not None
        assert "deploy mosquitto" in refusal


def refused(county: County, acl: str) -> str:
    (county.out / "agrigate.acl").write_text(acl)
    county.reload()
    refusal = county.probe(publishers=True)()
    assert refusal is not None
    assert "\n" not in refusal
    return refusal


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("pattern write agri/v1/+/up", "can write agri/v1/agri-probe-other/up"),
        ("pattern write agri/v1/+/status", "can have its will on agri/v1/agri-probe-other/status"),
        ("pattern write agri/v1/%u/ack", "can write agri/v1/agri-probe/ack"),
        ("pattern write agri/v1/+/ack", "can write agri/v1/agri-probe-other/ack"),
        ("pattern write agri/v1/+/senml/#", "can write agri/v1/agri-probe-other/senml/probe"),
        ("pattern write agri/v1/+/raw/#", "can write agri/v1/agri-probe-other/raw/probe"),
        ("pattern readwrite agri/v1/+/cmd", "+/cmd gets agri/v1/agri-probe-other/cmd"),
        ("pattern read agri/v1/+/ack", "+/ack gets agri/v1/agri-probe-other/ack"),
        ("pattern read #", "subscribes to # gets agri/v1/agri-probe-other/ack"),
        ("pattern read $SYS/#", "subscribes to $SYS/# gets $SYS/broker"),
    ],
)
def test_s4_the_probe_finds_each_right_too_many(county, line, said):
    county.deploy()
    county.start()
    acl = (county.out / "agrigate.acl").read_text()
    assert said in refused(county, f"{acl}{line}\n")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("pattern", "agri/v1/agri-probe/up did not arrive"),
        ("pattern write agri/v1/%u/status", "agri/v1/agri-probe/status did not arrive"),
        ("pattern read agri/v1/%u/ack", "does not get its own receipts"),
        ("topic readwrite", "must read what it writes"),
    ],
)
def test_s4_the_probe_finds_each_right_too_few(county, line, said):
    county.deploy()
    county.start()
    acl = (county.out / "agrigate.acl").read_text()
    assert said in refused(county, without(acl, line))


def test_s4_who_is_nobody_is_found_by_the_probe(county):
    county.deploy()
    county.start(county.conf().replace("allow_anonymous false", "allow_anonymous true"))
    assert "a client without a name is let in" in (county.probe()() or "")


def test_s4_a_broker_that_is_not_there_or_not_ours_is_not_proven(county):
    county.deploy()
    assert "nothing listens" in (county.probe()() or "")
    county.start()
    probe = county.probe()
    probe._login = with_password(probe._login, "agri_ingest", "wrong")
    assert "refused user agri_ingest" in (probe() or "")


def test_s4_ingest_keeps_off_until_the_access_list_is_mended(county):
    county.deploy()
    acl = county.out / "agrigate.acl"
    good = acl.read_text()
    acl.write_text(f"{good}pattern write agri/v1/+/ack\n")
    county.start()
    server = ingest_of(county)
    server.running = True
    server.service.start()
    try:
        until(lambda: server.subscriber.refusal)
        assert "can write agri/v1/agri-probe-other/ack" in server.subscriber.refusal
        assert server.subscriber.connected_since_ms is None
        acl.write_text(good)
        county.reload()
        until(lambda: server.subscriber.connected_since_ms is not None)
        assert server.subscriber.refusal is None
        assert server.inbox.damaged(10) == []
    finally:
        server.close()


# ---------------------------------------------------------------- S5


@pytest.mark.parametrize(
    ("username", "password"),
    [
        (None, None),
        ("admin", "public"),
        ("mosquitto", "mosquitto"),
        ("hl-001", "hl-001"),
        ("hl-001", None),
        ("agri_ingest", "agri_ingest"),
        ("+", "+"),
    ],
)
def test_s5_nobody_gets_in_without_a_password_of_ours(delivering, county, username, password):
    login = county.ingest.login
    assert let_in(login)
    assert not let_in(with_password(login, username, password))
    goes_on(delivering)


def test_s5_plaintext_gets_no_answer(delivering, county):
    login = county.ingest.login
    with socket.create_connection((HOST, county.port), timeout=10) as plain:
        plain.sendall(connect_packet(login))
        said = b""
        try:
            while part := plain.recv(100):
                said += part
        except ConnectionError:
            pass
    assert not said.startswith(b"\x20")
    goes_on(delivering)


def test_s5_two_hundred_quick_connects_are_bounded(delivering, county):
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(socket.create_connection((HOST, county.port), timeout=10))
        until(lambda: "max_connections exceeded" in county.log())
        goes_on(delivering)
    until(lambda: let_in(county.ingest.login))


def test_s5_a_connect_that_comes_byte_by_byte_leaves_others_served(delivering, county):
    login = county.ingest.login
    assert login.tls is not None
    plain = socket.create_connection((HOST, county.port), timeout=10)
    with tls_context(login.tls).wrap_socket(plain, server_hostname=HOST) as slow:
        for number, byte in enumerate(connect_packet(login)[:10]):
            slow.send(bytes([byte]))
            delivering.pack(number + 1)
            delivering.receipted(number + 1)
    with socket.create_connection((HOST, county.port), timeout=10) as mute:
        mute.send(b"\x16")  # a TLS record that never goes on
        delivering.pack(11)
        delivering.receipted(11)


# ---------------------------------------------------------------- S6


def publish(topic: bytes, payload: bytes = b"x", *, first: int = 0x32, **more: int) -> bytes:
    return packet(first, text(topic) + b"\x00\x01" + payload, **more)


def goes_on(delivering: Gateway, seq: int = 1) -> None:
    delivering.pack(seq)
    assert delivering.receipted(seq).state is wire.ReceiptState.OK


@pytest.mark.parametrize(
    "poison",
    [
        publish(b"agri/v1/hl-001/up", b"a" * 70_000, announced=268_435_455),
        publish(b"agri/v1/hl-001/up", b"a" * 300_000),
        publish(b"a" * 65_535),
        publish(b"agri/v1/hl-001/up/" + b"a/" * 32_000),
        publish(b"agri/v1/hl-001/\xff\xfe"),
        publish(b"agri/v1/hl-001/\xed\xa0\x80"),
        publish(b"agri/v1/+/up"),
        publish(b"agri/v1/hl-001/#"),
        publish(b"agri/v1/hl-001/up\x00"),
        publish(b""),
        publish(b"agri/v1/hl-001/up", first=0x36),
        packet(0x82, b"\x00\x01" + text(b"agri/#/up") + b"\x01"),
        packet(0xF0, b""),
    ],
    ids=[
        "256 MB announced",
        "larger than max_packet_size",
        "65 kB topic",
        "32,000 levels",
        "topic not UTF-8",
        "topic with a surrogate",
        "plus in a topic",
        "hash in a topic",
        "NUL in a topic",
        "empty topic",
        "QoS 3",
        "hash in the middle of a filter",
        "reserved packet",
    ],
)
def test_s6_a_packet_that_is_none_leaves_the_rest_delivering(delivering, county, poison):
    Raw(county.enrolled["hl-002"]).send_and_close(poison, GOODBYE)
    goes_on(delivering)


def hang_up(subscriber):
    """End the connection under the subscriber, unless it is between two of them already."""
    with contextlib.suppress(OSError):
        subscriber._client.socket().shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("leaf", ["up", "status"])
@pytest.mark.parametrize("payload", [b"", b"{", b"\xff" * 1000, b"agri1 x y z\n"])
def test_s6_retained_poison_is_passed_over(delivering, county, leaf, payload):
    poisoner = Client(county.enrolled["hl-002"])
    assert poisoner.connect()
    poisoner.publish(f"agri/v1/hl-002/{leaf}", payload, retain=True)
    goes_on(delivering)
    server = county.server
    # and it meets the poison again at each new connection
    before = server.subscriber.connected_since_ms
    server.now = NOW + 1
    hang_up(server.subscriber)
    until(lambda: server.subscriber.connected_since_ms not in (None, before))
    goes_on(delivering, 2)
    poisoner.close()
