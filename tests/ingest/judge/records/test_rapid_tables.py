"""Faults in the tables of the test rules are refused with file, line and reason."""

import pytest

from ingest.judge.catalogue.catalogue import STANDARDS, load
from ingest.judge.errors import CatalogueError


@pytest.mark.parametrize(
    ("file", "old", "new", "fault"),
    [
        ("ban_scopes.csv", "稻谷;糙米", "稻谷;糙末", "inside: '糙末' is no known product or group"),
        ("ban_scopes.csv", ",part,茶叶,", ",part,,", "inside: names the products"),
        ("ban_scopes.csv", "mushroom;spice", "mushrom;spice", "open: 'mushrom'"),
        ("test_matrices.csv", "\npork,", "\nporc,", "matrix: 'pork' is not in test_matrices.csv"),
        ("test_matrices.csv", "禽肉类", "禽肉", "inside: '禽肉' is no known product or group"),
        ("device_words.csv", "超标,fail", "超标,bad", "meaning: 'bad' is not one of"),
        ("device_words.csv", "超标,fail", "合 格,fail", "already means pass"),
        ("rapid_tests.csv", ",0.5,ug/kg,false", ",,,false", "limit: a decision limit is needed"),
        ("rapid_tests.csv", "GB 2761-2017", "GB 2761-2027", "is not in editions.csv"),
    ],
)
def test_a_fault_is_refused(tmp_path, file, old, new, fault):
    text = (STANDARDS / file).read_text(encoding="utf-8")
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(CatalogueError) as refused:
        load(tmp_path)
    lines = str(refused.value).splitlines()
    assert any(fault in line and ".csv:" in line for line in lines), lines
