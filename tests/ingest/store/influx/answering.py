"""A real HTTP server that answers as it is told, or hands on to an InfluxDB."""

from __future__ import annotations

import http.client
import threading
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass
class Request:
    """What came: the body is unpacked."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def lines(self) -> list[bytes]:
        return self.body.splitlines()

    @property
    def is_write(self) -> bool:
        return self.path.endswith("/write")


@dataclass
class Answer:
    """``status`` 0 closes the connection without a word."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class Answering(ThreadingHTTPServer):
    """Asks ``answer`` about each request; None hands it on to the InfluxDB on ``behind``."""

    daemon_threads = True

    def __init__(self, answer: Callable[[Request], Answer | None], behind: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.behind = behind
        self.requests: list[Request] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def writes(self) -> list[Request]:
        return [request for request in self.requests if request.is_write]


class _Handler(BaseHTTPRequestHandler):
    server: Answering
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        packed = self.headers.get("Content-Encoding") == "gzip"
        request = Request(
            url.path,
            {key: one for key, (one, *_) in parse_qs(url.query).items()},
            {key.lower(): value for key, value in self.headers.items()},
            zlib.decompress(raw, 31) if packed else raw,
        )
        with self.server.lock:
            self.server.requests.append(request)
        answer = self.server.answer(request)
        if answer is None:
            answer = self._hand_on(raw)
        if not answer.status:
            self.close_connection = True
            return
        self.send_response_only(answer.status)
        for key, value in answer.headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    do_GET = do_POST  # noqa: N815 - the name that http.server calls

    def _hand_on(self, raw: bytes) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.behind, timeout=20)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in {"host", "connection"}}
        try:
            connection.request(self.command, self.path, raw, headers)
            reply = connection.getresponse()
            body = reply.read()
            kept = {
                k: v for k, v in reply.getheaders() if k.lower().startswith(("x-", "content-ty"))
            }
            return Answer(reply.status, body, kept)
        finally:
            connection.close()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def answering(answer: Callable[[Request], Answer | None], behind: int = 0) -> Iterator[Answering]:
    with Answering(answer, behind) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
