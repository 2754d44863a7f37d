"""Endpoints, keys, receipts and schemas over HTTP, on both engines, with real receivers."""

from __future__ import annotations

import ipaddress
import itertools
import json
import ssl
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jsonschema
import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet

from alerts.delivery.guard import Allowance, Guard
from alerts.delivery.signing import verify
from alerts.tables import (
    administration_log,
    alert_transitions,
    alerts,
    endpoint_keys,
    endpoints,
    outbox,
    receipts,
)
from alerts.vault import Vault
from dashboards.api import receipts as receipts_api
from dashboards.rate import Rate
from ingest.broker.pki import Authority
from tests.conftest import databases  # noqa: F401 - on both engines
from tests.dashboards.conftest import NOW_MS

DAY_MS = 24 * 3_600_000


@dataclass
class Hook:
    """A receiver: ``echo`` answers a challenge with its nonce, ``allow`` the handshake by OPTIONS."""

    echo: bool = True
    allow: bool = False
    status: int = 200
    url: str = ""
    port: int = 0
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


@contextmanager
def hook(context=None, **settings):
    made = Hook(**settings)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            made.requests.append(("POST", headers, body))
            data = json.loads(body)["data"]
            answer = json.dumps({"nonce": data.get("nonce")}).encode() if made.echo else b"<b>hi"
            self.send_response(made.status)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def do_OPTIONS(self):
            made.requests.append(("OPTIONS", dict(self.headers.items()), b""))
            self.send_response(200)
            if made.allow:
                self.send_header("WebHook-Allowed-Origin", "agrigate")
                self.send_header("WebHook-Allowed-Rate", "120")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        made.port = server.server_address[1]
        made.url = f"{'https' if context else 'http'}://hook.example:{made.port}/in"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        server.shutdown()
        thread.join()


@pytest.fixture
def now():
    return {"is": NOW_MS}


@pytest.fixture
async def client(county, connect, now, monkeypatch, key):
    ports = tuple(range(1024, 65536))
    loopback = Allowance("hook.example", ipaddress.ip_network("127.0.0.0/8"), ports)
    names = {"hook.example": ["127.0.0.1"], "inside.example": ["10.1.2.3"]}
    guard = Guard((loopback,), lambda host, _port: names.get(host, ["8.8.8.8"]))
    strangers = Rate(per_s=1.0, burst=20, now_s=itertools.repeat(0.0).__next__)
    monkeypatch.setattr(receipts_api, "_strangers", strangers)
    app = county.app(vault=Vault(Fernet.generate_key()), guard=guard, now_ms=lambda: now["is"])
    async with connect(app) as client:
        client.headers["X-API-Key"] = key
        yield client


async def made(client, url="https://county.example/hook", id_="county", **more):
    reply = await client.post("/api/v1/endpoints", json={"id": id_, "url": url, **more})
    assert reply.status_code == 201, reply.text
    return reply.json()


async def test_an_endpoint_is_made_unverified_and_its_secrets_are_shown_once(client, county):
    reply = await made(client, name="县局", bearer="t0ken")
    assert reply["endpoint"]["state"] == "unverified"
    assert reply["signing_key"]["kind"] == "ed25519"
    assert reply["signing_key"]["public"].startswith("whpk_")
    assert reply["signing_key"]["secret"] == ""
    receipt = reply["receipt_key"]["secret"]
    assert receipt.startswith("whrk_")
    shown = (await client.get("/api/v1/endpoints/county")).text
    assert receipt not in shown
    assert "t0ken" not in shown
    with county.operational.read() as connection:
        for table in (endpoints, endpoint_keys, administration_log):
            stored = str(connection.execute(sa.select(table)).all())
            assert receipt not in stored
            assert "t0ken" not in stored
            assert "whsk_" not in stored
        actions = list(connection.scalars(sa.select(administration_log.c.action)))
    assert actions == ["endpoint.created"]


@pytest.mark.parametrize(
    "url",
    [
        "http://county.example/",
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://[::ffff:127.0.0.1]/",
        "https://0.0.0.0/",
        "https://169.254.169.254/latest/meta-data",
        "https://user@county.example/",
        "https://[fe80::1%25eth0]/",
        "https://inside.example/",
        "https://county.example:22/",
    ],
)
async def test_p12_an_address_of_the_inside_is_refused_and_nothing_is_kept(client, county, url):
    reply = await client.post("/api/v1/endpoints", json={"id": "x", "url": url})
    assert (reply.status_code, reply.json()["field"]) == (422, "url")
    assert reply.headers["content-type"] == "application/problem+json"
    await made(client)
    change = {"version": 3, "url": url, "allow_http": False}
    reply = await client.patch("/api/v1/endpoints/county", json=change)
    assert reply.status_code == 422
    with county.operational.read() as connection:
        assert list(connection.scalars(sa.select(endpoints.c.url))) == [
            "https://county.example/hook"
        ]


