"""The thread that has the store maintained: it goes on after what passes, and ends the process after what does not."""

from __future__ import annotations

import threading

import pytest
from structlog.testing import capture_logs

from ingest.batch import Series
from ingest.store.reading_store import Kept
from ingest.upkeep import StoreUpkeep

KEEP = [Kept(Series("hl-001", "soil1", "soil_cd"), 1, 2)]


class Store:
    """Fails with each of ``errors`` in turn, then works."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls: list[tuple] = []
        self.worked = threading.Event()

    def maintain(self, now_ms, keep) -> None:
        self.calls.append((now_ms, keep))
        if self.errors:
            raise self.errors.pop(0)
        self.worked.set()


def upkeep(store, failed):
    return StoreUpkeep(
        store,
        lambda: KEEP,
        now_ms=lambda: 7,
        transient=(OSError,),
        on_failure=failed,
        every_s=0.001,
    )


def test_it_tries_again_after_what_passes_and_says_so_once():
    store = Store(OSError("full"), OSError("full"))
    thread = upkeep(store, lambda: None)
    with capture_logs() as logs:
        thread.start()
        assert store.worked.wait(10)
        thread.stop()
    assert [entry["event"] for entry in logs] == ["store_not_maintained", "store_maintained_again"]
    assert store.calls[0] == (7, KEEP)
    assert thread.failure is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_of_ours_is_reported():
    failed = threading.Event()
    thread = upkeep(Store(ValueError("ours")), failed.set)
    thread.start()
    assert failed.wait(10)
    thread.stop()
    assert isinstance(thread.failure, ValueError)
