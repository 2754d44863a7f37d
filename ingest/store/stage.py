"""The store as a consumer of the inbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ingest.batch import Batch
    from ingest.store.reading_store import ReadingStore


class StoreStage:
    """Implements ``consumers.Stage`` on a store, whose transaction holds the cursor."""

    def __init__(self, store: ReadingStore) -> None:
        self._store = store

    def cursor(self) -> int:
        """Inbox position of the last pack stored."""
        return self._store.cursor()

    def handle(self, batch: Batch) -> None:
        """Append the batch and move the cursor."""
        self._store.append(batch)
