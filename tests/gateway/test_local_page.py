"""The agent's local page: on a real agent, over real sockets, and in a real browser."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import segno
from playwright.async_api import async_playwright, expect

from drivers.records import Purpose, ResultKind, Source, TestRecord
from drivers.session import Refused
from gateway import app, config
from gateway.errors import LocalPortError
from gateway.local_page import completeness, slip
from gateway.local_page.entry import BEIJING, Entry, EntryError, completed, locked, typed
from gateway.local_page.sample_numbers import SampleNumbers
from gateway.quarantine import Quarantine
from tests.conftest import Mosquitto, free_port, require, until

ROOT = Path(__file__).parents[2]
NOW = dt.datetime(2026, 11, 2, 9, 0, tzinfo=BEIJING)
SLIP = "样品编号：{}\n样品名称：韭菜\n检测项目：农药残留(酶抑制率)\n抑 制 率：63.2 %\n检测结果：不合格\n检测时间：{}\n"
CUT = b"\n\x1dV\x00"
GOOD = {
    "station": "hl-001", "product_name": "韭菜", "parameter": "农药残留", "method": "enzyme_inhibition",
    "result_kind": "inhibition", "value": "12.5", "purpose": "self", "tested_subject_name": "某某合作社",
    "tester": "张三", "tested_at": "2026-11-02T08:41:00",
}  # fmt: skip


def entry(**changes):
    return Entry(**({"entry_id": "0123456789abcdef"} | GOOD | changes))


def from_device(**changes):
    fields = {
        "record_id": "r-1",
        "dedup_key": "k-1",
        "tested_at": "2026-11-02T08:41:00+08:00",
        "device_id": "tester1",
        "sample_no": "7",
        "product_name": "油麦菜",
        "parameter": "op_carbamate_inhibition",
        "method": "enzyme_inhibition",
        "result_kind": ResultKind.INHIBITION,
        "value": "63.2",
        "unit": "%",
        "raw": "AAAA",
    }
    return msgspec.convert(fields | changes, TestRecord, strict=False)


# ---------------------------------------------------------------- typing and completing


def test_a_typed_test_says_that_it_was_typed():
    record = typed(entry(), NOW, "hl-001-20261102-0001")
    assert record.source is Source.TYPED
    assert "manual" in record.quality_flags
    assert record.sample_no == "hl-001-20261102-0001"
    assert (record.parameter, str(record.value), record.unit) == (
        "op_carbamate_inhibition",
        "12.5",
        "%",
    )
    assert record.tested_at == "2026-11-02T08:41:00+08:00"
    assert completeness.missing(record) == []


def test_one_form_is_one_record_and_another_form_is_another():
    assert typed(entry(), NOW, "").record_id == typed(entry(), NOW, "").record_id
    other = entry(entry_id="fedcba9876543210")
    assert typed(entry(), NOW, "").record_id != typed(other, NOW, "").record_id


@pytest.mark.parametrize(
    ("changes", "faults"),
    [
        ({"product_name": " "}, {"product_name": "required"}),
        ({"value": ""}, {"value": "required"}),
        ({"value": "12,5"}, {"value": "not_a_number"}),
        ({"value": "１２"}, {"value": "not_a_number"}),
        ({"value": "1e5"}, {"value": "not_a_number"}),
        ({"value": "900"}, {"value": "out_of_range"}),
        ({"result_kind": "quantitative"}, {"unit": "required"}),
        ({"result_kind": "quantitative", "unit": "mg/Kgg"}, {"unit": "unit_unknown"}),
        ({"result_kind": "qualitative"}, {"screen_result": "required"}),
        ({"result_kind": "magic"}, {"result_kind": "unknown"}),
        ({"purpose": "routine"}, {"sampling_stage": "required"}),
        (
            {"purpose": "supervision", "sampling_stage": "base"},
            {"sampling_sheet_no": "required"},
        ),
        ({"tested_at": "2026-11-02T09:06"}, {"tested_at": "in_future"}),
        ({"tested_at": "2011-01-01T00:00"}, {"tested_at": "too_old"}),
        ({"tested_at": "yesterday"}, {"tested_at": "not_a_time"}),
        ({"tester": "a\x00b"}, {"tester": "control_character"}),
        (
            {"product_name": "", "method": "", "value": "x"},
            {"product_name": "required", "method": "required", "value": "not_a_number"},
        ),
    ],
)
def test_every_fault_of_a_form_is_named_at_its_field(changes, faults):
    with pytest.raises(EntryError) as refused:
        typed(entry(**changes), NOW, "")
    assert faults.items() <= refused.value.faults.items()


def test_not_detected_needs_no_number_and_an_unknown_item_is_flagged():
    record = typed(
        entry(result_kind="quantitative", qualifier="not_detected", value="", parameter="某某物质"),
        NOW,
        "",
    )
    assert record.value is None
    assert record.parameter == "某某物质"
    assert "parameter_unknown" in record.quality_flags


def test_a_completion_is_a_new_record_that_points_to_the_old():
    parent = from_device()
    assert completeness.missing(parent) == ["purpose", "tested_subject_name"]
    made = completed(
        Entry(
            station="hl-001",
            entry_id="0123456789",
            parent_record_id="r-1",
            purpose="self",
            tested_subject_name="某某合作社",
        ),
        parent,
        NOW,
    )
    assert made.parent_record_id == "r-1"
    assert made.record_id not in {"r-1", ""}
    assert made.dedup_key != parent.dedup_key
    assert completeness.missing(made) == []
    # What the instrument measured is still the instrument's.
    assert (made.source, made.value, made.raw) == (Source.DEVICE, parent.value, "AAAA")
    assert "manual" in made.quality_flags
    assert made.purpose is Purpose.SELF


def test_what_an_instrument_measured_cannot_be_typed_over():
    parent = from_device()
    assert {"value", "unit", "parameter", "tested_at"} <= set(locked(parent))
    with pytest.raises(EntryError) as refused:
        completed(
            Entry(station="hl-001", entry_id="0123456789", value="12", tester="x"), parent, NOW
        )
    assert refused.value.faults == {"value": "measured"}


def test_a_result_that_the_instrument_did_not_give_is_typed():
    parent = from_device(value=None, unit="", quality_flags=["result_missing"])
    made = completed(Entry(station="hl-001", entry_id="0123456789", value="12.5"), parent, NOW)
    assert (str(made.value), made.unit, made.source) == ("12.5", "%", Source.TYPED)
    assert "result_missing" not in made.quality_flags


def test_an_unknown_item_and_a_wrong_clock_may_be_put_right():
    parent = from_device(
        parameter="？？",
        tested_at="2011-01-01T00:00:00+08:00",
        quality_flags=["clock_suspect", "parameter_unknown"],
    )
    made = completed(
        Entry(
            station="hl-001",
            entry_id="0123456789",
            parameter="农药残留",
            tested_at="2026-11-02T08:00",
        ),
        parent,
        NOW,
    )
    assert made.parameter == "op_carbamate_inhibition"
    assert made.tested_at == "2026-11-02T08:00:00+08:00"
    assert made.quality_flags == ("manual",)


def test_a_completion_names_the_sample():
    parent = from_device(sample_no="", quality_flags=["sample_missing"])
    given = {"station": "hl-001", "entry_id": "0123456789", "purpose": "self"}
    with pytest.raises(EntryError) as refused:
        completed(Entry(**given), parent, NOW)
    assert refused.value.faults == {"sample_no": "required"}
    made = completed(Entry(**given, sample_no="NS-9"), parent, NOW)
    assert (made.sample_no, made.quality_flags) == ("NS-9", ("manual",))


def test_a_completion_says_what_its_purpose_asks_for():
    given = {"station": "hl-001", "entry_id": "0123456789"}
    with pytest.raises(EntryError) as refused:
        completed(Entry(**given, purpose="supervision"), from_device(), NOW)
    assert refused.value.faults == {"sampling_stage": "required", "sampling_sheet_no": "required"}
    stage = {"purpose": "routine", "sampling_stage": "base"}
    assert completed(Entry(**given, **stage), from_device(), NOW).purpose is Purpose.ROUTINE


def test_a_completion_without_anything_new_is_refused():
    with pytest.raises(EntryError) as refused:
        completed(Entry(station="hl-001", entry_id="0123456789"), from_device(), NOW)
    assert refused.value.faults == {"": "nothing_new"}


def test_sample_numbers_never_come_twice(tmp_path):
    day, before = dt.date(2026, 11, 2), dt.date(2026, 11, 1)
    numbers = SampleNumbers("hl-001", tmp_path)
    assert numbers.next(day) == "hl-001-20261102-0001"
    assert SampleNumbers("hl-001", tmp_path).next(day) == "hl-001-20261102-0002"
    assert numbers.next(before) == "hl-001-20261101-0001"  # the clock was set back
    assert numbers.next(day) == "hl-001-20261102-0003"
    assert len(SampleNumbers("x" * 40, tmp_path).next(day)) == 40


def test_the_qr_code_holds_record_and_sample():
    record = from_device()
    svg = slip.qr_svg(record)
    expected = io.BytesIO()
    segno.make("AGR1:r-1:7", error="m", micro=False).save(
        expected, kind="svg", border=4, xmldecl=False, omitsize=True, nl=False
    )
    assert svg == expected.getvalue()


# ---------------------------------------------------------------- what nobody could read


def test_refused_bytes_are_kept_and_the_oldest_go_first(tmp_path):
    quarantine = Quarantine(tmp_path / "refused", max_files=3)
    for number in range(5):
        assert quarantine.keep("t1", Refused(bytes([number]) * 10, f"reason {number}"), number)
    kept = quarantine.newest(10)
    assert [one.raw[0] for one in kept] == [4, 3, 2]
    assert kept[0].reason == "reason 4"
    small = Quarantine(tmp_path / "small", max_bytes=3000)
    for number in range(20):
        small.keep("t1", Refused(bytes(500), "r"), number)
    assert sum(f.stat().st_size for f in (tmp_path / "small").iterdir()) <= 3000


def test_a_disk_that_does_not_take_refused_bytes_stops_nothing(tmp_path):
    (tmp_path / "refused").write_text("a file where the folder should be")
    assert not Quarantine(tmp_path / "refused").keep("t1", Refused(b"x", "r"), 1)


# ---------------------------------------------------------------- a real agent


def edge_toml(directory, *, page, tap, mqtt, inbox=None):
    inbox = inbox or free_port()
    (directory / "edge.toml").write_text(
        f"""
