"""A county with two stations whose broker was deployed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ingest import service, subscriber
from tests.ingest.broker.deployed import County, Gateway, ingest_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriber, "RECONNECT_FIRST_S", 0.02)
    monkeypatch.setattr(subscriber, "RECONNECT_MAX_S", 0.1)
    monkeypatch.setattr(service, "KEYS_EVERY_S", 0.05)


@pytest.fixture
def county(tmp_path: Path) -> Iterator[County]:
    county = County(tmp_path)
    yield county
    county.stop()


@pytest.fixture
def delivering(county: County) -> Iterator[Gateway]:
    """Station hl-001, approved, connected through the deployed broker to a running ingest."""
    login = county.enrol("hl-001")
    county.enrol("hl-002")
    county.deploy("--max-connections", "60")
    county.start()
    county.server = server = ingest_of(county)
    server.approve()
    server.registry.refresh_keys()
    server.start()
    gateway = Gateway(login)
    gateway.status(("01KAAAAAAAAAAAAAAAAAAAAAA1", 1, 0))
    gateway.receipt()
    yield gateway
    gateway.close()
    server.close()
