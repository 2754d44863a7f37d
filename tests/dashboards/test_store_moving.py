"""``agrigate store copy`` and ``export`` as a person uses them: one line when it cannot be, kill -9 in the middle."""

from __future__ import annotations

import csv
import errno
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from agrigate import main
from dashboards.serve import only_one
from ingest.store.duckdb_store import DuckDBStore
from ingest.store.influx.influx_store import InfluxStore
from tests.conftest import free_port, until
from tests.ingest.store.influx.answering import Answer, answering
from tests.ingest.store.test_reading_store_contract import ALL, NOW, A, Feed

REPO = Path(__file__).parents[2]
CONFIG = """
[server]
data_dir = "data"
[broker]
host = "127.0.0.1"
port = 1883
open = true
[registry]
file = "registry.toml"
"""
COPY = ("--from", "duckdb", "--to", "influxdb")


@pytest.fixture
def farm(tmp_path):
    """A data directory with a thousand readings; return what writes its configuration."""
    store = DuckDBStore(tmp_path / "data" / "readings.duckdb")
    store.append(Feed().batch([(A, NOW + n * 60_000, n / 7) for n in range(1000)]))
    store.close()

    def config(store: str = "") -> Path:
        file = tmp_path / "server.toml"
        file.write_text(f"{CONFIG}\n{store}\n")
        return file

    return config


@pytest.fixture
def name(tmp_path) -> str:
    return tmp_path.name


def at(url: str, name: str) -> str:
    return f'[store]\nkind = "influxdb"\nurl = "{url}"\ndatabase = "{name}"\n'


def run(command: str, file: Path, *arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["store", command, "-c", str(file), *arguments])
    assert "Traceback" not in result.output
    if result.exception is not None:
        assert isinstance(result.exception, SystemExit)
    return result.exit_code, result.stdout, result.stderr


def one_line(command: str, file: Path, *arguments: str) -> tuple[int, str]:
    code, out, err = run(command, file, *arguments)
    lines = [line for line in err.splitlines() if not re.match(r"copied|compared|exported", line)]
    assert (out, len(lines)) == ("", 1), (out, err)
    return code, lines[0]


def test_copied_there_and_back_and_said_so(farm, influx, name, tmp_path):
    influx.database(name)
    file = farm(at(influx.url, name))
    code, out, err = run("copy", file, *COPY)
    assert (code, "whole: 1000 readings" in out, "the same in both" in out) == (0, True, True)
    assert "goes on behind pack 1" in out
    assert "compared: 1,000 of 1,000 readings" in err
    assert run("copy", file, *COPY)[1].startswith("1000 readings were there")
    store = InfluxStore(influx.server(name), rejected=pytest.fail)
    assert (store.cursor(), store.count(), store.query(A, **ALL).total) == (1, 1000, 1000)
    store.close()
    back = ("--from", "influxdb", "--to", "duckdb")
    assert "is there already: move it away" in one_line("copy", file, *back)[1]
    (tmp_path / "data" / "readings.duckdb").rename(tmp_path / "old.duckdb")
    code, out, _ = run("copy", file, *back)
    assert (code, "whole: 1000 readings" in out) == (0, True)
    again = DuckDBStore(tmp_path / "data" / "readings.duckdb")
    assert (again.cursor(), again.count()) == (1, 1000)
    again.close()
    assert not (tmp_path / "data" / "readings.duckdb.copy").exists()


def test_what_is_in_the_way_is_one_line(farm, influx, name, tmp_path):
    influx.database(name)
    file = farm(at(influx.url, name))
    with only_one(tmp_path / "data"):
        code, said = one_line("copy", file, *COPY)
    assert (code, "another server uses it; stop that one first" in said) == (1, True)
    influx.write(name, "reading,station=x v=6i 0")
    code, said = one_line("copy", file, *COPY)
    assert (code, "not empty" in said) == (1, True)
    code, said = one_line("copy", farm(at(influx.url, "nowhere")), *COPY)
    assert (code, "database not found" in said) == (1, True)
    code, said = one_line("copy", farm(at(f"http://127.0.0.1:{free_port()}", "x")), *COPY)
    assert (code, "refused" in said) == (1, True)
    code, said = one_line("copy", farm(), *COPY)
    assert (code, "[store] names no InfluxDB" in said) == (2, True)
    code, said = one_line("copy", farm(), "--from", "duckdb", "--to", "duckdb")
    assert (code, "name the same" in said) == (2, True)
    file = farm(at(influx.url, name))
    shutil.rmtree(tmp_path / "data")
    code, said = one_line("copy", file, *COPY)
    assert (code, "no readings in DuckDB" in said) == (1, True)


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (401, b'{"message":"unauthorized access"}', "token or password is wrong"),
        (403, b'{"message":"forbidden"}', "needs to read and to write"),
        (400, b'{"error":"partial write: field type conflict"}', "a database of its own"),
        (500, b'{"error":"no space left on device"}', "no space left on device"),
    ],
)
def test_what_the_server_answers_is_one_line(farm, influx, name, monkeypatch, status, body, says):
    monkeypatch.setattr("ingest.store.influx.stock.PATIENCE_S", 0.1)
    influx.database(name)

    def answer(request):
        return Answer(status, body) if "/write" in request.path else None

    with answering(answer, influx.port) as web:
        code, said = one_line("copy", farm(at(web.url, name)), *COPY)
    assert (code, says in said) == (1, True)
    assert status != 500 or "run it again to go on" in said


