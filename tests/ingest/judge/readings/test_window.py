"""Limits that look at other readings: batches say what the plain loop says, in any split and order."""

import datetime as dt
import json
import math
import random
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import tables
from ingest.batch import LATE, OUT_OF_ORDER, Batch, Series, TakenPack
from ingest.judge.catalogue.catalogue import standard_catalogue
from ingest.judge.catalogue.limits import Comparator
from ingest.judge.lines import judge_lines
from ingest.judge.readings.batches import ReadingJudge
from ingest.judge.readings.companions import KEPT_MS, THIN_MS, Companions
from ingest.judge.readings.conditions import of_plot
from ingest.judge.readings.readings import judge_reading
from ingest.judge.readings.series import SeriesTable
from ingest.judge.readings.spans import spans
from ingest.registry.context import PlotContext

MINUTE, HOUR = 60_000, 3_600_000
NOW = 1_777_600_000_000  # 2026-05-01
START = NOW - NOW % THIN_MS
CATALOGUE = standard_catalogue()

PLOTS = {
    "pond": PlotContext(plot_id="pond", water_use="fishery", salmonid="no", ice_covered="no"),
    "twin": PlotContext(plot_id="pond", water_use="fishery", salmonid="no", ice_covered="no"),
    "trout": PlotContext(plot_id="trout", water_use="fishery", salmonid="yes", ice_covered="no"),
    "spring": PlotContext(plot_id="spring", water_use="surface", water_class="I"),
    "lake": PlotContext(plot_id="lake", water_use="surface", water_body="lake"),
    "canal": PlotContext(plot_id="canal", water_use="irrigation", crop="paddy", soil_ph=6.0),
    "loose": PlotContext(water_use="fishery", salmonid="no"),
}
BESIDE = ("water_ph", "water_temperature", "water_do_saturation")
JUDGED = ("water_do", "water_ammonia_n")


@dataclass
class Registry:
    version: int = 1
    plots: dict = field(default_factory=lambda: dict(PLOTS))

    def context(self, _station, device):
        return self.plots.get(device)


class Run:
    """A reading judge on a database in memory; a row is (device, indicator, t_ms, v[, q[, flags]])."""

    def __init__(self, registry=None):
        self.engine = sa.create_engine("sqlite://")
        tables.companions.create(self.engine)
        self.series = []
        self.pos = 0
        self.companions = Companions()
        self.table = SeriesTable(CATALOGUE, registry or Registry())
        self.judge = ReadingJudge(self.table, self.companions)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.engine.dispose()

    def batch(self, rows):
        ids = []
        for device, indicator, *_ in rows:
            one = Series("s", device, indicator)
            if one not in self.series:
                self.series.append(one)
            ids.append(self.series.index(one))
        self.pos += 1
        n = len(rows)
        return Batch(
            packs=[TakenPack(self.pos, "s", "E", self.pos, NOW, b"")],
            series=self.series,
            series_id=np.array(ids, np.int32),
            t_ms=np.array([row[2] for row in rows], np.int64),
            v=np.array([row[3] for row in rows], np.float64),
            q=np.array([row[4] if len(row) > 4 else 1 for row in rows], np.uint8),
            flags=np.array([row[5] if len(row) > 5 else 0 for row in rows], np.uint32),
            received_ms=np.full(n, NOW, np.int64),
            inbox_pos=np.full(n, self.pos, np.int64),
            pack_index=np.zeros(n, np.int32),
            position=np.arange(n, dtype=np.int32),
            tests=[],
            faults=[],
        )

    def handle(self, *rows, watched=()):
        batch = self.batch(rows)
        fresh = np.ones(len(rows), np.bool_)
        self.table.update(batch.series)
        with self.engine.begin() as connection:
            self.judge.keep_companions(connection, batch, fresh)
            found = self.judge.findings(connection, batch, fresh)
            seen = self.judge.observations(connection, batch, fresh, watched)
        return found, seen

    def findings(self, *rows):
        return self.handle(*rows)[0]


def told(finding):
    """What a finding says, without its place."""
    return (
        finding.device,
        finding.t_ms,
        finding.indicator,
        finding.rule_id,
        finding.citation["limit_version"],
        round(finding.value, 9),
        sorted((k, round(v, 6) if isinstance(v, float) else v)
               for k, v in finding.citation["conditions"].items()),
    )  # fmt: skip


def good(row):
    q, flags = row[4] if len(row) > 4 else 1, row[5] if len(row) > 5 else 0
    return q not in (4, 9) and math.isfinite(row[3]) and not flags & (4096 | 8192)


