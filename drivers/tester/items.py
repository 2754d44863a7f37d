"""The items of a multi-function analyser: which number stands for which test, as its county set it up."""

from __future__ import annotations

from typing import Literal

import msgspec


class ItemTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One item: the name that is reported, what kind of value it has, and the unit of a quantitative one."""

    name: str
    kind: Literal["inhibition", "quantitative", "qualitative"]
    unit: str = ""
