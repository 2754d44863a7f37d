from __future__ import annotations

import hashlib

from ingest.tables import quarantine

NOW_MS = 1_777_600_000_000
EPOCH = "01JDWZ0000000000000000000A"


async def test_pack_is_shown_with_what_could_not_be_used(county, client):
    body = '{"readings":[{"n":"土壤"}]}'.encode()
    stored = county.add_pack(body)
    for position, station in ((1, "hl-001"), (0, "hl-001"), (-1, "pl-104")):
        county.insert(
            quarantine,
            station=station,
            epoch=EPOCH,
            seq=1,
            position=position,
            inbox_pos=stored.pos,
            field="v",
            reason="not a number",
            at_ms=NOW_MS,
        )
    reply = (await client.get(f"/api/v1/packs/hl-001/{EPOCH}/1")).json()
    header = reply.pop("header")
    assert header.startswith(f"agri1 {EPOCH} 1 1 ")
    assert header.endswith(hashlib.sha256(body).hexdigest()[:16])
    assert reply == {
        "station": "hl-001",
        "epoch": EPOCH,
        "seq": 1,
        "pos": stored.pos,
        "topic": "agri/v1/hl-001/up",
        "received_ms": NOW_MS,
        "sha256": hashlib.sha256(body).hexdigest(),
        "body": body.decode(),
        "quarantined": [
            {"position": 0, "field": "v", "reason": "not a number"},
            {"position": 1, "field": "v", "reason": "not a number"},
        ],
    }


async def test_bytes_that_are_no_text_are_shown_and_hashed_as_they_are(county, client):
    county.add_pack(b"\xff\xfe{")
    reply = (await client.get(f"/api/v1/packs/hl-001/{EPOCH}/1")).json()
    assert reply["body"] == "\ufffd\ufffd{"
    assert reply["sha256"] == hashlib.sha256(b"\xff\xfe{").hexdigest()


async def test_unknown_pack_is_404(client):
    response = await client.get(f"/api/v1/packs/hl-001/{EPOCH}/9")
    assert response.status_code == 404
    assert f"hl-001/{EPOCH}/9" in response.json()["detail"]


async def test_seq_beyond_the_database_is_named(client):
    response = await client.get(f"/api/v1/packs/hl-001/{EPOCH}/{2**63}")
    assert response.status_code == 422
    assert response.json()["detail"].startswith("seq: ")
