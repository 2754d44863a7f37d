"""The judge on a real SQLite database: one transaction per batch, repeats are no-ops, nothing half done."""

import math
import shutil
from dataclasses import dataclass, field, replace
from decimal import Decimal

import numpy as np
import pytest
import sqlalchemy as sa
from msgspec.structs import replace as replace_record

from drivers.records import Qualifier, ResultKind, ScreenResult, TestRecord
from ingest import tables
from ingest.batch import (
    CALIBRATION,
    CLOCK_SUSPECT,
    LATE,
    MAINTENANCE,
    OUT_OF_ORDER,
    Batch,
    Fault,
    Series,
    TakenPack,
    TestItem,
)
from ingest.judge.catalogue.catalogue import standard_catalogue
from ingest.judge.consumer import PRUNE_EVERY_MS, Judge
from ingest.judge.readings.companions import PRUNE_ROWS, THIN_MS, VALIDITY_MS
from ingest.operational import Operational
from ingest.registry.context import PlotContext

NOW = 1_777_600_000_000  # 2026-05-01
EPOCH = "01J0000000000000000000000A"
HOUR = 3_600_000
PLOT = PlotContext(
    plot_id="p1",
    region_code="640122100",
    land_use="paddy",
    crop="paddy",
    water_use="irrigation",
    soil_ph=5.0,
)


@dataclass
class Registry:
    version: int = 1
    plots: dict[tuple[str, str], PlotContext] = field(default_factory=dict)

    def context(self, station, device):
        return self.plots.get((station, device))


@dataclass
class Sink:
    """Takes part in the transaction by writing an event for each call."""

    open: set[Series] = field(default_factory=set)
    calls: list = field(default_factory=list)
    broken: bool = False

    def watched(self):
        return self.open

    def replaced(self, *_records):
        pass

    def apply(self, connection, findings, observations, received_ms):
        event = {"at_ms": received_ms, "type": "sink", "station": "-", "alert_id": "", "data": {}}
        connection.execute(sa.insert(tables.events), [event])
        if self.broken:
            raise RuntimeError("the sink failed")
        self.calls.append((list(findings), list(observations), received_ms))

    @property
    def findings(self):
        return [f for call in self.calls for f in call[0]]

    @property
    def observations(self):
        return [o for call in self.calls for o in call[1]]


class Feed:
    """Builds batches as decode does: one pack per call, series ids that never change."""

    def __init__(self):
        self.series = []
        self.pos = 0

    def batch(self, *rows, tests=(), faults=(), packs=1):
        """Rows are (device, indicator, t_ms, v) with optional q and flags."""
        start = self.pos
        taken = []
        for _ in range(packs):
            self.pos += 1
            taken.append(TakenPack(self.pos, "hl-001", EPOCH, self.pos, NOW, b"{}"))
        columns = {
            name: [] for name in ("series_id", "t_ms", "v", "q", "flags", "pack", "position")
        }
        for i, row in enumerate(rows):
            device, indicator, t_ms, v, *more = row
            series = Series("hl-001", device, indicator)
            if series not in self.series:
                self.series.append(series)
            pack = i * packs // max(len(rows), 1)
            missing = 9 if math.isnan(v) else 1
            for name, value in (
                ("series_id", self.series.index(series)),
                ("t_ms", t_ms),
                ("v", v),
                ("q", more[0] if more else missing),
                ("flags", more[1] if len(more) > 1 else 0),
                ("pack", pack),
                ("position", i),
            ):
                columns[name].append(value)
        pack_index = np.array(columns["pack"], np.int32)
        return Batch(
            packs=taken,
            series=self.series,
            series_id=np.array(columns["series_id"], np.int32),
            t_ms=np.array(columns["t_ms"], np.int64),
            v=np.array(columns["v"], np.float64),
            q=np.array(columns["q"], np.uint8),
            flags=np.array(columns["flags"], np.uint32),
            received_ms=np.full(len(rows), NOW, np.int64),
            inbox_pos=start + 1 + pack_index.astype(np.int64),
            pack_index=pack_index,
            position=np.array(columns["position"], np.int32),
            tests=[TestItem(taken[-1], 100 + i, record) for i, record in enumerate(tests)],
            faults=[Fault(taken[-1], position, name, why) for position, name, why in faults],
        )


