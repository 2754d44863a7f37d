"""From the bytes of a pack to alerts and webhooks in the outbox, in the judge's transaction."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from alerts.delivery.config import WebhookEndpoint
from alerts.delivery.configured import sync_endpoints
from alerts.delivery.signing import new_secret
from alerts.raising import AlertRaiser
from alerts.tables import alert_transitions, alerts, outbox
from drivers.records import Reading, ResultKind, ScreenResult, TestRecord
from gateway import wire
from ingest.batch import TakenPack
from ingest.decode import Decoder, SeriesIndex
from ingest.judge.catalogue.catalogue import standard_catalogue
from ingest.judge.consumer import Judge
from ingest.operational import Operational
from ingest.registry import files
from ingest.registry.live import Registry

if TYPE_CHECKING:
    from pathlib import Path

STATION, EPOCH, NOW_MS = "hl-001", "01ARZ3NDEKTSV4RRFFQ69G5FAV", 1_780_000_000_000
REGISTRY = """
[[region]]
code = "640122"
name = "贺兰县"
[[subject]]
id = "s1"
name = "合作社"
type = "cooperative"
region = "640122"
[[base]]
id = "b1"
subject = "s1"
name = "基地"
region = "640122"
[[plot]]
id = "canal"
base = "b1"
name = "支渠"
water_use = "irrigation"
crop = "paddy"
[[station]]
code = "hl-001"
name = "站"
region = "640122"
[[device]]
station = "hl-001"
path = "canal/ph"
name = "pH"
plot = "canal"
"""


class County:
    """Decoder, judge and raiser on a database of their own."""

    def __init__(self, directory: Path, databases) -> None:
        self.operational = Operational(databases.url(directory / "operational.db"))
        self.operational.migrate()
        (directory / "registry.toml").write_text(REGISTRY, encoding="utf-8")
        files.sync(self.operational, files.load(directory / "registry.toml"), NOW_MS)
        endpoint = WebhookEndpoint("county", "县", "https://county.example/hook", new_secret())
        sync_endpoints(self.operational, [endpoint], NOW_MS)
        self.raiser = AlertRaiser()
        self.judge = Judge(
            standard_catalogue(), Registry(self.operational), self.operational, self.raiser
        )
        self.decoder = Decoder(SeriesIndex())
        self.pos = 0

    def take(self, body: bytes) -> None:
        self.pos += 1
        pack = TakenPack(self.pos, STATION, EPOCH, self.pos, NOW_MS + self.pos * 1000, body)
        self.judge.handle(self.decoder.decode([pack]))
        self.raiser.wake()

    def rows(self, query: sa.Select) -> list:
        with self.operational.read() as db:
            return db.execute(query).fetchall()


@pytest.fixture
def county(tmp_path, databases):
    county = County(tmp_path, databases)
    yield county
    county.operational.close()


def a_test(record_id: str, **fields) -> TestRecord:
    return TestRecord(
        record_id=record_id,
        dedup_key=record_id,
        tested_at="2026-05-28T10:00:00+08:00",
        device_id="tester1",
        sample_no="S-1",
        product_name="普通白菜",
        parameter="nitrofen",
        **fields,
    )


STRIP = a_test(
    "strip",
    method="colloidal_gold",
    result_kind=ResultKind.QUALITATIVE,
    screen_result=ScreenResult.POSITIVE,
)
LABORATORY = a_test(
    "lab",
    method="gc_ms",
    result_kind=ResultKind.QUANTITATIVE,
    value=Decimal("0.12"),
    unit="mg/kg",
    lod=Decimal("0.01"),
)


def test_a_laboratory_result_confirms_the_suspect_of_the_same_sample(county):
    county.take(wire.encode_tests([STRIP]))
    [(state, severity)] = county.rows(sa.select(alerts.c.state, alerts.c.severity))
    assert (state, severity) == ("suspected", "critical")
    county.take(wire.encode_tests([LABORATORY]))
    [(state, seq)] = county.rows(sa.select(alerts.c.state, alerts.c.seq))
    assert state == "confirmed"
    steps = county.rows(sa.select(alert_transitions.c.from_state, alert_transitions.c.to_state))
    assert steps == [("", "suspected"), ("suspected", "confirmed")]
    kinds = county.rows(sa.select(outbox.c.event_type).order_by(outbox.c.id))
    assert [kind for (kind,) in kinds] == ["alert.suspected", "alert.confirmed"]
    assert seq == 2


def test_a_laboratory_result_alone_is_confirmed_at_once(county):
    county.take(wire.encode_tests([LABORATORY]))
    [(state,)] = county.rows(sa.select(alerts.c.state))
    assert state == "confirmed"


def ph(value: float | None, minute: float, quality: str | None = None) -> bytes:
    at_ms = NOW_MS + int(minute * 60_000) - 3_600_000
    return wire.encode_readings([Reading("canal/ph", "water_ph", at_ms, value, quality)])


def test_an_acid_canal_is_one_alert_that_clears_after_ten_good_minutes(county):
    for minute, value in enumerate([7.2, 5.4, 5.1, 4.9]):
        county.take(ph(value, minute))
    [(state, count, value)] = county.rows(
        sa.select(alerts.c.state, alerts.c.occurrence_count, alerts.c.value)
    )
    assert (state, count, value) == ("suspected", 3, 4.9)
    for minute in range(4, 16):
        county.take(ph(7.1, minute))
    assert county.rows(sa.select(alerts.c.state)) == [("cleared",)]


def test_failed_readings_never_clear(county):
    county.take(ph(4.9, 0))
    for minute in range(1, 40):
        county.take(ph(None, minute, "bad:sentinel"))
    assert county.rows(sa.select(alerts.c.state)) == [("suspected",)]
