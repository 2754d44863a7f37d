"""The HTTP side of the local page: who may ask, and what each address answers."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from collections import OrderedDict
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

import msgspec
import structlog

from drivers.records import TestRecord
from drivers.tester.transports.http1 import HttpServer, Request, Response
from gateway.agent_status import ALARMS, Lang, station_well
from gateway.errors import LocalPortError
from gateway.local_page import slip
from gateway.local_page.completeness import missing
from gateway.local_page.entry import BEIJING, Entry, EntryError, completed, locked, typed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from gateway.agent_status import AgentStatus
    from gateway.local_page.sample_numbers import SampleNumbers
    from gateway.packer import LanePacker
    from gateway.quarantine import Quarantine
    from gateway.schedule import Clock
    from gateway.station import StationAgent

HOST = "127.0.0.1"
MAX_BODY_BYTES = 32 * 1024
SHOWN = 200
REFUSED_SHOWN = 20
STORED_WITHIN_S = 10.0
REMEMBERED = 256
SAID = 64  # bytes of a refused block that the page shows
JSON = "application/json; charset=utf-8"
STATIC = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
GUARD = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_QR = re.compile(r"/qr/([a-z0-9-]{3,40})/([A-Za-z0-9-]{1,64})\.svg")
_QUERY = re.compile(r"station=([a-z0-9-]{3,40})")

log = structlog.get_logger()


class DeviceLine(msgspec.Struct, frozen=True, kw_only=True):
    """One instrument on the page."""

    path: str
    seen_ms: int | None
    ok: bool
    refused: int


class StationCard(msgspec.Struct, frozen=True, kw_only=True):
    """One station's tick; times are UTC milliseconds."""

    code: str
    well: bool
    connected: bool
    queue: int
    oldest_unreceipted_ms: int | None
    last_receipt_ms: int | None
    alarms: dict[str, dict[Lang, str]]
    server_says: str | None
    devices: list[DeviceLine]


class StateReply(msgspec.Struct, frozen=True, kw_only=True):
    """The tick of the whole agent."""

    at_ms: int
    version: str
    well: bool
    stations: list[StationCard]


class RecordLine(msgspec.Struct, frozen=True, kw_only=True):
    """One test: what it says, what it lacks, what may not be changed, and where it is."""

    record: TestRecord
    missing: list[str]
    locked: list[str]
    receipted: bool
    completed_by: str


class RefusedLine(msgspec.Struct, frozen=True, kw_only=True):
    """One block that nobody could read."""

    device: str
    at_ms: int
    reason: str
    origin: str
    size: int
    first_bytes: str


class RecordsReply(msgspec.Struct, frozen=True, kw_only=True):
    """The last tests of a station, newest first, and what was refused."""

    records: list[RecordLine]
    refused: list[RefusedLine]


class EntryReply(msgspec.Struct, frozen=True, kw_only=True):
    """An entry that is on disk."""

    record: TestRecord


class FaultsReply(msgspec.Struct, frozen=True, kw_only=True):
    """An entry that is wrong: field -> what."""

    faults: dict[str, str]


@dataclass(frozen=True, slots=True)
class PageStation:
    """What the page needs of one station."""

    agent: StationAgent
    tests: LanePacker[TestRecord]
    quarantine: Quarantine
    numbers: SampleNumbers


@dataclass(slots=True)
class _Entered:
    record: TestRecord
    stored: bool = False


@asynccontextmanager
async def served(
    port: int,
    stations: Sequence[PageStation],
    status: Callable[[], Awaitable[AgentStatus]],
    clock: Clock,
) -> AsyncIterator[None]:
    """Serve the page on 127.0.0.1:``port``; raise LocalPortError when the port is taken."""
    page = Page(port, stations, status, clock)
    server = HttpServer(page.answer, max_body=MAX_BODY_BYTES)
    try:
        await server.open(HOST, port)
    except OSError as exc:
        raise LocalPortError(
            f"[agent] local_port: {HOST}:{port} cannot be used: {exc.strerror}; take another, or 0 for none"
        ) from exc
    log.info("local_page_served", address=f"http://{HOST}:{port}/")
    try:
        yield
    finally:
        await server.close()


