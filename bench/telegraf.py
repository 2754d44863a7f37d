"""Telegraf's ``mqtt_consumer`` → InfluxDB beside ours, on the same messages: SenML with every name and time whole.

Telegraf has no reader for SenML; its ``json_v2`` reads records that lean on no base (RFC 8428, section 4.6), and so do
we, on ``senml`` topics. Telegraf keeps no inbox, judges nothing and acknowledges when InfluxDB has taken the points.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import click
import msgspec
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from bench import county, influx, page
from bench.floors import spread
from bench.machine import load, machine
from bench.processes import Child, child, mosquitto, until
from gateway.wire import PACK_MAX_RECORDS

RESULT = Path(__file__).with_name("results") / "telegraf.json"
ABSENT = "telegraf is not installed: nothing is measured (https://github.com/influxdata/telegraf)"
STATIONS, MESSAGES, RUNS = 50, 100, 3
TOPIC = "agri/v1/{station}/senml/plot"
CLIENTS = {"telegraf": "bench-telegraf", "agrigate": "agrigate-publishers"}
FINISH_S = 300.0
PROBE = "soil9"  # no device of the county


def config(*, broker_port: int, influx_url: str, database: str) -> str:
    """Return a telegraf.conf that reads what we read, with buffers that do not drop: 1.22 or newer."""
    return f"""\
[agent]
  interval = "1s"
  flush_interval = "100ms"
  metric_batch_size = 5000
  metric_buffer_limit = 1000000
  omit_hostname = true
  quiet = true

[[inputs.mqtt_consumer]]
  servers = ["tcp://127.0.0.1:{broker_port}"]
  topics = ["{TOPIC.format(station="+")}"]
  qos = 1
  client_id = "{CLIENTS["telegraf"]}"
  persistent_session = true
  max_undelivered_messages = 1000
  topic_tag = ""
  data_format = "json_v2"

  [[inputs.mqtt_consumer.topic_parsing]]
    topic = "{TOPIC.format(station="+")}"
    tags = "_/_/station/_/_"

  [[inputs.mqtt_consumer.json_v2]]
    measurement_name = "reading"
    [[inputs.mqtt_consumer.json_v2.object]]
      path = "@this"
      timestamp_key = "t"
      timestamp_format = "unix"
      tags = ["n"]

[[outputs.influxdb]]
  urls = ["{influx_url}"]
  database = "{database}"
  skip_database_creation = true
  content_encoding = "identity"
