"""Every quality flag that a tester's record may bear has words on the server's pages and on the agent's own."""

import re
from pathlib import Path

import pytest

from drivers.tester.points import FLAGS
from gateway.local_page.entry import MANUAL

ROOT = Path(__file__).parents[1]
PAGES = {
    "server": ROOT / "dashboards" / "web" / "src" / "words.ts",
    "agent": ROOT / "gateway" / "local_page" / "page.js",
}
FLAG_LITERALS = re.compile(r'flags\.(?:add|append)\("(\w+)"\)|flags=\("(\w+)"')


@pytest.mark.parametrize("page", PAGES)
def test_each_flag_has_words_in_both_languages(page):
    text = PAGES[page].read_text(encoding="utf-8")
    words = dict(re.findall(r'^  f_(\w+): \["([^"]+)", "[^"]+"\]', text, re.MULTILINE))
    assert FLAGS | {MANUAL} <= set(words)
    assert all(re.search("[一-鿿]", chinese) for chinese in words.values())


def test_no_reader_gives_a_flag_that_is_not_in_the_set():
    for path in (ROOT / "drivers" / "tester").glob("*.py"):
        found = {a or b for a, b in FLAG_LITERALS.findall(path.read_text(encoding="utf-8"))}
        assert found <= FLAGS, path.name