[agent]
data_dir = "data"
local_port = {page}
[broker]
host = "127.0.0.1"
port = {mqtt}
protocol = "3.1.1"
[[station]]
code = "hl-001"
[[station.device]]
path = "tap1"
driver = "tester"
reader = "key_value"
charset = "gbk"
idle_s = 0.2
transport = {{ listen = {tap} }}
[station.device.defaults]
method = "enzyme_inhibition"
[[station.device]]
path = "upload1"
driver = "tester"
profile = "anhui"
transport = {{ http = "/up", port = {inbox} }}
""",
        "utf-8",
    )
    return directory / "edge.toml"


class Running:
    """An agent process with its page."""

    def __init__(self, directory, mqtt):
        self.page, self.tap, self.inbox = free_port(), free_port(), free_port()
        file = edge_toml(directory, page=self.page, tap=self.tap, mqtt=mqtt, inbox=self.inbox)
        self._log = (directory / "agent.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "agrigate.py"), "edge", "-c", str(file)],
            stdout=self._log,
            stderr=self._log,
            cwd=ROOT,
        )
        until(self._answers)

    def _answers(self):
        assert self.process.poll() is None, Path(self._log.name).read_text()
        with contextlib.suppress(OSError):
            for port in (self.inbox, self.tap):  # they open with their devices, beside the page
                socket.create_connection(("127.0.0.1", port), timeout=10).close()
            return self.ask("GET", "/api/state")[0] == 200
        return False

    def ask(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.page, timeout=20)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            if body is not None and "Content-Type" not in named:
                named["Content-Type"] = "application/json"
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            return answer.status, answer.read(), dict(answer.getheaders())
        finally:
            connection.close()

    def enter(self, **changes):
        now = dt.datetime.now(BEIJING).replace(tzinfo=None).isoformat(timespec="seconds")
        form = {"entry_id": os.urandom(8).hex()} | GOOD | {"tested_at": now} | changes
        status, body, _ = self.ask("POST", "/api/records", json.dumps(form))
        return status, json.loads(body)

    def lines(self):
        return json.loads(self.ask("GET", "/api/records?station=hl-001")[1])

    def upload(self, sample_no):
        """Upload one test in Anhui's way; return the status and what became of the record."""
        detail = {
            "ybbh": sample_no,
            "ybmc": "油麦菜",
            "jcxm": "农药残留",
            "jcz": "37.6",
            "jgpd": "合格",
        }
        body = json.dumps({"count": 1, "details": [detail]}).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.inbox, timeout=20)
        try:
            connection.request("POST", "/up", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())["results"][0]["result"]
        finally:
            connection.close()

    def print(self, data):
        with socket.create_connection(("127.0.0.1", self.tap), timeout=10) as printer:
            printer.sendall(data)

    def print_slip(self, number):
        when = dt.datetime.now(BEIJING).strftime("%Y-%m-%d %H:%M")
        self.print(SLIP.format(number, when).encode("gbk") + CUT)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self._log.close()

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=30) == 0
        self._log.close()


