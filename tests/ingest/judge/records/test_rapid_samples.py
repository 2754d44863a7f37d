"""Records of one sample taken together: repeats, components, runs of one number."""

from decimal import Decimal

import msgspec
import pytest
import sqlalchemy as sa

from drivers.records import Qualifier, TestRecord, Verdict
from ingest import tables
from ingest.batch import TakenPack, TestItem
from ingest.judge.catalogue.catalogue import standard_catalogue
from ingest.judge.records.pass_scope import pass_scope
from ingest.judge.records.records import RecordJudge
from ingest.judge.records.sample_verdict import sample_verdict

CATALOGUE = standard_catalogue()
NOW = 1_782_871_200_000  # 2026-07-01T10:00+08:00


class Registry:
    version = 1

    def context(self, station, device):  # noqa: ARG002 - the Protocol's
        return None


@pytest.fixture
def connection():
    engine = sa.create_engine("sqlite://")
    tables.metadata.create_all(engine)
    with engine.connect() as opened:
        yield opened
    engine.dispose()


def record(record_id, **fields):
    given = {
        "record_id": record_id,
        "dedup_key": record_id,
        "tested_at": "2026-07-01T09:58:00+08:00",
        "device_id": "lab1",
        "sample_no": "S1",
        "product_name": "猪肉",
        "parameter": "恩诺沙星",
        "method": "lc_ms",
        "result_kind": "quantitative",
        "unit": "ug/kg",
        **fields,
    }
    for name in ("value", "lod", "loq"):
        if given.get(name) is not None:
            given[name] = Decimal(given[name])
    return TestRecord(**given)


def items(*records, seq=1, station="hl-001"):
    pack = TakenPack(seq, station, "E" * 26, seq, NOW, b"")
    return [TestItem(pack, at, one) for at, one in enumerate(records)]


def stored(connection, record_id):
    row = connection.execute(sa.select(tables.tests).where(tables.tests.c.record_id == record_id))
    return row.mappings().one()


# ---------------------------------------------------------------- §3.7 first test and repeats


def rate(record_id, value, attempt, **fields):
    return record(
        record_id,
        product_name="油麦菜",
        parameter="op_carbamate_inhibition",
        method="enzyme_inhibition",
        method_standard="GB/T 5009.199-2003",
        result_kind="inhibition",
        unit="%",
        value=value,
        attempt=attempt,
        **fields,
    )


@pytest.mark.parametrize(
    ("values", "verdict", "due"),
    [
        (["10"], "pass", 0),
        (["60"], "suspect", 2),  # stands until it was repeated twice
        (["60", "10"], "suspect", 1),
        (["60", "10", "12"], "pass", 0),
        (["60", "55"], "suspect", 0),
        (["60", "10", "70"], "suspect", 0),
        (["60", "10", "120"], "suspect", 1),  # an invalid run is no repeat
        (["10", "60"], "suspect", 2),
        (["120"], "invalid", 0),
        (["120", "10"], "pass", 0),
    ],
)
def test_a_rapid_positive_is_repeated_before_it_counts(values, verdict, due):
    records = [rate(f"r{at}", value, at + 1) for at, value in enumerate(values)]
    for order in (records, records[::-1]):
        sample = sample_verdict(CATALOGUE, order)
        assert (sample.verdict, sample.tests) == (verdict, len(values))
        (one,) = sample.by_substance.values()
        assert one.repeats_due == due


def test_the_confirmatory_result_decides_and_the_sample_counts_once():
    # A strip for chlorpyrifos on wheat, then the laboratory: limit 0.5 mg/kg.
    common = {"product_name": "小麦", "parameter": "毒死蜱", "unit": "mg/kg"}
    strip = record(
        "r1", **common, method="胶体金", result_kind="qualitative", screen_result="positive"
    )
    for value, verdict in (("0.1", Verdict.PASS), ("0.6", Verdict.EXCEED)):
        sample = sample_verdict(CATALOGUE, [strip, record("r2", **common, value=value, attempt=1)])
        assert (sample.verdict, sample.tests) == (verdict, 2)
        assert sample.by_substance["chlorpyrifos"].confirmed


