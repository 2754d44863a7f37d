"""A sheet of laboratory results to reports, and the place of every fault (pure but for reading the cells).

Two layouts: *long* has one result a row; *wide* one sample a row and one pesticide a column, as the sheets of routine
monitoring do (rapid_test_record §4). A line above the header may state the unit of all (单位：mg/kg).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from alerts.laboratory.columns import (
    FIELDS,
    field_of,
    indicator_and_unit,
    is_ignored,
    unit_above,
)
from alerts.laboratory.entry import Fault, Report, Result
from alerts.laboratory.workbook import column_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ingest.judge.catalogue.names import Names

Layout = Literal["long", "wide"]
HEADER_WITHIN = 10  # rows
_OF_RESULT = ("indicator", "value", "unit", "lod", "loq")
_OF_REPORT = (
    "laboratory",
    "report_no",
    "report_sha256",
    "complete",
    "reported_at",
    "received_at",
    "product_name",
    "note",
)
_YES = {"是", "true", "yes", "y", "1", "完整"}
_NO = {"否", "false", "no", "n", "0", "不完整", ""}


@dataclass(slots=True)
class Sheet:
    """What a sheet says: reports in the order of their first rows, or faults."""

    layout: Layout = "long"
    reports: list[Report] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Table:
    """A sheet below its header; rows and columns count from 0."""

    header_row: int
    columns: Mapping[str, int]  # field -> column
    rows: list[tuple[int, list[str]]]
    others: Mapping[int, str]  # column -> header that is no field
    unit: str

    def cell(self, row: list[str], name: str, defaults: Mapping[str, str]) -> str:
        """Return a field of a row; the default where the column is missing or the cell is blank."""
        place = self.columns.get(name)
        said = row[place].strip() if place is not None and place < len(row) else ""
        return said or defaults.get(name, "")

    def column(self, name: str) -> str:
        """Return the letters of a field's column, the field's name when it has none."""
        place = self.columns.get(name)
        return name if place is None else column_name(place)


def read(cells: list[list[str]], names: Names, defaults: Mapping[str, str], actor: str) -> Sheet:
    """Return the reports of a sheet; ``defaults`` fill fields that have no column or a blank cell."""
    sheet = Sheet()
    table = _table(cells, sheet)
    if table is None:
        return sheet
    sheet.layout = "long" if "indicator" in table.columns and "value" in table.columns else "wide"
    if not table.rows:
        sheet.faults.append(
            Fault(table.header_row + 1, "", "", "表头下没有数据 | no rows below the header")
        )
    groups: dict[tuple[str, ...], list[tuple[int, list[str]]]] = {}
    for number, row in table.rows:
        key = tuple(
            table.cell(row, name, defaults)
            for name in ("station", "sample_no", "laboratory", "report_no")
        )
        # One sample a row: the second row of a sample would hide behind the first.
        groups.setdefault(key if sheet.layout == "long" else (*key, str(number)), []).append(
            (number, row)
        )
    pesticides = _pesticides(table, names, sheet) if sheet.layout == "wide" else {}
    _check_unread(table, sheet)
    seen: dict[tuple[str, ...], int] = {}
    for key, rows in groups.items():
        report = _report(table, rows, defaults, actor, sheet, pesticides)
        if seen.setdefault(key[:4], rows[0][0]) != rows[0][0]:
            what = f"样品在第 {seen[key[:4]] + 1} 行已出现 | the sample stands in row {seen[key[:4]] + 1} too"
            sheet.faults.append(Fault(rows[0][0] + 1, table.column("sample_no"), key[1], what))
        sheet.reports.append(report)
    return sheet


def _table(cells: list[list[str]], sheet: Sheet) -> _Table | None:
    for number, row in enumerate(cells[:HEADER_WITHIN]):
        if not any(field_of(cell) == "sample_no" for cell in row):
            continue
        columns: dict[str, int] = {}
        others: dict[int, str] = {}
        for place, cell in enumerate(row):
            name = field_of(cell)
            if name and name not in columns:
                columns[name] = place
            elif name:
                what = f"“{cell}”列出现两次 | the column {cell!r} stands twice"
                sheet.faults.append(Fault(number + 1, column_name(place), "", what))
            elif not is_ignored(cell):
                others[place] = cell
        rows = [(at, each) for at, each in enumerate(cells) if at > number and any(each)]
        return _Table(number, columns, rows, others, unit_above(cells[:number]))
    what = f"前 {HEADER_WITHIN} 行没有“样品编号”列 | no column 样品编号 (sample_no) in the first {HEADER_WITHIN} rows"
    sheet.faults.append(Fault(1, "", "", what))
    return None


def _pesticides(table: _Table, names: Names, sheet: Sheet) -> dict[int, tuple[str, str]]:
    """Return for each pesticide's column what it measures and in which unit."""
    found: dict[int, tuple[str, str]] = {}
    for place, text in table.others.items():
        name, unit = indicator_and_unit(text)
        if names.substance(name) is None and names.substance(text) is None:
            near = "、".join(names.near_substance(name))
            what = (
                f"未知检测项目或列“{text[:40]}”，相近的有：{near}"
                f" | unknown indicator or column {text[:40]!r}, near it: {near}"
            )
            sheet.faults.append(Fault(table.header_row + 1, column_name(place), "", what))
            continue
        found[place] = (name if names.substance(name) else text, unit or table.unit)
    return found