@pytest.fixture
def agent(tmp_path):
    running = Running(tmp_path, free_port())
    yield running
    if running.process.poll() is None:
        running.end()


def test_a_printed_slip_is_listed_completed_and_kept_over_a_kill(agent, tmp_path):
    agent.print_slip("NS-1")
    until(lambda: agent.lines()["records"])
    line = agent.lines()["records"][0]
    assert line["record"]["sample_no"] == "NS-1"
    assert line["missing"] == ["purpose", "tested_subject_name"]
    assert "value" in line["locked"]
    assert not line["receipted"]
    parent = line["record"]["record_id"]
    fields = {
        "station": "hl-001", "entry_id": "abcdef0123", "parent_record_id": parent,
        "purpose": "self", "tested_subject_name": "某某合作社",
    }  # fmt: skip
    status, body, _ = agent.ask("POST", "/api/records", json.dumps(fields))
    assert status == 201
    agent.kill()  # what was answered with 201 is on disk

    again = Running(tmp_path, free_port())
    records = again.lines()["records"]
    again.end()
    assert [r["record"]["record_id"] for r in records] == [
        json.loads(body)["record"]["record_id"],
        parent,
    ]
    assert records[0]["record"]["parent_record_id"] == parent
    assert records[0]["missing"] == []
    assert records[1]["completed_by"] == records[0]["record"]["record_id"]