def a_test(record_id="r1", **fields):
    given = {
        "record_id": record_id,
        "dedup_key": f"key-{record_id}",
        "tested_at": "2026-05-01T08:00:00+08:00",
        "device_id": "tester1",
        "sample_no": "S1",
        "product_name": "猪肉\0",
        "parameter": "clenbuterol",
        "method": "colloidal_gold",
        "result_kind": ResultKind.QUALITATIVE,
        "screen_result": ScreenResult.POSITIVE,
        **fields,
    }
    return TestRecord(**given)


@pytest.fixture(scope="module")
def migrated(tmp_path_factory):
    path = tmp_path_factory.mktemp("template") / "op.db"
    db = Operational(f"sqlite:///{path}")
    db.migrate()
    db.close()
    return path


@pytest.fixture
def operational(tmp_path, migrated, databases):
    if not databases.is_postgres:
        shutil.copy(migrated, tmp_path / "op.db")
    db = Operational(databases.url(tmp_path / "op.db"))
    yield db
    db.close()


@pytest.fixture
def registry():
    devices = ("soil1", "water1", "probe1", "probe2")
    return Registry(plots={("hl-001", device): PLOT for device in devices})


@pytest.fixture
def sink():
    return Sink()


@pytest.fixture
def judge(operational, registry, sink):
    return Judge(standard_catalogue(), registry, operational, sink)


def rows(operational, table):
    with operational.read() as connection:
        return [dict(row._mapping) for row in connection.execute(sa.select(table))]


def everything(operational):
    judged = (tables.tests, tables.findings, tables.quarantine, tables.companions, tables.events)
    return {table.name: rows(operational, table) for table in judged}


def a_busy_batch(feed):
    return feed.batch(
        ("probe1", "soil_ph", NOW - HOUR, 7.0),
        ("soil1", "soil_cd", NOW, 0.7),
        ("water1", "water_ph", NOW, 9.1),
        ("water1", "water_ph", NOW + 1, 7.0),
        tests=[a_test("r1"), a_test("r2", screen_result=ScreenResult.NEGATIVE)],
        faults=[(3, "v", "is text"), (-1, "body", "is no JSON")],
    )


# ---------------------------------------------------------------- readings


def test_a_finding_has_its_place_citation_and_context(judge, operational, sink):
    judge.handle(
        Feed().batch(("soil1", "soil_moisture", NOW, 99.0), ("soil1", "soil_cd", NOW, 0.45))
    )
    (row,) = rows(operational, tables.findings)
    (finding,) = sink.findings
    assert row["finding_id"] == finding.finding_id
    assert len(finding.finding_id) == 64
    assert (row["station"], row["epoch"], row["seq"], row["position"]) == ("hl-001", EPOCH, 1, 1)
    assert (row["inbox_pos"], row["kind"], row["t_ms"], row["value"]) == (1, "reading", NOW, 0.45)
    assert (row["rule_id"], row["severity"]) == ("gb15618:Cd:screening", "major")
    assert (row["verdict"], row["unit"], row["alert_id"]) == ("exceed", "mg/kg", None)
    citation = row["citation"]
    assert citation["clause"] == "表1 镉 水田 pH≤5.5"
    assert (citation["limit"], citation["exceeded"], citation["verified"]) == (0.3, True, True)
    assert citation["conditions"] == {"land_use": "paddy", "ph": 5.0, "ph_source": "registered"}
    assert citation["limit_version"]
    assert finding.certainty == "sensor"
    assert (finding.plot_id, finding.region_code, finding.clearable) == ("p1", "640122100", False)
    assert finding.flags == ()


def test_two_levels_of_one_value_are_two_findings(judge, sink):
    judge.handle(Feed().batch(("soil1", "soil_cd", NOW, 1.6)))
    assert [(f.rule_id, f.severity) for f in sink.findings] == [
        ("gb15618:Cd:screening", "major"),
        ("gb15618:Cd:intervention", "critical"),
    ]


