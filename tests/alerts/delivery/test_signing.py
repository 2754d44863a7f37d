"""Standard Webhooks signatures against the public verifier, and garbage of every kind."""

from __future__ import annotations

import base64
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from alerts.delivery.signing import TOLERANCE_S, key_of, new_secret, sign, verify
from alerts.errors import VerificationError

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
NOW = 1_763_900_000


def headers(
    body: bytes, *, secret: str = SECRET, at: int = NOW, webhook_id: str = "evt_1_a"
) -> dict[str, str]:
    return {
        "Webhook-Id": webhook_id,
        "Webhook-Timestamp": str(at),
        "Webhook-Signature": sign(secret, webhook_id, at, body),
    }


def test_known_answer_of_the_specification() -> None:
    # The example of the Standard Webhooks 1.0.0 text.
    body = b'{"test": 2432232314}'
    signature = sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_public_package_verifies_what_we_sign() -> None:
    body = '{"data":"超标"}'.encode()
    now = int(time.time())
    assert Webhook(SECRET).verify(body, headers(body, at=now)) == {"data": "超标"}


def test_we_verify_what_we_sign_and_name_the_id() -> None:
    assert verify(SECRET, headers(b"x"), b"x", NOW) == "evt_1_a"


def test_one_of_several_secrets_and_signatures_is_enough() -> None:
    other = new_secret()
    both = headers(b"x", secret=other)
    both["Webhook-Signature"] = f"v1a,AAAA {both['Webhook-Signature']}"
    assert verify([SECRET, other], both, b"x", NOW) == "evt_1_a"
    with pytest.raises(VerificationError):
        verify(SECRET, both, b"x", NOW)


def test_new_secrets_are_fresh_and_long() -> None:
    assert len(key_of(new_secret())) == 32
    assert new_secret() != new_secret()


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_AAAA", "whsec_!!!", "abc", "whsec_超"])
def test_bad_secrets_are_refused(secret: str) -> None:
    with pytest.raises(ValueError, match="secret"):
        key_of(secret)


@pytest.mark.parametrize("age", [-TOLERANCE_S - 1, TOLERANCE_S + 1])
def test_time_outside_the_tolerance_is_refused(age: int) -> None:
    with pytest.raises(VerificationError, match="timestamp"):
        verify(SECRET, headers(b"x", at=NOW - age), b"x", NOW)
    verify(SECRET, headers(b"x", at=NOW - TOLERANCE_S), b"x", NOW)


@pytest.mark.parametrize("missing", ["Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"])
def test_missing_header_is_refused(missing: str) -> None:
    given_headers = headers(b"x")
    del given_headers[missing]
    with pytest.raises(VerificationError, match=missing.lower()):
        verify(SECRET, given_headers, b"x", NOW)


def test_edited_body_and_swapped_id_are_refused() -> None:
    with pytest.raises(VerificationError):
        verify(SECRET, headers(b"x"), b"y", NOW)
    with pytest.raises(VerificationError):
        verify(SECRET, {**headers(b"x"), "Webhook-Id": "evt_2_a"}, b"x", NOW)


@given(signature=st.text(), stamp=st.one_of(st.text(), st.just(str(NOW))), webhook_id=st.text())
def test_garbage_raises_only_verification_errors(
    signature: str, stamp: str, webhook_id: str
) -> None:
    given_headers = {
        "webhook-id": webhook_id,
        "webhook-timestamp": stamp,
        "webhook-signature": signature,
    }
    with pytest.raises(VerificationError):
        verify(SECRET, given_headers, b"x", NOW)


@given(cut=st.integers(0, 46))
def test_truncated_signature_is_refused(cut: int) -> None:
    short = headers(b"x")
    short["Webhook-Signature"] = short["Webhook-Signature"][:cut]
    with pytest.raises(VerificationError):
        verify(SECRET, short, b"x", NOW)