def test_a_sample_is_as_bad_as_its_worst_substance():
    records = [rate("r1", "10", 1), record("r2", value="100.1"), record("r3", parameter="某某")]
    sample = sample_verdict(CATALOGUE, records)
    assert sample.verdict is Verdict.EXCEED
    assert len(sample.by_substance) == 3
    assert sample_verdict(CATALOGUE, []).verdict is Verdict.UNDETERMINED


# ---------------------------------------------------------------- components in records of their own


@pytest.mark.parametrize("split", [True, False])
def test_components_of_one_sample_are_summed_across_records(connection, split):
    judge = RecordJudge(CATALOGUE, Registry())
    first, second = record("r1", value="60"), record("r2", parameter="环丙沙星", value="40.1")
    if split:
        findings = judge.store(connection, items(first)) + judge.store(
            connection, items(second, seq=2)
        )
    else:
        findings = judge.store(connection, items(first, second))
    (finding,) = findings
    assert (finding.rule_id, finding.record_id, finding.verdict) == (
        "mrl:enrofloxacin",
        "r2",
        "exceed",
    )
    computed_from = finding.citation["conditions"]["computed_from"]
    assert "enrofloxacin 60 ug/kg" in computed_from
    assert "ciprofloxacin 40.1 ug/kg" in computed_from
    assert stored(connection, "r2")["verdict"] == "exceed"


def test_all_components_within_the_limit_pass_together(connection):
    judge = RecordJudge(CATALOGUE, Registry())
    judge.store(
        connection,
        items(record("r1", parameter="环丙沙星", value="40"), record("r2", value="60")),
    )
    assert stored(connection, "r1")["verdict"] == "undetermined"  # alone it is a lower bound
    assert stored(connection, "r2")["verdict"] == "pass"


@pytest.mark.parametrize(
    "other",
    [
        {"sample_no": "S2"},
        {"sample_no": ""},
        {"product_name": "牛肉"},
        {"method": "elisa"},
        {"basis": "fat"},
    ],
)
def test_records_of_another_sample_product_method_or_basis_are_not_summed(connection, other):
    judge = RecordJudge(CATALOGUE, Registry())
    records = [record("r1", value="60"), record("r2", parameter="环丙沙星", value="60", **other)]
    assert judge.store(connection, items(*records)) == []


def test_records_of_another_station_are_not_summed(connection):
    judge = RecordJudge(CATALOGUE, Registry())
    judge.store(connection, items(record("r1", value="60")))
    other = items(record("r2", parameter="环丙沙星", value="60"), station="hl-002")
    assert judge.store(connection, other) == []


def test_of_several_results_of_a_component_the_last_counts(connection):
    judge = RecordJudge(CATALOGUE, Registry())
    records = [
        record("r1", value="90"),
        record("r2", value="30", attempt=1),
        record("r3", parameter="环丙沙星", value="60"),
    ]
    assert judge.store(connection, items(*records)) == []
    assert stored(connection, "r3")["verdict"] == "pass"


def test_a_repeated_delivery_changes_nothing(connection):
    judge = RecordJudge(CATALOGUE, Registry())
    batch = items(record("r1", value="60"), record("r2", parameter="环丙沙星", value="60"))
    assert len(judge.store(connection, batch)) == 1
    assert judge.store(connection, batch) == []  # §3.15


# ---------------------------------------------------------------- §3.16 runs of one number


def run(values, start=0, **fields):
    return [
        rate(f"v{start + at}", value, 1, **{"sample_no": f"N{start + at}", **fields})
        for at, value in enumerate(values)
    ]


def flagged(connection):
    rows = connection.execute(sa.select(tables.tests.c.record_id, tables.tests.c.flags))
    return sorted(name for name, flags in rows if "duplicate_value_run" in flags)


