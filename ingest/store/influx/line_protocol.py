"""Readings to line protocol, whole columns at a time; byte for byte what the client's ``Point`` writes.

What is the same for many rows is written once: the tags of a series, the fields of a pack. Only value and time differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ingest.batch import Series

MEASUREMENT = "reading"
_KEY = str.maketrans({",": r"\,", "=": r"\=", " ": r"\ ", "\n": r"\n", "\t": r"\t", "\r": r"\r"})
_TEXT = str.maketrans({'"': r"\"", "\\": r"\\"})
# Between these Python writes a float without an exponent, as msgspec does; beyond them they differ in its form.
_PLAIN_MIN, _PLAIN_MAX = 1e-4, 1e16
_NOTHING = np.zeros(0, np.int32)


def tag_value(text: str) -> str:
    r"""Return ``text`` as a tag's value.

    >>> tag_value("a b,c=d\\")
    'a\\ b\\,c\\=d\\ '
    """
    escaped = text.translate(_KEY)
    return escaped + " " if escaped.endswith("\\") else escaped


def string_field(text: str) -> str:
    r"""Return ``text`` as a string field's value.

    >>> string_field('a"b')
    '"a\\"b"'
    """
    return f'"{text.translate(_TEXT)}"'


def float_field(value: float) -> str:
    """Return a finite ``value`` in the fewest digits that read back the same.

    >>> float_field(6.0), float_field(-0.0), float_field(1e300)
    ('6', '-0', '1e+300')
    """
    return repr(value).removesuffix(".0")


def series_key(measurement: str, series: Series) -> str:
    r"""Return the measurement with a series' tags, in the order that InfluxDB sorts them; an empty one is none.

    >>> from ingest.batch import Series
    >>> series_key("reading_day", Series("hl 1", "", "ph"))
    'reading_day,indicator=ph,station=hl\\ 1'
    """
    tags = (("device", series.device), ("indicator", series.indicator), ("station", series.station))
    return measurement + "".join(f",{key}={tag_value(text)}" for key, text in tags if text)


@dataclass(frozen=True, slots=True)
class Rows:
    """Readings to write; every array is (n,). ``series`` counts places in the prefixes."""

    series: NDArray[np.int32]
    t_ms: NDArray[np.int64]
    v: NDArray[np.float64]  # NaN when missing: the field is left out
    q: NDArray[np.uint8]
    flags: NDArray[np.uint32]
    received_ms: NDArray[np.int64]
    inbox_pos: NDArray[np.int64]
    dup: NDArray[np.int32]

    def take(self, rows: NDArray[np.int64]) -> Rows:
        """Return some of the rows."""
        return Rows(
            self.series[rows],
            self.t_ms[rows],
            self.v[rows],
            self.q[rows],
            self.flags[rows],
            self.received_ms[rows],
            self.inbox_pos[rows],
            self.dup[rows],
        )


class LineProtocol:
    """Encodes readings; remembers each series' escaped tags."""

    def __init__(self, measurement: str = MEASUREMENT) -> None:
        self._measurement = measurement.translate(_KEY)
        self._heads: list[bytes] = []  # of dup 0
        self._parts: list[tuple[bytes, bytes]] = []  # what stands before and after a dup

    def __len__(self) -> int:
        return len(self._heads)

    def know(self, series: Sequence[Series]) -> None:
        """Add ``series`` behind those known."""
        for one in series:
            tags = [f"{self._measurement}"]
            if one.device:
                tags.append(f"device={tag_value(one.device)}")
            before = ",".join(tags)
            after = "".join(
                f",{key}={tag_value(value)}"
                for key, value in (("indicator", one.indicator), ("station", one.station))
                if value
            )
            self._heads.append(f"{before}{after} flags=".encode())
            self._parts.append((before.encode(), f"{after} flags=".encode()))

    def lines(self, rows: Rows) -> list[bytes]:
        """Return one line for each row, its newline included."""
        n = len(rows.t_ms)
        pieces = self._pieces(rows)
        return [b"".join(pieces[4 * k : 4 * k + 4]) for k in range(n)]

    def encode(self, rows: Rows) -> bytes:
        """Return the lines of ``rows``, each with its newline."""
        return b"".join(self._pieces(rows))

    def _pieces(self, rows: Rows) -> list[bytes]:
        """Return four pieces a line: tags, the fields of its kind, value, time."""
        n = len(rows.t_ms)
        pieces = [b""] * (4 * n)
        if not n:
            return pieces
        pieces[0::4] = self._tags(rows)
        pieces[1::4] = _fields(rows)
        pieces[2::4] = _values(rows.v)
        times = msgspec.json.encode(rows.t_ms.tolist())
        pieces[3::4] = (times[1:-1].replace(b",", b"\n,") + b"\n").split(b",")
        return pieces

    def _tags(self, rows: Rows) -> list[bytes]:
        heads = self._heads
        tags = [heads[number] for number in rows.series.tolist()]
        for row in np.flatnonzero(rows.dup).tolist():
            before, after = self._parts[rows.series[row]]
            tags[row] = b"%b,dup=%d%b" % (before, rows.dup[row], after)
        return tags


def _fields(rows: Rows) -> list[bytes]:
    """Return flags, place, quality and time of receipt as fields: few kinds for many rows."""
    kind = np.empty(
        len(rows.t_ms),
        np.dtype([("pos", "<i8"), ("received", "<i8"), ("low", "<u8")]),
    )
    absent = np.isnan(rows.v)
    low = rows.flags.astype(np.uint64) << np.uint64(9) | rows.q.astype(np.uint64) << np.uint64(1)
    kind["pos"], kind["received"], kind["low"] = rows.inbox_pos, rows.received_ms, low | absent
    # Rows of a pack stand side by side, so a kind is a run: no sorting.
    packed = kind.view(np.uint64).reshape(-1, 3)
    begins = np.flatnonzero(np.append(True, (packed[1:] != packed[:-1]).any(axis=1)))
    texts = [
        b"%di,inbox_pos=%di,q=%di,received_ms=%di%b"
        % (bits >> 9, pos, bits >> 1 & 255, received, b"" if bits & 1 else b",v=")
        for pos, received, bits in kind[begins].tolist()
    ]
    fields: list[bytes] = []
    for text, count in zip(texts, np.diff(np.append(begins, len(kind))).tolist(), strict=True):
        fields += [text] * count
    return fields


def _values(v: NDArray[np.float64]) -> list[bytes]:
    """Return each value and a space; the space alone where there is none."""
    texts = (msgspec.json.encode(v.tolist())[1:-1] + b",").replace(b".0,", b",")
    values = texts[:-1].replace(b",", b" ,").split(b",")
    values[-1] += b" "
    size = np.abs(v)
    plain = (size >= _PLAIN_MIN) & (size < _PLAIN_MAX) | (size == 0)
    for row in np.flatnonzero(~plain).tolist():
        value = float(v[row])
        values[row] = b" " if value != value else f"{float_field(value)} ".encode()
    return values
