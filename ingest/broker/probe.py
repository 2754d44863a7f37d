"""The proof that a broker keeps stations apart, tried anew before ingest trusts a connection.

A denied publish is silent, so each proof is by what arrives: what must arrive is waited for, and only then does what
did not arrive count as held back. Topics are those of two stations that never exist; nothing is retained.
"""

from __future__ import annotations

import secrets
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import paho.mqtt.client as mqtt
import structlog
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

from gateway import broker_faults, wire
from gateway.broker import tls_context

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

    from gateway.broker import BrokerLogin

BUDGET_S = 5.0  # for everything; a broker near by needs half a second
STEP_S = 0.05
GRACE_S = 0.2  # for brokers that do not deliver in the order they took
KEEPALIVE_S = 5  # also the bound of a TLS handshake
SIDE_BY_SIDE = 8
PUBLISHERS = ("senml/probe", "raw/probe")

log = structlog.get_logger()

CHECK = 'check the broker\'s access list ("agrigate deploy mosquitto" writes one)'


class _UnprovenError(Exception):
    """A step did not come to its end, so it proves nothing; the message says which."""


class AccessProbe:
    """Called before each connection of ingest: None when the broker keeps stations apart, else why not.

    ``probe`` is the login of a station without instruments; its user name is the station's code. With ``publishers``
    the topics of devices without an agent are tried, too; an access list that does not know them yet is no refusal,
    but said.
    """

    def __init__(
        self,
        login: BrokerLogin,
        probe: BrokerLogin,
        *,
        publishers: bool = False,
        budget_s: float = BUDGET_S,
    ) -> None:
        # Where every client needs a certificate, the probe shows ingest's: names come from passwords.
        if probe.tls is None or not probe.tls.certificate_pem:
            probe = replace(probe, tls=login.tls)
        self._login = login
        self._probe = probe
        self._publishers = publishers
        self._budget_s = budget_s
        self.deaf_to: tuple[str, ...] = ()
        """Topics of publishers that do not reach ingest, as the last proof found."""

    def __call__(self) -> str | None:
        """Try it all; takes at most a little longer than the budget, and never raises for a broker's doing."""
        leaves = PUBLISHERS if self._publishers else ()
        trial = _Trial(self._login, self._probe, time.monotonic() + self._budget_s, leaves)
        try:
            refusal = trial.run()
        except _UnprovenError as exc:
            return f"the broker's access control is not proven: {exc}"
        if trial.deaf_to and not self.deaf_to:
            log.warning("publishers_not_heard", topics=list(trial.deaf_to), todo=CHECK)
        self.deaf_to = trial.deaf_to
        return refusal


