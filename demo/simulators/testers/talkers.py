"""Testers that speak text: DY-723PC in lines, DY-6260 in JSON, and whatever prints slips or tickets."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from demo.simulators.misbehaviour import Misbehaviour
from demo.simulators.slip_sim import CUT, Assay, slip_text
from demo.simulators.testers.results import RESET, Frame, Result, Told, stamp

if TYPE_CHECKING:
    from collections.abc import Sequence

_ASKED = re.compile(rb"%?D (\d{4}-\d\d-\d\d) D (\d{4}-\d\d-\d\d)~?")
_LONGEST = 64
_RESET_PRINTER = b"\x1b@"  # ESC/POS: initialise
_PIECE = 1024
_NO_RESULT = "无效"


class DY723PC:
    """Comma-separated lines of the days asked for, then FINISH; GB2312."""

    def __init__(self) -> None:
        self._buffer = b""

    def hear(self, data: bytes) -> list[bytes]:
        """Return the requests for a span of days."""
        self._buffer += data
        found: list[bytes] = []
        while match := _ASKED.search(self._buffer):
            found.append(match[0])
            self._buffer = self._buffer[match.end() :]
        self._buffer = self._buffer[-_LONGEST:]
        return found

    def answer(
        self, request: bytes, results: Sequence[Result], kind: Misbehaviour | None
    ) -> list[Frame]:
        """Return one line for each result of the days, and the end word."""
        match = _ASKED.fullmatch(request)
        if match is None:
            return []
        first, last = match[1].decode(), match[2].decode()
        days = [r for r in results if first <= f"{r.tested_at:%Y-%m-%d}" <= last]
        return [*(self._line(r, kind) for r in days), Frame(b"FINISH\r\n")]

    @staticmethod
    def _line(result: Result, kind: Misbehaviour | None) -> Frame:
        none = kind is Misbehaviour.SENTINEL
        moment = RESET if kind is Misbehaviour.CLOCK_RESET else result.tested_at
        item = result.item.encode("gb2312")
        if kind is Misbehaviour.GBK_CUT:
            item = item[:-4] if item.endswith(b")") else item[:-1]
        told = Told(
            sample_no=f"{result.number:04d}",
            channel=str(result.channel),
            item=item.decode("gb2312", errors="ignore"),
            value="" if none else str(result.value),
            unit=result.unit,
            verdict=_NO_RESULT if none else result.verdict,
            tested_at=stamp(moment),
        )
        line = b",".join(
            (
                b"R",
                told.sample_no.encode(),
                told.channel.encode(),
                item,
                str(result.absorbance).encode(),
                (told.value or "NA").encode(),
                told.unit.encode(),
                told.verdict.encode("gb2312"),
                told.tested_at.encode(),
            )
        )
        check = sum(line) & 0xFF  # assumed: the rule is not public
        data = line + f",{check:02X}\r\n".encode()
        return Frame(data, (told,), check_at=len(data) - 3)


class DY6260:
    """After READ one JSON object with all results, in pieces of a kilobyte."""

    def __init__(self) -> None:
        self._buffer = b""

    def hear(self, data: bytes) -> list[bytes]:
        """Return one request for each READ."""
        self._buffer += data
        count = self._buffer.count(b"READ")
        self._buffer = self._buffer.rpartition(b"READ")[2][-3:]
        return [b"READ"] * count

    def answer(
        self,
        request: bytes,  # noqa: ARG002 - the protocol's
        results: Sequence[Result],
        kind: Misbehaviour | None,
    ) -> list[Frame]:
        """Return the object, cut into pieces."""
        none, reset = kind is Misbehaviour.SENTINEL, kind is Misbehaviour.CLOCK_RESET
        told = tuple(
            Told(
                sample_no=str(r.number),
                product_name=r.product,
                item=r.item,
                verdict=_NO_RESULT if none else r.verdict,
                tested_at=stamp(RESET if reset else r.tested_at),
            )
            for r in results
        )
        detail = [
            {
                "检测结果": one.verdict,
                "检测项目": one.item,
                "样品编号": one.sample_no,
                "样品名称": one.product_name,
                "检测时间": one.tested_at,
            }
            for one in told
        ]
        whole = json.dumps({"detail": detail}, ensure_ascii=False).encode()
        pieces = [whole[i : i + _PIECE] for i in range(0, len(whole), _PIECE)]
        return [Frame(pieces[0], told), *(Frame(piece) for piece in pieces[1:])]


class _Printing:
    """A tester that understands nothing."""

    def hear(self, data: bytes) -> list[bytes]:  # noqa: ARG002 - the protocol's
        """Forget what a reader says."""
        return []


class Slip(_Printing):
    """One slip for each result: label, colon, value on each line, then a cut; GBK."""

    def answer(
        self,
        request: bytes,  # noqa: ARG002 - the protocol's
        results: Sequence[Result],
        kind: Misbehaviour | None,
    ) -> list[Frame]:
        """Return the slips of ``results``."""
        return [self._slip(result, kind) for result in results]

    @staticmethod
    def _slip(result: Result, kind: Misbehaviour | None) -> Frame:
        none = kind is Misbehaviour.SENTINEL
        moment = RESET if kind is Misbehaviour.CLOCK_RESET else result.tested_at
        printed = "" if result.value is None else str(result.value)
        told = Told(
            sample_no=f"NS{moment:%Y%m%d}-{result.number:04d}",
            product_name=result.product,
            item=result.item,
            value="" if none else printed,
            unit=result.unit if printed else "",
            verdict=_NO_RESULT if none else result.verdict,
            tested_at=stamp(moment),
        )
        assay = Assay(result.product, result.item, "", told.verdict)
        value = "---.-" if none and printed else printed
        text = slip_text(
            assay, value=value, sample_no=told.sample_no, tested_at=moment, seconds=True
        )
        if kind is Misbehaviour.FULL_WIDTH:
            text = full_width(text)
        data = text.encode("gbk")
        if kind is Misbehaviour.GBK_CUT:
            name = result.product.encode("gbk")
            data = data.replace(name, name[:-1], 1)
        return Frame(_RESET_PRINTER + data, (told,), tail=b"\n\n" + CUT)


class Ticket(_Printing):
    """One table for up to eight results, columns by bytes of GBK, then a cut."""

    def answer(
        self,
        request: bytes,  # noqa: ARG002 - the protocol's
        results: Sequence[Result],
        kind: Misbehaviour | None,
    ) -> list[Frame]:
        """Return tickets of eight."""
        return [self._ticket(results[i : i + 8], kind) for i in range(0, len(results), 8)]

    @staticmethod
    def _ticket(results: Sequence[Result], kind: Misbehaviour | None) -> Frame:
        none = kind is Misbehaviour.SENTINEL
        lines = ["通道  样品      抑制率  结果".encode("gbk")]
        told: list[Told] = []
        for result in results:
            value = "--.-" if none else str(result.value)
            verdict = "----" if none else "阳性" if result.verdict == "不合格" else "阴性"
            name = result.product.encode("gbk")
            shown = name[:-1] if kind is Misbehaviour.GBK_CUT else name
            lines.append(
                f"{result.channel:02d}".encode().ljust(6)
                + shown.ljust(10)
                + value.rjust(6).encode()
                + b"  "
                + verdict.encode("gbk")
            )
            told.append(
                Told(
                    channel=f"{result.channel:02d}",
                    product_name=result.product,
                    value="" if none else value,
                    unit="%",
                    verdict="" if none else verdict,
                )
            )
        data = _RESET_PRINTER + b"\n".join(lines)
        return Frame(data, tuple(told), tail=b"\n\n" + CUT)


def full_width(text: str) -> str:
    """Return ``text`` with full-width digits, signs and blanks; line ends and letters stay.

    >>> full_width("抑 制 率：63.2 %")
    '抑　制　率：６３．２　％'
    """
    wide = {ord(c): chr(ord(c) + 0xFEE0) for c in "0123456789.%-:"}
    return text.translate(wide | {ord(" "): "\u3000"})
