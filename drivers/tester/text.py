"""Text of instruments: character sets, half width, labels (pure)."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

Charset = Literal["auto", "gbk", "gb18030", "utf-8", "latin-1"]

CHARSETS: dict[str, tuple[str, ...]] = {
    "auto": ("utf-8", "gb18030"),
    "gbk": ("gb18030",),  # a superset of gbk, which is a superset of gb2312
    "gb18030": ("gb18030",),
    "utf-8": ("utf-8",),
    "latin-1": ("latin-1",),
}

_SEPARATOR = re.compile(r"[:：=＝﹕]")
_MAX_LABEL_CHARS = 20


def decoded(data: bytes, charset: str) -> tuple[str, bool]:
    """Return (text, whether some bytes are no text); utf-8 strictly first with ``auto``, then GBK.

    >>> decoded("韭菜".encode("gbk"), "auto")
    ('韭菜', False)
    """
    return decoded_as(data, charset)[:2]


def decoded_as(data: bytes, charset: str) -> tuple[str, bool, str]:
    """Return (text, whether some bytes are no text, the character set that it is in)."""
    tried = CHARSETS[charset]
    for one in tried:
        try:
            return data.decode(one), False, one
        except UnicodeDecodeError:
            continue
    return data.decode(tried[-1], errors="replace"), True, tried[-1]


def folded(text: str) -> str:
    """Return ``text`` in half width, without blanks and in lower case: how labels and words are compared.

    >>> folded("抑　制 率（％）")
    '抑制率(%)'
    """
    return "".join(unicodedata.normalize("NFKC", text).split()).casefold()


def plain(text: str) -> str:
    """Return ``text`` in half width, its minus signs as ``-``."""
    return unicodedata.normalize("NFKC", text).replace("−", "-").replace("–", "-").strip()


def split_line(line: str) -> tuple[str, str] | None:
    """Return (folded label, value) of a line, or None for a line without a label.

    >>> split_line("抑 制 率：63.2 %"), split_line("------")
    (('抑制率', '63.2 %'), None)
    """
    found = _SEPARATOR.search(line)
    if found is None:
        return None
    label = folded(line[: found.start()])
    if not label or len(label) > _MAX_LABEL_CHARS:
        return None
    return label, line[found.end() :].strip()