def test_the_same_number_again_and_again_is_flagged_and_not_judged(connection):
    judge = RecordJudge(CATALOGUE, Registry())
    judge.store(connection, items(*run(["12.5"] * 6)))
    assert flagged(connection) == ["v4", "v5"]
    assert stored(connection, "v5")["verdict"] == "pass"


def test_another_number_ends_the_run(connection):
    judge = RecordJudge(CATALOGUE, Registry())
    judge.store(connection, items(*run(["12.5"] * 4 + ["12.6"] + ["12.5"] * 4)))
    assert flagged(connection) == []


def test_a_run_goes_on_across_batches_and_a_restart(connection):
    RecordJudge(CATALOGUE, Registry()).store(connection, items(*run(["12.5"] * 4)))
    judge = RecordJudge(CATALOGUE, Registry())
    judge.store(connection, items(*run(["12.5"] * 4)))  # once more the same records: no run
    assert flagged(connection) == []
    judge.store(connection, items(*run(["12.5"], start=4), seq=2))
    assert flagged(connection) == ["v4"]


def test_repeats_of_one_sample_and_other_instruments_make_no_run(connection):
    judge = RecordJudge(CATALOGUE, Registry())
    judge.store(connection, items(*run(["12.5"] * 6, sample_no="N1")))
    judge.store(connection, items(*run(["12.5"] * 3, start=10, device_id="other"), seq=2))
    judge.store(
        connection,
        items(*[record(f"q{i}", qualifier=Qualifier.NOT_DETECTED) for i in range(6)], seq=3),
    )
    assert flagged(connection) == []


def test_the_last_numbers_of_an_instrument_are_found_by_an_index(connection):
    asked = []
    sa.event.listen(
        connection.engine, "before_cursor_execute", lambda *args: asked.append(args[2:4])
    )
    RecordJudge(CATALOGUE, Registry()).store(connection, items(*run(["12.5"])))
    reads = [
        (sql, values)
        for sql, values in asked
        if sql.startswith("SELECT") and "FROM tests" in sql and "device" in sql
    ]
    assert len(reads) == 2  # runs of a number, and the tests around this one
    for sql, values in reads:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values).all()
        told = " ".join(row[3] for row in plan)
        assert "USING INDEX ix_tests_station_device_" in told
        assert "TEMP B-TREE FOR ORDER BY" not in told


# ---------------------------------------------------------------- §2 what a pass says


@pytest.mark.parametrize(
    ("fields", "scope"),
    [
        ({"parameter": "农药残留(酶抑制率)", "result_kind": "inhibition"}, "op_carbamate"),
        ({"parameter": "农残", "method": "速测卡", "result_kind": "qualitative"}, "op_carbamate"),
        ({"parameter": "克伦特罗", "method": "胶体金", "result_kind": "qualitative"}, "strip"),
        ({"parameter": "克伦特罗", "method": "", "result_kind": "qualitative"}, "strip"),
        ({"parameter": "毒死蜱", "method": "gc_ms", "result_kind": "qualitative"}, "limit"),
        ({"parameter": "毒死蜱", "method": "gc_ms", "result_kind": "quantitative"}, "limit"),
        ({"parameter": "何物", "method": "", "result_kind": ""}, "strip"),
    ],
)
def test_a_pass_says_only_what_its_method_can(fields, scope):
    given = {"parameter": "", "method": "", "result_kind": "", **fields}
    if given["parameter"] == "农残":
        given["parameter"] = "op_carbamate_inhibition"
    assert pass_scope(CATALOGUE.names, **given) == scope


def test_the_kind_that_a_record_shows_is_stored(connection):
    judge = RecordJudge(CATALOGUE, Registry())
    unsaid = rate("r1", "10", 0, sample_no="N1")
    judge.store(connection, items(msgspec.structs.replace(unsaid, result_kind=None)))
    row = stored(connection, "r1")
    assert (row["result_kind"], row["verdict"]) == ("inhibition", "pass")
    assert "result_kind" not in row["record"]