@pytest.mark.parametrize("settings", [{"echo": True}, {"echo": False, "allow": True}])
async def test_the_challenge_is_answered_by_the_nonce_or_the_handshake(client, settings):
    with hook(**settings) as there:
        new = await made(client, there.url, allow_http=True, key_kind="hmac", bearer="t0ken")
        reply = (await client.post("/api/v1/endpoints/county/verify", json={})).json()
        assert (reply["ok"], reply["endpoint"]["state"]) == (True, "active")
        _, headers, body = there.requests[0]
        assert verify(new["signing_key"]["secret"], headers, body, NOW_MS / 1000)
        assert headers["authorization"] == "Bearer t0ken"
        jsonschema.validate(json.loads(body), await schema(client, "endpoint.v1"))


async def test_a_receiver_that_does_not_want_them_stays_unverified_then_a_changed_url_is_again(
    client,
):
    with hook(echo=False) as there:
        await made(client, there.url, allow_http=True)
        reply = (await client.post("/api/v1/endpoints/county/verify", json={})).json()
        assert (reply["ok"], reply["endpoint"]["state"]) == (False, "unverified")
        assert [method for method, _, _ in there.requests] == ["POST", "OPTIONS"]
        there.echo = True
        reply = (await client.post("/api/v1/endpoints/county/verify", json={})).json()
        assert reply["endpoint"]["state"] == "active"
        change = {"url": there.url + "/2", "version": reply["endpoint"]["version"]}
        row = (await client.patch("/api/v1/endpoints/county", json=change)).json()
        assert row["state"] == "unverified"


async def test_a_test_event_is_sent_at_once_and_stands_in_no_outbox(client, county):
    with hook() as there:
        await made(client, there.url, allow_http=True)
        reply = (await client.post("/api/v1/endpoints/county/test", json={})).json()
        assert (reply["ok"], reply["status_code"]) == (True, 200)
        event = json.loads(there.requests[0][2])
        assert (event["type"], event["data"]["status"]) == ("endpoint.test", "test")
        jsonschema.validate(event, await schema(client, "endpoint.v1"))
    with county.operational.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(outbox)) == 0


async def test_a_stale_version_is_409_and_a_missing_one_428(client):
    row = (await made(client))["endpoint"]
    good = {"If-Match": f'"{row["version"]}"'}
    assert (await client.patch("/api/v1/endpoints/county", json={"name": "B"})).status_code == 428
    reply = await client.patch("/api/v1/endpoints/county", json={"name": "B"}, headers=good)
    assert (reply.json()["name"], reply.json()["version"]) == ("B", row["version"] + 1)
    reply = await client.patch("/api/v1/endpoints/county", json={"name": "C"}, headers=good)
    assert (reply.status_code, reply.json()["version"]) == (409, row["version"] + 1)
    reply = await client.patch("/api/v1/endpoints/county", json={"nmae": "C"}, headers=good)
    assert reply.status_code == 422


async def test_d8_keys_rotate_are_revoked_and_stay_listed(client, now):
    first = (await made(client))["signing_key"]
    url = "/api/v1/endpoints/county/rotate"
    second = (await client.post(url, json={"overlap_h": 2})).json()
    keys = (await client.get("/api/v1/webhook-keys")).json()["keys"]
    assert [key["id"] for key in keys] == [first["id"], second["id"]]
    assert [key["ends_ms"] for key in keys] == [NOW_MS + 2 * 3_600_000, None]
    now["is"] += 30 * DAY_MS
    assert (await client.get("/api/v1/webhook-keys")).json()["keys"] == keys
    reply = await client.delete(f"/api/v1/endpoints/county/keys/{second['id']}")
    assert (reply.status_code, "only key" in reply.json()["detail"]) == (409, True)
    assert (await client.post(url, json={"overlap_h": 0})).status_code == 422
    client.headers.pop("X-API-Key")
    assert (await client.get("/api/v1/webhook-keys")).status_code == 401  # from this machine, too
    assert (await client.post("/api/v1/endpoints", json={"id": "y", "url": "x"})).status_code == 401


