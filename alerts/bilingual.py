"""Text that people read later in either language: both stand in it, "中文 | English"; a page shows one."""

from __future__ import annotations

BETWEEN = " | "


def both(zh: str, en: str) -> str:
    """Return one text of the two.

    >>> both("需先签收", "acknowledge it first")
    '需先签收 | acknowledge it first'
    """
    return f"{zh}{BETWEEN}{en}"


def halves(text: str) -> tuple[str, str]:
    """Return the Chinese and the English half; text of one language is both.

    >>> halves("甲 | a"), halves("li")
    (('甲', 'a'), ('li', 'li'))
    """
    zh, between, en = text.partition(BETWEEN)
    return (zh, en) if between else (text, text)


def joined(first: str, more: str) -> str:
    """Return ``first`` with ``more`` behind it, in each language; blank ``more`` adds nothing.

    >>> joined("报告 1 | report 1", "方法相同 | same method")
    '报告 1：方法相同 | report 1: same method'
    """
    if not more:
        return first
    (zh, en), (more_zh, more_en) = halves(first), halves(more)
    return both(f"{zh}：{more_zh}", f"{en}: {more_en}")
