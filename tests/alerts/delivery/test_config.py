"""Endpoints as configured: every fault at once, and no address that hides what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from alerts.delivery.config import WebhookEndpoint, load_endpoints
from alerts.delivery.guard import url_fault
from alerts.delivery.signing import new_secret
from drivers.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def secret_file(tmp_path: Path) -> str:
    (tmp_path / "county.secret").write_text(new_secret() + "\n")
    return "county.secret"


def test_a_good_table_is_read(tmp_path: Path, secret_file: str) -> None:
    table = {"id": "county", "url": "https://county.example/hook", "secret_file": secret_file}
    (endpoint,) = load_endpoints([table], "server.toml", tmp_path)
    assert (endpoint.id, endpoint.name, endpoint.allow_http) == ("county", "county", False)
    assert endpoint.secret.startswith("whsec_")
    assert "whsec_" not in repr(endpoint)


def test_all_faults_are_told_at_once(tmp_path: Path, secret_file: str) -> None:
    good = {"url": "https://county.example/", "secret_file": secret_file}
    (tmp_path / "weak.secret").write_text("whsec_c2hvcnQ=")
    tables = [
        {"id": "a", **good},
        {"id": "a", **good},
        {"id": "b.c", **good},
        {"id": "d", **good, "retries": 3},
        {"id": "e", **good, "url": "http://county.example/"},
        {"id": "f", **good, "secret_file": "missing"},
        {"id": "g", **good, "secret_file": "weak.secret"},
        {"url": "https://county.example/", "secret_file": secret_file},
    ]
    with pytest.raises(ConfigError) as caught:
        load_endpoints(tables, "server.toml", tmp_path)
    faults = caught.value.faults
    assert len(faults) == 7
    for fault, words in zip(
        faults, ["used twice", "b.c", "retries", "https", "missing", "24 to 64", "id"], strict=True
    ):
        assert fault.startswith("server.toml: [[webhook]]")
        assert words in fault
    assert not any("c2hvcnQ" in fault for fault in faults)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://county.example/",
        "file:///etc/passwd",
        "county.example/hook",
        "https://",
        "https:///hook",
        "https://user@county.example/",
        "https://user:pass@county.example/",
        "https://county.example@169.254.169.254/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.0.0.1/",
        "https://0177.0.0.1/",
        "https://127.1/",
        "https://[fe80::1%25eth0]/",
        "https://county.example/#x",
        "https://county.example/a b",
        "https://county.example\\@evil.example/",
        "https://county.example/\r\nHost: x",
        "https://county.example:0/",
        "https://county.example:99999/",
        "https://[::1/",
    ],
)
def test_odd_urls_are_refused(url: str) -> None:
    assert url_fault(url, allow_http=True)
    with pytest.raises(ValueError, match="url"):
        WebhookEndpoint("a", "A", url, new_secret(), allow_http=True)


@pytest.mark.parametrize(
    "url",
    [
        "https://county.example/hook",
        "https://10.3.2.1:8443/x?y=1",
        "https://[::1]:8443/",
        "https://县.example/",
    ],
)
def test_ordinary_urls_are_taken(url: str) -> None:
    assert url_fault(url, allow_http=False) == ""


def test_plain_http_needs_permission() -> None:
    assert "allow_http" in url_fault("http://127.0.0.1:9000/hook", allow_http=False)
    assert url_fault("http://127.0.0.1:9000/hook", allow_http=True) == ""