def test_failed_missing_and_calibrating_readings_raise_and_clear_nothing(judge, operational, sink):
    sink.open = {Series("hl-001", "water1", "water_ph")}
    judge.handle(
        Feed().batch(
            ("soil1", "soil_cd", NOW, 9.0, 4),
            ("soil1", "soil_cd", NOW, math.nan),
            ("soil1", "soil_cd", NOW, 9.0, 9),
            ("soil1", "soil_cd", NOW, 9.0, 2, MAINTENANCE),
            ("soil1", "soil_cd", NOW, 9.0, 2, CALIBRATION | LATE),
            ("water1", "water_ph", NOW, 7.0, 4),
            ("water1", "water_ph", NOW, 7.0, 2, CALIBRATION),
        )
    )
    assert sink.calls == []
    assert judge.cursor() == 1
    assert rows(operational, tables.findings) == []


def test_a_suspect_reading_and_a_late_one_still_raise(judge, sink):
    judge.handle(
        Feed().batch(
            ("soil1", "soil_cd", NOW - 3 * HOUR, 0.4, 3, LATE),
            ("soil1", "soil_cd", NOW, 0.4, 1, CLOCK_SUSPECT),
        )
    )
    assert [(f.late, f.flags) for f in sink.findings] == [
        (True, ("late",)),
        (False, ("clock_suspect",)),
    ]


def test_a_recalled_limit_is_marked(judge, sink):
    judge.handle(Feed().batch(("water1", "water_ni", NOW, 0.3)))
    (finding,) = sink.findings
    assert finding.flags == ("limit_unverified",)
    assert finding.citation["verified"] is False
    assert finding.severity == "warning"


def test_a_device_that_is_not_registered_breaks_only_what_no_condition_could_excuse(judge, sink):
    judge.handle(
        Feed().batch(
            ("stray", "soil_cd", NOW, 0.5),
            ("stray", "soil_cd", NOW, 0.81),
            ("stray", "water_ph", NOW, 12.0),
        )
    )
    assert [(f.value, f.rule_id, f.plot_id) for f in sink.findings] == [
        (0.81, "gb15618:Cd:screening", "")
    ]
    assert sink.findings[0].citation["conditions"] == {"land_use": None, "ph": None}


def test_the_registry_is_asked_again_when_it_changes(judge, registry, sink):
    feed = Feed()
    judge.handle(feed.batch(("stray", "water_ph", NOW, 9.0)))
    assert sink.findings == []
    registry.plots["hl-001", "stray"] = PLOT
    judge.handle(feed.batch(("stray", "water_ph", NOW, 9.0)))
    assert sink.findings == []
    registry.version += 1
    judge.handle(feed.batch(("stray", "water_ph", NOW, 9.0)))
    assert [f.rule_id for f in sink.findings] == ["gb5084:pH"]


# ---------------------------------------------------------------- companion pH


@pytest.mark.parametrize(
    ("probe_at", "exceeds"),
    [
        # Registered pH 5.0 allows 0.3, the probe's 7.0 allows 0.6; the sample has 0.5.
        (NOW, False),
        (NOW - VALIDITY_MS + 1, False),
        (NOW - VALIDITY_MS, True),  # too old: the registered pH is used
        (NOW + 1, True),  # after the sample
    ],
)
@pytest.mark.parametrize("apart", [False, True])
def test_the_ph_of_a_plot_is_the_companion_nearest_before(judge, sink, probe_at, exceeds, apart):
    feed = Feed()
    probe, sample = ("probe1", "soil_ph", probe_at, 7.0), ("soil1", "soil_cd", NOW, 0.5)
    if apart:
        judge.handle(feed.batch(probe))
        judge.handle(feed.batch(sample))
    else:
        judge.handle(feed.batch(sample, probe))
    assert bool(sink.findings) == exceeds


