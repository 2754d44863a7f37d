"""The cells of the first sheet of an XLSX file, as text, within limits that a hostile file cannot pass."""

from __future__ import annotations

import datetime as dt
import io
import re
import zipfile
import zlib

from python_calamine import CalamineError, CalamineWorkbook

from alerts.laboratory.limits import (
    MAX_COLUMNS,
    MAX_PARTS,
    MAX_ROWS,
    MAX_SHEET_BYTES,
    MAX_UNPACKED,
)

# A cell far away makes a reader reserve everything between: references are looked at before the reader is. One without
# a reference is not taken: it is counted on from the one before.
_CELL = re.compile(rb"<(?:[^\s<>/:]+:)?c(?=[\s/>])([^>]*)>")
_ROW = re.compile(rb"<(?:[^\s<>/:]+:)?row(?=[\s/>])([^>]*)>")
_PLACE = re.compile(rb"""\sr\s*=\s*["']([A-Za-z]{1,8})([0-9]{1,20})["']""")
_NUMBER = re.compile(rb"""\sr\s*=\s*["']([0-9]{1,20})["']""")


_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    RuntimeError,  # encrypted, or packed in a way that Python does not know
    EOFError,
    OSError,
)


class WorkbookError(ValueError):
    """A file that is not read; the message is 中文 | English."""


def cells(content: bytes) -> list[list[str]]:
    """Return the rows of the first sheet, from row 1 and column A on; raise WorkbookError."""
    if len(content) > MAX_SHEET_BYTES:
        raise WorkbookError(
            f"文件大于 {MAX_SHEET_BYTES} 字节 | the file is larger than {MAX_SHEET_BYTES} bytes"
        )
    _check(content)
    try:
        with CalamineWorkbook.from_filelike(io.BytesIO(content)) as book:
            if not book.sheet_names:
                raise WorkbookError("没有工作表 | the file has no sheet")
            sheet = book.get_sheet_by_index(0)
            rows = sheet.to_python(skip_empty_area=False)
    except (CalamineError, zipfile.BadZipFile, OSError) as exc:
        raise WorkbookError(f"无法读取 XLSX | not a readable XLSX file: {exc}") from exc
    return [[_text(cell) for cell in row] for row in rows]


def _check(content: bytes) -> None:
    """Unpack every part once, bounded, and look where its cells stand."""
    left = MAX_UNPACKED
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = archive.infolist()
            names = {part.filename for part in parts}
            if len(parts) > MAX_PARTS or "xl/workbook.xml" not in names:
                raise WorkbookError("不是 XLSX 文件 | this is no XLSX file")
            for part in parts:
                with archive.open(part) as stream:
                    unpacked = stream.read(left + 1)
                left -= len(unpacked)
                if left < 0:
                    raise WorkbookError(
                        f"解压后大于 {MAX_UNPACKED} 字节 | larger than {MAX_UNPACKED} bytes when unpacked"
                    )
                _check_references(unpacked)
    except _BROKEN as exc:
        raise WorkbookError(f"不是 XLSX 文件 | this is no XLSX file: {exc}") from exc


def _check_references(xml: bytes) -> None:
    rows = 0
    for match in _ROW.finditer(xml):
        rows += 1
        number = _NUMBER.search(match[1])
        if rows > MAX_ROWS or (number and int(number[1]) > MAX_ROWS):
            raise _too_large()
    if not rows:
        return
    for match in _CELL.finditer(xml):
        place = _PLACE.search(match[1])
        if place is None or int(place[2]) > MAX_ROWS or _column(place[1]) > MAX_COLUMNS:
            raise _too_large()


def _too_large() -> WorkbookError:
    return WorkbookError(
        f"表格大于 {MAX_ROWS} 行或 {MAX_COLUMNS} 列 | the sheet has more than {MAX_ROWS} rows or {MAX_COLUMNS} columns"
    )


def _column(letters: bytes) -> int:
    number = 0
    for letter in letters.upper():
        number = number * 26 + letter - 64
    return number


def column_name(index: int) -> str:
    """Return the letters of a column from its place (from 0).

    >>> column_name(0), column_name(26)
    ('A', 'AA')
    """
    letters, left = "", index + 1
    while left:
        left, digit = divmod(left - 1, 26)
        letters = chr(65 + digit) + letters
    return letters


def _text(cell: object) -> str:
    match cell:
        case bool():
            return "true" if cell else "false"
        case float() if cell.is_integer() and abs(cell) < 1e15:
            return str(int(cell))
        case dt.datetime() if cell.time() == dt.time():
            return cell.date().isoformat()
        case dt.datetime() | dt.date() | dt.time():
            return cell.isoformat()
        case _:
            return str(cell).strip()
