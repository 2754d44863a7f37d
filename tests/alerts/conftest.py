"""What the tests of alerting share: a real database, and findings as the judge makes them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from ingest.batch import Series
from ingest.judge.findings import Finding, Observation
from ingest.operational import Operational
from ingest.tables import bases, findings, plots, regions, stations, subjects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from alerts.raising import AlertRaiser
    from tests.conftest import Databases

NOON_MS = 1_763_870_400_000
MINUTE_MS = 60_000


@pytest.fixture
def operational(tmp_path: Path, databases: Databases) -> Iterator[Operational]:
    database = Operational(databases.url(tmp_path / "operational.db"))
    database.migrate()
    with database.write() as connection:
        connection.execute(sa.insert(regions).values(code="440811", name="麻章区"))
        connection.execute(
            sa.insert(subjects).values(
                id="s1", name="合作社", subject_type="coop", region_code="440811"
            )
        )
        connection.execute(
            sa.insert(bases).values(id="b1", subject_id="s1", name="基地", region_code="440811")
        )
        connection.execute(sa.insert(plots).values(id="p1", base_id="b1", name="1号田"))
        connection.execute(
            sa.insert(stations).values(
                code="hl-001",
                name="湖光站",
                name_en="Huguang",
                region_code="440811",
                base_id="b1",
                lon=110.28,
                lat=21.15,
            )
        )
    yield database
    database.close()


@pytest.fixture
def finding() -> Callable[..., Finding]:
    """Make findings: irrigation water of pH 9.1 at noon, changed by keyword; each with its own identity."""
    count = iter(range(1, 1_000_000))

    def make(**changes: object) -> Finding:
        number = next(count)
        base = Finding(
            finding_id=f"{number:064d}",
            station="hl-001",
            epoch="01K0000000000000000000EPOC",
            seq=number,
            position=0,
            inbox_pos=number,
            kind="reading",
            device="plot1/water",
            indicator="water_ph",
            t_ms=NOON_MS,
            value=9.1,
            unit="[pH]",
            record_id="",
            rule_id="gb5084:pH",
            verdict="exceed",
            severity="major",
            late=False,
            citation={
                "standard": "GB 5084-2021",
                "title_zh": "农田灌溉水质标准",
                "clause": "表1 pH值",
                "level": "basic",
                "comparator": ">",
                "limit": 8.5,
                "unit": "[pH]",
                "exceeded": True,
                "ratio": 1.07,
                "conditions": {"crop": "paddy"},
                "verified": True,
                "limit_version": "gb5084:2",
            },
            certainty="sensor",
            flags=(),
            sample_no="",
            product_name="",
            plot_id="p1",
            region_code="440811",
            clearable=True,
        )
        return dataclasses.replace(base, **changes)

    return make


@pytest.fixture
def screening(finding: Callable[..., Finding]) -> Callable[..., Finding]:
    """Make findings of rapid tests: a suspected positive."""

    def make(**changes: object) -> Finding:
        citation = {
            "standard": "GB/T 5009.199-2003",
            "title_zh": "",
            "clause": "4",
            "level": "cut_off",
            "comparator": ">=",
            "limit": 50.0,
            "unit": "%",
            "exceeded": True,
            "ratio": 1.2,
            "conditions": {},
            "verified": True,
            "limit_version": "rapid:1",
        }
        values: dict[str, object] = {
            "kind": "test",
            "device": "tester1",
            "indicator": "carbofuran",
            "value": 60.0,
            "unit": "%",
            "record_id": "r-1",
            "rule_id": "inhibition:carbofuran",
            "verdict": "suspect",
            "certainty": "screening",
            "citation": citation,
            "sample_no": "hl-001-20251123-0001",
            "product_name": "生菜",
            "clearable": False,
        }
        return finding(**{**values, **changes})

    return make


@pytest.fixture
def observe() -> Callable[..., Observation]:
    """Make good readings of the pH series."""

    def make(t_ms: int, *, recovered: bool = True, value: float = 7.2) -> Observation:
        series = Series("hl-001", "plot1/water", "water_ph")
        return Observation(series, t_ms, value, "gb5084:pH", recovered)

    return make


def insert_findings(connection: sa.Connection, items: list[Finding]) -> None:
    """Write findings as the judge does before it calls the sink; repeats are no-ops."""
    columns = [column.name for column in findings.c if column.name != "alert_id"]
    for item in items:
        known = sa.select(findings.c.finding_id).where(findings.c.finding_id == item.finding_id)
        if connection.scalar(known) is None:
            values = {name: getattr(item, name) for name in columns}
            connection.execute(sa.insert(findings).values(values))


@pytest.fixture
def judge(operational: Operational) -> Callable[..., AlertRaiser]:
    """Do what the judge's consumer does: findings, then the sink, in one transaction, then wake."""

    def run(
        raiser: AlertRaiser,
        items: list[Finding],
        observations: list[Observation] | None = None,
        received_ms: int = NOON_MS + 1000,
    ) -> AlertRaiser:
        with operational.write() as connection:
            insert_findings(connection, items)
            raiser.apply(connection, items, observations or [], received_ms)
        raiser.wake()
        return raiser

    return run
