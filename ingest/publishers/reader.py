"""One message of a publisher to readings, tests and faults, whatever its form (pure; any bytes will do)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from drivers.records import TestRecord
from ingest.publishers import senml, strict_json
from ingest.publishers.address import Address, Channel, split
from ingest.publishers.anhui_upload import AnhuiFormat
from ingest.publishers.parsed import MAX_TESTS, WHOLE, Body, Context, Parsed, RecordError
from ingest.publishers.strict_json import JsonError, Twice, kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ingest.publishers.mapping import Rule


class BodyFormat(Protocol):
    """A form of records that come over HTTP, known by its content; another one is another entry of ``FORMATS``."""

    def is_mine(self, body: Body) -> bool:
        """Whether it is of this form, be it well done or not."""
        ...

    def read(self, body: Body, context: Context) -> Parsed:
        """Return what it says; never raises."""
        ...


class SenmlFormat:
    """A list of SenML records."""

    def is_mine(self, body: Body) -> bool:
        """Whether it is a list."""
        return isinstance(body.document, list)

    def read(self, body: Body, context: Context) -> Parsed:
        """Resolve the records."""
        return senml.read(body.document, context, {})


class TestsFormat:
    """``{"tests": [test record, …]}``."""

    __test__ = False

    def is_mine(self, body: Body) -> bool:
        """Whether it has ``tests``."""
        return isinstance(body.document, dict) and "tests" in body.document

    def read(self, body: Body, context: Context) -> Parsed:
        """Check each record."""
        parsed, document = Parsed(), body.document
        tests = document["tests"] if isinstance(document, dict) else None
        if not isinstance(tests, list) or len(tests) > MAX_TESTS:
            said = f"is {kind_of(tests)}, not a list of at most {MAX_TESTS} test records"
            parsed.refuse(WHOLE, RecordError("tests", said))
            return parsed
        for position, item in enumerate(tests):
            try:
                parsed.tests.append((position, _test(item, context)))
            except RecordError as exc:
                parsed.refuse(position, exc)
        return parsed


FORMATS: tuple[BodyFormat, ...] = (TestsFormat(), AnhuiFormat(), SenmlFormat())


class MessageReader:
    """Knows the mappings of this server and the forms of records."""

    def __init__(self, rules: Sequence[Rule] = (), formats: Sequence[BodyFormat] = FORMATS) -> None:
        self._rules = rules
        self._formats = formats

    def read(self, topic: str, body: bytes, received_ms: int) -> Parsed:
        """Return what the message says; never raises for what is in it.

        >>> MessageReader().read("agri/v1/hl-001/senml/a", b'[{"n":"soil_ph","v":6.5}]', 0).values[
        ...     0
        ... ].value
        6.5
        """
        parsed = Parsed()
        try:
            address = split(topic)
            if address.channel is Channel.RECORDS:
                return self._records(body, Context(address.station, address.levels, received_ms))
            return self._read(topic, address, strict_json.decode(body), received_ms)
        except JsonError as exc:
            parsed.refuse(WHOLE, RecordError("body", str(exc)))
        except RecordError as exc:
            parsed.refuse(WHOLE, exc)
        return parsed

    def _read(self, topic: str, address: Address, document: object, received_ms: int) -> Parsed:
        rule = self.rule_of(topic, address)
        if address.channel is Channel.RAW:
            if rule is None:
                raise RecordError("topic", f"no [[mapping]] of server.toml is for {topic!r}")
            if fault := strict_json.fault_within(document):
                raise RecordError("body", fault)
            return rule.read(document, address, received_ms)
        context = Context(address.station, address.levels, received_ms)
        return senml.read(document, context, _names(rule))

    def _records(self, raw: bytes, context: Context) -> Parsed:
        try:
            body = Body(raw, strict_json.decode(raw))
        except JsonError as exc:
            body = Body(raw, exc)
        document = body.document
        if isinstance(document, Twice):
            raise RecordError("body", document.reason)
        for form in self._formats:
            if form.is_mine(body):
                return form.read(body, context)
        if isinstance(document, JsonError):
            raise document
        raise RecordError(
            "body",
            f'is {kind_of(document)}: neither a list of SenML records nor {{"tests": […]}}'
            " nor an upload with details",
        )

    def rule_of(self, topic: str, address: Address) -> Rule | None:
        """Return the first mapping that is for the message."""
        wanted = address.channel is Channel.SENML
        for rule in self._rules:
            if bool(rule.names) is wanted and rule.is_for(topic, address):
                return rule
        return None


def _names(rule: Rule | None) -> Mapping[str, str]:
    return {} if rule is None else rule.names


def _test(item: object, context: Context) -> TestRecord:
    if not isinstance(item, dict):
        raise RecordError("record", f"is {kind_of(item)}, not an object")
    if fault := strict_json.fault_within(item):
        raise RecordError("record", fault)
    for key in item:
        if key not in _TEST_FIELDS:
            raise RecordError(strict_json.short(key), "is no field of a test record")
    try:
        record = msgspec.convert(item, TestRecord)
    except msgspec.ValidationError as exc:
        message, _, path = str(exc).partition(" - at `$")
        raise RecordError(path.rstrip("`").lstrip(".") or "record", message) from exc
    if context.device and record.device_id != context.device:
        raise RecordError("device_id", f"the key is for {context.device!r} only")
    return record


_TEST_FIELDS = {field.encode_name for field in msgspec.structs.fields(TestRecord)}
