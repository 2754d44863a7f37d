"""Notices that ban or restrict substances (``banned_substances.csv``, ``ban_scopes.csv``)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ingest.judge.catalogue.names import plain
from ingest.judge.catalogue.scopes import ProductScope, check_scope, read_scope
from ingest.judge.catalogue.tables import day_start_ms, read_table

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ingest.judge.catalogue.tables import Directories, Row

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
_SCOPES = "ban_scopes.csv"
_SCOPE_COLUMNS = ("scope", "scope_zh", "covers", "inside", "open", "outside")


@dataclass(frozen=True, slots=True, kw_only=True)
class BanRow:
    """One notice on one substance: ``banned`` or ``restricted`` to a scope, from ``from_ms`` on.

    ``covers_all``: banned whatever the crop or animal, so that any detection is a violation; else ``products`` are
    those on which it must not be used.
    """

    substance: str
    substance_zh: str
    category: str
    status: str
    covers_all: bool
    products: ProductScope
    scope: str
    scope_zh: str
    notice: str
    notice_zh: str
    from_ms: int
    verified: bool
    limit_version: str
    place: str = ""
    source: str = ""


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
    directory: Directories, rows: Sequence[Row], faults: list[str]
) -> dict[str, tuple[BanRow, ...]]:
    """Return the notices by substance, oldest first; note every fault."""
    scopes = {
        row["scope"]: (
            row["scope_zh"],
            row.word("covers", ("all", "part")) == "all",
            read_scope(row),
        )
        for row in read_table(directory / _SCOPES, _SCOPE_COLUMNS, faults)
    }
    bans: dict[str, list[BanRow]] = {}
    places: dict[tuple[str, str, int], str] = {}
    for row in rows:
        category = row.word("category", ("pesticide", "veterinary"))
        status = row.word("status", ("banned", "restricted"))
        effective = row.start("effective")
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
                products=scope[2],
                scope=row["scope"],
                scope_zh=scope[0],
                notice=row["notice"],
                notice_zh=_notice_zh(row["notice"]),
                from_ms=start,
                verified=row.verified,
                limit_version=row.version(),
                place=row.place,
                source=row["source"],
            )
        )
    return {name: tuple(sorted(rows, key=_start)) for name, rows in bans.items()}


def check_ban_scopes(directory: Directories, known: Collection[str], faults: list[str]) -> None:
    """Note scopes that name none of the ``known`` products and groups, or take in nothing."""
    for row in read_table(directory / _SCOPES, _SCOPE_COLUMNS, faults):
        check_scope(row, known)
        if (row["covers"] == "part") != bool(row["inside"]):
            row.fault("inside", "names the products of a scope that covers a part, and of no other")


def _start(row: BanRow) -> int:
    return row.from_ms