def test_a_test_is_completed_once_and_the_completion_may_be_completed(agent):
    agent.print_slip("NS-1")
    until(lambda: agent.lines()["records"])
    parent = agent.lines()["records"][0]["record"]["record_id"]

    def complete(of, number, **fields):
        asked = {"station": "hl-001", "entry_id": f"abcdef012{number}", "parent_record_id": of}
        status, body, _ = agent.ask("POST", "/api/records", json.dumps(asked | fields))
        return status, json.loads(body)

    first = complete(parent, 1, purpose="self")
    assert first[0] == 201
    assert complete(parent, 1, purpose="self") == first  # a second click
    status, said = complete(parent, 2, tester="李四")
    assert (status, said["faults"]) == (422, {"parent_record_id": "superseded"})
    status, again = complete(first[1]["record"]["record_id"], 3, tester="李四")
    assert (status, again["record"]["purpose"]) == (201, "self")


def test_what_an_upload_was_told_is_accepted_survives_a_kill(agent, tmp_path):
    for number in range(5):
        assert agent.upload(f"UP-{number}") == (200, "accepted")
    agent.kill()
    again = Running(tmp_path, free_port())
    records = [line["record"]["sample_no"] for line in again.lines()["records"]]
    again.end()
    assert records == [f"UP-{number}" for number in reversed(range(5))]


def test_a_typed_test_gets_a_number_and_two_clicks_are_one_test(agent):
    status, first = agent.enter(entry_id="abcdef0123")
    assert status == 201
    today = dt.datetime.now(BEIJING).strftime("%Y%m%d")
    assert first["record"]["sample_no"] == f"hl-001-{today}-0001"
    assert agent.enter(entry_id="abcdef0123") == (201, first)
    assert agent.enter()[1]["record"]["sample_no"] == f"hl-001-{today}-0002"
    assert len(agent.lines()["records"]) == 2
    status, wrong = agent.enter(value="", tester="")
    assert (status, wrong["faults"]) == (422, {"value": "required", "tester": "required"})
    # A form that was refused took no number.
    assert agent.enter()[1]["record"]["sample_no"] == f"hl-001-{today}-0003"


