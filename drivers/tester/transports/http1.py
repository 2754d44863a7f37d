"""As much of HTTP/1.1 (RFC 9112) as an inbox on the edge needs: one request per connection, all of it bounded."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import unquote

from drivers.tester.transports.connections import Connections, peer_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

MAX_HEAD_BYTES = 16 * 1024
MAX_HEADERS = 64
MAX_CONNECTIONS = 16
REQUEST_WITHIN_S = 20.0
ANSWER_WITHIN_S = 60.0
LINGER_BYTES = 1024 * 1024
LINGER_S = 2.0
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


@dataclass(frozen=True, slots=True)
class Request:
    """One request; header names are in lower case, ``path`` is decoded, ``query`` as it stood."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    peer: str


@dataclass(frozen=True, slots=True)
class Response:
    """One answer."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)

    def encode(self, *, with_body: bool = True) -> bytes:
        """Return the bytes on the wire."""
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {len(self.body)}",
            "X-Content-Type-Options: nosniff",
            "Connection: close",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        head = "\r\n".join(lines) + "\r\n\r\n"
        return head.encode("latin-1") + (self.body if with_body else b"")


class RequestError(Exception):
    """A request that gets no further than ``status``."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def parse_head(head: bytes) -> tuple[str, str, str, dict[str, str]]:
    r"""Return (method, path, query, headers) of a head that ends with an empty line; raise RequestError.

    >>> parse_head(b"POST /a%20b?x=1 HTTP/1.1\r\nHost: h\r\n\r\n")
    ('POST', '/a b', 'x=1', {'host': 'h'})
    """
    lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    parts = lines[0].split(" ")
    if len(parts) != 3 or parts[0] not in _METHODS or parts[2] not in {"HTTP/1.1", "HTTP/1.0"}:
        raise RequestError(400, "not an HTTP/1.1 request")
    if not parts[1].startswith("/"):
        raise RequestError(400, "the target must be a path")
    if len(lines) - 1 > MAX_HEADERS:
        raise RequestError(431, f"more than {MAX_HEADERS} header lines")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise RequestError(400, "a header line is none")
        name = name.lower()
        if name in headers and name in {"content-length", "transfer-encoding", "host", "origin"}:
            raise RequestError(400, f"{name} stands twice")
        headers[name] = value.strip()
    path, _, query = parts[1].partition("?")
    return parts[0], unquote(path), query, headers


def body_length(headers: Mapping[str, str], max_body: int) -> int | None:
    """Return how long the body is, None when it comes in chunks; raise RequestError."""
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None:
        if length is not None or coding.lower() != "chunked":
            raise RequestError(400, "send the body with Content-Length, or chunked")
        return None
    if length is None:
        return 0
    if not (length.isascii() and length.isdigit()) or len(length) > 15:
        raise RequestError(400, "Content-Length is no number")
    if int(length) > max_body:
        raise RequestError(413, f"the body may have {max_body} bytes")
    return int(length)


async def _chunks(reader: asyncio.StreamReader, max_body: int) -> bytes:
    body = bytearray()
    while True:
        size_text = (await reader.readuntil(b"\r\n"))[:-2].partition(b";")[0].strip()
        if not 0 < len(size_text) <= 8 or not all(
            c in b"0123456789abcdefABCDEF" for c in size_text
        ):
            raise RequestError(400, "a chunk without a size")
        size = int(size_text, 16)
        if len(body) + size > max_body:
            raise RequestError(413, f"the body may have {max_body} bytes")
        if size == 0:
            for _ in range(MAX_HEADERS):
                if await reader.readuntil(b"\r\n") == b"\r\n":
                    return bytes(body)
            raise RequestError(400, "too many trailers")
        body += await reader.readexactly(size)
        if await reader.readexactly(2) != b"\r\n":
            raise RequestError(400, "a chunk is longer than it says")


async def read_request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, max_body: int
) -> Request:
    """Read one request; raise RequestError for a wrong one, EOFError when the client hung up before its end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        method, path, query, headers = parse_head(head)
        length = body_length(headers, max_body)
        if headers.get("expect", "").lower() == "100-continue":  # .NET asks before every POST
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await writer.drain()
        body = await (_chunks(reader, max_body) if length is None else reader.readexactly(length))
    except asyncio.LimitOverrunError:
        raise RequestError(431, f"more than {MAX_HEAD_BYTES} bytes before the body") from None
    return Request(method, path, query, headers, body, peer_of(writer))


class HttpServer:
    """Answers each request with ``answer``; what it raises is not caught here."""

    def __init__(self, answer: Callable[[Request], Awaitable[Response]], *, max_body: int) -> None:
        self._answer = answer
        self._max_body = max_body
        self._connections = Connections(
            self._serve, most=MAX_CONNECTIONS, limit_bytes=MAX_HEAD_BYTES
        )

    async def open(self, host: str, port: int) -> int:
        """Listen, and return the port; raise OSError."""
        return await self._connections.open(host, port)

    async def close(self) -> None:
        """End all connections and stop; a second call does nothing."""
        await self._connections.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with_body = True
        all_read = False
        try:
            async with asyncio.timeout(REQUEST_WITHIN_S):
                request = await read_request(reader, writer, max_body=self._max_body)
            all_read = True
            with_body = request.method != "HEAD"
            async with asyncio.timeout(ANSWER_WITHIN_S):
                response = await self._answer(request)
        except RequestError as exc:
            response = Response(exc.status, str(exc).encode())
        except TimeoutError:
            response = Response(503 if all_read else 408)
        async with asyncio.timeout(REQUEST_WITHIN_S):
            writer.write(response.encode(with_body=with_body))
            await writer.drain()
            if not all_read:
                await _linger(reader, writer)


async def _linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read on for a moment: a connection closed over unread bytes is reset, and the answer lost with it."""
    if writer.can_write_eof():
        writer.write_eof()
    left = LINGER_BYTES
    try:
        async with asyncio.timeout(LINGER_S):
            while left > 0 and (data := await reader.read(MAX_HEAD_BYTES)):
                left -= len(data)
    except TimeoutError:
        return
