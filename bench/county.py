"""The county that is measured: stations with keys, plots that pick limits, readings that look like probes'."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.processes import child, free_port, python, until
from drivers.records import Reading
from gateway import keys, wire

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from bench.processes import Child

INDICATORS = ("soil_ph", "soil_moisture", "soil_temperature", "soil_ec", "soil_cd")
CENTRES = (6.8, 24.0, 18.5, 410.0, 0.12)  # inside every limit of GB 15618 at this pH
STEPS = (0.01, 0.1, 0.1, 1.0, 0.001)
DECIMALS = (2, 1, 1, 0, 3)
DEVICES = 4  # per station: 20 series, so a pack of 100 readings holds five samples


@dataclass(frozen=True, slots=True)
class ServerFiles:
    """Where a server was configured, and its HTTP port."""

    config: Path
    port: int

    def metrics(self) -> dict[str, float]:
        """Return the server's metrics by name with labels, as they stand now."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as reply:
            lines = reply.read().decode("utf-8").splitlines()
        pairs = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}


def station_codes(count: int) -> list[str]:
    """Return the codes of ``count`` stations.

    >>> station_codes(2)
    ['bench-000', 'bench-001']
    """
    return [f"bench-{n:03}" for n in range(count)]


def public_key(directory: Path, station: str) -> str:
    """Make the gateway key of a station where its agent looks for it; return the public half."""
    home = directory / station
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    return keys.public_text(keys.load_or_create(home / "agent.key"))


def write_server(
    directory: Path,
    stations: dict[str, str],
    devices: Sequence[str],
    *,
    broker_port: int,
    webhook: str = "",
) -> ServerFiles:
    """Write registry.toml and server.toml for ``stations`` (code → public key); each of ``devices`` has its plot."""
    parts = [
        '[[region]]\ncode = "330182"\nname = "基准县"',
        '[[subject]]\nid = "s1"\nname = "基准合作社"\ntype = "cooperative"\nregion = "330182"',
        '[[base]]\nid = "b1"\nsubject = "s1"\nname = "基准基地"\nregion = "330182"',
    ]
    for code, key in stations.items():
        parts.append(
            f'[[station]]\ncode = "{code}"\nname = "{code}"\nregion = "330182"\nbase = "b1"\nkey = "{key}"'
        )
        for n, path in enumerate(devices):
            plot = f"plot-{code}-{n}"
            parts.append(
                f'[[plot]]\nid = "{plot}"\nbase = "b1"\nname = "{plot}"\nland_use = "other"\nsoil_ph = 6.8'
            )
            parts.append(
                f'[[device]]\nstation = "{code}"\npath = "{path}"\nname = "{path}"\nplot = "{plot}"'
            )
    (directory / "registry.toml").write_text("\n\n".join(parts) + "\n", "utf-8")
    port = free_port()
    config = directory / "server.toml"
    config.write_text(
        f'[server]\ndata_dir = "server"\nport = {port}\n\n[broker]\nhost = "127.0.0.1"\nport = {broker_port}\n\n'
        f'[registry]\nfile = "registry.toml"\n\n{webhook}',
        "utf-8",
    )
    return ServerFiles(config, port)


def server(files: ServerFiles) -> AbstractContextManager[Child]:
    """Run ``agrigate serve``."""
    return child("serve", python("agrigate", "serve", "-c", str(files.config)), files.config.parent)


def wait_ready(files: ServerFiles, running: Child) -> None:
    """Wait until the server is connected to the broker and serves pages."""

    def ready() -> bool:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{files.port}/readyz", timeout=2
            ) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    until(ready, running, "become ready", within_s=60.0)


def readings(count: int, start_ms: int, step_ms: int = 1000) -> Iterator[Reading]:
    """Yield ``count`` readings of one station in the order of polls: every device, then the next second."""
    for n in range(count):
        which = n % len(INDICATORS)
        sample, device = divmod(n // len(INDICATORS), DEVICES)
        wobble = (sample * 7 + device * 3 + which) % 11 - 5
        value = round(CENTRES[which] + wobble * STEPS[which], DECIMALS[which])
        yield Reading(f"plot/soil{device}", INDICATORS[which], start_ms + sample * step_ms, value)


def device_paths() -> list[str]:
    """Return the device paths that ``readings`` uses."""
    return [f"plot/soil{n}" for n in range(DEVICES)]


def bodies(packs: int, start_ms: int, step_ms: int = 1000) -> list[bytes]:
    """Return the bodies of ``packs`` full packs of one station, a sample of each series every ``step_ms``."""
    stream = list(readings(packs * wire.PACK_MAX_RECORDS, start_ms, step_ms))
    return [
        wire.encode_readings(stream[i : i + wire.PACK_MAX_RECORDS])
        for i in range(0, len(stream), wire.PACK_MAX_RECORDS)
    ]


def save(path: Path, value: object) -> None:
    """Write ``value`` as JSON for people and diffs."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", "utf-8")
