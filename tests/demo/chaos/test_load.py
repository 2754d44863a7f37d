"""The counting devices and the county's files: what is served is in the journal, and the product takes the files."""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING

import pytest

from dashboards import server_config
from demo.chaos import load
from demo.chaos.counting import Counter, Counting, Served, read_journal
from demo.chaos.load import BREACH, Device, Episode, Simulator
from gateway import config

if TYPE_CHECKING:
    from pathlib import Path

DEVICE = Device(
    path="watch/1",
    unit_id=101,
    indicators=("water_hg", "water_cd"),
    episodes=(Episode(indicator="water_cd", start_s=1.0, end_s=2.0),),
)
READ = bytes([3]) + struct.pack(">HH", 0, 4)


def test_every_reply_has_the_next_count_in_every_value() -> None:
    counter = Counter(DEVICE, start_ms=0)
    for n in (1, 2, 3):
        served, reply = counter.answer(READ, 500)
        assert served == Served(ms=500, device="watch/1", n=n)
        assert reply == bytes([3, 8]) + struct.pack(">II", n, n)


def test_an_episode_breaches_its_own_indicator_only() -> None:
    counter = Counter(DEVICE, start_ms=10_000)
    served, reply = counter.answer(READ, 11_000)
    assert served is not None
    assert served.over == [1]
    assert struct.unpack(">II", reply[2:]) == (1, 1 + BREACH)
    served, _ = counter.answer(READ, 12_000)
    assert served is not None
    assert served.over == []


@pytest.mark.parametrize(
    ("pdu", "reply"),
    [
        (b"\x06\x00\x00\x00\x01", b"\x86\x01"),
        (b"\x03\x00\x00\x00\x03", b"\x83\x02"),
        (b"\x03\x00", b"\x83\x01"),
    ],
)
def test_what_is_refused_counts_nothing(pdu: bytes, reply: bytes) -> None:
    counter = Counter(DEVICE, start_ms=0)
    assert counter.answer(pdu, 0) == (None, reply)
    assert counter.n == 0


def test_counts_go_on_after_a_kill_in_the_middle_of_a_line(tmp_path: Path) -> None:
    journal = tmp_path / "edge-1.jsonl"
    journal.write_bytes(b'{"ms":1,"device":"watch/1","n":7}\n{"ms":2,"devi')
    counting = Counting(Simulator(port=0, start_ms=0, journal=str(journal), devices=(DEVICE,)))
    try:
        assert [s.n for s in read_journal(journal)] == [7]
        assert counting._counters[101].next(5)[0].n == 8
    finally:
        counting.close()


def test_the_product_takes_the_files(tmp_path: Path) -> None:
    crew = load.agents(3, 2, 60, random.Random(1))
    names = [agent.name for agent in crew]
    ports = load.Ports(
        1001,
        1002,
        1003,
        {name: 1010 + n for n, name in enumerate(["server", *names])},
        {name: 1020 + n for n, name in enumerate(names)},
    )
    load.write(tmp_path, crew, ports, 0)
    for agent in crew:
        edge = config.load(tmp_path / agent.name / "edge.toml")
        (station,) = edge.stations
        assert [d.config.path for d in station.devices] == [d.path for d in agent.devices]
    server = server_config.load(tmp_path / "server.toml")
    assert server.webhooks[0].url.endswith("/hook")
    assert [agent.capped for agent in crew] == [False, True, True]


def test_agents_that_lose_packs_have_no_watched_series() -> None:
    for agent in load.agents(6, 4, 600, random.Random(1)):
        assert any(device.episodes for device in agent.devices) != agent.capped
