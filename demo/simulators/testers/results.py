"""What a rapid tester has measured, and what it tells of it on a line."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from demo.simulators.misbehaviour import Misbehaviour

Kind = Literal["inhibition", "quantitative", "strip"]
RESET = dt.datetime(2011, 1, 1)  # noqa: DTZ001 - an instrument's clock has no zone
INHIBITION = "农药残留(酶抑制率)"
_VEGETABLES = ("油麦菜", "小白菜", "黄瓜", "番茄", "菠菜", "辣椒", "生菜", "茄子", "韭菜")
_MEATS = ("猪肉", "牛肉", "羊肉")
STRIP_ITEMS = ("克伦特罗", "莱克多巴胺", "沙丁胺醇")
QUANTITATIVE_ITEM = "亚硝酸盐"


@dataclass(frozen=True, slots=True)
class Result:
    """One test. ``value`` is None on a strip; ``tested_at`` is the instrument's local time, whole seconds."""

    number: int
    channel: int
    kind: Kind
    product: str
    item: str
    value: Decimal | None
    unit: str
    verdict: str
    tested_at: dt.datetime
    absorbance: Decimal = Decimal("0.5702")

    def at(self, tested_at: dt.datetime) -> Result:
        """Return the result with another time."""
        return replace(self, tested_at=tested_at)


@dataclass(frozen=True, slots=True)
class Told:
    """One result as it stands in a frame; blank is what the frame does not say."""

    sample_no: str = ""
    channel: str = ""
    product_name: str = ""
    item: str = ""
    value: str = ""
    unit: str = ""
    verdict: str = ""
    tested_at: str = ""


@dataclass(frozen=True, slots=True)
class Frame:
    """Bytes that go out together: ``data``, then ``tail`` (what ends a slip).

    ``check_at`` is where the check is (None: there is none), ``starts`` whether it begins with a start byte.
    """

    data: bytes
    told: tuple[Told, ...] = ()
    check_at: int | None = None
    starts: bool = False
    tail: bytes = field(default=b"")


class Instrument(Protocol):
    """One tester's protocol."""

    def hear(self, data: bytes) -> list[bytes]:
        """Return the requests that are whole now; what is none is forgotten. None for testers that only print."""
        ...

    def answer(
        self, request: bytes, results: Sequence[Result], kind: Misbehaviour | None
    ) -> list[Frame]:
        """Return the answer; for testers that print ``request`` is blank and ``results`` is what is due."""
        ...


def draw(
    number: int, kind: Kind, random: Random, tested_at: dt.datetime, *, channels: int = 8
) -> Result:
    """Return one result as a base sees them on a day: mostly good, now and then over the limit."""
    tested_at = tested_at.replace(microsecond=0)
    channel = (number - 1) % channels + 1
    if kind == "strip":
        return Result(
            number=number,
            channel=channel,
            kind=kind,
            product=random.choice(_MEATS),
            item=random.choice(STRIP_ITEMS),
            value=None,
            unit="",
            verdict="阳性" if random.random() < 0.1 else "阴性",
            tested_at=tested_at,
        )
    if kind == "quantitative":
        value = Decimal(random.randint(50, 9000)) / 1000
        return Result(
            number=number,
            channel=channel,
            kind=kind,
            product="酱菜",
            item=QUANTITATIVE_ITEM,
            value=value,
            unit="mg/kg",
            verdict="合格",
            tested_at=tested_at,
        )
    tenths = random.randint(500, 800) if random.random() < 0.1 else random.randint(-30, 350)
    return Result(
        number=number,
        channel=channel,
        kind=kind,
        product=random.choice(_VEGETABLES),
        item=INHIBITION,
        value=Decimal(tenths) / 10,
        unit="%",
        verdict="不合格" if tenths >= 500 else "合格",
        tested_at=tested_at,
        absorbance=Decimal(random.randint(2000, 9000)) / 10_000,
    )


def stamp(moment: dt.datetime) -> str:
    """Return ``2026-11-02 08:30:12``."""
    return f"{moment:%Y-%m-%d %H:%M:%S}"
