"""Webhook signatures: Standard Webhooks 1.0.0, symmetric (``v1``, HMAC-SHA256). Pure: the time is an argument."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING

from alerts.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PREFIX = "whsec_"
TOLERANCE_S = 5 * 60
MAX_SIGNATURES = 16  # a header with more is abuse; at most 5 keys live at once


def new_secret() -> str:
    """Return a fresh secret: ``whsec_`` and the base64 of 32 random bytes."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode("ascii")


def key_of(secret: str) -> bytes:
    """Return the key bytes of ``secret``; raise ValueError unless it is ``whsec_`` + base64 of 24 to 64 bytes.

    >>> key_of("whsec_" + "QUJD" * 8)[:3]
    b'ABC'
    """
    if not secret.startswith(PREFIX):
        message = f"a webhook secret starts with {PREFIX}"
        raise ValueError(message)
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError) as exc:
        message = f"a webhook secret is {PREFIX} and base64"
        raise ValueError(message) from exc
    if not 24 <= len(key) <= 64:
        message = f"a webhook secret holds 24 to 64 bytes, this one {len(key)}"
        raise ValueError(message)
    return key


def sign(secret: str, webhook_id: str, timestamp_s: int, body: bytes) -> str:
    """Return the ``webhook-signature`` entry of ``body`` (``v1,`` + base64) for one attempt at ``timestamp_s``."""
    signed = b"%s.%d.%s" % (webhook_id.encode("ascii"), timestamp_s, body)
    mac = hmac.new(key_of(secret), signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(mac).decode("ascii")


def verify(
    secrets_: str | Iterable[str],
    headers: Mapping[str, str],
    body: bytes,
    now_s: float,
    *,
    tolerance_s: int = TOLERANCE_S,
) -> str:
    """Return the webhook id of an authentic request; raise VerificationError for everything else.

    ``headers`` are matched without regard to case; ``body`` is the raw body. One matching ``v1`` signature of any of
    the secrets is enough, entries of other versions are skipped (specs/alerting.md §1, §4).
    """
    lower = {name.lower(): value for name, value in headers.items()}
    try:
        webhook_id, stamp, given = (
            lower[f"webhook-{name}"] for name in ("id", "timestamp", "signature")
        )
    except KeyError as exc:
        message = f"header {exc.args[0]} is missing"
        raise VerificationError(message) from None
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
        message = "webhook-timestamp is not in seconds"
        raise VerificationError(message)
    if not webhook_id.isascii():
        message = "webhook-id is not ASCII"
        raise VerificationError(message)
    keys = [secrets_] if isinstance(secrets_, str) else list(secrets_)
    expected = [sign(key, webhook_id, int(stamp), body).encode("ascii") for key in keys]
    # The text is compared, not its decoded bytes: nothing in a garbage header can fail to decode.
    entries = [entry.encode("utf-8", "replace") for entry in given.split(" ", MAX_SIGNATURES)]
    matches = [hmac.compare_digest(entry, good) for entry in entries for good in expected]
    if not any(matches):
        message = "no signature matches"
        raise VerificationError(message)
    if abs(now_s - int(stamp)) > tolerance_s:
        message = f"webhook-timestamp is more than {tolerance_s} s away"
        raise VerificationError(message)
    return webhook_id
