from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ingest.sequence import previous_maxima

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
