"""MQTT packets come out whole however the stream is cut, and a copy at QoS 0 says the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.chaos import frames

# MQTT 3.1.1 §3: CONNACK; PUBLISH QoS 1 dup retain "a/b" id 10 "hi"; PUBACK; PINGRESP.
CONNACK = bytes.fromhex("20020000")
PUBLISH = bytes.fromhex("3b090003612f62000a6869")
PUBLISH_QOS0 = bytes.fromhex("30070003612f626869")
PINGRESP = bytes.fromhex("d000")
LONG = b"\x32" + bytes([0x85, 0x80, 0x01]) + b"\x00\x01t\x00\x07" + b"x" * (16389 - 5)
STREAM = [CONNACK, PUBLISH, LONG, PUBLISH_QOS0, PINGRESP, PUBLISH]


@given(st.lists(st.integers(1, len(b"".join(STREAM))), max_size=30))
def test_any_split_gives_the_same_packets(cuts: list[int]) -> None:
    data = b"".join(STREAM)
    splitter = frames.Splitter()
    found: list[bytes] = []
    last = 0
    for cut in [*sorted(cuts), len(data)]:
        found += splitter.feed(data[last:cut])
        last = cut
    assert found == STREAM


def test_byte_by_byte() -> None:
    splitter = frames.Splitter()
    found = [p for byte in b"".join(STREAM) for p in splitter.feed(bytes([byte]))]
    assert found == STREAM


def test_kinds_and_ids() -> None:
    assert frames.kind(PUBLISH) == frames.PUBLISH
    assert frames.kind(CONNACK) == frames.CONNACK
    assert frames.packet_id(PUBLISH) == 10
    assert frames.packet_id(LONG) == 7
    assert frames.packet_id(PUBLISH_QOS0) is None
    assert frames.puback(10) == bytes.fromhex("4002000a")


def test_a_copy_at_qos_0_keeps_topic_payload_and_retain() -> None:
    assert frames.as_qos0(PUBLISH) == bytes.fromhex("31070003612f626869")
    assert frames.as_qos0(PUBLISH_QOS0) == PUBLISH_QOS0
    assert frames.Splitter().feed(frames.as_qos0(LONG)) == [frames.as_qos0(LONG)]
    assert len(frames.as_qos0(LONG)) == len(LONG) - 2


@pytest.mark.parametrize("garbage", [b"\x30\xff\xff\xff\xff\x01", b"\x30\xff\xff\xff\x7f"])
def test_what_is_no_mqtt_is_said(garbage: bytes) -> None:
    with pytest.raises(frames.NotMqttError):
        frames.Splitter().feed(garbage)
