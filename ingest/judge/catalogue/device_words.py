"""What an instrument's own verdict means, and whether it contradicts ours (``device_words.csv``)."""

from __future__ import annotations

import unicodedata
from enum import StrEnum
from typing import TYPE_CHECKING

from drivers.records import Verdict
from ingest.judge.catalogue.tables import read_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ingest.judge.catalogue.tables import Directories


class DeviceSays(StrEnum):
    """The meaning of an instrument's word."""

    PASS = "pass"  # noqa: S105 - a verdict, no password
    FAIL = "fail"
    NEGATIVE = "negative"
    POSITIVE = "positive"
    NOT_DETECTED = "not_detected"
    DETECTED = "detected"
    DOUBTFUL = "doubtful"
    INVALID = "invalid"


_GOOD = (DeviceSays.PASS, DeviceSays.NEGATIVE, DeviceSays.NOT_DETECTED)
_POSITIVE = (Verdict.EXCEED, Verdict.SUSPECT)


def folded(word: str) -> str:
    """Fold width, blanks, NUL and case; a sign stays, for + and - are words here.

    >>> folded(" 不 合格" + chr(0)), folded("＋"), folded("−")
    ('不合格', '+', '-')
    """
    text = unicodedata.normalize("NFKC", word).replace("\0", "").replace("−", "-")
    return "".join(text.split()).casefold()


def load_device_words(directories: Directories, faults: list[str]) -> Mapping[str, DeviceSays]:
    """Return the meaning of each folded word; note every fault."""
    words: dict[str, DeviceSays] = {}
    for row in read_table(directories / "device_words.csv", ("word", "meaning"), faults):
        meaning = row.word("meaning", tuple(DeviceSays))
        word = folded(row["word"])
        if meaning is None:
            continue
        if words.setdefault(word, DeviceSays(meaning)) != meaning:
            row.fault("word", f"{row['word']!r} already means {words[word]}")
    return words


def contradicts(says: DeviceSays, verdict: Verdict, *, detected_within_limit: bool) -> bool:
    """Whether the instrument's word and our verdict cannot both be right.

    A verdict that says nothing (undetermined, invalid) contradicts no word. 检出 agrees with a pass when the number was
    found and lies within its limit.
    """
    if says in _GOOD:
        return verdict in _POSITIVE
    if says is DeviceSays.DETECTED:
        return verdict is Verdict.PASS and not detected_within_limit
    return verdict is Verdict.PASS
