"""Words of others made harmless in a message: no mention, no link, no markup, no new line. Pure.

Robots know no common way to escape markup, and some have none. So what could be markup is replaced by its full-width
twin, which reads the same and means nothing to a robot.
"""

from __future__ import annotations

import re
import unicodedata

MAX_WORDS = 80  # characters of one name
_TWINS = str.maketrans({ch: chr(ord(ch) + 0xFEE0) for ch in "<>[](){}*_`#@~|\\&$!^\"'="})
_NOT_SHOWN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})  # line ends, bidi, zero width
_DOMAIN_DOT = re.compile(r"\.(?=[^\W\d_])")  # example.com becomes a link by itself
_SCHEME = re.compile(r":(?=//)")


def words(text: object, limit: int = MAX_WORDS) -> str:
    r"""Return ``text`` as plain words on one line, at most ``limit`` characters.

    >>> words("韭菜@all [领奖](http://evil.example)\n")
    '韭菜＠all ［领奖］（http：//evil．example）'
    """
    shown = "".join(
        " " if unicodedata.category(ch) in _NOT_SHOWN else ch
        for ch in unicodedata.normalize("NFC", str(text)[: 4 * limit])
    )
    line = " ".join(shown.split())
    if len(line) > limit:
        line = f"{line[: limit - 1]}…"
    line = _SCHEME.sub("：", line)
    return _DOMAIN_DOT.sub("．", line).translate(_TWINS)
