"""Hostile workbooks: each limit holds before a reader reserves anything."""

from __future__ import annotations

import datetime as dt
import io
import zipfile

import pytest
import xlsxwriter

from alerts.laboratory import template
from alerts.laboratory.columns import indicator_and_unit, unit_above
from alerts.laboratory.workbook import WorkbookError, cells

GOOD = template.sheet(["样品编号"], [["a"]])
SHEET = "xl/worksheets/sheet1.xml"


def with_part(content: bytes, name: str = SHEET, base: bytes = GOOD) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(base)) as old, zipfile.ZipFile(out, "w", 8) as new:
        for part in old.infolist():
            if part.filename != name:
                new.writestr(part.filename, old.read(part))
        new.writestr(name, content)
    return out.getvalue()


def sheet_of(rows: str) -> bytes:
    head = '<?xml version="1.0"?><worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
    return with_part(f"{head}<sheetData>{rows}</sheetData></worksheet>".encode())


def test_cells_come_as_text():
    out = io.BytesIO()
    with xlsxwriter.Workbook(out) as book:
        page = book.add_worksheet()
        page.write_row(0, 1, ["样品", 0.05, 3.0, True, 1e-05])
        page.write_datetime(2, 0, dt.datetime(2026, 5, 1), book.add_format({"num_format": 14}))  # noqa: DTZ001 - a sheet knows no zone
    assert cells(out.getvalue()) == [
        ["", "样品", "0.05", "3", "true", "1e-05"],
        ["", "", "", "", "", ""],
        ["2026-05-01", "", "", "", "", ""],
    ]


def test_a_plain_sheet_without_styles_is_read():
    assert cells(sheet_of('<row r="1"><c r="A1"><v>1</v></c></row>')) == [["1"]]


@pytest.mark.parametrize(
    "rows",
    [
        '<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>1</v></c></row>',
        '<row r="1"><c r="XFD1"><v>1</v></c></row>',
        "<row r='1'><c r='A1'><v>1</v></c></row><row><c r='A999999'><v>1</v></c></row>",
        '<row r="1"><c><v>1</v></c></row>',
        '<row r="1"><c r="&#88;FD1"><v>1</v></c></row>',
        "<row/>" * 3000,
        '<x:row r="1"><x:c r="ZZZZ1"/></x:row>',
    ],
)
def test_a_cell_far_away_is_refused_before_it_is_read(rows):
    with pytest.raises(WorkbookError, match="rows or"):
        cells(sheet_of(rows))


def test_a_zip_bomb_is_not_unpacked():
    with pytest.raises(WorkbookError, match="when unpacked"):
        cells(with_part(b" " * (33 * 1024 * 1024), "xl/bomb.xml"))


def test_too_many_parts_are_refused():
    out = io.BytesIO(GOOD)
    with zipfile.ZipFile(out, "a") as archive:
        for n in range(300):
            archive.writestr(f"x{n}", b"")
    with pytest.raises(WorkbookError, match="no XLSX"):
        cells(out.getvalue())


@pytest.mark.parametrize("cut", [10, 100, 1000, len(GOOD) - 1])
def test_a_file_cut_short_is_refused(cut):
    with pytest.raises(WorkbookError):
        cells(GOOD[:cut])


@pytest.mark.parametrize("xml", [b"", b"<worksheet>", b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"])
def test_xml_that_is_broken_is_refused_or_empty(xml):
    try:
        assert cells(with_part(xml)) == []
    except WorkbookError:
        return


def test_units_in_headers_and_above():
    assert indicator_and_unit("毒死蜱（μg/kg）") == ("毒死蜱", "μg/kg")
    assert indicator_and_unit("克百威(总量)") == ("克百威(总量)", "")
    assert unit_above([["检测结果汇总"], ["", "单位：mg/kg；n=30"]]) == "mg/kg"
    assert unit_above([["受检单位 丰收合作社"]]) == ""
