"""Targets of people over HTTP: made, tried out, changed, taken away; no secret ever comes back."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet

from alerts.administration import row_hash
from alerts.delivery.guard import Allowance, Guard
from alerts.people import channels
from alerts.people.robots import Outcome
from alerts.tables import administration_log, messages, notices, targets
from alerts.vault import Vault
from tests.conftest import databases  # noqa: F401 - on both engines

ROBOT = {"url": "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=topsecret"}
MAIL = {
    "host": "mail.example",
    "port": 587,
    "security": "starttls",
    "username": "agrigate",
    "password": "hush-hush",
    "sender": "agrigate@nj.example",
    "to": ["duty@nj.example"],
}
FIRST = "01JDWZ0000000000000000000A"


@pytest.fixture
async def client(county, connect):
    county.sources = replace(county.sources, vault=Vault(Fernet.generate_key()))
    async with connect(county.app()) as client:
        yield client


@pytest.fixture
def write(client, key):
    async def send(method, path, body=None, **options):
        return await client.request(
            method, f"/api/v1{path}", json=body, headers={"X-API-Key": key, **options}
        )

    return send


@pytest.fixture
def made(write):
    async def make(**changes):
        body = {"id": "county", "kind": "wecom", "settings": ROBOT, **changes}
        return await write("POST", "/targets", body)

    return make


async def test_a_target_is_made_and_shows_no_secret(client, made, county):
    reply = await made(actor="李四", quiet={"from": "22:00", "to": "07:00"}, operator=True)
    assert reply.status_code == 201
    row = reply.json()
    assert row["settings"] == {"url": "https://qyapi.weixin.qq.com/***", "secret": ""}
    assert (row["version"], row["source"], row["quiet"]) == (
        1,
        "api",
        {"from": "22:00", "to": "07:00"},
    )
    assert county.sender_wakes
    mail = await made(id="mail", kind="smtp", settings=MAIL)
    assert mail.json()["settings"] == {
        **MAIL,
        "username": "***",
        "password": "***",
        "to": ["d***@nj.example"],
    }
    listed = await client.get("/api/v1/targets")
    one = await client.get("/api/v1/targets/county")
    assert one.headers["etag"] == '"1"'
    assert len(listed.json()["targets"]) == 2
    with county.operational.read() as connection:
        log = connection.execute(sa.select(administration_log)).mappings().all()
        sealed = " ".join(connection.scalars(sa.select(targets.c.settings)))
    assert [row["action"] for row in log] == ["target.created"] * 2
    assert log[0]["actor"].startswith("李四 (")
    assert all(row["hash"] == row_hash(row) for row in log)
    for text in (reply.text, mail.text, listed.text, sealed, str(log)):
        assert "topsecret" not in text
        assert "hush-hush" not in text


BAD = [
    ({"settings": {"url": "https://evil.example/x"}}, "settings.url"),
    ({"settings": {"url": "https://qyapi.weixin.qq.com:8443/x"}}, "settings.url"),
    ({"settings": {"url": "http://qyapi.weixin.qq.com/x", "allow_http": True}}, "settings.url"),
    ({"settings": {"url": "https://qyapi.weixin.qq.com@169.254.169.254/"}}, "settings"),
    ({"settings": {"url": "https://169.254.169.254/"}}, "settings.url"),
    ({"settings": {}}, "settings"),
    ({"settings": {**ROBOT, "token": "x"}}, "settings"),
    ({"kind": "dingtalk"}, "settings.url"),
    ({"kind": "smtp", "settings": {**MAIL, "port": 6379}}, "settings.port"),
    (
        {"kind": "smtp", "settings": {**MAIL, "to": ["a@b.example\nBcc: c@d.example"]}},
        "settings",
    ),
    ({"kind": "apprise", "settings": {"url": "json://127.0.0.1/"}}, "kind"),
    ({"rate_per_min": 21}, "rate_per_min"),
    ({"quiet": {"from": "07:00", "to": "07:00"}}, "quiet"),
]


async def test_bad_targets_are_refused_and_nothing_is_kept(client, made):
    for changes, where in BAD:
        reply = await made(**changes)
        assert (reply.status_code, reply.json()["field"]) == (422, where)
        assert reply.headers["content-type"] == "application/problem+json"
        assert "hush-hush" not in reply.text
    assert (await client.get("/api/v1/targets")).json() == {"targets": []}


async def test_a_host_of_the_servers_own_file_is_allowed(county, made):
    guard = Guard((Allowance("robot.intranet.example", ip_network("10.0.0.0/8"), (443,)),))
    object.__setattr__(county.sources, "guard", guard)
    reply = await made(settings={"url": "https://robot.intranet.example/x?key=1"})
    assert reply.status_code == 201


async def test_a_change_keeps_masked_secrets_and_needs_the_version(write, made, county):
    await made(id="mail", kind="smtp", settings=MAIL)
    shown = (await write("GET", "/targets/mail")).json()["settings"]
    assert (await write("PATCH", "/targets/mail", {"name": "x"})).status_code == 428
    changed = await write(
        "PATCH",
        "/targets/mail",
        {"version": 1, "settings": shown, "language": "both", "active": False},
    )
    assert changed.status_code == 200, changed.text
    assert (changed.json()["version"], changed.json()["language"]) == (2, "both")
    with county.operational.read() as connection:
        sealed = connection.scalar(sa.select(targets.c.settings))
    assert "hush-hush" in county.sources.vault.unseal(sealed)
    assert "duty@nj.example" in county.sources.vault.unseal(sealed)
    stale = await write("PATCH", "/targets/mail", {"name": "x"}, **{"If-Match": '"1"'})
    assert (stale.status_code, stale.json()["version"]) == (409, 2)
    stolen = await write(
        "PATCH", "/targets/mail", {"version": 2, "settings": {**shown, "host": "evil.example"}}
    )
    assert (stolen.status_code, stolen.json()["field"]) == (422, "settings.password")


async def test_a_test_message_says_what_was_answered(write, made, monkeypatch):
    seen = []

    async def send(_self, target, document, _message_id):
        seen.append((target.id, document.plain()))
        return Outcome(delivered=False, status_code=200, error="93000: invalid webhook url")

    await made(name="县监管群", language="both")
    monkeypatch.setattr(channels.Channels, "send", send)
    reply = await write("POST", "/targets/county/test", {"actor": "李四"})
    assert reply.status_code == 200
    body = reply.json()
    assert (body["ok"], body["status_code"]) == (False, 200)
    assert "93000" in body["error"]
    assert "测试消息：县监管群" in seen[0][1]
    assert "This target can be told of alerts" in seen[0][1]
    kept = (await write("GET", "/messages?target=county")).json()["messages"]
    assert [(row["id"], row["notices"], row["delivered"]) for row in kept] == [
        (body["message_id"], 0, False)
    ]
    for _ in range(20):
        if (await write("POST", "/targets/county/test", {})).status_code == 429:
            break
    else:
        pytest.fail("tests are not limited")


async def test_messages_come_in_pages(client, county, made):
    await made()
    ids = [f"{FIRST[:-1]}{digit}" for digit in "0123456"]
    for number, id_ in enumerate(ids):
        county.insert(
            messages, id=id_, target_id="county", at_ms=number, notices=1, text="t", delivered=True
        )
    found, cursor = [], ""
    while cursor is not None:
        page = (
            await client.get(f"/api/v1/messages?limit=3{cursor and f'&cursor={cursor}'}")
        ).json()
        found += [row["id"] for row in page["messages"]]
        cursor = page["next"]
    assert found == ids[::-1]
    assert (await client.get("/api/v1/messages?target=other")).json()["messages"] == []
    assert (await client.get("/api/v1/messages?cursor=x")).status_code == 422


async def test_a_target_with_history_stays_inactive_and_gets_nothing_more(write, made, county):
    await made()
    county.insert(
        notices,
        target_id="county",
        event_type="operator",
        severity="major",
        snapshot={},
        created_ms=1,
        due_ms=1,
        state="pending",
    )
    assert (await write("GET", "/targets/county")).json()["waiting"] == 1
    assert (await write("DELETE", "/targets/county?version=2")).status_code == 409
    assert (await write("DELETE", "/targets/county?version=1")).status_code == 204
    row = (await write("GET", "/targets/county")).json()
    assert (row["active"], row["waiting"]) == (False, 0)
    await made(id="fresh")
    assert (await write("DELETE", "/targets/fresh?version=1")).status_code == 204
    assert (await write("GET", "/targets/fresh")).status_code == 404


async def test_targets_of_the_servers_file_are_changed_there(write, made, county):
    await made()
    county.execute(sa.update(targets).values(source="config"))
    reply = await write("PATCH", "/targets/county", {"version": 1, "name": "x"})
    assert reply.status_code == 409
    assert "server's file" in reply.json()["detail"]


async def test_writing_needs_a_key_and_knows_no_other_fields(client, made, write):
    assert (await client.post("/api/v1/targets", json={})).status_code == 401
    assert (await made(colour="red")).status_code == 422
    assert (await made()).status_code == 201
    assert (await made()).status_code == 409
    assert (await write("PATCH", "/targets/nobody", {"version": 1})).status_code == 404
