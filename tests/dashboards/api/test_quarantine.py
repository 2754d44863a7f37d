from __future__ import annotations

import base64

from ingest.intake import Damaged, Staged
from ingest.tables import quarantine

NOW_MS = 1_777_600_000_000
EPOCH = "01JDWZ0000000000000000000A"
TOPIC = "agri/v1/hl-001/up"


def damaged(topic: str, payload: bytes, at_ms: int) -> Staged:
    return Staged(damaged=[Damaged(topic, "header", "header: has 1 fields, not 7", payload, at_ms)])


def record(county, position: int, at_ms: int, **row) -> None:
    row = {"station": "hl-001", "epoch": EPOCH, "seq": 1, "inbox_pos": 1, "field": "u"} | row
    county.insert(quarantine, position=position, reason="convert at the edge", at_ms=at_ms, **row)


async def test_both_kinds_are_listed_newest_first_with_their_bytes(county, client):
    body = b'{"readings":[{"n":"x"}]}'
    county.add_pack(body)
    record(county, 0, NOW_MS + 1)
    county.inbox.commit(damaged(TOPIC, b"\xff" * 3000, NOW_MS + 2))
    record(county, -1, NOW_MS + 3)
    rows = (await client.get("/api/v1/quarantine")).json()["quarantine"]
    assert [row["kind"] for row in rows] == ["pack", "message", "record"]
    assert rows[1] == {
        "kind": "message",
        "at_ms": NOW_MS + 2,
        "topic": TOPIC,
        "station": "hl-001",
        "epoch": None,
        "seq": None,
        "position": None,
        "field": "header",
        "reason": "header: has 1 fields, not 7",
        "size": 3000,
        "payload": base64.b64encode(b"\xff" * 2048).decode(),
    }
    assert (rows[2]["epoch"], rows[2]["seq"], rows[2]["position"]) == (EPOCH, 1, 0)
    assert rows[2]["topic"] == TOPIC
    assert base64.b64decode(rows[2]["payload"]) == body
    assert rows[0]["position"] is None


async def test_a_pack_past_its_retention_is_listed_without_its_bytes(county, client):
    record(county, 0, NOW_MS, seq=7)
    [row] = (await client.get("/api/v1/quarantine")).json()["quarantine"]
    assert (row["size"], row["payload"], row["field"]) == (None, None, "u")


async def test_a_topic_that_is_none_of_ours_names_no_station(county, client):
    county.inbox.commit(damaged("agri/v1/a b/up", b"x", NOW_MS))
    [row] = (await client.get("/api/v1/quarantine")).json()["quarantine"]
    assert (row["topic"], row["station"]) == ("agri/v1/a b/up", "")


async def test_only_the_newest_hundred_are_listed(county, client):
    for number in range(60):
        county.inbox.commit(damaged(TOPIC, b"x", NOW_MS + 2 * number))
        record(county, number, NOW_MS + 2 * number + 1)
    rows = (await client.get("/api/v1/quarantine")).json()["quarantine"]
    assert [row["at_ms"] for row in rows] == [NOW_MS + 119 - n for n in range(100)]
