"""What the simulators write down: one JSON object per line, at once with the kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Literal, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import BinaryIO

REPLIES = "replies.jsonl"
SLIPS = "slips.jsonl"
STAGED = "staged.jsonl"
MISBEHAVED = "misbehaved.jsonl"
TESTED = "tested.jsonl"


class Reply(msgspec.Struct, frozen=True, kw_only=True, tag="reply"):
    """One Modbus reply that left the simulator.

    ``registers`` is the hex of the bytes served, ``values`` the exact decimal of each indicator that lies whole in
    them, ``serving`` counts the replies of the device from 1.
    """

    ms: int
    station: str
    device: str
    serving: int
    unit_id: int
    function: int
    address: int
    count: int
    registers: str
    values: dict[str, str]
    on_demand: dict[str, str] = {}
    """What only a reader that names the indicator publishes."""


class Slip(msgspec.Struct, frozen=True, kw_only=True, tag="slip"):
    """One slip that was printed in full to a reader; ``value`` is the decimal text on it, blank if none."""

    ms: int
    station: str
    device: str
    sample_no: str
    product_name: str
    item: str
    value: str
    result: str
    tested_at: str
    text: str


class Staged(msgspec.Struct, frozen=True, kw_only=True, tag="staged"):
    """A scripted breach: ``started``, then ``breached`` once the simulator itself has served or printed it."""

    ms: int
    name: str
    phase: Literal["started", "breached", "ended"]
    kind: Literal["reading", "test"]
    station: str
    device: str
    indicator: str = ""
    value: str = ""
    comparator: str = ""
    limit: str = ""
    sample_no: str = ""
    product_name: str = ""
    severity: str = ""


class Misbehaved(msgspec.Struct, frozen=True, kw_only=True, tag="misbehaved"):
    """One answer that went wrong on command: ``kind`` of misbehaviour, ``request`` and ``sent`` in hex."""

    ms: int
    station: str
    device: str
    kind: str
    request: str
    sent: str


class Tested(msgspec.Struct, frozen=True, kw_only=True, tag="tested"):
    """One result that a rapid tester begins to send; ``value`` is the exact decimal text, blank if there is none.

    A slip that finds no reader is printed again and stands here twice.

    ``sent`` is the hex of its own frame or lines, ``fault`` what was wrong with them on command, ``times`` how often
    they were in the answer. ``tested_at`` is local time without a zone, as the instrument has it.
    """

    __test__ = False  # not a pytest class

    ms: int
    station: str
    device: str
    profile: str
    sample_no: str
    channel: str
    product_name: str
    item: str
    value: str
    unit: str
    verdict: str
    tested_at: str
    sent: str
    fault: str = ""
    times: int = 1


Row = TypeVar("Row", Reply, Slip, Staged, Misbehaved, Tested)


class JournalWriter:
    """Appends rows to one file; every row is with the kernel when ``write`` returns."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = path.open("ab", buffering=0)
        self._encoder = msgspec.json.Encoder()

    def write(self, row: Reply | Slip | Staged | Misbehaved | Tested) -> None:
        """Append ``row`` as one line."""
        self._file.write(self._encoder.encode(row) + b"\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> JournalWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class JournalReader(Generic[Row]):
    """Reads rows of one type as the file grows; a line still being written is left for the next call."""

    def __init__(self, path: Path, row_type: type[Row]) -> None:
        self._path = path
        self._decoder: msgspec.json.Decoder[Row] = msgspec.json.Decoder(row_type)
        self._offset = 0

    def new(self) -> Iterator[Row]:
        """Yield the rows added since the last call; nothing while there is no file."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        end = data.rfind(b"\n") + 1
        self._offset += end
        for line in data[:end].splitlines():
            yield self._decoder.decode(line)


def read_all(path: Path, row_type: type[Row]) -> list[Row]:
    """Return every whole row of ``path``; no file is no rows."""
    return list(JournalReader(path, row_type).new())
