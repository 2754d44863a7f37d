"""The county is whole, its files are what the processes read, and every station is approved."""

from __future__ import annotations

import stat
import tomllib
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import pytest

from demo.county import Broker, CountyFiles, Ports, Script, write_county
from demo.places import AGENTS, BASES, INSTRUMENTS, PLOTS, REGIONS, STATIONS, SUBJECTS, TESTERS
from demo.simulators import config as sim_config
from demo.simulators.models import load_model
from demo.simulators.plant import Plant
from drivers import indicators
from gateway import config as edge_config
from gateway import keys
from gateway.wire import STATION_CODE
from ingest.judge.catalogue.catalogue import standard_catalogue
from ingest.judge.readings.conditions import of_plot
from ingest.judge.readings.readings import judge_reading
from ingest.registry import files as registry_files
from ingest.registry.context import PlotContext

if TYPE_CHECKING:
    from pathlib import Path

PORTS = Ports(8080, 1883, 9000, (5021, 5022, 5023, 5024))


@pytest.fixture
def files(tmp_path: Path) -> CountyFiles:
    return write_county(
        tmp_path / "run", ports=PORTS, broker=Broker(port=1883), api_key=tmp_path / "api-key"
    )


def test_the_county_is_as_large_as_promised() -> None:
    assert len(STATIONS) == 6
    assert len({station["region"] for station in STATIONS}) == 3
    assert len(INSTRUMENTS) + len(TESTERS) == 22
    assert len(TESTERS) >= 3
    assert len({item.model for item in INSTRUMENTS}) >= 6
    assert sorted(code for codes in AGENTS.values() for code in codes) == [
        s["code"] for s in STATIONS
    ]


def test_every_reference_is_registered() -> None:
    regions = {row["code"] for row in REGIONS}
    subjects, bases, plots = ({row["id"] for row in rows} for rows in (SUBJECTS, BASES, PLOTS))
    stations = {row["code"] for row in STATIONS}
    assert {row["region"] for row in (*SUBJECTS, *BASES, *STATIONS)} <= regions
    assert {row["subject"] for row in BASES} <= subjects
    assert {row["base"] for row in PLOTS} <= bases
    assert {row["base"] for row in STATIONS if "base" in row} <= bases
    assert {item.plot for item in INSTRUMENTS} <= plots
    assert {item.station for item in (*INSTRUMENTS, *TESTERS)} == stations
    assert all(STATION_CODE.fullmatch(str(code)) for code in stations)
    assert all(str(row["code"]).startswith("640122") for row in REGIONS)


def test_agents_read_their_files(files: CountyFiles) -> None:
    paths: set[tuple[str, str]] = set()
    for name, path in files.agents.items():
        loaded = edge_config.load(path)
        assert tuple(station.code for station in loaded.stations) == AGENTS[name]
        paths |= {(s.code, device.config.path) for s in loaded.stations for device in s.devices}
    assert paths == {(item.station, item.path) for item in (*INSTRUMENTS, *TESTERS)}


def test_keys_are_made_and_registered(files: CountyFiles) -> None:
    registered = {
        row["code"]: row["key"]
        for row in tomllib.loads(files.registry.read_text("utf-8"))["station"]
    }
    for name, stations in AGENTS.items():
        for code in stations:
            path = edge_config.load(files.agents[name]).data_dir / code / "agent.key"
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert keys.public_text(keys.load_or_create(path)) == registered[code]


def test_server_reads_the_registry(files: CountyFiles) -> None:
    loaded = registry_files.load(files.registry)
    assert [station.code for station in loaded.stations] == [row["code"] for row in STATIONS]
    assert len(loaded.devices) == len(INSTRUMENTS) + len(TESTERS)
    assert all(station.key for station in loaded.stations)
    canal = next(d for d in loaded.devices if (d.station, d.path) == ("hl-001", "canal/ph"))
    plot = next(p for p in loaded.plots if p.id == canal.plot)
    assert (plot.crop, plot.water_use) == ("paddy", "irrigation")


def test_secret_is_ours_alone(files: CountyFiles) -> None:
    assert stat.S_IMODE(files.secret.stat().st_mode) == 0o600
    assert files.secret.read_text().startswith("whsec_")
    assert "whsec_" not in files.server.read_text("utf-8")


