"""Laboratory results over HTTP, judged and paired: the way of every record, on both engines."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import sqlalchemy as sa

from alerts.laboratory.pairing import Pairing
from alerts.raising import AlertRaiser
from alerts.tables import alert_transitions, alerts, laboratory_reports
from dashboards.app import create_app, create_health_app
from dashboards.pages import STATIC
from ingest.decode import ArrivalOrder, Decoder, SeriesIndex
from ingest.door import Door
from ingest.intake import Outcome
from ingest.judge.catalogue.catalogue import standard_catalogue
from ingest.judge.consumer import Judge
from ingest.publishers.address import of_records
from ingest.publishers.arrival import HTTP, Delivery
from ingest.publishers.reader import MessageReader
from ingest.registry.live import Registry
from ingest.tables import tests
from tests.conftest import databases  # noqa: F401 - on both engines
from tests.dashboards.api.test_records import NOW, Thread
from tests.dashboards.conftest import STATION

ROOT = Path(__file__).parents[3]
URL = "/api/v1/laboratory/reports"
SAMPLE = "hl-001-20260501-0001"
CATALOGUE = standard_catalogue()
REQUIRED = sorted(
    {
        row.substance
        for row in CATALOGUE.method_rules.rows
        if row.kind.value == "detection_limit" and "spectro" in row.method
    }
)


class Server:
    """Inbox, judge, raiser and pairing, stepped by hand."""

    def __init__(self, county, thread) -> None:
        self.operational = county.operational
        self.thread = thread
        self.door = Door(thread, MessageReader(), lambda: NOW)
        self.sent = 0

    def screen(self, **fields) -> None:
        self.sent += 1
        record = {
            "record_id": f"screen-{self.sent}",
            "dedup_key": f"screen-{self.sent}",
            "tested_at": "2026-05-01T09:02:03+08:00",
            "device_id": "bench",
            "sample_no": SAMPLE,
            "product_name": "普通白菜",
            "parameter": "克百威",
            "method": "colloidal_gold",
            "result_kind": "qualitative",
            "screen_result": "positive",
            "purpose": "supervision",
            "sampling_stage": "base",
            "tested_subject_name": "合作社",
            **fields,
        }
        body = json.dumps({"tests": [record]}).encode()
        delivery = Delivery(HTTP, f"t{self.sent}", b"%d" % self.sent, NOW)
        assert self.door.deliver(of_records(STATION, ""), body, "", delivery) is Outcome.TAKEN
        self.settle()

    def inhibit(self, **fields) -> None:
        self.screen(
            **{
                "parameter": "op_carbamate_inhibition",
                "method": "enzyme_inhibition",
                "method_standard": "GB/T 5009.199-2003",
                "result_kind": "inhibition",
                "screen_result": None,
                "value": "61.2",
                "unit": "%",
                **fields,
            }
        )

    def judge(self) -> None:
        """A process that starts anew: it judges what the inbox has beyond the cursor."""
        raiser = AlertRaiser()
        judge = Judge(CATALOGUE, Registry(self.operational), self.operational, raiser)
        with self.operational.read() as connection:
            raiser.load(connection)
        packs = self.thread.inbox.read_after(judge.cursor(), 1000)
        judge.handle(ArrivalOrder().flag(Decoder(SeriesIndex()).decode(packs)))
        raiser.wake()

    def pair(self) -> bool:
        return Pairing(self.operational, CATALOGUE, lambda code: (code, code)).look(NOW)

    def settle(self) -> None:
        self.judge()
        self.pair()

    def rows(self, table, *order):
        with self.operational.read() as connection:
            return connection.execute(sa.select(table).order_by(*order)).mappings().all()

    def states(self):
        return [(row["indicator"], row["state"]) for row in self.rows(alerts, alerts.c.raised_ms)]

    def the_alert(self):
        [row] = self.rows(alerts)
        return row


@pytest.fixture
def server(county, tmp_path):
    county.add_place()
    county.add_station()
    thread = Thread(tmp_path, county.operational)
    yield Server(county, thread)
    thread.close()


@pytest.fixture
async def client(county, server, connect):
    async with connect(create_app(county.sources, static=STATIC, door=server.door)) as client:
        yield client


def report(*results, **fields):
    return {
        "station": STATION,
        "sample_no": SAMPLE,
        "laboratory": "自治区农产品质检中心",
        "report_no": "NX-2026-017",
        "method": "lc_ms",
        "complete": True,
        "reported_at": "2026-05-01T09:30:00+08:00",
        "entered_by": "李四",
        "results": [
            {"indicator": name, "value": value, "unit": "mg/kg", "lod": "0.001", **more}
            for name, value, more in ((*one, {})[:3] for one in results)
        ],
        **fields,
    }


@pytest.fixture
def enter(client, key):
    async def send(*results, **fields):
        body = report(*results, **fields)
        return await client.post(URL, json=body, headers={"X-API-Key": key})

    return send


@pytest.fixture
def listed(client):
    async def get(**params):
        reply = await client.get(URL, params=params)
        assert reply.status_code == 200, reply.text
        return reply.json()["reports"]

    return get


async def test_over_the_limit_confirms_the_suspect(server, enter, listed, key):
    server.screen()
    assert server.states() == [("carbofuran", "suspected")]
    reply = await enter(("克百威", "500", {"unit": "μg/kg", "lod": "1"}))
    assert reply.status_code == 200, reply.text
    said = reply.json()
    [result] = said["results"]
    assert (result["indicator"], result["unit"], result["mg_per_kg"]) == (
        "carbofuran",
        "ug/kg",
        "0.500",
    )
    assert result["conversion"] == "1 ug/kg = 0.001 mg/kg"
    assert (result["verdict"], said["suspects"][0]["says"]) == ("exceed", "confirms")
    server.settle()
    alert = server.the_alert()
    assert alert["state"] == "confirmed"
    assert alert["retest"] == {
        "order_id": "",
        "laboratory": "自治区农产品质检中心",
        "result": "confirms",
        "report_no": "NX-2026-017",
        "report_id": said["report_id"],
    }
    [row] = await listed(alert_id=alert["alert_id"])
    assert (row["state"], row["pairing"][0]["result"]) == ("paired", "confirms")
    assert row["entered_by"] == f"李四 ({key.split('_')[1]})"
    [stored] = [one for one in server.rows(tests) if one["device"] == "laboratory"]
    assert stored["record"]["sampled_at"] == "2026-05-01T09:02:03+08:00"
    assert stored["inbox_pos"] == 2  # the way back to the bytes


async def test_within_the_limit_refutes_it_once(server, enter):
    server.screen()
    assert (await enter(("carbofuran", "未检出"), ("3-羟基克百威", "ND"))).status_code == 200
    server.settle()
    server.settle()
    alert = server.the_alert()
    assert (alert["state"], alert["retest"]["result"]) == ("refuted", "refutes")
    log = server.rows(alert_transitions, alert_transitions.c.seq)
    assert [row["to_state"] for row in log] == ["suspected", "refuted"]
    assert "NX-2026-017" in log[-1]["reason"]


async def test_a_report_that_is_not_complete_does_neither(server, enter, listed):
    server.screen()
    await enter(("carbofuran", "ND"), ("3-羟基克百威", "ND"), complete=False)
    server.settle()
    assert server.the_alert()["state"] == "suspected"
    assert server.the_alert()["retest"]["result"] == "incomplete"
    assert (await listed())[0]["pairing"][0]["says"] == "incomplete"


async def test_the_station_cannot_refute_itself(server, enter, listed):
    server.screen()
    await enter(("carbofuran", "ND"), ("3-羟基克百威", "ND"), laboratory=f"站{STATION}")
    server.settle()
    alert = server.the_alert()
    assert (alert["state"], alert["retest"]["result"]) == ("suspected", "refused")
    [said] = (await listed())[0]["pairing"]
    assert (said["says"], said["result"]) == ("refutes", "refused")
    assert "laboratory" in said["reason"]


async def test_the_station_cannot_confirm_itself(server, enter, listed):
    server.screen()
    await enter(("carbofuran", "0.5"), laboratory=STATION)
    server.settle()
    alert = server.the_alert()
    assert (alert["state"], alert["retest"]["result"]) == ("suspected", "refused")
    assert (await listed())[0]["pairing"][0]["says"] == "confirms"


async def test_a_screening_that_comes_after_the_report_is_refuted_too(server, enter, listed):
    good = [("carbofuran", "ND"), ("3-羟基克百威", "ND")]
    await enter(*good, product_name="普通白菜")
    server.settle()
    server.screen()
    server.inhibit()
    assert not server.pair()
    states = sorted(server.states())
    assert states == [("carbofuran", "refuted"), ("op_carbamate_inhibition", "suspected")]
    assert [one["says"] for one in (await listed())[0]["pairing"]] == ["refutes", "incomplete"]


async def test_any_member_over_its_limit_confirms_a_group(server, enter):
    server.inhibit()
    await enter(("毒死蜱", "3.5"), complete=False)
    server.settle()
    group, own = (
        next(row for row in server.rows(alerts) if row["indicator"] == name)
        for name in ("op_carbamate_inhibition", "chlorpyrifos")
    )
    assert (group["state"], own["state"]) == ("confirmed", "confirmed")
    assert group["related"] == [{"relation": "confirmed_by", "alert_id": own["alert_id"]}]


async def test_a_group_is_refuted_by_its_whole_list_only(server, enter, listed):
    server.inhibit()
    some = [(code, "ND") for code in REQUIRED[:-2]]
    await enter(*some)
    server.settle()
    assert server.states() == [("op_carbamate_inhibition", "suspected")]
    missing = (await listed())[0]["pairing"][0]["missing"]
    assert set(REQUIRED[-2:]) <= set(missing)
    rest = [(code, "ND") for code in missing]
    reply = await enter(*rest, ("3-羟基克百威", "ND"), report_no="NX-2026-018")
    assert reply.status_code == 200, reply.text
    server.settle()
    assert server.states() == [("op_carbamate_inhibition", "refuted")], await listed()


async def test_the_example_of_the_documentation(server, client, key):
    server.screen()
    text = (ROOT / "docs/laboratory.md").read_text("utf-8")
    body = json.loads(re.search(r"-d '(\{.*?\})'\n```", text, re.DOTALL)[1])
    reply = await client.post(URL, json=body, headers={"X-API-Key": key})
    assert (reply.status_code, reply.json()["suspects"][0]["says"]) == (200, "confirms")
    withdrawal = json.loads(re.findall(r"-d '(\{.*?\})'\n```", text, re.DOTALL)[1])
    url = "/api/v1/records/screen-1/withdraw"
    assert (await client.post(url, json=withdrawal, headers={"X-API-Key": key})).is_success


async def test_the_process_of_role_ingest_takes_reports_too(county, server, connect, key):
    server.screen()
    body = report(("克百威", "0.5"))
    async with connect(create_health_app(county.sources, door=server.door)) as client:
        assert (await client.post(URL, json=body)).status_code == 401
        reply = await client.post(URL, json=body, headers={"X-API-Key": key})
        assert reply.status_code == 200
        refused = await client.post(URL, json={**body, "x": 1}, headers={"X-API-Key": key})
        assert (refused.status_code, "x" in refused.json()["detail"]) == (422, True)
    async with connect(create_app(county.sources, static=STATIC)) as client:
        reply = await client.post(URL, json=body, headers={"X-API-Key": key})
        assert (reply.status_code, "role ingest" in reply.json()["detail"]) == (503, True)


async def test_nothing_is_written_while_the_inbox_takes_nothing(server, enter):
    server.screen()
    server.thread.held = "the disk is full"
    assert (await enter(("克百威", "0.5"))).status_code == 503
    assert server.rows(laboratory_reports) == []
    server.thread.held = ""
    assert (await enter(("克百威", "0.5"))).json()["state"] == "taken"


async def test_the_suspect_named_must_be_of_the_sample(county, server, enter):
    server.screen()
    other = county.add_alert(kind="test", sample_no="another")
    reply = await enter(("克百威", "0.5"), alert_id=other)
    assert [one["column"] for one in reply.json()["faults"]] == ["alert_id"]
    mine = next(row["alert_id"] for row in server.rows(alerts) if row["sample_no"] == SAMPLE)
    assert (await enter(("克百威", "0.5"), alert_id=mine)).status_code == 200


async def test_every_fault_is_named_and_nothing_stored(server, enter):
    server.screen()
    reply = await enter(
        ("克百威", "0.5", {"unit": "%"}),
        ("毒死俾", "0.5"),
        ("乐果", "少量"),
        ("氧乐果", "1", {"unit": "mg/L"}),
        ("甲胺磷", "0.5", {"unit": ""}),
        ("辛硫磷", "0.5", {"method": "colloidal_gold"}),
    )
    assert reply.status_code == 422
    assert reply.headers["content-type"] == "application/problem+json"
    faults = {(one["row"], one["column"]) for one in reply.json()["faults"]}
    assert faults == {(0, "unit"), (1, "indicator"), (2, "value"), (4, "unit"), (5, "method")}
    reply = await enter(("氧乐果", "1", {"unit": "mg/L"}), ("克百威", "1"))
    assert [(one["row"], one["column"]) for one in reply.json()["faults"]] == [(0, "unit")]
    assert len(server.thread.packs()) == 1
    assert server.rows(laboratory_reports) == []


async def test_an_unknown_sample_is_refused(server, enter):
    reply = await enter(("克百威", "0.5"), sample_no="nobody")
    assert reply.status_code == 422
    assert reply.json()["faults"][0]["column"] == "sample_no"
    reply = await enter(("克百威", "0.5"), sample_no="nobody", product_name="普通白菜")
    assert reply.status_code == 200
    server.settle()
    assert server.states() == [("carbofuran", "confirmed")]


async def test_the_same_report_again_is_known_another_refused(server, enter):
    server.screen()
    first = (await enter(("克百威", "0.5"))).json()
    again = (await enter(("carbofuran", "0.5"), entered_by="王五")).json()
    assert (first["state"], again["state"]) == ("taken", "known")
    assert again["report_id"] == first["report_id"]
    other = await enter(("克百威", "0.4"))
    assert (other.status_code, other.json()["report_id"]) == (409, first["report_id"])
    assert len(server.thread.packs()) == 2
    assert len(server.rows(laboratory_reports)) == 1


async def test_a_corrected_report_supersedes_what_the_first_confirmed(server, enter, listed):
    server.screen()
    first = (await enter(("克百威", "0.5"), ("毒死蜱", "3.5"))).json()
    server.settle()
    assert sorted(server.states()) == [("carbofuran", "confirmed"), ("chlorpyrifos", "confirmed")]
    reply = await enter(("克百威", "ND"), ("3-羟基克百威", "ND"), supersedes=first["report_id"])
    assert reply.status_code == 200, reply.text
    server.settle()
    assert sorted(server.states()) == [
        ("carbofuran", "refuted"),
        ("carbofuran", "superseded"),
        ("chlorpyrifos", "superseded"),
    ]
    assert [row["state"] for row in await listed()] == ["paired", "superseded"]


async def test_a_withdrawn_result_raises_the_suspect_again(server, enter, client, key):
    server.screen()
    await enter(("克百威", "0.5"))
    server.settle()
    [result] = [row for row in server.rows(tests) if row["device"] == "laboratory"]
    url = f"/api/v1/records/{result['record_id']}/withdraw"
    headers = {"X-API-Key": key}
    body = {"reason": "样品混淆", "actor": "李四"}
    reply = await client.post(url, json=body, headers=headers)
    assert (reply.status_code, reply.json()["state"]) == (200, "taken"), reply.text
    server.settle()
    old, new = sorted(server.rows(alerts), key=lambda row: row["state"])
    assert (old["state"], new["state"]) == ("superseded", "suspected") or (
        new["state"],
        old["state"],
    ) == ("superseded", "suspected")
    gone, again = (new, old) if new["state"] == "superseded" else (old, new)
    assert gone["evidence"]["record_id"] == result["record_id"]  # kept as it was
    assert again["evidence"]["record_id"] == "screen-1"
    assert again["related"] == [{"relation": "supersedes", "alert_id": gone["alert_id"]}]
    log = server.rows(alert_transitions, alert_transitions.c.id)
    said = next(row for row in log if row["to_state"] == "superseded")
    assert result["record_id"] in said["reason"]
    by_id = {row["record_id"]: row for row in server.rows(tests)}
    withdrawal = by_id[by_id[result["record_id"]]["superseded_by"]]
    assert (withdrawal["verdict"], "样品混淆" in withdrawal["reason"]) == ("invalid", True)
    assert withdrawal["record"]["tester"].startswith("李四 (")
    again = await client.post(url, json=body, headers=headers)
    assert again.json()["state"] == "known"


@pytest.mark.parametrize(
    ("complete", "after"),
    [
        (True, [("carbofuran", "superseded"), ("carbofuran", "suspected")]),
        (False, [("carbofuran", "suspected")]),
    ],
)
async def test_what_refuted_is_withdrawn(server, enter, client, key, complete, after):
    server.screen()
    good = [("carbofuran", "ND"), ("3-羟基克百威", "ND")]
    result = (await enter(*good, complete=complete)).json()["record_ids"][0]
    server.settle()
    url = f"/api/v1/records/{result}/withdraw"
    assert (await client.post(url, json={"reason": "x"}, headers={"X-API-Key": key})).is_success
    server.settle()
    assert sorted(server.states()) == after


async def test_a_withdrawn_screening_supersedes_its_suspect(server, client, key):
    server.screen()
    headers = {"X-API-Key": key}
    url = "/api/v1/records/screen-1/withdraw"
    assert (await client.post(url, json={"reason": "演练"})).status_code == 401
    assert (await client.post(url, json={"reason": ""}, headers=headers)).status_code == 422
    nobody = "/api/v1/records/nobody/withdraw"
    assert (await client.post(nobody, json={"reason": "x"}, headers=headers)).status_code == 404
    assert (await client.post(url, json={"reason": "演练"}, headers=headers)).status_code == 200
    server.settle()
    assert server.states() == [("carbofuran", "superseded")]


async def test_a_correction_that_only_completes_the_record_keeps_the_alert(server):
    server.screen(tested_subject_name="")
    server.screen(parent_record_id="screen-1")
    assert server.states() == [("carbofuran", "suspected")]


async def test_a_correction_that_says_otherwise_supersedes_the_alert(server):
    server.screen()
    server.screen(parent_record_id="screen-1", screen_result="negative")
    assert server.states() == [("carbofuran", "superseded")]


async def test_killed_between_inbox_and_pairing_it_is_paired_once(server, enter):
    server.screen()
    await enter(("carbofuran", "ND"), ("3-羟基克百威", "ND"))
    server.judge()  # killed here: nothing of the process is left but its files
    assert server.the_alert()["state"] == "suspected"
    assert server.pair()
    assert not server.pair()
    assert [row["to_state"] for row in server.rows(alert_transitions)] == ["suspected", "refuted"]


async def test_killed_between_inbox_and_row_the_same_report_completes_it(server, enter):
    server.screen()
    good = [("carbofuran", "ND"), ("3-羟基克百威", "ND")]
    await enter(*good)
    with server.operational.write() as connection:
        connection.execute(sa.delete(laboratory_reports))
    server.settle()
    assert server.the_alert()["state"] == "suspected"
    assert (await enter(*good)).json()["state"] == "taken"
    server.settle()
    assert server.the_alert()["state"] == "refuted"
    assert len(server.rows(tests)) == 3
