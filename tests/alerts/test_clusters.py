"""Confirmed exceedances of one substance in one township make one more alert."""

from __future__ import annotations

import contextlib

import pytest
import sqlalchemy as sa

from alerts.actions import act
from alerts.actions import confirm as confirm_by_hand
from alerts.audit import audit
from alerts.clusters import DAY_MS, ClusterRules, keep
from alerts.raising import AlertRaiser
from alerts.states import Trigger
from alerts.tables import alerts
from tests.alerts.conftest import insert_findings

NOW_MS = 1_763_870_500_000


@pytest.fixture
def confirm(judge, finding):
    """Confirm an exceedance of chlorpyrifos in a sample, in a township."""
    raiser = AlertRaiser()

    def make(
        sample: str, region: str = "440811003", received_ms: int = NOW_MS, **changes: object
    ) -> None:
        values = {
            "kind": "test",
            "certainty": "confirmatory",
            "indicator": "chlorpyrifos",
            "rule_id": "gb2763:chlorpyrifos",
            "sample_no": sample,
            "record_id": f"r-{sample}",
            "region_code": region,
            "method": "GB 23200.113-2018",
            "laboratory": "county laboratory",
        } | changes
        judge(raiser, [finding(**values)], received_ms=received_ms)

    return make


def clusters(operational) -> list[sa.Row]:
    with operational.read() as connection:
        return list(connection.execute(sa.select(alerts).where(alerts.c.kind == "cluster")))


def test_three_in_one_township_are_a_cluster_in_the_transaction_of_the_third(operational, confirm):
    confirm("s1")
    confirm("s2")
    assert clusters(operational) == []
    confirm("s3")
    (cluster,) = clusters(operational)
    assert (cluster.state, cluster.severity, cluster.region_code) == (
        "confirmed",
        "critical",
        "440811003",
    )
    assert len(cluster.related) == 3
    confirm("s4")
    (cluster,) = clusters(operational)
    assert (len(cluster.related), cluster.occurrence_count, cluster.seq) == (4, 4, 2)
    with operational.read() as connection:
        assert [log.fault for log in audit(connection)] == ["", ""]


def test_what_is_rolled_back_makes_no_cluster(operational, confirm, finding):
    confirm("s1")
    confirm("s2")
    with contextlib.suppress(RuntimeError), operational.write() as connection:
        item = finding(
            kind="test",
            certainty="confirmatory",
            indicator="chlorpyrifos",
            region_code="440811003",
            rule_id="gb2763:chlorpyrifos",
            sample_no="s3",
        )
        insert_findings(connection, [item])
        AlertRaiser().apply(connection, [item], [], NOW_MS)
        found = connection.scalar(sa.select(sa.func.count()).where(alerts.c.kind == "cluster"))
        assert found == 1
        raise RuntimeError
    assert clusters(operational) == []


def test_the_third_may_be_confirmed_by_a_person(operational, confirm):
    confirm("s1")
    confirm("s2")
    confirm("s3", citation={"verified": False, "comparator": ">", "ratio": 2.0})
    assert clusters(operational) == []
    with operational.read() as connection:
        waiting = connection.scalar(
            sa.select(alerts.c.alert_id).where(alerts.c.state == "suspected")
        )
    confirm_by_hand(operational, waiting, "li", "the printed edition says so", at_ms=NOW_MS)
    (cluster,) = clusters(operational)
    assert cluster.occurrence_count == 3


def test_what_one_closed_cluster_counted_makes_no_second(operational, confirm):
    for n in range(3):
        confirm(f"s{n}")
    (first,) = clusters(operational)
    with operational.write() as connection:
        connection.execute(
            sa.update(alerts).where(alerts.c.alert_id == first.alert_id).values(state="closed")
        )
    confirm("s3")
    confirm("s4")
    assert len(clusters(operational)) == 1
    confirm("s5")
    assert [len(cluster.related) for cluster in clusters(operational)] == [3, 3]


def test_other_townships_other_substances_old_ones_and_the_same_sample_do_not_count(
    operational, confirm
):
    confirm("s1")
    confirm("s2", region="440811004")
    confirm("s3", indicator="carbofuran", rule_id="gb2763:carbofuran")
    confirm("s1", rule_id="banned:chlorpyrifos")
    confirm("s4")
    assert clusters(operational) == []
    confirm("s5", received_ms=NOW_MS + 8 * DAY_MS)
    assert clusters(operational) == []


def test_how_many_and_how_long_are_configured(operational, confirm):
    with operational.write() as connection:
        keep(connection, ClusterRules(cluster_count=2, cluster_days=30))
    confirm("s1")
    confirm("s2", received_ms=NOW_MS + 20 * DAY_MS)
    assert len(clusters(operational)) == 1


def test_suspects_are_no_cluster(operational, confirm):
    for n in range(4):
        confirm(f"s{n}", certainty="screening")
    assert clusters(operational) == []


def test_a_member_that_is_superseded_leaves(operational, confirm):
    for n in range(4):
        confirm(f"s{n}")
    (cluster,) = clusters(operational)
    for seq, member in enumerate(cluster.related[:2], start=2):
        act(
            operational,
            member["alert_id"],
            Trigger.SUPERSEDE,
            "system",
            "the record was withdrawn",
            at_ms=NOW_MS,
        )
        (now,) = clusters(operational)
        assert (now.occurrence_count, now.seq) == (5 - seq, seq + 1)
    assert now.state == "superseded"
    assert [row["relation"] for row in now.related].count("former_member") == 2
