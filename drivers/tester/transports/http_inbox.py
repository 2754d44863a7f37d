"""The HTTP inbox: instruments upload to a path of ours, and the reply says what became of every record."""

from __future__ import annotations

import asyncio
import hmac
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from drivers.errors import LinkError
from drivers.session import Refused
from drivers.tester.transports.handover import Handover, HandoverClosedError, Outcome
from drivers.tester.transports.http1 import HttpServer, Request, Response
from drivers.tester.transports.intake import Intake

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from drivers.records import TestRecord
    from drivers.tester.transports.intake import Instrument

MAX_BODY_BYTES = 1024 * 1024
STORED_WITHIN_S = 45.0
JSON = "application/json; charset=utf-8"
FORM = "application/x-www-form-urlencoded"


class Upload(Protocol):
    """What reads one upload's body."""

    def __call__(
        self, body: bytes, content_type: str, origin: str
    ) -> Iterator[TestRecord | Refused]:
        """Yield records and what is none; nothing at all is an upload that says nothing."""
        ...


class RecordReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one record of an upload."""

    index: int
    result: Outcome
    sample_no: str = ""
    record_id: str = ""
    reason: str = ""


class UploadReply(msgspec.Struct, frozen=True, kw_only=True):
    """The whole reply: ``accepted + duplicate + refused`` is the number of records in the upload."""

    accepted: int
    duplicate: int
    refused: int
    info: str
    results: list[RecordReply]


class _Address:
    """One address and port; sessions of several devices share it, each with a path of its own."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[Request], Awaitable[Response]]] = {}
        self.opening = asyncio.Lock()
        self.server: HttpServer | None = None

    async def answer(self, request: Request) -> Response:
        answer = self.answers.get(request.path)
        if answer is None:
            return Response(404, b"there is no inbox at this path")
        return await answer(request)


# Sessions are made one by one and must find each other: by event loop, address and port.
_ADDRESSES: dict[tuple[asyncio.AbstractEventLoop, str, int], _Address] = {}


async def _join(
    host: str, port: int, path: str, answer: Callable[[Request], Awaitable[Response]]
) -> None:
    """Answer ``path`` on an address, which is opened for the first; raise OSError."""
    key = (asyncio.get_running_loop(), host, port)
    address = _ADDRESSES.setdefault(key, _Address())
    if path in address.answers:
        raise OSError(0, f"{path} is taken by another device")
    address.answers[path] = answer
    try:
        async with address.opening:
            if address.server is None:
                server = HttpServer(address.answer, max_body=MAX_BODY_BYTES)
                await server.open(host, port)
                address.server = server
    except BaseException:
        await _leave(host, port, path)
        raise


async def _leave(host: str, port: int, path: str) -> None:
    """Answer ``path`` no more; the last one closes the address."""
    key = (asyncio.get_running_loop(), host, port)
    address = _ADDRESSES[key]
    del address.answers[path]
    if not address.answers:
        del _ADDRESSES[key]
        if address.server is not None:
            await address.server.close()