def test_the_nearest_of_several_companions_counts_and_is_cited(judge, sink):
    probes = [("probe1", "soil_ph", NOW - h * HOUR, ph) for h, ph in ((5, 8.0), (3, 6.0), (2, 7.0))]
    judge.handle(Feed().batch(*probes, ("soil1", "soil_cd", NOW, 0.61)))
    (finding,) = sink.findings
    assert finding.citation["limit"] == 0.6
    assert finding.citation["conditions"]["ph"] == 7.0
    assert finding.citation["conditions"]["ph_source"] == "probe"


def test_failed_or_dry_probes_give_no_companion(judge, operational, sink):
    judge.handle(
        Feed().batch(
            ("probe1", "soil_ph", NOW, 7.0, 4),
            ("probe2", "soil_ph", NOW, 7.0),
            ("probe2", "soil_moisture", NOW, 0.0),
            ("elsewhere", "soil_ph", NOW, 7.0),
            ("soil1", "soil_cd", NOW, 0.5),
        )
    )
    assert rows(operational, tables.companions) == []
    assert len(sink.findings) == 1


def test_companions_are_thinned_alike_whatever_the_batches(operational, registry):
    start = NOW - NOW % THIN_MS
    values = [("probe1", "soil_ph", start + i * 60_000, 6 + i / 100) for i in range(30)]
    values += [("probe2", "soil_ph", start + THIN_MS - 1, 9.0)]
    feed = Feed()
    judge = Judge(standard_catalogue(), registry, operational, Sink())
    for value in values:
        judge.handle(feed.batch(value))
    # A new process knows nothing of what was kept.
    again = Judge(standard_catalogue(), registry, operational, Sink())
    again.handle(feed.batch(("probe1", "soil_ph", start + 1, 9.9)))
    kept = [
        (row["plot_id"], row["t_ms"], row["value"]) for row in rows(operational, tables.companions)
    ]
    assert kept == [("p1", start + i * THIN_MS, pytest.approx(6 + i / 10)) for i in range(3)]


# ---------------------------------------------------------------- recovery


def test_watched_series_are_observed_with_a_margin(judge, sink):
    watched = Series("hl-001", "water1", "water_ph")
    sink.open = {watched}
    # GB 5084: 5.5 to 8.5; inside by 2 %: 5.61 to 8.33.
    values = [9.0, 8.4, 8.33, 7.0, 5.61, 5.55, 5.4]
    feed = Feed()
    judge.handle(feed.batch(*(("water1", "water_ph", NOW + i, v) for i, v in enumerate(values))))
    assert [(o.value, o.recovered) for o in sink.observations] == list(
        zip(values, [False, False, True, True, True, False, False], strict=True)
    )
    assert {(o.series, o.rule_id) for o in sink.observations} == {(watched, "gb5084:pH")}
    assert [o.t_ms for o in sink.observations] == [NOW + i for i in range(len(values))]


def test_old_or_doubtful_readings_recover_nothing(judge, sink):
    sink.open = {Series("hl-001", "water1", "water_ph")}
    judge.handle(
        Feed().batch(
            ("water1", "water_ph", NOW, 7.0, 1, OUT_OF_ORDER),
            ("water1", "water_ph", NOW, 7.0, 1, CLOCK_SUSPECT),
            ("water1", "water_ph", NOW, math.nan),
        )
    )
    assert sink.observations == []


def test_only_watched_process_parameters_are_observed(judge, sink):
    sink.open = {Series("hl-001", "soil1", "soil_cd")}
    judge.handle(Feed().batch(("soil1", "soil_cd", NOW, 0.1), ("water1", "water_ph", NOW, 7.0)))
    assert sink.observations == []


def test_a_series_that_raises_in_this_batch_is_observed_in_it(judge, sink):
    judge.handle(
        Feed().batch(("water1", "water_ph", NOW, 9.0), ("water1", "water_ph", NOW + 1, 7.0))
    )
    assert [f.clearable for f in sink.findings] == [True]
    assert [(o.value, o.recovered) for o in sink.observations] == [(9.0, False), (7.0, True)]


# ---------------------------------------------------------------- tests


