"""Sheets of laboratory results over HTTP."""

from __future__ import annotations

import pytest

from alerts.laboratory import template
from alerts.tables import laboratory_reports
from dashboards.app import create_app
from dashboards.pages import STATIC
from ingest.tables import tests
from tests.dashboards.api.test_laboratory import CATALOGUE, SAMPLE, Server
from tests.dashboards.api.test_records import Thread
from tests.dashboards.conftest import STATION

IMPORT = "/api/v1/laboratory/import"
WIDE = ["序号", "样品编号", "样品名称", "抽样地址", "判定结果"]
DEFAULTS = {
    "station": STATION,
    "laboratory": "省检测中心",
    "report_no": "W-1",
    "method": "GB 23200.121-2021",
    "reported_at": "2026-05-01",
}


def forty():
    codes = {
        CATALOGUE.names.substance(name).code
        for limits in CATALOGUE.residues.crops.rows
        if CATALOGUE.names.substance(name := limits) is not None
    }
    return sorted(codes)[:40]


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


@pytest.fixture
def send_sheet(client, key):
    async def send(content, **params):
        return await client.post(
            IMPORT, params={**DEFAULTS, **params}, content=content, headers={"X-API-Key": key}
        )

    return send


async def test_a_wide_sheet_of_forty_by_thirty(server, send_sheet):
    names = forty()
    assert len(names) == 40
    rows = [
        [n, f"2026R{n:03}", "普通白菜", "某村", "合格", *(["未检出"] * 39), 0.011]
        for n in range(1, 31)
    ]
    content = template.sheet([*WIDE, *names], rows)
    dry = await send_sheet(content, dry_run=1)
    assert dry.status_code == 200, dry.text[:2000]
    assert (dry.json()["layout"], dry.json()["results"], dry.json()["taken"]) == ("wide", 1200, 0)
    assert server.thread.packs() == []
    last = dry.json()["reports"][29]["results"][39]
    assert (last["row"], last["column"], last["value"]) == (32, "AS", "0.011")
    reply = (await send_sheet(content)).json()
    assert (reply["taken"], reply["known"]) == (30, 0)
    server.settle()
    assert len(server.rows(tests)) == 1200
    assert (await send_sheet(content)).json()["known"] == 30
    assert len(server.thread.packs()) == 30
    rows[3][-1] = 0.02
    assert (await send_sheet(template.sheet([*WIDE, *names], rows))).status_code == 409


async def test_every_bad_cell_of_a_sheet_is_named_and_nothing_stored(server, send_sheet):
    header = [*WIDE, "毒死蜱(%)", "克百威", "毒死俾"]
    rows = [
        [1, "a", "普通白菜", "", "", 0.1, "未检出", ""],
        [2, "b", "小白", "", "", "", "-0.1", ""],
        [3, "a", "普通白菜", "", "", "", "0.1", ""],
    ]
    reply = await send_sheet(template.sheet(header, rows))
    assert reply.status_code == 422
    faults = {(one["row"], one["column"]) for one in reply.json()["faults"]}
    assert {(2, "H"), (3, "F"), (4, "G"), (5, "B"), (4, "C")} <= faults, faults
    assert server.thread.packs() == []
    assert server.rows(laboratory_reports) == []


async def test_a_long_sheet_with_english_headers(server, send_sheet):
    server.screen()
    header = ["sample_no", "indicator", "value", "unit", "lod", "complete"]
    rows = [
        [SAMPLE, "carbofuran", "ND", "mg/kg", "0.001", "yes"],
        [SAMPLE, "3-hydroxycarbofuran", "<0.005", "ug/kg", "", "yes"],
    ]
    reply = await send_sheet(template.sheet(header, rows))
    assert (reply.status_code, reply.json().get("layout")) == (200, "long"), reply.text
    server.settle()
    assert server.states() == [("carbofuran", "refuted")]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"sample_no,value\n", b"x" * 1000])
async def test_what_is_no_workbook_is_refused(send_sheet, content):
    reply = await send_sheet(content)
    assert reply.status_code == 422
    assert "XLSX" in reply.json()["detail"]


async def test_a_file_that_is_too_large_is_refused(send_sheet):
    assert (await send_sheet(b"x" * (2 * 1024 * 1024 + 1))).status_code == 413


@pytest.mark.parametrize("layout", ["long", "wide"])
async def test_the_template_is_one_that_is_read(client, send_sheet, layout):
    reply = await client.get("/api/v1/laboratory/template.xlsx", params={"layout": layout})
    assert reply.status_code == 200
    [fault] = (await send_sheet(reply.content)).json()["faults"]
    assert "no rows" in fault["what"]  # its header is understood