class HttpInboxSession:
    """Takes uploads to one path; ``api_key`` blank asks for none."""

    def __init__(
        self,
        instrument: Instrument,
        upload: Upload,
        *,
        host: str,
        port: int,
        path: str,
        api_key: Callable[[], str],
    ) -> None:
        self._instrument = instrument
        self._upload = upload
        self._host = host
        self._port = port
        self._path = path
        self._read_key = api_key
        self._key = b""
        self._handover = Handover()
        self._joined = False

    async def records(self) -> AsyncIterator[TestRecord | Refused]:
        """Yield what is uploaded; raise LinkError when the address cannot be listened on or the key not be read."""
        try:
            self._key = (await asyncio.to_thread(self._read_key)).encode()
            await _join(self._host, self._port, self._path, self._answer)
        except OSError as exc:
            raise LinkError(f"{self._instrument.path}: {self._instrument.bus}: {exc}") from exc
        self._joined = True
        async for item in self._handover.items():
            yield item

    async def acknowledge(self, record: TestRecord) -> None:
        """``record`` is on disk: its sender may hear so."""
        self._handover.acknowledge(record)

    async def close(self) -> None:
        """Tell everyone who waits, and listen no more; a second call does nothing."""
        self._handover.close()
        if self._joined:
            self._joined = False
            await _leave(self._host, self._port, self._path)

    async def _answer(self, request: Request) -> Response:
        if self._key and not hmac.compare_digest(_key_in(request), self._key):
            return Response(401, b"the key is missing or wrong")
        if (
            request.method == "GET" and request.query
        ):  # 科润 and 灵宝: the fields stand in the address
            # The key is no part of the record, and must not lie in its ``raw``.
            fields = [part for part in request.query.split("&") if not part.startswith("key=")]
            body, content_type = "&".join(fields).encode("latin-1"), FORM
        elif request.method == "POST":
            body, content_type = request.body, request.headers.get("content-type", "")
        else:
            return Response(405, b"upload with POST", headers={"Allow": "POST, GET"})
        try:
            async with asyncio.timeout(STORED_WITHIN_S):
                reply = await self._take(body, content_type, request.peer)
        except (TimeoutError, HandoverClosedError):
            # Part of it may be stored: sent again, that part is a duplicate.
            return Response(503, b"not stored; send it again", headers={"Retry-After": "30"})
        status = 200 if reply.accepted or reply.duplicate else 422
        return Response(status, msgspec.json.encode(reply), JSON)

    async def _take(self, body: bytes, content_type: str, peer: str) -> UploadReply:
        results: list[RecordReply] = []
        for item in self._upload(body, content_type, peer):
            outcome = await self._handover.offer(item)
            results.append(_reply(len(results), item, outcome))
        if not results:
            nothing = Refused(body, "nothing in it is a test", peer)
            results.append(_reply(0, nothing, await self._handover.offer(nothing)))
        counts = {outcome: sum(r.result is outcome for r in results) for outcome in Outcome}
        accepted, duplicate, refused = (counts[outcome] for outcome in Outcome)
        return UploadReply(
            accepted=accepted,
            duplicate=duplicate,
            refused=refused,
            info=f"接收{accepted}条，重复{duplicate}条，拒收{refused}条",
            results=results,
        )


def _reply(index: int, item: TestRecord | Refused, outcome: Outcome) -> RecordReply:
    if isinstance(item, Refused):
        return RecordReply(index=index, result=Outcome.REFUSED, reason=item.reason)
    return RecordReply(
        index=index,
        result=outcome,
        sample_no=item.sample_no,
        record_id=item.record_id,
        reason="too large to be stored" if outcome is Outcome.REFUSED else "",
    )


def _key_in(request: Request) -> bytes:
    """Return the key that came with a request; programs that can only be given an address put it there."""
    authorization = request.headers.get("authorization", "")
    if authorization.startswith("Bearer "):
        return authorization.removeprefix("Bearer ").strip().encode()
    if "x-api-key" in request.headers:
        return request.headers["x-api-key"].encode()
    for part in request.query.split("&"):
        name, _, value = part.partition("=")
        if name == "key":
            return value.encode()
    return b""


def read_key(file: str) -> Callable[[], str]:
    """Return what reads the key in ``file`` when the inbox opens; blank for no file. It raises OSError."""

    def read() -> str:
        if not file:
            return ""
        key = Path(file).read_text(encoding="utf-8").strip()
        if not key:
            raise OSError(0, f"{file} holds no key")
        return key

    return read


def uploads(instrument: Instrument) -> Upload:
    """Return what reads uploads with the device's own reader."""

    def upload(
        body: bytes,
        content_type: str,  # noqa: ARG001 - the reader finds out by itself
        origin: str,
    ) -> Iterator[TestRecord | Refused]:
        intake = Intake(instrument, origin)
        yield from intake.feed(body)
        yield from intake.silence()

    return upload
