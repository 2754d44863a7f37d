"""The headers of laboratory sheets, Chinese and English: which field a column holds (tables of data)."""

from __future__ import annotations

import re
import unicodedata

FIELDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "station": ("站点编码", ("速测点编码", "检测点编码", "station", "station_code")),
    "sample_no": ("样品编号", ("样品号", "样本编号", "sample_no", "sample")),
    "product_name": ("样品名称", ("产品名称", "样品", "product_name", "product")),
    "laboratory": ("检测机构", ("检验机构", "检测单位", "实验室", "laboratory", "lab")),
    "report_no": ("报告编号", ("检验报告编号", "检测报告编号", "report_no", "report")),
    "report_sha256": ("报告文件SHA256", ("report_sha256",)),
    "method": ("检测方法", ("检验方法", "检测依据", "方法", "method")),
    "complete": ("项目完整", ("complete",)),
    "reported_at": ("报告日期", ("出具日期", "报告时间", "检测日期", "reported_at", "report_date")),
    "received_at": ("收样日期", ("收样时间", "received_at")),
    "indicator": ("检测项目", ("检验项目", "参数", "农药", "indicator", "parameter", "item")),
    "value": ("检测值", ("结果", "检测结果", "检验结果", "实测值", "value", "result")),
    "unit": ("单位", ("计量单位", "unit")),
    "lod": ("检出限", ("lod",)),
    "loq": ("定量限", ("loq",)),
    "note": ("备注", ("note", "remark")),
}
"""Field -> its header in our template, other headers."""
LONG = (
    "station",
    "sample_no",
    "laboratory",
    "report_no",
    "reported_at",
    "method",
    "complete",
    "indicator",
    "value",
    "unit",
    "lod",
    "loq",
    "note",
)
WIDE = ("station", "sample_no", "product_name", "laboratory", "report_no", "reported_at", "method")

_IGNORED = (
    "序号|全区编号|抽样环节|抽样省|抽样市|抽样县|抽样地址|省|市|县|地址|抽样省/市/县/地址|抽样日期|抽样时间"
    "|企业名称|农户|企业名称/农户|受检单位|企业属性|绿色|有机|地理标志|gap|信用代码|身份证号|信用代码/身份证号"
    "|溯源省|溯源市|溯源县|产地|溯源省/市/县/产地|判定结果|判定|no|no.|#"
)
"""Columns of the routine-monitoring sheet (rapid_test_record §4) that a result does not need; not read at all."""
_UNIT_BRACKETS = re.compile(
    r"(.+?)\s*[(\[]\s*([^()\[\]]*/[^()\[\]]*|ppm|ppb|%|‰)\s*[)\]]$", re.IGNORECASE
)
UNIT_ABOVE = re.compile(r"单位\s*:\s*([^\s,;。)]+)|\bunit\s*:\s*([^\s,;)]+)", re.IGNORECASE)


def header(text: str) -> str:
    """Return a header folded: full width, blanks, line breaks and a mark of being required.

    >>> header(" 样品 编号*"), header("检测值（必填）")
    ('样品编号', '检测值')
    """
    plain = "".join(unicodedata.normalize("NFKC", text).split()).casefold()
    return plain.replace("(必填)", "").rstrip("*")


_BY_HEADER = {
    header(name): field for field, (zh, more) in FIELDS.items() for name in (field, zh, *more)
}
_NOT_READ = frozenset(header(name) for name in _IGNORED.split("|"))


def field_of(text: str) -> str:
    """Return the field of a header, blank when it is none."""
    return _BY_HEADER.get(header(text), "")


def is_ignored(text: str) -> bool:
    """Whether a column of this header is not read."""
    folded = header(text)
    return not folded or folded in _NOT_READ


def indicator_and_unit(text: str) -> tuple[str, str]:
    """Return what a column of a wide sheet measures, and in which unit when its header says so.

    >>> indicator_and_unit("毒死蜱（mg/kg）"), indicator_and_unit("克百威(总量)")
    (('毒死蜱', 'mg/kg'), ('克百威(总量)', ''))
    """
    plain = unicodedata.normalize("NFKC", text).strip()
    match = _UNIT_BRACKETS.fullmatch(plain)
    return (match[1], match[2].strip()) if match else (plain, "")


def unit_above(rows: list[list[str]]) -> str:
    """Return the unit that a line above the header states (单位：mg/kg), blank when none does."""
    for row in rows:
        for cell in row:
            match = UNIT_ABOVE.search(unicodedata.normalize("NFKC", cell))
            if match:
                return match[1] or match[2]
    return ""
