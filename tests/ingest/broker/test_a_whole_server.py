"""The server process behind a deployed broker: it is ready only when the broker is proven."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from structlog.testing import capture_logs

from agrigate import main
from dashboards import serve, server_config
from ingest.broker.probe import AccessProbe
from tests.conftest import free_port, until

ROOT = Path(__file__).parents[3]
REGISTRY = """
[[region]]
code = "640122"
name = "贺兰县"
name_en = "Helan"
"""


@pytest.fixture
def config(county):
    county.pages = free_port()
    text = county.config.read_text()
    text = text.replace(
        "[server]\n", f'[server]\nport = {county.pages}\napi_key_file = "api-key"\n'
    )
    county.config.write_text(text)
    (county.directory / "registry.toml").write_text(REGISTRY)
    return county.config


def ready(county) -> httpx.Response | None:
    try:
        return httpx.get(f"http://127.0.0.1:{county.pages}/readyz", trust_env=False)
    except httpx.HTTPError:
        return None


@pytest.mark.mosquitto
def test_s4_a_server_is_not_ready_before_its_broker_is_proven(county, config):
    county.deploy()
    acl = county.out / "agrigate.acl"
    good = acl.read_text()
    acl.write_text(f"{good}pattern write agri/v1/%u/ack\n")
    county.start()
    argv = [sys.executable, str(ROOT / "agrigate.py"), "serve", "-c", str(config)]
    with (county.directory / "serve.log").open("wb") as log:
        process = subprocess.Popen(argv, cwd=ROOT, stdout=log, stderr=log)
    try:
        until(lambda: "can write agri/v1/agri-probe/ack" in (getattr(ready(county), "text", "")))
        assert ready(county).status_code == 503
        acl.write_text(good)
        county.reload()
        until(lambda: getattr(ready(county), "status_code", 0) == 200)
        # and now it is asked, with the key that it made
        argv = ["deploy", "mosquitto", "-c", str(config), "--out", str(county.out)]
        done = CliRunner().invoke(main, [*argv, "--user", county.out.owner()])
        assert done.exit_code == 0, done.output
        assert "nothing but the revocation list written" in done.output
        assert "another server uses it" in county.refused()
    finally:
        process.terminate()
        process.wait()
    said = (county.directory / "serve.log").read_text()
    assert said.count("broker_not_used") == 1


def test_an_open_broker_is_said_once_and_not_probed(county, config):
    county.deploy()
    loaded = server_config.load(config)
    with capture_logs() as logs:
        assert isinstance(serve._access_probe(loaded), AccessProbe)
    assert logs == []
    config.write_text(config.read_text().replace("[broker]\n", "[broker]\nopen = true\n"))
    with capture_logs() as logs:
        assert serve._access_probe(server_config.load(config)) is None
    assert [entry["event"] for entry in logs] == ["broker_open"]