async def test_suspended_then_resumed_then_removed(client, county, now):
    row = (await made(client))["endpoint"]
    url = "/api/v1/endpoints/county"
    reply = await client.post(f"{url}/suspend", json={"reason": "it moves", "actor": "李四"})
    assert reply.json()["state"] == "suspended"
    assert (await client.post(f"{url}/suspend", json={"reason": "again"})).status_code == 409
    assert (await client.post(f"{url}/replay", json={"since": "0"})).status_code == 409
    reply = (await client.post(f"{url}/resume", json={})).json()
    assert reply["endpoint"]["state"] == "unverified"
    assert (await client.delete(url, headers={"If-Match": str(row["version"])})).status_code == 409
    version = reply["endpoint"]["version"]
    row = (await client.delete(url, headers={"If-Match": str(version)})).json()
    assert row["state"] == "off"
    assert all(key["ends_ms"] == now["is"] for key in row["keys"])
    with county.operational.read() as connection:
        log = administration_log.c
        rows = connection.execute(sa.select(log.action, log.actor).order_by(log.id)).all()
    actions = ["created", "suspended", "resumed", "removed"]
    assert [row.action for row in rows] == [f"endpoint.{action}" for action in actions]
    assert rows[1].actor.startswith("李四 (")


def sent(county, alert_id, endpoint_id="county", seq=1, **row):
    row = {
        "webhook_id": f"evt_{alert_id}{seq}_{endpoint_id}",
        "event_id": f"{alert_id}{seq}",
        "event_type": "alert.suspected",
        "alert_id": alert_id,
        "alert_seq": seq,
        "endpoint_id": endpoint_id,
        "body": b"{}",
        "state": "delivered",
        "attempts": 1,
        "next_ms": 0,
        "created_ms": NOW_MS - 1000,
        "delivered_ms": NOW_MS,
    } | row
    county.insert(outbox, **row)
    return row["webhook_id"]


async def test_one_event_or_a_range_is_replayed(client, county):
    await made(client)
    county.execute(sa.update(endpoints).values(verified_ms=1))
    alert_id = county.add_alert()
    first = sent(county, alert_id)
    sent(county, alert_id, seq=2, state="undelivered", created_ms=NOW_MS - DAY_MS)
    url = "/api/v1/endpoints/county/replay"
    assert (await client.post(url, json={"webhook_id": first})).json()["events"] == 1
    assert (await client.post(url, json={"webhook_id": first})).status_code == 409
    assert (await client.post(url, json={"webhook_id": "evt_no"})).status_code == 404
    assert (await client.post(url, json={})).status_code == 422
    assert (await client.post(url, json={"undelivered": True})).json()["events"] == 1
    page = (await client.get("/api/v1/endpoints/county/deliveries?state=pending&limit=1")).json()
    assert (page["deliveries"][0]["replays"], page["deliveries"][0]["state"]) == (1, "pending")
    more = f"/api/v1/endpoints/county/deliveries?before={page['next']}"
    assert [row["alert_seq"] for row in (await client.get(more)).json()["deliveries"]] == [1]
    for _ in range(20):
        reply = await client.post(url, json={"undelivered": True})
    assert reply.status_code == 429


# ---------------------------------------------------------------- receipts


@pytest.fixture
async def county_key(client):
    return (await made(client))["receipt_key"]["secret"]


@pytest.fixture
def tell(client, county_key):
    async def send(alert_id, decision, key=county_key, **more):
        body = {"alert_id": alert_id, "seq": 1, "decision": decision, **more}
        return await client.post("/api/v1/receipts", json=body, headers={"X-API-Key": key})

    return send


def handed_over(county, **row):
    alert_id = county.add_alert(state="handed_over", handover={"agency": "县执法队"}, **row)
    sent(county, alert_id)
    return alert_id


async def test_accepted_with_a_case_number_moves_the_alert_once(tell, county):
    alert_id = handed_over(county)
    assert (await tell(alert_id, "accepted")).status_code == 422
    for repeated in (False, True):
        reply = (await tell(alert_id, "accepted", case_no="2026-7", handler="王五")).json()
        assert (reply["repeated"], reply["state"], reply["seq"]) == (repeated, "in_enforcement", 2)
    with county.operational.read() as connection:
        row = connection.execute(sa.select(alerts)).one()
        assert (row.handover["agency"], row.handover["case_no"]) == ("县执法队", "2026-7")
        (step,) = connection.execute(sa.select(alert_transitions))
        assert (step.event, step.actor) == ("alert.accepted", "王五 (county)")
        assert connection.scalar(sa.select(sa.func.count()).select_from(receipts)) == 1


async def test_rejected_needs_a_reason_and_gives_it_back(tell, county):
    alert_id = handed_over(county)
    assert (await tell(alert_id, "rejected")).status_code == 422
    reply = (await tell(alert_id, "rejected", reason="不属本队管辖")).json()
    assert reply["state"] == "confirmed"


