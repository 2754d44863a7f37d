"""The arrays say what the plain loop says, for every rule, context, pH and time."""

import math
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.judge.catalogue.catalogue import standard_catalogue
from ingest.judge.catalogue.limit_tables import CLEARABLE
from ingest.judge.catalogue.limits import KEY_VALUES, TOLERANCE, Comparator, select
from ingest.judge.readings.compiled import RECOVERY_MARGIN, CompiledLimits, beyond
from ingest.judge.readings.conditions import check
from ingest.judge.readings.readings import judge_reading

CATALOGUE = standard_catalogue()
# Oxygen has limits that ask for more than the value: test_window.py.
INDICATORS = [*sorted({*CATALOGUE.rules} - {"water_do"}), "soil_moisture"]
THRESHOLDS = sorted({limit.threshold for limit in CATALOGUE.limits()})
TIMES = [0, 1_262_304_000_000, 1_546_300_800_000, 1_577_836_800_000, 1_777_564_800_000]
FACTORS = [1.0, 1 + 1e-14, 1 - 1e-14, 1 + 1e-9, 1 - 1e-9, 0.5, 1.02, 0.979, 0.98, 1.5, 0.0]

contexts = st.fixed_dictionaries(
    {},
    optional={key: st.sampled_from([*KEY_VALUES[key], "no such word"]) for key in KEY_VALUES},
)
series = st.tuples(st.sampled_from(INDICATORS), contexts)
readings = st.tuples(
    st.integers(0, 4),
    st.sampled_from(TIMES),
    st.one_of(
        st.builds(float.__mul__, st.sampled_from(THRESHOLDS), st.sampled_from(FACTORS)),
        st.just(math.nan),
    ),
    st.sampled_from([math.nan, 3.0, 5.5, 5.500000000000001, 5.51, 6.5, 6.6, 7.5, 7.51, 14.0]),
)


def arrays(some):
    return (
        np.array([r[0] for r in some], np.int32),
        np.array([r[1] for r in some], np.int64),
        np.array([r[2] for r in some], np.float64),
        np.array([r[3] for r in some], np.float64),
    )


def compiled(defined):
    limits = CompiledLimits(CATALOGUE)
    limits.extend([(indicator, check(context)) for indicator, context in defined])
    return limits


def naive(defined, some):
    """One reading after the other, one rule after the other."""
    broken = []
    for i, (series_id, t_ms, v, ph) in enumerate(some):
        indicator, context = defined[series_id]
        if math.isnan(v):
            continue
        conditions = check({**context, "ph": None if math.isnan(ph) else ph})
        judgement = judge_reading(CATALOGUE, indicator, v, conditions, t_ms)
        broken += [(i, b.rule_id, b.citation.limit_version) for b in judgement.breaches]
    return sorted(broken)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(series, min_size=5, max_size=5), st.lists(readings, max_size=60), st.integers(0, 60)
)
def test_broken_limits_equal_the_naive_loop_and_any_split(defined, some, cut):
    limits = compiled(defined)

    def broken(part, offset):
        series_id, t_ms, v, ph = arrays(part)
        at = limits.candidates(series_id, v)
        found = limits.broken(at, series_id[at], t_ms[at], v[at], ph[at])
        rows = [limits.rows[row] for row in found.row]
        return [
            (int(i) + offset, row.rule_id, row.limit_version)
            for i, row in zip(found.reading, rows, strict=True)
        ]

    whole = broken(some, 0)
    assert sorted(whole) == naive(defined, some)
    assert [i for i, _, _ in whole] == sorted(i for i, _, _ in whole)
    assert sorted(broken(some[:cut], 0) + broken(some[cut:], min(cut, len(some)))) == sorted(whole)


def naive_recovery(defined, some):
    """Recovered: inside every limit of the rule that could apply, by the margin; unsaid when none is known."""
    said = []
    for i, (series_id, t_ms, v, ph) in enumerate(some):
        indicator, context = defined[series_id]
        conditions = check({**context, "ph": None if math.isnan(ph) else ph})
        rules = [
            rule
            for rule in CATALOGUE.rules.get(indicator, ())
            if not any(key in conditions.wrong for row in rule for key in row.condition_keys())
        ]
        for rule_id in dict.fromkeys(rule[0].rule_id for rule in rules):
            found = [
                selection
                for rule in rules
                if rule[0].rule_id == rule_id
                and (selection := select(rule, conditions.known, t_ms)) is not None
            ]
            if found and all(selection.complete for selection in found):
                rows = [row for selection in found for row in selection.rows]
                inside = all(
                    v >= row.threshold + RECOVERY_MARGIN * abs(row.threshold)
                    if row.comparator in {Comparator.BELOW, Comparator.AT_MOST}
                    else v <= row.threshold - RECOVERY_MARGIN * abs(row.threshold)
                    for row in rows
                )
                said.append((i, rule_id, inside))
    return said


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(CLEARABLE)), contexts), min_size=5, max_size=5),
    st.lists(readings.filter(lambda r: not math.isnan(r[2])), max_size=40),
)
def test_recovery_equals_the_naive_loop(defined, some):
    limits = compiled(defined)
    series_id, t_ms, v, ph = arrays(some)
    said = limits.recovery(np.arange(len(some)), series_id, t_ms, v, ph)
    ours = [
        (int(i), rule, bool(r))
        for i, rule, r in zip(said.reading, said.rule, said.recovered, strict=True)
    ]
    assert ours == naive_recovery(defined, some)


def test_infinite_values_break_and_missing_ones_do_not():
    limits = compiled([("soil_cd", {"land_use": "paddy"}), ("soil_moisture", {})])
    v = np.array([math.inf, math.nan, -math.inf, math.inf])
    assert limits.candidates(np.array([0, 0, 0, 1], np.int32), v).tolist() == [0]


@given(
    st.sampled_from(sorted(CATALOGUE.limits(), key=lambda row: row.place)),
    st.sampled_from(Comparator).filter(lambda one: one is not Comparator.DETECTED),
    st.sampled_from([*FACTORS, 1 + TOLERANCE, 1 - TOLERANCE]),
    st.integers(-2, 2),
)
def test_one_row_as_an_array_equals_the_row(row, comparator, factor, steps):
    """Every comparator, at the limit and at the doubles beside it."""
    row = replace(row, comparator=comparator)
    v = row.threshold * factor
    for _ in range(abs(steps)):
        v = math.nextafter(v, math.copysign(math.inf, steps))
    assert beyond(row, np.array([v, math.nan])).tolist() == [row.broken_by(v), False]
