"""Empty sheets to be filled in, long or wide, as XLSX."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import xlsxwriter

from alerts.laboratory.columns import FIELDS, LONG, WIDE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alerts.laboratory.sheet import Layout

PESTICIDES = ("毒死蜱", "克百威", "氧乐果", "甲胺磷", "三唑磷", "水胺硫磷", "敌敌畏", "乐果")
"""What the columns of the wide template begin with; any other substance of the catalogue may be added."""
_UNIT = "单位：mg/kg；未检出填“未检出”，未检测留空 | unit: mg/kg; ND when not detected, blank when not tested"


def workbook(layout: Layout, pesticides: Sequence[str] = PESTICIDES) -> bytes:
    """Return the template of a layout."""
    return sheet([FIELDS[name][0] for name in LONG] if layout == "long" else _wide(pesticides))


def sheet(header: Sequence[str], rows: Sequence[Sequence[object]] = ()) -> bytes:
    """Return a workbook of one sheet: a line that states the unit, the header, and rows."""
    out = io.BytesIO()
    with xlsxwriter.Workbook(out, {"in_memory": True}) as book:
        page = book.add_worksheet("results")
        page.write_string(0, 0, _UNIT)
        for number, row in enumerate((header, *rows), 1):
            for place, cell in enumerate(row):
                if isinstance(cell, int | float):
                    page.write_number(number, place, cell)
                elif cell:
                    page.write_string(number, place, str(cell))
        page.freeze_panes(2, 2)
    return out.getvalue()


def _wide(pesticides: Sequence[str]) -> list[str]:
    return [*(FIELDS[name][0] for name in WIDE), *pesticides]