def test_a_qr_code_is_served_for_a_record_that_exists(agent):
    record = agent.enter()[1]["record"]["record_id"]
    status, body, headers = agent.ask("GET", f"/qr/hl-001/{record}.svg")
    assert status == 200
    assert headers["Content-Type"] == "image/svg+xml"
    assert body.startswith(b"<svg")
    assert agent.ask("GET", "/qr/hl-001/none.svg")[0] == 404
    assert agent.ask("GET", f"/qr/hl-002/{record}.svg")[0] == 404


def test_what_could_not_be_read_is_shown_counted_and_on_disk(agent, tmp_path):
    agent.print("仪器型号：LZ\n".encode("gbk") + CUT)
    until(lambda: agent.lines()["refused"])
    refused = agent.lines()["refused"][0]
    assert refused["device"] == "tap1"
    assert bytes.fromhex(refused["first_bytes"]).startswith("仪器型号".encode("gbk"))
    card = json.loads(agent.ask("GET", "/api/state")[1])["stations"][0]
    assert card["devices"][0]["refused"] == 1
    assert len(list((tmp_path / "data" / "hl-001" / "refused").glob("*.json"))) == 1


def test_the_tick_is_red_while_the_broker_is_away(agent):
    status, body, _ = agent.ask("GET", "/api/state")
    state = json.loads(body)
    assert status == 200
    assert state["well"] is False
    assert state["stations"][0]["connected"] is False


def test_a_page_of_somebody_else_may_not_do_anything(agent):
    form = json.dumps({"entry_id": "abcdef0123"} | GOOD)
    own = f"http://127.0.0.1:{agent.page}"
    for headers, wanted in (
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Host": "evil.example"}, 421),
        ({"Host": f"evil.example:{agent.page}"}, 421),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
    ):
        assert agent.ask("POST", "/api/records", form, **headers)[0] == wanted, headers
    assert agent.ask("GET", "/api/state", Host=f"evil.example:{agent.page}")[0] == 421
    assert agent.ask("GET", "/api/state", Origin="http://evil.example")[0] == 403
    assert agent.lines()["records"] == []
    assert agent.ask("GET", "/api/state", Origin=own)[0] == 200


def test_sizes_are_bounded_and_addresses_are_few(agent):
    assert agent.ask("POST", "/api/records", "x" * 40_000)[0] == 413
    assert agent.ask("POST", "/api/records", "{")[0] == 400
    assert agent.enter(product_name="x" * 81)[0] == 422
    assert agent.enter(product_names="x")[0] == 422
    assert agent.enter(station="hl-002")[0] == 422
    for path in (
        "/../edge.toml",
        "/page.py",
        "/entry.py",
        "/api/records",
        "/api/records?station=x",
    ):
        assert agent.ask("GET", path)[0] == 404
    assert agent.ask("DELETE", "/api/state")[0] == 405


def test_nothing_is_loaded_from_elsewhere(agent):
    for path in ("/", "/page.css", "/page.js"):
        status, body, headers = agent.ask("GET", path)
        assert status == 200
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert not re.search(rb"https?://|url\(", body)
        assert b"innerHTML" not in body


def test_the_agent_stays_small_with_its_page_open(agent):
    agent.enter()
    agent.ask("GET", "/")
    agent.print_slip("NS-1")
    until(lambda: len(agent.lines()["records"]) == 2)
    status = Path(f"/proc/{agent.process.pid}/status").read_text()
    assert int(re.search(r"VmRSS:\s+(\d+)", status)[1]) < 60 * 1024