async def test_received_acknowledges_and_an_outcome_is_recorded(tell, county):
    alert_id = county.add_alert()
    sent(county, alert_id)
    assert (await tell(alert_id, "received", handler="王五")).json()["seq"] == 2
    reply = (await tell(alert_id, "outcome", outcome="penalised")).json()
    assert (reply["state"], reply["seq"]) == ("suspected", 3)
    with county.operational.read() as connection:
        assert connection.scalar(sa.select(alerts.c.acked_by)) == "王五 (county)"
        assert list(connection.scalars(sa.select(receipts.c.outcome).order_by(receipts.c.id))) == [
            "",
            "penalised",
        ]


async def test_an_illegal_receipt_is_409_with_what_is_legal_and_leaves_nothing(tell, county):
    alert_id = county.add_alert()
    sent(county, alert_id)
    reply = await tell(alert_id, "accepted", case_no="7")
    assert reply.status_code == 409
    assert "order_retest" in reply.json()["legal"]
    assert (await tell(alert_id, "received", seq=9)).status_code == 422
    with county.operational.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(receipts)) == 0


async def test_bola_an_endpoint_speaks_of_its_own_alerts_only(client, tell, county):
    other = (await made(client, id_="other"))["receipt_key"]["secret"]
    alert_id = handed_over(county)  # sent to county
    reply = await tell(alert_id, "accepted", key=other, case_no="7")
    unknown = await tell("01JDWZ0000000000000000000Z", "accepted", key=other, case_no="7")
    assert (reply.status_code, unknown.status_code) == (404, 404)
    assert reply.json()["detail"].replace(alert_id, "") == unknown.json()["detail"].replace(
        "01JDWZ0000000000000000000Z", ""
    )
    with county.operational.read() as connection:
        assert connection.scalar(sa.select(alerts.c.state)) == "handed_over"


async def test_s9_only_a_living_receipt_key_opens_receipts_and_it_opens_nothing_else(
    client, tell, county_key, county, key, now
):
    alert_id = handed_over(county)
    for wrong in (key, county_key[:-1] + "!", "whrk_x", ""):
        assert (await tell(alert_id, "received", key=wrong)).status_code == 401
    for path in ("/api/v1/webhook-keys", "/api/v1/alerts"):
        assert (await client.get(path, headers={"X-API-Key": county_key})).status_code == 401
    rotated = {"kind": "receipt", "revoke_old_now": True}
    new = (await client.post("/api/v1/endpoints/county/rotate", json=rotated)).json()["secret"]
    now["is"] += 1
    assert (await tell(alert_id, "received")).status_code == 401
    assert (await tell(alert_id, "received", key=new)).status_code == 200
    codes = [(await tell(alert_id, "received", key="x")).status_code for _ in range(20)]
    assert codes[-1] == 429


# ---------------------------------------------------------------- schemas, TLS


async def schema(client, name):
    return (await client.get(f"/api/v1/schemas/{name}")).json()


async def test_schemas_are_published_by_name_and_version(client):
    listed = (await client.get("/api/v1/schemas")).json()["schemas"]
    assert [row["name"] for row in listed] == ["alert.v1", "endpoint.v1"]
    for row in listed:
        found = (await client.get(row["url"])).json()
        jsonschema.Draft202012Validator.check_schema(found)
        assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert (await client.get("/api/v1/schemas/alert.v9")).status_code == 404


async def test_a_receiver_that_asks_for_a_certificate_gets_ours_and_must_be_the_one_named(
    client, tmp_path
):
    authority = Authority.open(tmp_path / "pki")
    certificate, private = authority.issue_server(["hook.example"])
    (tmp_path / "server.pem").write_text(certificate + private)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=authority.ca_pem)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(tmp_path / "server.pem")
    ours, key, _ = authority.issue_client("agrigate")
    mutual = {"certificate": ours, "key": key, "ca": authority.ca_pem}
    with hook(context) as there:
        await made(client, there.url, client_certificate=mutual)
        reply = (await client.post("/api/v1/endpoints/county/test", json={})).json()
        assert (reply["ok"], reply["error"]) == (True, "")
        await made(client, there.url, id_="none", client_certificate={"ca": authority.ca_pem})
        assert not (await client.post("/api/v1/endpoints/none/test", json={})).json()["ok"]
        await made(client, there.url, id_="unknown")  # an authority that the system does not know
        reply = (await client.post("/api/v1/endpoints/unknown/test", json={})).json()
        assert "Certificate" in reply["error"]
    bad = {"certificate": "x", "key": "y"}
    body = {"id": "bad", "url": "https://county.example/", "client_certificate": bad}
    assert (await client.post("/api/v1/endpoints", json=body)).status_code == 422