def _check_unread(table: _Table, sheet: Sheet) -> None:
    """A column that nobody reads may be the one that mattered; in the wide layout it would be a pesticide."""
    if sheet.layout == "wide":
        return
    known = "、".join(zh for zh, _ in FIELDS.values())
    for place, text in table.others.items():
        what = f"未知列“{text[:40]}”，可用的列：{known} | unknown column {text[:40]!r}, known are: {', '.join(FIELDS)}"
        sheet.faults.append(Fault(table.header_row + 1, column_name(place), "", what))


def _report(
    table: _Table,
    rows: list[tuple[int, list[str]]],
    defaults: Mapping[str, str],
    actor: str,
    sheet: Sheet,
    pesticides: Mapping[int, tuple[str, str]],
) -> Report:
    first, head = rows[0]

    def cell(name: str) -> str:
        return table.cell(head, name, defaults)

    for number, row in rows[1:]:
        for name in _OF_REPORT:
            if table.cell(row, name, defaults) != cell(name):
                what = (
                    f"与第 {first + 1} 行不同，同一报告应一致"
                    f" | differs from row {first + 1}: one report says it once"
                )
                sheet.faults.append(Fault(number + 1, table.column(name), cell("sample_no"), what))
    if sheet.layout == "long":
        results = tuple(_long(table, number, row, defaults) for number, row in rows)
    else:
        results = tuple(_wide(table, first, head, defaults, pesticides))
    complete = cell("complete").casefold()
    if complete not in _YES | _NO:
        what = f"“{complete[:20]}”应为 是 或 否 | {complete[:20]!r} must be yes or no"
        sheet.faults.append(Fault(first + 1, table.column("complete"), cell("sample_no"), what))
    return Report(
        station=cell("station"),
        sample_no=cell("sample_no"),
        laboratory=cell("laboratory"),
        report_no=cell("report_no"),
        report_sha256=cell("report_sha256").lower(),
        method=cell("method"),
        complete=complete in _YES,
        reported_at=cell("reported_at"),
        received_at=cell("received_at"),
        product_name=cell("product_name"),
        note=cell("note"),
        results=results,
        entered_by=actor,
        source="import",
        row=first + 1,
        columns={name: column_name(place) for name, place in table.columns.items()},
    )


def _long(table: _Table, number: int, row: list[str], defaults: Mapping[str, str]) -> Result:
    said = {name: table.cell(row, name, {}) for name in (*_OF_RESULT, "method")}
    return Result(
        indicator=said["indicator"],
        value=said["value"],
        unit=said["unit"] or table.unit or defaults.get("unit", ""),
        lod=said["lod"],
        loq=said["loq"],
        method=said["method"],
        row=number + 1,
        columns={name: table.column(name) for name in said},
    )


def _wide(
    table: _Table,
    number: int,
    row: list[str],
    defaults: Mapping[str, str],
    pesticides: Mapping[int, tuple[str, str]],
) -> Iterator[Result]:
    """Yield the results of a sample; a blank cell was not tested, which is not the same as not detected."""
    for place, (name, unit) in pesticides.items():
        value = row[place].strip() if place < len(row) else ""
        if value:
            yield Result(
                indicator=name,
                value=value,
                unit=unit or table.cell(row, "unit", defaults),
                lod=table.cell(row, "lod", defaults),
                loq=table.cell(row, "loq", defaults),
                row=number + 1,
                columns=dict.fromkeys((*_OF_RESULT, "method"), column_name(place)),
            )
