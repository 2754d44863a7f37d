"""POST /api/v1/records: each record answered, nothing doubled, nothing said before it is on the disk."""

from __future__ import annotations

import json
import queue
import threading
import urllib.parse

import pytest

from dashboards.app import create_app
from dashboards.pages import STATIC
from dashboards.rate import Rate
from ingest.decode import Decoder, SeriesIndex
from ingest.door import Door
from ingest.inbox import Inbox
from ingest.intake import Hold, Intake, Outcome
from ingest.publishers.reader import MessageReader
from ingest.registry.live import Registry

URL = "/api/v1/records"
KEYS = "/api/v1/stations/hl-001/record-keys"
NOW = 1_777_600_000_000
T = NOW / 1000
TEST = {
    "record_id": "r1",
    "dedup_key": "d1",
    "tested_at": "2026-05-01T09:02:03+08:00",
    "device_id": "bench",
    "parameter": "克百威",
    "value": "0.1",
    "unit": "mg/kg",
}


class Thread:
    """Takes arrivals as the intake thread of a server does, one commit each."""

    def __init__(self, directory, operational) -> None:
        self.inbox = Inbox.open(directory / "taken.db")
        self.intake = Intake(self.inbox, Registry(operational), store="01KASTARE00000000000000000")
        self.held = ""
        self.offered: queue.Queue = queue.Queue()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def offer(self, arrival, *, within_s: float) -> bool:  # noqa: ARG002 - the protocol's
        self.offered.put(arrival)
        return True

    def holding(self) -> str:
        return self.held

    def _run(self) -> None:
        while (arrival := self.offered.get()) is not None:
            outcome = self.intake.arrival(arrival)
            self.intake.commit(NOW)
            arrival.done(outcome)

    def close(self) -> None:
        self.offered.put(None)
        self._thread.join()
        self.inbox.close()

    def packs(self):
        return self.inbox.read_after(0, 100)


@pytest.fixture
def thread(county, tmp_path):
    county.add_place()
    county.add_station()
    county.add_device()
    thread = Thread(tmp_path, county.operational)
    yield thread
    thread.close()


@pytest.fixture
async def client(county, thread, connect):
    reader = MessageReader()
    app = create_app(county.sources, static=STATIC, door=Door(thread, reader, lambda: NOW))
    async with connect(app) as client:
        client.app = app
        yield client


@pytest.fixture
async def device(client, key):
    reply = await client.post(KEYS, json={"name": "野外节点"}, headers={"X-API-Key": key})
    assert reply.status_code == 200, reply.text
    return {"X-API-Key": reply.json()["key"]}


def senml(**changes) -> bytes:
    record = {"bn": "plot3/soil1/", "n": "soil_ph", "v": 6.5, "t": T} | changes
    return json.dumps([record]).encode()


async def send(client, headers, body, status=200, **more):
    reply = await client.post(URL, content=body, headers=headers | more)
    assert reply.status_code == status, reply.text
    return reply


async def test_what_is_accepted_is_in_the_inbox_with_its_bytes(client, device, thread):
    reply = (await send(client, device, senml())).json()
    assert (reply["accepted"], reply["refused"]) == (1, 0)
    (pack,) = thread.packs()
    stored = thread.inbox.pack(pack.station, pack.epoch, pack.seq)
    assert (stored.body, stored.sha256) == (senml(), reply["sha256"])
    assert stored.topic == "agri/v1/hl-001/records"
    assert stored.header.startswith("key=01")
    batch = Decoder(SeriesIndex(MessageReader())).decode([pack])
    assert (batch.v.tolist(), batch.series[0].device) == ([6.5], "plot3/soil1")


async def test_each_record_is_answered(client, device, thread):
    records = [{"bn": "a/", "bt": T, "n": "soil_ph", "v": 7}, {"n": "soil_ph", "vs": "x"}, 3]
    reply = (await send(client, device, json.dumps(records).encode())).json()
    assert [(r["index"], r["state"], r["field"]) for r in reply["records"]] == [
        (0, "accepted", None),
        (1, "refused", "vs"),
        (2, "refused", "record"),
    ]
    assert len(thread.packs()) == 1