def test_a_test_is_stored_announced_and_its_finding_raised(judge, operational, sink):
    judge.handle(Feed().batch(tests=[a_test()]))
    (row,) = rows(operational, tables.tests)
    assert (row["record_id"], row["verdict"], row["severity"]) == ("r1", "suspect", "critical")
    assert row["product_name"] == "猪肉"
    assert row["record"]["product_name"] == "猪肉\0"
    assert row["findings"][0]["standard"] == "MARA notice 250"
    assert row["incomplete"] is True  # no purpose
    assert row["flags"] == ["limit_unverified", "late"]
    (event,) = [e for e in rows(operational, tables.events) if e["type"] == "test"]
    assert event["data"] == {
        "record_id": "r1",
        "verdict": "suspect",
        "product_name": "猪肉",
        "parameter": "clenbuterol",
        "pass_scope": "strip",
        "station": "hl-001",
    }
    (finding,) = sink.findings
    assert (finding.kind, finding.certainty, finding.rule_id) == (
        "test",
        "screening",
        "banned:clenbuterol",
    )
    assert (finding.sample_no, finding.product_name, finding.record_id) == ("S1", "猪肉", "r1")
    assert finding.flags == ("late", "limit_unverified")
    assert finding.clearable is False


def test_a_laboratory_result_is_confirmatory_and_pairs_with_the_strip(judge, sink):
    laboratory = a_test(
        "r2",
        parameter="克仑特罗",
        method="lc_ms",
        result_kind=ResultKind.QUANTITATIVE,
        screen_result=None,
        value=Decimal("0.5"),
        unit="ug/kg",
    )
    judge.handle(Feed().batch(tests=[a_test(), laboratory]))
    strip, confirmed = sink.findings
    assert (strip.certainty, confirmed.certainty) == ("screening", "confirmatory")
    assert (strip.rule_id, strip.indicator) == (confirmed.rule_id, confirmed.indicator)
    assert (confirmed.value, confirmed.unit, confirmed.verdict) == (0.5, "ug/kg", "exceed")


def test_a_repeated_test_is_a_no_op(judge, operational, sink):
    feed = Feed()
    judge.handle(feed.batch(tests=[a_test("r1"), a_test("r1"), a_test("r2", dedup_key="key-r1")]))
    judge.handle(feed.batch(tests=[a_test("r1"), a_test("r3", dedup_key="key-r1")]))
    assert [row["record_id"] for row in rows(operational, tables.tests)] == ["r1"]
    assert len(sink.findings) == 1
    assert [e["type"] for e in rows(operational, tables.events)].count("test") == 1
    assert rows(operational, tables.quarantine) == []


def test_an_id_of_another_station_is_quarantined(judge, operational):
    feed = Feed()
    judge.handle(feed.batch(tests=[a_test("r1")]))
    other = feed.batch(tests=[a_test("r1", dedup_key="other")])
    pack = replace(other.packs[0], station="hl-002")
    judge.handle(replace(other, packs=[pack], tests=[replace(other.tests[0], pack=pack)]))
    (row,) = rows(operational, tables.quarantine)
    assert (row["station"], row["field"]) == ("hl-002", "record_id")
    assert "hl-001" in row["reason"]


@pytest.mark.parametrize(
    ("tested_at", "flags"),
    [
        ("not a time", ["clock_suspect"]),
        ("2026-05-01T09:51:39+08:00", []),
        ("2026-05-01T10:00:00+08:00", ["clock_suspect"]),
        ("2011-01-01T00:00:00+08:00", ["late"]),
    ],
)
def test_doubtful_times_are_kept_and_flagged(judge, operational, tested_at, flags):
    judge.handle(Feed().batch(tests=[a_test(tested_at=tested_at)]))
    (row,) = rows(operational, tables.tests)
    assert [flag for flag in row["flags"] if flag in {"late", "clock_suspect"}] == flags


