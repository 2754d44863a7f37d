"""What the broker is configured from: for holders of a key only, and only what stands."""

from __future__ import annotations

import sqlalchemy as sa

from ingest.registry import credentials
from ingest.registry.credentials import Credential
from ingest.tables import stations

PATH = "/api/v1/broker/credentials"


def put(county, code: str, serial: str = "") -> None:
    with county.operational.write() as db:
        db.execute(sa.insert(stations).values(code=code, name=code, region_code="640122"))
        credentials.put(
            db,
            Credential(
                username=code,
                station=code,
                password_hash=f"$7$of {code}",
                certificate_serial=serial,
                created_ms=1,
            ),
        )


async def test_those_that_stand_are_listed_and_revoked_certificates_are_named(county, connect, key):
    for code, serial in (("hl-001", "aa"), ("hl-002", "bb"), ("hl-003", "")):
        put(county, code, serial)
    with county.operational.write() as db:
        for code in ("hl-002", "hl-003"):
            credentials.revoke(db, code, 2)
    async with connect(county.app()) as client:
        answer = await client.get(PATH, headers={"X-API-Key": key})
    assert answer.json() == {
        "credentials": [{"username": "hl-001", "password_hash": "$7$of hl-001"}],
        "revoked_serials": ["bb"],
    }


async def test_without_a_key_not_even_this_machine_gets_them(county, connect):
    put(county, "hl-001")
    async with connect(county.app()) as client:
        for headers in ({}, {"X-API-Key": "agk_nobody"}):
            answer = await client.get(PATH, headers=headers)
            assert answer.status_code == 401
            assert "$7$" not in answer.text
