"""Packs, bodies, receipts and status as bytes."""

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from drivers.records import Reading
from gateway import keys, wire
from gateway.wire import Body, EpochState, Lane, Lost, LostReason, WireError

EPOCH = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
paths = st.sampled_from(["plot3/soil1", "canal/ph", "w"])
readings = st.builds(
    Reading,
    paths,
    st.sampled_from(["soil_ph", "water_ph"]),
    st.integers(0, 4_102_444_800_000),
    st.floats(allow_nan=False, allow_infinity=False),
)


def unbase(body: Body) -> list[tuple[str, int, float | None]]:
    """Resolve base name and base time by the letter of RFC 8428 (a second opinion, not ours)."""
    resolved, name, time = [], "", 0.0
    for record in body.readings or []:
        name = record.bn if record.bn is not None else name
        time = record.bt if record.bt is not None else time
        resolved.append((name + record.n, round((time + record.t) * 1000), record.v))
    return resolved


@given(st.lists(readings, min_size=1, max_size=20))
def test_readings_survive_to_the_last_bit(given_readings: list[Reading]) -> None:
    body = wire.decode_body(wire.encode_readings(given_readings))
    expected = [(f"{r.device}/{r.indicator}", r.t_ms, r.value) for r in given_readings]
    assert unbase(body) == expected


def test_a_failed_reading_has_q_and_no_v() -> None:
    raw = wire.encode_readings([Reading("a", "soil_ph", 0, None, "bad:nan")])
    assert b'"q":"bad:nan"' in raw
    assert b'"v"' not in raw


@given(st.binary(max_size=300), st.integers(1, 10**9), st.data())
def test_pack_round_trip(body: bytes, seq: int, data: st.DataObject) -> None:
    oldest = data.draw(st.integers(1, seq))
    pack = wire.decode_pack(wire.encode_pack(EPOCH, seq, oldest, 7, body))
    assert (pack.epoch, pack.seq, pack.oldest, pack.sent_ms, pack.body) == (
        EPOCH,
        seq,
        oldest,
        7,
        body,
    )


def test_header_is_as_the_design_prints_it() -> None:
    body = b'{"readings":[]}'
    digest = hashlib.sha256(body).hexdigest()[:16]
    expected = f"agri1 {EPOCH} 5 2 99 15 {digest}\n".encode() + body
    assert wire.encode_pack(EPOCH, 5, 2, 99, body) == expected


GOOD = wire.encode_pack(EPOCH, 5, 2, 99, b"{}")


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        (b"", "header"),
        (b"x" * 1000, "header"),
        (GOOD.replace(b"agri1", b"agri2"), "header"),
        (GOOD.replace(b" 99 ", b" 99  "), "header"),
        (GOOD.replace(EPOCH.encode(), b"not-a-ulid"), "header.epoch"),
        (GOOD.replace(b" 5 2 ", b" five 2 "), "header.seq"),
        (GOOD.replace(b" 5 2 ", b" 5 6 "), "header.oldest"),
        (GOOD.replace(b" 5 2 ", b" 0 0 "), "header.oldest"),
        (GOOD[:-1], "header.len"),
        (GOOD + b"}", "header.len"),
        (GOOD[:-1] + b"!", "header.hash"),
        (wire.encode_pack(EPOCH, 1, 1, 1, b" " * (300 * 1024)), "body"),
    ],
)
def test_damaged_packs_name_the_field(payload: bytes, field: str) -> None:
    with pytest.raises(WireError) as caught:
        wire.decode_pack(payload)
    assert caught.value.field == field


@given(st.binary(max_size=400))
def test_garbage_raises_only_wire_error(payload: bytes) -> None:
    for decode in (wire.decode_pack, wire.decode_body, wire.decode_receipt, wire.decode_status):
        with pytest.raises(WireError):
            decode(payload)


@pytest.mark.parametrize(
    "body",
    [b"{}", b'{"readings":[],"tests":[]}', b'{"readings":[{"n":"x","v":NaN}]}', b"\xff\xfe{}"],
)
def test_bodies_that_are_none(body: bytes) -> None:
    with pytest.raises(WireError):
        wire.decode_body(body)


def test_unknown_keys_are_ignored() -> None:
    body = wire.decode_body(b'{"readings":[{"n":"soil_ph","v":1,"new":1}],"later":{}}')
    assert body.readings is not None
    assert body.readings[0].v == 1.0


def test_lost_uses_the_words_of_the_design() -> None:
    raw = wire.encode_lost(Lost(3, 9, 120, LostReason.CAP))
    assert raw == b'{"lost":{"from":3,"through":9,"readings":120,"reason":"cap"}}'
    assert wire.peek_lost(raw) == Lost(3, 9, 120, LostReason.CAP)
    assert wire.peek_lost(b'{"readings":[]}') is None


@pytest.mark.parametrize("code", ["ab", "Upper", "a/b", "-abc", "a" * 41, "a b c"])
def test_topics_of_bad_station_codes_are_refused(code: str) -> None:
    with pytest.raises(WireError, match="topic"):
        wire.split_topic(f"agri/v1/{code}/up")


def test_status_signature_covers_station_session_and_epochs() -> None:
    key = Ed25519PrivateKey.generate()
    lanes = {Lane.READINGS: [EpochState(EPOCH, 1, 4)]}
    message = wire.status_signing_bytes("hl-001", "S", lanes)
    assert message == b'["hl-001","S",[["readings","01ARZ3NDEKTSV4RRFFQ69G5FAV",1,4]]]'
    signature = keys.sign(key, message)
    public = keys.public_text(key)
    assert keys.verify(public, signature, message)
    for other in (
        wire.status_signing_bytes("hl-002", "S", lanes),
        wire.status_signing_bytes("hl-001", "T", lanes),
        wire.status_signing_bytes("hl-001", "S", {Lane.READINGS: [EpochState(EPOCH, 2, 4)]}),
    ):
        assert not keys.verify(public, signature, other)
    assert not keys.verify(public, "garbage", message)
    assert not keys.verify(base64.b64encode(b"short").decode(), signature, message)
