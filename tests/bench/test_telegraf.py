"""Our half of the comparison with Telegraf; its own half cannot run where it is not installed."""

from __future__ import annotations

import shutil
import tomllib
from typing import TYPE_CHECKING

from click.testing import CliRunner

from bench import telegraf
from gateway.wire import PACK_MAX_RECORDS
from ingest.batch import TakenPack
from ingest.decode import Decoder, SeriesIndex
from tests.conftest import require

if TYPE_CHECKING:
    import pytest


def test_the_configuration_reads_our_topics_and_writes_one_database() -> None:
    text = telegraf.config(broker_port=1884, influx_url="http://127.0.0.1:8087", database="farm")
    conf = tomllib.loads(text)
    [reader], [writer] = conf["inputs"]["mqtt_consumer"], conf["outputs"]["influxdb"]
    assert reader["servers"] == ["tcp://127.0.0.1:1884"]
    assert reader["topics"] == ["agri/v1/+/senml/plot"]
    assert reader["qos"] == 1
    [records] = reader["json_v2"][0]["object"]
    assert (records["timestamp_key"], records["tags"]) == ("t", ["n"])
    assert (writer["urls"], writer["database"]) == (["http://127.0.0.1:8087"], "farm")


def test_its_messages_lean_on_no_base_and_are_read_by_our_server() -> None:
    bodies = telegraf.messages(2, 1_763_900_000_400)
    packs = [
        TakenPack(n, "bench-000", "E", n, 1_763_900_100_000, body, topic=_topic())
        for n, body in enumerate(bodies, start=1)
    ]
    batch = Decoder(SeriesIndex()).decode(packs)
    assert not batch.faults
    assert len(batch.t_ms) == 2 * PACK_MAX_RECORDS
    assert batch.t_ms[0] == 1_763_900_000_000
    assert {(s.device, s.indicator) for s in batch.series} >= {("plot/soil0", "soil_ph")}
    assert all(b'"bn"' not in body and b'"bt"' not in body for body in bodies)


def _topic() -> str:
    return telegraf.TOPIC.format(station="bench-000")


def test_our_half_brings_every_reading_into_influxdb() -> None:
    require("influxd")
    require("mosquitto")
    found = telegraf._run("agrigate", "", stations=2, packs=2)
    assert found["readings_per_s"] > 0
    assert found["readings_per_cpu_s"] > 0


def test_without_telegraf_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    result = CliRunner().invoke(telegraf.main, [])
    assert result.exit_code == 0
    assert result.output.splitlines() == [telegraf.ABSENT]
