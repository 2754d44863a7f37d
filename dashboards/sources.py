"""What the composition root hands to the dashboards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from alerts.delivery.guard import Guard
from ingest.store.levels import Retention

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from alerts.evidence.keys import EvidenceKeys
    from alerts.vault import Vault
    from dashboards.signal import EventSignal
    from dashboards.standards import Standards
    from ingest.backup import Manifest
    from ingest.batch import Series
    from ingest.inbox import DamagedMessage, StoredPack
    from ingest.intake import Loss
    from ingest.judge.readings.spans import LimitSpan
    from ingest.operational import Operational
    from ingest.registry.enrolment import Site
    from ingest.store.reading_store import ReadingStore


class Inbox(Protocol):
    """The durable log of packs, as far as it is read here; safe to call from several threads."""

    def pack(self, station: str, epoch: str, seq: int) -> StoredPack | None:
        """Return one pack, None when it never came or its retention is over."""
        ...

    def losses(self, station: str | None) -> Sequence[Loss]:
        """Return what was lost at one station, or at all."""
        ...

    def damaged(self, limit: int) -> Sequence[DamagedMessage]:
        """Return the newest messages that were no packs."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What each process answers a supervisor and Prometheus from, whatever its role."""

    operational: Operational
    metrics: Callable[[], str]
    """Text for ``/metrics``, Prometheus format."""
    ready: Callable[[], list[str]]
    """Reasons why the server is not ready; empty when it is."""
    loopback_only_reads: bool
    """True (bound to loopback): reads need no key from loopback. False: every read needs a key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources(Health):
    """Everything that the API reads from or calls, from several threads."""

    readings: ReadingStore
    inbox: Inbox
    limits: Callable[[Series, int, int], Sequence[LimitSpan]]
    """Limits of a series in start ≤ t < end (UTC ms)."""
    names: Callable[[str], tuple[str, str]]
    """Chinese and English name of an indicator code or of a test's parameter (``names.names_of``)."""
    products: Callable[[str], str]
    """English name of a product, empty when unknown (``names.product_names_of``)."""
    standards: Standards
    """The catalogue that readings and tests are judged by."""
    now_ms: Callable[[], int]
    wake: EventSignal
    """Notified after each operational transaction."""
    wake_sender: Callable[[], None]
    """Called after an acknowledgement or dismissal was committed."""
    retention: Retention = field(default_factory=Retention)
    """What of the readings and their roll-ups may be gone."""
    windows_changed: Callable[[], None] = lambda: None
    """Called after a window of maintenance or calibration was committed."""
    back_up: Callable[[str], Manifest] | None = None
    """Writes a backup to a directory (``backup.Backups.write``)."""
    site: Site | None = None
    """How stations reach the broker; without it none can be enrolled."""
    vault: Vault | None = None
    """Seals what is secret in a table; without it nothing that has a secret can be made."""
    guard: Guard = field(default_factory=Guard)
    """Where requests of ours may go."""
    evidence_keys: EvidenceKeys | None = None
    """The keys that sign evidence packs."""
