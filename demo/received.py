"""The receiver's journal, read as the third account: requests whose signature it verified."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from demo.balance import Received

if TYPE_CHECKING:
    from pathlib import Path


class _Data(msgspec.Struct):
    alert_id: str
    title: dict[str, str] = {}


class _Event(msgspec.Struct):
    type: str
    data: _Data


class _Entry(msgspec.Struct):
    webhook_id: str
    event: _Event | None = None


def read_received(path: Path) -> list[Received]:
    """Return every verified webhook; a line still being written is left out, no file is none."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    decoder = msgspec.json.Decoder(_Entry)
    entries = [decoder.decode(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]
    return [
        Received(entry.webhook_id, entry.event.type, entry.event.data.alert_id, _title(entry.event))
        if entry.event is not None
        else Received(entry.webhook_id, "", "")
        for entry in entries
    ]


def _title(event: _Event) -> str:
    return " / ".join(event.data.title[name] for name in ("zh", "en") if name in event.data.title)