def test_hostile_texts_and_numbers_are_stored(judge, operational):
    record = a_test(
        "r" * 500,
        dedup_key="d\0" * 500,
        product_name="菜" * 5000,
        parameter="\0" * 10,
        result_kind=ResultKind.QUANTITATIVE,
        screen_result=None,
        value=Decimal("1E+400"),
        qualifier=Qualifier.GT,
        unit="x" * 100,
    )
    twin = replace_record(record, record_id="r" * 499 + "s", dedup_key="d\0" * 499 + "e")
    judge.handle(Feed().batch(tests=[record, twin]))
    row, other = rows(operational, tables.tests)
    assert row["record_id"] != other["record_id"]
    assert len(row["record_id"]) <= 64
    assert len(row["dedup_key"]) <= 200
    assert row["verdict"] == "undetermined"
    assert len([e for e in rows(operational, tables.events) if e["type"] == "test"]) == 2


def test_records_without_an_id_are_kept_apart(judge, operational, sink):
    judge.handle(Feed().batch(tests=[a_test("", dedup_key=""), a_test("", dedup_key="")]))
    assert len(rows(operational, tables.tests)) == len(sink.findings) == 2


# ---------------------------------------------------------------- the transaction


def test_the_same_batch_again_changes_nothing(judge, operational, registry, sink):
    feed = Feed()
    batch = a_busy_batch(feed)
    judge.handle(batch)
    before = everything(operational)
    assert {name: len(some) for name, some in before.items()} == {
        "tests": 2, "findings": 3, "quarantine": 2, "companions": 1, "events": 3,
    }  # fmt: skip
    judge.handle(batch)
    Judge(standard_catalogue(), registry, operational, sink).handle(batch)
    assert everything(operational) == before
    assert len(sink.calls) == 1
    assert judge.cursor() == 1


def test_findings_stored_already_are_not_told_again(judge, operational, sink):
    """A cursor that went back (a restored database) makes repeats; their identity stops them."""
    batch = a_busy_batch(Feed())
    judge.handle(batch)
    with operational.write() as connection:
        connection.execute(sa.update(tables.cursors).values(inbox_pos=0))
    judge.handle(batch)
    assert len(rows(operational, tables.findings)) == 3
    assert [len(call[0]) for call in sink.calls] == [3]


def test_a_batch_that_overlaps_the_cursor_is_cut(judge, sink):
    feed = Feed()
    values = [("soil1", "soil_cd", NOW + i, 0.4) for i in range(4)]
    both = feed.batch(*values, packs=2)
    first = replace(
        both,
        packs=both.packs[:1],
        **{
            name: getattr(both, name)[:2]
            for name in (
                "series_id",
                "t_ms",
                "v",
                "q",
                "flags",
                "received_ms",
                "inbox_pos",
                "pack_index",
                "position",
            )
        },
    )
    judge.handle(first)
    judge.handle(both)
    assert judge.cursor() == 2
    assert [[f.t_ms - NOW for f in call[0]] for call in sink.calls] == [[0, 1], [2, 3]]


def test_a_failing_sink_rolls_everything_back(judge, operational, sink):
    feed = Feed()
    batch = a_busy_batch(feed)
    sink.broken = True
    with pytest.raises(RuntimeError, match="the sink failed"):
        judge.handle(batch)
    assert judge.cursor() == 0
    assert all(some == [] for some in everything(operational).values())
    sink.broken = False
    judge.handle(batch)
    assert judge.cursor() == 1
    assert {name: len(some) for name, some in everything(operational).items()} == {
        "tests": 2, "findings": 3, "quarantine": 2, "companions": 1, "events": 3,
    }  # fmt: skip


def test_an_empty_batch_and_one_without_records_move_only_the_cursor(judge, sink):
    feed = Feed()
    judge.handle(replace(feed.batch(), packs=[]))
    assert judge.cursor() == 0
    judge.handle(feed.batch())
    assert judge.cursor() == 2
    assert sink.calls == []