"""


def messages(count: int, start_ms: int) -> list[bytes]:
    """Return ``count`` messages of one station, each an array of 100 records that lean on no base."""
    records = [
        {
            "n": f"{reading.device.partition('/')[2]}/{reading.indicator}",
            "t": reading.t_ms // 1000,
            "v": reading.value,
        }
        for reading in county.readings(count * PACK_MAX_RECORDS, start_ms // 1000 * 1000)
    ]
    return [
        msgspec.json.encode(records[i : i + PACK_MAX_RECORDS])
        for i in range(0, len(records), PACK_MAX_RECORDS)
    ]


def measure(program: str, *, stations: int, packs: int, runs: int) -> dict[str, object]:
    """Return both rates and processor seconds, as median, least and most of ``runs``."""
    before = load()
    found: dict[str, list[dict[str, float]]] = {who: [] for who in CLIENTS}
    for _ in range(runs):
        for who, results in found.items():
            results.append(_run(who, program, stations, packs))
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return {
        "what": f"{stations} stations × {packs} messages of {PACK_MAX_RECORDS} records, MQTT QoS 1 → InfluxDB",
        "load_before": before,
        "n": runs,
        "telegraf_version": said.stdout.strip(),
        **{
            who: {name: spread(run[name] for run in results) for name in results[0]}
            for who, results in found.items()
        },
    }


def _run(who: str, program: str, stations: int, packs: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="bench-telegraf-") as name, ExitStack() as stack:
        directory = Path(name)
        _, url = stack.enter_context(influx.influxd(directory))
        influx.make(url, "farm")
        _, port = stack.enter_context(mosquitto(directory))
        codes = county.station_codes(stations)
        if who == "telegraf":
            conf = directory / "telegraf.conf"
            conf.write_text(config(broker_port=port, influx_url=url, database="farm"), "utf-8")
            running = stack.enter_context(
                child("telegraf", [program, "--config", str(conf)], directory)
            )
        else:
            keys = {code: county.public_key(directory, code) for code in codes}
            store = (
                "[publishers]\nmqtt = true\n\n"
                f'[store]\nkind = "influxdb"\nurl = "{url}"\ndatabase = "farm"\ngzip = false\n'
            )
            files = county.write_server(
                directory, keys, county.device_paths(), broker_port=port, webhook=store
            )
            running = stack.enter_context(county.server(files))
            county.wait_ready(files, running)
        return _send(running, port, url, codes, packs)


def _send(running: Child, port: int, url: str, codes: list[str], packs: int) -> dict[str, float]:
    """Publish everything and wait until it is in InfluxDB."""
    total = len(codes) * packs * PACK_MAX_RECORDS
    ready = messages(packs, time.time_ns() // 1_000_000 - 5_000 * packs)
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="bench-publisher")
    client.max_queued_messages_set(0)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        _wait_for_reader(client, running, url)
        used, began = running.cpu_s(), time.monotonic()
        for body in ready:
            for code in codes:
                client.publish(TOPIC.format(station=code), body, 1)
        until(
            lambda: _stored(url) >= total,
            running,
            "store everything",
            within_s=FINISH_S,
            every_s=0.2,
        )
        seconds = time.monotonic() - began
    finally:
        client.disconnect()
        client.loop_stop()
    cpu_s = running.cpu_s() - used
    return {
        "readings_per_s": total / seconds,
        "readings_per_cpu_s": total / max(cpu_s, 0.01),
        "rss_mb": running.rss_mb(),
    }


def _wait_for_reader(client: mqtt.Client, running: Child, url: str) -> None:
    """Send readings of a series of their own until one of them arrives: before, messages would have no reader."""

    def arrived() -> bool:
        now_s = time.time_ns() // 1_000_000_000
        probe = [{"n": f"{PROBE}/soil_ph", "t": now_s, "v": 6.8}]
        client.publish(TOPIC.format(station="bench-000"), msgspec.json.encode(probe), 1)
        return _stored(url, "=~", "OR") > 0

    until(arrived, running, "store a first reading", within_s=60.0, every_s=0.5)


def _stored(url: str, match: str = "!~", both: str = "AND") -> int:
    """Return how many readings there are but for probes; ours say ``device``, Telegraf's ``n``."""
    where = f'"device" {match} /{PROBE}/ {both} "n" {match} /{PROBE}/'
    query = {"db": "farm", "q": f'SELECT count("v") FROM "reading" WHERE {where}'}
    with urllib.request.urlopen(
        f"{url}/query?{urllib.parse.urlencode(query)}", timeout=60
    ) as reply:
        [result] = json.loads(reply.read())["results"]
    return int(result["series"][0]["values"][0][1]) if "series" in result else 0


@click.command()
@click.option("--quick", is_flag=True, help="A tenth of the messages, once.")
@click.option("--save", is_flag=True, help="Keep the result in bench/results.")
def main(*, quick: bool, save: bool) -> None:
    """Measure both, one after the other; one line when Telegraf is not there."""
    program = shutil.which("telegraf")
    if program is None:
        click.echo(ABSENT)
        return
    packs, runs = (MESSAGES // 10, 1) if quick else (MESSAGES, RUNS)
    result = measure(program, stations=STATIONS, packs=packs, runs=runs)
    result = {**result, "load_after": load(), "machine": machine()}
    text = json.dumps(result, ensure_ascii=False, indent=2)
    click.echo(text)
    if save:
        RESULT.write_text(text + "\n", "utf-8")
        page.write()


if __name__ == "__main__":
    main()