def test_killed_in_the_middle_it_goes_on(farm, influx, name, tmp_path):
    influx.database(name)
    store = DuckDBStore(tmp_path / "data" / "readings.duckdb")
    feed = Feed(1)
    for month in range(8):
        at_ms = NOW + month * 31 * 86_400_000
        store.append(feed.batch([(A, at_ms + n, 1.5) for n in range(500)]))
    store.close()
    seen = 0

    def answer(request):
        nonlocal seen
        if "/write" in request.path and any(b",v=" in line for line in request.lines):
            seen += 1
            if seen % 3 == 0:
                process.send_signal(signal.SIGKILL)

    with answering(answer, influx.port) as web:
        file = farm(at(web.url, name))
        for _ in range(3):
            before = seen
            process = subprocess.Popen(
                [sys.executable, "agrigate.py", "store", "copy", "-c", str(file), *COPY],
                cwd=REPO,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            until(lambda: process.poll() is not None, within_s=60)  # noqa: B023
            assert (process.returncode, seen > before) == (-signal.SIGKILL, True)
    code, out, _ = run("copy", farm(at(influx.url, name)), *COPY)
    assert (code, "whole: 5000 readings" in out) == (0, True)
    assert "were there from an earlier run" in out
    store = InfluxStore(influx.server(name), rejected=pytest.fail)
    assert (store.cursor(), store.query(A, **ALL).total) == (9, 5000)
    store.close()


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_exported_for_a_station_and_a_time(farm, tmp_path, form):
    file, to = farm(), tmp_path / f"out.{form}"
    options = ("--station", "hl-001", "--indicator", "soil_ph", "--device", "soil1")
    times = ("--start", "2026-05-01", "--end", "2026-05-01T10:30:00+08:00")
    code, out, err = run("export", file, "--format", form, "--to", str(to), *options, *times)
    assert (code, f"out.{form}: 44 readings" in out) == (0, True), err
    assert "exported:" in err
    with only_one(tmp_path / "data"):
        code, said = one_line("export", file, "--format", form, "--to", str(to))
    assert (code, "stop that one first" in said) == (1, True)
    code, out, err = run("export", file, "--format", form, "--to", str(to), "--start", "May")
    assert (code, "write 2026-05-01 or" in err) == (2, True)
    code, said = one_line("export", file, "--format", form, "--to", str(tmp_path / "no" / to.name))
    assert (code, "is no directory" in said) == (1, True)
    directory = ("--to", str(tmp_path / "out"), "--station", "nobody")
    assert one_line("export", file, "--format", form, *directory) == (0, "no readings")


def test_a_full_disk_is_one_line(farm, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "out.csv")

    monkeypatch.setattr("ingest.store.exporting._settle", full)
    to = tmp_path / "out.csv"
    code, said = one_line("export", farm(), "--format", "csv", "--to", str(to))
    assert (code, said) == (1, "out.csv: No space left on device")
    assert not to.exists()


def test_influxdb_is_exported_while_the_server_runs(farm, influx, name, tmp_path):
    influx.database(name)
    store = InfluxStore(influx.server(name), rejected=pytest.fail)
    store.append(Feed().batch([(A, NOW, 1.25)]))
    # A write that has not ended is no part of it.
    influx.write(
        name,
        "reading,device=soil1,indicator=soil_ph,station=hl-001"
        f" flags=0i,inbox_pos=2i,q=1i,received_ms=1i,v=2 {NOW + 1}",
    )
    to = tmp_path / "out.csv"
    with only_one(tmp_path / "data"):
        code, _, err = run("export", farm(at(influx.url, name)), "--format", "csv", "--to", str(to))
    store.close()
    assert code == 0, err
    with to.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["value"], row["station"], row["unit"]) for row in rows] == [
        ("1.25", "hl-001", "[pH]")
    ]
