from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.sequence import FEW, by_series, previous_maxima

N_SERIES = 4
times = st.integers(-(2**47), 2**47)


@given(
    st.lists(st.tuples(st.integers(0, N_SERIES - 1), st.one_of(st.integers(0, 5), times))),
    st.lists(
        st.one_of(st.just(np.iinfo(np.int64).min), times), min_size=N_SERIES, max_size=N_SERIES
    ),
)
def test_previous_maxima_equals_the_loop(rows, last):
    series = np.array([s for s, _ in rows], np.int32)
    t = np.array([t for _, t in rows], np.int64)
    highest, expected = list(last), []
    for s, at in rows:
        expected.append(highest[s])
        highest[s] = max(highest[s], at)
    given_last = np.array(last, np.int64)
    assert previous_maxima(series, t, given_last).tolist() == expected
    assert given_last.tolist() == last


@pytest.mark.parametrize("known", [6, 6 * FEW + 1])
def test_a_batch_by_series(known):
    room = np.zeros(known, np.int32)
    found = by_series(np.array([5, 2, 4, 3], np.int32), room)
    assert (found.rows.tolist(), found.ids.tolist()) == ([1, 3, 2, 0], [2, 3, 4, 5])
    assert found.where == slice(2, 6)
    some = found.part(np.array([True, False, True, True]))
    assert (some.rows.tolist(), some.where.tolist()) == ([1, 2, 0], [2, 4, 5])
    assert by_series(np.array([5, 2, 4, 2], np.int32), room) is None
    nothing = by_series(np.zeros(0, np.int32), room)
    assert np.arange(known)[nothing.where].tolist() == []
