"""Notices that ban or restrict substances (``banned_substances.csv``, ``ban_scopes.csv``)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ingest.judge.names import plain
from ingest.judge.tables import day_start_ms, read_table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ingest.judge.tables import Row

BAN_COLUMNS = (
    "substance",
    "substance_zh",
    "cas",
    "category",
    "status",
    "scope",
    "notice",
    "effective",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BanRow:
    """One notice on one substance: ``banned`` or ``restricted`` to a scope, from ``from_ms`` on.

    ``covers_all``: banned whatever the crop or animal, so that any detection is a violation.
    """

    substance: str
    substance_zh: str
    category: str
    status: str
    covers_all: bool
    scope: str
    scope_zh: str
    notice: str
    notice_zh: str
    from_ms: int
    verified: bool
    limit_version: str


_NOTICE = re.compile(r"(MARA|MOA|MEE and others) notice (?:([0-9]{4}) No\. )?([0-9]+)")
_ISSUER_ZH = {"MARA": "农业农村部公告", "MOA": "农业部公告", "MEE and others": "生态环境部等公告"}


def _notice_zh(notice: str) -> str:
    """Return a notice's Chinese title.

    >>> _notice_zh("MARA notice 736"), _notice_zh("MEE and others notice 2019 No. 10")
    ('农业农村部公告第736号', '生态环境部等公告2019年第10号')
    """
    match = _NOTICE.fullmatch(notice)
    if match is None:
        return notice
    year = f"{match[2]}年" if match[2] else ""
    return f"{_ISSUER_ZH[match[1]]}{year}第{match[3]}号"


def load_bans(
    directory: Path, rows: Sequence[Row], faults: list[str]
) -> dict[str, tuple[BanRow, ...]]:
    """Return the notices by substance, oldest first; note every fault."""
    scope_rows = read_table(directory / "ban_scopes.csv", ("scope", "scope_zh", "covers"), faults)
    scopes = {
        row["scope"]: (row["scope_zh"], row.word("covers", ("all", "part")) == "all")
        for row in scope_rows
    }
    bans: dict[str, list[BanRow]] = {}
    places: dict[tuple[str, str, int], str] = {}
    for row in rows:
        category = row.word("category", ("pesticide", "veterinary"))
        status = row.word("status", ("banned", "restricted"))
        effective = row.date("effective")
        if effective is None and not row["effective"]:
            row.fault("effective", "is needed")
        scope = scopes.get(row["scope"])
        if scope is None:
            row.fault("scope", f"{row['scope']!r} is not in ban_scopes.csv")
        if category is None or status is None or effective is None or scope is None:
            continue
        start = day_start_ms(effective)
        substance = plain(row["substance"])
        first = places.setdefault((substance, category, start), row.place)
        if first != row.place:
            faults.append(f"{row.place}: duplicate of {first} ({substance}, {effective})")
            continue
        bans.setdefault(substance, []).append(
            BanRow(
                substance=substance,
                substance_zh=row["substance_zh"],
                category=category,
                status=status,
                covers_all=status == "banned" and scope[1],
                scope=row["scope"],
                scope_zh=scope[0],
                notice=row["notice"],
                notice_zh=_notice_zh(row["notice"]),
                from_ms=start,
                verified=row.verified,
                limit_version=row.version(),
            )
        )
    return {name: tuple(sorted(rows, key=_start)) for name, rows in bans.items()}


def _start(row: BanRow) -> int:
    return row.from_ms