class Page:
    """Answers requests; nothing of it needs a socket."""

    def __init__(
        self,
        port: int,
        stations: Sequence[PageStation],
        status: Callable[[], Awaitable[AgentStatus]],
        clock: Clock,
    ) -> None:
        self._hosts = {f"{name}:{port}" for name in (HOST, "localhost")}
        self._stations = {station.agent.code: station for station in stations}
        self._status = status
        self._clock = clock
        self._entered: OrderedDict[str, _Entered] = OrderedDict()
        """By entry: a form sent twice is one test, with one sample number."""
        self._entering = asyncio.Lock()

    async def answer(self, request: Request) -> Response:
        """Return the answer; any page that is not ours is turned away."""
        refusal = self._refusal(request)
        response = refusal if refusal is not None else await self._route(request)
        return Response(
            response.status, response.body, response.content_type, {**GUARD, **response.headers}
        )

    def _refusal(self, request: Request) -> Response | None:
        """Turn away a name that is not ours (DNS rebinding) and a page of somebody else's (forged requests)."""
        host = request.headers.get("host", "")
        if host not in self._hosts:
            return Response(421, b"this page is for this machine only")
        origin = request.headers.get("origin")
        site = request.headers.get("sec-fetch-site", "none")
        if origin is not None and origin != f"http://{host}":
            return Response(403, b"another page may not do this")
        if request.method == "POST":
            if site not in {"none", "same-origin"}:
                return Response(403, b"another page may not do this")
            if (
                request.headers.get("content-type", "").partition(";")[0].strip()
                != "application/json"
            ):
                return Response(415, b"send JSON")
        elif request.method not in {"GET", "HEAD"}:
            return Response(405, b"", headers={"Allow": "GET, HEAD, POST"})
        return None

    async def _route(self, request: Request) -> Response:
        if request.method == "POST":
            if request.path == "/api/records":
                return await self._enter(request.body)
            return Response(404)
        if request.path in STATIC:
            return await asyncio.to_thread(_static, request.path)
        if request.path == "/favicon.ico":
            return Response(204)
        if request.path == "/api/state":
            return _json(await self._state())
        asked = _QUERY.fullmatch(request.query)
        if request.path == "/api/records" and asked and asked[1] in self._stations:
            return _json(await self._records(self._stations[asked[1]]))
        found = _QR.fullmatch(request.path)
        if found and found[1] in self._stations:
            record = await self._find(self._stations[found[1]], found[2])
            if record is not None:
                svg = await asyncio.to_thread(slip.qr_svg, record)
                return Response(200, svg, "image/svg+xml")
        return Response(404)

    async def _state(self) -> StateReply:
        status = await self._status()
        cards = [
            StationCard(
                code=station.code,
                well=station_well(station, status.at_ms),
                connected=station.connected,
                queue=station.queue,
                oldest_unreceipted_ms=station.oldest_unreceipted_ms,
                last_receipt_ms=station.last_receipt_ms,
                alarms={name: ALARMS.get(name, {}) for name in station.alarms},
                server_says=station.server_says,
                devices=[
                    DeviceLine(
                        path=device.path,
                        seen_ms=device.seen_ms,
                        ok=device.ok,
                        refused=station.refused.get(device.path, 0),
                    )
                    for device in station.devices
                ],
            )
            for station in status.stations
        ]
        return StateReply(
            at_ms=status.at_ms,
            version=status.version,
            well=all(card.well for card in cards),
            stations=cards,
        )

    async def _records(self, station: PageStation) -> RecordsReply:
        recent = await station.agent.recent_tests(SHOWN)
        corrected = {
            test.record.parent_record_id: test.record.record_id
            for test in reversed(recent)
            if test.record.parent_record_id
        }
        refused = await asyncio.to_thread(station.quarantine.newest, REFUSED_SHOWN)
        return RecordsReply(
            records=[
                RecordLine(
                    # The bytes are with the server; a page of 200 tests does not need them.
                    record=msgspec.structs.replace(test.record, raw=""),
                    missing=missing(test.record),
                    locked=locked(test.record),
                    receipted=test.receipted,
                    completed_by=corrected.get(test.record.record_id, ""),
                )
                for test in recent
            ],
            refused=[
                RefusedLine(
                    device=kept.device,
                    at_ms=kept.at_ms,
                    reason=kept.reason,
                    origin=kept.origin,
                    size=kept.size,
                    first_bytes=kept.raw[:SAID].hex(" "),
                )
                for kept in refused
            ],
        )

    async def _find(self, station: PageStation, record_id: str) -> TestRecord | None:
        recent = await station.agent.recent_tests(SHOWN)
        return next((t.record for t in recent if t.record.record_id == record_id), None)

    async def _enter(self, body: bytes) -> Response:
        try:
            entry = msgspec.json.decode(body, type=Entry)
        except msgspec.ValidationError as exc:
            return _json(FaultsReply(faults={"": str(exc)}), 422)
        except msgspec.DecodeError:
            return Response(400, b"not JSON")
        station = self._stations.get(entry.station)
        if station is None:
            return _json(FaultsReply(faults={"station": "unknown"}), 422)
        # One entry at a time: a second click must find what the first one did.
        async with self._entering:
            entered = self._entered.get(entry.entry_id)
            try:
                if entered is None:
                    entered = _Entered(await self._record_of(station, entry))
            except EntryError as exc:
                return _json(FaultsReply(faults=exc.faults), 422)
            except OSError as exc:
                log.warning("sample_number_not_kept", station=entry.station, error=str(exc))
                return Response(503, b"the disk does not take it")
            self._remember(entry.entry_id, entered)
            try:
                if not entered.stored:
                    async with asyncio.timeout(STORED_WITHIN_S):
                        entered.stored = await station.tests.put_durable(entered.record)
            except TimeoutError:
                # It waits in memory and is stored when the disk takes it again; the same entry is the same record.
                return Response(503, b"not on disk yet; send it again")
        if not entered.stored:
            return _json(FaultsReply(faults={"": "too_large"}), 422)
        return _json(EntryReply(record=entered.record), 201)

    async def _record_of(self, station: PageStation, entry: Entry) -> TestRecord:
        now = dt.datetime.fromtimestamp(self._clock.wall_ms() / 1000, BEIJING)
        if entry.parent_record_id:
            recent = [test.record for test in await station.agent.recent_tests(SHOWN)]
            parent = next((r for r in recent if r.record_id == entry.parent_record_id), None)
            if parent is None:
                raise EntryError({"parent_record_id": "unknown"})
            if any(record.parent_record_id == parent.record_id for record in recent):
                raise EntryError({"parent_record_id": "superseded"})
            return completed(entry, parent, now)
        record = typed(entry, now, "")
        if record.sample_no:
            return record
        # Only a good entry takes a number.
        number = await asyncio.to_thread(station.numbers.next, now.date())
        return msgspec.structs.replace(record, sample_no=number)

    def _remember(self, entry_id: str, entered: _Entered) -> None:
        self._entered[entry_id] = entered
        while len(self._entered) > REMEMBERED:
            self._entered.popitem(last=False)


def _static(path: str) -> Response:
    name, content_type = STATIC[path]
    return Response(200, (resources.files(__package__) / name).read_bytes(), content_type)


def _json(reply: msgspec.Struct, status: int = 200) -> Response:
    return Response(status, msgspec.json.encode(reply), JSON)
