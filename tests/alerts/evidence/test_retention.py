"""What open alerts stand on is named, and stays in the inbox."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from alerts.evidence.retention import AROUND_MS, packs_to_keep, readings_to_keep
from alerts.tables import alerts
from ingest.batch import Series
from ingest.operational import Operational
from ingest.store.reading_store import Kept
from ingest.tables import findings

NOW = 1_777_600_000_000
DAY_MS = 86_400_000


@pytest.fixture
def operational(tmp_path, databases):
    operational = Operational(databases.url(tmp_path / "operational.db"))
    operational.migrate()
    yield operational
    operational.close()


def blank(table: sa.Table, **values: object) -> dict[str, object]:
    """Return a row of ``table`` with something in every column that needs it."""
    row = dict(values)
    for column in table.columns:
        if column.name in row or column.nullable or column.server_default is not None:
            continue
        is_json = isinstance(column.type, sa.JSON)
        row[column.name] = {} if is_json else column.type.python_type()
    return row


def put(operational: Operational, alert: str, state: str, *points: tuple[str, int, int]) -> None:
    """Write an alert with its findings (kind, time, place in the inbox); the first has no number of the alert yet."""
    rows = [
        blank(
            findings,
            finding_id=f"{alert}-{n}",
            alert_id=alert if n else None,
            kind=kind,
            station="hl-001",
            device="soil1",
            indicator="soil_cd",
            t_ms=t_ms,
            inbox_pos=pos,
        )
        for n, (kind, t_ms, pos) in enumerate(points)
    ]
    evidence = {"finding_id": f"{alert}-0", "inbox_pos": points[0][2]}
    with operational.write() as connection:
        connection.execute(
            alerts.insert(),
            blank(alerts, alert_id=alert, state=state, dedup_key=alert, evidence=evidence),
        )
        for row in rows:
            connection.execute(findings.insert(), row)


def test_only_open_alerts_keep_packs_and_readings_and_near_findings_share_a_range(operational):
    put(operational, "a", "suspected", ("reading", NOW, 5), ("reading", NOW + DAY_MS, 7))
    put(operational, "b", "confirmed", ("test", NOW + 2 * DAY_MS, 11))
    put(operational, "c", "dismissed", ("reading", NOW + 9 * DAY_MS, 13), ("reading", NOW, 17))
    put(operational, "d", "open", ("reading", NOW + 30 * DAY_MS, 19))
    assert packs_to_keep(operational) == {5, 7, 11, 19}
    series = Series("hl-001", "soil1", "soil_cd")
    assert readings_to_keep(operational) == [
        Kept(series, NOW - AROUND_MS, NOW + DAY_MS + AROUND_MS + 1),
        Kept(series, NOW + 30 * DAY_MS - AROUND_MS, NOW + 30 * DAY_MS + AROUND_MS + 1),
    ]