def test_ammonia_of_a_pond_is_computed_and_cited(operational, sink):
    pond = PlotContext(plot_id="pond", water_use="fishery")
    registry = Registry(plots={("hl-001", "buoy"): pond, ("hl-001", "lab"): pond})
    judge = Judge(standard_catalogue(), registry, operational, sink)
    feed = Feed()
    judge.handle(
        feed.batch(
            ("buoy", "water_ph", NOW - HOUR + 1, 8.0), ("buoy", "water_temperature", NOW, 25.0)
        )
    )
    judge.handle(feed.batch(("lab", "water_ammonia_n", NOW, 0.4), ("lab", "water_ec", NOW, 1.0)))
    (finding,) = sink.findings
    (row,) = rows(operational, tables.findings)
    assert (row["indicator"], row["rule_id"]) == (
        "water_ammonia_unionised",
        "gb11607:unionized_ammonia",
    )
    assert (row["value"], row["unit"]) == (pytest.approx(0.0215, rel=0.01), "mg/L")
    assert row["citation"]["conditions"] == {
        "water_use": "fishery",
        "computed_from": "water_ammonia_n, water_ph, water_temperature",
        "water_ammonia_n": 0.4,
        "water_ph": 8.0,
        "water_temperature": 25.0,
    }
    assert finding.flags == ("limit_unverified",)
    # An hour after the pH nothing can be computed any more.
    judge.handle(feed.batch(("lab", "water_ammonia_n", NOW + 1, 0.4)))
    assert len(sink.findings) == 1


def test_batch_size_does_not_matter(tmp_path, registry, databases):
    values = []
    for i in range(60):
        values += [
            ("probe1", "soil_ph", NOW + i * 400_000, 5 + (i % 7) / 2),
            ("soil1", "soil_cd", NOW + i * 400_000, 0.2 + (i % 11) / 10),
            ("water1", "water_ph", NOW + i * 400_000, 5 + (i % 9) / 2),
        ]
    seen = []
    for size in (1, 7, len(values)):
        db = Operational(databases.url(tmp_path / f"{size}.db"))
        db.migrate()
        sink, feed = Sink({Series("hl-001", "water1", "water_ph")}), Feed()
        judge = Judge(standard_catalogue(), registry, db, sink)
        for start in range(0, len(values), size):
            judge.handle(feed.batch(*values[start : start + size]))
        found = [(f.t_ms, f.rule_id, f.value, str(f.citation)) for f in sink.findings]
        seen.append((found, [(o.t_ms, o.value, o.recovered) for o in sink.observations]))
        db.close()
    assert seen[0] == seen[1] == seen[2]
    assert len(seen[0][0]) > 50


# ---------------------------------------------------------------- the trend


def test_limits_for_the_trend_move_with_the_ph(judge):
    feed = Feed()
    judge.handle(
        feed.batch(
            ("probe1", "soil_ph", NOW, 7.0),
            ("probe1", "soil_ph", NOW + HOUR, 7.2),
            ("probe1", "soil_ph", NOW + 2 * HOUR, 6.0),
        )
    )
    spans = judge.limits_for(Series("hl-001", "soil1", "soil_cd"), NOW - HOUR, NOW + 48 * HOUR)
    screening = [s for s in spans if s.level == "screening"]
    # Registered pH 5.0 → 0.3; probe 7.0 and 7.2 → 0.6; probe 6.0 → 0.4 for a day; then registered again.
    expired = NOW + 2 * HOUR + VALIDITY_MS
    assert [(s.limit, s.from_ms, s.to_ms) for s in screening] == [
        (0.3, NOW - HOUR, NOW),
        (0.6, NOW, NOW + 2 * HOUR),
        (0.4, NOW + 2 * HOUR, expired),
        (0.3, expired, NOW + 48 * HOUR),
    ]
    assert screening[1].conditions == {"land_use": "paddy", "ph": 7.0}
    assert screening[0].verified
    assert (screening[0].standard, screening[0].unit) == ("GB 15618-2018", "mg/kg")


def test_limits_for_the_trend_begin_with_the_edition(judge):
    start = 1_625_068_800_000  # GB 5084-2021 in force: 2021-07-01 in China
    spans = judge.limits_for(Series("hl-001", "water1", "water_ph"), start - HOUR, start + HOUR)
    assert [(s.comparator, s.limit, s.from_ms, s.to_ms) for s in spans] == [
        ("<", 5.5, start, start + HOUR),
        (">", 8.5, start, start + HOUR),
    ]