async def test_test_records_are_taken(client, device, thread):
    body = json.dumps({"tests": [TEST, TEST | {"value": "x"}, TEST | {"colour": "red"}]}).encode()
    reply = (await send(client, device, body)).json()
    assert [(r["state"], r["field"]) for r in reply["records"]] == [
        ("accepted", None),
        ("refused", "value"),
        ("refused", "'colour'"),
    ]
    batch = Decoder(SeriesIndex(MessageReader())).decode(thread.packs())
    assert [item.record.record_id for item in batch.tests] == ["r1"]


async def test_an_upload_of_anhuis_notice_is_taken_with_the_key_of_its_device(
    client, device, key, thread
):
    detail = {"ybbh": "1", "ybmc": "韭菜", "jcxm": "农药残留", "jcz": "63.2", "szdw": "%"}
    body = json.dumps({"count": 2, "details": [detail, {"xlz": "1"}]}).encode()
    reply = await send(client, device, body, 422)
    assert "key of a device" in reply.json()["detail"]
    made = await client.post(
        KEYS, json={"name": "n", "device": "bench/inbox"}, headers={"X-API-Key": key}
    )
    mine = {"X-API-Key": made.json()["key"]}
    reply = (await send(client, mine, body)).json()
    assert [(r["index"], r["state"], r["field"]) for r in reply["records"]] == [
        (0, "accepted", None),
        (1, "refused", "record"),
    ]
    form = urllib.parse.urlencode(detail | {"ybbh": "2"}, encoding="gbk").encode()
    media = {"Content-Type": "application/x-www-form-urlencoded; charset=GBK"}
    assert (await send(client, mine, form, **media)).json()["accepted"] == 1
    assert (await send(client, mine, form, **media)).json()["accepted"] == 1
    await send(client, mine, b"no=upload", 400, **media)
    assert len(thread.packs()) == 2
    batch = Decoder(SeriesIndex(MessageReader())).decode(thread.packs())
    assert [(t.record.sample_no, t.record.product_name) for t in batch.tests] == [
        ("1", "韭菜"),
        ("2", "韭菜"),
    ]


async def test_the_same_body_again_answers_the_same_and_is_not_doubled(client, device, thread):
    first = await send(client, device, senml())
    again = await send(client, device, senml())
    assert first.json() == again.json()
    assert len(thread.packs()) == 1
    assert thread.intake.counts[Outcome.DUPLICATE] == 1
    await send(client, device, senml(v=6.6))
    assert len(thread.packs()) == 2


async def test_a_repeat_is_known_after_a_restart(client, device, thread, county):
    await send(client, device, senml())
    thread.intake = Intake(
        thread.inbox, Registry(county.operational), store="01KASTARE00000000000000001"
    )
    await send(client, device, senml())
    assert len(thread.packs()) == 1


async def test_without_a_time_a_delivery_needs_a_name(client, device, thread):
    body = json.dumps([{"n": "a/soil_ph", "v": 7}]).encode()
    reply = await send(client, device, body, 422)
    assert "Idempotency-Key" in reply.json()["detail"]
    await send(client, device, body, **{"Idempotency-Key": "1"})
    await send(client, device, body, **{"Idempotency-Key": "1"})
    await send(client, device, body, **{"Idempotency-Key": "2"})
    assert len(thread.packs()) == 2
    await send(client, device, senml(), 409, **{"Idempotency-Key": "1"})
    await send(client, device, senml(), 422, **{"Idempotency-Key": "x" * 101})
    assert len(thread.packs()) == 2


UNUSABLE = [
    (b"", 400),
    (b"\xff", 400),
    (b"[" * 60_000, 400),
    (b'{"tests":[],"tests":[]}', 400),
    (b"{}", 400),
    (b'"x"', 400),
    (b"[]", 422),
    (b'[{"bn":"a/"}]', 422),
    (b'{"tests": 3}', 422),
    (b'[{"bver":99}]', 422),
    (b"[" + b" " * 128 * 1024 + b"]", 413),
]


async def test_what_cannot_be_used_at_all_is_not_taken(client, device, thread):
    for body, status in UNUSABLE:
        await send(client, device, body, status)
    assert thread.packs() == []