def test_without_a_port_nothing_of_the_page_is_loaded(tmp_path):
    file = edge_toml(tmp_path, page=0, tap=free_port(), mqtt=free_port())
    code = (
        "import asyncio, sys, pathlib; from gateway import app, config\n"
        "async def run():\n"
        "    stop = asyncio.Event(); asyncio.get_running_loop().call_later(0.5, stop.set)\n"
        f"    await app.run(config.load(pathlib.Path({str(file)!r})), stop=stop)\n"
        "asyncio.run(run())\n"
        "print([m for m in sys.modules if 'local_page' in m or 'segno' in m])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip().splitlines()[-1] == "[]"


async def test_a_port_in_use_is_said_at_the_start(tmp_path):
    server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        file = edge_toml(tmp_path, page=port, tap=free_port(), mqtt=free_port())
        with pytest.raises(LocalPortError, match="local_port"):
            await app.run(config.load(file), stop=asyncio.Event())


# ---------------------------------------------------------------- in the browser

ARGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
CJK = re.compile(r"[\u4e00-\u9fff]")
VISIBLE = """() => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), texts = [];
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim();
    if (text && walker.currentNode.parentElement.checkVisibility()) texts.push(text);
  }
  return texts;
}"""


@pytest.mark.chromium
@pytest.mark.mosquitto
async def test_an_operator_types_prints_and_completes(tmp_path, mosquitto: Mosquitto):
    agent = await asyncio.to_thread(Running, tmp_path, mosquitto.port)
    complaints, asked = [], []
    try:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=require("chromium"), args=ARGS
            )
            context = await browser.new_context(viewport={"width": 1280, "height": 860})
            context.set_default_timeout(20_000)
            expect.set_options(timeout=20_000)
            page = await context.new_page()
            page.on("request", lambda request: asked.append(request.url))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on(
                "console",
                lambda line: complaints.append(line.text) if line.type == "error" else None,
            )
            await page.goto(f"http://127.0.0.1:{agent.page}/")
            by = page.get_by_test_id

            # The tick
            await expect(by("tick")).to_have_attribute("data-well", "true")
            await expect(by("tick-title")).to_have_text("一切正常")
            await expect(by("device").first).to_contain_text("tap1")

            # Typing: what is missing is said at the field
            await by("tab-entry").click()
            await by("save").click()
            wrong = page.locator("[data-wrong=true]")
            await expect(wrong).to_have_count(4)
            await expect(by("field-value").locator("em")).to_have_text("必须填写")
            await by("field-product_name").locator("input").fill("<b>韭菜</b>")
            await by("field-value").locator("input").fill("12.5")
            await by("field-tested_subject_name").locator("input").fill("某某合作社")
            await by("field-tester").locator("input").fill("张三")
            await by("save").click()

            # The slip with its code
            await expect(by("slip")).to_be_visible()
            code = by("slip-qr")
            await expect(code).to_have_js_property("complete", True)  # noqa: FBT003
            assert await code.evaluate("(image) => image.naturalWidth") > 0
            await expect(by("slip")).to_contain_text("-0001")
            await page.evaluate("window.print = () => { window.printed = true }")
            await by("slip-print").click()
            assert await page.evaluate("window.printed")
            await page.locator("#slip-close").click()
            row = by("record-row")
            await expect(row).to_have_count(1)
            await expect(row).to_contain_text("<b>韭菜</b>")  # as text
            await expect(row).to_contain_text("手工")

            # A slip from an instrument comes by itself, and is completed
            await asyncio.to_thread(agent.print_slip, "NS-7")
            await expect(row).to_have_count(2)
            await expect(row.first).to_contain_text("缺：监测类型、被检单位")
            await by("only-incomplete").check()
            await expect(row).to_have_count(1)
            await by("complete").click()
            await expect(by("field-value").locator("input")).to_be_disabled()
            await by("field-purpose").locator("select").select_option("self")
            await by("field-tested_subject_name").locator("input").fill("某某农场")
            await by("save").click()
            await expect(by("slip")).to_contain_text("NS-7")
            await page.locator("#slip-close").click()
            await expect(row).to_have_count(0)
            await by("only-incomplete").uncheck()
            await expect(row).to_have_count(3)
            await expect(row.nth(1)).to_have_attribute("data-old", "true")

            # English, everywhere but in what people wrote
            for tab in ("records", "entry"):
                await by(f"tab-{tab}").click()
                await by("lang-en").click()
                await expect(page.locator("html")).to_have_attribute("lang", "en")
                texts = await page.evaluate(VISIBLE)
                own = ("韭菜", "某某", "张三", "中文")
                left = [t for t in texts if CJK.search(t) and not any(o in t for o in own)]
                assert not left
                assert {"Last tests", "Enter a test"} <= set(texts)
                await by("lang-zh").click()
            await browser.close()
    finally:
        await asyncio.to_thread(agent.end)
    # 422 is what the empty form was answered with; the browser says so in its console.
    assert [text for text in complaints if "422" not in text] == []
    assert {url.split("/")[2] for url in asked} == {f"127.0.0.1:{agent.page}"}
