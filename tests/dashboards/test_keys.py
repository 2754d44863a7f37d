from __future__ import annotations

import pytest
import sqlalchemy as sa

from alerts.tables import api_keys
from dashboards.keys import check_key, create_key
from tests.conftest import databases  # noqa: F401 - on both engines


def test_key_is_found_by_its_text_and_stored_as_a_hash(county):
    key = create_key(county.operational, "县局")
    found = check_key(county.operational, key)
    assert found is not None
    assert found.name == "县局"
    with county.operational.read() as connection:
        row = connection.execute(sa.select(api_keys)).one()
    assert key.split("_", 2)[2] not in str(tuple(row))
    assert len(row.hash) == 64


def test_two_keys_differ_and_do_not_stand_for_each_other(county):
    first, second = (create_key(county.operational, "a") for _ in range(2))
    crossed = "_".join([*first.split("_")[:2], second.split("_", 2)[2]])
    assert check_key(county.operational, crossed) is None
    assert check_key(county.operational, first) != check_key(county.operational, second)


@pytest.mark.parametrize("name", ["", "  ", "x" * 61])
def test_key_needs_a_name_that_fits(county, name):
    with pytest.raises(ValueError, match="name"):
        create_key(county.operational, name)
