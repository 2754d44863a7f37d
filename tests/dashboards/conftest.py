"""A server's parts on disk, filled by the tests, behind the application."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace

import httpx
import numpy as np
import pytest
import sqlalchemy as sa
from ulid import ULID

from alerts.tables import alerts
from dashboards.app import create_app
from dashboards.keys import create_key
from dashboards.signal import EventSignal
from dashboards.sources import Sources
from dashboards.standards import Standards
from ingest.batch import Batch, Series, TakenPack
from ingest.inbox import Inbox
from ingest.intake import Loss, Staged, Taken
from ingest.judge.catalogue.catalogue import standard_catalogue
from ingest.judge.readings.spans import LimitSpan
from ingest.operational import Operational
from ingest.store.duckdb_store import DuckDBStore
from ingest.tables import (
    bases,
    devices,
    events,
    findings,
    plots,
    regions,
    station_state,
    stations,
    subjects,
    tests,
)
from tests.conftest import Databases

NOW_MS = 1_777_600_000_000  # 2026-05-01 09:46:40 in Shanghai
EPOCH = "01JDWZ0000000000000000000A"
STATION = "hl-001"
PLOT = "plot-3"


SPAN = LimitSpan(
    standard="GB 15618-2018",
    clause="表1",
    clause_en="Table 1",
    level="screening",
    comparator=">",
    limit=0.4,
    unit="mg/kg",
    verified=True,
    conditions={"land_use": "paddy", "ph": 6.2},
    from_ms=0,
    to_ms=NOW_MS,
)


@dataclass
class County:
    """The parts of one server, and what fills them."""

    sources: Sources
    operational: Operational
    inbox: Inbox
    spans: list[LimitSpan]
    reasons: list[str]
    sender_wakes: list[int]
    _numbers: itertools.count = field(default_factory=itertools.count)

    def insert(self, table, **row):
        with self.operational.write() as connection:
            connection.execute(sa.insert(table).values(row))

    def execute(self, statement):
        with self.operational.write() as connection:
            connection.execute(statement)

    def add_place(self):
        self.insert(regions, code="640122", name="贺兰县", name_en="Helan")
        self.insert(subjects, id="s1", name="丰收合作社", subject_type="coop", region_code="640122")
        self.insert(bases, id="b1", subject_id="s1", name="一号基地", region_code="640122")
        self.insert(plots, id=PLOT, base_id="b1", name="三号田", land_use="paddy")

    def add_station(self, code=STATION, **row):
        row = {"name": f"站{code}", "name_en": f"Station {code}", "region_code": "640122"} | row
        self.insert(stations, code=code, **row)

    def add_device(self, path="plot3/soil1", station=STATION, **row):
        self.insert(devices, station=station, path=path, **({"name": "土壤一号"} | row))

    def set_state(self, station=STATION, *, age_ms=0, online=True, **row):
        row = {"devices": [], "alarms": []} | row
        self.insert(station_state, station=station, online=online, seen_ms=NOW_MS - age_ms, **row)

    def add_test(self, **row):
        number = next(self._numbers)
        row = {
            "record_id": f"r{number:05}",
            "station": STATION,
            "epoch": EPOCH,
            "seq": 1,
            "position": number,
            "inbox_pos": 1,
            "dedup_key": f"d{number}",
            "device": "tester1",
            "tested_ms": NOW_MS - 1000 + number,
            "received_ms": NOW_MS,
            "sample_no": f"s{number}",
            "product_name": "韭菜",
            "parameter": "op_carbamate_inhibition",
            "method": "enzyme_inhibition",
            "method_standard": "GB/T 5009.199-2003",
            "result_kind": "inhibition",
            "value": "61.20",
            "unit": "%",
            "value_text": "61.2%",
            "qualifier": "eq",
            "screen_result": "",
            "device_verdict": "不合格",
            "attempt": 0,
            "purpose": "routine",
            "sampling_stage": "base",
            "subject": "s1",
            "source": "device",
            "verdict": "suspect",
            "severity": "major",
            "reason": "≥ 50 %",
            "findings": [{"standard": "GB/T 5009.199-2003", "limit": 50, "exceeded": True}],
            "flags": ["fp_prone"],
            "incomplete": False,
            "record": {},
        } | row
        self.insert(tests, **row)
        return row["record_id"]

    def add_alert(self, **row):
        row = {
            "alert_id": str(ULID()),
            "dedup_key": f"k{next(self._numbers)}",
            "kind": "limit",
            "rule_id": "GB 15618-2018/1/screening/Cd",
            "state": "suspected",
            "seq": 1,
            "severity": "major",
            "certainty": "sensor",
            "station": STATION,
            "device": "plot3/soil1",
            "plot_id": PLOT,
            "region_code": "640122",
            "indicator": "soil_cd",
            "value": 0.45,
            "unit": "mg/kg",
            "citation": {
                "standard": "GB 15618-2018",
                "clause": "表1",
                "limit": "0.4",
                "ratio": 1.125,
                "verified": True,
            },
            "evidence": {
                "finding_id": "f1",
                "station": STATION,
                "epoch": EPOCH,
                "seq": 1,
                "position": 0,
                "inbox_pos": 1,
            },
            "first_seen_ms": NOW_MS - 5000,
            "last_seen_ms": NOW_MS - 1000,
            "occurrence_count": 3,
            "flags": [],
            "raised_ms": NOW_MS - 4000,
            "changed_ms": NOW_MS - 4000,
        } | row
        self.insert(alerts, **row)
        return row["alert_id"]

    def add_finding(self, **row):
        number = next(self._numbers)
        row = {
            "finding_id": f"f{number}",
            "station": STATION,
            "epoch": EPOCH,
            "seq": 1,
            "position": number,
            "inbox_pos": 1,
            "kind": "reading",
            "device": "plot3/soil1",
            "indicator": "soil_cd",
            "t_ms": NOW_MS - 5000 + number,
            "value": 0.45,
            "unit": "mg/kg",
            "rule_id": "x",
            "verdict": "exceed",
            "severity": "major",
            "late": False,
            "citation": {"standard": "GB 15618-2018"},
        } | row
        self.insert(findings, **row)

    def add_event(self, number, kind="station", **data):
        self.insert(
            events,
            at_ms=NOW_MS,
            type=kind,
            station=STATION,
            data={"station": STATION, "n": number, **data},
        )

    def add_events(self, numbers, filling):
        rows = [
            {
                "at_ms": NOW_MS,
                "type": "station",
                "station": STATION,
                "data": {"n": number, "filling": filling},
            }
            for number in numbers
        ]
        with self.operational.write() as connection:
            connection.execute(sa.insert(events), rows)

    def add_pack(self, body=b'{"readings":[]}', seq=1):
        staged = Staged(taken=[Taken(STATION, EPOCH, seq, 1, NOW_MS - 50, NOW_MS, body)])
        return self.inbox.commit(staged)[0]

    def add_loss(self, reason, readings, station=STATION):
        loss = Loss(station, EPOCH, 5, 9, readings, reason, NOW_MS)
        self.inbox.commit(Staged(losses=[loss]))

    def add_readings(self, values, *, series=None, t_ms=None, q=None):
        n = len(values)
        number = next(self._numbers) + 1
        pack = TakenPack(number, STATION, EPOCH, number, NOW_MS, b"{}")
        t = NOW_MS - 1000 * np.arange(n, 0, -1) if t_ms is None else np.array(t_ms)
        self.sources.readings.append(
            Batch(
                packs=[pack],
                series=[series or Series(STATION, "plot3/soil1", "soil_cd")],
                series_id=np.zeros(n, np.int32),
                t_ms=t.astype(np.int64),
                v=np.array(values, np.float64),
                q=np.full(n, 1, np.uint8) if q is None else np.array(q, np.uint8),
                flags=np.zeros(n, np.uint8),
                received_ms=np.full(n, NOW_MS, np.int64),
                inbox_pos=np.full(n, number, np.int64),
                pack_index=np.zeros(n, np.int32),
                position=np.arange(n, dtype=np.int32),
                tests=[],
                faults=[],
            )
        )
        return t.tolist()

    def add_limit(self):
        self.spans.append(SPAN)

    def app(self, **changes):
        return create_app(replace(self.sources, **changes)) if changes else create_app(self.sources)


@pytest.fixture
def databases():
    """SQLite; a module whose SQL may differ takes the fixture of both engines from ``tests.conftest`` instead."""
    return Databases(None)


@pytest.fixture
def county(tmp_path, databases):
    operational = Operational(databases.url(tmp_path / "operational.db"))
    operational.migrate()
    inbox = Inbox.open(tmp_path / "inbox.db")
    store = DuckDBStore(tmp_path / "readings.duckdb")
    spans, reasons, sender_wakes = [], [], []
    sources = Sources(
        operational=operational,
        readings=store,
        inbox=inbox,
        limits=lambda _series, _start, _end: spans,
        names=lambda code: {"soil_cd": ("土壤镉", "Soil cadmium")}.get(
            code, (f"{code}中", f"{code} en")
        ),
        products=lambda name: {"韭菜": "Chinese chives"}.get(name, ""),
        standards=Standards(standard_catalogue()),
        metrics=lambda: "agrigate_packs_taken_total 7\n",
        ready=lambda: reasons,
        now_ms=lambda: NOW_MS,
        loopback_only_reads=True,
        wake=EventSignal(),
        wake_sender=lambda: sender_wakes.append(1),
    )
    yield County(sources, operational, inbox, spans, reasons, sender_wakes)
    store.close()
    inbox.close()
    operational.close()


@pytest.fixture
def connect():
    """Return a client of an app, as seen from ``address`` under the name ``host``."""

    def make(app, address="127.0.0.1", host="127.0.0.1:8080"):
        transport = httpx.ASGITransport(app=app, client=(address, 50000))
        return httpx.AsyncClient(transport=transport, base_url=f"http://{host}")

    return make


@pytest.fixture
async def client(county, connect):
    async with connect(county.app()) as client:
        yield client


@pytest.fixture
def key(county):
    return create_key(county.operational, "county office")