def test_no_limit_line_is_drawn_when_it_is_not_known_which(judge):
    assert judge.limits_for(Series("hl-001", "stray", "soil_cd"), NOW, NOW + HOUR) == []
    assert judge.limits_for(Series("hl-001", "soil1", "soil_moisture"), NOW, NOW + HOUR) == []
    assert judge.limits_for(Series("hl-001", "water1", "water_ph"), NOW, NOW) == []


def test_companions_are_removed_when_no_late_reading_can_need_them(operational, registry):
    retention_ms = 90 * 24 * HOUR
    judge = Judge(standard_catalogue(), registry, operational, Sink(), retention_ms=retention_ms)
    oldest = NOW - retention_ms - 25 * HOUR  # what a reading of then looks back at
    ages = [oldest - 3 * THIN_MS, oldest - 1, oldest, NOW - HOUR]
    with operational.write() as connection:
        for t_ms in ages:
            row = {"plot_id": "p1", "indicator": "water_ph", "t_ms": t_ms, "value": 7.0}
            connection.execute(sa.insert(tables.companions).values(row))
    feed = Feed()
    judge.handle(feed.batch(("d", "air_temperature", NOW, 20.0)))
    assert [row["t_ms"] for row in rows(operational, tables.companions)] == ages[2:]


def test_companions_go_in_groups_once_a_minute(operational, registry):
    judge = Judge(standard_catalogue(), registry, operational, Sink(), retention_ms=HOUR)
    with operational.write() as connection:
        old = [
            {"plot_id": "p1", "indicator": "water_ph", "t_ms": t_ms, "value": 7.0}
            for t_ms in range(PRUNE_ROWS + 5)
        ]
        connection.execute(sa.insert(tables.companions), old)
    feed = Feed()
    for received_ms, left in ((NOW, 5), (NOW + PRUNE_EVERY_MS - 1, 5), (NOW + PRUNE_EVERY_MS, 0)):
        batch = feed.batch(("d", "air_temperature", NOW, 20.0))
        batch.packs[-1] = replace(batch.packs[-1], received_ms=received_ms)
        judge.handle(batch)
        assert len(rows(operational, tables.companions)) == left


def test_without_a_retention_every_companion_stays(operational, judge):
    row = {"plot_id": "p1", "indicator": "water_ph", "t_ms": 1, "value": 7.0}
    with operational.write() as connection:
        connection.execute(sa.insert(tables.companions).values(row))
    judge.handle(Feed().batch(("d", "air_temperature", NOW, 20.0)))
    assert len(rows(operational, tables.companions)) == 1


def test_text_with_nul_is_stored_without_it(judge, operational):
    texts = ("sample_no", "device_id", "value_text", "device_verdict", "method_standard", "unit")
    record = a_test("r\0-nul", **dict.fromkeys(texts, "a\0b"), dedup_key="k\0")
    judge.handle(Feed().batch(tests=[record]))
    with operational.read() as db:
        row = db.execute(sa.select(tables.tests)).one()
        assert db.execute(sa.select(tables.quarantine)).all() == []
    assert (row.record_id, row.sample_no, row.device, row.dedup_key) == ("r-nul", "ab", "ab", "k")


def test_a_pack_that_the_database_does_not_take_is_quarantined_and_the_others_are_judged(
    postgres, registry, sink
):
    url = postgres.new(migrated=True)
    operational = Operational(url)
    judge = Judge(standard_catalogue(), registry, operational, sink)
    feed = Feed()
    acid = [("water1", "water_ph", NOW + i, 3.0) for i in range(3)]
    batch = feed.batch(*acid, tests=[a_test(attempt=2**40)], packs=3)
    judge.handle(batch)
    judge.handle(feed.batch(tests=[a_test("r2")]))
    assert [f.inbox_pos for f in sink.findings if f.kind == "reading"] == [1, 2]
    assert judge.cursor() == 4
    with operational.read() as db:
        q = tables.quarantine.c
        (row,) = db.execute(sa.select(q.inbox_pos, q.position, q.field, q.reason)).all()
        assert list(db.scalars(sa.select(tables.tests.c.record_id))) == ["r2"]
    assert row[:3] == (3, -1, "body")
    assert "out of range" in row.reason
    operational.close()
    postgres.give_back(url, migrated=True)