async def test_simulators_read_their_file_and_know_every_quantity(files: CountyFiles) -> None:
    loaded = sim_config.load(files.simulators)
    assert sum(len(gateway.device) for gateway in loaded.gateway) == len(INSTRUMENTS)
    catalogue = indicators.catalogue()
    for gateway in loaded.gateway:
        for device in gateway.device:
            for point in load_model(device.model, device.settings).points:
                assert point.indicator in catalogue
    staged = {(item.station, item.device) for item in (*loaded.excursion, *loaded.staged_slip)}
    assert staged <= {(item.station, item.path) for item in (*INSTRUMENTS, *TESTERS)}


async def test_ordinary_values_are_possible_and_break_no_staged_limit(
    files: CountyFiles, tmp_path: Path
) -> None:
    text = files.simulators.read_text("utf-8").replace(str(PORTS.modbus[0]), "0")
    for port in PORTS.modbus:
        text = text.replace(f"port = {port}", "port = 0")
    quiet = tmp_path / "sim.toml"
    quiet.write_text(text, "utf-8")
    catalogue = indicators.catalogue()
    async with Plant(sim_config.load(quiet)) as plant:
        for device in plant.devices:
            for now_s in range(0, 1200, 7):
                device.sample(
                    min(now_s, Script().pollution_s) if device.excursions else now_s,
                    device.model.points,
                )
                for indicator, exact in device.exact.items():
                    known = catalogue[indicator]
                    assert known.physical_min is None or exact >= known.physical_min, (
                        device.path,
                        indicator,
                    )
                    assert known.physical_max is None or exact <= known.physical_max, (
                        device.path,
                        indicator,
                    )
                for excursion in device.excursions:
                    beyond = device.exact[excursion.indicator] - sim_limit(excursion.limit)
                    assert beyond < 0 if excursion.comparator == ">" else beyond > 0


def sim_limit(text: str) -> float:
    return float(text)


def test_broker_login_reaches_every_process(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("x", "utf-8")
    broker = Broker("127.0.0.1", 1884, "demo", str(password), protocol="5")
    files = write_county(tmp_path / "run", ports=PORTS, broker=broker, api_key=tmp_path / "k")
    for path in files.agents.values():
        login = edge_config.load(path).stations[0].broker
        assert (login.port, login.username, login.password) == (1884, "demo", "x")
    assert tomllib.loads(files.server.read_text("utf-8"))["broker"]["username"] == "demo"


async def test_the_fish_pond_keeps_its_limits(files: CountyFiles, tmp_path: Path) -> None:
    """Ordinary water of a pond: what is judged and computed there shows, and nothing is over a limit."""
    text = files.simulators.read_text("utf-8")
    for port in PORTS.modbus:
        text = text.replace(f"port = {port}", "port = 0")
    quiet = tmp_path / "sim.toml"
    quiet.write_text(text, "utf-8")
    plot = next(row for row in PLOTS if row.get("water_use") == "fishery")
    pond = {item.path for item in INSTRUMENTS if item.plot == plot["id"]}
    named = {field.name for field in fields(PlotContext)}
    context = PlotContext(**{k: str(v) for k, v in plot.items() if k in named})  # type: ignore[arg-type]
    catalogue = standard_catalogue()
    judged: set[str] = set()
    async with Plant(sim_config.load(quiet)) as plant:
        for now_s in range(0, 1200, 7):
            said: dict[str, float] = {}
            for device in plant.devices:
                if device.path in pond:
                    device.sample(now_s, device.model.points)
                    said |= {name: float(value) for name, value in device.exact.items()}
            beside = {name: said[name] for name in ("water_ph", "water_temperature")}
            conditions = replace(of_plot(context), companions=beside)
            for indicator, value in said.items():
                judgement = judge_reading(
                    catalogue, indicator, value, conditions, 1_777_600_000_000
                )
                assert not judgement.breaches, (indicator, value)
                judged |= {indicator for found in judgement.citations if found.exceeded is False}
    assert {"water_do", "water_ph", "water_ammonia_n"} <= judged
