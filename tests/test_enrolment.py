"""A station is enrolled as docs/enrolment.md says: commands, files, processes; over TLS with a client certificate."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.conftest import free_port, until
from tests.ingest.broker.deployed import HOST, County

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.mosquitto

ROOT = Path(__file__).parent.parent
REGISTRY = '[[region]]\ncode = "640122"\nname = "贺兰县"\n'


@contextmanager
def running(directory: Path, *arguments: str, name: str = "") -> Iterator[subprocess.Popen[bytes]]:
    log = directory / f"{name or arguments[0]}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "agrigate.py"), *arguments], stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@contextmanager
def instrument() -> Iterator[int]:
    """A Modbus TCP server whose registers all say 12."""
    argv = [sys.executable, "-m", "bench.modbus", "1"]
    with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())[0]
        process.kill()


def agrigate(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "agrigate.py"), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_station_is_enrolled_as_the_page_says(tmp_path: Path) -> None:
    county = County(tmp_path)
    pages = free_port()
    config = county.config
    config.write_text(
        config.read_text().replace(
            "[server]\n", f'[server]\nport = {pages}\napi_key_file = "api-key"\n'
        )
    )
    (tmp_path / "registry.toml").write_text(REGISTRY, "utf-8")
    url = f"http://127.0.0.1:{pages}"
    deploy = ("deploy", "mosquitto", "-c", str(config), "--host", HOST, "--out", str(county.out))
    deploy += ("--user", "root", "--require-certificate")

    agrigate(*deploy, "--offline")
    county.start()
    try:
        with running(tmp_path, "serve", "-c", str(config)), instrument() as modbus:

            def ready() -> bool:
                try:
                    return httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
                except httpx.HTTPError:
                    return False

            until(ready)
            station = ("station", "--url", url, "--key-file", str(tmp_path / "api-key"))
            file = tmp_path / "hl-001.enrolment.toml"
            agrigate(
                *station, "add", "hl-001", "--name", "洪广站", "--region", "640122",
                "--certificate", "--out", str(file),
            )  # fmt: skip
            assert file.stat().st_mode & 0o077 == 0
            agrigate(*deploy)
            county.reload()

            edge = tmp_path / "edge.toml"
            edge.write_text(
                '[agent]\ndata_dir = "edge"\n\n[[station]]\ncode = "hl-001"\n'
                'enrolment = "hl-001.enrolment.toml"\n\n[[station.device]]\npath = "plot3/soil1"\n'
                f'driver = "modbus"\nhost = "127.0.0.1"\nport = {modbus}\nunit_id = 1\npoll_interval_s = 0.5\n'
                'points = [{ indicator = "soil_cd", address = 0, type = "u16", scale = "0.01", unit = "mg/kg" }]\n'
            )
            assert "good" in agrigate("edge", "-c", str(edge), "--check")
            with running(tmp_path, "edge", "-c", str(edge)):

                def asked() -> dict:
                    return httpx.get(f"{url}/api/v1/stations/hl-001", trust_env=False).json()

                until(lambda: asked()["key_state"] == "pending")
                agrigate(*station, "approve", "hl-001")
                query = {"station": "hl-001", "device": "plot3/soil1", "indicator": "soil_cd"}
                until(
                    lambda: (
                        httpx.get(f"{url}/api/v1/readings", params=query, trust_env=False)
                        .json()
                        .get("points")
                    )
                )
                assert asked()["key_state"] == "approved"
                until(
                    lambda: (
                        subprocess.run(
                            [
                                sys.executable,
                                str(ROOT / "agrigate.py"),
                                "edge",
                                "status",
                                "-c",
                                edge,
                            ],
                            capture_output=True,
                            check=False,
                        ).returncode
                        == 0
                    )
                )
        said = (tmp_path / "edge.log").read_text("utf-8")
        assert "uplink_down" not in said, said
    finally:
        county.stop()
