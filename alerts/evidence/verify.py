"""Checking an evidence pack with nothing but the file and a public key."""

from __future__ import annotations

import base64
import binascii
import hashlib
import zipfile
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from alerts.chain import LogRow
from alerts.evidence.pack import FORMAT, MANIFEST, SIGNATURE, Manifest

if TYPE_CHECKING:
    from pathlib import Path

MAX_PART = 64 * 1024 * 1024  # bytes; a part that claims more is refused before it is unpacked
MAX_PARTS = 2_000
_CHUNK = 1 << 20


@dataclass(slots=True)
class Outcome:
    """What was found; the pack is good when ``faults`` is empty. A fault begins with the name of its part."""

    manifest: Manifest | None = None
    faults: list[str] = field(default_factory=list)
    checked: int = 0  # parts whose hash is right


def public_key(text: str) -> Ed25519PublicKey:
    """Read a public key: PEM, or base64 of its 32 bytes; raise ValueError for anything else."""
    if "BEGIN" in text:
        key = serialization.load_pem_public_key(text.encode())
        if not isinstance(key, Ed25519PublicKey):
            raise ValueError("not an ed25519 public key")
        return key
    try:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(text.strip(), validate=True))
    except (binascii.Error, ValueError) as exc:
        raise ValueError("not a public key: PEM or base64 of 32 bytes") from exc


def verify(file: Path, key: Ed25519PublicKey) -> Outcome:
    """Check signature, hashes, that nothing is missing or beside it, and the hashes of the alert's log."""
    outcome = Outcome()
    try:
        with zipfile.ZipFile(file) as archive:
            _verify(archive, key, outcome)
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError) as exc:
        outcome.faults.append(f"{file.name}: {exc}")
    return outcome


def _verify(archive: zipfile.ZipFile, key: Ed25519PublicKey, outcome: Outcome) -> None:
    names = [info.filename for info in archive.infolist()]
    if len(names) > MAX_PARTS or len(set(names)) != len(names):
        outcome.faults.append("zip: too many parts, or two of one name")
        return
    for name in (MANIFEST, SIGNATURE):
        if name not in names:
            outcome.faults.append(f"{name}: missing")
            return
    manifest = _signed_manifest(archive, key, outcome)
    if manifest is None:
        return
    outcome.manifest = manifest
    known = {row.name for row in manifest.parts}
    beside = set(names) - known - {MANIFEST, SIGNATURE}
    outcome.faults += [f"{name}: not in the manifest" for name in sorted(beside)]
    outcome.faults += [f"{name}: missing" for name in sorted(known - set(names))]
    for row in manifest.parts:
        content = _read(archive, row.name, outcome) if row.name in names else None
        if content is None:
            continue
        if hashlib.sha256(content).hexdigest() != row.sha256:
            outcome.faults.append(f"{row.name}: changed; its SHA-256 is not the manifest's")
            continue
        outcome.checked += 1
        if row.name == "transitions.json":
            _check_log(content, outcome)


def _signed_manifest(
    archive: zipfile.ZipFile, key: Ed25519PublicKey, outcome: Outcome
) -> Manifest | None:
    signed, given = _read(archive, MANIFEST, outcome), _read(archive, SIGNATURE, outcome)
    if signed is None or given is None:
        return None
    try:
        key.verify(base64.b64decode(given.strip(), validate=True), signed)
        manifest = msgspec.json.decode(signed, type=Manifest)
    except binascii.Error:
        outcome.faults.append(f"{SIGNATURE}: not base64")
        return None
    except InvalidSignature:
        outcome.faults.append(
            f"{MANIFEST} or {SIGNATURE}: changed, or signed with another key than this one"
        )
        return None
    except msgspec.MsgspecError as exc:
        outcome.faults.append(f"{MANIFEST}: {exc}")
        return None
    if manifest.format != FORMAT:
        outcome.faults.append(f"{MANIFEST}: format {manifest.format}, this program reads {FORMAT}")
        return None
    return manifest


def _read(archive: zipfile.ZipFile, name: str, outcome: Outcome) -> bytes | None:
    """Return a part; None, with a fault, when it is damaged or too large. The size is counted, not believed."""
    content = bytearray()
    try:
        with archive.open(name) as part:
            while chunk := part.read(_CHUNK):
                content += chunk
                if len(content) > MAX_PART:
                    outcome.faults.append(f"{name}: larger than {MAX_PART >> 20} MB")
                    return None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as exc:
        outcome.faults.append(f"{name}: damaged: {exc}")
        return None
    return bytes(content)


def _check_log(content: bytes, outcome: Outcome) -> None:
    try:
        rows = msgspec.json.decode(content, type=list[LogRow])
    except msgspec.MsgspecError as exc:
        outcome.faults.append(f"transitions.json: {exc}")
        return
    for place, row in enumerate(rows, 1):
        if row.hash != row.computed_hash():
            outcome.faults.append(f"transitions.json: row {row.seq} does not have its own hash")
        if row.seq != place:
            outcome.faults.append(f"transitions.json: row {place} has number {row.seq}")