class _Trial:
    """One run: listens as ingest, tries as a station."""

    def __init__(
        self, login: BrokerLogin, probe: BrokerLogin, deadline: float, publishers: Sequence[str]
    ) -> None:
        self.deaf_to: tuple[str, ...] = ()
        self._publishers = publishers  # leaves
        self._login = login
        self._probe = probe
        self._deadline = deadline
        self._nonce = secrets.token_hex(8)
        self._mine = probe.username or ""
        self._other = f"{self._mine}-other"

    def run(self) -> str | None:
        forbidden = [
            self._topic(self._mine, "ack"),
            *(self._topic(self._other, leaf) for leaf in ("up", "status", "ack", "cmd")),
        ]
        wills = [self._topic(self._other, "status"), self._topic(self._mine, "ack")]
        filters = [
            "#",
            "$SYS/#",
            f"{wire.TOPIC_ROOT}/+/ack",
            f"{wire.TOPIC_ROOT}/+/cmd",
            self._topic(self._other, "ack"),
            self._topic(self._other, "up"),
        ]
        forbidden += [self._topic(self._other, leaf) for leaf in self._publishers]
        wills += [self._topic(self._other, leaf) for leaf in self._publishers]
        allowed = [self._topic(self._mine, leaf) for leaf in self._publishers]
        listener = self._open(self._login, "listener")
        aside: _Connection | None = None
        readers: list[_Connection] = []
        try:
            self._subscribe_listener(listener)
            aside = self._listen_aside()
            readers = self._open_readers(filters)
            with ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix="access-probe") as pool:
                trials: list[Callable[[], object]] = [
                    *(lambda topic=topic: self._try_publish(topic) for topic in forbidden),
                    *(lambda topic=topic: self._try_will(topic) for topic in wills),
                    *(lambda topic=topic: self._try_publish(topic, "own") for topic in allowed),
                    self._strangers,
                ]
                outcomes = [pool.submit(trial) for trial in trials]
            for outcome in outcomes:
                outcome.result()
            self._fence(listener)
            self._receipts(listener, readers, aside)
            heard = [*listener.heard, *(aside.heard if aside else ())]
            self.deaf_to = tuple(t for t in allowed if (t, self._text(f"own {t}")) not in heard)
            return self._verdict(heard, filters, readers)
        finally:
            listener.close()
            if aside is not None:
                aside.close()
            for reader in readers:
                reader.close()

    # ---- what ingest hears

    def _subscribe_listener(self, listener: _Connection) -> None:
        topics = [self._topic(self._mine, leaf) for leaf in ("up", "status", "ack")]
        topics += [self._topic(self._other, leaf) for leaf in ("up", "status", "ack")]
        listener.must_subscribe(topics)

    def _listen_aside(self) -> _Connection | None:
        """Listen to publishers on a connection of its own: an access list may not know them, and hang up."""
        if not self._publishers:
            return None
        aside = self._open(self._login, "publishers")
        stations = (self._mine, self._other)
        topics = [self._topic(one, leaf) for one in stations for leaf in self._publishers]
        if aside.subscribe([self._topic(self._mine, "ack")]):
            aside.subscribe(topics)
        return aside

    def _fence(self, listener: _Connection) -> None:
        """Wait until what a station may do has arrived; whatever it did before has then arrived, too."""
        up, will = self._topic(self._mine, "up"), self._topic(self._mine, "status")
        station = self._open(self._probe, "fence")
        try:
            station.publish(up, self._text(f"fence {up}"))
        finally:
            station.close()
        listener.wait_for(
            up, self._text(f"fence {up}"), "a station's own topic does not reach ingest"
        )
        if not self._try_will(will):
            raise _UnprovenError(f"{self._mine} may not have its will on {will}; {CHECK}")
        listener.wait_for(
            will, self._text(f"will {will}"), "the will of a station does not reach ingest"
        )

    def _receipts(
        self, listener: _Connection, readers: Sequence[_Connection], aside: _Connection | None
    ) -> None:
        """Send a receipt to the other station, then one to the probe: whoever hears the second has had the first."""
        texts = {station: self._text(f"receipt {station}") for station in (self._other, self._mine)}
        for station, text in texts.items():
            topic = self._topic(station, "ack")
            listener.publish(topic, text)
            # Without this nothing would show that somebody else wrote there.
            listener.wait_for(topic, text, f"{listener.user} must read what it writes")
        own = self._topic(self._mine, "ack"), texts[self._mine]
        readers[0].wait_for(*own, "a station does not get its own receipts")
        others = [*readers[1:], *([aside] if aside else ())]
        for reader in others:
            reader.wait_or_close(*own)
        listener.drain(GRACE_S)
        for reader in (readers[0], *others):
            reader.drain(0.0)

    def _verdict(
        self,
        heard: Sequence[tuple[str, str]],
        filters: Sequence[str],
        readers: Sequence[_Connection],
    ) -> str | None:
        faults = []
        for topic, payload in heard:
            kind, _, about = payload.removeprefix(f"{self._nonce} ").partition(" ")
            if about == topic and kind == "forged":
                faults.append(f"a station can write {topic}")
            elif kind == "will" and topic != self._topic(self._mine, "status"):
                faults.append(f"a station can have its will on {topic}")
        own = self._topic(self._mine, "")
        for filter_, reader in zip(filters, readers[1:], strict=True):
            foreign = next((topic for topic, _ in reader.heard if not topic.startswith(own)), None)
            if foreign is not None:
                faults.append(f"a station that subscribes to {filter_} gets {foreign}")
        return f"{'; '.join(sorted(set(faults)))}: {CHECK}" if faults else None

    # ---- what a station tries

    def _open_readers(self, filters: Sequence[str]) -> list[_Connection]:
        """Subscribe to what is not its own, one connection each: some brokers hang up on who asks."""
        own = self._topic(self._mine, "ack")
        readers: list[_Connection] = []
        try:
            readers.append(self._open(self._probe, "reader"))
            for number, _ in enumerate(filters):
                readers.append(self._open(self._probe, f"reader-{number}"))
            for reader in readers:
                reader.must_subscribe([own])
            for filter_, reader in zip(filters, readers[1:], strict=True):
                reader.subscribe([filter_])
        except _UnprovenError:
            for reader in readers:
                reader.close()
            raise
        return readers

    def _try_publish(self, topic: str, kind: str = "forged") -> None:
        """Publish where a station may not; the broker says yes, says no or hangs up: only the listener knows."""
        station = self._open(self._probe, f"forger-{secrets.token_hex(2)}")
        try:
            station.publish(topic, self._text(f"{kind} {topic}"), may_close=True)
        finally:
            station.close()

    def _try_will(self, topic: str) -> bool:
        """Connect with a will on ``topic`` and vanish; False when the broker did not let it in like that."""
        station = self._connection(self._probe, f"will-{secrets.token_hex(2)}")
        station.will(topic, self._text(f"will {topic}"))
        try:
            welcome = station.open()
            if welcome:
                station.vanish()
        finally:
            station.close()
        return welcome

    def _strangers(self) -> None:
        wrong = secrets.token_hex(16)
        for who, login in (
            ("a client without a name", replace(self._probe, username=None, password=None)),
            ("a client with a wrong password", replace(self._probe, password=wrong)),
            ("a client with ingest's name and no password", replace(self._login, password=None)),
        ):
            stranger = self._connection(login, f"stranger-{secrets.token_hex(2)}")
            try:
                if stranger.open():
                    raise _UnprovenError(
                        f"{who} is let in: set allow_anonymous false and password_file at the broker"
                    )
            finally:
                stranger.close()

    # ---- small parts

    def _topic(self, station: str, leaf: str) -> str:
        return f"{wire.TOPIC_ROOT}/{station}/{leaf}"

    def _text(self, what: str) -> str:
        return f"{self._nonce} {what}"

    def _connection(self, login: BrokerLogin, name: str) -> _Connection:
        return _Connection(login, f"agrigate-probe-{self._nonce}-{name}", self._deadline)

    def _open(self, login: BrokerLogin, name: str) -> _Connection:
        connection = self._connection(login, name)
        welcome = False
        try:
            welcome = connection.open()
        finally:
            if not welcome:
                connection.close()
        if not welcome:
            raise _UnprovenError(connection.refusal)
        return connection


