"""Webhook signatures of Standard Webhooks 1.0.0: symmetric (``v1``, HMAC-SHA256) and asymmetric (``v1a``, ed25519).

Pure: the time is an argument.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from alerts.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

PREFIX = "whsec_"
PRIVATE_PREFIX = "whsk_"
PUBLIC_PREFIX = "whpk_"
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


def new_private_key() -> str:
    """Return a fresh ed25519 key: ``whsk_`` and the base64 of seed and public key (64 bytes)."""
    private = Ed25519PrivateKey.generate()
    content = private.private_bytes_raw() + private.public_key().public_bytes_raw()
    return PRIVATE_PREFIX + base64.b64encode(content).decode("ascii")


def private_key_of(secret: str) -> Ed25519PrivateKey:
    """Return the ed25519 key of ``whsk_…`` (the seed, or seed and public key); raise ValueError for anything else."""
    try:
        content = base64.b64decode(secret.removeprefix(PRIVATE_PREFIX), validate=True)
    except (binascii.Error, ValueError) as exc:
        message = f"a private key is {PRIVATE_PREFIX} and base64"
        raise ValueError(message) from exc
    if not secret.startswith(PRIVATE_PREFIX) or len(content) not in {32, 64}:
        message = f"a private key is {PRIVATE_PREFIX} and 32 or 64 bytes"
        raise ValueError(message)
    return Ed25519PrivateKey.from_private_bytes(content[:32])


def public_of(secret: str) -> str:
    """Return ``whpk_…`` of an ed25519 key; blank for a symmetric one."""
    if not secret.startswith(PRIVATE_PREFIX):
        return ""
    public = private_key_of(secret).public_key().public_bytes_raw()
    return PUBLIC_PREFIX + base64.b64encode(public).decode("ascii")


@dataclass(frozen=True, slots=True)
class Signer:
    """One key that signs from ``created_ms`` until ``ends_ms``; the secret never shows in a representation."""

    key_id: str
    key: bytes | Ed25519PrivateKey = field(repr=False)
    created_ms: int = 0
    ends_ms: int | None = None

    @classmethod
    def of(
        cls, secret: str, key_id: str = "", created_ms: int = 0, ends_ms: int | None = None
    ) -> Signer:
        """Read ``whsec_…`` or ``whsk_…``; raise ValueError for anything else."""
        asymmetric = secret.startswith(PRIVATE_PREFIX)
        key = private_key_of(secret) if asymmetric else key_of(secret)
        return cls(key_id, key, created_ms, ends_ms)

    def lives(self, now_ms: int) -> bool:
        """Tell whether it signs now."""
        return self.ends_ms is None or now_ms < self.ends_ms

    def sign(self, webhook_id: str, timestamp_s: int, body: bytes) -> str:
        """Return one entry of the header: ``v1,`` or ``v1a,`` and base64."""
        signed = b"%s.%d.%s" % (webhook_id.encode("ascii"), timestamp_s, body)
        if isinstance(self.key, bytes):
            mac = hmac.new(self.key, signed, hashlib.sha256).digest()
            return "v1," + base64.b64encode(mac).decode("ascii")
        return "v1a," + base64.b64encode(self.key.sign(signed)).decode("ascii")


def sign_all(signers: Sequence[Signer], webhook_id: str, timestamp_s: int, body: bytes) -> str:
    """Return the ``webhook-signature`` header: one entry for each key, separated by blanks."""
    return " ".join(signer.sign(webhook_id, timestamp_s, body) for signer in signers)


def sign(secret: str, webhook_id: str, timestamp_s: int, body: bytes) -> str:
    """Return the ``webhook-signature`` entry of ``body`` by one key for one attempt at ``timestamp_s``."""
    return Signer.of(secret).sign(webhook_id, timestamp_s, body)


def verify(
    keys: str | Iterable[str],
    headers: Mapping[str, str],
    body: bytes,
    now_s: float,
    *,
    tolerance_s: int = TOLERANCE_S,
) -> str:
    """Return the webhook id of an authentic request; raise VerificationError for everything else.

    ``headers`` are matched without regard to case; ``body`` is the raw body. One signature that matches one of the
    ``keys`` (``whsec_…``, ``whpk_…``) is enough, entries of other versions are skipped (specs/alerting.md §1, §4).
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
    entries = given.split(" ", MAX_SIGNATURES)
    known = [keys] if isinstance(keys, str) else list(keys)
    matches = [_matches(key, entries, webhook_id, int(stamp), body) for key in known]
    if not any(matches):
        message = "no signature matches"
        raise VerificationError(message)
    if abs(now_s - int(stamp)) > tolerance_s:
        message = f"webhook-timestamp is more than {tolerance_s} s away"
        raise VerificationError(message)
    return webhook_id


def _matches(key: str, entries: list[str], webhook_id: str, stamp: int, body: bytes) -> bool:
    if not key.startswith(PUBLIC_PREFIX):
        # The text is compared, not its decoded bytes: nothing in a garbage header can fail to decode.
        expected = sign(key, webhook_id, stamp, body).encode("ascii")
        found = [hmac.compare_digest(e.encode("utf-8", "replace"), expected) for e in entries]
        return any(found)
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key.removeprefix(PUBLIC_PREFIX)))
    for entry in entries:
        version, _, text = entry.partition(",")
        if version != "v1a":
            continue
        try:
            public.verify(base64.b64decode(text, validate=True), _signed(webhook_id, stamp, body))
        except (InvalidSignature, binascii.Error, ValueError):
            continue
        return True
    return False


def _signed(webhook_id: str, timestamp_s: int, body: bytes) -> bytes:
    return b"%s.%d.%s" % (webhook_id.encode("ascii"), timestamp_s, body)
