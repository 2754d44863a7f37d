"""The evidence pack: a zip of parts, a manifest with the hash of each, and an ed25519 signature of the manifest."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alerts.evidence.keys import EvidenceKey

FORMAT = "agrigate-evidence/1"
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the same content gives the same bytes


@dataclass(frozen=True, slots=True)
class Part:
    """One file of the pack."""

    name: str
    content: bytes
    media_type: str = "application/json"


class PartRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part as the manifest names it; ``size`` in bytes."""

    name: str
    sha256: str
    size: int
    media_type: str


class Note(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is not in the pack, or not whole, and why."""

    part: str
    zh: str
    en: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the signature covers; times are UTC ms."""

    format: str
    alert_id: str
    alert_seq: int
    made_ms: int
    incarnation: str
    product: str
    key_id: str
    parts: list[PartRow]
    notes: list[Note] = []


def row_of(part: Part) -> PartRow:
    """Return the manifest's row of ``part``."""
    digest = hashlib.sha256(part.content).hexdigest()
    return PartRow(part.name, digest, len(part.content), part.media_type)


def write(manifest: Manifest, parts: Sequence[Part], key: EvidenceKey) -> bytes:
    """Return the zip: manifest and signature first, then the parts in the manifest's order."""
    signed = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    signature = base64.b64encode(key.private.sign(signed)) + b"\n"
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, content in (
            (MANIFEST, signed),
            (SIGNATURE, signature),
            *((part.name, part.content) for part in parts),
        ):
            info = zipfile.ZipInfo(name, _LONG_AGO)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, content)
    return target.getvalue()