def naive(rows):
    """One reading after the other with everything measured until then, by the judge of single readings."""
    found = []
    for device, indicator, t_ms, v, *_ in filter(good, rows):
        plot = PLOTS[device]
        kept = {}
        for other, name, t, value, *_more in filter(good, rows):
            if PLOTS[other].plot_id == plot.plot_id != "" and t <= t_ms:
                if name == "water_do" and other != device:
                    continue  # the hours of one probe are not those of another
                key = (name, t // THIN_MS)
                kept[key] = min(kept.get(key, (t, value)), (t, value))
        conditions = of_plot(plot)
        beside = {}
        for name in BESIDE:
            before = [one for (n, _), one in kept.items() if n == name]
            if before and t_ms - max(before)[0] < KEPT_MS[name]:
                beside[name] = max(before)[1]
        window = sorted(one for (n, _), one in kept.items() if n == "water_do")
        conditions = replace(conditions, companions=beside)
        judgement = judge_reading(CATALOGUE, indicator, v, conditions, t_ms, window)
        just_low = [value <= 5 for t, value in window if t < t_ms][-1:] == [True]
        for breach in judgement.breaches:
            citation = breach.citation
            if citation.comparator == Comparator.AT_MOST and not (v <= 5 or just_low):
                continue  # the batches do not say it again of every good reading of the day
            computed = indicator == "water_ammonia_n" and "fishery" in plot.water_use
            found.append(
                (
                    device,
                    t_ms,
                    "water_ammonia_unionised" if computed else indicator,
                    breach.rule_id,
                    citation.limit_version,
                    round(citation.ratio * 0.02 if computed else v, 9),
                    sorted(
                        (k, round(x, 6) if isinstance(x, float) else x)
                        for k, x in citation.conditions.items()
                    ),
                )
            )
    return sorted(found, key=str)


VALUES = {
    "water_do": [1.5, 2.99, 3.5, 4.5, 5.0, 5.05, 6.0, 7.0, 7.5, 9.0, math.nan, math.inf],
    "water_ammonia_n": [0.01, 0.02, 0.16, 0.3, 0.4, 1.2, 2.5, math.nan],
    "water_ph": [6.0, 8.0, 9.5],
    "water_temperature": [2.0, 20.0, 31.0],
    "water_do_saturation": [60.0, 89.9, 90.0, 101.0],
}


@st.composite
def streams(draw):
    """Readings in order of time, ten minutes to some hours apart, of plots of every kind."""
    source = random.Random(draw(st.integers(0, 10**9)))
    step = draw(st.sampled_from([4, 10, 35, 70]))
    often = draw(st.sampled_from([["water_do"], [*VALUES], ["water_do", "water_do_saturation"]]))
    lows = draw(st.floats(0, 1))
    rows, t_ms = [], START
    for _ in range(draw(st.integers(1, 160))):
        t_ms += source.randrange(1, 2 * step) * MINUTE
        device = source.choice([*PLOTS] if step < 30 else ["pond", "twin", "trout"])
        name = source.choice(often)
        v = source.choice(VALUES[name])
        if name == "water_do" and source.random() < lows:
            v = 4.5
        q = source.choice([1] * 12 + [2, 3, 4, 9])
        flags = source.choice([0] * 12 + [LATE, OUT_OF_ORDER, 4096, 8192])
        rows.append((device, name, t_ms, v, q, flags))
    return rows


@settings(max_examples=60, deadline=None)
@given(streams(), st.integers(1, 50), st.randoms(use_true_random=False))
def test_batches_equal_the_plain_loop_in_any_split_and_order(rows, size, shuffler):
    whole, split = [], []
    with Run() as run:
        shuffled = [*rows]
        shuffler.shuffle(shuffled)
        whole = run.findings(*shuffled)
    with Run() as run:
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            if shuffler.random() < 0.3:
                run.companions.forget()  # as a new process
            shuffler.shuffle(part)
            split += run.findings(*part)
    expected = naive(rows)
    assert sorted(map(told, split), key=str) == expected
    assert sorted(map(told, whole), key=str) == expected


def test_the_plain_loop_finds_every_kind():
    """The property above would hold for a judge that says nothing."""
    kinds = set()
    source = random.Random(5)
    rows = []
    for i in range(400):
        for device in PLOTS:
            name = source.choice([*VALUES])
            v = 4.5 if name == "water_do" and i % 3 else source.choice(VALUES[name])
            rows.append((device, name, START + i * 9 * MINUTE, v))
    with Run() as run:
        found = run.findings(*rows)
    assert sorted(map(told, found), key=str) == naive(rows)
    for one in found:
        kinds.add((one.rule_id, one.citation["comparator"], "computed_from" in str(one.citation)))
    assert kinds >= {
        ("gb11607:DO", "<=", False),
        ("gb11607:DO", "<", False),
        ("gb11607:unionized_ammonia", ">", True),
        ("gb3838:DO", "<", False),
        ("gb3838:DO", "<", True),
        ("gb3838:NH3-N", ">", False),
    }


# ---------------------------------------------------------------- the 24 hours of a pond


def hours(start, end, value, device="pond", minutes=10):
    """Readings from ``start`` until before ``end`` (hours after START)."""
    first, last = round(start * HOUR), round(end * HOUR)
    return [
        (device, "water_do", START + t, value) for t in range(first, last, minutes * MINUTE)
    ]  # fmt: skip


def oxygen(found):
    return [((f.t_ms - START) / HOUR, f.value) for f in found if f.citation["comparator"] == "<="]


def test_more_than_eight_hours_at_five_is_an_exceedance_from_then_on():
    with Run() as run:
        found = run.findings(*hours(0, 10, 5.0), *hours(10, 30, 6.0))
    # 8 h are allowed; ten minutes later they are over, and the last is said by the first good reading.
    assert oxygen(found)[0] == (pytest.approx(8 + 1 / 6), 5.0)
    assert oxygen(found)[-1] == (10.0, 6.0)
    first = found[0]
    assert (first.rule_id, first.citation["limit"]) == ("gb11607:DO", 5.0)
    assert first.citation["exceeded"]
    assert first.citation["conditions"]["low_h"] == pytest.approx(8 + 1 / 6)
    assert first.citation["conditions"]["window_h"] == 24
    assert first.clearable


def test_eight_hours_are_no_exceedance_nor_is_sleep_between_them():
    with Run() as run:
        assert run.findings(*hours(0, 8, 5.0), *hours(8, 24, 6.0)) == []
        # Nine hours in the next night, seven of them in one window with none of the first.
        assert oxygen(run.findings(*hours(24, 32, 5.0), *hours(32, 40, 6.0))) == []


def test_hourly_readings_count_until_the_next():
    rows = [*hours(0, 9, 4.0, minutes=60), *hours(9, 12, 6.0, minutes=60)]
    with Run() as run:
        found = [oxygen(run.findings(row)) for row in rows]
    # Nine low readings are nine hours: it shows when the next one ends the last of them.
    assert [one for one in found if one] == [[(9.0, 6.0)]]


def test_a_gap_of_more_than_an_hour_is_not_counted():
    with Run() as run:
        assert run.findings(*hours(0, 3, 4.0), *hours(9, 13, 4.0), *hours(13, 14, 6.0)) == []


@pytest.mark.parametrize("spoilt", [(4, 0), (9, 0), (2, 4096), (2, 8192)])
def test_failed_or_calibrating_readings_are_not_counted(spoilt):
    with Run() as run:
        assert run.findings(*((*row, *spoilt) for row in hours(0, 12, 4.0))) == []
        assert run.findings(("pond", "water_do", START + 12 * HOUR, 4.0)) == []


def test_under_three_is_an_exceedance_at_once_even_when_late():
    with Run() as run:
        (found,) = run.findings(("pond", "water_do", START, 2.9, 1, LATE))
    assert (found.late, found.citation["comparator"]) == (True, "<")
    assert found.severity == "major"


def test_a_late_exceedance_of_the_hours_is_raised_and_marked():
    low = [(*row, 1, LATE | OUT_OF_ORDER) for row in hours(0, 9, 4.0)]
    with Run() as run:
        assert run.findings(("pond", "water_do", START + 30 * HOUR, 6.0)) == []
        found = run.findings(*low)
    assert oxygen(found)
    assert all(one.late and "late" in one.flags for one in found)


def test_two_probes_of_one_pond_have_hours_of_their_own():
    with Run() as run:
        # By day and by night in turn, and one is in the shade: put together, nine low hours of neither.
        shade = [*hours(0, 5, 4.0), *hours(5, 12, 6.0)]
        sun = [*hours(0, 5, 6.0, "twin"), *hours(5, 9.5, 4.0, "twin"), *hours(9.5, 12, 6.0, "twin")]
        assert run.findings(*shade, *sun) == []
        # A good probe beside it does not excuse the one that is low.
        low, good = hours(12, 22, 4.0), hours(12, 22, 9.0, "twin")
        found = run.findings(*(row for pair in zip(low, good, strict=True) for row in pair))
    assert {one.device for one in found} == {"pond"}
    assert oxygen(found)[0][0] < 19  # five hours of the morning count with these


def test_what_stands_beside_a_value_is_of_the_whole_pond():
    rows = [("twin", "water_ph", START, 8.4), ("twin", "water_temperature", START, 30.0)]
    with Run() as run:
        (found,) = run.findings(*rows, ("pond", "water_ammonia_n", START, 1.2))
    assert (found.device, found.indicator) == ("pond", "water_ammonia_unionised")


def test_without_a_plot_there_is_no_window():
    with Run() as run:
        found = run.findings(*hours(0, 12, 4.0, "loose"), ("loose", "water_do", START, 2.0))
    assert [f.citation["comparator"] for f in found] == ["<"]


# ---------------------------------------------------------------- agrigate judge


def asked(value, window, **line):
    context = {"water_use": "fishery", "salmonid": "no", "do_window": window}
    given = {
        "kind": "reading",
        "indicator": "water_do",
        "value": value,
        "at": "2026-05-01T12:00:00+08:00",
        "context": context,
        **line,
    }
    (reply,) = judge_lines([json.dumps(given).encode()])
    return json.loads(reply)


def day(low_hours, value=4.0):
    """Readings each half hour from noon of the day before; the last ``low_hours`` are low."""
    noon = dt.datetime.fromisoformat("2026-04-30T12:00:00+08:00")
    return [
        [(noon + dt.timedelta(minutes=30 * i)).isoformat(), value if i >= 48 - 2 * low_hours else 6]
        for i in range(48)
    ]


@pytest.mark.parametrize(
    ("window", "verdict"),
    [
        (day(8), "pass"),
        (day(8.5), "exceed"),
        (day(8.5)[-17:], "exceed"),
        (day(8)[-20:], "undetermined"),
        ([], "undetermined"),
        (None, "undetermined"),
    ],
)
def test_a_line_may_bring_the_day_before(window, verdict):
    reply = asked(4.0, window)
    assert reply["verdict"] == verdict
    assert ("24 h" in reply["reason"]) == (verdict == "undetermined")


def test_the_window_of_a_line_is_in_its_unit():
    window = [[at, v * 1000] for at, v in day(9)]
    assert asked(4000, window, unit="ug/L")["verdict"] == "exceed"


@pytest.mark.parametrize(
    "window", [[["no time", 4.0]], [["2026-05-01"]], [[1, 4.0]], "all day", [4.0], {}]
)
def test_a_window_that_cannot_be_read_is_no_pass(window):
    assert asked(6.0, window)["verdict"] in {"invalid", "undetermined"}


def test_without_a_time_the_window_says_nothing():
    assert asked(4.0, day(9), at="")["verdict"] == "undetermined"


# ---------------------------------------------------------------- recovery


def test_a_pond_recovers_by_the_margin_above_five():
    watched = [Series("s", "pond", "water_do")]
    values = [2.0, 4.0, 5.05, 5.1, 6.0]
    rows = [("pond", "water_do", START + i * MINUTE, v) for i, v in enumerate(values)]
    with Run() as run:
        run.handle(rows[0])
        _, seen = run.handle(*rows, watched=watched)
        calibrating = [(*row, 2, 8192) for row in rows]
        assert run.handle(*calibrating, watched=watched) == ([], [])
        assert run.handle(*((*row, 4) for row in rows), watched=watched) == ([], [])
    assert [(o.value, o.rule_id, o.recovered) for o in seen] == [
        (v, "gb11607:DO", v >= 5.1) for v in values
    ]


@pytest.mark.parametrize(
    ("value", "saturation", "said"),
    [
        (7.66, None, [True]),
        (7.6, None, []),  # inside, but not by the margin; the saturation is not known
        (7.0, None, []),
        (4.0, None, [False]),  # no water is so warm
        (7.0, 91.8, [True]),
        (7.0, 91.7, [False]),
        (7.0, 80.0, [False]),
    ],
)
def test_class_one_water_recovers_by_its_saturation_too(value, saturation, said):
    rows = [("spring", "water_do", START, value)]
    if saturation is not None:
        rows.append(("spring", "water_do_saturation", START, saturation))
    with Run() as run:
        run.handle(("spring", "water_do", START - HOUR, 1.0))
        _, seen = run.handle(*rows, watched=[Series("s", "spring", "water_do")])
    assert [o.recovered for o in seen] == said


# ---------------------------------------------------------------- the trend


def lines(device, indicator="water_do"):
    with Run() as run, run.engine.begin() as connection:
        return spans(
            CATALOGUE,
            connection,
            run.companions,
            Series("s", device, indicator),
            PLOTS[device],
            START,
            START + HOUR,
        )


def test_the_trend_says_what_else_a_limit_asks_for():
    drawn = {(s.comparator, s.limit): s.note for s in lines("pond")}
    assert drawn == {
        ("<=", 5.0): "连续 24 h 中至少 16 h 高于此值 | above this for at least 16 h of any 24 h",
        ("<", 3.0): "",
    }
    (span,) = lines("spring")
    assert (span.comparator, span.limit, span.from_ms, span.to_ms) == (
        "<",
        7.5,
        START,
        START + HOUR,
    )
    zh, _, en = span.note.partition(" | ")
    assert "90" in zh
    assert "saturation ≥ 90 %" in en
    assert [s.note for s in lines("lake")] == []  # the class is not registered
    (weekly,) = lines("spring", "water_temperature_rise")
    assert weekly.note == "周平均 | weekly mean"