async def test_what_is_refused_is_kept_with_its_bytes(client, device, thread):
    for number in (b"NaN", b"1e400", b"9" * 5000, b'"; DROP MEASUREMENT reading"'):
        body = b'[{"n":"a/soil_ph","v":' + number + b"}]"
        reply = (await send(client, device, body)).json()
        assert (reply["accepted"], reply["records"][0]["field"]) == (0, "v")
        assert thread.packs()[-1].body == body


async def test_a_large_body_without_its_length_is_refused(client, device):
    async def parts():
        for _ in range(40):
            yield b" " * 4096

    await send(client, device, parts(), 413)


async def test_a_key_is_of_its_station_and_device(client, key, thread):
    made = await client.post(
        KEYS, json={"name": "n", "device": "plot3/soil1"}, headers={"X-API-Key": key}
    )
    mine = {"Authorization": f"Bearer {made.json()['key']}"}
    body = json.dumps([{"n": "soil_ph", "v": 7, "t": T}]).encode()
    await send(client, mine, body)
    await send(client, mine, json.dumps([{"n": "../x/soil_ph", "v": 7, "t": T}]).encode())
    other = json.dumps({"tests": [TEST]}).encode()
    assert (await send(client, mine, other)).json()["records"][0]["field"] == "device_id"
    batch = Decoder(SeriesIndex(MessageReader())).decode(thread.packs())
    assert [(s.station, s.device) for s in batch.series] == [("hl-001", "plot3/soil1")]
    assert len(batch.t_ms) == 1
    assert (len(batch.tests), len(batch.faults)) == (0, 2)


async def test_a_key_for_no_device_path_is_refused(client, key):
    for name in ("+", "#", "a/#", "x; DROP MEASUREMENT reading", "a\n", "../a"):
        body = {"name": "n", "device": name}
        reply = await client.post(KEYS, json=body, headers={"X-API-Key": key})
        assert reply.status_code == 422


async def test_a_revoked_key_lets_nobody_in(client, device, key):
    await send(client, device, senml())
    (row,) = (await client.get(KEYS, headers={"X-API-Key": key})).json()["keys"]
    assert "key" not in row
    assert "hash" not in row
    reply = await client.delete(f"{KEYS}/{row['id']}", headers={"X-API-Key": key})
    assert reply.json()["keys"][0]["revoked_ms"]
    await send(client, device, senml(v=7), 401)
    assert (
        await client.delete(f"{KEYS}/{row['id']}", headers={"X-API-Key": key})
    ).status_code == 404


async def test_keys_are_of_one_kind_each(client, device, key):
    await send(client, {"X-API-Key": key}, senml(), 401)
    await send(client, {}, senml(), 401)
    await send(client, {"X-API-Key": "agd_" + "0" * 26 + "_" + "x" * 43}, senml(), 401)
    reply = await client.post(KEYS, json={"name": "n"}, headers=device)
    assert reply.status_code == 401


async def test_too_many_requests_are_told_to_wait(client, device, thread):
    client.app.state.records_rate = Rate(per_s=0.5, burst=1, now_s=lambda: 0.0)
    await send(client, device, senml())
    reply = await send(client, device, senml(v=7), 429)
    assert reply.headers["Retry-After"] == "2"
    assert len(thread.packs()) == 1


async def test_while_ingest_holds_nothing_is_taken(client, device, thread):
    thread.held = "disk: nearly full; free space on it"
    reply = await send(client, device, senml(), 503)
    assert reply.headers["Retry-After"] == "10"
    thread.held = ""
    thread.intake.hold = Hold.ALL  # since the look
    await send(client, device, senml(), 503)
    thread.intake.hold = Hold.NONE
    await send(client, device, senml())
    assert len(thread.packs()) == 1


async def test_a_body_that_is_not_json_by_its_own_word_is_refused(client, device):
    await send(client, device, senml(), 415, **{"Content-Type": "text/xml"})
    await send(client, device, senml(), **{"Content-Type": "application/senml+json"})


async def test_a_process_without_ingest_says_where_to_go(county, connect, key):
    async with connect(create_app(county.sources, static=STATIC)) as client:
        reply = await client.post(URL, content=senml(), headers={"X-API-Key": key})
        assert reply.status_code == 503