class _Connection:
    """One MQTT connection that runs in the caller's thread; every wait ends at ``deadline``."""

    def __init__(self, login: BrokerLogin, client_id: str, deadline: float) -> None:
        self.user = login.username or "an anonymous client"
        self.heard: list[tuple[str, str]] = []
        self.refusal = ""
        self.closed = False
        self._login = login
        self._deadline = deadline
        self._connack: ReasonCode | None = None
        self._fault: broker_faults.Fault | None = None
        self._granted: dict[int, list[ReasonCode]] = {}
        self._acknowledged: set[int] = set()
        self._client = client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5
            if login.protocol == "5"
            else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )
        client.username_pw_set(login.username, login.password)
        if login.tls is not None:
            client.tls_set_context(tls_context(login.tls))
            client.on_log = self._on_log
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_message = self._on_message

    def will(self, topic: str, payload: str) -> None:
        self._client.will_set(topic, payload, qos=1)

    def open(self) -> bool:
        """Connect; False when the broker answers that it will not."""
        self._client.connect_timeout = max(0.1, self._left_s())
        try:
            self._client.connect(self._login.host, self._login.port, keepalive=KEEPALIVE_S)
        except (OSError, ValueError) as exc:
            raise _UnprovenError(broker_faults.of_connect(exc, self._login).text) from exc
        silence = broker_faults.of_silence(self._login, closed=False)
        self._pump(lambda: self._connack is not None, silence.text)
        if self._connack is None:
            fault = self._fault or broker_faults.of_silence(self._login, closed=True)
            raise _UnprovenError(fault.text)
        if self._connack.is_failure:
            code, name = self._connack.value, str(self._connack)
            self.refusal = broker_faults.of_refusal(code, name, self._login).text
            return False
        return True

    def subscribe(self, topics: Sequence[str]) -> bool:
        """Subscribe with QoS 1; False when one is not granted, or when the broker hangs up on it."""
        _, mid = self._client.subscribe([(topic, 1) for topic in topics])
        if mid is None:
            return False
        self._pump(lambda: mid in self._granted, f"no answer to a subscription to {topics[0]}")
        reasons = self._granted.get(mid, [])
        return bool(reasons) and not any(reason.is_failure for reason in reasons)

    def must_subscribe(self, topics: Sequence[str]) -> None:
        if not self.subscribe(topics):
            raise _UnprovenError(f"{self.user} may not subscribe to {', '.join(topics)}; {CHECK}")

    def publish(self, topic: str, payload: str, *, may_close: bool = False) -> None:
        """Publish with QoS 1 and wait until the broker has answered, or hung up where it may."""
        mid = self._client.publish(topic, payload, qos=1).mid
        self._pump(lambda: mid in self._acknowledged, f"no answer to a message on {topic}")
        if self.closed and not may_close:
            raise _UnprovenError(f"the broker hangs up on {self.user} that writes {topic}; {CHECK}")

    def wait_for(self, topic: str, payload: str, todo: str) -> None:
        self.wait_or_close(topic, payload, todo)
        if (topic, payload) not in self.heard:
            raise _UnprovenError(f"the broker hung up before {topic} arrived: {todo}; {CHECK}")

    def wait_or_close(self, topic: str, payload: str, todo: str = "") -> None:
        self._pump(
            lambda: (topic, payload) in self.heard, f"{topic} did not arrive: {todo}; {CHECK}"
        )

    def drain(self, for_s: float) -> None:
        """Take what still comes."""
        end = time.monotonic() + for_s
        while not self.closed:
            self._loop(max(0.0, min(STEP_S, end - time.monotonic())))
            if time.monotonic() >= end:
                return

    def vanish(self) -> None:
        """Break the connection without a goodbye."""
        sock = self._client.socket()
        if isinstance(sock, socket.socket):
            sock.shutdown(socket.SHUT_RDWR)
        self._pump(lambda: False, "the connection does not end")

    def close(self) -> None:
        client = self._client
        if client.socket() is not None:
            client.disconnect()
            self._loop(0.0)
        # Without the circle to this object the client closes its sockets as soon as nobody holds it.
        client.on_connect = client.on_subscribe = client.on_publish = None
        client.on_message = client.on_log = None

    def _left_s(self) -> float:
        return self._deadline - time.monotonic()

    def _pump(self, done: Callable[[], bool], otherwise: str) -> None:
        """Run the connection until ``done`` or until it is closed; raise _UnprovenError at the deadline."""
        while not done() and not self.closed:
            if self._left_s() <= 0:
                raise _UnprovenError(otherwise)
            self._loop(STEP_S)

    def _loop(self, timeout_s: float) -> None:
        if self._client.loop(timeout_s) is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            self.closed = True

    def _on_connect(
        self,
        _client: mqtt.Client,
        _userdata: object,
        _flags: mqtt.ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._connack = reason

    def _on_log(self, _client: mqtt.Client, _userdata: object, _level: int, line: str) -> None:
        self._fault = broker_faults.of_log(line, self._login) or self._fault

    def _on_subscribe(
        self,
        _client: mqtt.Client,
        _userdata: object,
        mid: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        self._granted[mid] = reasons

    def _on_publish(
        self,
        _client: mqtt.Client,
        _userdata: object,
        mid: int,
        _reason: ReasonCode,
        _properties: Properties,
    ) -> None:
        self._acknowledged.add(mid)

    def _on_message(
        self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage
    ) -> None:
        self.heard.append((message.topic, bytes(message.payload).decode("utf-8", "replace")))
