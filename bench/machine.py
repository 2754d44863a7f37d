"""What a number was measured on: processor, memory, system, versions, and how busy the machine was."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sqlite3
import subprocess
from pathlib import Path

PACKAGES = (
    "aiomqtt",
    "duckdb",
    "msgspec",
    "numpy",
    "paho-mqtt",
    "pymodbus",
    "sqlalchemy",
    "zstandard",
)
MOSQUITTO_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"


def machine() -> dict[str, object]:
    """Return the machine and the versions that matter, as plain JSON."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "mosquitto": mosquitto_version(),
        "influxd": influxd_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }


def load() -> float:
    """Return the one-minute load average: what else ran beside the measurement."""
    return round(os.getloadavg()[0], 2)


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def mosquitto_version() -> str:
    """Return the broker's version, blank when it is not installed."""
    program = shutil.which("mosquitto", path=MOSQUITTO_PATH)
    if program is None:
        return ""
    # mosquitto -h ends with 3
    said = subprocess.run([program, "-h"], capture_output=True, text=True, check=False).stdout
    return said.split("\n", 1)[0].removeprefix("mosquitto version ").strip()


def influxd_version() -> str:
    """Return InfluxDB's version, blank when it is not installed."""
    program = shutil.which("influxd")
    if program is None:
        return ""
    said = subprocess.run([program, "version"], capture_output=True, text=True, check=False).stdout
    return said.removeprefix("InfluxDB v").partition(" ")[0].strip()
