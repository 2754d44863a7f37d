"""``agrigate standards``: what the limit catalogue holds, whether a directory of tables is good, what it changes."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ingest.judge.catalogue.catalogue import STANDARDS, load
from ingest.judge.catalogue.differences import differences
from ingest.judge.catalogue.entries import Entry, entries, search
from ingest.judge.catalogue.limits import FOREVER_MS
from ingest.judge.catalogue.tables import china_day
from ingest.judge.errors import CatalogueError, RejudgeError
from ingest.judge.records.rapid import time_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ingest.judge.catalogue.catalogue import Catalogue
    from ingest.judge.catalogue.differences import Differences
    from ingest.judge.rejudge import Cited, Compared

EXIT_NOTHING = 1
EXIT_FAULTS = 2
SHIPPED = "shipped"
"""The word for the tables that come with the program."""

UNVERIFIED = "待核"
_COMPLIES = {">": "≤", ">=": "<", "<": "≥", "<=": ">", "outside": "", "": ""}
_DAY_MS = 86_400_000
_SHOWN = 200  # lines of one kind in a difference; the number is always said


class Moment(click.ParamType[int]):
    """A date or an RFC 3339 time, to UTC ms; without an offset it is China's."""

    name = "date"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return UTC ms."""
        if isinstance(value, int):
            return value
        try:
            return time_ms(str(value))
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no date (2026-05-01) and no RFC 3339 time", param, ctx)


at_option = click.option("--at", "at_ms", type=Moment(), help="Only what was in force then.")
json_option = click.option("--json", "as_json", is_flag=True, help="JSON, for programs.")
standards_option = click.option(
    "--standards",
    "directory",
    default=SHIPPED,
    show_default=True,
    help="Directory of tables that go over the shipped ones.",
)


def catalogue_of(directory: str) -> Catalogue:
    """Return the catalogue with ``directory`` over the shipped tables; with faults say all of them and end with 2."""
    try:
        return load(STANDARDS if directory == SHIPPED else Path(directory))
    except CatalogueError as exc:
        click.echo("\n".join(exc.faults), err=True)
        click.echo(f"{directory}: {len(exc.faults)} faults, nothing was loaded", err=True)
        sys.exit(EXIT_FAULTS)


@click.group()
def standards() -> None:
    """List, search, check and compare the limit catalogue."""


# ---- list


@standards.command("list")
@at_option
@json_option
@standards_option
def list_(at_ms: int | None, directory: str, *, as_json: bool) -> None:
    """List every standard and notice: period of force, rows, rows still to be verified."""
    catalogue = catalogue_of(directory)
    groups: dict[str, list[Entry]] = {}
    for entry in entries(catalogue):
        groups.setdefault(entry.standard, []).append(entry)
    listed = [
        said
        for standard, rows in groups.items()
        if (said := _standard(catalogue, standard, rows, at_ms))["rows"]
    ]
    if as_json:
        _print_json({"version": catalogue.version, "standards": listed})
        return
    widest = max((len(str(one["standard"])) for one in listed), default=0)
    for one in listed:
        start, end = one["from"] or "", one["to"] or ""
        unverified = f"{one['unverified']:>5} {UNVERIFIED}" if one["unverified"] else " " * 10
        replaced = f"  → {one['replaced_by']}" if one["replaced_by"] else ""
        click.echo(
            f"{one['standard']:<{widest}}  {start:>10} – {end:<10} {one['rows']:>5} rows {unverified}"
            f"  {one['title_zh']}{replaced}"
        )
    rows, unverified_rows = (
        sum(int(str(one[k])) for one in listed) for k in ("rows", "unverified")
    )
    click.echo(
        f"{rows} rows of {len(listed)} standards, {unverified_rows} {UNVERIFIED} (to be verified),"
        f" version {catalogue.version}"
    )


def _standard(
    catalogue: Catalogue, standard: str, rows: Sequence[Entry], at_ms: int | None
) -> dict[str, object]:
    edition = catalogue.editions.get(standard)
    held = [row for row in rows if row.in_force(at_ms)]
    start = edition.from_ms if edition else min(row.from_ms for row in rows)
    end = edition.to_ms if edition else max(row.to_ms for row in rows)
    return {
        "standard": standard,
        "title_zh": rows[0].title_zh,
        "from": _day(start),
        "to": _last_day(end),
        "replaced_by": edition.replaced_by if edition else "",
        "rows": len(held),
        "unverified": sum(not row.verified for row in held),
        "media": dict(Counter(row.medium for row in held)),
        "tables": sorted({row.place.rpartition(":")[0] for row in rows}),
    }


# ---- show


@standards.command()
@click.argument("words", nargs=-1, required=True)
@at_option
@json_option
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1), help="At most.")
@click.option("--offset", default=0, type=click.IntRange(0), help="Leave out so many first.")
@standards_option
def show(
    words: tuple[str, ...],
    at_ms: int | None,
    directory: str,
    limit: int,
    offset: int,
    *,
    as_json: bool,
) -> None:
    """Show the rows in which all WORDS stand: standard, clause, indicator, substance, product; Chinese or English."""
    catalogue = catalogue_of(directory)
    found = search(entries(catalogue), " ".join(words), at_ms=at_ms, offset=offset, limit=limit)
    if as_json:
        rows = [_as_json(entry) for entry in found.entries]
        _print_json({"version": catalogue.version, "total": found.total, "rows": rows})
    else:
        for entry in found.entries:
            click.echo(_line(entry))
        if len(found.entries) < found.total:
            click.echo(
                f"{len(found.entries)} of {found.total} rows; --offset and --limit show others"
            )
    if not found.total:
        if not as_json:
            near = [
                *catalogue.names.near_substance(" ".join(words)),
                *catalogue.names.near_product(" ".join(words)),
            ]
            said = f"; nearest known: {', '.join(near)}" if near else ""
            click.echo(f"no row has all of {' '.join(words)!r}{said}", err=True)
        sys.exit(EXIT_NOTHING)


def _as_json(entry: Entry) -> dict[str, object]:
    said = asdict(entry)
    del said["folded"]
    said["to_ms"] = None if entry.to_ms >= FOREVER_MS else entry.to_ms
    return said


def _limit(entry: Entry) -> str:
    """Return what complies.

    A row that only says what a method sees has no such thing.
    """
    if entry.comparator == "detected":
        return "禁用 banned" if entry.medium == "notice" else "不得检出 not detected"
    if entry.kind == "never_alone":
        return f"检出限 detection limit {entry.limit} {entry.unit}".strip()
    return f"{_COMPLIES[entry.comparator]} {entry.limit} {entry.unit}".strip()


def _line(entry: Entry) -> str:
    about = entry.subject_zh
    if entry.subject_en not in ("", entry.subject_zh):
        about += f" {entry.subject_en}"
    product = entry.product_zh
    if entry.product_en not in ("", product):
        product = f"{product} {entry.product_en}"
    where = " · ".join(filter(None, (about, product, entry.level, entry.conditions_zh)))
    mark = "" if entry.verified else f"  {UNVERIFIED}"
    return f"{entry.standard}  {where}: {_limit(entry)}  ({_force(entry.from_ms, entry.to_ms)}){mark}  {entry.place}"


# ---- check


@standards.command()
@click.argument("directory", default=SHIPPED)
def check(directory: str) -> None:
    """Say all that is wrong with the tables in DIRECTORY over the shipped ones, with file and line; changes nothing."""
    catalogue = catalogue_of(directory)
    rows = entries(catalogue)
    standards_ = {row.standard for row in rows}
    unverified = sum(not row.verified for row in rows)
    if directory != SHIPPED:
        shipped = {path.name for path in STANDARDS.glob("*.csv")}
        tables = Counter(row.place.rpartition(":")[0] for row in rows)
        for path in sorted(Path(directory).glob("*.csv")):
            said = "replaces the shipped table" if path.name in shipped else "is added"
            if path.name == "editions.csv":
                said = "goes line by line over the shipped table"
            counted = f": {tables[path.name]} rows" if path.name in tables else ""
            click.echo(f"{path.name} {said}{counted}")
    click.echo(
        f"{directory}: good: {len(rows)} rows of {len(standards_)} standards,"
        f" {unverified} {UNVERIFIED} (to be verified), version {catalogue.version}"
    )


# ---- diff


@standards.command()
@click.argument("old")
@click.argument("new")
@click.option("--days", type=click.IntRange(1), help="Also judge the last so many days again.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The server's data directory, for --days; read only, beside a running server too.",
)
@json_option
def diff(old: str, new: str, days: int | None, data_dir: Path | None, *, as_json: bool) -> None:
    """Say which rows NEW adds, removes and changes against OLD, and which stored results would change verdict.

    OLD and NEW are directories of tables that go over the shipped ones, or the word shipped.
    """
    if (days is None) != (data_dir is None):
        raise click.UsageError("--days and --data-dir need each other")
    before, after = catalogue_of(old), catalogue_of(new)
    found = differences(entries(before), entries(after))
    if as_json:
        _print_json(_difference_json(found))
    else:
        _print_differences(found)
    if days is not None and data_dir is not None:
        _say_changed_results(after, data_dir, days, as_json=as_json)


def _print_differences(found: Differences) -> None:
    _section("removed", [f"- {_line(entry)}" for entry in found.removed])
    lines = []
    for one in found.added:
        was = ""
        if one.before is not None:
            said = (
                "the same as"
                if _limit(one.before) == _limit(one.entry)
                else f"{_limit(one.before)} in"
            )
            was = f"  [{said} {one.before.standard}]"
        lines.append(f"+ {_line(one.entry)}{was}")
    _section("added", lines)
    lines = []
    for change in found.changed:
        what = f"{_limit(change.old)} → {_limit(change.new)}"
        if not {"comparator", "limit", "unit", "kind"} & {*change.fields}:
            pairs = (
                (name, getattr(change.old, name), getattr(change.new, name))
                for name in change.fields
            )
            what = ", ".join(f"{name} {a} → {b}" for name, a, b in pairs)
        lines.append(f"~ {_line(change.new)}  [{what}]")
    _section("changed", lines)
    _section(
        "period of force",
        [
            f"~ {one.standard}: {_force(*one.old)} → {_force(*one.new)}, {one.rows} rows"
            for one in found.moved
        ],
    )
    if found.is_empty:
        click.echo("no row differs")


def _section(name: str, lines: Sequence[str]) -> None:
    if not lines:
        return
    click.echo(f"{name}: {len(lines)}")
    for line in itertools.islice(lines, _SHOWN):
        click.echo(f"  {line}")
    if len(lines) > _SHOWN:
        click.echo(f"  … and {len(lines) - _SHOWN} more; --json has them all")


def _difference_json(found: Differences) -> dict[str, object]:
    return {
        "added": [
            {
                "row": _as_json(one.entry),
                "before": None if one.before is None else _as_json(one.before),
            }
            for one in found.added
        ],
        "removed": [_as_json(entry) for entry in found.removed],
        "changed": [
            {"old": _as_json(one.old), "new": _as_json(one.new), "fields": list(one.fields)}
            for one in found.changed
        ],
        "moved": [
            {
                "standard": one.standard,
                "old": {"from": _day(one.old[0]), "to": _last_day(one.old[1])},
                "new": {"from": _day(one.new[0]), "to": _last_day(one.new[1])},
                "rows": one.rows,
            }
            for one in found.moved
        ],
    }


def _say_changed_results(catalogue: Catalogue, data_dir: Path, days: int, *, as_json: bool) -> None:
    from ingest.judge.rejudge import Rejudge  # noqa: PLC0415 - list and check stay quick

    now_ms = time.time_ns() // 1_000_000
    run = Rejudge(data_dir, catalogue, now_ms - days * _DAY_MS, now_ms, changed_only=True)
    try:
        lines = [_result_json(row) if as_json else _result_line(row) for row in _only(run.rows())]
    except RejudgeError as exc:
        raise click.ClickException(str(exc)) from exc
    if as_json:
        _print_json(
            {"results": lines, "records": run.summary.records, "changed": run.summary.changed}
        )
        return
    click.echo(
        f"stored results of the last {days} days that would change: {run.summary.changed}"
        f" of {run.summary.records} records"
    )
    for line in lines:
        click.echo(f"  {line}")
    if run.summary.changed > len(lines):
        click.echo(
            f"  … and {run.summary.changed - len(lines)} more; agrigate rejudge has them all"
        )


def _only(rows: Iterable[Compared]) -> Iterable[Compared]:
    """Return the first rows; the others are counted only."""
    for at, row in enumerate(rows):
        if at < _SHOWN:
            yield row


def _result_line(row: Compared) -> str:
    said = " → ".join(" ".join(filter(None, (s.verdict, s.severity))) for s in (row.old, row.new))
    limits = " → ".join(cited_text(s.cited) or "–" for s in (row.old, row.new))
    when = dt.datetime.fromtimestamp(row.t_ms / 1000, dt.UTC).astimezone().isoformat("T", "seconds")
    about = " ".join(filter(None, (row.product, row.indicator)))
    value = "" if row.value is None else f" {row.value} {row.unit}".rstrip()
    return f"{row.station} {row.device} {when} {about}{value}: {said}  [{limits}]"


def _result_json(row: Compared) -> dict[str, object]:
    return asdict(row)


def cited_text(cited: Iterable[Cited]) -> str:
    """Return citations in one line."""
    return "; ".join(f"{one.standard} {one.limit}".strip() for one in cited)


# ---- small words


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=1))


def _day(ms: int) -> str | None:
    return china_day(ms).isoformat() if ms > 0 else None


def _last_day(ms: int) -> str | None:
    """Return the last day of force of an end that is not in it."""
    return None if ms >= FOREVER_MS else china_day(ms - 1).isoformat()


def _force(start_ms: int, end_ms: int) -> str:
    return (
        f"{_day(start_ms) or ''} – {_last_day(end_ms) or ''}".strip(" –")
        if start_ms <= 0
        else (f"{_day(start_ms)} – {_last_day(end_ms) or ''}".rstrip())
    )
