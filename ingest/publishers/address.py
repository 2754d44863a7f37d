"""Where a message came in: ``agri/v1/{station}/{senml|raw}/{device}`` over MQTT, ``…/records[/{device}]`` over HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from drivers.device_table import DevicePath
from gateway import wire
from ingest.publishers.parsed import RecordError

MAX_TOPIC = 200  # characters; a station and a device path need 140


class Channel(StrEnum):
    """How a message is to be read."""

    SENML = "senml"
    RAW = "raw"
    RECORDS = "records"  # over HTTP: what it is, its content says


MQTT = (Channel.SENML, Channel.RAW)
SUBSCRIPTIONS = tuple(f"{wire.TOPIC_ROOT}/+/{channel}/#" for channel in MQTT)


@dataclass(frozen=True, slots=True)
class Address:
    """A topic taken apart; ``levels`` is what follows the channel."""

    station: str
    channel: Channel
    levels: str


def of_records(station: str, device: str) -> str:
    """Return the address of records that come over HTTP.

    >>> of_records("hl-001", "plot3/soil1")
    'agri/v1/hl-001/records/plot3/soil1'
    """
    base = wire.topic(station, Channel.RECORDS)
    return f"{base}/{device}" if device else base


def split(topic: str) -> Address:
    """Take a topic apart; raise RecordError for one that is not ours.

    >>> split("agri/v1/hl-001/senml/plot3/soil1").levels
    'plot3/soil1'
    """
    parts = topic.split("/", 4)
    if len(topic) > MAX_TOPIC or len(parts) < 4 or "/".join(parts[:2]) != wire.TOPIC_ROOT:
        raise RecordError("topic", f"is not {wire.TOPIC_ROOT}/<station>/<senml|raw>/<device>")
    station, channel = parts[2], parts[3]
    levels = parts[4] if len(parts) > 4 else ""
    if not wire.STATION_CODE.fullmatch(station):
        raise RecordError("topic", f"station code must match {wire.STATION_CODE.pattern}")
    if channel not in set(Channel):
        raise RecordError("topic", f"ends neither in {' nor in '.join(MQTT)} and a device")
    if levels or channel != Channel.RECORDS:
        device_path(levels, "topic")
    return Address(station, Channel(channel), levels)


def device_path(text: str, field: str) -> str:
    """Return ``text`` when it is a device path; raise RecordError."""
    try:
        return msgspec.convert(text, DevicePath)
    except msgspec.ValidationError as exc:
        raise RecordError(
            field,
            f"{text[:90]!r} is no device path: letters, digits, '.', '_', '-' and '/', at most 80",
        ) from exc
